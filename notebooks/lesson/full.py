"""Full mode of the papers' notebooks: one training at the paper's settings, its cost said first.

A training writes a checkpoint after every epoch. So a cell that was interrupted goes on when it is
run again, and a finished one is only read. Rows are those of the ledger (`evaluate.run`).
"""

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

import data_download
from iqa_core import data, evaluate, reiqa_experts, reiqa_pretrain, train
from iqa_core.files import atomic, cache_dir
from iqa_core.reiqa_pairs import PretrainConfig

TIMED = {"cuda": 8, "cpu": 2}  # steps of each stage; the first half of them is a warm-up


def folder() -> Path:
    """Where checkpoints, weights and rows are kept."""
    path = cache_dir() / "full"
    path.mkdir(parents=True, exist_ok=True)
    return path


def gpu() -> bool:
    """Is there one?"""
    return torch.cuda.is_available()


def first_here(names: list[str]) -> data.Dataset:
    """The first of some sets that is here. Name the largest one first.

    Raises:
        DatasetError: none of them is here.
    """
    for name in names:
        try:
            return data_download.load(name)
        except data.DatasetError as error:
            print(f"{name} is left out: {error}")
    raise data.DatasetError(f"None of {', '.join(names)} is here. `python -m data_download get "
                            f"{names[0]}` brings the first one.")


# --- what a training will cost -------------------------------------------------------------------

class Clock:
    """Makes a stage a few steps long, and tells what all its steps would take.

    Args:
        stage: it is changed: few steps, no validation, no checkpoint.
    """

    def __init__(self, stage: train.Stage):
        batches = stage.batches
        self.steps = stage.steps
        self.few = min(stage.steps, TIMED[train.accelerator().device.type])
        self.starts: list[float] = []

        def watched(step: int) -> Iterator:
            for batch in batches(step):
                self.starts.append(time.perf_counter())
                yield batch

        stage.batches = watched
        stage.steps = stage.round = self.few
        stage.validate = stage.checkpoint = None

    def seconds(self) -> float:
        """After `train.fit`, which reads the losses at its end: so a GPU has finished."""
        warm_up = self.few // 2
        measured = time.perf_counter() - self.starts[warm_up]
        return self.steps * measured / (self.few - warm_up)


def told(seconds: float) -> None:
    """Print what a training will take, and what it took of the GPU's memory."""
    days = seconds / 86400
    time_needed = f"{24 * days:.2g} hours" if days < 2 else f"{days:,.0f} days"
    print(f"The steps of the whole training will take about {time_needed} here; a few were measured.")
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        print(f"They took {torch.cuda.max_memory_allocated() / 2**30:.1f} of {total / 2**30:.0f} GB "
              "of the GPU's memory.")
    if not gpu():
        print("There is no GPU here, so nothing is trained.")


def cost(kind: type, *arguments, train_part: data.Dataset) -> float:
    """Seconds that a method's training will take, all stages together, validation not counted."""
    seconds = []

    class Short(kind):
        name = kind.name

        def stages(self, *rest) -> Iterator[train.Stage]:
            for stage in super().stages(*rest):
                clock = Clock(stage)
                yield stage
                seconds.append(clock.seconds())

    Short(*arguments).fit(train_part)
    return sum(seconds)


# --- trainings -----------------------------------------------------------------------------------

def train_method(kind: type, *arguments, sets: list[str]) -> pd.DataFrame | None:
    """Train a method on split 0 of the first of some sets that is here, and test it.

    Args:
        kind, arguments: the class of a method and what it is made from, its config first.
        sets: names of sets that fit it, the largest first.

    Returns:
        The rows of `evaluate.run`, which are written into `folder()` as well; None without a GPU,
        where only the cost is measured.
    """
    dataset = first_here(sets)
    print(f"{kind.name} at the paper's settings, on {dataset}")
    torch.manual_seed(0)
    told(cost(kind, *arguments, train_part=data.splits(dataset, 0)[0]))
    if not gpu():
        return None
    path = folder() / f"{kind.name}-{dataset.name}"

    class Kept(kind):
        name = kind.name

        def fit(self, train: data.Dataset, val: data.Dataset | None = None):
            super().fit(train, val, checkpoint=f"{path}.ckpt")
            self.save(f"{path}.weights")
            return self

    rows = evaluate.run(Kept(*arguments), dataset, [0], "full")
    with atomic(Path(f"{path}.csv")) as file:
        rows.to_csv(file, index=False)
    print(f"Checkpoint, weights and rows: {path}.*")
    return rows


def train_expert(config: PretrainConfig, at_once: int, sets: list[str]) -> Path | None:
    """Train Re-IQA's quality expert on the first of some sets of photographs that is here.

    Args:
        config: its `batch` is that of a step of the optimizer.
        at_once: so many images fit into the GPU's memory; the gradients of several such batches
            are added up. `batch` must be a multiple of it.
        sets: names of sets, the largest first.

    Returns:
        The file of the expert, which `ReIQAConfig(quality=...)` takes; None without a GPU, where
        only the cost is measured.

    Raises:
        ValueError: `batch` is no multiple of `at_once`.
    """
    if config.batch % at_once:
        raise ValueError(f"at_once={at_once} does not divide batch={config.batch}.")
    photographs = reiqa_pretrain.Uint8Images(first_here(sets))
    print(f"quality expert at the paper's settings, on {photographs.dataset}")
    os.environ["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"] = str(config.batch // at_once)
    config = dataclasses.replace(config, batch=at_once)
    short_queue = dataclasses.replace(config, queue=config.batch * config.pairs)  # soon filled
    stage = reiqa_pretrain.pretraining(photographs, short_queue)
    clock = Clock(stage)
    train.fit(stage)
    told(clock.seconds())
    if not gpu():
        return None
    path = folder() / f"expert-{photographs.dataset.name}.pt"
    model, _ = reiqa_pretrain.pretrain(photographs, config, path.with_suffix(".ckpt"), workers=2)
    reiqa_experts.save_expert(path, model.query.backbone, config)
    print(f"The expert: {path}")
    return path
