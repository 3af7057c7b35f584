"""Many trainings, judged into the ledger: what the figures of the papers share.

Jobs run side by side on the CPU cores, or one at a time on a GPU. Rows that the ledger has are not computed again, so a
stopped run goes on.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator

import torch

from iqa_core import data, ledger, modes, protocol


def side_by_side(function: Callable, jobs: Iterable, workers: int = 4, fresh: bool = True) -> Iterator:
    """function(job) for every job, in order, as many at a time as there are cores, `workers` at most, one on a GPU.

    Each in a `fresh` process, so that its peak of memory is its own; or in processes that stay, which saves imports.
    """
    workers = 1 if torch.cuda.is_available() else min(workers, os.cpu_count() or 1)
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))  # the processes share the cores
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=1 if fresh else None) as pool:
        yield from pool.imap(function, jobs)


def train(job: tuple) -> None:
    """One training on one split, judged into the ledger."""
    method, name, at_most, seed, mode = job
    rows = protocol.run(method, data.load(name).thin(at_most), [seed], mode)
    ledger.append(rows)
    print(rows[["variant", "dataset", "seed", "srcc", "minutes"]].round(3).to_string(header=False, index=False), flush=True)


def train_all(methods: list, name: str, at_most: int, seeds: Iterable[int], mode: str) -> None:
    """Every method on every split of at most so many pictures, without those that the ledger knows."""
    images = len(data.load(name).thin(at_most))
    done = {(row.method, row.variant.split(": ")[0], row.seed) for row in ledger.read().itertuples()
            if (row.dataset, row.mode, row.images) == (name, mode, images)}
    jobs = [(method, name, at_most, seed, mode) for seed in seeds for method in methods
            if (method.name, method.variant, seed) not in done]
    for _ in side_by_side(train, jobs):
        pass


def main(steps: dict[str, Callable[[str], None]]) -> None:
    """Run the steps that the command line names, or all; each gets the mode."""
    mode = modes.mode()
    if mode == "smoke" or set(sys.argv[1:]) - set(steps):
        sys.exit(f"Set IQA_MODE to quick or full and choose steps from {', '.join(steps)}.")
    for step in sys.argv[1:] or steps:
        try:
            steps[step](mode)
        except data.DatasetError as error:  # the sentence is enough, a traceback would hide it
            sys.exit(str(error))
