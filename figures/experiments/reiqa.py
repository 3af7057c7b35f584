"""Re-IQA judged: train the quality expert, ask what it knows, score pictures, and try the paper's choices one by one.

    python figures/reiqa.py expert       trains iqa_core/weights/reiqa_lite0.pt (QUICK, CID22) and writes its card
    python figures/reiqa.py knows        what both experts know of Kodak 13 to 24: reiqa_knn.csv, claim b
    python figures/reiqa.py scores       BIQ2021 and the re-created TID2013: ledger.csv, claims a and d
    python figures/reiqa.py ablations    short trainings, three seeds each: reiqa_ablations.csv, claim c

The settings of QUICK were chosen with a look at Kodak 1 to 12, so nothing is judged on those. Needs kodak, cid22 and
biq2021 below IQA_DATA.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import nn

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import report  # noqa: E402
from bench_distortions import machine  # noqa: E402

from figures import ledger
from iqa_core import backbones, data, evaluate, reiqa_pretrain  # noqa: E402
from iqa_core.files import atomic, cache_dir  # noqa: E402
from iqa_core.reiqa_pairs import QUICK, PretrainConfig  # noqa: E402
from iqa_core.reiqa import SHIPPED, ReIQA, ReIQAConfig  # noqa: E402

PAPER = "Re-IQA"
SHORT = dataclasses.replace(QUICK, epochs=10)  # ablations: 300 steps
ABLATIONS = {
    "as QUICK": {}, "swap off": {"swap": "off"}, "swap aliased": {"swap": "aliased"},
    "overlap 0.7 to 0.9": {"overlap": (0.7, 0.9)},
}


def train(config: PretrainConfig, name: str) -> tuple[nn.Module, pd.DataFrame, float]:
    """Backbone, history and minutes of a pretraining on CID22's pictures; a finished one is read again."""
    start = time.perf_counter()
    pictures = [*reiqa_pretrain.Pictures(data.load("cid22"))]
    model, history = reiqa_pretrain.pretrain(pictures, config, cache_dir() / f"{name}.ckpt")
    return model.query.backbone, history, (time.perf_counter() - start) / 60


