"""DRI-IQA judged: the ladder of ablations A0 to A6 on two sets, what q and g know, restoration; the claims.

    python figures/dri.py [scores] [parts] [claims] [figure]

A stopped run goes on: see `trainings`. IQA_MODE=quick (default) trains `dri.QUICK` on 5 splits of one set and
3 of the other, full the default size on 10. `dri_measures.csv` holds what the ledger has no column for, a value a row:
- of the extractor, before any score is seen: how well type and content are told from q and from g (k nearest
  neighbours, `contrast.knn_accuracy`) in all 125 cells of the bank, on photographs of another set;
- of the restorer, before any score is seen: the gain of PSNR (60 dB at most) and SSIM by type and level, on contents
  that are not trained on;
- of each method: SRCC with MS-SSIM, a PROXY for people, on degraded pictures and on the same ones after restoration.
  The degraded pictures are of contents that nobody has trained on; the restorer is that of stage 2a.
The figure, dri.png, shows the ladder, and the gain of PSNR for levels 2 to 5: at level 1 some types change nothing.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import report
import trainings
from torch import Tensor

from figures import ledger
from iqa_core import data, dri, evaluate, images, metrics
from lesson import plot
from iqa_core.baselines import FullReference
from iqa_core.reiqa_pretrain import Pictures, knn_accuracy, probe
from iqa_core.data import Dataset, load
from iqa_core.distortions import TYPES, distort

PAPER = "DRI-IQA"
SEEDS = {"tid2013-kodak": {"quick": range(5), "full": range(10)}, "biq2021": {"quick": range(3), "full": range(10)}}
PICTURES = {"tid2013-kodak": {"quick": 400, "full": 10**9}, "biq2021": {"quick": 450, "full": 10**9}}
CONFIGS = {"quick": dri.QUICK, "full": dri.DRIConfig()}
ELSEWHERE = {"tid2013-kodak": None, "biq2021": "cid22"}  # pristine pictures to learn from; None = the references
UNSEEN = {"tid2013-kodak": "cid22", "biq2021": "kodak"}  # photographs that the extractor is asked about
SIZE, CELLS = 192, [(kind, level) for kind in (1, 3, 9, 10, 11, 13) for level in (2, 4)]
ALONE = {"quality": False, "degradation": False, "assist": False, "rs": ""}
ADDED = {"interaction": "add", "rs": ""}
LADDER = {"A0": ALONE, "A1 +q": ALONE | ADDED | {"quality": True}, "A2 +g": ALONE | ADDED | {"degradation": True},
          "A3 +q+g": ADDED | {"assist": False}, "A3 one vector": ADDED | {"assist": False, "split": False},
          "A4 A3+R": ADDED, "A5 A4+TGB": {"rs": ""}, "A6 A5+RS": {}}
FULL = {field.name: field.default for field in dataclasses.fields(dri.DRIConfig)
        if field.name in ("quality", "degradation", "assist", "rs", "interaction", "split")}
MEASURES = Path(__file__).with_name("dri_measures.csv")


def note(what: str, dataset: str, seed: int, values: dict[str, float]) -> None:
    """Write values into `dri_measures.csv`; older ones of the same name are replaced."""
    rows = pd.DataFrame([(what, dataset, seed, name, value) for name, value in values.items()],
                        columns=["what", "dataset", "seed", "measure", "value"])
    ledger.merge(MEASURES, rows.round(4), ["dataset", "what", "measure", "seed"])


def middle(pictures: Dataset) -> list[Tensor]:
    """The middle of every picture, uint8 (3, SIZE, SIZE)."""
    return [images.crops(picture, SIZE, "grid", 1)[0] for picture in Pictures(pictures)]


def prepared(config: dri.DRIConfig, train: Dataset, pictures: Dataset | None) -> dri.DRIIQA:
    """A method whose extractor and restorer are trained, from the cache where they are, and nothing else."""
    method = dri.DRIIQA(config, pictures)
    method.net, source = dri.Network(config), [*Pictures(dri.pristine(train, pictures))]
    dri.train_extractor(method.net.extractor, source, config)
    dri.train_restorer(method.net.restorer, method.net.extractor, source, config)
    return method


class Measured(dri.DRIIQA):
    """DRI-IQA that writes down, beside its scores, how it judges what a restoration network has made."""

    def fit(self, train: Dataset, val: Dataset | None = None, checkpoint=None) -> Measured:
        self.seed, full = torch.initial_seed(), dataclasses.replace(self.config, **FULL)
        self.maker = prepared(full, train, self.pictures)
        return super().fit(train, None, checkpoint)  # the best epoch is not asked for: that would take as long again

    def predictions(self, dataset: Dataset) -> dict[str, np.ndarray]:
        shown = dri.pristine(dataset, None) if dataset.card.reference else load(UNSEEN[dataset.name]).thin(6)
        found, truth = {"degraded": [], "restored": []}, {"degraded": [], "restored": []}
        for i, picture in enumerate(middle(shown)):
            x_ref = images.from_uint8(picture).expand(len(CELLS), -1, -1, -1)
            x = distort(x_ref, *zip(*CELLS), torch.Generator().manual_seed(i))
            for name, z in (("degraded", x), ("restored", self.maker.restore(x))):
                found[name].append(self.score(z))
                truth[name].append(FullReference("ms_ssim").score(z, x_ref))
        note(self.variant, dataset.name, self.seed, {f"SRCC {name}": metrics.srcc(torch.cat(found[name]),
                                                                                 torch.cat(truth[name])) for name in found})
        return super().predictions(dataset)


def methods(mode: str, dataset: str) -> dict[str, Measured]:
    """What is trained on a set; the control with one vector only where each split has an extractor of its own."""
    elsewhere = ELSEWHERE[dataset] and load(ELSEWHERE[dataset])
    return {name: Measured(dataclasses.replace(CONFIGS[mode], **changes), elsewhere) for name, changes in LADDER.items()
            if elsewhere is None or name != "A3 one vector"}


def scores(mode: str) -> None:
    for name, count in PICTURES.items():
        trainings.train_all([*methods(mode, name).values()], name, count[mode], SEEDS[name][mode], mode)


def parts(mode: str) -> None:
    """What extractor and restorer know and can, on every split; read from the cache if `scores` came before."""
    for name, count in PICTURES.items():
        unseen, elsewhere = middle(load(UNSEEN[name]).thin(12)), ELSEWHERE[name] and load(ELSEWHERE[name])
        for seed in SEEDS[name][mode] if elsewhere is None else [0]:  # the same pictures and seed: nothing would change
            train, _, test = data.splits(load(name).thin(count[mode]), seed)
            method = prepared(CONFIGS[mode], train, elsewhere)
            found, cells, contents = probe(unseen, partial(both, method))
            n, values = method.net.extractor.length, {}
            for half, z in (("q", found[:, :n]), ("g", found[:, n:])):
                values |= {f"type {half}": knn_accuracy(z, cells // 5, contents),
                           f"level {half}": knn_accuracy(z, cells % 5, contents),
                           f"content {half}": knn_accuracy(z, contents, cells)}
            note("extractor", name, seed, values)
            shown = middle(dri.pristine(test, None)) if test.card.reference else unseen
            x_ref = images.from_uint8(torch.stack(shown))
            gains = {}
            for kind, level in [(kind, level) for group in dri.UNDONE for kind in group for level in range(1, 6)]:
                x = distort(x_ref, kind, level, torch.Generator().manual_seed(level))
                after = method.restore(x)
                gains |= {f"{metric.__name__} {TYPES[kind - 1]} {level}":
                          (metric(after, x_ref).clamp(max=60) - metric(x, x_ref).clamp(max=60)).mean().item()
                          for metric in (metrics.psnr, metrics.ssim)}
            note("restorer", name, seed, gains)
            print(name, seed, {key: round(value, 3) for key, value in values.items()}, flush=True)


@torch.inference_mode()
def both(method: dri.DRIIQA, x: Tensor) -> Tensor:
    return torch.cat(method.net.extractor(x.to(method.device))[:2], 1)


def judged(mode: str, dataset: str) -> dict[str, pd.DataFrame]:
    """Rows of the ledger of each step of the ladder, the last epoch."""
    rows, size = ledger.read(), len(load(dataset).thin(PICTURES[dataset][mode]))
    rows = rows[(rows["method"] == "dri-iqa") & (rows["mode"] == mode) & (rows["dataset"] == dataset)
                & (rows["images"] == size)]
    return {name: rows[rows["variant"] == f"{method.variant}: NR"] for name, method in methods(mode, dataset).items()}


def claims(mode: str) -> None:
    """Each claim from pairs of trainings on the same splits."""
    measures = pd.read_csv(MEASURES)
    remark = "" if mode == "full" else "small networks, few epochs on a CPU"
    for name in PICTURES:
        rows, variant = judged(mode, name), {key: method.variant for key, method in methods(mode, name).items()}

        def of(what: str, measure: str, sizes: pd.DataFrame = rows["A0"]) -> pd.DataFrame:
            """A measure stands where SRCC does; sizes and seeds are those of the splits."""
            mine = measures[(measures["what"] == what) & (measures["dataset"] == name)
                            & (measures["measure"] == measure)].set_index("seed")["value"]
            return sizes.assign(srcc=sizes["seed"].map(mine))

        def test(key: str, text: str, measure: str, with_it: pd.DataFrame, without: pd.DataFrame) -> None:
            report.claim(f"dri-iqa {key}", PAPER, text, name, measure,
                         evaluate.compare(with_it.assign(variant=""), without.assign(variant="")), remark)

        if ELSEWHERE[name] is None:  # else one extractor serves all splits
            test("a type", "the type is decoded better from g than from q", "kNN accuracy, g - q",
                 of("extractor", "type g"), of("extractor", "type q"))
            test("split", "two vectors beat one", "SRCC, (A3 +q+g) - (A3 one vector)", rows["A3 +q+g"],
                 rows["A3 one vector"])
            test("a content", "the content is decoded worse from g than from q", "kNN accuracy, q - g",
                 of("extractor", "content q"), of("extractor", "content g"))
        for key, text, more, less in (
                ("b", "adding g to q helps", "A3 +q+g", "A1 +q"), ("b alone", "g alone helps", "A2 +g", "A0"),
                ("c", "restoration assistance helps", "A4 A3+R", "A3 +q+g"),
                ("c tgb", "guidance by TGB beats a sum", "A5 A4+TGB", "A4 A3+R"),
                ("d", "the RS loss helps", "A6 A5+RS", "A5 A4+TGB"),
                ("all", "the full method beats its predictor alone", "A6 A5+RS", "A0")):
            test(key, text, f"SRCC, ({more}) - ({less})", rows[more], rows[less])
        gain = {kind: of(variant["A6 A5+RS"], f"SRCC {kind}")["srcc"].to_numpy()
                - of(variant["A0"], f"SRCC {kind}")["srcc"].to_numpy() for kind in ("restored", "degraded")}
        for key, text, other in (("e", "on restored pictures the full method judges better than its predictor", 0),
                                 ("e more", "and gains more than on degraded ones", gain["degraded"])):
            test(key, text, "SRCC with MS-SSIM, gain" + " - gain" * (key != "e"),
                 rows["A0"].assign(srcc=gain["restored"]), rows["A0"].assign(srcc=other))


def figure(mode: str) -> None:
    """Left: the ladder, a dot a split. Right: what restoration gains in PSNR on unseen contents, by type."""
    plot.style()
    _, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    for shift, (name, color) in zip((-0.12, 0.12), zip(PICTURES, (plot.BLUE, plot.ORANGE))):
        for key, rows in judged(mode, name).items():
            place = [*LADDER].index(key) + shift
            left.plot(np.full(len(rows), place), rows["srcc"], "o", color=color, alpha=0.6,
                      label=name if key == "A0" else None)
            left.plot([place - 0.1, place + 0.1], 2 * [rows["srcc"].median()], color="black")
    left.set_xticks(range(len(LADDER)), [name.replace(" ", "\n") for name in LADDER], fontsize=8)
    left.set(ylabel="SRCC, a dot a split")
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncol=2)
    measures = pd.read_csv(MEASURES)
    found = measures[(measures["what"] == "restorer") & measures["measure"].str.match(r"psnr .* [2-5]$")]
    found = found.assign(type=found["measure"].str.split().str[1])
    for height, name, color in zip((-0.2, 0.2), PICTURES, (plot.BLUE, plot.ORANGE)):
        gains = found[found["dataset"] == name].groupby("type", sort=False)["value"].mean()
        right.barh(np.arange(len(gains)) + height, gains, 0.35, color=color, label=name)
        right.set_yticks(range(len(gains)), gains.index, fontsize=8)
    right.axvline(0, color="black", lw=0.8)
    right.set(xlabel="gain of PSNR by restoration, dB, mean of levels 2 to 5")
    right.invert_yaxis()
    plt.savefig(Path(__file__).with_name("dri.png"), dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    trainings.main({"scores": scores, "parts": parts, "claims": claims, "figure": figure})
