"""Is our distortion bank KADID's? On the Kodak photographs, PSNR and SSIM of each cell against KADID's human means.

Within a type, a cell that people rate lower should also lie further from the reference. The script writes
bank_faithfulness.csv and bank_faithfulness.png and names each type where the two orders differ. It needs the Kodak
photographs in $IQA_DATA/kodak. Run it with `python figures/bank_faithfulness.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402

from data_download.made.kadid_cells import kadid_cells  # noqa: E402
from iqa_core import data, files, images, metrics
from lesson import plot  # noqa: E402
from iqa_core.distortions import TYPES, distort  # noqa: E402

HERE = Path(__file__).parent
# Which types are exceptions is computed; why is our reading of the pictures.
REASONS = {
    "color_shift": "people rate levels 4 and 5 alike: once the fringes are seen, wider ones add little",
    "mean_shift": "two-sided: PSNR cannot tell brighter from darker by the same amount, people prefer brighter",
    "pixelate": "PSNR hardly moves over levels 2 to 4: skipping pixels shifts edges at once, people watch the blocks grow",
    "contrast_change": "two-sided: PSNR counts a rise and a fall of contrast alike, people punish the rise more",
}


def measure() -> pd.DataFrame:
    """Mean PSNR (RGB, identical pictures count as 100 dB) and SSIM (luma, downsampled) of the 125 cells."""
    kodak = data.load("kodak")
    # 384 x 512 as in KADID: several parameters are in pixels
    x = torch.stack([images.crops(kodak.image(i), 384, "grid", n=1)[0] for i in range(len(kodak))])
    rows = []
    for number, kind in enumerate(files.progress(TYPES, "cells"), start=1):
        for level in range(1, 6):
            y = torch.cat([distort(part, kind, level, torch.Generator().manual_seed(number)) for part in x.split(8)])
            rows.append({"type": number, "name": kind, "level": level,
                         "psnr": metrics.psnr(y, x).clamp(max=100).mean().item(),
                         "ssim": metrics.ssim(images.luma(y), images.luma(x), downsample=True).mean().item()})
    human = kadid_cells().rename(columns={"mean": "human"})[["type", "level", "human", "n"]]
    return pd.DataFrame(rows).merge(human, on=["type", "level"])


def agreement(cells: pd.DataFrame) -> pd.DataFrame:
    """Per type: SRCC over the five levels of PSNR and of SSIM with the human means."""
    return pd.DataFrame({kind: {name: metrics.srcc(group[name].round(4), group["human"]) for name in ("psnr", "ssim")}
                         for kind, group in cells.groupby("name", sort=False)}).T


def draw(cells: pd.DataFrame) -> plt.Figure:
    """One small panel a type: human mean (line) and SSIM (dots) over the levels."""
    plot.style()
    figure, axes = plt.subplots(5, 5, figsize=(10, 9), sharex=True, sharey=True)
    for ax, (kind, group) in zip(axes.flat, cells.groupby("name", sort=False)):
        ax.plot(group["level"], (group["human"] - 1) / 4, "o-", ms=4, color=plot.BLUE, label="people (KADID-10k)")
        ax.plot(group["level"], group["ssim"], "s--", ms=4, color=plot.ORANGE, label="SSIM (ours, Kodak)")
        ax.plot(group["level"], group["psnr"].clip(upper=50) / 50, "^:", ms=4, color=plot.GREY, label="PSNR / 50 dB")
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
    cells.to_csv(HERE / "bank_faithfulness.csv", index=False, float_format="%.4f")
    draw(cells).savefig(HERE / "bank_faithfulness.png", dpi=80)
    table = agreement(cells)
    print(table.round(2).to_string())
    ordered = (table > 0.999).all(axis=1)
    print(f"PSNR and SSIM fall in the order of people in {ordered.sum()} of {len(table)} types. The others:")
    for kind in table.index[~ordered]:
        print(f"  {kind}: {REASONS.get(kind, 'no reason known yet; look at the pictures')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
