"""Images in and out: robust loading, 8-bit rounding, luma, and crops that repeat on every run.

An image is a float32 sRGB tensor in [0, 1] of shape (3, H, W); a batch is (B, 3, H, W).
"""

from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from iqa_core.batches import expect
from iqa_core.console import printable
from iqa_core.files import atomic
from iqa_core.image_colours import srgb_array
from iqa_core.image_formats import (
    ImageError, expect_file, pixel_limit, readable_suffixes, reason_and_remedy, register_heif,
    too_many_pixels)


def load(path: str | Path) -> Tensor:
    """Read an image file as a float32 sRGB tensor: the pixels that a viewer shows.

    - The EXIF rotation is applied. Of an animation or of many pages the first is read.
    - Grey, palette, CMYK and Lab become RGB. Transparent pixels are laid over white. BMP and TGA
      whose alpha is 0 everywhere are opaque: many programs leave the fourth byte empty.
    - An embedded ICC profile is converted to sRGB, with 8 bits and the profile's own rendering
      intent. Where that would move no colour by more than 1/255, as with profiles of sRGB itself,
      the pixels stay bit for bit as they are. A profile that is damaged or made for other channels
      is ignored with a warning.
    - The gAMA entry of a PNG without profile counts where it differs from 1/2.2 by more than 5 %,
      libpng's threshold. Other marks of a colour space are not read: cHRM and cICP in PNG, nclx in
      AVIF and HEIC.
    - Samples are divided by the value of white: 255; 65535 for 16-bit grey; 4095 for 12-bit TIFF.
      Of colour with more than 8 bits Pillow reads the upper 8; a warning says so once (not for
      AVIF and HEIC, which arrive with 8 bits).
    - Floats, signed integers and 32-bit integers have no fixed white and are refused.

    Args:
        path: a file of any kind in `readable_suffixes`. Its content decides, not its suffix.

    Returns:
        Tensor (3, H, W), float32, in [0, 1].

    Raises:
        ImageError: the file is missing, empty, truncated, no image, or has more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS` (at first 89,478,485; None means no limit). If the
            environment variable `IQA_MAX_PIXELS` is set (a number, or `none`), it is copied there
            first. The message names the file.

    >>> import tempfile, os
    >>> file = os.path.join(tempfile.mkdtemp(), "grey.png")
    >>> Image.new("L", (8, 4), 255).save(file)
    >>> load(file).shape, load(file).max().item()
    (torch.Size([3, 4, 8]), 1.0)
    """
    path = Path(path)
    name = printable(str(path))
    try:
        expect_file(path)
        register_heif()
        limit = pixel_limit()
        # From an open file: given a path, Pillow maps an uncompressed TIFF into memory, and then
        # scrambles it if it is rotated.
        with path.open("rb") as file, Image.open(file) as image:
            width, height = image.size
            if width * height == 0:
                raise ImageError(f"{name}: the image has no pixels ({width} x {height}). "
                                 "Replace or remove this file.")
            if limit is not None and width * height > limit:
                raise too_many_pixels(name, f"{width} x {height} pixels are", limit)
            array = srgb_array(image, path)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:  # Pillow stops by itself at twice the limit
        raise too_many_pixels(name, "its pixels are", Image.MAX_IMAGE_PIXELS) from error
    except Exception as error:  # Pillow's plugins raise many kinds, which all mean this
        reason, remedy = reason_and_remedy(error, path)
        raise ImageError(f"{name}: cannot be read as an image ({reason}). {remedy}.") from error
    white = np.float32(255) if array.dtype == np.uint8 else np.float32(1)
    x = np.empty((3, *array.shape[:2]), np.float32)
    np.divide(array.transpose(2, 0, 1), white, out=x)
    return torch.from_numpy(x)


def size(path: str | Path) -> tuple[int, int]:
    """(width, height) as the file's first bytes say, before a rotation; (0, 0) if unreadable."""
    with suppress(Exception):  # of many kinds; `load` says what is wrong
        register_heif()
        pixel_limit()
        with Image.open(path) as image:
            return image.size
    return 0, 0


def to_uint8(x: Tensor) -> Tensor:
    """Round an image in [0, 1] to 8 bits: floor(255 x + 0.5), clipped. Shape and device are kept.

    >>> to_uint8(torch.tensor([0.0, 0.5, 1.0])).tolist()
    [0, 128, 255]
    """
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()  # half precision cannot count to 255.5 in halves
    return (x * 255 + 0.5).floor().clamp(0, 255).to(torch.uint8)


def from_uint8(x: Tensor) -> Tensor:
    """The way back from `to_uint8`: float32 in [0, 1]."""
    return x.float() / 255


