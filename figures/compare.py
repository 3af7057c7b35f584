"""Four papers and the baselines side by side: the same images, the same splits, every set that is here.

    python figures/compare.py [scores] [weights] [speed]

Every method is trained on the training part of each set and tested on its test part and on that of every other set
(variants "..., from NAME"). Rows go into the ledger; those that it has are not computed again, so a stopped run goes
on. IQA_MODE=quick (default) takes a part of each set and 5 splits, full all of it, the papers' settings and 10 splits.
`make reproduce` does the same with a ledger of its own, and knows one mode more: smoke, a run-through of a few minutes.
`weights` copies what was trained on split 0 into the package: these files are what `iqa_core.score` reads. `speed`
measures how long these take for one image and how much memory, each in a process of its own, into `speed.csv`.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import statistics
import time
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import report
import torch
import trainings

from data_download.made import kodak
from figures import ledger
from iqa_core import baselines, data, dri, evaluate, files, metrics, qfm, reiqa, score, yoto

SEEDS = {"smoke": range(2), "quick": range(5), "full": range(10)}
EVERYTHING = 10**9
SMOKE_IMAGES = 90  # at most so many of each set
IMAGES = {"tid2013-kodak": 900, "biq2021": 1500, "offline": 450}  # at most so many in quick mode
CONFIGS = {"smoke": (yoto.SMOKE, qfm.SMOKE, dri.SMOKE), "quick": (yoto.QUICK, qfm.QUICK, dri.QUICK),
           "full": (yoto.YOTOConfig(), qfm.QFMConfig(), dri.DRIConfig())}
NEED_REFERENCES = ("psnr", "ssim", "ms_ssim", "re-iqa fr")
CHEAP = (*NEED_REFERENCES, "brisque", "frozen ridge", "re-iqa")
METHODS = (*CHEAP, "qfm-iqm", "yoto", "dri-iqa")
SHIPPED = {"brisque": "biq2021", "frozen ridge": "biq2021", "re-iqa": "biq2021", "qfm-iqm": "biq2021",
           "yoto": "tid2013-kodak", "dri-iqa": "tid2013-kodak"}  # the set on which each was trained
WEIGHTS = Path(evaluate.__file__).parent / "weights"


def names() -> list[str]:
    """The scored sets that this machine can offer."""
    names = ["offline", *(name for name in data.available() if data.cards()[name].low is not None)]
    try:
        kodak.fetch_kodak()
        names.insert(1, "tid2013-kodak")
    except kodak.KodakUnavailable as error:
        print(f"TID2013 is left out: {error}", flush=True)
    return names


def at_most(name: str, mode: str) -> int:
    """How many images of a set a mode takes."""
    return {"smoke": SMOKE_IMAGES, "quick": IMAGES.get(name, EVERYTHING), "full": EVERYTHING}[mode]


def load(name: str, mode: str) -> data.Dataset:
    """As many images of a set as the mode takes."""
    return data.load(name).thin(at_most(name, mode))


def sets(mode: str) -> dict[str, data.Dataset]:
    """All sets that are here."""
    return {name: load(name, mode) for name in names()}


def tested(datasets: dict[str, data.Dataset], name: str) -> list[data.Dataset]:
    """The sets to which a method applies."""
    return [dataset for dataset in datasets.values() if dataset.card.reference or name not in NEED_REFERENCES]


def trained(datasets: dict[str, data.Dataset], name: str, mode: str) -> list[data.Dataset]:
    """The sets on which a method is trained.

    In smoke the slow ones learn only on the set that is made here. In full they need a GPU: at the papers' settings a
    CPU would take weeks.
    """
    applies = tested(datasets, name)
    if mode == "full" and name not in CHEAP and not torch.cuda.is_available():
        return []
    if name == "dri-iqa" and "cid22" not in data.available():  # it needs pristine images, see `build`
        applies = [dataset for dataset in applies if dataset.card.reference]
    if mode == "smoke" and name not in CHEAP:
        return [dataset for dataset in applies if dataset.card.proxy]
    return applies


def kept_file(mode: str, name: str, dataset: data.Dataset, seed: int) -> Path:
    return files.cache_dir() / "compare" / f"{mode}-{name.replace(' ', '-')}-{dataset.name}-{len(dataset)}-{seed}"


def build(name: str, dataset: data.Dataset, mode: str, seed: int):
    """A method, ready to be trained on a set. What it learns is kept in the cache folder, but not in smoke."""
    of_yoto, of_qfm, of_dri = CONFIGS[mode]
    if name in ("psnr", "ssim", "ms_ssim"):
        return baselines.FullReference(name)
    base, *settings = {
        "brisque": (baselines.Brisque,), "frozen ridge": (baselines.FrozenRidge,), "re-iqa": (reiqa.ReIQA,),
        "re-iqa fr": (reiqa.ReIQA, reiqa.ReIQAConfig(full_reference=True)), "qfm-iqm": (qfm.QFMIQM, of_qfm),
        "yoto": (yoto.YOTO, of_yoto if dataset.card.reference else dataclasses.replace(of_yoto, task="nr")),
        # its first stages need pristine images; a set without references has none
        "dri-iqa": (dri.DRIIQA, of_dri, None if dataset.card.reference else data.load("cid22"))}[name]

    class Kept(base):
        def fit(self, train: data.Dataset, val: data.Dataset | None = None):
            super().fit(train, val if name in CHEAP else None)  # the last epoch counts; looking at others takes time
            if mode != "smoke":
                self.save(kept_file(mode, name, dataset, seed))
            return self

    return Kept(*settings)


class Job(NamedTuple):
    """One method on one set: which splits, in which mode, into which ledger (None = the committed one)."""

    method: str
    dataset: str
    others: list[str]  # sets on which it is tested as well
    seeds: list[int]
    mode: str
    ledger: Path | None

    def __str__(self) -> str:
        return f"{self.method} on {self.dataset}, split{'s' * (len(self.seeds) > 1)} {', '.join(map(str, self.seeds))}"


def train(job: Job) -> tuple[pd.DataFrame | None, str]:
    """One method on one split or several. Its rows, and what went wrong."""
    tables = []
    try:
        dataset = load(job.dataset, job.mode)
        others = [load(name, job.mode) for name in job.others]
        for seed in job.seeds:
            method = build(job.method, dataset, job.mode, seed)
            rows = evaluate.run(method, dataset, [seed], job.mode, others=others)
            known = read_ledger(job.ledger).set_index(ledger.KEY).index  # claims may rest on a row that is there
            rows = rows[~rows.set_index(ledger.KEY).index.isin(known)]
            ledger.append(rows, job.ledger)
            tables.append(rows)
    except Exception as error:  # one method that fails must not take the others along; `scores` names it
        return None, f"{type(error).__name__}: {error}"
    return pd.concat(tables), ""


def describe(job: Job, result: tuple[pd.DataFrame | None, str]) -> str:
    """One line about a finished job: the median SRCC on its own set."""
    rows, error = result
    if error:
        return f"{job} FAILED: {error}"
    own = rows[(rows["dataset"] == job.dataset) & ~rows["variant"].str.contains("best epoch")]
    if own.empty:
        return f"{job}: tested on the other sets"
    parts = [f"{variant or job.method} {srcc:.3f}" for variant, srcc in own.groupby("variant")["srcc"].median().items()]
    return f"{job} of {own['images'].iloc[0]} images: SRCC {', '.join(parts)}"


def read_ledger(path: Path | None) -> pd.DataFrame:
    """The rows of a ledger; none where it does not exist yet."""
    try:
        return ledger.read(path)
    except FileNotFoundError:
        return pd.DataFrame(columns=ledger.COLUMNS)


def plan(mode: str, datasets: dict[str, data.Dataset], path: Path | None = None) -> list[Job]:
    """The jobs whose rows a ledger lacks; split by split, so that a run that is stopped has whole splits."""
    known = read_ledger(path)
    known = known[known["mode"] == mode]

    def elsewhere(name: str, on: str) -> list[data.Dataset]:
        """The other sets on which a method is tested: none in smoke, nor for a metric that learns nothing."""
        if mode == "smoke" or name in ("psnr", "ssim", "ms_ssim"):
            return []
        return [other for other in tested(datasets, name) if other.name != on]

    def lacks(name: str, on: str) -> dict[int, bool]:
        """Seeds of which the ledger lacks a row that `train` makes; True, if it is the one on the set's own test part."""
        method, dataset = build(name, datasets[on], mode, 0), datasets[on]

        def seen(where: data.Dataset, end: str) -> set[int]:
            mine = known[(known["method"] == method.name) & (known["dataset"] == where.name)
                         & (known["images"] == len(where))]
            start = re.escape(getattr(method, "variant", ""))
            return set(mine[mine["variant"].astype(str).str.fullmatch(f"{start}(: NR)?{end}")]["seed"])

        own = seen(dataset, "")
        across = set.intersection(*(seen(other, f", from {on}") for other in elsewhere(name, on)), set(SEEDS[mode]))
        return {seed: seed not in own for seed in SEEDS[mode] if seed not in own & across}

    jobs, late = [], []
    for name, on in [(name, dataset.name) for name in METHODS for dataset in trained(datasets, name, mode)]:
        todo, others = lacks(name, on), [other.name for other in elsewhere(name, on)]
        if name in CHEAP:  # features once for all splits
            jobs += [Job(name, on, others, [*todo], mode, path)] if todo else []
        else:  # first what has no row at all, split by split; last what is only to be tested on the other sets
            late += [((not own, seed, datasets[on].card.proxy), Job(name, on, others, [seed], mode, path))
                     for seed, own in todo.items()]
    late = [job for _, job in sorted(late, key=lambda pair: pair[0])]
    return late + jobs if mode == "smoke" else jobs + late  # with few jobs the longest must not come last


