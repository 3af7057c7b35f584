"""`make reproduce`: prepare the data, judge the methods, run the notebooks, print the leaderboard and the claims.

IQA_MODE says how much: smoke (minutes), quick (all methods on all sets, hours: `compare`), full (what needs no training,
all pictures). Every number goes into ledger.csv; the tables in README.md are rendered from there. Notebooks run two at a
time on two cores.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import compare
import pandas as pd
import torch

from data_download import kodak, tid2013_kodak
from iqa_core import baselines, data, dri, ledger, modes, protocol, qfm, reiqa, yoto

HERE = Path(__file__).parent
ROOT = HERE.parent
BUILT = ROOT / "build" / "notebooks"
PICTURES = {"smoke": 360, "full": 10**9}  # at most so many of a dataset
SEEDS = {"smoke": 3, "full": 10}


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
    """All notebooks, as many at a time as there are cores (one on a GPU). Returns what failed."""
    BUILT.mkdir(parents=True, exist_ok=True)
    paths, failed = sorted((ROOT / "notebooks").glob("*.ipynb")), []
    workers = 1 if torch.cuda.is_available() else min(4, os.cpu_count() or 1)
    if workers > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    with ThreadPoolExecutor(1) if workers == 1 else ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for path, why in zip(paths, pool.map(run_notebook, paths)):
            say(f"  {path.name}" + (f" stopped: {why}" if why else ""))
            failed += [path.name] if why else []
    return failed


def main() -> int:
    mode = modes.mode()
    say(f"mode {mode}; datasets from {os.environ.get('IQA_DATA') or 'no folder: IQA_DATA is not set'}")
    names = datasets()
    say(f"datasets: {', '.join(names)}")
    tables = []
    if mode == "quick":
        compare.scores(mode)
        tables.append(compare.rows(mode))
    for name in names if mode != "quick" else []:
        dataset = data.load(name)
        tables += judge(dataset.thin(PICTURES[mode]), mode)
        if name == "tid2013-kodak" and mode == "full":
            table = tid2013_kodak.faithfulness(dataset.root)
            table.to_csv(HERE / "tid2013_kodak.csv", index=False, float_format="%.3f")
    say("notebooks, as they finish")
    failed = run_notebooks()
    ledger.stamp(ROOT / "README.md", "ledger", ledger.leaderboard())
    ledger.stamp(ROOT / "README.md", "claims", ledger.claims())
    ledger.stamp(ROOT / "README.md", "datasets", data.overview().reset_index())
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
