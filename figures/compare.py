"""Four papers and the baselines side by side: the same pictures, the same splits, every set that is here.

    python figures/compare.py [scores] [weights]

Every method is trained on the training part of each set and tested on its test part and on that of every other set
(variants "..., from NAME"). Rows go into the ledger; those that it has are not computed again, so a stopped run goes
on. IQA_MODE=quick (default) takes a part of each set and 5 splits, full all of it, the papers' settings and 10 splits.
`weights` copies what was trained on split 0 into the package: these files are what `iqa_core.score` reads.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
from pathlib import Path

import torch
import trainings

from iqa_core import baselines, data, dri, files, ledger, protocol, qfm, reiqa, yoto

SEEDS = {"quick": range(5), "full": range(10)}
PICTURES = {"quick": {"tid2013-kodak": 900, "biq2021": 1500, "offline": 450}, "full": {}}  # at most so many
CONFIGS = {"quick": (yoto.QUICK, qfm.QUICK, dri.QUICK), "full": (yoto.YOTOConfig(), qfm.QFMConfig(), dri.DRIConfig())}
NEED_REFERENCES = ("psnr", "ssim", "ms_ssim", "re-iqa fr")
CHEAP = (*NEED_REFERENCES, "brisque", "frozen ridge", "re-iqa")
METHODS = (*CHEAP, "qfm-iqm", "yoto", "dri-iqa")
SHIPPED = {"brisque": "biq2021", "frozen ridge": "biq2021", "re-iqa": "biq2021", "qfm-iqm": "biq2021",
           "yoto": "tid2013-kodak", "dri-iqa": "tid2013-kodak"}  # the set on which each was trained
WEIGHTS = Path(protocol.__file__).parent / "weights"


def sets(mode: str) -> dict[str, data.Dataset]:
    """Every scored set that is here, as many pictures of each as the mode takes."""
    names = ["offline", "tid2013-kodak", *(name for name in data.available() if data.cards()[name].low is not None)]
    return {name: data.load(name).thin(PICTURES[mode].get(name, 10**9)) for name in names}


def kept_file(mode: str, name: str, dataset: data.Dataset, seed: int) -> Path:
    return files.cache_dir() / "compare" / f"{mode}-{name.replace(' ', '-')}-{dataset.name}-{len(dataset)}-{seed}"


def build(name: str, dataset: data.Dataset, mode: str, seed: int):
    """A method, ready to be trained on a set. What it learns is kept in the cache folder."""
    of_yoto, of_qfm, of_dri = CONFIGS[mode]
    if name in ("psnr", "ssim", "ms_ssim"):
        return baselines.FullReference(name)
    base, *settings = {
        "brisque": (baselines.Brisque,), "frozen ridge": (baselines.FrozenRidge,), "re-iqa": (reiqa.ReIQA,),
        "re-iqa fr": (reiqa.ReIQA, reiqa.ReIQAConfig(full_reference=True)), "qfm-iqm": (qfm.QFMIQM, of_qfm),
        "yoto": (yoto.YOTO, of_yoto if dataset.card.reference else dataclasses.replace(of_yoto, task="nr")),
        # its first stages need pristine pictures; a set without references has none
        "dri-iqa": (dri.DRIIQA, of_dri, None if dataset.card.reference else data.load("cid22"))}[name]

    class Kept(base):
        def fit(self, train: data.Dataset, val: data.Dataset | None = None):
            super().fit(train, val if name in CHEAP else None)  # the last epoch counts, and looking at others takes time
            self.save(kept_file(mode, name, dataset, seed))
            return self

    return Kept(*settings)


def train(job: tuple) -> None:
    """One method on one set, on one split or several, tested on all sets."""
    name, on, seeds, mode = job
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    found = sets(mode)
    dataset = found.pop(on)
    others = [other for other in found.values() if other.card.reference or name not in NEED_REFERENCES]
    for seed in seeds:
        rows = protocol.run(build(name, dataset, mode, seed), dataset, [seed], mode, others=others)
        ledger.append(rows)
        print(rows[["method", "variant", "dataset", "seed", "srcc", "minutes"]].round(3).to_string(
            header=False, index=False), flush=True)


def scores(mode: str) -> None:
    """All methods on all sets; split by split, so that a run that is stopped has whole splits."""
    found, known = sets(mode), ledger.read()
    done = {(row.method, row.dataset, row.images, row.seed, row.variant) for row in known.itertuples() if row.mode == mode}

    def missing(name: str, dataset: data.Dataset, seed: int) -> bool:
        method = build(name, dataset, mode, seed)
        other = next(other for other in found.values() if other.name != dataset.name
                     and (other.card.reference or name not in NEED_REFERENCES))
        where, of = (other, f", from {dataset.name}") if hasattr(method, "fit") else (dataset, "")
        return not any((method.name, where.name, len(where), seed) == row[:4] and row[4].endswith(of)
                       and row[4].startswith(getattr(method, "variant", "")) for row in done)

    pairs = [(name, on) for name in METHODS for on, dataset in found.items()
             if dataset.card.reference or name not in NEED_REFERENCES]
    jobs = [(name, on, [seed for seed in SEEDS[mode] if missing(name, found[on], seed)], mode)
            for name, on in pairs if name in CHEAP]  # features once, then every split in a moment
    jobs += [(name, on, [seed], mode) for seed in SEEDS[mode] for name, on in pairs
             if name not in CHEAP and missing(name, found[on], seed)]
    workers = 1 if torch.cuda.is_available() else os.cpu_count()
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=1) as pool:
        for _ in pool.imap_unordered(train, [job for job in jobs if job[2]], chunksize=1):
            pass


def weights(mode: str) -> None:
    """The methods of split 0 as files of the package."""
    found = sets(mode)
    for name, on in SHIPPED.items():
        shutil.copyfile(kept_file(mode, name, found[on], 0), WEIGHTS / f"{name.replace(' ', '-')}.weights")


if __name__ == "__main__":
    trainings.main({"scores": scores, "weights": weights})
