"""Plots for notebooks: one palette, safe for colour-blind readers and in grey print."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from iqa_core import images as image_files

# Okabe and Ito's palette, dark to light enough to tell apart in grey
BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
RED = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#6B6B6B"
PALETTE = (BLUE, ORANGE, GREEN, RED, PURPLE, GREY)


def style() -> None:
    """Set the figure style of this kit; the set-up cell of each notebook calls it."""
    plt.rcParams.update({
        "figure.dpi": 80,
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": plt.cycler(color=PALETTE),
        "image.cmap": "viridis",
    })


def show(images: Sequence[torch.Tensor], titles: Sequence[str] = (), columns: int = 5,
         width: float = 10):
    """Draw images (3, H, W) or maps (H, W) side by side, and return the figure.

    Args:
        images: tensors in [0, 1]; a map (H, W) or (1, H, W) is drawn in colour by its own range.
        titles: one an image.
        columns: images a row.
        width: of the figure, in inches.

    >>> _ = show([torch.rand(3, 8, 8), torch.rand(8, 8)], ["image", "map"])
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)  # rounded up
    aspect = images[0].shape[-2] / images[0].shape[-1]
    room_for_title = 0.3 if len(titles) else 0.05
    height = rows * (width / columns * aspect + room_for_title)
    figure, axes = plt.subplots(rows, columns, squeeze=False, figsize=(width, height))
    for ax in axes.flat:
        ax.axis("off")
    for ax, image in zip(axes.flat, images):
        array = image.detach().cpu().float()
        if array.ndim == 3 and len(array) == 1:
            array = array[0]                                # (1, H, W) -> (H, W)
        if array.ndim == 3:
            array = array.permute(1, 2, 0).clamp(0, 1)      # (3, H, W) -> (H, W, 3)
        ax.imshow(array.numpy())
    for ax, title in zip(axes.flat, titles):
        ax.set_title(title, fontsize=9)
    return figure


def pixels(images: Sequence[torch.Tensor], titles: Sequence[str] = (), columns: int = 2,
           scale: int = 1) -> Image.Image:
    """Show images to be judged by eye: nothing is resized or smoothed.

    Every pixel of an image becomes scale x scale pixels of the screen. As the last line of a cell
    the result is displayed.

    Args:
        images: tensors (3, H, W) in [0, 1], all of one size.
        titles: one an image; a title may have several lines.
        columns: images a row.
        scale: 1, 2, 3, ...; 2 and more show the pixels as squares.

    >>> pixels([torch.rand(3, 8, 8)] * 3, ["a", "b", "c"], columns=2, scale=4).size
    (84, 136)
    """
    font_file = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    font = ImageFont.truetype(str(font_file), 15)
    gap = 20
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)  # rounded up
    height = images[0].shape[-2] * scale
    width = images[0].shape[-1] * scale
    lines = max((title.count("\n") + 1 for title in titles), default=0)
    above = 20 * lines + 8
    size = (columns * (width + gap) - gap, rows * (above + height + 8))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for i, image in enumerate(images):
        left = i % columns * (width + gap)
        top = i // columns * (above + height + 8)
        array = image_files.to_uint8(image.detach().cpu()).permute(1, 2, 0).numpy()
        tile = Image.fromarray(array).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(tile, (left, top + above))
        if i < len(titles):
            draw.text((left + width / 2, top + above - 5), titles[i], fill="black", font=font,
                      anchor="md", align="center")
    return sheet


def scatter(pred, mos, ax=None, groups: Sequence[str] | None = None, fit=None,
            xlabel="prediction", ylabel="MOS"):
    """Draw predictions against MOS, one dot an image, coloured by group, with a fitted curve.

    Args:
        pred, mos: (N,) arrays.
        ax: axes to draw on; a new figure if none.
        groups: (N,) labels, at most six different ones.
        fit: function that maps predictions to MOS, drawn as a line.

    >>> _ = scatter([1, 2, 3], [1, 2, 3], fit=lambda x: x)
    """
    ax = ax or plt.figure(figsize=(4, 3.2)).gca()
    pred = np.asarray(pred)
    mos = np.asarray(mos)
    labels = np.asarray(groups) if groups is not None else np.array([""] * len(pred))
    for i, name in enumerate(dict.fromkeys(labels)):
        chosen = labels == name
        color = PALETTE[i % 6]
        ax.plot(pred[chosen], mos[chosen], "o", ms=3, alpha=0.6, color=color, label=name or None)
    if fit is not None:
        x = np.linspace(pred.min(), pred.max(), 200)
        ax.plot(x, fit(x), color="black", lw=1.5)
    if groups is not None:
        ax.legend(fontsize=8)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    return ax


def bars(names: Sequence[str], values: Sequence[float], low=None, high=None, ax=None,
         xlabel="SRCC"):
    """Draw horizontal bars with intervals, the first name on top.

    Args:
        names, values: one a bar.
        low, high: ends of the intervals, if any.

    >>> _ = bars(["a", "b"], [0.5, 0.7], [0.4, 0.6], [0.6, 0.8])
    """
    ax = ax or plt.figure(figsize=(5, 0.35 * len(names) + 0.7)).gca()
    values = np.asarray(values, dtype=float)
    error = None
    if low is not None:
        error = np.abs([values - np.asarray(low), np.asarray(high) - values])
    ax.barh(range(len(names)), values, xerr=error, color=BLUE, height=0.6,
            error_kw={"elinewidth": 1, "capsize": 3})
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlabel(xlabel)
    ax.grid(axis="y", visible=False)
    return ax
