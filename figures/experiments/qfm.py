"""QFM-IQM judged: baseline, consistency and its controls, pseudo-labels, few labels; sensitivity; the claims.

    python figures/qfm.py [scores] [claims] [figure]

A stopped run goes on: see `trainings`. IQA_MODE=quick (default) trains `qfm.QUICK` on 5 splits, full the paper's
settings on 10. With a share of the scores a picture is seen the more often, so that all shares below one take equally
many steps; in quick mode half of those that all scores take. `qfm_measures.csv` holds what the ledger has no column
for: on the test pictures, the sensitivity S to noise of each kind, the standard deviation `sd` of the scores by which
it is divided, and rho of `aliasing`. The figure, qfm.png, shows both.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import report
import trainings

from figures import ledger
from iqa_core import evaluate, qfm
from lesson import plot
from iqa_core.qfm_noise import aliasing, describe, sensitivity
from iqa_core.data import Dataset, load

PAPER, DATASET = "QFM-IQM", "biq2021"
SEEDS = {"quick": range(5), "full": range(10)}
PICTURES = {"quick": 1500, "full": 10**9}
CONFIGS = {"quick": qfm.QUICK, "full": qfm.QFMConfig()}
VISITS = {"quick": 0.5, "full": 10}  # crops an epoch x share of the scores, for shares below one
SHARES = (0.1, 0.25, 0.5)
RULES = ("v1", "random", "gaussian")
MEASURES = Path(__file__).with_name("qfm_measures.csv")


class Measured(qfm.QFMIQM):
    """QFM-IQM that writes down, beside its scores, what noise does to them."""

    def predictions(self, dataset: Dataset) -> dict[str, np.ndarray]:
        features, plain = describe(self, dataset), {"alpha": 1.0, "tau_q": 0.1, "tau_s": qfm.QUICK.tau_s}
        row = {"variant": self.variant, "seed": torch.initial_seed(), "n": len(dataset)}
        row |= {f"S {rule}": sensitivity(self, features, dataset.scores, rule=rule, **plain).mean()
                for rule in ("v3", *RULES)}
        with torch.inference_mode():
            row["sd"] = torch.cat([self.net.panel(part) for part in features.split(64)]).std().item()
        row["rho"] = aliasing(features[:, 0].cpu(), dataset.scores)[0]
        ledger.merge(MEASURES, pd.DataFrame([row]).round(4), ["variant", "seed", "n"])
        return super().predictions(dataset)


def methods(mode: str) -> list[qfm.QFMIQM]:
    """All that is trained: for every share of the scores the baseline and the method; controls; pseudo-labels."""
    config, everything = CONFIGS[mode], load(DATASET).thin(PICTURES[mode])
    found = [Measured(dataclasses.replace(config, lambda1=0.0)), Measured(config)]
    found += [Measured(dataclasses.replace(config, rule=rule)) for rule in RULES]
    for share in SHARES[::-1]:
        few = dataclasses.replace(config, labels=share, crops=round(VISITS[mode] / share))
        found += [Measured(dataclasses.replace(few, lambda1=0.0)), Measured(few), Measured(few, everything)]
    return found


def scores(mode: str) -> None:
    trainings.train_all(methods(mode), DATASET, PICTURES[mode], SEEDS[mode], mode)


def judged(mode: str) -> pd.DataFrame:
    rows = ledger.read()
    return rows[(rows["method"] == "qfm-iqm") & (rows["mode"] == mode) & (rows["dataset"] == DATASET)]


def claims(mode: str) -> None:
    """Each claim from pairs of trainings on the same splits."""
    rows, measures = judged(mode), pd.read_csv(MEASURES)

    def of(variant: str, measure: str = "srcc") -> pd.DataFrame:
        """One variant's rows; a measure stands where SRCC does, with its sign turned if LOWER is better."""
        found = rows[rows["variant"] == f"{variant}: NR"]
        if measure == "srcc":
            return found
        values = measures[measures["variant"] == variant].merge(found[["seed", "n"]]).set_index("seed")[measure]
        return found.assign(srcc=found["seed"].map(values) * (-1 if measure.startswith("S ") else 1))

    def test(name: str, text: str, measure: str, with_it: pd.DataFrame, without: pd.DataFrame) -> None:
        remark = "" if mode == "full" else "lite0 for the ViT, few epochs on a CPU"
        report.claim(f"qfm-iqm {name}", PAPER, text, DATASET, measure, evaluate.compare(with_it, without), remark)

    full = "consistency v3"
    for noise in ("v3", "random"):
        test(f"a {noise}", f"consistency lowers the sensitivity to {noise} noise", f"-S {noise}, ({full}) - (baseline)",
             of(full, f"S {noise}"), of("baseline", f"S {noise}"))
    test("a rho", "consistency lowers aliasing", f"rho, ({full}) - (baseline)", of(full, "rho"), of("baseline", "rho"))
    test("b steady", "training with matched noise is steadier than with random noise", f"-S v3, ({full}) - (random)",
         of(full, "S v3"), of("consistency random", "S v3"))
    for rule in RULES:
        test(f"b {rule}", f"matched noise beats {rule} noise", f"SRCC, (v3) - ({rule})", of(full),
             of(f"consistency {rule}"))
    test("c 100%", "consistency beats the baseline", f"SRCC, ({full}) - (baseline)", of(full), of("baseline"))
    gains = {}
    for share in SHARES:
        few = f"{share:.0%} of the scores"
        best, base = of(f"{full}, {few}, unlabelled from {DATASET}"), of(f"baseline, {few}")
        test(f"c {share:.0%}", f"the full method beats the baseline, {few}", "SRCC, (full) - (baseline)", best, base)
        gains[share] = best.assign(srcc=best["srcc"].to_numpy() - base["srcc"].to_numpy())  # both in order of seeds
        test(f"d {share:.0%}", f"unlabelled pictures help, {few}", f"SRCC, ({full} + unlabelled) - ({full})", best,
             of(f"{full}, {few}"))
    few, most = min(SHARES), max(SHARES)
    test("c few", "the fewer the scores, the more it gains", f"gain with {few:.0%} - gain with {most:.0%}", gains[few],
         gains[most])


