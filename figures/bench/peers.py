"""`make bench`: how long we take beside other implementations (peers), on one machine.

    python -m figures.bench.peers [metrics] [networks] [steps] [growth]

Writes figures/bench.csv: a line a measurement, `ratio` = peer's time / ours (above 1: we are
faster). Ours and every peer get the same tensors and are timed in turn, so that other load on the
machine hits all; medians of several rounds are written. A peer that is not installed is left out:
`pip install -e ".[bench]"` brings them. Networks have random weights, for time does not depend on
them. Distortions, pairs, YOTO and QFM-IQM have scripts of their own beside this one.
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
from torch import Tensor

from figures import FOLDER, ledger
from figures.bench.timing import DEVICE, machine, memory_gb, photographs, seconds, training_batch
from iqa_core import (
    backbones, data, dri, images, metrics, qfm, reiqa_pairs, reiqa_pretrain, score, yoto)

ROUNDS = 15
TABLE = FOLDER / "bench.csv"
KEY = ["part", "what", "size", "peer", "machine"]


def peer(name: str):
    """A module, or None if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name.split('.')[0]} is not installed and is left out")
        return None


def in_turn(works: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median milliseconds of each, after a warm-up.

    Everybody begins a round once, since the one that begins starts in a cold cache.
    """
    for work in works.values():
        work()
    names = list(works)
    times = {name: [] for name in names}
    for i in range(rounds):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(1000 * seconds(works[name]))
    return {name: float(np.median(values)) for name, values in times.items()}


def rows(what: str, size: str, works: dict[str, Callable[[], object]], rounds: int = ROUNDS
         ) -> list[dict]:
    """A line for each peer; "ours" is among the works. Without a peer one line."""
    times = in_turn(works, rounds)
    ours = times.pop("ours")
    if not times:
        times = {"": np.nan}
    return [{"what": what, "size": size, "ours": ours, "unit": "ms", "peer": name, "peer's": value,
             "ratio": value / ours} for name, value in times.items()]


# --- metrics -------------------------------------------------------------------------------------

def peers_of(name: str, x: Tensor, x_ref: Tensor) -> dict[str, Callable[[], object]]:
    """The peers' functions for "psnr", "ssim" or "ms_ssim", each called without arguments."""
    works = {}
    piq = peer("piq")
    if piq:
        functions = {"psnr": (piq.psnr, {}), "ssim": (piq.ssim, {"downsample": False}),
                     "ms_ssim": (piq.multi_scale_ssim, {})}
        function, options = functions[name]
        works["piq"] = lambda: function(x, x_ref, data_range=1.0, reduction="none", **options)
    piqa = peer("piqa")
    if piqa:
        classes = {"psnr": piqa.PSNR, "ssim": piqa.SSIM, "ms_ssim": piqa.MS_SSIM}
        module = classes[name](reduction="none").to(x.device)
        works["piqa"] = lambda: module(x, x_ref)
    torchmetrics = peer("torchmetrics.functional.image")
    if torchmetrics:
        functions = {
            "psnr": (torchmetrics.peak_signal_noise_ratio, {"dim": (1, 2, 3)}),
            "ssim": (torchmetrics.structural_similarity_index_measure, {}),
            "ms_ssim": (torchmetrics.multiscale_structural_similarity_index_measure, {})}
        compared, more = functions[name]
        works["torchmetrics"] = lambda: compared(x, x_ref, data_range=1.0, reduction="none", **more)
    skimage = peer("skimage.metrics")
    if skimage and name != "ms_ssim":
        pairs = [(a.cpu().numpy(), b.cpu().numpy()) for a, b in zip(x, x_ref)]

        def by_skimage() -> Tensor:
            if name == "psnr":
                values = [skimage.peak_signal_noise_ratio(b, a, data_range=1.0) for a, b in pairs]
            else:
                values = [skimage.structural_similarity(
                    a, b, data_range=1.0, channel_axis=0, gaussian_weights=True, sigma=1.5,
                    use_sample_covariance=False) for a, b in pairs]
            return torch.tensor(values)

        works["skimage"] = by_skimage
    return works


@torch.inference_mode()
def fr_metrics() -> list[dict]:
    """PSNR, SSIM and MS-SSIM of RGB images, and how far the values lie apart."""
    table = []
    functions = {"psnr": metrics.psnr, "ssim": metrics.ssim, "ms_ssim": metrics.ms_ssim}
    for batch, side in ((8, 256), (4, 768)):
        x_ref = photographs(side, batch).to(DEVICE)
        noise = torch.randn(x_ref.shape, generator=torch.Generator().manual_seed(0)).to(DEVICE)
        x = (x_ref + 0.05 * noise).clamp(0, 1)
        for name, function in functions.items():
            works = {"ours": lambda: function(x, x_ref), **peers_of(name, x, x_ref)}
            values = {who: torch.as_tensor(work()).flatten().cpu() for who, work in works.items()}
            for line in rows(name, f"{batch} x {side} x {side}", works):
                line["apart"] = np.nan
                if line["peer"]:
                    apart = (values[line["peer"]] - values["ours"]).abs()
                    line["apart"] = apart.max().item()
                table.append(line)
    return table


# --- networks ------------------------------------------------------------------------------------

@torch.inference_mode()
def networks() -> list[dict]:
    """Our no-reference networks beside pyiqa's TOPIQ on the same backbone and the same crops."""
    table = []
    topiq = peer("pyiqa.archs.topiq_arch")
    x = photographs(224, 8).to(DEVICE)
    for backbone in ("resnet50", "tf_efficientnet_lite0"):
        changes = {"encoder": backbone, "weights": "random", "width": 64, "crop": 224}
        ours = {"yoto": yoto.Network(dataclasses.replace(yoto.QUICK, **changes)),
                "qfm-iqm": qfm.Network(dataclasses.replace(qfm.QUICK, heads=4, **changes)),
                "backbone alone": backbones.pyramid(backbone, "random")}
        theirs = {}
        if topiq:
            net = topiq.CFANet(backbone, use_ref=False, backbone_pretrain=False, pretrained=False)
            net.eval().to(DEVICE)
            theirs["pyiqa topiq"] = lambda: net(x)
        for name, network in ours.items():
            network.eval().to(DEVICE, memory_format=torch.channels_last)
            works = {"ours": lambda: network(x), **theirs}
            table += rows(f"{name}, {backbone}", "8 x 224 x 224", works)
    return table


# --- training steps ------------------------------------------------------------------------------

def training_step(method, half: bool = False) -> Callable[[], None]:
    """A step of a method's last stage: loss, backward, optimizer; with `half` in bfloat16."""
    torch.manual_seed(0)
    net = method.net = method.build().to(DEVICE, memory_format=torch.channels_last)
    net.train()
    batch = training_batch(method)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-5)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=half):
            loss = method.loss(batch)["loss"]
        loss.backward()
        optimizer.step()

    return step


