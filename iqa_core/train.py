"""The one training loop. Every training of this kit is a `Stage` that goes through `fit`.

Everything random in a training follows from its seed and the number of the round. So two runs are
equal, and a run that was killed goes on from its checkpoint as if nothing had happened. accelerate
brings it to the hardware: several GPUs with `accelerate launch` or `notebook_launcher`, bfloat16 or
float16, gradients of several batches added up.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from iqa_core.files import progress, read_tensors, write_tensors
from iqa_core.hardware import accelerator, run_settings, warn_of_late_precision
from iqa_core.inputs import fill

@dataclass
class Stage:
    """One training: what learns, by which loss, from which batches, and for how long.

    Attributes:
        name: how messages and the progress bar call it.
        module: what learns, with all that belongs to its state (a memory bank, say, as a buffer);
            it lies on its device.
        loss: batch -> {"loss": a mean over the batch, other scalars that are logged}.
        batches: step -> the batches of this process from that step on.
        steps: number of steps in all.
        round: number of steps of a round. After each round the numbers are read, the validation
            runs, and the checkpoint is written. Usually a round is an epoch.
        optimizer: of the module's parameters.
        schedule: step -> factor on the learning rates.
        settings: what a checkpoint must agree with, such as the config and the images.
        seed: what is drawn in a round, such as dropout, follows from (seed, round).
        clip: largest norm of a gradient.
        validate: called after every round; its scalars are logged, and the weights of the round
            with the highest mean of them are remembered in `best`.
        checkpoint: file to go on from, and to write after every round; None = none.
        best: {"score", "module"} of the best round, after the training.
    """

    name: str
    module: nn.Module
    loss: Callable[[object], dict[str, Tensor]]
    batches: Callable[[int], Iterator]
    steps: int
    round: int
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int], float]
    settings: dict = field(default_factory=dict)
    seed: int = 0
    clip: float = math.inf
    validate: Callable[[], dict[str, float]] | None = None
    checkpoint: str | Path | None = None
    best: dict | None = None


def fit(stage: Stage) -> pd.DataFrame:
    """Train a stage, or go on from its checkpoint.

    With P processes each takes every P-th batch, and the gradient is the mean over all of them. So
    a step sees P times as many images: that equals one process with a P-fold batch, but for what a
    loss knows beyond its own batch.

    Returns:
        The history, a row a step: the scalars of the loss, means over the processes, and in the
        last row of each round those of the validation.

    Raises:
        ValueError: a checkpoint of something else.
        RuntimeError: the loss is not finite, or batches ran out.

    >>> net, x = nn.Linear(1, 1), torch.arange(4.0)[:, None]
    >>> stage = Stage("line", net, lambda batch: {"loss": (net(batch) - 2 * batch).square().mean()},
    ...               lambda step: iter([x] * (30 - step)), 30, 30,
    ...               torch.optim.SGD(net.parameters(), lr=0.1), lambda step: 1.0)
    >>> history = fit(stage)
    >>> len(history), bool(history["loss"].iloc[-1] < history["loss"].iloc[0])
    (30, True)
    """
    running_on = accelerator()
    warn_of_late_precision(running_on)
    # 1. Start anew, or from the checkpoint.
    optimizer = stage.optimizer
    rates = [group["lr"] for group in optimizer.param_groups]
    settings = _checkpoint_settings(stage)
    history = _resume(stage, settings, running_on)
    # 2. accelerate moves the work to the device, the processes and the precision.
    model, optimizer = running_on.prepare(_Objective(stage), optimizer)
    model.train()
    # 3. One step after the other.
    steps = range(len(history), stage.steps)
    if running_on.is_main_process:
        steps = progress(steps, stage.name)
    with torch.random.fork_rng():
        batches = stage.batches(len(history))
        for step in steps:
            if step % stage.round == 0:
                torch.manual_seed(derived_seed(stage.seed, step // stage.round))
            batch = next(batches, None)
            if batch is None:
                raise RuntimeError(f"{stage.name}: there were batches for {step} of {stage.steps} "
                                   "steps only.")
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * stage.schedule(step)
            with running_on.accumulate(model):
                values = model(batch)
                running_on.backward(values["loss"])
                if running_on.sync_gradients and stage.clip < math.inf:
                    running_on.clip_grad_norm_(stage.module.parameters(), stage.clip)
                optimizer.step()
                optimizer.zero_grad()
            history.append({name: value.detach() for name, value in values.items()})
            if len(history) % stage.round and len(history) < stage.steps:
                continue
            # 4. The end of a round: read the numbers, validate, write the checkpoint.
            start = (len(history) - 1) // stage.round * stage.round
            history[start:] = _numbers(running_on, history[start:])
            _expect_finite(stage, history, start, max(rates))
            if stage.validate is not None:
                history[-1] |= _validated(stage)
                model.train()
            if stage.checkpoint and running_on.is_main_process:
                _write(stage, settings, history, running_on)
    stage.module.eval()
    return pd.DataFrame(history)


class _Objective(nn.Module):
    """A loss as a module around what learns: several GPUs and half precision act on a module's
    forward."""

    def __init__(self, stage: Stage):
        super().__init__()
        self.module = stage.module
        self.loss = stage.loss

    def forward(self, batch) -> dict[str, Tensor]:
        return self.loss(batch)


def _validated(stage: Stage) -> dict[str, float]:
    """The scalars of the validation; the weights stay in `best` if their mean is the highest so
    far."""
    values = stage.validate()
    # NaN is the rank correlation of a constant, which must not win.
    score = float(np.nan_to_num(np.mean([*values.values()]), nan=-1)) if values else -1.0
    if values and (stage.best is None or score > stage.best["score"]):
        weights = {name: value.clone() for name, value in stage.module.state_dict().items()}
        stage.best = {"score": score, "module": weights}
    return values


def _expect_finite(stage: Stage, history: list[dict], start: int, rate: float) -> None:
    for step in range(start, len(history)):
        loss = history[step]["loss"]
        if not math.isfinite(loss):
            raise RuntimeError(f"{stage.name}: the loss of step {step} is {loss}; start with lr "
                               f"below {rate}.")


def _numbers(running_on: Accelerator, rows: list[dict[str, Tensor]]) -> list[dict[str, float]]:
    """Rows of scalar tensors as numbers, the mean over the processes.

    Numbers are read late and together: a GPU that is asked for one must stop and wait.
    """
    stacked = torch.stack([torch.stack([*row.values()]).float() for row in rows])
    names = list(rows[0])
    return [dict(zip(names, values)) for values in running_on.reduce(stacked, "mean").tolist()]


def derived_seed(*numbers: int) -> int:
    """A seed for every sequence of whole numbers: well apart, even where the numbers are small.

    >>> derived_seed(0, 1) == derived_seed(0, 1), derived_seed(0, 1) == derived_seed(1, 0)
    (True, False)
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def batch_numbers(step: int) -> Iterator[int]:
    """Numbers of the batches that this process takes from a step on: 0, 1, 2 ... if it is alone.

    >>> next(batch_numbers(5))
    5
    """
    running_on = accelerator()
    processes = running_on.num_processes
    return itertools.count(step * processes + running_on.process_index, processes)


