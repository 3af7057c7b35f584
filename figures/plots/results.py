"""Draw results.png: all methods on the same pictures and splits, from ledger.csv.

    python -m figures.plots.results [folder]

A dot is one split, the first on top, a bar the median. Every paper is shown by its full method. Only rows of
`compare.py` in quick mode count, because they share images and splits; methods whose rows are not there yet are
missing.
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

ALT = {"results": "SRCC of four papers' methods and five baselines on each dataset: a dot a split, a bar the median, "
                  "best on top, squares with a reference and circles without"}
NR, FR = "without reference", "with reference"
SHOWN = {  # (method, variant of its paper): name, kind
    ("psnr", ""): ("PSNR", FR), ("ssim", ""): ("SSIM", FR), ("ms_ssim", ""): ("MS-SSIM", FR),
    ("brisque", ""): ("BRISQUE", NR), ("frozen ridge", "tf_efficientnet_lite0"): ("frozen ridge", NR),
    ("re-iqa", "both"): ("Re-IQA", NR), ("re-iqa", "both, full reference"): ("Re-IQA, FR", FR),
    ("yoto", "joint: NR"): ("YOTO", NR), ("yoto", "joint: FR"): ("YOTO, FR", FR),
    ("qfm-iqm", "consistency v3: NR"): ("QFM-IQM", NR),
    ("dri-iqa", "q + g + restoration, tgb, RS ratio align: NR"): ("DRI-IQA", NR),
}
MARKS = {NR: ("o", plot.BLUE), FR: ("s", plot.ORANGE)}


def compared(path: Path | None = None, mode: str = "quick") -> pd.DataFrame:
    """The rows of one mode that share images and splits, with the columns `name` and `kind`."""
    rows = ledger.read(path or FOLDER / "ledger.csv")
    rows = rows[rows["mode"] == mode]
    if mode == "quick":  # the ledger has quick rows of other sizes, too
        rows = rows[rows["images"] == rows["dataset"].map(IMAGES)]
    known = SHOWN | {("yoto", "nr: NR"): ("YOTO", NR)}  # where there are no references it cannot be trained jointly
    keys = pd.Series([*zip(rows["method"], rows["variant"])], rows.index)
    keys = keys[keys.isin(known) & ~((rows["variant"] == "nr: NR") & (rows["dataset"] != "biq2021"))]
    return rows.loc[keys.index].assign(name=[known[key][0] for key in keys], kind=[known[key][1] for key in keys])


def draw(folder: Path, path: Path | None = None, mode: str = "quick") -> None:
    """The figure into a folder; from another ledger than `ledger.csv` or of another mode, if these are named."""
    rows = compared(path, mode)
    low, high = rows["srcc"].min() - 0.04, rows["srcc"].max() + 0.04
    plot.style()
    figure = plt.figure(figsize=(8.8, 3.6), layout="none")
    for i, name in enumerate(name for name in IMAGES if (rows["dataset"] == name).any()):
        card, found = data_download.cards()[name], rows[rows["dataset"] == name]
        ax = figure.add_axes((0.105 + 0.333 * i, 0.235, 0.22, 0.68), xlim=(low, high))
        order = found.groupby("name")["srcc"].median().sort_values(kind="stable", ascending=False)
        for y, (method, middle) in enumerate(order.items()):
            mine = found[found["name"] == method]
            mark, colour = MARKS[mine["kind"].iloc[0]]
            ax.plot(mine["srcc"], y + np.linspace(-0.2, 0.2, len(mine)), mark, ms=4.5, mfc=colour, mec="black", mew=0.4)
            ax.plot([middle, middle], [y - 0.35, y + 0.35], color="black", lw=1.8, zorder=1)
        ax.set_yticks(range(len(order)), order.index)
        ax.set_ylim(len(order) - 0.5, -0.5)
        ax.set_title(f"{card.title.split(',')[0]}, {found['images'].iloc[0]:,} pictures", fontsize=9)
        ax.set_xlabel("SRCC with proxy scores" if card.proxy else "SRCC with people, higher is better", loc="right")
    for kind, (mark, colour) in MARKS.items():
        ax.plot([], [], mark, ms=4.5, mfc=colour, mec="black", mew=0.4, label=f"{kind}, a split")
    ax.plot([], [], color="black", lw=1.8, label="median")
    figure.legend(*ax.get_legend_handles_labels(), loc="lower center", ncols=3, frameon=False)
    write(figure, folder / "results.png")


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
