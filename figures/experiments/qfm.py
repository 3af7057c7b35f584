"""QFM-IQM judged: consistency and its controls, pseudo-labels, few labels, other collections;
sensitivity; claims.

    python -m figures.experiments.qfm [scores] [crossing] [claims] [figure]

A stopped run goes on: see `trainings`. IQA_MODE=quick (default) trains `qfm.QUICK`, full the
paper's settings, both on 10 splits. With a share of the scores an image is seen the more often, so
that all shares take equally many steps. `qfm_measures.csv` holds what the ledger has no column for:
on the test images, the sensitivity S to noise of each kind, the standard deviation `sd` of the
scores by which it is divided, and rho of `aliasing`; SRCC stands beside them by the name of the arm.
The figure, qfm.png, shows both.

`crossing` trains without one of the three collections of BIQ2021 (the first letters of its file
names) and tests on that one.
"""

from __future__ import annotations

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

import data_download
from figures import FOLDER, ledger, report, trainings
from iqa_core import comparisons, evaluate, metrics, qfm
from iqa_core.data import Dataset, DatasetError
from iqa_core.qfm_noise import aliasing, describe, sensitivity
from lesson import plot

PAPER = "QFM-IQM"
DATASET = "biq2021"
COLLECTIONS = ("ss01", "ss02", "ss03")
OTHERS = ("cid22", "tid2013-kodak")  # sets whose images are learnt from without their scores
SEEDS = range(10)
IMAGES = {"quick": 1500, "full": 10**9}  # at most so many
CONFIGS = {"quick": qfm.QUICK, "full": qfm.QFMConfig()}
SHARES = (0.05, 0.1, 0.25, 0.5)
FEW = 0.1  # the share with which other unlabelled sets are tried
RULES = ("random", "v1", "gaussian")  # controls of the rule v3
NOISE = {"alpha": 1.0, "tau_q": 0.1, "tau_s": qfm.QUICK.tau_s}  # equal for all that is measured
MEASURES = FOLDER / "qfm_measures.csv"
FULL = "consistency v3"
UNLABELLED = f"unlabelled from {DATASET}"
TRAINED_KEY = f"{FULL}, key of the trained summary"
STRONGER = f"{FULL}, weight 1"


class Measured(qfm.QFMIQM):
    """QFM-IQM that writes down, beside its scores, what noise does to them.

    Args:
        arm: its name in the table of measures.
        config, unlabelled: as of `QFMIQM`.
    """

    name = qfm.QFMIQM.name

    def __init__(self, arm: str, config: qfm.QFMConfig, unlabelled: Dataset | None = None):
        super().__init__(config, unlabelled)
        self.arm = arm

    def predictions(self, dataset: Dataset) -> dict[tuple[str, str], np.ndarray]:
        records = describe(self, dataset)
        row = {"variant": self.arm, "seed": torch.initial_seed(), "n": len(dataset)}
        for rule in ("v3", *RULES):
            shifts = sensitivity(self, records, rule=rule, **NOISE)
            row[f"S {rule}"] = shifts.mean()
        with torch.inference_mode():
            scores = torch.cat([self.net.score(part) for part in records.features.split(64)])
        row["sd"] = scores.std().item()
        row["rho"], _ = aliasing(records.features[:, 0].cpu(), dataset.scores)
        predictions = super().predictions(dataset)
        row["srcc"] = metrics.srcc(predictions["NR", "last"], dataset.scores)
        ledger.merge(MEASURES, pd.DataFrame([row]).round(4), ["variant", "seed", "n"])
        return predictions


def with_share(arm: str, share: float) -> str:
    """The name of an arm that uses a share of the scores."""
    return f"{arm}, {share:.0%} of the scores"


def methods(mode: str) -> dict[str, Measured]:
    """All that is trained, by its name in the experiment.

    For every share of the scores the baseline and the method; controls; pseudo-labels.
    """
    config = CONFIGS[mode]
    everything = data_download.load(DATASET).thin(IMAGES[mode])
    configs = {"baseline": dataclasses.replace(config, lambda1=0.0), FULL: config}
    for rule in RULES:
        configs[f"consistency {rule}"] = dataclasses.replace(config, rule=rule)
    configs[STRONGER] = dataclasses.replace(config, lambda1=1.0)
    if config.key == "encoder":
        configs[TRAINED_KEY] = dataclasses.replace(config, key="summary")
    arms = {name: Measured(name, each) for name, each in configs.items()}
    for share in reversed(SHARES):
        few = dataclasses.replace(config, labels=share,
                                  crops_per_epoch=round(config.crops_per_epoch / share))
        baseline = with_share("baseline", share)
        consistency = with_share(FULL, share)
        extended = f"{consistency}, {UNLABELLED}"
        arms[baseline] = Measured(baseline, dataclasses.replace(few, lambda1=0.0))
        arms[consistency] = Measured(consistency, few)
        arms[extended] = Measured(extended, few, everything)
        if share == FEW:
            for name in OTHERS:
                try:
                    unlabelled = data_download.load(name).thin(1000)
                except DatasetError as error:
                    print(f"{name} is left out: {error}")
                    continue
                extended = f"{consistency}, unlabelled from {name}"
                arms[extended] = Measured(extended, few, unlabelled)
    return arms


