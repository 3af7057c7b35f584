"""Pictures in and out: robust loading, 8-bit rounding, luma, and crops that are the same on every run.

A picture is a float32 RGB tensor in [0, 1] of shape (3, H, W); a batch is (B, 3, H, W).
"""

from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

from iqa_core.files import atomic

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".jp2")


# Pillow lists their suffixes, but they hold no raster image that it could decode by itself: stubs (BUFR, GRIB,
# HDF5, MPEG), vector graphics (EPS, PDF, WMF), tables of measurements (FITS) and of words (IPTC).
_NO_RASTER_IMAGE = frozenset(["BUFR", "EPS", "FITS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"])


@cache
def _register_heif() -> None:
    """Let Pillow read HEIC, the format of most phones, if the optional package pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()


def readable_suffixes() -> frozenset[str]:
    """The suffixes of all raster images that the installed Pillow can open, in lower case and with their dot.

    They differ between machines: AVIF needs Pillow 11.3 or later, `.heic` the optional package pillow-heif.

    >>> {".png", ".jpg", ".jfif", ".mpo", ".pgm", ".tga"} <= readable_suffixes(), ".pdf" in readable_suffixes()
    (True, False)
    """
    _register_heif()
    suffixes = {
        suffix.lower()
        for suffix, format_name in Image.registered_extensions().items()
        if format_name in Image.OPEN and format_name not in _NO_RASTER_IMAGE
    }
    suffixes.add(".mpo")  # Pillow opens it as a JPEG, but lists it only among the formats that it writes
    return frozenset(suffixes)


class ImageError(ValueError):
    """A picture that cannot be read. The message names the file and the remedy."""


def load(path: str | Path) -> torch.Tensor:
    """Read a picture file as a float32 RGB tensor.

    The EXIF rotation is applied. Grey and palette pictures become RGB. Transparent pixels are laid over white.
    16-bit samples are divided by 65535. CMYK is converted to RGB. Of an animation the first frame is read.

    Args:
        path: any file that Pillow can open.

    Returns:
        Tensor (3, H, W), float32, in [0, 1].

    Raises:
        ImageError: the file is missing, empty, truncated or no picture. The message names the file.

    >>> import tempfile, os
    >>> file = os.path.join(tempfile.mkdtemp(), "grey.png")
    >>> Image.new("L", (8, 4), 255).save(file)
    >>> load(file).shape, load(file).max().item()
    (torch.Size([3, 4, 8]), 1.0)
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: no such file. Check the name (upper and lower case count) and the folder.")
    if path.stat().st_size == 0:
        raise ImageError(f"{path}: the file is empty (0 bytes). Copy or download it again.")
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > Image.MAX_IMAGE_PIXELS:  # for Pillow a warning, which nobody reads
                raise ValueError(f"{picture.width} x {picture.height} pixels, perhaps an attack")
            array = _rgb_array(ImageOps.exif_transpose(picture))
    except Exception as error:  # Pillow's plugins raise many kinds; all of them mean the same to the reader
        raise ImageError(f"{path}: cannot be read as a picture ({error}). Replace or remove this file.") from error
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def size(path: str | Path) -> tuple[int, int]:
    """(width, height) as the file's first bytes say, before a rotation; (0, 0) if it cannot be read."""
    with suppress(Exception), Image.open(path) as picture:  # of many kinds; `load` says what is wrong
        return picture.size
    return 0, 0


