"""All 25 distortion types at their five levels, on one photograph: distortion_gallery.png.

Below each picture: the level's parameter and the mean human score (1 to 5) of that cell in KADID-10k.
Run it with `python figures/distortion_gallery.py`.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import torch  # noqa: E402

from data_download.kadid_cells import kadid_cells  # noqa: E402
from data_download.offline import photograph  # noqa: E402
from iqa_core.distortions import LEVELS, TYPES, distort  # noqa: E402

ROWS = 13  # two blocks side by side, 13 and 12 types


def render() -> plt.Figure:
    """The figure. The whole photograph is distorted and then cropped, because some types place few large blocks."""
    x = photograph("chelsea")[None].expand(5, -1, -1, -1)
    means = kadid_cells().set_index(["name", "level"])["mean"]
    figure, axes = plt.subplots(ROWS, 10, figsize=(11, 14))
    for ax in axes.flat:
        ax.axis("off")
    for number, kind in enumerate(TYPES):
        tiles = distort(x, kind, [1, 2, 3, 4, 5], torch.Generator().manual_seed(number))[:, :, 50:194, 70:262]
        row, left = number % ROWS, number // ROWS * 5
        for level, tile in enumerate(tiles):
            ax = axes[row, left + level]
            ax.imshow(tile.permute(1, 2, 0).numpy())
            ax.text(0.5, -0.03, f"{LEVELS[kind][level]:g}   people: {means[kind, level + 1]:.1f}", fontsize=7,
                    ha="center", va="top", transform=ax.transAxes)
        axes[row, left].set_title(f"{number + 1} {kind}", fontsize=9, loc="left", pad=3)
    figure.subplots_adjust(0.005, 0.01, 0.995, 0.985, wspace=0.03, hspace=0.5)
    return figure


if __name__ == "__main__":
    target = Path(__file__).with_suffix(".png")
    render().savefig(target, dpi=80)
    print(f"{target.name}: {target.stat().st_size / 1e6:.1f} MB")
