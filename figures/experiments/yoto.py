"""YOTO judged: trained for one task, for the other, for both; parts left out one by one; claims.

    python -m figures.experiments.yoto [scores] [ablations] [claims]

A stopped run goes on: see `trainings`. IQA_MODE=quick (default) trains `yoto.QUICK` on 5 splits,
full the paper's settings on 10.
"""

from __future__ import annotations

import dataclasses

import pandas as pd

import data_download
from figures import ledger, report, trainings
from iqa_core import baselines, comparisons, evaluate, yoto

PAPER = "YOTO"
DATASET = "tid2013-kodak"
SEEDS = {"quick": range(5), "full": range(10)}
EVERYTHING = 10**9
IMAGES = {"quick": {"tid2013-kodak": 900, "biq2021": 1500},  # at most so many
          "full": {"tid2013-kodak": EVERYTHING, "biq2021": EVERYTHING}}
CONFIGS = {"quick": yoto.QUICK, "full": yoto.YOTOConfig()}
REMARKS = {"quick": "lite0 from ImageNet, frozen, width and crops small, few epochs on a CPU",
           "full": ""}
TASKS = {"joint": {}, "fr": {"task": "fr"}, "nr": {"task": "nr"}}
ABLATIONS = {"no ha": {"ha": False}, "no sda": {"sda": False},
             "queries from distorted": {"query_from": "distorted"}}
MORE_ABLATIONS = {"no channel": {"channel": "off"}, "no task embedding": {"task_embedding": False}}


def methods(mode: str) -> dict[str, yoto.YOTO]:
    """All that is trained, by the name that the experiment has for it."""
    changes = TASKS | ABLATIONS
    if mode == "full":  # in quick mode they would take as long again
        changes = changes | MORE_ABLATIONS
    return {name: yoto.YOTO(dataclasses.replace(CONFIGS[mode], **change))
            for name, change in changes.items()}


def scores(mode: str) -> None:
    """TID2013 for both tasks and each alone, and metrics on the same images; BIQ2021, which has no
    references."""
    tid = data_download.load(DATASET).thin(IMAGES[mode][DATASET])
    for metric in ("psnr", "ssim", "ms_ssim"):
        ledger.append(evaluate.run(baselines.FullReference(metric), tid, SEEDS[mode], mode))
    every = methods(mode)
    trainings.train_all([every[name] for name in TASKS], DATASET, len(tid), SEEDS[mode], mode)
    if "biq2021" in data_download.available():
        trainings.train_all([every["nr"]], "biq2021", IMAGES[mode]["biq2021"], SEEDS[mode], mode)


def ablations(mode: str) -> None:
    """One part left out or changed at a time."""
    chosen = [method for name, method in methods(mode).items() if name not in TASKS]
    trainings.train_all(chosen, DATASET, IMAGES[mode][DATASET], SEEDS[mode], mode)


def claims(mode: str) -> None:
    """Each claim from pairs of trainings on the same splits."""
    rows = trainings.rows_on(DATASET, IMAGES[mode][DATASET], mode)
    every = methods(mode)

    def of(name: str, task: str) -> pd.DataFrame:
        mine = trainings.rows_of(rows, every[name])
        return mine[(mine["task"] == task) & (mine["epoch"] == "last")]

    def test(name: str, text: str, with_it: str, without: str, task: str, remark: str = "") -> None:
        effect = comparisons.compare(of(with_it, task), of(without, task))
        remarks = [part for part in (REMARKS[mode], remark) if part]
        report.claim(f"yoto {name}", PAPER, text, DATASET,
                     f"SRCC {task}, ({with_it}) - ({without})", effect, "; ".join(remarks))

    test("a", "joint training lifts NR", "joint", "nr", "NR")
    test("b", "joint training costs FR nothing", "joint", "fr", "FR",
         "no difference is what is claimed")
    # The two tasks of one joint training are not two claims. HA looks at the reference, so it is
    # judged on FR; SDA needs none, so it is judged on NR.
    test("c FR", "HA helps FR", "joint", "no ha", "FR", "FR stands for both tasks")
    test("d NR", "SDA helps NR", "joint", "no sda", "NR", "NR stands for both tasks")


if __name__ == "__main__":
    trainings.main({"scores": scores, "ablations": ablations, "claims": claims})
