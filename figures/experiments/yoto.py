"""YOTO judged: trainings for one task, for the other and for both; its parts left out one by one; the claims.

    python figures/yoto.py [scores] [ablations] [claims]

A stopped run goes on: see `trainings`. IQA_MODE=quick (default) trains `yoto.QUICK` on 5 splits, full the paper's settings on 10.
"""

from __future__ import annotations

import dataclasses

import report
import trainings

from figures import ledger
from iqa_core import baselines, data, evaluate, yoto

PAPER = "YOTO"
SEEDS = {"quick": range(5), "full": range(10)}
PICTURES = {"quick": {"tid2013-kodak": 900, "biq2021": 1500}, "full": {}}  # at most so many, default all
CONFIGS = {"quick": yoto.QUICK, "full": yoto.YOTOConfig()}
REMARKS = {"quick": "lite0 from ImageNet, width and crops small, few epochs on a CPU", "full": ""}
ABLATIONS = {"quick": {"ha": False, "sda": False, "asks": "distorted"}}  # the rest takes as long again
ABLATIONS["full"] = ABLATIONS["quick"] | {"channel": "off", "task_embedding": False}


def train(name: str, changes: list[dict], mode: str) -> None:
    methods = [yoto.YOTO(dataclasses.replace(CONFIGS[mode], **change)) for change in changes]
    trainings.train_all(methods, name, PICTURES[mode].get(name, 10**9), SEEDS[mode], mode)


def scores(mode: str) -> None:
    """TID2013 for both tasks and each alone, and metrics on the same pictures; BIQ2021, which has no references."""
    tid = data.load("tid2013-kodak").thin(PICTURES[mode].get("tid2013-kodak", 10**9))
    for metric in ("psnr", "ssim", "ms_ssim"):
        ledger.append(evaluate.run(baselines.FullReference(metric), tid, SEEDS[mode], mode))
    train("tid2013-kodak", [{"task": task} for task in ("joint", "fr", "nr")], mode)
    if "biq2021" in data.available():
        train("biq2021", [{"task": "nr"}], mode)


def ablations(mode: str) -> None:
    """One part left out or changed at a time."""
    train("tid2013-kodak", [{part: off} for part, off in ABLATIONS[mode].items()], mode)


def claims(mode: str) -> None:
    """Each claim from pairs of trainings on the same splits."""
    rows = ledger.read()
    rows = rows[(rows["method"] == "yoto") & (rows["mode"] == mode) & (rows["dataset"] == "tid2013-kodak")]

    def effect(with_it: str, without: str):
        return evaluate.compare(rows[rows["variant"] == with_it], rows[rows["variant"] == without])

    tests = [("a", "joint training lifts NR", "joint: NR", "nr: NR", 0.0),
             ("b", "joint training costs FR nothing", "joint: FR", "fr: FR", 0.005)]
    for name, part in (("c", "ha"), ("d", "sda")):
        tests += [(f"{name} {task}", f"{part.upper()} helps {task}", f"joint: {task}", f"joint, no {part}: {task}", 0.0)
                  for task in ("FR", "NR")]
    for name, text, with_it, without, margin in tests:
        measure = f"SRCC, ({with_it}) - ({without})" + (f"; may lose {margin}" if margin else "")
        report.claim(f"yoto {name}", PAPER, text, "tid2013-kodak", measure, effect(with_it, without), REMARKS[mode], margin)


if __name__ == "__main__":
    trainings.main({"scores": scores, "ablations": ablations, "claims": claims})