def parameter_groups(net: nn.Module, slow: Iterable[nn.Module], lr: float, factor: float,
                     weight_decay: float = 0.0, no_decay: tuple[str, ...] = ()) -> list[dict]:
    """The parameters that learn, in groups for an optimizer.

    Args:
        net: all parameters that require a gradient.
        slow: modules that learn at factor * lr; all else at lr.
        lr, factor: learning rate, and the share of it for `slow`.
        weight_decay: of all parameters but biases, scales of norms and other one-dimensional ones.
        no_decay: parts of names of more parameters that do not decay.

    >>> two = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1))
    >>> groups = parameter_groups(two, [two[0]], 1.0, 0.5, weight_decay=0.1)
    >>> [(len(group["params"]), group["lr"], group["weight_decay"]) for group in groups]
    [(1, 0.5, 0.1), (1, 1.0, 0.1), (1, 1.0, 0.0)]
    """
    slow_ones = {parameter for module in slow for parameter in module.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = factor * lr if parameter in slow_ones else lr
        still = parameter.ndim <= 1 or any(part in name for part in no_decay)
        decay = 0.0 if still else weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    slow_first = sorted(groups.items(), key=lambda item: (item[0][0], -item[0][1]))
    return [{"params": parameters, "lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in slow_first]


def warmup_cosine(steps: int, warmup: float = 0.05, last: float = 0.0) -> Callable[[int], float]:
    """A schedule: a line from 0 to 1 over the first share of the steps, then half a cosine.

        f(t) = (t + 1) / (warmup T)   for t < warmup T,
        f(t) = last + (1 - last) (1 + cos(pi t / T)) / 2   afterwards;   the smaller of both counts

    >>> schedule = warmup_cosine(100, 0.1)
    >>> [round(schedule(step), 3) for step in (0, 9, 50, 100)]
    [0.1, 0.98, 0.5, 0.0]
    """
    first = warmup * steps

    def schedule(step: int) -> float:
        rising = min(1.0, (step + 1) / first) if first > 0 else 1.0
        falling = last + (1 - last) * (1 + math.cos(math.pi * step / steps)) / 2
        return rising * falling

    return schedule


def share_initial_weights(net: nn.Module, base: nn.Module) -> list[str]:
    """Copy from `base` every tensor that `net` has under the same name and in the same shape.

    Returns:
        Names of the parameters of `net` that are its own.

    >>> one, other = nn.Linear(2, 1), nn.Linear(2, 1, bias=False)
    >>> share_initial_weights(one, other), torch.equal(one.weight, other.weight)
    (['bias'], True)
    """
    theirs = base.state_dict()
    own = []
    for name, value in net.state_dict().items():
        if name in theirs and theirs[name].shape == value.shape:
            value.copy_(theirs[name])
        else:
            own.append(name)
    return own


# --- checkpoints ---------------------------------------------------------------------------------

def _checkpoint_settings(stage: Stage) -> dict:
    """What a checkpoint must agree with."""
    groups = [{name: len(value) if name == "params" else value for name, value in group.items()}
              for group in stage.optimizer.param_groups]
    optimizer = {"kind": type(stage.optimizer).__name__, "groups": groups}
    return {**stage.settings, "steps": stage.steps, "round": stage.round, "clip": stage.clip,
            "seed": stage.seed, "optimizer settings": optimizer, **run_settings()}


def _parts(stage: Stage, running_on: Accelerator) -> dict:
    """What has a state."""
    parts = {"module": stage.module, "optimizer": stage.optimizer}
    if running_on.scaler is not None:
        parts["scaler"] = running_on.scaler
    return parts


def _write(stage: Stage, settings: dict, history: list[dict], running_on: Accelerator) -> None:
    states = {name: part.state_dict() for name, part in _parts(stage, running_on).items()}
    write_tensors(stage.checkpoint, {**settings, **states, "history": history, "best": stage.best})


def _resume(stage: Stage, settings: dict, running_on: Accelerator) -> list[dict]:
    """The history in the checkpoint, after the stage was filled from it; nothing if there is none.

    A finished training is only read: so it may have had other rounds, or run at another precision.

    Raises:
        ValueError: the checkpoint was made with other settings, or does not fit.
    """
    path = stage.checkpoint
    if not path or not Path(path).exists():
        return []
    if not Path(path).is_file():
        raise ValueError(f"{path}: is a folder. Name a file for the checkpoint.")
    saved = read_tensors(path)
    history = saved.get("history", [])
    parts = _parts(stage, running_on)
    others = [name for name, value in settings.items() if saved.get(name) != value]
    if len(history) == stage.steps:
        others = [name for name in others if name not in ("round", "precision")]
        parts.pop("scaler", None)
    if others:
        raise ValueError(f"{path}: was made with other settings, seed or images. Remove it, or "
                         f"name another checkpoint. (It differs in: {', '.join(others)}.)")
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            fill(part, saved.get(name), path, "this training")
            continue
        try:
            part.load_state_dict(saved[name])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path}: its {name} does not fit this training ({error}). Remove it, "
                             "or name another checkpoint.") from error
    stage.best = saved.get("best")
    return history
