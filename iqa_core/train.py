"""The one training loop, and training on scored crops: what all methods that learn share.

Everything random in a training follows from torch's seed and the number of the epoch or step. So two runs are equal, and
a run that was killed goes on from its checkpoint as if nothing had happened. accelerate brings it to the hardware: several
GPUs with `accelerate launch` or `notebook_launcher`, bfloat16 or float16, gradients of several batches added up.
"""

import dataclasses
import hashlib
import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator, DataLoaderConfiguration, DistributedDataParallelKwargs
from accelerate.state import GradientState, is_initialized
from torch import Tensor, nn

from iqa_core import data, images, metrics
from iqa_core.data import Dataset
from iqa_core.files import half, progress, read_tensors, write_tensors
from iqa_core.inputs import expect_batch, expect_training, fill, load_pair
from iqa_core.settings import from_saved, to_save

_PRECISION = "ACCELERATE_MIXED_PRECISION"
_ACCUMULATION = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"
_accumulation_before = None  # what the environment said when the last accelerator was made


def accelerator() -> Accelerator:
    """What a training runs on: as `accelerate launch` says, else one GPU, else the CPU.

    A process has one device and one precision. Where an Accelerator was made before, by the caller
    or by another training, this one takes over its device, its mixed precision and its gradient
    accumulation. It costs less than a millisecond, so it is made wherever it is needed.

    Raises:
        ValueError: the environment asks for what accelerate cannot do here.

    >>> accelerator().num_processes
    1
    """
    global _accumulation_before
    gpu = torch.cuda.is_available()
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)  # a batch without references leaves some out
    accumulation = os.environ.get(_ACCUMULATION)
    options = {"cpu": not gpu, "mixed_precision": os.environ.get(_PRECISION) or precision()}
    try:
        if is_initialized():
            options = {}
            if accumulation is None and _accumulation_before is None:  # it was the caller's
                options["gradient_accumulation_steps"] = GradientState().num_steps
        _accumulation_before = accumulation
        loading = DataLoaderConfiguration(non_blocking=gpu)
        return Accelerator(kwargs_handlers=[unused], dataloader_config=loading, **options)
    except ValueError as error:
        raise ValueError(f"accelerate cannot train here as it is asked to ({error}). Correct the "
                         "variables ACCELERATE_... of the environment, or restart Python and make "
                         "no other Accelerator first.") from error


def precision() -> str:
    """The mixed precision of a training if nobody asks for one: "bf16", "fp16" or "no".

    Float16 comes with scaled gradients.

    A GPU older than NVIDIA's Ampere (Colab's T4) only emulates bfloat16, which is slower than
    float32; it has float16.

    >>> precision() in ("bf16", "fp16", "no")
    True
    """
    if not torch.cuda.is_available():
        return "no"
    try:
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    except TypeError:  # a torch that does not tell emulation apart
        native = torch.cuda.get_device_capability()[0] >= 8
    return "bf16" if native else "fp16"


