"""YOTO judged: does it use its reference, one task or both, parts left out one by one; claims.

    python -m figures.experiments.yoto [scores] [claims]

A stopped run goes on: see `trainings`. IQA_MODE=quick (default) trains `yoto.QUICK`, full the
paper's settings, both on 10 splits. `yoto_measures.csv` holds what the ledger has no column for, by
the torch seed of each training: on the test images, SRCC with a wrong reference, one of another
content; `shift`, how far a wrong reference moves a score on average, in standard deviations of the
scores; and `keys`, how many of 64 keys a query uses on average in the third stage (exp of the
entropy of its weights).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import data_download
from figures import FOLDER, ledger, report, trainings
from iqa_core import baselines, comparisons, data, evaluate, metrics, yoto
from iqa_core.yoto_attention import DiscrepancyAttention

PAPER = "YOTO"
DATASET = "tid2013-kodak"
NO_REFERENCES = "biq2021"
SEEDS = range(10)
IMAGES = {"quick": {DATASET: 900, NO_REFERENCES: 1500},  # at most so many
          "full": {DATASET: 10**9, NO_REFERENCES: 10**9}}
CONFIGS = {"quick": yoto.QUICK, "full": yoto.YOTOConfig()}
WITHOUT_REFERENCES = {"quick": yoto.AUTHENTIC, "full": yoto.YOTOConfig(task="nr")}
REMARKS = {"quick": "lite0 from ImageNet, frozen, width and crops small, few epochs on a CPU",
           "full": ""}
MEASURES = FOLDER / "yoto_measures.csv"
REPEATED = ("reference subtracted", "nr alone", "reference answers", "plain difference",
            "squared error alone")  # trained twice on each split
REPEATS = 2
ABOUT_THE_REFERENCE = ("reference asks", "reference answers", "reference subtracted",
                       "plain difference", "none", "fr alone", "nr alone")


class Difference(DiscrepancyAttention):
    """A control without attention: from each token of the image that of the same place is
    subtracted."""

    def retrieve(self, x: Tensor, y: Tensor) -> Tensor:
        return y


def with_wrong_references(dataset: data.Dataset) -> data.Dataset:
    """The same images, each with the reference of the next content."""
    table = dataset.table.copy()
    references = table.groupby("content")["reference"].first()
    following = dict(zip(references.index, np.roll(references, -1)))
    table["reference"] = table["content"].map(following)
    return data.Dataset(dataset.name, table, dataset.root, dataset.card)


class Measured(yoto.YOTO):
    """YOTO that writes down, beside its scores, what a wrong reference does to them.

    Args:
        arm: its name in the table of measures.
        config, attention: as of `YOTO`.
    """

    name = yoto.YOTO.name

    def __init__(self, arm: str, config: yoto.YOTOConfig, attention: type | None = None):
        super().__init__(config, attention=attention)
        self.arm = arm

    def predictions(self, dataset: data.Dataset) -> dict[tuple[str, str], np.ndarray]:
        scores = super().predictions(dataset)
        right = scores.get(("FR", "last"))
        if right is not None:
            wrong = self._scores(with_wrong_references(dataset), "FR")
            row = {"variant": self.arm, "seed": torch.initial_seed(), "n": len(dataset),
                   "right": metrics.srcc(right, dataset.scores),
                   "wrong": metrics.srcc(wrong, dataset.scores),
                   "shift": np.abs(wrong - right).mean() / right.std(),
                   "keys": self.keys_used(dataset)}
            ledger.merge(MEASURES, pd.DataFrame([row]).round(4), ["variant", "seed", "n"])
        return scores

    @torch.inference_mode()
    def keys_used(self, dataset: data.Dataset, stage: int = 2) -> float:
        """How many keys a query uses on average, with the right references of 16 images; NaN where
        nothing asks."""
        if "attention" in self.blocks or not self.net.ha:
            return np.nan
        block = self.net.ha[stage]
        asking = getattr(block, "whole", block)  # the global step
        seen = {"query": [], "key": []}
        hooks = [getattr(asking, part).register_forward_hook(
            lambda module, given, made, part=part: seen[part].append(made)) for part in seen]
        self._scores(dataset.thin(16), "FR")
        for hook in hooks:
            hook.remove()
        q, k = (torch.cat(parts) for parts in seen.values())  # (crops, places, C)
        same_place = torch.eye(k.shape[1], device=k.device)
        logits = q @ k.mT / q.shape[-1] ** 0.5 + getattr(block, "prior", 0) * same_place
        entropy = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
        return entropy.exp().mean().item()


def methods(mode: str) -> dict[str, Measured]:
    """All that is trained on a set with references, by the name that the experiment has for it."""
    config = CONFIGS[mode]

    def changed(**changes) -> yoto.YOTOConfig:
        return dataclasses.replace(config, **changes)

    configs = {
        # where the reference comes in
        "reference asks": changed(reference="asks"),
        "reference answers": changed(reference="answers"),
        "reference subtracted": changed(reference="subtracted"),
        "none": changed(ha=False),
        # the tasks
        "fr alone": changed(task="fr"),
        "nr alone": changed(task="nr"),
        # one part left out
        "no sda": changed(sda=False),
        "no channel": changed(channel="off"),
        "no task embedding": changed(task_embedding=False),
        # what is ours in the head and in the loss
        "mean of scores": changed(readout="places"),
        "squared error alone": changed(rank=0.0),
        "reference asks, as trained in the code": changed(
            reference="asks", readout="places", dropout=0.1, rank=0.0, optimizer="adam",
            weight_decay=1e-5),
    }
    unique = {}
    for name, each in configs.items():
        if each not in [method.config for method in unique.values()]:
            unique[name] = Measured(name, each)
    difference = changed(reference="subtracted")
    return {**unique, "plain difference": Measured("plain difference", difference, Difference)}


def scores(mode: str) -> None:
    """The arms that differ in their use of the reference, metrics on the same images, a set that
    has no references, the parts left out, and last a second training of some arms.

    One training a split left open whether these arms differ, because trainings on the same split
    differ as well. A second one tells the two apart, see `comparisons.compare`.
    """
    at_most = IMAGES[mode]
    tid = data_download.load(DATASET).thin(at_most[DATASET])
    rows = trainings.rows_on(DATASET, len(tid), mode)
    for name in ("psnr", "ssim", "ms_ssim"):
        metric = baselines.FullReference(name)
        if set(SEEDS) - set(trainings.rows_of(rows, metric)["seed"]):
            ledger.append(evaluate.run(metric, tid, SEEDS, mode))
    every = methods(mode)
    first = [method for name, method in every.items() if name in ABOUT_THE_REFERENCE]
    trainings.train_all(first, DATASET, len(tid), SEEDS, mode)
    if NO_REFERENCES in data_download.available():
        method = yoto.YOTO(WITHOUT_REFERENCES[mode])
        trainings.train_all([method], NO_REFERENCES, at_most[NO_REFERENCES], SEEDS, mode)
    trainings.train_all(list(every.values()), DATASET, len(tid), SEEDS, mode)
    repeated = [method for name, method in every.items() if name in REPEATED]
    trainings.train_all(repeated, DATASET, len(tid), SEEDS, mode, REPEATS)


def claims(mode: str) -> None:
    """Each claim from pairs of trainings on the same splits."""
    rows = trainings.rows_on(DATASET, IMAGES[mode][DATASET], mode)
    rows = rows[rows["epoch"] == "last"]
    measures = pd.read_csv(MEASURES)
    every = methods(mode)
    full = next(name for name, method in every.items() if method.config == CONFIGS[mode])

    def of(arm: str, task: str) -> pd.DataFrame:
        mine = trainings.rows_of(rows, every[arm])
        return mine[mine["task"] == task]

    def wrong(arm: str) -> pd.DataFrame:
        """Rows in which the SRCC with a wrong reference stands where SRCC does."""
        mine = of(arm, "FR")
        values = measures[(measures["variant"] == arm) & measures["n"].isin(mine["n"])]
        seeds = [evaluate.training_seed(*each) for each in zip(mine["seed"], mine["repeat"])]
        return mine.assign(srcc=values.set_index("seed")["wrong"].reindex(seeds).to_numpy())

    def test(name: str, text: str, measure: str, with_it: pd.DataFrame, without: pd.DataFrame,
             remark: str = "") -> None:
        with_it, without = trainings.in_both(with_it, without)
        if with_it["seed"].nunique() < 2:
            print(f"yoto {name}: no two splits of both arms yet, so nothing is claimed")
            return
        effect = comparisons.compare(with_it, without)
        remarks = "; ".join(part for part in (REMARKS[mode], remark) if part)
        report.claim(f"yoto {name}", PAPER, text, DATASET, measure, effect, remarks)

    test("a", "joint training lifts NR", f"SRCC NR, ({full}) - (nr alone)", of(full, "NR"),
         of("nr alone", "NR"))
    test("b", "joint training costs FR nothing", f"SRCC FR, ({full}) - (fr alone)",
         of(full, "FR"), of("fr alone", "FR"), "no difference is what is claimed")
    for letter, arm in zip("cdef", ("reference asks", "reference answers", "reference subtracted",
                                    "plain difference")):
        test(f"{letter} used", f"the reference is used: {arm}", "SRCC FR, right - wrong reference",
             of(arm, "FR"), wrong(arm))
        test(f"{letter} gain", f"a reference helps: {arm}", "SRCC, FR - NR", of(arm, "FR"),
             of(arm, "NR"))
    test("g", "HA as in the paper helps FR", "SRCC FR, (reference asks) - (none)",
         of("reference asks", "FR"), of("none", "FR"))
    test("h", "subtracting what was retrieved beats the paper's roles",
         "SRCC FR, (reference subtracted) - (reference asks)", of("reference subtracted", "FR"),
         of("reference asks", "FR"))
    test("i", "attention beats a plain difference",
         "SRCC FR, (reference subtracted) - (plain difference)", of("reference subtracted", "FR"),
         of("plain difference", "FR"), "pairs are aligned")
    # Of both tasks of one joint training one is judged: these parts need no reference.
    for letter, arm, text in (("j", "no sda", "SDA helps"), ("k", "no channel", "channel attention "
                              "helps"), ("l", "no task embedding", "the task embedding helps")):
        test(letter, f"{text} NR", f"SRCC NR, ({full}) - ({arm})", of(full, "NR"), of(arm, "NR"),
             "NR stands for both tasks")
    if "mean of scores" in every:
        test("n", "scoring the mean token beats the mean of scores",
             f"SRCC NR, ({full}) - (mean of scores)", of(full, "NR"), of("mean of scores", "NR"),
             "ours; NR stands for both tasks")
    if "squared error alone" in every:
        test("m", "the fidelity loss helps", f"SRCC NR, ({full}) - (squared error alone)",
             of(full, "NR"), of("squared error alone", "NR"), "ours; NR stands for both tasks")


if __name__ == "__main__":
    trainings.main({"scores": scores, "claims": claims})