def save(path: str | Path, x: Tensor) -> None:
    """Write an image as a file of 8 bits, all of it or nothing.

    PNG, BMP, TIFF, TGA and PPM keep every pixel; formats such as JPEG and GIF change them.

    Args:
        path: its suffix chooses the format; it must be one that Pillow reads and writes.
        x: (3, H, W) in [0, 1], of any floating dtype, on any device.

    Raises:
        ValueError: another shape, integers, values outside [0, 1] or NaN, a suffix that cannot be
            written. The message names the file.

    >>> import tempfile
    >>> save(tempfile.gettempdir() + "/white.png", torch.full((3, 4, 4), 255.0))
    ... # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ...white.png: x must hold values in [0, 1], but holds 255 to 255: divide ...
    """
    path = Path(path)
    name = printable(str(path))
    if not isinstance(x, Tensor):
        raise ValueError(f"{name}: x must be a tensor of shape (3, H, W), but has type "
                         f"{type(x).__name__}: turn an array (H, W, 3) of 8 bits into "
                         "torch.from_numpy(array).permute(2, 0, 1) / 255.")
    if x.ndim != 3 or x.shape[0] != 3:
        raise ValueError(f"{name}: x must have shape (3, H, W), but has {tuple(x.shape)}: take one "
                         "image of a batch as x[i], repeat grey by x.expand(3, -1, -1), leave "
                         "transparency out by x[:3].")
    try:
        x = expect(x[None], channels=3)[0]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    suffix = path.suffix.lower()
    is_writable = Image.registered_extensions().get(suffix) in Image.SAVE
    if suffix not in readable_suffixes() or not is_writable:
        raise ValueError(f"{name}: {suffix or 'a name without suffix'} is no image format that can "
                         "be written. Choose .png.")
    array = to_uint8(x.detach().cpu()).permute(1, 2, 0).numpy()
    # compress_level 1: PNGs about a tenth larger, written several times faster
    options = {"compress_level": 1} if suffix in (".png", ".apng") else {}
    with atomic(path) as temporary:
        try:
            Image.fromarray(array).save(temporary, **options)
        except OSError as error:
            if error.errno is not None:
                raise  # such as no space left or no permission
            raise ValueError(f"{name}: {error}. Choose .png.") from error


def luma(x: Tensor) -> Tensor:
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


def fit(x: Tensor, size: int) -> Tensor:
    """Make an image at least `size` on both sides by mirroring it at its borders.

    Resizing would change the sharpness that we want to judge, and zero padding would add an edge
    that is not there. Mirroring does neither. An image that is large enough comes back unchanged.

    Args:
        x: (..., H, W).
        size: the crop size.

    Returns:
        (..., max(H, size), max(W, size)), the image in the middle.

    >>> fit(torch.arange(3.0).view(1, 1, 3), 6)[0, 0].tolist()
    [0.0, 0.0, 1.0, 2.0, 2.0, 1.0]
    """
    for dim in (-2, -1):
        n = x.shape[dim]
        if n < size:
            before = (size - n) // 2
            after = size - n - before
            rows = np.pad(np.arange(n), (before, after), "symmetric")  # mirrored again and again
            x = x.index_select(dim, torch.from_numpy(rows).to(x.device))
    return x


def shrink(x: Tensor, longest: int) -> Tensor:
    """Make the longer side of a batch (B, C, H, W) `longest`: bicubic, with antialiasing.

    Smaller images come back as they are, and all of them if `longest` is 0.

    >>> shrink(torch.rand(1, 3, 100, 200), 50).shape
    torch.Size([1, 3, 25, 50])
    """
    factor = longest / max(x.shape[-2:])
    if not 0 < factor < 1:
        return x
    size = [max(1, round(n * factor)) for n in x.shape[-2:]]
    return F.interpolate(x, size=size, mode="bicubic", antialias=True).clamp(0, 1)


def crops(
    x: Tensor, size: int, how: str = "five", n: int = 5, seed: int = 0
) -> Tensor:
    """Square crops at positions that depend only on the image's size and the arguments.

    Args:
        x: (..., H, W). Crops of a distorted image and its reference stay aligned when both are
            stacked in x.
        size: side of the crop. A smaller image is mirrored up to it first (see `fit`).
        how: "five" = the four corners and the centre; "grid" = n x n positions spread evenly from
            border to border; "random" = n positions drawn from `seed`.
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
    height = x.shape[-2] - size
    width = x.shape[-1] - size
    if how == "five":
        corners = [(0, 0), (0, width), (height, 0), (height, width)]
        places = [*corners, (height // 2, width // 2)]
    elif how == "grid":
        places = [(top, left) for top in _spread(height, n) for left in _spread(width, n)]
    elif how == "random":
        generator = torch.Generator().manual_seed(seed)
        tops = torch.randint(height + 1, (n,), generator=generator).tolist()
        lefts = torch.randint(width + 1, (n,), generator=generator).tolist()
        places = list(zip(tops, lefts))
    else:
        raise ValueError(f"how={how!r} is not a way to crop; choose 'five', 'grid' or 'random'.")
    return torch.stack([x[..., top : top + size, left : left + size] for top, left in places])


def _spread(room: int, n: int) -> list[int]:
    """n positions from 0 to `room`, evenly; the middle for n = 1 or less."""
    if n <= 1:
        return [room // 2]
    return torch.linspace(0, room, n).round().int().tolist()
