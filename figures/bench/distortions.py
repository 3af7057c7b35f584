"""Images per second of `iqa_core.distortions` and of the plain one-by-one version, on one machine.

    python -m figures.bench.distortions      about two minutes on two free cores

Writes figures/bench_distortions.csv. Ours gets batches of 32 and all threads. The plain version
(tests/plain_distortions.py: numpy, scipy, skimage, Pillow, in float32) works image by image in one.
Both are timed in turn, so that other load on the machine hits both; medians of several rounds are
written.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import torch

from figures import FOLDER
from figures.bench.timing import DEVICE, machine, photographs, plain, seconds
from iqa_core.distortions import LEVELS, TYPES, distort

plain_distortions = plain("plain_distortions")

BATCH = 32
ROUNDS = {224: 7, 512: 3}  # by size in px
MIX = "mix of all 125 cells"


def compare(x: torch.Tensor, types: list[str], levels: list[int], plain_count: int,
            rounds: int) -> dict:
    """Images per second of both versions over the cells (types[i], levels[i]) of images x.

    The plain version gets the first `plain_count` images only.
    """
    x_device = x.to(DEVICE)
    arrays = [image.permute(1, 2, 0).contiguous().numpy() for image in x[:plain_count]]
    rng = np.random.default_rng(0)

    def run_ours() -> None:
        for i in range(0, len(x), BATCH):
            distort(x_device[i:i + BATCH], types[i:i + BATCH], levels[i:i + BATCH])

    def run_plain() -> None:
        for image, name, level in zip(arrays, types, levels):
            plain_distortions.plain(image, name, LEVELS[name][level - 1], rng)

    run_ours()  # warm up
    run_plain()
    times = np.array([(seconds(run_ours), seconds(run_plain)) for _ in range(rounds)])
    ours, theirs = np.median(times, axis=0)
    return {"ours_per_second": len(x) / ours, "plain_per_second": plain_count / theirs}


def measure(size: int, rounds: int) -> list[dict]:
    """A line a type, and one for a mix of all types and levels."""
    x = photographs(size, 128)
    rows = []
    levels = [1 + i % 5 for i in range(BATCH)]
    for name in TYPES:  # the plain version takes five images, one a level
        rates = compare(x[:BATCH], [name] * BATCH, levels, 5, rounds)
        rows.append({"size": size, "type": name, **rates})
    cells = [(name, level) for name in TYPES for level in range(1, 6)]
    order = np.random.default_rng(0).permutation(125).tolist()
    chosen = [cells[i] for i in order + order[:3]]  # 128 = 4 batches of 32
    types = [name for name, _ in chosen]
    levels = [level for _, level in chosen]
    rows.append({"size": size, "type": MIX, **compare(x, types, levels, 125, rounds)})
    for row in rows:
        row["ratio"] = row["ours_per_second"] / row["plain_per_second"]
    return rows


def main() -> None:
    warnings.filterwarnings("ignore", message=".*negative Z values.*")  # skimage, for every image
    print(machine())
    rows = []
    for size, rounds in ROUNDS.items():
        of_size = measure(size, rounds)
        print(f"\n{size} x {size} px\n{pd.DataFrame(of_size).round(1).to_string(index=False)}")
        rows += of_size
    table = pd.DataFrame(rows).round(2)
    table["machine"] = machine()
    table.to_csv(FOLDER / "bench_distortions.csv", index=False)


if __name__ == "__main__":
    main()
