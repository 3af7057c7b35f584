"""Time and memory of `iqa_core.yoto` against a plain transcription of its equations, in one run on one machine.

Writes bench_yoto.csv beside this file. The plain version (tests/plain_yoto.py) has the same weights, computes whole
batches, keeps every attention as a matrix, and runs the encoder twice even without a reference. Both score the same
pictures in turn, so that other load on the machine hits both; medians of several rounds are kept. A training step's
memory is the growth of the peak of a process of its own, made by one step (forward, backward, Adam) over what the
process held before; weights and pictures are in place by then. Swin-T, random weights, 224 pixels, the paper's
settings. Run it with `python figures/bench_yoto.py`; it takes about ten minutes on two free cores and 14 GB.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]
import plain_yoto  # noqa: E402
from bench_distortions import machine, pictures, seconds  # noqa: E402

from iqa_core.yoto import Network, YOTOConfig  # noqa: E402

CONFIG = YOTOConfig(weights="random")
BATCH = 4  # pictures that are scored at once
ROUNDS = 5


def network() -> Network:
    torch.manual_seed(0)
    return Network(CONFIG)


def versions(net: Network) -> dict[str, Callable]:
    return {"ours": net, "plain": lambda *given: plain_yoto.forward(net, CONFIG, *given)}


def pairs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy pictures and their references, (count, 3, 224, 224) each."""
    clean = pictures(CONFIG.crop, count)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return (clean + 0.1 * noise).clamp(0, 1), clean


@torch.inference_mode()
def times(batch: int, rounds: int) -> list[dict]:
    """Seconds a picture and the largest difference of the scores, without and with references."""
    net, (x, x_ref), rows = network().eval(), pairs(batch), []
    for task, given in (("NR", [x]), ("FR", [x, x_ref])):
        works = versions(net)
        difference = (works["ours"](*given) - works["plain"](*given)).abs().max().item()  # and a warm-up
        ours, plain = np.median([[seconds(lambda: work(*given)) for work in works.values()] for _ in range(rounds)], 0)
        rows.append({"what": f"{task} scores, s a picture", "batch": batch, "ours": ours / batch,
                     "plain": plain / batch, "ratio": plain / ours, "largest_difference": difference})
    return rows


def held(kind: str) -> float:
    """Memory of this process in GB, from Linux: VmRSS is what it has now, VmHWM the most it ever had.

    `resource.getrusage` would not do: its peak begins with what the parent process had.
    """
    kilobytes = re.search(rf"{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes[1]) / 2**20


def step(version: str, task: str, batch: int) -> float:
    """Growth in GB of the peak by one training step; to be called once in a fresh process."""
    net, (x, x_ref) = network().train(), pairs(batch)
    learner = torch.optim.Adam(net.parameters(), lr=CONFIG.lr)
    forward, before = versions(net)[version], held("VmRSS")
    F.mse_loss(forward(*([x] if task == "NR" else [x, x_ref])), torch.rand(batch)).backward()
    learner.step()
    return held("VmHWM") - before


def memory(task: str, batch: int) -> dict:
    """Growth in GB by a step of both versions, each in a fresh process; half the batch where one does not fit."""
    found = {}
    for version in ("plain", "ours"):
        command = [sys.executable, __file__, "--step", version, task, str(batch)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode in (-9, 137) or "not enough memory" in done.stderr:
            if batch == 1:
                raise MemoryError(f"{version}: not even a step on one picture fits into the memory of this machine.")
            return memory(task, batch // 2)
        if done.returncode:
            raise RuntimeError(done.stderr)
        found[version] = float(done.stdout)
    return {"what": f"{task} training step, GB", "batch": batch, "ours": found["ours"], "plain": found["plain"],
            "ratio": found["ours"] / found["plain"]}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--batch", type=int, default=16, help="pictures of a training step (halved until it fits)")
    options.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of timing")
    options.add_argument("--out", type=Path, default=HERE / "bench_yoto.csv")
    options.add_argument("--step", nargs=3, metavar=("VERSION", "TASK", "BATCH"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.step:
        print(step(*given.step[:2], int(given.step[2])))
        return
    print(machine())
    steps = [memory(task, given.batch) for task in ("NR", "FR")]  # first, while this process itself is small
    table = pd.DataFrame(times(min(BATCH, given.batch), given.rounds) + steps)
    print("ratio: times faster, or share of the memory\n" + table.to_string(index=False))
    table["machine"] = machine()
    table.to_csv(given.out, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
