"""Many trainings, judged into the ledger: what the experiments on the papers share.

Jobs run side by side on the CPU cores, or one at a time on a GPU. Rows that the ledger has are not
computed again, so a stopped run goes on.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import pandas as pd
import torch

import data_download
from figures import ledger
from iqa_core import data, evaluate
from lesson import modes

SILENCE = 60.0  # seconds without a finished job after which a line tells what is still running


def workers_at_most(limit: int = 4) -> int:
    """Processes that make sense here: one on a GPU, else one a CPU core, `limit` at most."""
    if torch.cuda.is_available():
        return 1
    return min(limit, os.cpu_count() or 1)


def side_by_side(function: Callable, jobs: Iterable, workers: int = 4, fresh: bool = True,
                 patience: float | None = None) -> Iterator[tuple]:
    """Yield (job, function(job)) as jobs finish, as many at a time as there are cores.

    Args:
        function: of a module, so that another process can import it.
        jobs: in the order in which they begin.
        workers: at most so many processes; one on a GPU.
        fresh: each job in a process of its own, so that its peak of memory is its own; False saves
            imports.
        patience: seconds without any finished job after which the rest is given up; None waits for
            ever.

    Raises:
        RuntimeError: a process was killed, as the system does when memory is short; or patience is
            over. The processes that are left are ended first. Whatever else a job raises is raised
            here.
    """
    jobs = list(jobs)
    workers = min(workers_at_most(workers), max(1, len(jobs)))
    threads = max(1, (os.cpu_count() or 1) // workers)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # the processes share the cores
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, context, max_tasks_per_child=1 if fresh else None)
    waiting = {executor.submit(function, job): job for job in jobs}
    last = time.monotonic()
    try:
        while waiting:
            done, _ = wait(waiting, timeout=SILENCE, return_when=FIRST_COMPLETED)
            for future in done:
                yield waiting.pop(future), future.result()
            if done:
                last = time.monotonic()
                continue
            running = "; ".join(str(job) for job in list(waiting.values())[:workers])
            silent = time.monotonic() - last
            if patience is not None and silent > patience:
                raise RuntimeError(f"no job has ended for {duration(silent)}; given up: {running}")
            print(f"  still running, {duration(silent)} since the last news: {running}", flush=True)
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process was killed, perhaps because memory was short. Close other programs, "
            "or run it with fewer images, and start it again.") from error
    finally:
        if waiting:
            for process in multiprocessing.active_children():
                process.kill()
        executor.shutdown(cancel_futures=True)


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(8), duration(200), duration(9000)
    ('8 s', '3 min 20 s', '2 h 30 min')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def announced(results: Iterable[tuple], total: int,
              describe: Callable[[tuple, object], str]) -> Iterator[tuple]:
    """Pass (job, result) on, and print a line each: what it was, its number, and the time left."""
    start = time.monotonic()
    for number, (job, result) in enumerate(results, 1):
        rest = ""
        if number < total:
            left = (time.monotonic() - start) / number * (total - number)
            rest = f", about {duration(left)} left"
        print(f"[{number} of {total}{rest}] {describe(job, result)}", flush=True)
        yield job, result


def rows_on(name: str, at_most: int, mode: str) -> pd.DataFrame:
    """Rows of the ledger about a set of at most so many images in a mode.

    What was trained on another set and tested on this one is left out.
    """
    images = len(data_download.load(name).thin(at_most))
    rows = ledger.read()
    here = rows["trained_on"].isin(["", name])
    of_set = (rows["dataset"] == name) & (rows["images"] == images)
    return rows[here & of_set & (rows["mode"] == mode)]


def rows_of(rows: pd.DataFrame, method) -> pd.DataFrame:
    """Rows of a method with exactly its config and blocks."""
    identity = evaluate.identity(method)
    mine = pd.Series(True, rows.index)
    for column, value in identity.items():
        mine &= rows[column] == value
    return rows[mine]


def train(job: tuple) -> None:
    """One training on one split, judged into the ledger."""
    method, name, at_most, seed, repeat, mode = job
    rows = evaluate.run(method, data_download.load(name).thin(at_most), [seed], mode,
                        repeats=[repeat])
    ledger.append(rows)
    columns = ["method", "variant", "task", "epoch", "dataset", "seed", "srcc", "minutes"]
    print(rows[columns].round(3).to_string(header=False, index=False), flush=True)


def train_all(methods: list, name: str, at_most: int, seeds: Iterable[int], mode: str,
              repeats: int = 1) -> None:
    """Every method so often on every split of at most so many images, without what the ledger
    has."""
    rows = rows_on(name, at_most, mode)
    mine = [rows_of(rows, method) for method in methods]
    done = [set(zip(each["seed"], each["repeat"])) for each in mine]
    jobs = []
    for repeat in range(repeats):
        for seed in seeds:
            for method, trainings_done in zip(methods, done):
                if (seed, repeat) not in trainings_done:
                    jobs.append((method, name, at_most, seed, repeat, mode))
    for _ in side_by_side(train, jobs):
        pass


def in_both(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of two arms the rows of the trainings that both have, equally many on each split.

    >>> a = pd.DataFrame({"seed": [0, 0, 1, 1], "repeat": [0, 1, 0, 1]})
    >>> [len(rows) for rows in in_both(a, a[:3])]
    [2, 2]
    """
    number = ["seed", "repeat"]
    both = a[number].merge(b[number])
    on_each = both.groupby("seed").size()
    if len(both):
        both = both[both["repeat"] < on_each.min()]
    return a.merge(both, on=number), b.merge(both, on=number)


def main(steps: dict[str, Callable[[str], None]]) -> None:
    """Run the steps that the command line names, or all; each gets the mode."""
    mode = modes.mode()
    chosen = sys.argv[1:] or list(steps)
    if mode == "smoke" or set(chosen) - set(steps):
        sys.exit(f"Set IQA_MODE to quick or full and choose steps from {', '.join(steps)}.")
    for step in chosen:
        try:
            steps[step](mode)
        except data.DatasetError as error:  # its sentence is enough, a traceback would hide it
            sys.exit(str(error))
