"""Pairs per second of `iqa_core.reiqa_pairs.make_pairs` and of the official order, in one run on one machine.

Writes bench_pairs.csv beside this file. The official order distorts whole pictures one by one, then crops. It is
written here twice, in a straightforward way: on our distortion bank, and on the plain one of the tests (numpy,
scipy, skimage, Pillow). All make 24 pairs a picture and are timed in turn, so that other load on the machine hits
all; medians of several rounds are kept. Run it with `python figures/bench_pairs.py`; it takes about two minutes.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]
import plain_distortions  # noqa: E402
from bench_distortions import DEVICE, machine, pictures, seconds  # noqa: E402

from iqa_core import images  # noqa: E402
from iqa_core.distortions import LEVELS, TYPES, distort  # noqa: E402
from iqa_core.reiqa_pairs import PretrainConfig, make_pairs, pair_offsets  # noqa: E402

CASES = [(512, 160, 5), (512, 64, 5), (1024, 160, 3)]  # sides of pictures and crops in px, rounds
COUNT = {"cpu": 4, "cuda": 32}[DEVICE]  # pictures a step
PLAIN = 2  # pictures that the slower versions get


def official_order(picture: torch.Tensor, config: PretrainConfig, distort_one: Callable,
                   generator: torch.Generator) -> torch.Tensor:
    """The pairs (24, 6, P, P) of one picture (3, H, W), one step after the other."""
    kinds = torch.randperm(len(TYPES), generator=generator)[:config.types_per_picture].tolist()
    versions = [picture]
    for kind in kinds:
        level = int(torch.randint(1, 6, (), generator=generator))
        versions.append(distort_one(picture, TYPES[kind], level))
    size, pairs = config.crop, []
    for scale in (1, 2):
        down, right = pair_offsets(1, size, config.overlap, generator)[0].tolist()
        side, place = size + max(down, right), None
        for i, version in enumerate(versions):
            if scale == 2:
                version = F.interpolate(version[None], scale_factor=0.5, mode="bicubic", align_corners=True)[0]
            version = images.fit(version, side)
            if place is None:
                place = [int(torch.randint(n - side + 1, (), generator=generator)) for n in version.shape[1:]]
            region = version[:, place[0]:place[0] + side, place[1]:place[1] + side]
            a, b = region[:, :size, :size], region[:, down:down + size, right:right + size]
            pairs.append(torch.cat([b, a] if (i < 6) == (scale == 1) else [a, b]))
    return torch.stack(pairs)


def bank(picture: torch.Tensor, kind: str, level: int) -> torch.Tensor:
    return distort(picture, kind, level)


def plain_bank(picture: torch.Tensor, kind: str, level: int) -> torch.Tensor:
    array, parameter = picture.permute(1, 2, 0).numpy(), LEVELS[kind][level - 1]
    array = plain_distortions.plain(array, kind, parameter, np.random.default_rng(0))
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).permute(2, 0, 1)


def compare(size: int, crop: int, rounds: int) -> dict:
    """Pairs per second of the three versions on square pictures."""
    x, config = images.to_uint8(pictures(size, COUNT)), PretrainConfig(crop=crop)
    draws = torch.Generator().manual_seed(0)

    def ours():
        make_pairs(list(x), config, draws, DEVICE)

    def theirs(distort_one: Callable, device: str):
        for picture in x[:PLAIN]:
            official_order(images.from_uint8(picture).to(device), config, distort_one, draws)

    works = [ours, lambda: theirs(bank, DEVICE), lambda: theirs(plain_bank, "cpu")]
    ours()  # warm up
    times = np.median([[seconds(work) for work in works] for _ in range(rounds)], 0)
    rates = np.array([COUNT, PLAIN, PLAIN]) * config.pairs / times
    return {"picture": size, "crop": crop, "ours": rates[0], "official_order": rates[1],
            "official_order_plain_bank": rates[2], "ratio": rates[0] / rates[1],
            "ratio_plain_bank": rates[0] / rates[2]}


def main() -> None:
    print(machine())
    table = pd.DataFrame([compare(*case) for case in CASES]).round(2)
    print("pairs per second\n" + table.to_string(index=False))
    table["machine"] = machine()
    table.to_csv(HERE / "bench_pairs.csv", index=False)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*negative Z values.*")  # skimage says so for every picture
    main()
