"""DRI-IQA judged: the ablations A0 to A6 on two sets, what q and g know, restoration; claims.

    python -m figures.experiments.dri [scores] [parts] [claims] [figure]

A stopped run goes on: see `trainings`. IQA_MODE=quick (default) trains `dri.QUICK` on 5 splits of
one set and 3 of the other, full the default size on 10. `dri_measures.csv` holds what the ledger
has no column for, a value a row:
- of the extractor, before any score is seen: how well type and content are decoded from q and from
  g (k nearest neighbours, `knn_accuracy`) in all 125 cells of the bank, on photographs of another
  set;
- of the restorer, before any score is seen: the gain of PSNR (60 dB at most) and SSIM by type and
  level, on contents that are not trained on;
- of each method: SRCC with MS-SSIM, a PROXY for people, on degraded images and on the same ones
  after restoration. The degraded images are of contents that nobody has trained on; the restorer is
  as it was before any score was seen.
The figure, dri.png, shows the ladder, and the gain of PSNR for levels 2 to 5: at level 1 some types
change nothing.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from data_download import load
from figures import FOLDER, ledger, report, trainings
from iqa_core import comparisons, data, dri, images, metrics
from iqa_core.baselines import FullReference
from iqa_core.data import Dataset
from iqa_core.distortions import TYPES, distort
from iqa_core.reiqa_experts import knn_accuracy, probe
from iqa_core.reiqa_pretrain import Uint8Images
from lesson import plot

PAPER = "DRI-IQA"
SEEDS = {"tid2013-kodak": {"quick": range(5), "full": range(10)},
         "biq2021": {"quick": range(3), "full": range(10)}}
IMAGES = {"tid2013-kodak": {"quick": 400, "full": 10**9},  # at most so many
          "biq2021": {"quick": 450, "full": 10**9}}
COLORS = {"tid2013-kodak": plot.BLUE, "biq2021": plot.ORANGE}
CONFIGS = {"quick": dri.QUICK, "full": dri.DRIConfig()}
# pristine images to learn from; None = the references
PRISTINE = {"tid2013-kodak": None, "biq2021": "cid22"}
# photographs on which the extractor is tested
UNSEEN = {"tid2013-kodak": "cid22", "biq2021": "kodak"}
SIZE = 192  # pixels of the crops on which the parts are tested
CELLS = [(kind, level) for kind in (1, 3, 9, 10, 11, 13) for level in (2, 4)]
MOST_PSNR = 60.0  # dB
ALONE = {"quality": False, "degradation": False, "assist": False, "rs": ""}
ADDED = {"interaction": "add", "rs": ""}
ONE_VECTOR = "A3 one vector"
# step of the ladder: what it has, what it changes in the config
LADDER = {
    "A0": ("predictor alone", ALONE),
    "A1 +q": ("q, add", ALONE | ADDED | {"quality": True}),
    "A2 +g": ("g, add", ALONE | ADDED | {"degradation": True}),
    "A3 +q+g": ("q + g, add", ADDED | {"assist": False}),
    ONE_VECTOR: ("q + g, add, one vector", ADDED | {"assist": False, "split": False}),
    "A4 A3+R": ("q + g + restoration, add", ADDED),
    "A5 A4+TGB": ("q + g + restoration, tgb", {"rs": ""}),
    "A6 A5+RS": ("q + g + restoration, tgb, RS ratio align", {}),
}
# fields in which the restorer of the measures is that of the full method
FULL = {field.name: field.default for field in dataclasses.fields(dri.DRIConfig)
        if field.name in ("quality", "degradation", "assist", "rs", "interaction", "split")}
MEASURES = FOLDER / "dri_measures.csv"


def note(what: str, dataset: str, seed: int, values: dict[str, float]) -> None:
    """Write values into `dri_measures.csv`; older ones of the same name are replaced."""
    rows = [(what, dataset, seed, measure, value) for measure, value in values.items()]
    table = pd.DataFrame(rows, columns=["what", "dataset", "seed", "measure", "value"])
    ledger.merge(MEASURES, table.round(4), ["dataset", "what", "measure", "seed"])


def middle(dataset: Dataset) -> list[Tensor]:
    """The middle of every image, uint8 (3, SIZE, SIZE)."""
    return [images.crops(image, SIZE, "grid", 1)[0] for image in Uint8Images(dataset)]


def pristine_set(dataset: str) -> Dataset | None:
    """Pristine images for a set whose references are not enough; None = its references."""
    name = PRISTINE[dataset]
    return None if name is None else load(name)


def prepared(config: dri.DRIConfig, train: Dataset, pristine: Dataset | None) -> dri.DRIIQA:
    """A method of which only extractor and restorer are trained, or read from the cache."""
    method = dri.DRIIQA(config, pristine)
    method.net = dri.Network(config)
    source = list(Uint8Images(dri.pristine(train, pristine)))
    dri.train_extractor(method.net.extractor, source, config)
    dri.train_restorer(method.net.restorer, method.net.extractor, source, config)
    return method


class Measured(dri.DRIIQA):
    """DRI-IQA that writes down how it judges what a restoration network has made.

    Args:
        arm: its name in the table of measures.
        config, pristine: as of `DRIIQA`.
    """

    name = dri.DRIIQA.name

    def __init__(self, arm: str, config: dri.DRIConfig, pristine: Dataset | None = None):
        super().__init__(config, pristine)
        self.arm = arm
        self.pristine = pristine

    def fit(self, train: Dataset, val: Dataset | None = None, checkpoint=None) -> Measured:
        self.seed = torch.initial_seed()
        config = dataclasses.replace(self.config, **FULL)
        self.restoring = prepared(config, train, self.pristine)
        # The best epoch is not needed: that would take as long again.
        return super().fit(train, None, checkpoint)

    def predictions(self, dataset: Dataset) -> dict[tuple[str, str], np.ndarray]:
        if dataset.card.reference:
            source = dri.pristine(dataset, None)
        else:
            source = load(UNSEEN[dataset.name]).thin(6)
        kinds, levels = zip(*CELLS)
        scores = {"degraded": [], "restored": []}
        truth = {"degraded": [], "restored": []}
        for i, image in enumerate(middle(source)):
            x_ref = images.from_uint8(image).expand(len(CELLS), -1, -1, -1)
            x = distort(x_ref, kinds, levels, torch.Generator().manual_seed(i))
            for name, z in (("degraded", x), ("restored", self.restoring.restore(x))):
                scores[name].append(self.score(z))
                truth[name].append(FullReference("ms_ssim").score(z, x_ref))
        values = {f"SRCC {name}": metrics.srcc(torch.cat(scores[name]), torch.cat(truth[name]))
                  for name in scores}
        note(self.arm, dataset.name, self.seed, values)
        return super().predictions(dataset)


def methods(mode: str, dataset: str) -> dict[str, Measured]:
    """What is trained on a set, by its step of the ladder.

    The control with one vector only where each split has an extractor of its own.
    """
    pristine = pristine_set(dataset)
    arms = {}
    for name, (arm, changes) in LADDER.items():
        if name != ONE_VECTOR or pristine is None:
            config = dataclasses.replace(CONFIGS[mode], **changes)
            arms[name] = Measured(arm, config, pristine)
    return arms


def scores(mode: str) -> None:
    """The ladder on every split of both sets."""
    for name, count in IMAGES.items():
        arms = list(methods(mode, name).values())
        trainings.train_all(arms, name, count[mode], SEEDS[name][mode], mode)


# --- what the parts know and can -----------------------------------------------------------------

@torch.inference_mode()
def both_vectors(method: dri.DRIIQA, x: Tensor) -> Tensor:
    """q and g of images, one behind the other."""
    q, g, _ = method.net.extractor(x.to(method.device))
    return torch.cat([q, g], 1)


def decoded(method: dri.DRIIQA, unseen: list[Tensor]) -> dict[str, float]:
    """How well type, level and content are decoded from q and from g."""
    vectors, cells, contents = probe(unseen, partial(both_vectors, method))
    length = method.net.extractor.length
    values = {}
    for name, z in (("q", vectors[:, :length]), ("g", vectors[:, length:])):
        values[f"type {name}"] = knn_accuracy(z, cells // 5, contents)
        values[f"level {name}"] = knn_accuracy(z, cells % 5, contents)
        values[f"content {name}"] = knn_accuracy(z, contents, cells)
    return values


def gains(method: dri.DRIIQA, shown: list[Tensor]) -> dict[str, float]:
    """The gain of PSNR and SSIM by restoration, a mean over images, by type and level."""
    x_ref = images.from_uint8(torch.stack(shown))
    values = {}
    for kind in [kind for group in dri.UNDONE for kind in group]:
        for level in range(1, 6):
            x = distort(x_ref, kind, level, torch.Generator().manual_seed(level))
            restored = method.restore(x)
            for metric in (metrics.psnr, metrics.ssim):
                before = metric(x, x_ref).clamp(max=MOST_PSNR)
                after = metric(restored, x_ref).clamp(max=MOST_PSNR)
                name = f"{metric.__name__} {TYPES[kind - 1]} {level}"
                values[name] = (after - before).mean().item()
    return values


def parts(mode: str) -> None:
    """What extractor and restorer know and can, on every split.

    They are read from the cache if `scores` came before.
    """
    for name, count in IMAGES.items():
        pristine = pristine_set(name)
        unseen = middle(load(UNSEEN[name]).thin(12))
        # With the same pristine images and seed for all splits, nothing would change.
        seeds = SEEDS[name][mode] if pristine is None else [0]
        for seed in seeds:
            train, _, test = data.splits(load(name).thin(count[mode]), seed)
            method = prepared(CONFIGS[mode], train, pristine)
            values = decoded(method, unseen)
            note("extractor", name, seed, values)
            shown = middle(dri.pristine(test, None)) if test.card.reference else unseen
            note("restorer", name, seed, gains(method, shown))
            print(name, seed, {key: round(value, 3) for key, value in values.items()}, flush=True)


# --- claims --------------------------------------------------------------------------------------

def judged(mode: str, dataset: str) -> dict[str, pd.DataFrame]:
    """Rows of the ledger of each step of the ladder, the last epoch."""
    rows = trainings.rows_on(dataset, IMAGES[dataset][mode], mode)
    rows = rows[rows["epoch"] == "last"]
    arms = methods(mode, dataset)
    return {name: trainings.rows_of(rows, method) for name, method in arms.items()}


def claims(mode: str) -> None:
    """Each claim from pairs of trainings on the same splits."""
    for name in IMAGES:
        claims_on(name, mode)


def claims_on(dataset: str, mode: str) -> None:
    """The claims on one set."""
    rows = judged(mode, dataset)
    measures = pd.read_csv(MEASURES)
    measures = measures[measures["dataset"] == dataset]
    base = rows["A0"]
    remark = "" if mode == "full" else "small networks, few epochs on a CPU"

    def of(what: str, measure: str) -> pd.DataFrame:
        """A measure stands where SRCC does; sizes and seeds are those of the splits."""
        mine = measures[(measures["what"] == what) & (measures["measure"] == measure)]
        return base.assign(srcc=base["seed"].map(mine.set_index("seed")["value"]))

    def gain(measure: str) -> np.ndarray:
        """A measure of the full method - that of its predictor alone."""
        full = of(LADDER["A6 A5+RS"][0], measure)["srcc"]
        return full.to_numpy() - of(LADDER["A0"][0], measure)["srcc"].to_numpy()

    def test(key: str, text: str, measure: str, with_it: pd.DataFrame,
             without: pd.DataFrame) -> None:
        effect = comparisons.compare(with_it, without)
        report.claim(f"dri-iqa {key}", PAPER, text, dataset, measure, effect, remark)

    if PRISTINE[dataset] is None:  # else one extractor serves all splits
        test("a type", "the type is decoded better from g than from q", "kNN accuracy, g - q",
             of("extractor", "type g"), of("extractor", "type q"))
        test("split", "two vectors beat one", "SRCC, (A3 +q+g) - (A3 one vector)", rows["A3 +q+g"],
             rows[ONE_VECTOR])
        test("a content", "the content is decoded worse from g than from q", "kNN accuracy, q - g",
             of("extractor", "content q"), of("extractor", "content g"))
    for key, text, more, less in (
            ("b", "adding g to q helps", "A3 +q+g", "A1 +q"),
            ("b alone", "g alone helps", "A2 +g", "A0"),
            ("c", "restoration assistance helps", "A4 A3+R", "A3 +q+g"),
            ("c tgb", "guidance by TGB beats a sum", "A5 A4+TGB", "A4 A3+R"),
            ("d", "the RS loss helps", "A6 A5+RS", "A5 A4+TGB"),
            ("all", "the full method beats its predictor alone", "A6 A5+RS", "A0")):
        test(key, text, f"SRCC, ({more}) - ({less})", rows[more], rows[less])
    restored = base.assign(srcc=gain("SRCC restored"))
    test("e", "on restored images the full method judges better than its predictor",
         "SRCC with MS-SSIM, gain", restored, base.assign(srcc=0.0))
    test("e more", "and gains more than on degraded ones", "SRCC with MS-SSIM, gain - gain",
         restored, base.assign(srcc=gain("SRCC degraded")))


# --- the figure ----------------------------------------------------------------------------------

def draw_ladder(ax: plt.Axes, mode: str) -> None:
    """SRCC by step of the ladder, a dot a split, a bar the median."""
    steps = list(LADDER)
    for shift, name in zip((-0.12, 0.12), IMAGES):
        for step, rows in judged(mode, name).items():
            place = steps.index(step) + shift
            ax.plot(np.full(len(rows), place), rows["srcc"], "o", color=COLORS[name], alpha=0.6,
                    label=name if step == "A0" else None)
            ax.plot([place - 0.1, place + 0.1], 2 * [rows["srcc"].median()], color="black")
    ax.set_xticks(range(len(steps)), [step.replace(" ", "\n") for step in steps], fontsize=8)
    ax.set(ylabel="SRCC, a dot a split")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncol=2)


def draw_restoration(ax: plt.Axes) -> None:
    """What restoration gains in PSNR on unseen contents, by type."""
    measures = pd.read_csv(MEASURES)
    psnr = measures["measure"].str.match(r"psnr .* [2-5]$")
    measures = measures[(measures["what"] == "restorer") & psnr]
    measures = measures.assign(type=measures["measure"].str.split().str[1])
    for height, name in zip((-0.2, 0.2), IMAGES):
        mine = measures[measures["dataset"] == name]
        gain = mine.groupby("type", sort=False)["value"].mean()
        ax.barh(np.arange(len(gain)) + height, gain, 0.35, color=COLORS[name], label=name)
        ax.set_yticks(range(len(gain)), gain.index, fontsize=8)
    ax.axvline(0, color="black", lw=0.8)
    ax.set(xlabel="gain of PSNR by restoration, dB, mean of levels 2 to 5")
    ax.invert_yaxis()


def figure(mode: str) -> None:
    """Left: the ladder. Right: restoration."""
    plot.style()
    page, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    draw_ladder(left, mode)
    draw_restoration(right)
    page.savefig(FOLDER / "dri.png", dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    trainings.main({"scores": scores, "parts": parts, "claims": claims, "figure": figure})
