"""`make reproduce`: prepare the data, train and judge every method, print tables, draw figures.

IQA_MODE decides how much: smoke (a run-through of a few minutes), quick (every method on every set,
hours on a CPU), full (all images and ten splits; the papers' settings where there is a GPU). A run
writes into build/MODE and nowhere else: its own ledger, its own figures. A quick or full run that
was stopped goes on from its ledger.

    python -m figures.reproduce             what `make reproduce` does
    python -m figures.reproduce results     what `make results` does: the rows of finished quick and
                                            full runs go into figures/ledger.csv, RESULTS and
                                            figures are rendered from it, and the papers' main
                                            claims in README
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pandas as pd
import torch

import data_download
from data_download.made import tid2013_kodak
from figures import FOLDER, compare, ledger, report
from figures.plots import claims, results
from iqa_core import data, files
from lesson import modes

ROOT = FOLDER.parent
README = ROOT / "README.md"
RESULTS = FOLDER / "RESULTS.md"
PATIENCE = 600.0  # seconds without any finished job after which a smoke run is given up
START = time.perf_counter()


def say(text: str) -> None:
    """One line with the seconds since the start."""
    print(f"[{time.perf_counter() - START:4.0f} s] {text}", flush=True)


def built(mode: str) -> Path:
    """Where a run of a mode writes."""
    return ROOT / "build" / mode


def comparison(path: Path | None = None, mode: str = "quick") -> pd.DataFrame:
    """Median SRCC and quartiles of every method on equal images and splits, a column a set."""
    rows = results.compared(path, mode)

    def text(srcc: pd.Series) -> str:
        if len(srcc) == 1:
            return f"{srcc.median():.3f}, 1 split"
        low, high = srcc.quantile([0.25, 0.75])
        return f"{srcc.median():.3f} [{low:.3f}, {high:.3f}], {len(srcc)} splits"

    table = rows.groupby(["name", "dataset"])["srcc"].agg(text).unstack()
    order = [name for name, _ in results.SHOWN.values()]
    return table.reindex(order).dropna(how="all").fillna("").reset_index(names="SRCC")


def main_claims() -> pd.DataFrame:
    """The primary claim of each paper, with its effect and verdict."""
    table = ledger.claims(FOLDER / "claims.csv")
    table["verdict"] = table["verdict"].str.split(";").str[0]
    return table.loc[table["kind"] == "primary", ["paper", "claim", "effect", "verdict"]]


def prepare(mode: str) -> dict[str, data.Dataset]:
    """Make the sets that this kit makes, and print what is there."""
    root = os.environ.get("IQA_DATA")
    place = files.data_root() if root else "no folder, because IQA_DATA is not set"
    say(f"mode {mode}; datasets from {place}")
    say("preparing the data; sets that are made here take a minute or two, once")
    datasets = {}
    for name in compare.names():
        try:
            datasets[name] = compare.load(name, mode)
        except data.DatasetError as error:  # such as a set that is half there
            say(f"  {name} is left out: {error}")
            continue
        say(f"  {name}: {len(datasets[name])} images")
    say("training and judging")
    if mode == "full" and not torch.cuda.is_available():
        say("there is no GPU: YOTO, QFM-IQM and DRI-IQA are left out, the papers' settings would "
            "take weeks")
    return datasets


def run(mode: str) -> int:
    """Prepare, judge, draw, print. Returns 0, or 1 if a method failed."""
    folder = built(mode)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ledger.csv"
    if mode == "smoke":
        path.unlink(missing_ok=True)
    elif path.is_file():
        say(f"{len(ledger.read(path))} rows are there from an earlier run; to begin anew, delete "
            f"{folder}")
    datasets = prepare(mode)
    failed = compare.scores(mode, datasets, path, PATIENCE if mode == "smoke" else None)
    say("figures")
    if mode == "full" and "tid2013-kodak" in datasets:
        table = tid2013_kodak.faithfulness(datasets["tid2013-kodak"].root)
        table.to_csv(folder / "tid2013_kodak.csv", index=False, float_format="%.3f")
    results.draw(folder, path, mode)
    claims.draw(folder)
    print(f"\nThis run, mode {mode}: median SRCC over the splits, with quartiles\n")
    print(comparison(path, mode).to_string(index=False))
    print("\nThe stored leaderboard, mode quick: median SRCC over the splits, with quartiles\n")
    print(comparison().to_string(index=False))
    print("\nThe papers' claims, as the stored trainings decide them\n")
    print(claims.table().to_string(index=False))
    print(f"\nEvery number of this run: {path}")
    print(f"Figures of this run: {folder / 'results.png'}, {folder / 'claims.png'}")
    print(f"Everything that was measured before: {RESULTS}")
    if failed:
        say("\n".join(["these jobs failed:", *failed]))
        return 1
    say("done")
    return 0


def publish() -> int:
    """Rows of quick and full runs into the committed ledger; documents and figures from it."""
    for mode in ("quick", "full"):
        path = built(mode) / "ledger.csv"
        if path.is_file():
            rows = ledger.read(path)
            ledger.append(rows, FOLDER / "ledger.csv")
            print(f"{len(rows)} rows of {path}")
    report.stamp(README, "claims", main_claims())
    report.stamp(RESULTS, "comparison", comparison())
    report.stamp(RESULTS, "ledger", ledger.leaderboard(FOLDER / "ledger.csv"))
    report.stamp(RESULTS, "claims", ledger.claims(FOLDER / "claims.csv"))
    results.draw(FOLDER)
    claims.draw(FOLDER)
    drawings = [FOLDER / "results.png", FOLDER / "claims.png"]
    print(f"written: {', '.join(str(path) for path in (README, RESULTS, *drawings))}")
    return 0


def main(arguments: list[str]) -> int:
    """Returns 0, 1 if something failed, 2 for a wrong command, 130 if it was stopped."""
    if arguments not in ([], ["results"]):
        unknown = " ".join(arguments)
        print(f"{unknown!r} is unknown here; give nothing, or: results", file=sys.stderr)
        return 2
    try:
        if arguments:
            return publish()
        return run(modes.mode())
    except KeyboardInterrupt:
        say("stopped. In quick and full mode the same command goes on from here")
        return 130
    except (ValueError, RuntimeError) as error:  # a sentence each; a traceback would hide it
        say(f"stopped: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