def scores(mode: str, datasets: dict[str, data.Dataset] | None = None, path: Path | None = None,
           patience: float | None = None) -> list[str]:
    """All methods on all sets (default: those that are here), into a ledger. A sentence for each job that failed."""
    jobs, failed = plan(mode, datasets or sets(mode), path), []
    results = trainings.side_by_side(train, jobs, fresh=mode != "smoke", patience=patience)
    for job, (_, error) in trainings.announced(results, len(jobs), describe):
        if error:
            failed.append(f"{job}: {error}")
    return failed


def weights(mode: str) -> None:
    """The methods of split 0 as files of the package, and the table of their cards: what each file reaches on its test part."""
    found, table = sets(mode), []
    for name, on in SHIPPED.items():
        path = WEIGHTS / f"{name.replace(' ', '-')}.weights"
        shutil.copyfile(kept_file(mode, name, found[on], 0), path)
        method = score.load_method(name)
        train, _, test = data.splits(found[on], 0)
        results = method.predictions(test) if hasattr(method, "predictions") else {"NR": method.predict(test)}
        reached = ", ".join(f"{task} {metrics.srcc(pred, test.scores):.3f}" for task, pred in results.items())
        table.append({"file": path.name, "trained on": on, "pictures": len(train), "test pictures": len(test),
                      "SRCC there": reached, "MB": f"{path.stat().st_size / 1e6:.1f}"})
    report.stamp(WEIGHTS / "README.md", "weights", pd.DataFrame(table))