def scores(mode: str) -> None:
    """Everything on every split: the main question first, then what uses all scores, then
    shares."""
    arms = methods(mode)
    main = [arms["baseline"], arms[FULL], arms["consistency random"]]
    all_scores = [method for name, method in arms.items() if "%" not in name]
    for some in (main, all_scores, list(arms.values())):
        trainings.train_all(some, DATASET, IMAGES[mode], SEEDS, mode)


def apart(collection: str, mode: str) -> tuple[Dataset, Dataset]:
    """BIQ2021 without one of its collections, and that one."""
    everything = data_download.load(DATASET).thin(IMAGES[mode])
    inside = everything.table["image"].str.contains(f"/{collection} ", regex=False).to_numpy()
    parts = []
    for name, mine in ((f"{DATASET} without {collection}", ~inside),
                       (f"{DATASET} only {collection}", inside)):
        table = everything.table[mine].assign(split="")
        parts.append(Dataset(name, table, everything.root, everything.card))
    return tuple(parts)


def crossed(job: tuple) -> None:
    """One training on one split without a collection, judged there and on that collection."""
    method, collection, seed, mode = job
    without, only = apart(collection, mode)
    ledger.append(evaluate.run(method, without, [seed], mode, others=[only]))


def crossing(mode: str) -> None:
    """The baseline and the method, each without one of the three collections."""
    every = methods(mode)
    rows = ledger.read()
    rows = rows[rows["mode"] == mode]
    jobs = []
    for seed in SEEDS:
        for collection in COLLECTIONS:
            there = rows[rows["dataset"] == f"{DATASET} only {collection}"]
            for name in ("baseline", FULL):
                if seed not in set(trainings.rows_of(there, every[name])["seed"]):
                    plain = qfm.QFMIQM(every[name].config)
                    jobs.append((plain, collection, seed, mode))
    for _ in trainings.side_by_side(crossed, jobs):
        pass


def judged(mode: str) -> dict[str, pd.DataFrame]:
    """Rows of the ledger of each arm, the last epoch."""
    rows = trainings.rows_on(DATASET, IMAGES[mode], mode)
    rows = rows[rows["epoch"] == "last"]
    return {name: trainings.rows_of(rows, method) for name, method in methods(mode).items()}


