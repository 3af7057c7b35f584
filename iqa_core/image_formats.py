"""Which image files can be read, and what is wrong with the others: formats, sizes, samples."""

import os
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from iqa_core.console import printable

# Pillow lists their suffixes, but they hold no raster image that it could decode by itself: stubs
# (BUFR, GRIB, HDF5, MPEG), vector graphics (EPS, PDF, WMF), measurements (FITS) and words (IPTC).
_NO_RASTER_IMAGE = frozenset(
    ["BUFR", "EPS", "FITS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"]
)

# `load` refuses images of too many pixels in a sentence of its own; Pillow's warning would say it a
# second time. `append`: filters that the user has set come first.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, append=True)


@cache
def register_heif() -> None:
    """Let Pillow read HEIC, the format of many phones, if the package pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()


def readable_suffixes() -> frozenset[str]:
    """The suffixes of all raster images that the installed Pillow opens: lower case, with a dot.

    They differ between machines: AVIF needs Pillow 11.3 or later, HEIC the package pillow-heif.

    >>> {".png", ".jpg", ".jfif", ".mpo", ".pgm", ".tga"} <= readable_suffixes()
    True
    >>> ".pdf" in readable_suffixes()
    False
    """
    register_heif()
    suffixes = {
        suffix.lower()
        for suffix, format_name in Image.registered_extensions().items()
        if format_name in Image.OPEN and format_name not in _NO_RASTER_IMAGE
    }
    suffixes.add(".mpo")  # Pillow opens it as JPEG and lists it among the formats that it writes
    return frozenset(suffixes)


class ImageError(ValueError):
    """An image that cannot be read. The message names the file and the remedy."""


# Brands of the container that HEIC and AVIF share; they follow the letters "ftyp".
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")


def expect_file(path: Path) -> None:
    """Raise if there is no regular file with content at `path`."""
    name = printable(str(path))
    if path.is_dir():
        raise ImageError(f"{name}: this is a folder. Name an image file in it.")
    if not path.exists():
        raise ImageError(f"{name}: no such file. Check the name (upper and lower case count) "
                         "and the folder.")
    if not path.is_file():
        raise ImageError(f"{name}: this is a device or a pipe. Name an image file.")
    if path.stat().st_size == 0:
        raise ImageError(f"{name}: the file is empty (0 bytes). Copy or download it again.")


def pixel_limit() -> int | None:
    """Pillow's limit of pixels, after `IQA_MAX_PIXELS` has been copied there; None: no limit."""
    text = os.environ.get("IQA_MAX_PIXELS", "").strip().lower()
    if text in ("none", "0"):
        Image.MAX_IMAGE_PIXELS = None
    elif text:
        try:
            limit = int(float(text.replace(",", "")))  # 120000000, 120_000_000, 120,000,000, 1.2e8
        except (ValueError, OverflowError):
            limit = 0
        if limit < 1:
            raise ImageError(f"IQA_MAX_PIXELS={printable(text)} is no number of pixels. Give one "
                             "such as 120000000, or none for no limit.")
        Image.MAX_IMAGE_PIXELS = limit
    return Image.MAX_IMAGE_PIXELS


def too_many_pixels(name: str, count: str, limit: int) -> ImageError:
    """The error of an image above the limit; `count` says how many pixels are too many."""
    return ImageError(f"{name}: {count} more than the limit of {limit:,} pixels, which keeps "
                      "forged files from filling the memory. If you trust this file, set "
                      "PIL.Image.MAX_IMAGE_PIXELS = None in Python, or IQA_MAX_PIXELS=none in the "
                      "environment of the command line.")


def reason_and_remedy(error: Exception, path: Path) -> tuple[str, str]:
    """Why a file cannot be read, and what helps."""
    replace = "Replace or remove this file"
    if isinstance(error, UnidentifiedImageError):
        with path.open("rb") as file:
            start = file.read(12)
        brand = start[8:12] if start[4:8] == b"ftyp" else b""
        if brand in _HEIC_BRANDS and ".heic" not in readable_suffixes():
            return "it is HEIC, for which Pillow needs help", "Install it: pip install pillow-heif"
        if brand in _AVIF_BRANDS and ".avif" not in readable_suffixes():
            return "it is AVIF, which this Pillow does not read", "Install Pillow 11.3 or later"
        return "its content is damaged or of no kind that Pillow knows", replace
    if isinstance(error, MemoryError):
        return "the memory is too small for it", "Close other programs or make the image smaller"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror, "Check the permissions of the file and its folder"
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__, replace


def expect_white(image: Image.Image) -> None:
    """Raise if no value of the samples stands for white, or if Pillow would mix them up."""
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    sample_format = np.atleast_1d(tags.get(339, 1))  # 1 = unsigned, 2 = signed, 3 = float
    if image.mode == "F" or 3 in sample_format:
        raise ValueError("float samples have no fixed range; save it with 8 or 16 bits")
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # these hold 16 bits in this mode
        bits = np.max(tags.get(258, 32))
        signed = "signed " if 2 in sample_format else ""
        raise ValueError(f"{signed}{bits}-bit integers have no fixed range; save it with 8 or 16 "
                         "unsigned bits")
    if image.mode.startswith("I;") and image.format not in ("PNG", "PPM", "TIFF", "JPEG2000"):
        raise ValueError(f"16-bit integers of {image.format} have no fixed range; save it as PNG")
    if 2 in sample_format:
        raise ValueError("signed integers have no fixed range; save it with 8 or 16 unsigned bits")
    deep_colour = np.max(tags.get(258, 8)) == 16 and not image.mode.startswith("I")
    if deep_colour and not _has_deep_raw_mode(image):
        raise ValueError("16-bit colour in separate planes, which Pillow mixes up; save it as PNG")


def raw_mode_of(image: Image.Image) -> str:
    """How the samples lie in the file, in Pillow's words ("RGB;16B"). Lost once they are read."""
    if not image.tile:
        return ""
    arguments = image.tile[0][3]
    if isinstance(arguments, (tuple, list)):
        arguments = arguments[0] if arguments else ""
    return str(arguments or "")


def _has_deep_raw_mode(image: Image.Image) -> bool:
    return raw_mode_of(image).endswith((";16B", ";16L", ";16N"))


def has_deep_colour(image: Image.Image, path: Path) -> bool:
    """Whether the file holds colour of more than 8 bits, of which Pillow gives 8."""
    if image.mode.startswith("I"):
        return False  # grey keeps its 16 bits
    if image.format == "PPM" and image.tile and isinstance(image.tile[0][3], tuple):
        largest = image.tile[0][3][-1]
        return isinstance(largest, int) and largest > 255
    if image.format == "JPEG2000":
        with path.open("rb") as file:
            start = file.read(2**16)
        marker = start.find(b"\xff\x4f\xff\x51")
        sample_size = start[marker + 42 : marker + 43]  # bits - 1; the top bit means signed
        return marker >= 0 and bool(sample_size) and sample_size[0] & 127 > 7
    return _has_deep_raw_mode(image)
