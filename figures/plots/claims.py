"""Draw claims.png: every tested claim with the 95 % interval of its effect, from claims.csv.

    python -m figures.plots.claims [folder]
"""

import sys
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from figures import FOLDER, ledger
from figures.plots.diagram import write
from lesson import plot

ALT = {"claims": "Forest plot of the tested claims by paper: a line a claim with the 95 % interval of "
                 "its effect; filled circles hold, crosses are reversed, squares make no difference "
                 "here, hollow diamonds are not decided"}
MARKS = {  # mark, its fill, its edge and the interval
    "holds": ("o", plot.GREEN, plot.GREEN),
    "reversed": ("X", plot.RED, plot.RED),
    "makes no difference here": ("s", plot.BLUE, plot.BLUE),
    "not decided": ("D", "white", plot.GREY),
}
SHORT = {
    "quality features separate distortion, content features separate content":
        "each expert separates what it is for",
    "both experts together are at least as good as the content expert":
        "both experts as good as the content expert",
    "both experts together are at least as good as the quality expert":
        "both experts as good as the quality expert",
    "crops that overlap little are better than crops that overlap much":
        "crops that overlap little are better",
    "on restored images the full method judges better than its predictor":
        "the full method judges restored images better",
    "and gains more than on degraded ones": "and gains more there than on degraded ones",
    "training with matched noise is steadier than with random noise":
        "training with matched noise is steadier",
}
ROW, WIDTH, LEFT, RIGHT = 0.175, 8.8, 4.35, 7.1  # inches: a line, the page, the axis


def labels(rows: pd.DataFrame) -> list[str]:
    """What is claimed, in short; nothing where the line above says the same.

    The last word of the claim's name stands behind it, if it tells claims apart.
    """
    short = rows["text"].replace(SHORT)
    several = rows.groupby(["text", "dataset"])["claim"].transform("nunique") > 1
    last_word = rows["claim"].str.split().str[-1]
    texts = (short + (": " + last_word).where(several, "")).tolist()
    return ["" if text == above else text for above, text in pairwise(["", *texts])]


def table(path: Path | None = None) -> pd.DataFrame:
    """The claims in short, for a terminal: paper, claim, dataset, effect with interval, verdict."""
    rows = ledger.read_claims(path or FOLDER / "claims.csv")
    effect = [f"{row.effect:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" for row in rows.itertuples()]
    return pd.DataFrame({"paper": rows["paper"], "claim": rows["text"].replace(SHORT),
                         "on": rows["dataset"], "effect": effect, "verdict": rows["verdict"]})


def draw(folder: Path, path: Path | None = None) -> None:
    """The figure into a folder; from another file than `claims.csv`, if one is named."""
    rows = ledger.read_claims(path or FOLDER / "claims.csv")
    rows = rows.sort_values(["paper", "claim", "dataset"], kind="stable", ignore_index=True)
    height = ROW * (len(rows) + rows["paper"].nunique() + 1) + 1.0
    plot.style()
    figure = plt.figure(figsize=(WIDTH, height), layout="none")
    ax = figure.add_axes((LEFT / WIDTH, 0.6 / height, (RIGHT - LEFT) / WIDTH, 1 - 1.0 / height))
    beside = {"transform": ax.get_yaxis_transform(), "fontsize": 7.5, "va": "center",
              "clip_on": False}
    inch = 1 / (RIGHT - LEFT)  # of the axis's width
    place = 0
    paper = ""
    for row, label in zip(rows.itertuples(), labels(rows)):
        if row.paper != paper:
            if paper:
                place += 1.2
            ax.text(-4.25 * inch, place, row.paper, weight="bold", **beside)
            place += 1
            paper = row.paper
        mark, fill, edge = MARKS[row.verdict]
        ax.plot([row.low, row.high], [place, place], color=edge, lw=1.4, solid_capstyle="butt")
        ax.plot(row.effect, place, mark, ms=5, mfc=fill, mec=edge, mew=1.1)
        if row.primary == "primary":
            label = f"{label} (primary)".strip()
        interval = f"{row.effect:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
        ax.text(-4.15 * inch, place, label, **beside)
        ax.text(-0.95 * inch, place, row.dataset, **beside)
        ax.text(1 + 0.1 * inch, place, interval, **beside)
        place += 1
    ax.axvline(0, color="black", lw=1, zorder=0)
    ax.set(ylim=(place - 0.3, -0.7), yticks=[],
           xlabel="effect with its 95 % interval (SRCC, accuracy, S or rho);\n"
                  "right of zero: as claimed")
    ax.spines["left"].set_visible(False)
    for verdict, (mark, fill, edge) in MARKS.items():
        count = (rows["verdict"] == verdict).sum()
        ax.plot([], [], mark, ls="-", color=edge, ms=5, mfc=fill, mec=edge,
                label=f"{verdict} ({count})")
    figure.legend(*ax.get_legend_handles_labels(), loc="upper center", ncols=4, frameon=False,
                  fontsize=9)
    write(figure, folder / "claims.png", 110)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
