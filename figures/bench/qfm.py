"""What the consistency of QFM-IQM costs: time and memory of a training step, with it and without it.

Writes bench_qfm.csv beside this file. The same step (loss, backward, AdamW) is timed with lambda1 = 0 and with the
config's own, in turns on one machine, so that other load hits both; the memory of earlier pictures is full. "GB" is
the growth of the peak of a process of its own by one step. Both are medians of five. Rows: the paper's ViT-S at 224
pixels (random weights) and `qfm.QUICK`, batch 16. Run it with `python figures/bench_qfm.py`; it takes about eight
minutes on two free cores.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from bench_distortions import machine, pictures, seconds  # noqa: E402
from bench_yoto import held  # noqa: E402

from iqa_core.qfm import QUICK, QFMConfig, QFMIQM  # noqa: E402

CONFIGS = {"paper, ViT-S 224": QFMConfig(weights="random"), "QUICK": QUICK}
ROUNDS = 5


def ready(config: QFMConfig) -> Callable[[], None]:
    """One training step of a method whose memory is full."""
    torch.manual_seed(0)
    method, n = QFMIQM(config), config.batch
    method.net, method.scored = method.network(config).train(), 10**9
    learner, x, labels = method.learner(), pictures(config.crop, n), torch.rand(n)
    method.begin(config.calm)

    def loss(first: int) -> torch.Tensor:
        return method.loss({"x": x, "score": labels, "row": torch.arange(first, first + n)})

    def step() -> None:
        learner.zero_grad()
        loss(0).backward()
        learner.step()

    with torch.no_grad():
        for number in range(1, config.memory // n + 1):
            loss(number * n)
    return step


def growth(config: QFMConfig) -> float:
    """Growth in GB of the peak by one step; to be called once in a fresh process."""
    step, before = ready(config), held("VmRSS")
    step()
    return held("VmHWM") - before


def main() -> None:
    rows = []
    for name, config in CONFIGS.items():
        both = {"baseline": dataclasses.replace(config, lambda1=0.0), "method": config}
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:  # a process a task
            memory = [np.median(fresh.map(growth, [each] * ROUNDS, chunksize=1)) for each in both.values()]
        steps = [ready(each) for each in both.values()]
        times = np.median([[seconds(step) for step in steps] for _ in range(ROUNDS)], 0)
        for what, (baseline, method) in {"training step, s": times, "training step, GB": memory}.items():
            rows.append({"settings": name, "what": what, "baseline": baseline, "method": method,
                         "ratio": method / baseline})
    table = pd.DataFrame(rows)
    print(f"{machine()}\n{table.to_string(index=False)}")
    table.assign(machine=machine()).to_csv(HERE / "bench_qfm.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
