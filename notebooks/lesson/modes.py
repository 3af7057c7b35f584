"""How much a notebook computes: `IQA_MODE=smoke|quick|full`.

smoke: a minute on two CPU cores, the offline set, what the tests run. quick: real human scores on a
laptop. full: the papers' settings. Each notebook prints its plan, so that a reader knows what to
expect.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

PLANS = Path(__file__).with_name("plans.csv")
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
    images: int  # at most so many of a dataset
    seeds: int  # splits
    minutes: float
    memory_gb: float
    expect: str  # the number to expect, with its spread

    def __str__(self) -> str:
        datasets = ", ".join(self.datasets)
        return (f"mode {self.mode}: {datasets}; "
                f"at most {self.images} images a set, {self.seeds} splits\n"
                f"about {self.minutes:g} minutes and {self.memory_gb:g} GB on 2 CPU cores\n"
                f"expect: {self.expect}")


def plan(notebook: str) -> Plan:
    """The plan of a notebook ("00", "01", ...) in the mode in force, a row of plans.csv.

    >>> plan("00").seeds
    1
    """
    plans = pd.read_csv(PLANS, dtype={"notebook": str})
    [row] = plans[(plans["notebook"] == notebook) & (plans["mode"] == mode())].to_dict("records")
    del row["notebook"]
    row["datasets"] = tuple(row["datasets"].split())
    return Plan(**row)