def steps() -> list[dict]:
    """A training step of each method in quick mode; Re-IQA's with the making of its pairs."""
    table = []
    for method in (yoto.YOTO(yoto.QUICK), qfm.QFMIQM(qfm.QUICK), dri.DRIIQA(dri.QUICK)):
        config = method.config
        works = {"ours": training_step(method)}
        if DEVICE == "cuda":
            works["ours in bfloat16"] = training_step(type(method)(config), half=True)
        size = f"{config.batch} x {config.crop} x {config.crop}"
        table += rows(f"{method.name}, training step", size, works)
    config = dataclasses.replace(reiqa_pairs.QUICK, weights="random", epochs=ROUNDS, warmup=0)
    photos = list(images.to_uint8(photographs(512, config.batch)))

    def ours() -> None:
        reiqa_pretrain.pretrain(photos, config)

    def without_distortions() -> None:
        with mock.patch.object(reiqa_pairs, "distort", lambda x, *_: x):
            reiqa_pretrain.pretrain(photos, config)

    size = f"{config.batch * config.pairs} pairs of {config.crop} x {config.crop}"
    works = {"ours": ours, "ours without distortions": without_distortions}
    for line in rows("re-iqa, training step", size, works, rounds=3):
        line["ours"] /= ROUNDS
        line["peer's"] /= ROUNDS
        table.append(line)
    return table


