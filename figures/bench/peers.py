"""`make bench`: how long we take beside the peers, in one run on one machine.

    python figures/bench.py [metrics] [networks] [steps] [growth]

Writes bench.csv beside this file: a line a measurement, `ratio` = peer's time / ours (above 1: we are faster). Ours and
every peer get the same tensors and are timed in turn, so that other load on the machine hits all; medians of several
rounds are kept. A peer that is not installed is left out: `pip install -e ".[bench]"` brings them. Networks have random
weights, for time does not depend on them. Distortions, pairs, YOTO and QFM-IQM have scripts of their own beside this one.
"""

from __future__ import annotations

import collections
import dataclasses
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch
from bench_distortions import DEVICE, machine, pictures, seconds
from bench_yoto import held

from figures import ledger
from iqa_core import backbones, data, dri, images, metrics, qfm, reiqa_pairs, reiqa_pretrain, score, yoto

ROUNDS = 15
OUT = Path(__file__).with_name("bench.csv")


def peer(name: str):
    """A module, or None if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name.split('.')[0]} is not installed and is left out")
        return None


def in_turn(works: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median milliseconds of each, after a warm-up; everybody begins a round once, since that one starts in a cold cache."""
    for work in works.values():
        work()
    names, times = [*works], {name: [] for name in works}
    for i in range(rounds):
        for name in names[i % len(names):] + names[:i % len(names)]:
            times[name].append(1000 * seconds(works[name]))
    return {name: float(np.median(values)) for name, values in times.items()}


def rows(what: str, size: str, works: dict[str, Callable[[], object]], rounds: int = ROUNDS, **more) -> list[dict]:
    """A line for each peer; "ours" is among the works. Without a peer one line."""
    times = in_turn(works, rounds)
    ours = times.pop("ours")
    return [{"what": what, "size": size, "ours": ours, "unit": "ms", "peer": name, "peer's": value, "ratio": value / ours, **more}
            for name, value in (times or {"": np.nan}).items()]


@torch.inference_mode()
def fr_metrics() -> list[dict]:
    """PSNR, SSIM and MS-SSIM of RGB pictures, and how far the values lie apart."""
    found, piq, piqa, tm, ski = [], peer("piq"), peer("piqa"), peer("torchmetrics.functional.image"), peer("skimage.metrics")
    for batch, side in ((8, 256), (4, 768)):
        x_ref = pictures(side, batch).to(DEVICE)
        x = (x_ref + 0.05 * torch.randn(x_ref.shape, generator=torch.Generator().manual_seed(0)).to(DEVICE)).clamp(0, 1)
        arrays = [[picture.cpu().numpy() for picture in both] for both in (x, x_ref)]
        for name, ours in (("psnr", metrics.psnr), ("ssim", metrics.ssim), ("ms_ssim", metrics.ms_ssim)):
            works = {"ours": lambda: ours(x, x_ref)}
            if piq:
                theirs = {"psnr": piq.psnr, "ssim": lambda *p, **k: piq.ssim(*p, downsample=False, **k),
                          "ms_ssim": piq.multi_scale_ssim}[name]
                works["piq"] = lambda theirs=theirs: theirs(x, x_ref, data_range=1.0, reduction="none")
            if piqa:
                theirs = {"psnr": lambda: piqa.PSNR(reduction="none"), "ssim": lambda: piqa.SSIM(reduction="none"),
                          "ms_ssim": lambda: piqa.MS_SSIM(reduction="none")}[name]().to(DEVICE)
                works["piqa"] = lambda theirs=theirs: theirs(x, x_ref)
            if tm:
                theirs = {"psnr": lambda *p: tm.peak_signal_noise_ratio(*p, data_range=1.0, reduction="none", dim=(1, 2, 3)),
                          "ssim": lambda *p: tm.structural_similarity_index_measure(*p, data_range=1.0, reduction="none"),
                          "ms_ssim": lambda *p: tm.multiscale_structural_similarity_index_measure(
                              *p, data_range=1.0, reduction="none")}[name]
                works["torchmetrics"] = lambda theirs=theirs: theirs(x, x_ref)
            if ski and name != "ms_ssim":
                theirs = {"psnr": lambda a, b: ski.peak_signal_noise_ratio(b, a, data_range=1.0),
                          "ssim": lambda a, b: ski.structural_similarity(
                              a, b, data_range=1.0, channel_axis=0, gaussian_weights=True, sigma=1.5,
                              use_sample_covariance=False)}[name]
                works["skimage"] = lambda theirs=theirs: torch.tensor([theirs(a, b) for a, b in zip(*arrays)])
            values = {who: torch.as_tensor(work()).flatten().cpu() for who, work in works.items()}
            lines = rows(name, f"{batch} x {side} x {side}", works)
            for line in lines:
                line["apart"] = (values[line["peer"]] - values["ours"]).abs().max().item() if line["peer"] else np.nan
            found += lines
    return found


@torch.inference_mode()
def networks() -> list[dict]:
    """Our no-reference networks beside pyiqa's TOPIQ on the same backbone and the same crops."""
    found, topiq = [], peer("pyiqa.archs.topiq_arch")
    for backbone, width in (("resnet50", 64), ("tf_efficientnet_lite0", 64)):
        x = pictures(224, 8).to(DEVICE)
        works = {"yoto": yoto.Network(dataclasses.replace(yoto.QUICK, encoder=backbone, weights="random", width=width, crop=224)),
                 "qfm-iqm": qfm.Network(dataclasses.replace(qfm.QUICK, encoder=backbone, weights="random", width=width, crop=224)),
                 "backbone alone": backbones.pyramid(backbone, "random")}
        theirs = {}
        if topiq:
            net = topiq.CFANet(backbone, use_ref=False, backbone_pretrain=False, pretrained=False).eval().to(DEVICE)
            theirs = {"pyiqa topiq": lambda: net(x)}
        for name, ours in works.items():
            ours.eval().to(DEVICE, memory_format=torch.channels_last)
            found += rows(f"{name}, {backbone}", "8 x 224 x 224", {"ours": lambda: ours(x), **theirs})
    return found


