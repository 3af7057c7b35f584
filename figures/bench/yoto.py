"""Time and memory of `iqa_core.yoto` against a plain transcription of its equations.

    python -m figures.bench.yoto             about ten minutes on two free cores, and 14 GB

Writes figures/bench_yoto.csv. The plain version (tests/plain_yoto.py) has the same weights,
computes whole batches, keeps every attention as a matrix, and runs the encoder twice even without a
reference. Both score the same images in turn, so that other load on the machine hits both; medians
of several rounds are kept. A training step's memory is the growth of the peak of a process of its
own, made by one step (forward, backward, Adam) over what the process held before; weights and
images are in place by then. Swin-T, random weights, 224 pixels, the paper's settings.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from figures import FOLDER
from figures.bench.timing import machine, memory_gb, photographs, plain, seconds
from iqa_core.yoto import Network, YOTOConfig

plain_yoto = plain("plain_yoto")

CONFIG = YOTOConfig(weights="random")
BATCH = 4  # images that are scored at once
ROUNDS = 5


def network() -> Network:
    """The paper's network with random weights, the same in every process."""
    torch.manual_seed(0)
    return Network(CONFIG)


def versions(net: Network) -> dict[str, Callable]:
    """Both implementations, as functions of x and x_ref."""
    return {"ours": net, "plain": lambda *x: plain_yoto.forward(net, CONFIG, *x)}


def pairs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy images and their references, (count, 3, 224, 224) each."""
    clean = photographs(CONFIG.crop, count)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return (clean + 0.1 * noise).clamp(0, 1), clean


@torch.inference_mode()
def times(batch: int, rounds: int) -> list[dict]:
    """Seconds an image and the largest difference of the scores, without and with references."""
    net = network().eval()
    works = versions(net)
    x, x_ref = pairs(batch)
    rows = []
    for task, inputs in (("NR", [x]), ("FR", [x, x_ref])):
        difference = works["ours"](*inputs) - works["plain"](*inputs)  # and a warm-up
        each = [[seconds(lambda: work(*inputs)) for work in works.values()] for _ in range(rounds)]
        ours, theirs = np.median(each, axis=0)
        rows.append({"what": f"{task} scores, s an image", "batch": batch, "ours": ours / batch,
                     "plain": theirs / batch, "ratio": theirs / ours,
                     "largest_difference": difference.abs().max().item()})
    return rows


def step(version: str, task: str, batch: int) -> float:
    """Growth in GB of the peak by one training step; to be called once in a fresh process."""
    net = network().train()
    x, x_ref = pairs(batch)
    inputs = [x] if task == "NR" else [x, x_ref]
    optimizer = torch.optim.Adam(net.parameters(), lr=CONFIG.lr)
    forward = versions(net)[version]
    before = memory_gb("VmRSS")
    F.mse_loss(forward(*inputs), torch.rand(batch)).backward()
    optimizer.step()
    return memory_gb("VmHWM") - before


def memory(task: str, batch: int) -> dict:
    """Growth in GB by a step of both versions, each in a fresh process.

    Where a batch does not fit, half of it is tried.
    """
    grown = {}
    for version in ("plain", "ours"):
        command = [sys.executable, "-m", "figures.bench.yoto", "--step", version, task, str(batch)]
        done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True)
        if done.returncode in (-9, 137) or "not enough memory" in done.stderr:
            if batch == 1:
                raise MemoryError(f"{version}: a step on one image does not fit into the memory of "
                                  "this machine. Run it on one with more memory.")
            return memory(task, batch // 2)
        if done.returncode:
            raise RuntimeError(done.stderr)
        grown[version] = float(done.stdout)
    return {"what": f"{task} training step, GB", "batch": batch, **grown,
            "ratio": grown["ours"] / grown["plain"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16,
                        help="images of a training step (halved until it fits)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of timing")
    parser.add_argument("--out", type=Path, default=FOLDER / "bench_yoto.csv")
    parser.add_argument("--step", nargs=3, metavar=("VERSION", "TASK", "BATCH"),
                        help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        version, task, batch = options.step
        print(step(version, task, int(batch)))
        return
    print(machine())
    # memory first, while this process itself is small
    steps = [memory(task, options.batch) for task in ("NR", "FR")]
    table = pd.DataFrame(times(min(BATCH, options.batch), options.rounds) + steps)
    columns = ["what", "batch", "ours", "plain", "ratio", "largest_difference"]
    table = table[columns]
    print("ratio: times faster, or share of the memory\n" + table.to_string(index=False))
    table["machine"] = machine()
    table.to_csv(options.out, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
