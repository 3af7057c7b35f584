"""The one training loop, and training on scored crops: what all methods that learn share.

Everything random in a training follows from torch's seed and the number of the epoch or step. So two runs are equal, and
a run that was killed goes on from its checkpoint as if nothing had happened. accelerate brings it to the hardware: several
GPUs with `accelerate launch` or `notebook_launcher`, bfloat16 or float16, gradients of several batches added up.
"""

import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator, DataLoaderConfiguration, DistributedDataParallelKwargs
from torch import Tensor, nn

from iqa_core import data, images, metrics
from iqa_core.data import Dataset
from iqa_core.files import half, progress, read_tensors, write_tensors


def accelerator() -> Accelerator:
    """What a training runs on: what `accelerate launch` says, else one GPU in bfloat16, else the CPU.

    >>> accelerator().num_processes
    1
    """
    gpu = torch.cuda.is_available()
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)  # a batch without references leaves some out
    return Accelerator(cpu=not gpu, kwargs_handlers=[unused], dataloader_config=DataLoaderConfiguration(non_blocking=gpu),
                       mixed_precision=os.environ.get("ACCELERATE_MIXED_PRECISION") or ("bf16" if gpu else "no"))


class _Objective(nn.Module):
    """A loss as a module around its network: what runs on several GPUs or at half precision is a module's forward."""

    def __init__(self, net: nn.Module, loss: Callable[..., dict[str, Tensor]]):
        super().__init__()
        self.net, self.loss = net, loss

    def forward(self, *inputs) -> dict[str, Tensor]:
        return self.loss(*inputs)


def fit(net: nn.Module, learner: torch.optim.Optimizer, loss: Callable[[int, object], dict[str, Tensor]],
        batches: Callable[[int], Iterator], steps: int, every: int, rate: Callable[[int], float], checkpoint: str | Path | None,
        made_of: dict, begin: Callable[[dict], object] = dict, end: Callable[[], dict] = dict,
        keep: Callable[[], dict] = dict, clip: float = math.inf, what: str = "training") -> pd.DataFrame:
    """Train, or go on from a checkpoint.

    With P processes each takes every P-th batch, and the gradient is the mean over all of them. So a step sees P times as
    many pictures: that equals one process with a P-fold batch, but for what a loss knows beyond its own batch.

    Args:
        net: what learns, on its device.
        loss: (step, batch) -> `loss`, a mean over the batch, and what else is to be kept of each step, as scalars.
        batches: step -> the batches of this process from that step on.
        steps, every: how many in all; after every so many `end` is called and a checkpoint written.
        rate: step -> factor on the learning rates.
        made_of: what a checkpoint must agree with.
        begin, end, keep: called with what the checkpoint holds; for more columns of the last row; for more to be kept.
        clip: largest norm of a gradient.

    Returns:
        A row a step, the mean over the processes.

    Raises:
        ValueError: a checkpoint of something else. RuntimeError: the loss is not finite.

    >>> net, x = nn.Linear(1, 1), torch.arange(4.0)[:, None]
    >>> rows = fit(net, torch.optim.SGD(net.parameters(), lr=0.1),
    ...            lambda step, batch: {"loss": (net(batch) - 2 * batch).square().mean()},
    ...            lambda step: iter([x] * (30 - step)), 30, 30, lambda step: 1.0, None, {})
    >>> len(rows), bool(rows["loss"].iloc[-1] < rows["loss"].iloc[0])
    (30, True)
    """
    hub, first = accelerator(), [group["lr"] for group in learner.param_groups]
    made_of = {**made_of, "total": steps}
    saved = read_tensors(checkpoint) if checkpoint and Path(checkpoint).is_file() else {}
    if saved and any(saved.get(key) != value for key, value in made_of.items()):
        raise ValueError(f"{checkpoint}: was made with other settings, seed or pictures. Remove it, or name another "
                         "checkpoint.")
    parts = {"net": net, "learner": learner, **({"scaler": hub.scaler} if hub.scaler else {})}
    for name in parts if saved else ():
        parts[name].load_state_dict(saved[name])
    rows = saved.get("history", [])
    begin(saved)
    model, optimizer = hub.prepare(_Objective(net, loss).train(), learner)
    done = range(len(rows), steps)
    for step, batch in zip(progress(done, what) if hub.is_main_process else done, batches(len(rows))):
        for group, lr in zip(learner.param_groups, first):
            group["lr"] = lr * rate(step)
        with hub.accumulate(model):
            found = model(step, batch)
            hub.backward(found["loss"])
            if hub.sync_gradients and clip < math.inf:
                hub.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
        rows.append({key: value.detach() for key, value in found.items()})
        if len(rows) % every == 0 or len(rows) == steps:
            start = (len(rows) - 1) // every * every  # numbers are read late: a GPU that is asked must stop and wait
            table = hub.reduce(torch.stack([torch.stack([*row.values()]).float() for row in rows[start:]]), "mean").tolist()
            rows[start:] = [dict(zip(found, values)) for values in table]
            for i in range(start, len(rows)):
                if not math.isfinite(rows[i]["loss"]):
                    raise RuntimeError(f"{what}: the loss of step {i} is {rows[i]['loss']}; start with lr below {max(first)}.")
            rows[-1] |= end()
            model.train()
            if checkpoint and hub.is_main_process:
                state = {name: part.state_dict() for name, part in parts.items()}
                write_tensors(checkpoint, {**made_of, **state, "history": rows, **keep()})
    net.eval()
    return pd.DataFrame(rows)


