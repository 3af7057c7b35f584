"""YOTO judged: trainings for one task, for the other and for both; its parts left out one by one; the claims.

    python figures/yoto.py [scores] [ablations] [claims]

One training runs on each CPU core, or one at a time on a GPU. Rows that the ledger has are not computed again, so a
stopped run goes on. IQA_MODE=quick (default) trains `yoto.QUICK` on 5 splits, full the paper's settings on 10.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import sys

import torch

from iqa_core import baselines, data, ledger, modes, protocol, yoto

PAPER = "YOTO"
SEEDS = {"quick": range(5), "full": range(10)}
PICTURES = {"quick": {"tid2013-kodak": 900, "biq2021": 1500}, "full": {}}  # at most so many, default all
CONFIGS = {"quick": yoto.QUICK, "full": yoto.YOTOConfig()}
REMARKS = {"quick": "lite0 from ImageNet, width and crops small, few epochs on a CPU", "full": ""}
ABLATIONS = {"quick": {"ha": False, "sda": False, "asks": "distorted"}}  # the rest takes as long again
ABLATIONS["full"] = ABLATIONS["quick"] | {"channel": "off", "task_embedding": False}


def pictures(name: str, mode: str) -> data.Dataset:
    return data.load(name).thin(PICTURES[mode].get(name, 10**9))


def train(job: tuple[str, dict, int, str]) -> None:
    """One training on one split, judged into the ledger."""
    name, changes, seed, mode = job
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    method = yoto.YOTO(dataclasses.replace(CONFIGS[mode], **changes))
    rows = protocol.run(method, pictures(name, mode), [seed], mode)
    ledger.append(rows)
    print(rows[["variant", "dataset", "seed", "srcc", "minutes"]].round(3).to_string(header=False, index=False), flush=True)


def train_all(settings: list[tuple[str, dict]], mode: str) -> None:
    """Every setting on every seed that the ledger does not have yet."""
    known = ledger.read()
    done = {(row.dataset, row.variant.split(": ")[0], row.seed) for row in known.itertuples()
            if row.method == "yoto" and row.mode == mode}
    jobs = [(name, changes, seed, mode) for seed in SEEDS[mode] for name, changes in settings
            if (name, yoto.YOTO(dataclasses.replace(CONFIGS[mode], **changes)).variant, seed) not in done]
    workers = 1 if torch.cuda.is_available() else os.cpu_count()
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=1) as pool:
        for _ in pool.imap_unordered(train, jobs, chunksize=1):
            pass


def scores(mode: str) -> None:
    """TID2013 for both tasks and each alone, and metrics on the same pictures; BIQ2021, which has no references."""
    for metric in ("psnr", "ssim", "ms_ssim"):
        ledger.append(protocol.run(baselines.FullReference(metric), pictures("tid2013-kodak", mode), SEEDS[mode], mode))
    train_all([("tid2013-kodak", {"task": task}) for task in ("joint", "fr", "nr")], mode)
    if "biq2021" in data.available():
        train_all([("biq2021", {"task": "nr"})], mode)


def ablations(mode: str) -> None:
    """One part left out or changed at a time."""
    train_all([("tid2013-kodak", {part: off}) for part, off in ABLATIONS[mode].items()], mode)


def claims(mode: str) -> None:
    """Each claim from pairs of trainings on the same splits."""
    rows = ledger.read()
    rows = rows[(rows["method"] == "yoto") & (rows["mode"] == mode) & (rows["dataset"] == "tid2013-kodak")]

    def effect(with_it: str, without: str):
        return protocol.compare(rows[rows["variant"] == with_it], rows[rows["variant"] == without])

    tests = [("a", "joint training lifts NR", "joint: NR", "nr: NR", 0.0),
             ("b", "joint training costs FR nothing", "joint: FR", "fr: FR", 0.005)]
    for name, part in (("c", "ha"), ("d", "sda")):
        tests += [(f"{name} {task}", f"{part.upper()} helps {task}", f"joint: {task}", f"joint, no {part}: {task}", 0.0)
                  for task in ("FR", "NR")]
    for name, text, with_it, without, margin in tests:
        measure = f"SRCC, ({with_it}) - ({without})" + (f"; may lose {margin}" if margin else "")
        ledger.claim(f"yoto {name}", PAPER, text, "tid2013-kodak", measure, effect(with_it, without), REMARKS[mode], margin)


if __name__ == "__main__":
    steps = {"scores": scores, "ablations": ablations, "claims": claims}
    mode = modes.mode()
    if mode not in CONFIGS or set(sys.argv[1:]) - set(steps):
        sys.exit(f"Set IQA_MODE to {' or '.join(CONFIGS)} and choose steps from {', '.join(steps)}.")
    for step in sys.argv[1:] or steps:
        try:
            steps[step](mode)
        except data.DatasetError as error:  # the sentence is enough, a traceback would hide it
            sys.exit(str(error))