# --- growth with the size of an image and of a folder --------------------------------------------

def of_a_folder(job: tuple[str, int, int]) -> tuple[float, float]:
    """Milliseconds an image and growth of memory in GB over a folder of small images.

    To be called once in a fresh process.

    Args:
        job: name of a method, number of images, their side. The method scores the folder; without
            a name it is an epoch of training crops that may keep 50 MB of images in memory.
    """
    name, count, side = job
    folder = Path(tempfile.mkdtemp())
    images.save(folder / "0.png", photographs(side, 1)[0])
    for i in range(1, count):
        (folder / f"{i}.png").hardlink_to(folder / "0.png")
    if name:
        method = score.load_method(name)
        score.score_paths(folder / "0.png", method=method)
        work = lambda: score.score_paths(folder, method=method)  # noqa: E731
    else:
        table = pd.DataFrame({"image": [f"{i}.png" for i in range(count)], "score": range(count)})
        loader = data.loader(data.from_frame(table, folder), 64, 16, keep_gb=0.05)
        next(iter(loader))
        work = lambda: collections.deque(loader, maxlen=0)  # noqa: E731
    before = memory_gb("VmRSS")
    took = seconds(work)
    shutil.rmtree(folder)
    return 1000 * took / count, memory_gb("VmHWM") - before


def growth() -> list[dict]:
    """Cost of a score by size of the image; cost and memory of a folder by number of images."""
    table = []
    for name in ("re-iqa", "qfm-iqm", "brisque"):
        method = score.load_method(name)
        for side in (224, 512, 1024, 2048):
            x = photographs(side, 1)
            works = {"ours": lambda: method.score(x)}
            [line] = rows(f"{name}, score", f"1 x {side} x {side}", works)
            line["ours, a megapixel"] = line["ours"] / side**2 * 1e6
            table.append(line)
    jobs = [("brisque", count, 96) for count in (100, 1000, 10_000)]
    jobs += [("", count, 128) for count in (1000, 12_000)]
    measured = {job: [] for job in jobs}
    for _ in range(3):
        for job in jobs:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                measured[job].append(pool.map(of_a_folder, [job])[0])
    for (name, count, side), values in measured.items():
        what = f"{name}, a folder" if name else "crops for training, an epoch"
        size = f"{count} x {side} x {side}"
        milliseconds, gigabytes = np.median(values, axis=0)
        table.append({"what": f"{what}, an image", "size": size, "ours": milliseconds,
                      "unit": "ms"})
        table.append({"what": f"{what}, growth of memory", "size": size, "ours": gigabytes,
                      "unit": "GB"})
    return table


PARTS = {"metrics": fr_metrics, "networks": networks, "steps": steps, "growth": growth}


def read_table(path: Path) -> pd.DataFrame:
    """bench.csv, with "" where there is no peer."""
    return pd.read_csv(path).fillna({"peer": ""})


def four_digits(value):
    """Numbers rounded to four significant digits."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    chosen = sys.argv[1:] or list(PARTS)
    unknown = set(chosen) - set(PARTS)
    if unknown:
        sys.exit(f"{', '.join(unknown)}: no such part; choose from {', '.join(PARTS)}.")
    print(machine())
    os.environ["CI"] = "1"  # no progress bars between the lines
    for name in chosen:
        table = pd.DataFrame(PARTS[name]()).fillna({"peer": ""}).map(four_digits)
        print(table.to_string(index=False))
        table = table.assign(part=name, machine=machine(), date=date.today().isoformat())
        ledger.merge(TABLE, table, KEY, read_table)


if __name__ == "__main__":
    main()
