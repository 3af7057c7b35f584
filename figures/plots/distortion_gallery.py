"""Draw distortion_gallery.png: the 125 cells of `iqa_core.distortions` on one photograph.

    python -m figures.plots.distortion_gallery [folder]

The whole photograph (scikit-image's chelsea, 451 x 300) is distorted and a piece is shown pixel by
pixel; only color_block shows the whole, reduced. Under each piece: parameter and KADID-10k's mean
human score of this type and level (1 to 5, higher is better).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from skimage import data
from torch import Tensor

from data_download.made.kadid_cells import kadid_cells
from figures import FOLDER
from iqa_core.distortions import IDENTITY, LEVELS, PARAMETERS, TYPES, distort
from iqa_core.files import atomic
from iqa_core.images import to_uint8

ALT = {"distortion_gallery": "25 distortion types at five levels on a cat's eye, "
                             "with the mean human score of each cell"}
TOP, LEFT, HEIGHT, WIDTH = 78, 105, 80, 106  # the piece: an eye, striped fur, soft background
GAP, TITLE, CAPTION, MARGIN = 4, 18, 22, 12  # lengths in pixels
ROWS = 13  # types 1 to 13 on the left, 14 to 25 on the right
COLUMN = 5 * (WIDTH + GAP) + MARGIN
ROW = TITLE + HEIGHT + CAPTION
LEGEND = ("Levels 1 to 5 from left to right. Under each image:\n"
          "the parameter and KADID-10k's mean human score,\n1 (bad) to 5 (excellent).")


def piece(x: Tensor, whole: bool) -> Image.Image:
    """The part of an image (3, H, W) that the figure shows."""
    if whole:
        x = F.interpolate(x[None], (HEIGHT, WIDTH), mode="area")[0]
    else:
        x = x[:, TOP:TOP + HEIGHT, LEFT:LEFT + WIDTH]
    # Six bits a channel look the same and make the file half as large.
    six_bits = (to_uint8(x) & 0xFC) | 2
    return Image.fromarray(six_bits.permute(1, 2, 0).numpy())


def draw(folder: Path) -> None:
    """The figure into a folder."""
    photograph = torch.from_numpy(data.chelsea()).permute(2, 0, 1) / 255
    human = kadid_cells().set_index(["name", "level"])["mean"]
    generator = torch.Generator().manual_seed(0)
    canvas = Image.new("RGB", (2 * COLUMN + MARGIN, ROWS * ROW + 2 * MARGIN), "white")
    pen = ImageDraw.Draw(canvas)
    large = ImageFont.load_default(13)
    small = ImageFont.load_default(11)

    def place(image: Image.Image, x: int, y: int, caption: str) -> None:
        canvas.paste(image, (x, y + TITLE))
        pen.text((x + WIDTH / 2, y + TITLE + HEIGHT + 1), caption, "#444444", small, "ma")

    for number, name in enumerate(TYPES):
        x0 = MARGIN + COLUMN * (number // ROWS)
        y0 = MARGIN + ROW * (number % ROWS)
        pen.text((x0, y0), f"{number + 1}  {name}  ({PARAMETERS[name]})", "black", large)
        five = distort(photograph.expand(5, -1, -1, -1), name, [1, 2, 3, 4, 5], generator)
        for level, y in enumerate(five, start=1):
            same = " = as is" if (name, level) in IDENTITY else ""
            caption = f"{LEVELS[name][level - 1]:g}{same}   {human[name, level]:.2f} of 5"
            place(piece(y, name == "color_block"), x0 + (level - 1) * (WIDTH + GAP), y0, caption)
    x0 = MARGIN + COLUMN
    y0 = MARGIN + ROW * (ROWS - 1)
    place(piece(photograph, False), x0, y0, "undistorted")
    pen.text((x0 + WIDTH + 3 * GAP, y0 + TITLE + 8), LEGEND, "#444444", large, spacing=5)
    with atomic(folder / "distortion_gallery.png") as temporary:
        canvas.save(temporary, "PNG", optimize=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
