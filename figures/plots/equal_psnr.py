"""Draw equal_psnr.png: four versions of one photograph with the same PSNR and unlike quality.

    python -m figures.plots.equal_psnr [folder]

The strength of each distortion is found by bisection, so that every version has a PSNR of 24 dB.
The whole photograph (scikit-image's coffee) is distorted and judged, and a piece is shown pixel by
pixel. Under each piece stand three scores: PSNR, MS-SSIM on luma, and that of the YOTO that comes
with the kit, which sees the reference as well.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from skimage import data
from torch import Tensor

from figures import FOLDER
from iqa_core import distortion_types, files, images, metrics, score

ALT = {"equal_psnr": "Four versions of one photograph with the same PSNR and very different quality, "
                     "each with what three programs say"}
PSNR = 24.0  # dB
DISTORTIONS = {  # what is seen: (the distortion, its largest strength)
    "a little brighter": (distortion_types.mean_shift, 0.3),
    "noise": (distortion_types.white_noise, 0.1),
    "coarse pixels": (distortion_types.pixelate, 0.85),
    "blur": (distortion_types.gaussian_blur, 20.0),
}
TOP, LEFT, SIDE = 20, 180, 240  # the piece
GAP, TITLE, CAPTION, MARGIN = 12, 22, 62, 10  # lengths in pixels


def with_psnr(x: Tensor, distortion, largest: float) -> Tensor:
    """The image (1, 3, H, W), distorted so far that its PSNR is `PSNR`."""
    low = 0.0
    high = largest
    for _ in range(30):
        strength = (low + high) / 2
        y = distortion(x, strength, torch.Generator().manual_seed(0)).clamp(0, 1)
        if metrics.psnr(y, x).item() > PSNR:
            low = strength
        else:
            high = strength
    return y


def draw(folder: Path) -> None:
    """The figure into a folder."""
    x = torch.from_numpy(data.coffee()).permute(2, 0, 1)[None] / 255
    yoto = score.load_method("yoto")
    width = len(DISTORTIONS) * (SIDE + GAP) - GAP + 2 * MARGIN
    canvas = Image.new("RGB", (width, TITLE + SIDE + CAPTION + 2 * MARGIN), "white")
    pen = ImageDraw.Draw(canvas)
    large = ImageFont.load_default(15)
    small = ImageFont.load_default(14)
    for number, (name, (distortion, largest)) in enumerate(DISTORTIONS.items()):
        y = with_psnr(x, distortion, largest)
        ms_ssim = metrics.ms_ssim(images.luma(y), images.luma(x))
        caption = (f"PSNR {metrics.psnr(y, x).item():.1f} dB\nMS-SSIM {ms_ssim.item():.3f}\n"
                   f"YOTO {yoto.score(y, x).item():.2f}")
        piece = y[0, :, TOP:TOP + SIDE, LEFT:LEFT + SIDE]
        left = MARGIN + number * (SIDE + GAP)
        pen.text((left, MARGIN), name, "black", large)
        canvas.paste(Image.fromarray(images.to_uint8(piece).permute(1, 2, 0).numpy()),
                     (left, MARGIN + TITLE))
        pen.text((left, MARGIN + TITLE + SIDE + 4), caption, "#333333", small, spacing=3)
    with files.atomic(folder / "equal_psnr.png") as temporary:
        canvas.quantize(200).save(temporary, "PNG", optimize=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
