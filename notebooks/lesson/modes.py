"""How much a notebook computes: `IQA_MODE=smoke|quick|full`.

smoke: a minute on two CPU cores, the offline set, what the tests run. quick: real human scores on a
laptop. full: the papers' settings. Each notebook prints its plan, so that a reader knows how long it
will take. The plan never prints a result.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

import data_download
from iqa_core import data

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

    def __str__(self) -> str:
        datasets = ", ".join(self.datasets)
        splits = "1 split" if self.seeds == 1 else f"{self.seeds} splits"
        minutes = "1 minute" if self.minutes == 1 else f"{self.minutes:g} minutes"
        return (f"mode {self.mode}: {datasets}; at most {self.images} images a set, {splits}\n"
                f"about {minutes} and {self.memory_gb:g} GB on 2 CPU cores")

    def dataset(self) -> data.Dataset:
        """The first of the plan's datasets that is here, at most `images` of its images.

        Where none is here the offline set stands in, and a printed line says so.
        """
        for name in self.datasets:
            try:
                return data_download.load(name).thin(self.images)
            except data.DatasetError:
                print(f"{name} is not here")
        print("the offline set, with proxy scores, stands in")
        return data_download.load("offline").thin(self.images)


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
