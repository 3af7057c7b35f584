"""What the consistency of QFM-IQM costs: time and memory of a training step, with and without it.

    python -m figures.bench.qfm              about eight minutes on two free cores

Writes figures/bench_qfm.csv. The same step (loss, backward, AdamW) is timed with lambda1 = 0 and
with the config's own, in turns on one machine, so that other load hits both; the memory bank is
full. "GB" is the growth of the peak of a process of its own by one step. Both are medians of five.
Rows: the paper's ViT-S at 224 pixels (random weights), and `qfm.QUICK`, on frozen maps.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from figures import FOLDER
from figures.bench.timing import machine, memory_gb, seconds, training_batch
from iqa_core.qfm import QUICK, QFMConfig, QFMIQM

CONFIGS = {"paper, ViT-S 224": QFMConfig(weights="random"), "QUICK": QUICK}
ROUNDS = 5


def training_step(config: QFMConfig) -> Callable[[], None]:
    """One training step of a method whose memory bank is full."""
    torch.manual_seed(0)
    method = QFMIQM(config)
    net = method.net = method.build().train()
    optimizer = method.optimizer(net)
    if config.lambda1:
        net.memory = net.memory_bank(config)
        with torch.no_grad():
            for number in range(1, config.memory // config.batch + 1):
                method.loss(training_batch(method, number * config.batch))
    batch = training_batch(method)

    def step() -> None:
        optimizer.zero_grad()
        method.loss(batch)["loss"].backward()
        optimizer.step()

    return step


def growth(config: QFMConfig) -> float:
    """Growth in GB of the peak by one step; to be called once in a fresh process."""
    step = training_step(config)
    before = memory_gb("VmRSS")
    step()
    return memory_gb("VmHWM") - before


def memory(config: QFMConfig) -> float:
    """Median growth, each in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return float(np.median(pool.map(growth, [config] * ROUNDS, chunksize=1)))


def main() -> None:
    rows = []
    for name, config in CONFIGS.items():
        baseline = dataclasses.replace(config, lambda1=0.0)
        grown = [memory(baseline), memory(config)]
        steps = [training_step(baseline), training_step(config)]
        each = [[seconds(step) for step in steps] for _ in range(ROUNDS)]
        times = np.median(each, axis=0)
        for what, (without, with_it) in (("training step, s", times), ("training step, GB", grown)):
            rows.append({"settings": name, "what": what, "baseline": without, "method": with_it,
                         "ratio": with_it / without})
    table = pd.DataFrame(rows)
    print(f"{machine()}\n{table.to_string(index=False)}")
    table = table.assign(machine=machine())
    table.to_csv(FOLDER / "bench_qfm.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