def cost(job: tuple[str, int, int]) -> dict:
    """Seconds and memory of one method for one picture and its reference, with one thread."""
    name, height, width = job
    torch.set_num_threads(1)
    before = evaluate.machine()[0]
    method = score.load_method(name)
    net = getattr(method, "net", None) or getattr(method, "nets", None) or getattr(method, "pyramid", None)
    x, x_ref = torch.rand(2, 1, 3, height, width, generator=torch.Generator().manual_seed(0))
    seconds = []
    with torch.inference_mode():
        for _ in range(6):
            start = time.perf_counter()
            method.score(x, x_ref)
            seconds.append(time.perf_counter() - start)
    memory, hardware = evaluate.machine()
    return {"method": name, "height": height, "width": width, "ms": 1000 * statistics.median(seconds[1:]),
            "memory_mb": memory - before, "parameters": sum(p.numel() for p in net.parameters()) if net is not None else 0,
            "hardware": hardware, "date": date.today().isoformat()}


def speed(mode: str) -> None:
    """One line a method and size; memory is the growth of the process's peak by loading and scoring."""
    jobs = [(name, *size) for name in score.METHODS for size in ((384, 512), (768, 1024))]
    table = pd.DataFrame(row for _, row in trainings.side_by_side(cost, jobs, workers=1))
    table.round({"ms": 1, "memory_mb": 0}).to_csv(Path(__file__).with_name("speed.csv"), index=False)
    print(table.round(1).to_string(index=False))


def scores_or_stop(mode: str) -> None:
    if failed := scores(mode):
        raise SystemExit("\n".join(["These failed:", *failed]))


if __name__ == "__main__":
    trainings.main({"scores": scores_or_stop, "weights": weights, "speed": speed})