def _rgb_array(picture: Image.Image) -> np.ndarray:
    """(H, W, 3) float32 in [0, 1] from any of Pillow's modes."""
    if picture.mode == "F":
        raise ValueError("32-bit float samples have no fixed range; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):  # 16-bit grey arrives as "I;16" or "I"
        grey = np.asarray(picture, dtype=np.float32) / np.float32(65535)
        return np.repeat(grey.clip(0, 1)[..., None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        over = picture.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        picture = Image.alpha_composite(white, over)
    return np.asarray(picture.convert("RGB"), dtype=np.float32) / np.float32(255)


def to_uint8(x: torch.Tensor) -> torch.Tensor:
    """Round a picture in [0, 1] to 8 bits: floor(255 x + 0.5), clipped. Shape and device are kept.

    >>> to_uint8(torch.tensor([0.0, 0.5, 1.0])).tolist()
    [0, 128, 255]
    """
    return (x * 255 + 0.5).floor().clamp(0, 255).to(torch.uint8)


def from_uint8(x: torch.Tensor) -> torch.Tensor:
    """The way back from `to_uint8`: float32 in [0, 1]."""
    return x.float() / 255


def save(path: str | Path, x: torch.Tensor) -> None:
    """Write a picture (3, H, W) in [0, 1] as a file, all of it or nothing. The suffix chooses the format."""
    array = to_uint8(x.detach().cpu()).permute(1, 2, 0).numpy()
    with atomic(path) as temporary:
        # compress_level 1: PNGs about a tenth larger, written several times faster
        Image.fromarray(array).save(temporary, **({"compress_level": 1} if Path(path).suffix == ".png" else {}))


def luma(x: torch.Tensor) -> torch.Tensor:
    """Luma Y of BT.601 in [0, 1], full range: 0.299 R + 0.587 G + 0.114 B.

    Args:
        x: (B, 3, H, W) or (3, H, W).

    Returns:
        (B, 1, H, W) or (1, H, W).

    >>> luma(torch.ones(1, 3, 2, 2)).shape
    torch.Size([1, 1, 2, 2])
    """
    weights = x.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    return (x * weights).sum(-3, keepdim=True)


def fit(x: torch.Tensor, size: int) -> torch.Tensor:
    """Make a picture at least `size` on both sides by mirroring it at its borders.

    Resizing would change the sharpness that we want to judge, and zero padding would add an edge that is not
    there. Mirroring does neither. A picture that is large enough comes back unchanged.

    Args:
        x: (..., H, W).
        size: the crop size.

    Returns:
        (..., max(H, size), max(W, size)), the picture in the middle.

    >>> fit(torch.arange(3.0).view(1, 1, 3), 6)[0, 0].tolist()
    [0.0, 0.0, 1.0, 2.0, 2.0, 1.0]
    """
    for dim in (-2, -1):
        n = x.shape[dim]
        if n < size:
            before = (size - n) // 2
            rows = np.pad(np.arange(n), (before, size - n - before), "symmetric")  # mirrored as often as it takes
            x = x.index_select(dim, torch.from_numpy(rows).to(x.device))
    return x


def shrink(x: torch.Tensor, longest: int) -> torch.Tensor:
    """A batch (B, C, H, W), bicubic with antialiasing, so that its longer side is `longest`; smaller ones and 0: as they are.

    >>> shrink(torch.rand(1, 3, 100, 200), 50).shape
    torch.Size([1, 3, 25, 50])
    """
    factor = longest / max(x.shape[-2:])
    size = [max(1, round(n * factor)) for n in x.shape[-2:]]
    return F.interpolate(x, size=size, mode="bicubic", antialias=True).clamp(0, 1) if 0 < factor < 1 else x


def crops(x: torch.Tensor, size: int, how: str = "five", n: int = 5, seed: int = 0) -> torch.Tensor:
    """Square crops at positions that depend only on the picture's size and the arguments.

    Args:
        x: (..., H, W). Crops of a distorted picture and its reference stay aligned when both are stacked in x.
        size: side of the crop. A smaller picture is mirrored up to it first (see `fit`).
        how: "five" = the four corners and the centre; "grid" = n x n positions spread evenly from border to
            border; "random" = n positions drawn from `seed`.
        n: number of crops ("random") or of rows and columns ("grid"). "five" ignores it.
        seed: seed of the random positions.

    Returns:
        (N, ..., size, size).

    >>> crops(torch.rand(3, 20, 30), 16).shape
    torch.Size([5, 3, 16, 16])
    >>> pair = torch.rand(2, 3, 20, 30)                      # distorted, reference
    >>> crops(pair, 16, "random", n=7, seed=1).shape
    torch.Size([7, 2, 3, 16, 16])
    """
    x = fit(x, size)
    height, width = x.shape[-2] - size, x.shape[-1] - size
    if how == "five":
        places = [(0, 0), (0, width), (height, 0), (height, width), (height // 2, width // 2)]
    elif how == "grid":
        rows, columns = (torch.linspace(0, room, n).round().int().tolist() if n > 1 else [room // 2]
                         for room in (height, width))
        places = [(top, left) for top in rows for left in columns]
    elif how == "random":
        generator = torch.Generator().manual_seed(seed)
        places = zip(*(torch.randint(room + 1, (n,), generator=generator).tolist() for room in (height, width)))
    else:
        raise ValueError(f"how={how!r} is not a way to crop; choose 'five', 'grid' or 'random'.")
    return torch.stack([x[..., top : top + size, left : left + size] for top, left in places])
