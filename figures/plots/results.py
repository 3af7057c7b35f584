"""Draw results.png: all methods on the same images and splits, from ledger.csv.

    python -m figures.plots.results [folder]

A dot is one split, the first on top, a bar the median. Every paper is shown by its full method.
Only rows of `compare.py` in quick mode count, because they share images and splits; methods whose
rows are not there yet are missing.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import data_download
from figures import FOLDER, ledger
from figures.compare import IMAGES
from figures.plots.diagram import write
from lesson import plot

ALT = {"results": "SRCC of four papers' methods and six baselines on each dataset: a dot a split, a bar "
                  "the median, best on top, squares with a reference and circles without"}
NR, FR = "without reference", "with reference"
SHOWN = {  # (method, task): name, kind
    ("psnr", "FR"): ("PSNR", FR),
    ("ssim", "FR"): ("SSIM", FR),
    ("ms_ssim", "FR"): ("MS-SSIM", FR),
    ("brisque", "NR"): ("BRISQUE", NR),
    ("frozen ridge", "NR"): ("frozen ridge", NR),
    ("frozen mlp", "NR"): ("frozen MLP", NR),
    ("re-iqa", "NR"): ("Re-IQA", NR),
    ("re-iqa", "FR"): ("Re-IQA, FR", FR),
    ("yoto", "NR"): ("YOTO", NR),
    ("yoto", "FR"): ("YOTO, FR", FR),
    ("qfm-iqm", "NR"): ("QFM-IQM", NR),
    ("dri-iqa", "NR"): ("DRI-IQA", NR),
}
# Variants that are the full method of their paper; on each set the first that was run counts. The
# longer ones are of rows from before methods had an identity of their own.
FULL_METHOD = {
    "re-iqa": ["", "full_reference=True"],
    # without references it cannot be trained jointly
    "yoto": ["", "task=nr, crop=256", "joint", "nr"],
    "qfm-iqm": ["", "consistency v3"],
    "dri-iqa": ["", "q + g + restoration, tgb, RS ratio align"],
}
MARKS = {NR: ("o", plot.BLUE), FR: ("s", plot.ORANGE)}


def compared(path: Path | None = None, mode: str = "quick",
             elsewhere: bool = False) -> pd.DataFrame:
    """The rows of one mode that share images and splits, with the columns `name` and `kind`.

    Args:
        path: of another ledger than `ledger.csv`.
        mode: quick, smoke or full.
        elsewhere: with the rows of methods that were tested on another set than they were trained
            on.
    """
    rows = ledger.read(path or FOLDER / "ledger.csv")
    own = (rows["trained_on"] == "") | (rows["trained_on"] == rows["dataset"])
    rows = rows[(own | elsewhere) & (rows["mode"] == mode) & (rows["epoch"] == "last")]
    if mode == "quick":  # the ledger has quick rows of other sizes, too
        rows = rows[rows["images"] == rows["dataset"].map(IMAGES)]
    chosen = []
    trained_on = rows["trained_on"].where(rows["trained_on"] != "", rows["dataset"])
    for (method, task, _), group in rows.groupby(["method", "task", trained_on]):
        variants = [v for v in FULL_METHOD.get(method, [""]) if (group["variant"] == v).any()]
        if (method, task) not in SHOWN or not variants:
            continue
        group = group[group["variant"] == variants[0]]
        latest = group["date"] == group["date"].max()
        group = group[group["hash"].isin(group.loc[latest, "hash"])]
        name, kind = SHOWN[method, task]
        chosen.append(group.assign(name=name, kind=kind))
    return pd.concat(chosen) if chosen else rows.assign(name="", kind="")


def draw(folder: Path, path: Path | None = None, mode: str = "quick") -> None:
    """The figure into a folder, of a mode; from another ledger than `ledger.csv`, if named."""
    rows = compared(path, mode)
    low = rows["srcc"].min() - 0.04
    high = rows["srcc"].max() + 0.04
    plot.style()
    figure = plt.figure(figsize=(8.8, 3.6), layout="none")
    datasets = [name for name in IMAGES if (rows["dataset"] == name).any()]
    for i, name in enumerate(datasets):
        ax = figure.add_axes((0.105 + 0.333 * i, 0.235, 0.22, 0.68), xlim=(low, high))
        _draw_dataset(ax, name, rows[rows["dataset"] == name])
    for kind, (mark, colour) in MARKS.items():
        ax.plot([], [], mark, ms=4.5, mfc=colour, mec="black", mew=0.4, label=f"{kind}, a split")
    ax.plot([], [], color="black", lw=1.8, label="median")
    figure.legend(*ax.get_legend_handles_labels(), loc="lower center", ncols=3, frameon=False)
    write(figure, folder / "results.png")


def _draw_dataset(ax, name: str, rows: pd.DataFrame) -> None:
    """A line a method, best on top: a dot a split, a bar the median."""
    medians = rows.groupby("name")["srcc"].median().sort_values(kind="stable", ascending=False)
    for y, (method, median) in enumerate(medians.items()):
        mine = rows[rows["name"] == method]
        mark, colour = MARKS[mine["kind"].iloc[0]]
        heights = y + np.linspace(-0.2, 0.2, len(mine))
        ax.plot(mine["srcc"], heights, mark, ms=4.5, mfc=colour, mec="black", mew=0.4)
        ax.plot([median, median], [y - 0.35, y + 0.35], color="black", lw=1.8, zorder=1)
    card = data_download.cards()[name]
    ax.set_yticks(range(len(medians)), medians.index)
    ax.set_ylim(len(medians) - 0.5, -0.5)
    ax.set_title(f"{card.title.split(',')[0]}, {rows['images'].iloc[0]:,} images", fontsize=9)
    ax.set_xlabel("SRCC with proxy scores" if card.proxy else "SRCC with people, higher is better",
                  loc="right")


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
