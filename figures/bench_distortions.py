"""Images per second of `iqa_core.distortions` and of the plain one-by-one version, in one run on one machine.

Writes bench_distortions.csv beside this file. Ours gets batches of 32 and all threads; the plain version
(tests/plain_distortions.py: numpy, scipy, skimage, Pillow) works picture by picture as it is written.
Both are timed in turn, so that other load on the machine hits both; medians of several rounds are kept.
Run it with `python figures/bench_distortions.py`.
"""

from __future__ import annotations

import platform
import sys
import time
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
ROUNDS = {224: 7, 512: 3}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def machine() -> str:
    """CPU model, cores, device and versions in one line."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] \
        if info.exists() else []
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else "no GPU"
    return (f"{names[0] if names else platform.processor()}, {torch.get_num_threads()} threads, {device}, "
            f"torch {torch.__version__}, {platform.system()}")


def pictures(size: int, count: int) -> torch.Tensor:
    """(count,3,size,size): three photographs of scikit-image, resized and rolled so that no two are equal."""
    out = []
    for i in range(count):
        photo = torch.from_numpy((data.astronaut, data.chelsea, data.coffee)[i % 3]()).permute(2, 0, 1)[None] / 255
        photo = F.interpolate(photo, (size, size), mode="bicubic", antialias=True).clamp(0, 1)[0]
        out.append(photo.roll((37 * i, 23 * i), (1, 2)))
    return torch.stack(out)


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
                row["ratio"] = row["ours_per_second"] / row["plain_per_second"]
                print(f"{row['type']:28}{row['ours_per_second']:8.0f}{row['plain_per_second']:9.0f}{row['ratio']:8.1f}")
    table = pd.DataFrame(rows).round(2)
    table["machine"] = machine()
    table.to_csv(HERE / "bench_distortions.csv", index=False)


if __name__ == "__main__":
    import warnings
    warnings.filterwarnings("ignore", message=".*negative Z values.*")  # skimage, once a picture
    main()
