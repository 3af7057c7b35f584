"""Four papers and the baselines side by side: the same images and splits, every set that is here.

    python -m figures.compare [scores] [weights] [speed]

Every method is trained on the training part of each set, and tested on its test part and on that of
every other set. Rows go into the ledger; those that it has are not computed again, so a stopped run
goes on. IQA_MODE=quick (default) takes a part of each set and 5 splits, full all of it, the papers'
settings and 10 splits. `make reproduce` does the same with a ledger of its own, and knows one mode
more: smoke, a run-through of a few minutes. `weights` copies what was trained on split 0 into the
package: these files are what `iqa_core.score` reads. `speed` measures how long these take for one
image and how much memory, each in a process of its own, into speed.csv.
"""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import time
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

import data_download
from data_download.made import kodak
from figures import FOLDER, ledger, machine, report, trainings
from iqa_core import (
    baselines, data, dri, evaluate, features, files, frozen_mlp, metrics, qfm, reiqa, score, yoto)

SEEDS = {"smoke": range(2), "quick": range(5), "full": range(10)}
EVERYTHING = 10**9
SMOKE_IMAGES = 90  # at most so many of each set
IMAGES = {"tid2013-kodak": 900, "biq2021": 1500, "offline": 450}  # at most so many in quick mode
YOTO_CONFIGS = {"smoke": yoto.SMOKE, "quick": yoto.QUICK, "full": yoto.YOTOConfig()}
QFM_CONFIGS = {"smoke": qfm.SMOKE, "quick": qfm.QUICK, "full": qfm.QFMConfig()}
DRI_CONFIGS = {"smoke": dri.SMOKE, "quick": dri.QUICK, "full": dri.DRIConfig()}
METRICS = ("psnr", "ssim", "ms_ssim")  # they learn nothing
NEED_REFERENCES = (*METRICS, "re-iqa fr")
CHEAP = (*NEED_REFERENCES, "brisque", "frozen ridge", "frozen mlp", "re-iqa")
METHODS = (*CHEAP, "qfm-iqm", "yoto", "dri-iqa")
# the set on which each shipped file was trained
SHIPPED = {"brisque": "biq2021", "frozen ridge": "biq2021", "frozen mlp": "biq2021",
           "re-iqa": "biq2021", "qfm-iqm": "biq2021", "yoto": "tid2013-kodak",
           "dri-iqa": "tid2013-kodak"}
WEIGHTS = Path(score.__file__).parent / "weights"


# --- the sets ------------------------------------------------------------------------------------

def names() -> list[str]:
    """The scored sets that this machine can offer."""
    cards = data_download.cards()
    here = [name for name in data_download.available() if cards[name].low is not None]
    try:
        kodak.fetch_kodak()
    except kodak.KodakUnavailable as error:
        print(f"TID2013 is left out: {error}", flush=True)
        return ["offline", *here]
    return ["offline", "tid2013-kodak", *here]


def at_most(name: str, mode: str) -> int:
    """How many images of a set a mode takes."""
    if mode == "smoke":
        return SMOKE_IMAGES
    if mode == "quick":
        return IMAGES.get(name, EVERYTHING)
    return EVERYTHING


def load(name: str, mode: str) -> data.Dataset:
    """As many images of a set as the mode takes."""
    return data_download.load(name).thin(at_most(name, mode))


def sets(mode: str) -> dict[str, data.Dataset]:
    """All sets that are here."""
    return {name: load(name, mode) for name in names()}


def tested(datasets: dict[str, data.Dataset], name: str) -> list[data.Dataset]:
    """The sets to which a method applies."""
    return [dataset for dataset in datasets.values()
            if dataset.card.reference or name not in NEED_REFERENCES]