def steps() -> list[dict]:
    """A training step of each method, in the settings of quick mode; Re-IQA's with the making of its pairs."""
    found = []
    for method in (yoto.YOTO(yoto.QUICK), qfm.QFMIQM(qfm.QUICK), dri.DRIIQA(dri.QUICK)):
        c = method.config
        torch.manual_seed(0)
        with torch.random.fork_rng():
            method.net = method.network(dataclasses.replace(c, weights="random")).to(DEVICE, memory_format=torch.channels_last)
        x = pictures(c.crop, c.batch).to(DEVICE)
        batch = {"x": x, "x_ref": x, "score": torch.rand(c.batch, device=DEVICE), "row": torch.arange(c.batch, device=DEVICE)}
        method.net.train()
        method.scored = 10**9
        method.begin(99)
        learner = torch.optim.Adam(method.net.parameters(), lr=1e-5)

        def step(half: bool = False):
            learner.zero_grad()
            with torch.autocast(DEVICE, torch.bfloat16, enabled=half):
                loss = method.loss(batch)
            loss.backward()
            learner.step()

        works = {"ours": step} | ({"ours in bfloat16": lambda: step(True)} if DEVICE == "cuda" else {})
        found += rows(f"{method.name}, training step", f"{c.batch} x {c.crop} x {c.crop}", works)
    c = dataclasses.replace(reiqa_pairs.QUICK, weights="random", epochs=ROUNDS, warmup=0)
    photos = [*images.to_uint8(pictures(512, c.batch))]

    def plain():
        with mock.patch.object(pairs, "distort", lambda x, *_: x):
            reiqa_pretrain.pretrain(photos, c)

    lines = rows("re-iqa, training step", f"{c.batch * c.pairs} pairs of {c.crop} x {c.crop}",
                 {"ours": lambda: reiqa_pretrain.pretrain(photos, c), "ours without distortions": plain}, rounds=3)
    return found + [{**line, "ours": line["ours"] / ROUNDS, "peer's": line["peer's"] / ROUNDS} for line in lines]


def peak(job: tuple[str, int, int]) -> tuple[float, float]:
    """Milliseconds a picture and growth of memory in GB, in a process of its own, over so many small pictures.

    With the name of a method `score_paths` over a folder, else an epoch of training crops that may keep 50 MB of pictures.
    """
    name, count, side = job
    folder = Path(tempfile.mkdtemp())
    images.save(folder / "0.png", pictures(side, 1)[0])
    for i in range(1, count):
        (folder / f"{i}.png").hardlink_to(folder / "0.png")
    if name:
        method = score.load_method(name)
        score.score_paths(folder / "0.png", method=method)
        work = lambda: score.score_paths(folder, method=method)  # noqa: E731
    else:
        pd.DataFrame({"image": [f"{i}.png" for i in range(count)], "score": range(count)}).to_csv(folder / "t.csv", index=False)
        loader = data.loader(data.from_csv(folder / "t.csv"), 64, 16, keep_gb=0.05)
        next(iter(loader))
        work = lambda: collections.deque(loader, maxlen=0)  # noqa: E731
    before = held("VmRSS")
    took = seconds(work)
    shutil.rmtree(folder)
    return 1000 * took / count, held("VmHWM") - before


def growth() -> list[dict]:
    """Cost of a score by size of the picture, and cost and memory of a folder by the number of its pictures."""
    found = []
    for name in ("re-iqa", "qfm-iqm", "brisque"):
        method = score.load_method(name)
        for side in (224, 512, 1024, 2048):
            x = pictures(side, 1)
            found += rows(f"{name}, score", f"1 x {side} x {side}", {"ours": lambda: method.score(x)})
            found[-1]["ours, a megapixel"] = found[-1]["ours"] / side**2 * 1e6
    jobs = [("brisque", count, 96) for count in (100, 1000, 10_000)] + [("", count, 128) for count in (1000, 12_000)]
    each = {job: [] for job in jobs}
    for _ in range(3):
        for job in jobs:
            with multiprocessing.get_context("spawn").Pool(1) as fresh:
                each[job].append(fresh.map(peak, [job])[0])
    for (name, count, side), values in each.items():
        what = f"{name}, a folder" if name else "crops for training, an epoch"
        for kind, unit, value in zip(("a picture", "growth of memory"), ("ms", "GB"), np.median(values, 0)):
            found.append({"what": f"{what}, {kind}", "size": f"{count} x {side} x {side}", "ours": value, "unit": unit})
    return found


PARTS = {"metrics": fr_metrics, "networks": networks, "steps": steps, "growth": growth}


def main() -> None:
    if unknown := set(sys.argv[1:]) - set(PARTS):
        sys.exit(f"{', '.join(unknown)}: no such part; choose from {', '.join(PARTS)}.")
    print(machine())
    os.environ["CI"] = "1"  # no progress bars between the lines
    for name in sys.argv[1:] or PARTS:
        table = pd.DataFrame(PARTS[name]()).fillna({"peer": ""})
        table = table.map(lambda value: float(f"{value:.4g}") if isinstance(value, float) else value)
        print(table.to_string(index=False))
        table = table.assign(part=name, machine=machine(), date=date.today().isoformat())
        ledger.merge(OUT, table, ["part", "what", "size", "peer", "machine"], lambda path: pd.read_csv(path).fillna({"peer": ""}))


if __name__ == "__main__":
    main()
