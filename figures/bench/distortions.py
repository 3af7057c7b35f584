"""Images per second of `iqa_core.distortions` and of the plain one-by-one version, in one run on one machine.

Writes bench_distortions.csv beside this file. Ours gets batches of 32 and all threads; the plain version
(tests/plain_distortions.py: numpy, scipy, skimage, Pillow, in float32) works picture by picture in one.
Both are timed in turn, so that other load on the machine hits both; medians of several rounds are kept.
Run it with `python figures/bench_distortions.py`; it takes about two minutes on two free cores.
"""

from __future__ import annotations

import platform
import re
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from skimage import data

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
import plain_distortions  # noqa: E402  (the plain version lives with the tests)

from iqa_core.distortions import LEVELS, TYPES, distort  # noqa: E402

BATCH = 32
ROUNDS = {224: 7, 512: 3}  # by size in px
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def machine() -> str:
    """CPU model, cores, device and versions in one line."""
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", info.read_text() if info.exists() else "")
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else "no GPU"
    return (f"{model[1] if model else platform.processor()}, {torch.get_num_threads()} threads, {device}, "
            f"torch {torch.__version__}, {platform.system()}")


def pictures(size: int, count: int) -> torch.Tensor:
    """(count,3,size,size): three photographs of scikit-image, resized and rolled so that no two are equal."""
    photos = [torch.from_numpy(photo()).permute(2, 0, 1)[None] / 255
              for photo in (data.astronaut, data.chelsea, data.coffee)]
    photos = [F.interpolate(p, (size, size), mode="bicubic", antialias=True).clamp(0, 1)[0] for p in photos]
    return torch.stack([photos[i % 3].roll((37 * i, 23 * i), (1, 2)) for i in range(count)])


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(x: torch.Tensor, types: list[str], levels: list[int], plain_count: int, rounds: int) -> dict:
    """Images per second of both versions over the cells (types[i], levels[i]) of pictures x."""
    rng, on_device = np.random.default_rng(0), x.to(DEVICE)
    arrays = [p.permute(1, 2, 0).contiguous().numpy() for p in x[:plain_count]]

    def ours():
        for i in range(0, len(x), BATCH):
            distort(on_device[i:i + BATCH], types[i:i + BATCH], levels[i:i + BATCH])

    def plain():
        for picture, name, level in zip(arrays, types, levels):
            plain_distortions.plain(picture, name, LEVELS[name][level - 1], rng)

    ours(), plain()  # warm up
    times = np.array([(seconds(ours), seconds(plain)) for _ in range(rounds)])
    ours_time, plain_time = np.median(times, 0)
    return {"ours_per_second": len(x) / ours_time, "plain_per_second": plain_count / plain_time}


def main() -> None:
    print(machine())
    rows = []
    for size, rounds in ROUNDS.items():
        x = pictures(size, 128)
        for name in TYPES:  # the plain version takes five pictures, one a level
            levels = [1 + i % 5 for i in range(BATCH)]
            rows.append({"size": size, "type": name, **compare(x[:BATCH], [name] * BATCH, levels, 5, rounds)})
        cells = [(name, level) for name in TYPES for level in range(1, 6)]
        order = np.random.default_rng(0).permutation(125).tolist()
        types, levels = map(list, zip(*(cells[i] for i in order + order[:3])))  # 128 = 4 batches of 32
        rows.append({"size": size, "type": "mix of all 125 cells", **compare(x, types, levels, 125, rounds)})
        print(f"\n{size} x {size} px{'':18}  ours/s  plain/s   ratio")
        for row in rows:
            if row["size"] == size:
                ours, plain = row["ours_per_second"], row["plain_per_second"]
                row["ratio"] = ours / plain
                print(f"{row['type']:28}{ours:8.0f}{plain:9.0f}{ours / plain:8.1f}")
    table = pd.DataFrame(rows).round(2)
    table["machine"] = machine()
    table.to_csv(HERE / "bench_distortions.csv", index=False)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*negative Z values.*")  # skimage says so for every picture
    main()