def trained(datasets: dict[str, data.Dataset], name: str, mode: str) -> list[data.Dataset]:
    """The sets on which a method is trained.

    In smoke the slow ones learn only on the set that is made here. In full they need a GPU: at the
    papers' settings a CPU would take weeks.
    """
    applies = tested(datasets, name)
    if mode == "full" and name not in CHEAP and not torch.cuda.is_available():
        return []
    pristine = DRI_CONFIGS[mode].parts or "cid22" in data_download.available()
    if name == "dri-iqa" and not pristine:
        # it needs pristine images, see `settings`
        applies = [dataset for dataset in applies if dataset.card.reference]
    if mode == "smoke" and name not in CHEAP:
        return [dataset for dataset in applies if dataset.card.proxy]
    return applies


def others(datasets: dict[str, data.Dataset], name: str, on: str, mode: str) -> list[data.Dataset]:
    """The other sets on which a method that was trained on one is tested.

    None in smoke, nor for a metric that learns nothing.
    """
    if mode == "smoke" or name in METRICS:
        return []
    return [other for other in tested(datasets, name) if other.name != on]


# --- the methods ---------------------------------------------------------------------------------

def weights_file(mode: str, name: str, dataset: data.Dataset, seed: int) -> Path:
    """Where the weights of a training are written."""
    file = f"{mode}-{name.replace(' ', '-')}-{dataset.name}-{len(dataset)}-{seed}"
    return files.cache_dir() / "compare" / file


def settings(name: str, dataset: data.Dataset, mode: str) -> tuple:
    """The class of a method and its arguments in a mode, for a set."""
    if name in METRICS:
        return baselines.FullReference, name
    if name == "brisque":
        return (baselines.Brisque,)
    if name == "frozen ridge":
        return (features.FrozenRidge,)
    if name == "frozen mlp":
        return (frozen_mlp.FrozenMLP,)
    if name == "re-iqa":
        return (reiqa.ReIQA,)
    if name == "re-iqa fr":
        return reiqa.ReIQA, reiqa.ReIQAConfig(full_reference=True)
    if name == "qfm-iqm":
        return qfm.QFMIQM, QFM_CONFIGS[mode]
    if name == "yoto":
        config = YOTO_CONFIGS[mode]
        if not dataset.card.reference:
            quick = mode == "quick"
            config = yoto.AUTHENTIC if quick else dataclasses.replace(config, task="nr")
        return yoto.YOTO, config
    config = DRI_CONFIGS[mode]
    if mode == "quick" and not dataset.card.reference:
        config = dri.AUTHENTIC
    if config.parts or dataset.card.reference:
        return dri.DRIIQA, config
    # Its first stages need pristine images; a set without references has none.
    return dri.DRIIQA, config, data_download.load("cid22")


def build(name: str, dataset: data.Dataset, mode: str, seed: int):
    """A method, ready to be trained on a set.

    What it has learnt is written into the cache folder, but not in smoke. In full mode a slow one
    leaves a checkpoint after every epoch, so that one that was killed goes on.
    """
    base, *arguments = settings(name, dataset, mode)
    if name in METRICS:
        return base(*arguments)

    class Saved(base):
        name = base.name  # so that its rows are those of the method itself

        def fit(self, train: data.Dataset, val: data.Dataset | None = None):
            path = weights_file(mode, name, dataset, seed)
            if name in CHEAP:
                super().fit(train, val)
            else:
                # The last epoch counts; to look at the others as well takes time.
                checkpoint = path.with_name(f"{path.name}.ckpt") if mode == "full" else None
                super().fit(train, checkpoint=checkpoint)
            if mode != "smoke":
                self.save(path)
            return self

    return Saved(*arguments)


# --- the jobs ------------------------------------------------------------------------------------

class Job(NamedTuple):
    """One method on one set: which splits, in which mode, into which ledger.

    Fields:
        others: names of the sets on which it is tested as well.
        ledger: path of the ledger; None = the committed one.
    """

    method: str
    dataset: str
    others: list[str]
    seeds: list[int]
    mode: str
    ledger: Path | None

    def __str__(self) -> str:
        splits = "split" if len(self.seeds) == 1 else "splits"
        return f"{self.method} on {self.dataset}, {splits} {', '.join(map(str, self.seeds))}"


