"""How much a notebook computes: `IQA_MODE=smoke|quick|full`.

smoke: a minute on two CPU cores, the offline set, what the tests run. quick: real human scores on a laptop.
full: the protocol's settings. Each notebook prints its plan, so that a reader knows what to expect.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

MODES = ("smoke", "quick", "full")


def mode() -> str:
    """The mode in force: `$IQA_MODE`, else quick.

    >>> mode() in MODES
    True
    """
    name = os.environ.get("IQA_MODE") or "quick"
    if name not in MODES:
        raise ValueError(f"IQA_MODE={name!r} is no mode; set it to one of {', '.join(MODES)}.")
    return name


@dataclass(frozen=True)
class Plan:
    """What one notebook does in one mode, and what that costs on two CPU cores."""

    mode: str
    datasets: tuple[str, ...]  # used when they are there, the offline set otherwise
    pictures: int  # at most so many of a dataset
    seeds: int  # splits
    minutes: float
    memory_gb: float
    expect: str  # the number to expect, with its spread

    def __str__(self) -> str:
        return (f"mode {self.mode}: {', '.join(self.datasets)}; at most {self.pictures} pictures a set, "
                f"{self.seeds} splits\nabout {self.minutes:g} minutes and {self.memory_gb:g} GB on 2 CPU cores"
                f"\nexpect: {self.expect}")


# notebook -> (datasets, pictures, seeds, minutes, memory in GB, expected) for smoke, quick and full
PLANS = {
    "00": {"smoke": (("offline",), 200, 1, 1, 1.5, "SRCC of PSNR and SSIM above 0.4 (proxy scores)"),
           "quick": (("offline", "biq2021"), 400, 1, 3, 1.5, "SRCC about 0.6 for PSNR, 0.65 for SSIM (proxy scores); "
                     "0.75 for the NR score on BIQ2021"),
           "full": (("offline", "biq2021"), 12_000, 1, 15, 2, "as quick, less noisy")},
    "01": {"smoke": (("offline",), 200, 1, 1, 1, "PSNR: SRCC 0.80 within a type (median of five), 0.36 across; "
                     "SSIM: 0.80, 0.73 (proxy scores)"),
           "quick": (("tid2013-kodak",), 720, 1, 4, 1, "PSNR: SRCC 0.91 within a type (median of five), 0.44 across; "
                     "SSIM: 0.91, 0.81"),
           "full": (("tid2013-kodak",), 1800, 1, 5, 1, "PSNR: SRCC 0.91 within a type (median of 15), 0.54 across; "
                    "SSIM: 0.84, 0.64")},
    "02": {"smoke": (("offline",), 900, 10, 1, 1.5, "22 of 25 types in level order, in every mode"),
           "quick": (("offline", "biq2021", "kodak", "cid22"), 900, 10, 1, 1.5, "22 of 25 types in level order"),
           "full": (("offline", "biq2021", "kodak", "cid22"), 900, 10, 1, 1.5, "22 of 25 types in level order")},
    "03": {"smoke": (("offline",), 450, 3, 1, 1.5, "SRCC higher by picture than by content by more than 0.1 (proxy)"),
           "quick": (("offline", "tid2013-kodak", "biq2021"), 1000, 10, 6, 1.5, "SRCC 0.81 by picture, 0.40 by content (proxy); "
                     "0.95 and 0.76 on TID2013's real MOS"),
           "full": (("offline", "tid2013-kodak", "biq2021"), 12_000, 10, 15, 2, "as quick, and BIQ2021 whole")},
    "10": {mode: (("offline",), 10, 1, 1, 1.6, "content alone finds 0.97 of the positives among other pictures, 5/22 "
                  "among versions of one") for mode in MODES},
    "11": {"smoke": (("offline",), 18, 1, 1, 2, "the loss falls, nothing collapses; no more in a minute"),
           **{mode: (("cid22", "kodak"), 72, 1, 10, 2, "type found for 0.45 of unseen contents (ImageNet 0.25, chance "
                     "0.04), content for 0.83 (0.99)") for mode in ("quick", "full")}},
    "12": {"smoke": (("offline",), 200, 3, 1, 1.5, "SRCC 0.1 to 0.4 (proxy scores, few contents): only a run-through"),
           "quick": (("tid2013-kodak", "biq2021"), 900, 10, 12, 2, "both experts beat the weaker one; against the better one "
                     "it cannot be told on TID2013"),
           "full": (("tid2013-kodak", "biq2021"), 12_000, 10, 60, 2, "as quick, all pictures")},
    "20": {"smoke": (("offline",), 300, 1, 1, 2, "SRCC above 0 (proxy scores, few contents): only a run-through"),
           **{mode: (("tid2013-kodak",), 900, 1, 10, 2.5, "SRCC 0.84 with and without reference (0.71 to 0.84 over "
              "five splits); MS-SSIM 0.69")
              for mode in ("quick", "full")}},
    "21": {"smoke": (("offline",), 300, 1, 1, 2, "SRCC above 0 (proxy scores, few contents): only a run-through"),
           **{mode: (("tid2013-kodak",), 900, 1, 15, 2.5, "SRCC 0.84 with and without reference (0.71 to 0.84 over "
              "five splits); MS-SSIM 0.69")
              for mode in ("quick", "full")}},
}


def plan(notebook: str) -> Plan:
    """The plan of a notebook ("00", "01", ...) in the mode in force.

    >>> plan("00").seeds
    1
    """
    return Plan(mode(), *PLANS[notebook][mode()])