def claims(mode: str) -> None:
    """Each claim from pairs of trainings on the same splits."""
    rows = judged(mode)
    measures = pd.read_csv(MEASURES)
    remark = "" if mode == "full" else "lite0 for the ViT, few epochs on a CPU"

    def of(arm: str, measure: str) -> pd.DataFrame:
        """Rows in which a measure stands where SRCC does; its sign is turned if LOWER is better."""
        mine = rows[arm]
        values = measures[(measures["variant"] == arm) & measures["n"].isin(mine["n"])]
        seeds = [evaluate.training_seed(*each) for each in zip(mine["seed"], mine["repeat"])]
        sign = -1 if measure.startswith("S ") else 1
        return mine.assign(srcc=sign * values.set_index("seed")[measure].reindex(seeds).to_numpy())

    def test(name: str, text: str, measure: str, with_it: pd.DataFrame,
             without: pd.DataFrame) -> None:
        with_it, without = trainings.in_both(with_it, without)
        if with_it["seed"].nunique() < 2:
            print(f"qfm-iqm {name}: no two splits of both arms yet, so nothing is claimed")
            return
        effect = comparisons.compare(with_it, without)
        report.claim(f"qfm-iqm {name}", PAPER, text, DATASET, measure, effect, remark)

    for noise in ("v3", "random"):
        test(f"a {noise}", f"consistency lowers the sensitivity to {noise} noise",
             f"-S {noise}, ({FULL}) - (baseline)", of(FULL, f"S {noise}"),
             of("baseline", f"S {noise}"))
    test("a rho", "consistency lowers aliasing", f"rho, ({FULL}) - (baseline)", of(FULL, "rho"),
         of("baseline", "rho"))
    if TRAINED_KEY in rows:
        test("b key", "a key of the frozen encoder beats one of the trained summary",
             "SRCC, (frozen) - (trained)", rows[FULL], rows[TRAINED_KEY])
    test("b steady", "training with matched noise is steadier than with random noise",
         f"-S v3, ({FULL}) - (random)", of(FULL, "S v3"), of("consistency random", "S v3"))
    test("c weight 1", "a weight of 1 in place of 0.2 costs no SRCC",
         f"SRCC, (weight 1) - ({FULL})", rows[STRONGER], rows[FULL])
    for rule in RULES:
        test(f"b {rule}", f"matched noise beats {rule} noise", f"SRCC, (v3) - ({rule})", rows[FULL],
             rows[f"consistency {rule}"])
    test("c 100%", "consistency beats the baseline", f"SRCC, ({FULL}) - (baseline)", rows[FULL],
         rows["baseline"])
    gains = {}
    for share in SHARES:
        few = f"{share:.0%} of the scores"
        consistency = rows[with_share(FULL, share)]
        extended = rows[f"{with_share(FULL, share)}, {UNLABELLED}"]
        baseline = rows[with_share("baseline", share)]
        test(f"c {share:.0%}", f"the full method beats the baseline, {few}",
             "SRCC, (full) - (baseline)", extended, baseline)
        test(f"d {share:.0%}", f"unlabelled images help, {few}",
             f"SRCC, ({FULL} + unlabelled) - ({FULL})", extended, consistency)
        gains[share] = extended.merge(baseline[["seed", "srcc"]], on="seed", suffixes=("", "_0"))
        gains[share]["srcc"] -= gains[share].pop("srcc_0")
    fewest = min(SHARES)
    most = max(SHARES)
    for name in OTHERS:
        extended = f"{with_share(FULL, FEW)}, unlabelled from {name}"
        if extended in rows:
            test(f"d {name}", f"unlabelled images of {name} help, {FEW:.0%} of the scores",
                 f"SRCC, ({FULL} + unlabelled) - ({FULL})", rows[extended],
                 rows[with_share(FULL, FEW)])
    every = methods(mode)
    written = ledger.read()
    written = written[(written["mode"] == mode) & (written["epoch"] == "last")]
    for collection in COLLECTIONS:
        there = written[written["dataset"] == f"{DATASET} only {collection}"]
        test(f"e {collection}", f"consistency helps on an unseen collection, {collection}",
             f"SRCC, ({FULL}) - (baseline)", trainings.rows_of(there, every[FULL]),
             trainings.rows_of(there, every["baseline"]))
    test("c few", "the fewer the scores, the more it gains",
         f"gain with {fewest:.0%} - gain with {most:.0%}", gains[fewest], gains[most])


def draw_shares(ax: plt.Axes, rows: dict[str, pd.DataFrame]) -> None:
    """SRCC against the share of the scores that is used."""
    lines = {"baseline": ("baseline", ""), "consistency": (FULL, ""),
             "consistency and unlabelled": (FULL, f", {UNLABELLED}")}
    for shift, (label, (arm, end)) in zip((0.97, 1.0, 1.03), lines.items()):
        names = {share: with_share(arm, share) + end for share in SHARES}
        if not end:
            names[1.0] = arm
        names = {share: name for share, name in names.items() if len(rows[name])}
        places = [shift * 100 * share for share in names]
        quartiles = np.array([rows[name]["srcc"].quantile([0.25, 0.5, 0.75])
                              for name in names.values()])
        low, middle, high = quartiles.T
        ax.errorbar(places, middle, [middle - low, high - middle], fmt="o-", capsize=3, label=label)
    ticks = [100 * share for share in (*SHARES, 1.0)]
    ax.set(xscale="log", xlabel="share of the scores of the training part, %",
           ylabel="SRCC, median and quartiles")
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.legend()


def draw_sensitivity(ax: plt.Axes) -> None:
    """Sensitivity to matched noise, a dot a split."""
    measures = pd.read_csv(MEASURES)
    names = ["baseline", FULL, *(f"consistency {rule}" for rule in RULES)]
    for place, name in enumerate(names):
        values = measures.loc[measures["variant"] == name, "S v3"]
        ax.plot(np.full(len(values), place), values, "o", alpha=0.6)
        ax.plot([place - 0.2, place + 0.2], 2 * [values.median()], color="black")
    ax.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names])
    ax.set(ylabel="S, matched noise (lower is steadier)", ylim=(0, 1.1 * measures["S v3"].max()))


def figure(mode: str) -> None:
    """Left: SRCC by share of the scores. Right: sensitivity."""
    plot.style()
    page, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4))
    draw_shares(left, judged(mode))
    draw_sensitivity(right)
    page.savefig(FOLDER / "qfm.png", dpi=110)


if __name__ == "__main__":
    trainings.main({"scores": scores, "crossing": crossing, "claims": claims, "figure": figure})