def held_out(size: int = 192) -> list[torch.Tensor]:
    """The centres of Kodak 13 to 24: uint8 (3, size, size)."""
    found = []
    for picture in [*reiqa_pretrain.Pictures(data.load("kodak"))][12:]:
        top, left = ((n - size) // 2 for n in picture.shape[1:])
        found.append(picture[:, top:top + size, left:left + size].contiguous())
    return found


def knowledge(extract: Callable) -> dict[str, np.ndarray]:
    """For each of the 12 contents, how often nearest neighbours tell the cell, the type, and the content."""
    features, cells, contents = reiqa_pretrain.probe(held_out(), torch.inference_mode()(extract))
    hits = {"cell": reiqa_pretrain.knn_hits(features, cells, contents), "type": reiqa_pretrain.knn_hits(features, cells // 5, contents),
            "content": reiqa_pretrain.knn_hits(features, contents, cells // 5)}  # from pictures of other types only
    return {name: hit.reshape(12, 125).mean(1) for name, hit in hits.items()}


def content_expert() -> Callable:
    return nn.Sequential(backbones.Normalise("tf_efficientnet_lite0"), reiqa_pretrain.network("tf_efficientnet_lite0", "auto"))


def paired(d: np.ndarray) -> pd.Series:
    """Mean and 95 % t-interval of paired differences."""
    reach = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / len(d) ** 0.5
    return pd.Series({"difference": d.mean(), "low": d.mean() - reach, "high": d.mean() + reach, "pairs": len(d)})


def expert() -> None:
    """Train and ship the quality expert."""
    net, history, minutes = train(QUICK, "reiqa-quick")
    SHIPPED.parent.mkdir(exist_ok=True)
    reiqa_pretrain.save_expert(SHIPPED, net, QUICK)
    print(f"{len(history)} steps, {minutes:.1f} minutes, last losses {history['loss'].tail(100).mean():.3f}, {machine()}")


def knows() -> None:
    """kNN on held-out contents: the shipped expert, the content expert, and an untrained network."""
    torch.manual_seed(0)
    nets = {"quality expert": reiqa_pretrain.expert(SHIPPED), "content expert (ImageNet)": content_expert(),
            "untrained": reiqa_pretrain.network("tf_efficientnet_lite0")}
    found = {name: knowledge(net) for name, net in nets.items()}
    rows = [{"network": name, **{what: values.mean() for what, values in known.items()}} for name, known in found.items()]
    rows.append({"network": "chance", "cell": 1 / 125, "type": 1 / 25, "content": 1 / 12})
    table = pd.DataFrame(rows)
    table.to_csv(HERE / "reiqa_knn.csv", index=False, float_format="%.3f")
    quality, content = (found[name] for name in list(nets)[:2])
    remark = "60 pictures, small network; 12 contents of 192 px, interval over contents"
    for what, d in (("type", quality["type"] - content["type"]), ("content", content["content"] - quality["content"])):
        report.claim(f"re-iqa b {what}", PAPER, "quality features separate distortion, content features separate content",
                     "kodak 13 to 24", f"5-nearest-neighbour accuracy of {what}, the expert for it - the other",
                     paired(d), remark)
    print(table.round(3).to_string(index=False))


def scores() -> None:
    """Experts and scales on real scores, 10 splits each."""
    for name in ("tid2013-kodak", "biq2021"):
        dataset = data.load(name)
        configs = {"content": ReIQAConfig("content"), "quality": ReIQAConfig("quality"), "both": ReIQAConfig(),
                   "both, one scale": ReIQAConfig(half_scale=False)}
        if dataset.card.reference:
            configs["both, full reference"] = ReIQAConfig(full_reference=True)
        tables = {}
        for variant, config in configs.items():
            tables[variant] = evaluate.run(ReIQA(config), dataset, mode="full", variant=variant)
            ledger.append(tables[variant])
            print(name, variant, evaluate.summary(tables[variant])["srcc"].round(3).tolist(), flush=True)
        for single in ("content", "quality"):
            report.claim(f"re-iqa a {single}", PAPER, f"both experts together are at least as good as the {single} expert",
                         name, f"SRCC, both - {single}; may lose 0.005", evaluate.compare(tables["both"], tables[single]),
                         "lite0 from ImageNet in both places; quality expert from 60 pictures", margin=0.005)
        report.claim("re-iqa d", PAPER, "two scales are better than one", name, "SRCC, full and half size - full size",
                     evaluate.compare(tables["both"], tables["both, one scale"]), "at test time")


def ablations() -> None:
    """Short pretrainings that differ in one choice, judged by kNN and by the SRCC of the quality expert alone."""
    dataset = data.load("tid2013-kodak")
    dataset = dataset.subset(np.arange(0, len(dataset), 6))
    path = HERE / "reiqa_ablations.csv"  # what stands there is kept; remove it to start anew
    rows = pd.read_csv(path).to_dict("records") if path.is_file() else []
    known = {(row["variant"], row["seed"]) for row in rows}
    todo = [(seed, name) for seed in range(3) for name in ABLATIONS if (name, seed) not in known]
    for seed, name in todo:
        config = dataclasses.replace(SHORT, seed=seed, **ABLATIONS[name])
        net, history, _ = train(config, f"reiqa-ablation-{name.replace(' ', '-')}-{seed}")
        weights = cache_dir() / "reiqa-ablation.pt"
        reiqa_pretrain.save_expert(weights, net, config)
        found = knowledge(net)
        table = evaluate.run(ReIQA(ReIQAConfig("quality", quality=str(weights))), dataset)
        rows.append({"variant": name, "seed": seed, "cell": found["cell"].mean(), "type": found["type"].mean(),
                     "srcc": table["srcc"].mean(), "spread": history["spread"].tail(50).mean()})
        print(rows[-1], flush=True)
        with atomic(path) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.4f")
    judge_ablations()


def judge_ablations() -> None:
    """Claim c from reiqa_ablations.csv."""
    rows = pd.read_csv(HERE / "reiqa_ablations.csv").set_index(["variant", "seed"])
    base = rows.loc["as QUICK"]
    remark = "300 steps on 60 pictures from ImageNet weights; three seeds of training"
    for name, text in {"swap off": "the half swap helps", "swap aliased": "a clean swap is better than the aliased one",
                       "overlap 0.7 to 0.9": "crops that overlap little are better than crops that overlap much"}.items():
        for what, dataset in (("cell", "kodak 13 to 24"), ("srcc", "tid2013-kodak")):
            measure = ("5-nearest-neighbour accuracy of (type, level)" if what == "cell"
                       else "SRCC of the quality expert alone, mean of 10 splits, every sixth picture")
            effect = paired((base[what] - rows.loc[name][what]).to_numpy())
            report.claim(f"re-iqa c {name}", PAPER, text, dataset, f"{measure}, as QUICK - {name}", effect, remark)
    print(rows.groupby("variant", sort=False).agg(["mean", "std"])[["cell", "type", "srcc"]].round(3).to_string())


if __name__ == "__main__":
    steps = {"expert": expert, "knows": knows, "scores": scores, "ablations": ablations}
    for step in sys.argv[1:] or steps:
        if step not in steps:
            sys.exit(f"{step!r} is no step; choose from {', '.join(steps)}.")
        try:
            steps[step]()
        except data.DatasetError as error:  # the sentence is enough, a traceback would hide it
            sys.exit(str(error))
