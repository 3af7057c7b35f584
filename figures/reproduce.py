"""`make reproduce`: prepare the data, judge the methods, run the notebooks, print the leaderboard and the claims.

IQA_MODE says how much: smoke (minutes), quick (all methods on all sets, hours: `compare`), full (what needs no training,
all pictures). Every number goes into ledger.csv; the tables in README.md are rendered from there.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path

import compare
import pandas as pd
import report
import results
from trainings import side_by_side

from data_download import tid2013_kodak
from iqa_core import baselines, data, dri, ledger, modes, protocol, qfm, reiqa, yoto

HERE = Path(__file__).parent
ROOT = HERE.parent
BUILT = ROOT / "build" / "notebooks"
PICTURES = {"smoke": 180, "full": 10**9}  # at most so many of a dataset
SEEDS = {"smoke": 2, "full": 10}


def say(text: str) -> None:
    print(f"[{time.perf_counter() - START:5.0f} s] {text}", flush=True)


def methods(dataset: data.Dataset, mode: str) -> list:
    """What makes each method that applies to a set; trainings only as a run-through, the scripts of the papers take longer."""
    found = [baselines.Brisque, baselines.FrozenRidge, reiqa.ReIQA]
    if mode == "smoke" and dataset.card.proxy:  # those that take longest first
        found = [partial(yoto.YOTO, yoto.SMOKE), partial(dri.DRIIQA, dri.SMOKE), partial(qfm.QFMIQM, qfm.SMOKE)] + found
    return found + [partial(baselines.FullReference, name) for name in ("psnr", "ssim", "ms_ssim") if dataset.card.reference]


def judge(job: tuple[str, int, str]) -> pd.DataFrame:
    """One method on one set, seeds x splits, into the ledger. Returns its rows."""
    name, number, mode = job
    dataset = data.load(name).thin(PICTURES[mode])
    rows = protocol.run(methods(dataset, mode)[number](), dataset, seeds=range(SEEDS[mode]), mode=mode)
    ledger.append(rows)
    return rows


def run_notebook(path: Path) -> str:
    """Execute a notebook into build/notebooks; the committed one stays as it is. Returns why it stopped, "" if it did not."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook, why = nbformat.read(path, as_version=4), ""
    try:
        NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": str(path.parent)}},
                       extra_arguments=["--IPKernelApp.log_level=ERROR"]).execute()  # no word of local sockets
    except CellExecutionError as error:
        why = str(error).strip().splitlines()[-1]
    nbformat.write(notebook, BUILT / path.name)
    return why


def run_notebooks() -> list[str]:
    """All notebooks. Returns what failed."""
    BUILT.mkdir(parents=True, exist_ok=True)
    paths, failed = sorted((ROOT / "notebooks").glob("*.ipynb")), []
    for path, why in zip(paths, side_by_side(run_notebook, paths, fresh=False)):
        say(f"  {path.name}" + (f" stopped: {why}" if why else ""))
        failed += [path.name] if why else []
    return failed


def comparison() -> pd.DataFrame:
    """Median SRCC and quartiles of every method on equal pictures and splits, a column a set."""
    groups = results.compared().groupby(["name", "dataset"])["srcc"]
    text = groups.agg(lambda v: f"{v.median():.3f} [{v.quantile(0.25):.3f}, {v.quantile(0.75):.3f}], {len(v)} splits"
                      if len(v) > 1 else f"{v.median():.3f}, 1 split")
    return text.unstack().reindex([name for name, _ in results.SHOWN.values()]).dropna(how="all").reset_index(names="SRCC")


def main() -> int:
    mode = modes.mode()
    say(f"mode {mode}; datasets from {os.environ.get('IQA_DATA') or 'no folder: IQA_DATA is not set'}")
    names = compare.names()
    say(f"datasets: {', '.join(names)}")
    tables = []
    if mode == "quick":
        compare.scores(mode)
        tables.append(results.compared())
    else:
        jobs = [(name, number, mode) for name in names for number in range(len(methods(data.load(name), mode)))]
        for job, rows in zip(jobs, side_by_side(judge, jobs, fresh=False)):
            say(f"  {rows['method'].iloc[0]} on {job[0]}: {rows['images'].iloc[0]} pictures, {SEEDS[mode]} splits")
            tables.append(rows)
    if mode == "full" and "tid2013-kodak" in names:
        table = tid2013_kodak.faithfulness(data.load("tid2013-kodak").root)
        table.to_csv(HERE / "tid2013_kodak.csv", index=False, float_format="%.3f")
    say("notebooks, as they finish")
    failed = run_notebooks()
    report.stamp(ROOT / "README.md", "ledger", ledger.leaderboard())
    report.stamp(ROOT / "README.md", "comparison", comparison())
    report.stamp(ROOT / "README.md", "claims", ledger.claims())
    report.stamp(ROOT / "README.md", "datasets", data.overview().reset_index())
    now = protocol.summary(pd.concat(tables))[["dataset", "method", "variant", "seeds", "n", "srcc", "srcc_25", "srcc_75"]]
    print(f"\nThis run, mode {mode}: median over the splits, with quartiles\n{now.round(3).to_string(index=False)}")
    print(f"\nThe ledger: each method in the most thorough mode so far\n{ledger.leaderboard().to_string(index=False)}")
    print(f"\nClaims of the papers, tested here\n{ledger.claims().to_string(index=False)}")
    print(f"\nEvery row: {HERE / 'ledger.csv'}\nPictures: {BUILT} (notebooks with their figures), {HERE} (figures)")
    say("done" if not failed else f"these notebooks stopped: {', '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    START = time.perf_counter()
    sys.exit(main())
