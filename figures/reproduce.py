"""`make reproduce`: prepare the data, judge the methods, run the notebooks, print the leaderboard.

IQA_MODE says how much: smoke (minutes), quick, full (the committed ledger). Every number goes into ledger.csv; the
tables in README.md are rendered from there.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pandas as pd

from data_download import kodak, tid2013_kodak
from iqa_core import baselines, data, dri, ledger, modes, protocol, qfm, reiqa, yoto

HERE = Path(__file__).parent
ROOT = HERE.parent
BUILT = ROOT / "build" / "notebooks"
PICTURES = {"smoke": 360, "quick": 1000, "full": 10**9}  # at most so many of a dataset
SEEDS = {"smoke": 3, "quick": 10, "full": 10}


def say(text: str) -> None:
    print(f"[{time.perf_counter() - START:5.0f} s] {text}", flush=True)


def datasets() -> list[str]:
    """Names of the scored sets that this machine can offer."""
    names = ["offline"]
    try:
        kodak.fetch_kodak()
        names.append("tid2013-kodak")
    except kodak.KodakUnavailable as error:
        say(f"TID2013 is left out: {error}")
    return names + [name for name in data.available() if data.cards()[name].low is not None]


def judge(dataset: data.Dataset, mode: str) -> list:
    """All methods that apply to a dataset, seeds x splits, into the ledger. Returns their rows."""
    methods = [baselines.Brisque(), baselines.FrozenRidge(), reiqa.ReIQA()]
    if dataset.card.reference:
        methods = [baselines.FullReference(name) for name in ("psnr", "ssim", "ms_ssim")] + methods
    if mode == "smoke" and dataset.card.proxy:  # a run-through; the scripts of the papers take longer
        methods += [yoto.YOTO(yoto.SMOKE), qfm.QFMIQM(qfm.SMOKE), dri.DRIIQA(dri.SMOKE)]
    tables = []
    for method in methods:
        say(f"  {method.name} on {dataset.name}: {len(dataset)} pictures, {SEEDS[mode]} splits")
        tables.append(protocol.run(method, dataset, seeds=range(SEEDS[mode]), mode=mode))
        ledger.append(tables[-1])
    return tables


def run_notebooks() -> list[str]:
    """Execute every notebook into build/notebooks; the committed ones stay as they are. Returns what failed."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    BUILT.mkdir(parents=True, exist_ok=True)
    failed = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        say(f"  {path.name}")
        try:
            NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": str(path.parent)}},
                           extra_arguments=["--IPKernelApp.log_level=ERROR"]).execute()  # no word of local sockets
        except CellExecutionError as error:
            failed.append(path.name)
            say(f"  {path.name} stopped: {str(error).strip().splitlines()[-1]}")
        nbformat.write(notebook, BUILT / path.name)
    return failed


def main() -> int:
    mode = modes.mode()
    say(f"mode {mode}; datasets from {os.environ.get('IQA_DATA') or 'no folder: IQA_DATA is not set'}")
    names = datasets()
    say(f"datasets: {', '.join(names)}")
    tables = []
    for name in names:
        dataset = data.load(name)
        tables += judge(dataset.thin(PICTURES[mode]), mode)
        if name == "tid2013-kodak" and mode == "full":
            table = tid2013_kodak.faithfulness(dataset.root)
            table.to_csv(HERE / "tid2013_kodak.csv", index=False, float_format="%.3f")
    say("notebooks")
    failed = run_notebooks()
    ledger.stamp(ROOT / "README.md", "ledger", ledger.leaderboard())
    ledger.stamp(ROOT / "README.md", "claims", ledger.claims())
    ledger.stamp(ROOT / "README.md", "datasets", data.overview().reset_index())
    now = protocol.summary(pd.concat(tables))[["dataset", "method", "variant", "seeds", "n", "srcc", "srcc_25", "srcc_75"]]
    print(f"\nThis run, mode {mode}: median over the splits, with quartiles\n{now.round(3).to_string(index=False)}")
    print(f"\nThe ledger: each method in the most thorough mode so far\n{ledger.leaderboard().to_string(index=False)}")
    print(f"\nEvery row: {HERE / 'ledger.csv'}\nPictures: {BUILT} (notebooks with their figures), {HERE} (figures)")
    say("done" if not failed else f"these notebooks stopped: {', '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    START = time.perf_counter()
    sys.exit(main())
