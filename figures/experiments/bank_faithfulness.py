"""Is our distortion bank KADID's? PSNR and SSIM of each cell against KADID's human means.

    python -m figures.experiments.bank_faithfulness

Within a type, a cell that people rate lower should also lie further from the reference. On the
Kodak photographs, which lie in $IQA_DATA/kodak, the script writes bank_faithfulness.csv and
bank_faithfulness.png, and names each type where the two orders differ.
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import pandas as pd
import torch

import data_download
from data_download.made.kadid_cells import kadid_cells
from figures import FOLDER
from iqa_core import data, files, images, metrics
from iqa_core.distortions import TYPES, distort
from lesson import plot

# Which types are exceptions is computed; why is our reading of the images.
REASONS = {
    "color_shift": "people rate levels 4 and 5 alike: once the fringes are seen, wider ones add "
                   "little",
    "mean_shift": "two-sided: PSNR cannot tell brighter from darker by the same amount, people "
                  "prefer brighter",
    "pixelate": "PSNR hardly moves over levels 2 to 4: skipping pixels shifts edges at once, "
                "people watch the blocks grow",
    "contrast_change": "two-sided: PSNR counts a rise and a fall of contrast alike, people punish "
                       "the rise more",
}


def measure() -> pd.DataFrame:
    """Mean PSNR (RGB, 100 dB at most) and SSIM (luma, downsampled) of the 125 cells."""
    kodak = data_download.load("kodak")
    # 384 x 512 as in KADID: several parameters are in pixels
    crops = [images.crops(kodak.image(i), 384, "grid", n=1)[0] for i in range(len(kodak))]
    x = torch.stack(crops)  # (24, 3, 384, 512)
    rows = []
    for number, kind in enumerate(files.progress(TYPES, "cells"), start=1):
        for level in range(1, 6):
            y = torch.cat([distort(part, kind, level, torch.Generator().manual_seed(number))
                           for part in x.split(8)])
            psnr = metrics.psnr(y, x).clamp(max=100).mean().item()
            ssim = metrics.ssim(images.luma(y), images.luma(x), downsample=True).mean().item()
            rows.append({"type": number, "name": kind, "level": level, "psnr": psnr, "ssim": ssim})
    human = kadid_cells().rename(columns={"mean": "human"})[["type", "level", "human", "n"]]
    return pd.DataFrame(rows).merge(human, on=["type", "level"])


def agreement(cells: pd.DataFrame) -> pd.DataFrame:
    """Per type: SRCC over the five levels of PSNR and of SSIM with the human means."""
    rows = {}
    for kind, group in cells.groupby("name", sort=False):
        rows[kind] = {name: metrics.srcc(group[name].round(4), group["human"])
                      for name in ("psnr", "ssim")}
    return pd.DataFrame(rows).T


def draw(cells: pd.DataFrame) -> plt.Figure:
    """One small panel a type: human mean (line) and SSIM (dots) over the levels."""
    plot.style()
    figure, axes = plt.subplots(5, 5, figsize=(10, 9), sharex=True, sharey=True)
    for ax, (kind, group) in zip(axes.flat, cells.groupby("name", sort=False)):
        level = group["level"]
        ax.plot(level, (group["human"] - 1) / 4, "o-", ms=4, color=plot.BLUE,
                label="people (KADID-10k)")
        ax.plot(level, group["ssim"], "s--", ms=4, color=plot.ORANGE, label="SSIM (ours, Kodak)")
        ax.plot(level, group["psnr"].clip(upper=50) / 50, "^:", ms=4, color=plot.GREY,
                label="PSNR / 50 dB")
        ax.set_title(kind, fontsize=9)
    axes[-1, 2].set_xlabel("level")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def main() -> int:
    try:
        cells = measure()
    except data.DatasetError as error:
        print(error, file=sys.stderr)
        return 1
    cells.to_csv(FOLDER / "bank_faithfulness.csv", index=False, float_format="%.4f")
    draw(cells).savefig(FOLDER / "bank_faithfulness.png", dpi=80)
    table = agreement(cells)
    print(table.round(2).to_string())
    ordered = (table > 0.999).all(axis=1)
    print(f"PSNR and SSIM fall in the order of people in {ordered.sum()} of {len(table)} types. "
          "The others:")
    for kind in table.index[~ordered]:
        print(f"  {kind}: {REASONS.get(kind, 'no reason known yet; look at the images')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