def read_ledger(path: Path | None) -> pd.DataFrame:
    """The rows of a ledger; none where it does not exist yet."""
    try:
        return ledger.read(path)
    except FileNotFoundError:
        return pd.DataFrame(columns=ledger.COLUMNS)


def train(job: Job) -> tuple[pd.DataFrame | None, str]:
    """One method on one split or several. Its rows, and what went wrong."""
    tables = []
    try:
        dataset = load(job.dataset, job.mode)
        elsewhere = [load(name, job.mode) for name in job.others]
        for seed in job.seeds:
            method = build(job.method, dataset, job.mode, seed)
            rows = evaluate.run(method, dataset, [seed], job.mode, elsewhere)
            # A claim may rest on a row that is there: it stays.
            known = read_ledger(job.ledger).set_index(ledger.KEY).index
            rows = rows[~rows.set_index(ledger.KEY).index.isin(known)]
            ledger.append(rows, job.ledger)
            tables.append(rows)
    except Exception as error:  # a method that fails must not take the others along
        return None, f"{type(error).__name__}: {error}"
    return pd.concat(tables), ""


def describe(job: Job, result: tuple[pd.DataFrame | None, str]) -> str:
    """One line about a finished job: the median SRCC on its own set."""
    rows, error = result
    if error:
        return f"{job} FAILED: {error}"
    own = rows[(rows["dataset"] == job.dataset) & (rows["epoch"] != "best")]
    if own.empty:
        return f"{job}: tested on the other sets"
    medians = own.groupby("task")["srcc"].median()
    parts = ", ".join(f"{task} {srcc:.3f}" for task, srcc in medians.items())
    return f"{job} of {own['images'].iloc[0]} images: SRCC {parts}"


def seeds_to_do(known: pd.DataFrame, name: str, on: str, datasets: dict[str, data.Dataset],
                mode: str) -> dict[int, bool]:
    """Seeds of which the ledger lacks a row that `train` makes.

    Returns:
        seed -> True if there is no row of the set's own test part, False if only tests on other
        sets are missing.
    """
    method = build(name, datasets[on], mode, 0)
    mine = trainings.rows_of(known, method)
    mine = mine[(mine["epoch"] == "last") & mine["trained_on"].isin(["", on])]

    def seeds(where: data.Dataset) -> set[int]:
        there = (mine["dataset"] == where.name) & (mine["images"] == len(where))
        return set(mine.loc[there, "seed"])

    own = seeds(datasets[on])
    complete = own.copy()
    for other in others(datasets, name, on, mode):
        complete &= seeds(other)
    return {seed: seed not in own for seed in SEEDS[mode] if seed not in complete}


def plan(mode: str, datasets: dict[str, data.Dataset], path: Path | None = None) -> list[Job]:
    """The jobs whose rows a ledger lacks.

    They go split by split, so that a run that is stopped has whole splits.
    """
    known = read_ledger(path)
    known = known[known["mode"] == mode]
    cheap: list[Job] = []
    slow: list[tuple[tuple, Job]] = []  # with what they are sorted by
    for name in METHODS:
        for dataset in trained(datasets, name, mode):
            on = dataset.name
            elsewhere = [other.name for other in others(datasets, name, on, mode)]
            seeds = seeds_to_do(known, name, on, datasets, mode)
            if name in CHEAP and seeds:  # features once for all splits
                cheap.append(Job(name, on, elsewhere, list(seeds), mode, path))
            elif name not in CHEAP:
                for seed, nothing_there in seeds.items():
                    # First what has no row at all, split by split, sets of human scores first;
                    # last what is only to be tested on the other sets.
                    place = (not nothing_there, seed, dataset.card.proxy)
                    slow.append((place, Job(name, on, elsewhere, [seed], mode, path)))
    slow_jobs = [job for _, job in sorted(slow, key=lambda pair: pair[0])]
    if mode == "smoke":  # with few jobs the longest must not come last
        return slow_jobs + cheap
    return cheap + slow_jobs