def numbers(step: int) -> Iterator[int]:
    """Numbers of the batches that this process takes from a step on: 0, 1, 2 ... if it is alone.

    >>> next(numbers(5))
    5
    """
    hub = accelerator()
    return itertools.count(step * hub.num_processes + hub.process_index, hub.num_processes)


def groups(net: nn.Module, slow: Iterable[nn.Module], lr: float, factor: float) -> list[dict]:
    """What learns, for an optimiser: the parameters of the modules `slow` at factor x lr, all others at lr.

    >>> two = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    >>> [(len(group["params"]), group["lr"]) for group in groups(two, [two[0]], 1.0, 0.5)]
    [(2, 0.5), (2, 1.0)]
    """
    few, learns = {p for part in slow for p in part.parameters()}, [p for p in net.parameters() if p.requires_grad]
    both = [([p for p in learns if p in few], factor * lr), ([p for p in learns if p not in few], lr)]
    return [{"params": params, "lr": rate} for params, rate in both if params]


class CropMethod:
    """A network that is trained on random crops, and scores a picture by the mean over fixed crops.

    A child brings `name`, `config_class`, `network` (config -> module that maps crops, and maybe crops of the
    reference, to scores (B,)), `learner()`, `loss(batch)` and maybe a `rate(epoch)` of its own. Its config has `crop`,
    `epochs`, `batch` and `test_crops`. `tasks` says what it is judged on: "NR", "FR" or both.
    """

    tasks: tuple[str, ...] = ("NR",)
    paired: bool = False  # does the training of the no-reference score use references where there are any?
    clip: float = math.inf  # largest norm of a gradient

    def __init__(self, config):
        self.config = config
        self.net: nn.Module | None = None
        self.best: dict | None = None  # weights of the best epoch on the validation part
        self.device = "cuda" if torch.cuda.is_available() else "cpu"

    def fit(self, train: Dataset, val: Dataset | None = None, checkpoint: str | Path | None = None):
        """Train from the start, or go on from a checkpoint. Returns self; `history` has a row an epoch.

        The weights after the last epoch are what `score` uses. The best epoch on `val` is kept beside them and only
        reported: `predictions`. Seed it with `torch.manual_seed`.

        Args:
            train, val: datasets with scores (and references, if a task needs them).
            checkpoint: file to go on from, and to write after every epoch; None keeps nothing.

        Raises:
            DatasetError: a picture without the reference that a task needs.
            ValueError: a checkpoint of other settings or pictures, or one that is damaged.
            RuntimeError: the loss is not finite.
        """
        seed, c = torch.initial_seed() % 2**31, self.config
        if "FR" in self.tasks and not train.card.reference:
            train.reference(0)  # raises, naming the picture
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            hub = accelerator()
            self.device = hub.device.type
            self.net = self.network(c).to(self.device, memory_format=torch.channels_last)  # faster on a CPU
            made_of = {"config": dataclasses.asdict(c), "variant": getattr(self, "variant", ""),
                       "pictures": f"{train.name} {len(train)}", "seed": seed}
            batches = data.loader(train, c.crop, c.batch, seed, flip=True, references="FR" in self.tasks or self.paired)
            sampler, batches = batches.sampler, hub.prepare(batches)
            each = len(batches)  # steps of an epoch

            def stream(step: int) -> Iterator[dict[str, Tensor]]:
                for epoch in range(step // each, c.epochs):
                    torch.manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
                    sampler.epoch = epoch
                    self.begin(epoch)
                    yield from batches

            table = fit(self.net, self.learner(), lambda step, batch: {"loss": self.loss(batch)}, stream, each * c.epochs,
                        each, lambda step: self.rate(step / each), checkpoint, made_of,
                        lambda saved: setattr(self, "best", saved.get("best")), lambda: self._judge(val),
                        lambda: {"best": self.best}, self.clip, self.name)
        self.history = table.groupby(table.index // each).mean().rename_axis("epoch").reset_index()
        return self

    def rate(self, epoch: float) -> float:
        """Factor on the learning rates: one cosine over the run, from 1 to 0."""
        return (1 + math.cos(math.pi * epoch / self.config.epochs)) / 2

    def begin(self, epoch: int) -> None:
        """Called before the first step of an epoch, for a child that keeps something from step to step."""

    def _judge(self, val: Dataset | None) -> dict[str, float]:
        """SRCC on the validation part a task; the weights are kept if their mean is the best so far."""
        if val is None:
            return {}
        found = {f"val {task}": metrics.srcc(self._scores(val, task), val.scores) for task in self.tasks}
        mean = float(np.nan_to_num(np.mean([*found.values()]), nan=-1))  # NaN: one score for all, which must not win
        if self.best is None or mean > self.best["srcc"]:
            self.best = {"srcc": mean, "net": {key: value.clone() for key, value in self.net.state_dict().items()}}
        return found

    def predictions(self, dataset: Dataset) -> dict[str, np.ndarray]:
        """Scores (N,) for every task, after the last epoch and, where a validation part was given, after the best.

        `protocol.run` makes one row of each: the key says what is special about it. "FR" only where there are references.
        """
        net, tasks = self._fitted(), [task for task in self.tasks if task == "NR" or dataset.card.reference]
        found = {task: self._scores(dataset, task) for task in tasks}
        if self.best is not None:
            last = {key: value.clone() for key, value in net.state_dict().items()}
            net.load_state_dict(self.best["net"])
            found |= {f"{task}, best epoch": self._scores(dataset, task) for task in tasks}
            net.load_state_dict(last)
        return found

    def predict(self, dataset: Dataset) -> np.ndarray:
        """Scores (N,) for the first of `tasks`, HIGHER = BETTER."""
        return self._scores(dataset, self.tasks[0])

    def _scores(self, dataset: Dataset, task: str) -> np.ndarray:
        self._fitted().eval()
        found = []
        for i in progress(range(len(dataset)), f"scores of {dataset.name}"):
            reference = dataset.reference(i)[None] if task == "FR" else None
            found.append(self._by_crops(dataset.image(i)[None], reference).item())
        return np.array(found)

    def score(self, x: Tensor, x_ref: Tensor | None = None) -> Tensor:
        """Pictures, and references for the full-reference score, (B, 3, H, W) in [0, 1] -> (B,), HIGHER = BETTER.

        Raises:
            ValueError: x is no such batch, x and x_ref differ in shape, or the task needs a reference or has none.
        """
        self._fitted().eval()
        if x_ref is not None and "FR" not in self.tasks:
            x_ref = None
        if x_ref is None and "NR" not in self.tasks:
            raise ValueError(f"{self.name} was trained for full-reference input only: call score(x, x_ref).")
        metrics.expect(x)
        if x_ref is not None and metrics.expect(x_ref, "x_ref").shape != x.shape:
            raise ValueError(f"x is {tuple(x.shape)} and x_ref {tuple(x_ref.shape)}; they must be of one size.")
        return self._by_crops(x, x_ref)

    @torch.inference_mode()
    def _by_crops(self, x: Tensor, x_ref: Tensor | None) -> Tensor:
        """Mean over aligned crops: (B, 3, H, W) -> (B,)."""
        how = "five" if self.config.test_crops == 5 else "random"
        parts = [images.crops(p.to(self.device), self.config.crop, how, self.config.test_crops)
                 for p in (x, x_ref) if p is not None]
        return self.net(*(p.flatten(0, 1) for p in parts)).view(len(parts[0]), -1).float().mean(0).cpu()

    def _fitted(self) -> nn.Module:
        if self.net is None:
            raise RuntimeError(f"{self.name} is not fitted: call fit(train, val), or load a fitted one.")
        return self.net

    def save(self, path: str | Path) -> None:
        """Write config and weights as one file of tensors, at half precision, all of it or nothing."""
        net = half(self._fitted())
        write_tensors(path, {"method": self.name, "config": dataclasses.asdict(self.config), "net": net})

    @classmethod
    def load(cls, path: str | Path):
        """Read what `save` wrote; no pretrained weights are needed. ValueError: damaged, or of another method."""
        saved = read_tensors(path, cls.name)
        method = cls(cls.config_class(**saved["config"]))
        method.net = cls.network(dataclasses.replace(method.config, weights="random"))
        method.net.load_state_dict(saved["net"])
        method.net.eval().to(method.device, memory_format=torch.channels_last)
        return method