def run_settings() -> dict[str, int | str]:
    """What a training depends on beside its config.

    Returns:
        The number of processes and of batches whose gradients are added up, and the precision.

    >>> sorted(run_settings())
    ['accumulation', 'precision', 'processes']
    """
    running_on = accelerator()
    return {"processes": running_on.num_processes,
            "accumulation": running_on.gradient_accumulation_steps,
            "precision": running_on.mixed_precision}


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
    many images: that equals one process with a P-fold batch, but for what a loss knows beyond its
    own batch.

    Args:
        net: what learns, on its device.
        learner: its optimizer.
        loss: (step, batch) -> `loss`, a mean over the batch, and what else is to be kept of each step, as scalars.
        batches: step -> the batches of this process from that step on.
        steps, every: how many in all; after every so many `end` is called and a checkpoint written.
        rate: step -> factor on the learning rates.
        checkpoint: file to go on from, and to write; None keeps nothing.
        made_of: what a checkpoint must agree with. Added to it are `steps`, `every`, `clip`, the
            optimizer's settings and `run_settings()`; a finished training may be read with another
            `every` and at another precision.
        begin, end, keep: called with what the checkpoint holds; for more columns of the last row; for more to be kept.
        clip: largest norm of a gradient.
        what: how messages and the progress bar call it.

    Returns:
        A row a step, the mean over the processes.

    Raises:
        ValueError: a checkpoint of something else. RuntimeError: the loss is not finite, or batches
            ran out.

    >>> net, x = nn.Linear(1, 1), torch.arange(4.0)[:, None]
    >>> rows = fit(net, torch.optim.SGD(net.parameters(), lr=0.1),
    ...            lambda step, batch: {"loss": (net(batch) - 2 * batch).square().mean()},
    ...            lambda step: iter([x] * (30 - step)), 30, 30, lambda step: 1.0, None, {})
    >>> len(rows), bool(rows["loss"].iloc[-1] < rows["loss"].iloc[0])
    (30, True)
    """
    running_on = accelerator()
    wanted = os.environ.get(_PRECISION)
    if wanted and wanted != running_on.mixed_precision:
        warnings.warn(f"{_PRECISION}={wanted!r} comes too late: this process trains at mixed "
                      f"precision {running_on.mixed_precision!r}. Restart Python to change "
                      "it.", stacklevel=3)
    first_rates = [group["lr"] for group in learner.param_groups]
    made_of = {**made_of, "total": steps, "every": every, "clip": clip,
               "optimizer": _optimizer_settings(learner), **run_settings()}
    parts = {"net": net, "learner": learner}
    if running_on.scaler is not None:
        parts["scaler"] = running_on.scaler
    saved = _resume(checkpoint, made_of, parts)
    rows = saved.get("history", [])
    begin(saved)
    model, optimizer = running_on.prepare(_Objective(net, loss).train(), learner)
    todo = range(len(rows), steps)
    shown = progress(todo, what) if running_on.is_main_process else todo
    for step, batch in zip(shown, batches(len(rows))):
        for group, lr in zip(learner.param_groups, first_rates):
            group["lr"] = lr * rate(step)
        with running_on.accumulate(model):
            values = model(step, batch)
            running_on.backward(values["loss"])
            if running_on.sync_gradients and clip < math.inf:
                running_on.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
        rows.append({key: value.detach() for key, value in values.items()})
        if len(rows) % every == 0 or len(rows) == steps:
            start = (len(rows) - 1) // every * every
            rows[start:] = _numbers(running_on, rows[start:])
            for i in range(start, len(rows)):
                if not math.isfinite(rows[i]["loss"]):
                    raise RuntimeError(f"{what}: the loss of step {i} is {rows[i]['loss']}; start "
                                       f"with lr below {max(first_rates)}.")
            rows[-1] |= end()
            model.train()
            if checkpoint and running_on.is_main_process:
                state = {name: part.state_dict() for name, part in parts.items()}
                write_tensors(checkpoint, {**made_of, **state, "history": rows, **keep()})
    if len(rows) < steps:
        raise RuntimeError(f"{what}: there were batches for {len(rows)} of {steps} steps only.")
    net.eval()
    return pd.DataFrame(rows)


def _optimizer_settings(optimizer: torch.optim.Optimizer) -> dict:
    """Kind of an optimizer, and what each of its groups of parameters is trained with."""
    groups = [{name: len(value) if name == "params" else value for name, value in group.items()}
              for group in optimizer.param_groups]
    return {"kind": type(optimizer).__name__, "groups": groups}


def _resume(checkpoint: str | Path | None, made_of: dict, parts: dict) -> dict:
    """What a checkpoint holds, after `parts` were filled from it; nothing if there is none.

    A finished training is only read: so it may have had checkpoints at other steps, or run at
    another precision.

    Raises:
        ValueError: it was made with other settings, or does not fit.
    """
    if not checkpoint or not Path(checkpoint).exists():
        return {}
    if not Path(checkpoint).is_file():
        raise ValueError(f"{checkpoint}: is a folder. Name a file for the checkpoint.")
    saved = read_tensors(checkpoint)
    finished = len(saved.get("history", [])) == made_of["total"]
    others = [name for name, value in made_of.items() if saved.get(name) != value]
    if finished:
        others = [name for name in others if name not in ("every", "precision")]
        parts = {name: part for name, part in parts.items() if name != "scaler"}
    if others:
        raise ValueError(f"{checkpoint}: was made with other settings, seed or pictures. Remove "
                         f"it, or name another checkpoint. (It differs in: {', '.join(others)}.)")
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            fill(part, saved.get(name), checkpoint, "this training")
            continue
        try:
            part.load_state_dict(saved[name])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{checkpoint}: its {name} does not fit this training ({error}). "
                             "Remove it, or name another checkpoint.") from error
    return saved


def _numbers(running_on: Accelerator, rows: list[dict[str, Tensor]]) -> list[dict[str, float]]:
    """Rows of scalar tensors as numbers, the mean over the processes.

    Numbers are read late and together: a GPU that is asked must stop and wait.
    """
    stacked = torch.stack([torch.stack([*row.values()]).float() for row in rows])
    names = list(rows[0])
    return [dict(zip(names, values)) for values in running_on.reduce(stacked, "mean").tolist()]


def numbers(step: int) -> Iterator[int]:
    """Numbers of the batches that this process takes from a step on: 0, 1, 2 ... if it is alone.

    >>> next(numbers(5))
    5
    """
    running_on = accelerator()
    processes = running_on.num_processes
    return itertools.count(step * processes + running_on.process_index, processes)


def groups(net: nn.Module, slow: Iterable[nn.Module], lr: float, factor: float) -> list[dict]:
    """What learns, for an optimiser: the parameters of the modules `slow` at factor x lr, all others at lr.

    >>> two = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    >>> [(len(group["params"]), group["lr"]) for group in groups(two, [two[0]], 1.0, 0.5)]
    [(2, 0.5), (2, 1.0)]
    """
    few = {p for part in slow for p in part.parameters()}
    learning = [p for p in net.parameters() if p.requires_grad]
    both = [{"params": [p for p in learning if p in few], "lr": factor * lr},
            {"params": [p for p in learning if p not in few], "lr": lr}]
    return [group for group in both if group["params"]]


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
            DatasetError: an empty part, a score that is no number, an image without the reference
                that a task needs or with one of another size.
            ValueError: a checkpoint of other settings or images, or one that is damaged.
            RuntimeError: the loss is not finite.
        """
        c = self.config
        seed = torch.initial_seed() % 2**31
        expect_training(train, val, references="FR" in self.tasks)
        if self.paired and train.card.reference:
            expect_training(train, None, references=True)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            running_on = accelerator()
            self.device = running_on.device.type
            self.net = self.network(c).to(self.device, memory_format=torch.channels_last)  # faster on a CPU
            made_of = {"config": to_save(c), "variant": getattr(self, "variant", ""), "seed": seed,
                       "pictures": _about(train), "validation": _about(val)}
            batches = data.loader(train, c.crop, c.batch, seed, flip=True, references="FR" in self.tasks or self.paired)
            sampler = batches.sampler
            batches = running_on.prepare(batches)
            each = len(batches)  # steps of an epoch

            def stream(step: int) -> Iterator[dict[str, Tensor]]:
                for epoch in range(step // each, c.epochs):
                    torch.manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
                    sampler.epoch = epoch
                    self.begin(epoch)
                    yield from batches

            table = fit(self.net, self.learner(), lambda step, batch: {"loss": self.loss(batch)}, stream, each * c.epochs,
                        each, lambda step: self.rate(step / each), checkpoint, made_of,
                        begin=lambda saved: setattr(self, "best", saved.get("best")),
                        end=lambda: self._judge(val), keep=lambda: {"best": self.best},
                        clip=self.clip, what=self.name)
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
        found = {}
        for task in self.tasks:
            found[f"val {task}"] = metrics.srcc(self._scores(val, task), val.scores)
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
        scores = []
        for i in progress(range(len(dataset)), f"scores of {dataset.name}"):
            if task == "FR":
                x, x_ref = load_pair(dataset, i)
                scores.append(self._by_crops(x[None], x_ref[None]).item())
            else:
                scores.append(self._by_crops(dataset.image(i)[None], None).item())
        return np.array(scores)

    def score(self, x: Tensor, x_ref: Tensor | None = None) -> Tensor:
        """Images, and maybe references, (B, 3, H, W) in [0, 1] -> (B,), HIGHER = BETTER.

        They may have any float type, and need not lie on the network's device. An image smaller
        than a crop is mirrored (see `images.fit`).

        Raises:
            ValueError: x is no such batch, x and x_ref differ in shape, or the task needs a reference or has none.
        """
        self._fitted().eval()
        if x_ref is not None and "FR" not in self.tasks:
            x_ref = None
        if x_ref is None and "NR" not in self.tasks:
            raise ValueError(f"{self.name} was trained for full-reference input only: call score(x, x_ref).")
        return self._by_crops(*expect_batch(x, x_ref))

    @torch.inference_mode()
    def _by_crops(self, x: Tensor, x_ref: Tensor | None) -> Tensor:
        """Mean over aligned crops: (B, 3, H, W) -> (B,)."""
        how = "five" if self.config.test_crops == 5 else "random"
        device = next(self.net.parameters()).device
        parts = [images.crops(part.to(device), self.config.crop, how, self.config.test_crops)
                 for part in (x, x_ref) if part is not None]  # (crops, B, 3, crop, crop) each
        scores = self.net(*(part.flatten(0, 1) for part in parts))
        return scores.view(len(parts[0]), -1).float().mean(0).cpu()

    def _fitted(self) -> nn.Module:
        if self.net is None:
            raise RuntimeError(f"{self.name} is not fitted: call fit(train, val), or load a fitted one.")
        return self.net

    def save(self, path: str | Path) -> None:
        """Write config and weights as one file of tensors, at half precision, all of it or nothing."""
        net = half(self._fitted())
        write_tensors(path, {"method": self.name, "config": to_save(self.config), "net": net})

    @classmethod
    def load(cls, path: str | Path):
        """Read what `save` wrote; no pretrained weights are needed.

        Raises:
            ValueError: the file is damaged, of another method, or of another version of this kit: a
                field of the config is missing or unknown, or tensors do not fit.
        """
        saved = read_tensors(path, cls.name)
        method = cls(from_saved(cls.config_class, saved.get("config"), path))
        try:
            method.net = cls.network(dataclasses.replace(method.config, weights="random"))
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{path}: its network cannot be built ({error})") from error
        fill(method.net, saved.get("net"), path, f"the {cls.name} that its config describes")
        method.net.eval().to(method.device, memory_format=torch.channels_last)
        return method


def _about(dataset: Dataset | None) -> str:
    """Name, number and 12 hex digits that tell the images and scores of a dataset from others."""
    if dataset is None:
        return ""
    names = "\n".join([*dataset.table["image"], *dataset.table["reference"]])
    digest = hashlib.sha256(names.encode("utf-8", "surrogateescape") + dataset.scores.tobytes())
    return f"{dataset.name} {len(dataset)} {digest.hexdigest()[:12]}"