def scores(mode: str, datasets: dict[str, data.Dataset] | None = None, path: Path | None = None,
           patience: float | None = None) -> list[str]:
    """All methods on all sets (default: those that are here), into a ledger.

    Returns:
        A sentence for each job that failed.
    """
    jobs = plan(mode, datasets or sets(mode), path)
    failed = []
    results = trainings.side_by_side(train, jobs, fresh=mode != "smoke", patience=patience)
    for job, (_, error) in trainings.announced(results, len(jobs), describe):
        if error:
            failed.append(f"{job}: {error}")
    return failed


def scores_or_exit(mode: str) -> None:
    """As `scores`; the program ends if a job failed."""
    failed = scores(mode)
    if failed:
        raise SystemExit("\n".join(["These failed:", *failed]))


# --- what is shipped -----------------------------------------------------------------------------

def weights(mode: str) -> None:
    """The methods of split 0 as files of the package, and the table of their cards.

    The table tells what each file reaches on its test part.
    """
    table = []
    for name, on in SHIPPED.items():
        dataset = load(on, mode)
        path = WEIGHTS / f"{name.replace(' ', '-')}.weights"
        shutil.copyfile(weights_file(mode, name, dataset, 0), path)
        method = score.load_method(name)
        train_part, _, test_part = data.splits(dataset, 0)
        reached = [f"{task} {metrics.srcc(predicted, test_part.scores):.3f}"
                   for (task, _), predicted in evaluate.predictions(method, test_part).items()]
        table.append({"file": path.name, "trained on": on, "images": len(train_part),
                      "test images": len(test_part), "SRCC there": ", ".join(reached),
                      "MB": f"{path.stat().st_size / 1e6:.1f}"})
    report.stamp(WEIGHTS / "README.md", "weights", pd.DataFrame(table))


def parameters(method) -> int:
    """The number of parameters of all networks that a method holds; 0 if it has none."""
    tensors = set()  # one that two networks share counts once
    for part in vars(method).values():
        if isinstance(part, torch.nn.Module):
            tensors |= set(part.parameters())
    return sum(tensor.numel() for tensor in tensors)


def cost(job: tuple[str, int, int]) -> dict:
    """Seconds and memory of one method for one image and its reference, with one thread."""
    name, height, width = job
    torch.set_num_threads(1)
    before = machine.peak_memory_mb()
    method = score.load_method(name)
    generator = torch.Generator().manual_seed(0)
    x, x_ref = torch.rand(2, 1, 3, height, width, generator=generator)
    seconds = []
    with torch.inference_mode():
        for _ in range(6):
            start = time.perf_counter()
            method.score(x, x_ref)
            seconds.append(time.perf_counter() - start)
    return {"method": name, "height": height, "width": width,
            "ms": 1000 * statistics.median(seconds[1:]),  # the first one is a warm-up
            "memory_mb": machine.peak_memory_mb() - before, "parameters": parameters(method),
            "hardware": machine.hardware(), "date": date.today().isoformat()}


def speed(mode: str) -> None:
    """One line a method and size.

    Memory is the growth of the process's peak by loading and scoring.
    """
    jobs = [(name, *size) for name in score.METHODS for size in ((384, 512), (768, 1024))]
    results = trainings.side_by_side(cost, jobs, workers=1)
    table = pd.DataFrame(row for _, row in results)
    table.round({"ms": 1, "memory_mb": 0}).to_csv(FOLDER / "speed.csv", index=False)
    print(table.round(1).to_string(index=False))


if __name__ == "__main__":
    trainings.main({"scores": scores_or_exit, "weights": weights, "speed": speed})