def figure(mode: str) -> None:
    """Left: SRCC against the share of the scores that is used. Right: sensitivity to matched noise, a dot a split."""
    rows, measures = judged(mode), pd.read_csv(MEASURES)
    plot.style()
    _, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4))
    methods = {"baseline": "baseline{}", "consistency": "consistency v3{}",
               "consistency and unlabelled": "consistency v3{}, unlabelled from biq2021"}
    for shift, (name, variant) in zip((0.97, 1.0, 1.03), methods.items()):
        found = {share: rows.loc[rows["variant"] == variant.format(few) + ": NR", "srcc"]
                 for share, few in {**{s: f", {s:.0%} of the scores" for s in SHARES}, 1.0: ""}.items()}
        low, middle, high = np.array([q.quantile([0.25, 0.5, 0.75]) for q in found.values() if len(q)]).T
        at = shift * np.array([100 * share for share, q in found.items() if len(q)])
        left.errorbar(at, middle, [middle - low, high - middle], fmt="o-", capsize=3, label=name)
    left.set(xscale="log", xlabel="share of the scores of the training part, %", ylabel="SRCC, median and quartiles")
    left.set_xticks([100 * share for share in (*SHARES, 1.0)], [f"{100 * share:g}" for share in (*SHARES, 1.0)])
    left.minorticks_off()
    left.legend()
    names = ["baseline", *(f"consistency {rule}" for rule in ("v3", *RULES))]
    for place, name in enumerate(names):
        values = measures.loc[measures["variant"] == name, "S v3"]
        right.plot(np.full(len(values), place), values, "o", alpha=0.6)
        right.plot([place - 0.2, place + 0.2], 2 * [values.median()], color="black")
    right.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names])
    right.set(ylabel="S, matched noise (lower is steadier)", ylim=(0, 1.1 * measures["S v3"].max()))
    plt.savefig(Path(__file__).with_name("qfm.png"), dpi=110)


if __name__ == "__main__":
    trainings.main({"scores": scores, "claims": claims, "figure": figure})
