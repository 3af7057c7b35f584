"""Training on scored crops and scoring by crops: what the methods that learn end to end share.

Everything random in a training follows from torch's seed and the number of the epoch. So two runs are equal, and a
run that was killed goes on from its last epoch as if nothing had happened.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from iqa_core import data, images, metrics
from iqa_core.data import Dataset
from iqa_core.files import half, progress, read_tensors, resume, write_tensors


def train_steps(net: nn.Module, loss: Callable[[int], Tensor], steps: int, lr: float, checkpoint: str | Path | None,
                made_of: dict, every: int = 100) -> pd.DataFrame:
    """Training without scores: Adam, gradients of norm 1 at most, a checkpoint every so many steps.

    The learning rate rises over the first tenth of the steps, and falls from lr to lr / 1000 by half a cosine.

    Args:
        net: what learns; in eval mode afterwards.
        loss: number of the step -> loss; all that is random in it follows from that number.
        checkpoint: file to go on from, and to write; None keeps nothing.
        made_of: what the checkpoint must agree with; `made_of["what"]` names the training.

    Returns:
        A row a step: `loss`.

    Raises:
        ValueError: a checkpoint of something else. RuntimeError: the loss is not finite.
    """
    learner = torch.optim.Adam(net.parameters(), lr=lr)
    history = resume(checkpoint, made_of, net=net, learner=learner).get("history", [])
    net.train()
    for step in progress(range(len(history), steps), made_of["what"]):
        for group in learner.param_groups:
            group["lr"] = lr * min(1, 10 * (step + 1) / steps) * (0.001 + 0.999 * (1 + math.cos(math.pi * step / steps)) / 2)
        value = loss(step)
        if not value.isfinite():
            raise RuntimeError(f"The loss of step {step} ({made_of['what']}) is {value.item()}; start again with a "
                               f"learning rate below {lr}.")
        learner.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        learner.step()
        history.append(value.item())
        if checkpoint and (len(history) % every == 0 or len(history) == steps):
            write_tensors(checkpoint, {**made_of, "net": net.state_dict(), "learner": learner.state_dict(),
                                       "history": history})
    net.eval()
    return pd.DataFrame({"loss": history})


class CropMethod:
    """A network that is trained on random crops, and scores a picture by the mean over fixed crops.

    A child brings `name`, `config_class`, `network` (config -> module that maps crops, and maybe crops of the
    reference, to scores (B,)), `learner()`, `rate(epoch)` (factor on the learning rates) and `loss(batch)`. Its config
    has `crop`, `epochs`, `batch` and `test_crops`. `tasks` says what it is judged on: "NR", "FR" or both.
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
            self.net = self.network(c).to(self.device, memory_format=torch.channels_last)  # faster on a CPU
            learner = self.learner()
            first = [group["lr"] for group in learner.param_groups]
            made_of = {"config": dataclasses.asdict(c), "variant": getattr(self, "variant", ""), "seed": seed,
                       "pictures": f"{train.name} {len(train)}"}
            history = self._resume(checkpoint, made_of, learner)
            batches = data.loader(train, c.crop, c.batch, seed, flip=True, references="FR" in self.tasks or self.paired)
            for epoch in progress(range(len(history), c.epochs), "epochs"):
                torch.manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
                batches.sampler.epoch = epoch
                self.net.train()
                self.begin(epoch)
                losses = []
                for i, batch in enumerate(batches):
                    for group, lr in zip(learner.param_groups, first):
                        group["lr"] = lr * self.rate(epoch + i / len(batches))
                    batch = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
                    with torch.autocast(self.device, torch.bfloat16, enabled=self.device != "cpu"):
                        loss = self.loss(batch)
                    if not loss.isfinite():
                        raise RuntimeError(f"The loss of epoch {epoch}, step {i} is {loss.item()}; start again with lr "
                                           f"below {c.lr}.")
                    learner.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
                    learner.step()
                    losses.append(loss.item())
                history.append({"epoch": epoch, "loss": float(np.mean(losses)), **self._judge(val)})
                self._write(checkpoint, made_of, learner, history)
        self.history = pd.DataFrame(history)
        self.net.eval()
        return self

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

    def _write(self, path: str | Path | None, made_of: dict, learner, history: list[dict]) -> None:
        if path is not None:
            write_tensors(path, {**made_of, "net": self.net.state_dict(), "learner": learner.state_dict(),
                                 "history": history, "best": self.best})

    def _resume(self, path: str | Path | None, made_of: dict, learner) -> list[dict]:
        """Load a checkpoint, if there is one; returns its history."""
        saved = resume(path, made_of, net=self.net, learner=learner)
        self.best = saved.get("best")
        return saved.get("history", [])

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
        saved = read_tensors(path)
        if saved.get("method") != cls.name:
            raise ValueError(f"{path}: holds no fitted {cls.name} but {saved.get('method', 'something else')!r}.")
        method = cls(cls.config_class(**saved["config"]))
        method.net = cls.network(dataclasses.replace(method.config, weights="random"))
        method.net.load_state_dict(saved["net"])
        method.net.eval().to(method.device, memory_format=torch.channels_last)
        return method
