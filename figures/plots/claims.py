"""Draw claims.png: every claim of the papers that was tested, with the 95 % interval of its effect, from claims.csv.

    python -m figures.plots.claims [folder]
"""

import sys
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from figures import FOLDER
from figures.plots.diagram import write
from lesson import plot

ALT = {"claims": "Forest plot of the tested claims by paper: a line a claim with the 95 % interval of its effect; "
                 "filled circles hold, crosses do not hold, hollow diamonds are not decided"}
MARKS = {"holds": ("o", plot.GREEN, plot.GREEN), "does not hold": ("X", plot.RED, plot.RED),
         "not decided": ("D", "white", plot.GREY)}  # mark, its fill, edge and interval
SHORT = {
    "quality features separate distortion, content features separate content": "each expert separates what it is for",
    "both experts together are at least as good as the content expert": "both experts as good as the content expert",
    "both experts together are at least as good as the quality expert": "both experts as good as the quality expert",
    "crops that overlap little are better than crops that overlap much": "crops that overlap little are better",
    "on restored pictures the full method judges better than its predictor": "the full method judges restored pictures better",
    "and gains more than on degraded ones": "and gains more there than on degraded ones",
    "training with matched noise is steadier than with random noise": "training with matched noise is steadier",
}
ROW, WIDTH, LEFT, RIGHT = 0.175, 8.8, 4.35, 7.1  # inches: a line, the page, the axis


def labels(rows: pd.DataFrame) -> list[str]:
    """What is claimed, in short; nothing where the line above says the same; the last word of the name, if it tells."""
    short = rows["text"].replace(SHORT)
    several = rows.groupby(["text", "dataset"])["claim"].transform("nunique") > 1
    words = rows["claim"].str.split().str[-1]
    found = (short + (": " + words).where(several, "")).tolist()
    return ["" if text == above else text for above, text in pairwise(["", *found])]


def table(path: Path | None = None) -> pd.DataFrame:
    """The claims in short, for a terminal: paper, claim, dataset, effect with its interval, verdict."""
    rows = pd.read_csv(path or FOLDER / "claims.csv", keep_default_na=False)
    effect = [f"{row.effect:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" for row in rows.itertuples()]
    return pd.DataFrame({"paper": rows["paper"], "claim": rows["text"].replace(SHORT), "on": rows["dataset"],
                         "effect": effect, "verdict": rows["verdict"]})


def draw(folder: Path, path: Path | None = None) -> None:
    """The figure into a folder; from another file than `claims.csv`, if one is named."""
    rows = pd.read_csv(path or FOLDER / "claims.csv", keep_default_na=False)
    rows = rows.sort_values(["paper", "claim", "dataset"], kind="stable", ignore_index=True)
    height = ROW * (len(rows) + rows["paper"].nunique() + 1) + 1.0
    plot.style()
    figure = plt.figure(figsize=(WIDTH, height), layout="none")
    ax = figure.add_axes((LEFT / WIDTH, 0.6 / height, (RIGHT - LEFT) / WIDTH, 1 - 1.0 / height))
    aside = {"transform": ax.get_yaxis_transform(), "fontsize": 7.5, "va": "center", "clip_on": False}
    inch, place, paper = 1 / (RIGHT - LEFT), 0, ""
    for row, label in zip(rows.itertuples(), labels(rows)):
        if row.paper != paper:
            place += 1.2 if paper else 0.0
            ax.text(-4.25 * inch, place, row.paper, weight="bold", **aside)
            place, paper = place + 1, row.paper
        mark, fill, edge = MARKS[row.verdict]
        ax.plot([row.low, row.high], [place, place], color=edge, lw=1.4, solid_capstyle="butt")
        ax.plot(row.effect, place, mark, ms=5, mfc=fill, mec=edge, mew=1.1)
        ax.text(-4.15 * inch, place, label, **aside)
        ax.text(-0.95 * inch, place, row.dataset, **aside)
        ax.text(1 + 0.1 * inch, place, f"{row.effect:+.3f} [{row.low:+.3f}, {row.high:+.3f}]", **aside)
        place += 1
    ax.axvline(0, color="black", lw=1, zorder=0)
    ax.set(ylim=(place - 0.3, -0.7), yticks=[], xlabel="effect with its 95 % interval (SRCC, accuracy, S or rho);\n"
           "right of zero: as claimed")
    ax.spines["left"].set_visible(False)
    for verdict, (mark, fill, edge) in MARKS.items():
        ax.plot([], [], mark, ls="-", color=edge, ms=5, mfc=fill, mec=edge,
                label=f"{verdict} ({(rows['verdict'] == verdict).sum()})")
    figure.legend(*ax.get_legend_handles_labels(), loc="upper center", ncols=3, frameon=False, fontsize=9)
    write(figure, folder / "claims.png", 110)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
