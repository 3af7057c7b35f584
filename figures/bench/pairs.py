"""Pairs per second of `iqa_core.reiqa_pairs.make_pairs` and of the official order, on one machine.

    python -m figures.bench.pairs            about two minutes on two free cores

Writes figures/bench_pairs.csv. The official order distorts whole images one by one, then crops. It
is written here twice, in a straightforward way: on our distortion bank, and on the plain one of the
tests (numpy, scipy, skimage, Pillow). All make 24 pairs an image and are timed in turn, so that
other load on the machine hits all; medians of several rounds are written.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from figures import FOLDER
from figures.bench.timing import DEVICE, machine, photographs, plain, seconds
from iqa_core import images
from iqa_core.distortions import LEVELS, TYPES, distort
from iqa_core.reiqa_pairs import PretrainConfig, make_pairs, pair_offsets

plain_distortions = plain("plain_distortions")

CASES = [(512, 160, 5), (512, 64, 5), (1024, 160, 3)]  # sides of images and crops in px, rounds
COUNT = {"cpu": 4, "cuda": 32}[DEVICE]  # images a step
PLAIN = 2  # images that the slower versions get


def official_order(image: torch.Tensor, config: PretrainConfig, distort_one: Callable,
                   generator: torch.Generator) -> torch.Tensor:
    """The pairs (24, 6, P, P) of one image (3, H, W), one step after the other."""
    kinds = torch.randperm(len(TYPES), generator=generator)[:config.types_per_image].tolist()
    versions = [image]
    for kind in kinds:
        level = int(torch.randint(1, 6, (), generator=generator))
        versions.append(distort_one(image, TYPES[kind], level))
    size = config.crop
    pairs = []
    for scale in (1, 2):
        down, right = pair_offsets(1, size, config.overlap, generator)[0].tolist()
        side = size + max(down, right)
        top = left = None  # the same place in all versions
        for i, version in enumerate(versions):
            if scale == 2:
                version = F.interpolate(version[None], scale_factor=0.5, mode="bicubic",
                                        align_corners=True)[0]
            version = images.fit(version, side)
            if top is None:
                height, width = version.shape[1:]
                top = int(torch.randint(height - side + 1, (), generator=generator))
                left = int(torch.randint(width - side + 1, (), generator=generator))
            region = version[:, top:top + side, left:left + side]
            a = region[:, :size, :size]
            b = region[:, down:down + size, right:right + size]
            swapped = (i < 6) == (scale == 1)
            pairs.append(torch.cat([b, a] if swapped else [a, b]))
    return torch.stack(pairs)


def plain_bank(image: torch.Tensor, kind: str, level: int) -> torch.Tensor:
    """One image (3, H, W) by the plain distortions of the tests."""
    array = image.permute(1, 2, 0).numpy()
    parameter = LEVELS[kind][level - 1]
    array = plain_distortions.plain(array, kind, parameter, np.random.default_rng(0))
    array = np.ascontiguousarray(array, dtype=np.float32)
    return torch.from_numpy(array).permute(2, 0, 1)


def compare(size: int, crop: int, rounds: int) -> dict:
    """Pairs per second of the three versions on square images."""
    x = images.to_uint8(photographs(size, COUNT))
    config = PretrainConfig(crop=crop)
    generator = torch.Generator().manual_seed(0)

    def ours() -> None:
        make_pairs(list(x), config, generator, DEVICE)

    def official(distort_one: Callable, device: str) -> None:
        for image in x[:PLAIN]:
            official_order(images.from_uint8(image).to(device), config, distort_one, generator)

    works = [ours, lambda: official(distort, DEVICE), lambda: official(plain_bank, "cpu")]
    ours()  # warm up
    times = np.median([[seconds(work) for work in works] for _ in range(rounds)], axis=0)
    rates = np.array([COUNT, PLAIN, PLAIN]) * config.pairs / times
    return {"image": size, "crop": crop, "ours": rates[0], "official_order": rates[1],
            "official_order_plain_bank": rates[2], "ratio": rates[0] / rates[1],
            "ratio_plain_bank": rates[0] / rates[2]}


def main() -> None:
    warnings.filterwarnings("ignore", message=".*negative Z values.*")  # skimage, for every image
    print(machine())
    table = pd.DataFrame([compare(*case) for case in CASES]).round(2)
    print("pairs per second\n" + table.to_string(index=False))
    table["machine"] = machine()
    table.to_csv(FOLDER / "bench_pairs.csv", index=False)


if __name__ == "__main__":
    main()
