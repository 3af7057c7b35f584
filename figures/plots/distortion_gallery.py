"""Draw distortion_gallery.png: the 125 cells of `iqa_core.distortions` on one photograph.

The whole photograph (scikit-image's chelsea, 451 x 300) is distorted and a piece is shown pixel by pixel;
only color_block shows the whole, reduced. Under each piece: parameter and KADID-10k's mean human score of
this type and level (1 to 5, higher is better). Run it with `python figures/distortion_gallery.py [folder]`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from data_download.made.kadid_cells import kadid_cells
from iqa_core.distortions import IDENTITY, LEVELS, PARAMETERS, TYPES, distort
from iqa_core.files import atomic
from iqa_core.images import to_uint8

ALT = {"distortion_gallery": "25 distortion types at five levels on a cat's eye, "
                             "with the mean human score of each cell"}
TOP, LEFT, HEIGHT, WIDTH = 78, 105, 80, 106  # the piece: an eye, striped fur, soft background
GAP, TITLE, CAPTION, MARGIN = 4, 18, 22, 12
ROWS = 13  # types 1 to 13 on the left, 14 to 25 on the right


def piece(x: torch.Tensor, whole: bool) -> Image.Image:
    """The part of a picture (3,H,W) that the figure shows."""
    if whole:
        x = F.interpolate(x[None], (HEIGHT, WIDTH), mode="area")[0]
    else:
        x = x[:, TOP:TOP + HEIGHT, LEFT:LEFT + WIDTH]
    # Six bits a channel look the same and make the file half as large.
    return Image.fromarray(((to_uint8(x) & 0xFC) | 2).permute(1, 2, 0).numpy())


def draw(folder: Path) -> None:
    photo = torch.from_numpy(data.chelsea()).permute(2, 0, 1) / 255
    human = kadid_cells().set_index(["name", "level"])["mean"]
    generator = torch.Generator().manual_seed(0)
    column = 5 * (WIDTH + GAP) + MARGIN
    row = TITLE + HEIGHT + CAPTION
    canvas = Image.new("RGB", (2 * column + MARGIN, ROWS * row + 2 * MARGIN), "white")
    pen, bold, small = ImageDraw.Draw(canvas), ImageFont.load_default(13), ImageFont.load_default(11)

    def place(image: Image.Image, x: int, y: int, caption: str) -> None:
        canvas.paste(image, (x, y + TITLE))
        pen.text((x + WIDTH / 2, y + TITLE + HEIGHT + 1), caption, "#444444", small, "ma")

    for number, name in enumerate(TYPES):
        x0, y0 = MARGIN + column * (number // ROWS), MARGIN + row * (number % ROWS)
        pen.text((x0, y0), f"{number + 1}  {name}  ({PARAMETERS[name]})", "black", bold)
        for level, y in enumerate(distort(photo.expand(5, -1, -1, -1), name, [1, 2, 3, 4, 5], generator), 1):
            same = " = as is" if (name, level) in IDENTITY else ""
            place(piece(y, name == "color_block"), x0 + (level - 1) * (WIDTH + GAP), y0,
                  f"{LEVELS[name][level - 1]:g}{same}   {human[name, level]:.2f} of 5")
    x0, y0 = MARGIN + column, MARGIN + row * (ROWS - 1)
    place(piece(photo, False), x0, y0, "undistorted")
    text = ("Levels 1 to 5 from left to right. Under each picture:\n"
            "the parameter and KADID-10k's mean human score,\n1 (bad) to 5 (excellent).")
    pen.text((x0 + WIDTH + 3 * GAP, y0 + TITLE + 8), text, "#444444", bold, spacing=5)
    with atomic(folder / "distortion_gallery.png") as temporary:
        canvas.save(temporary, "PNG", optimize=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent)
