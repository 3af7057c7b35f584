"""Images in and out: robust loading, 8-bit rounding, luma, and crops that repeat on every run.

An image is a float32 sRGB tensor in [0, 1] of shape (3, H, W); a batch is (B, 3, H, W).
"""

import io
import os
import warnings
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from iqa_core.files import atomic, printable
from iqa_core.metrics import expect

# Pillow lists their suffixes, but they hold no raster image that it could decode by itself: stubs
# (BUFR, GRIB, HDF5, MPEG), vector graphics (EPS, PDF, WMF), measurements (FITS) and words (IPTC).
_NO_RASTER_IMAGE = frozenset(
    ["BUFR", "EPS", "FITS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"]
)

# `load` refuses images of too many pixels in a sentence of its own; Pillow's warning would say it a
# second time. `append`: filters that the user has set come first.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, append=True)


@cache
def _register_heif() -> None:
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
    _register_heif()
    suffixes = {
        suffix.lower()
        for suffix, format_name in Image.registered_extensions().items()
        if format_name in Image.OPEN and format_name not in _NO_RASTER_IMAGE
    }
    suffixes.add(".mpo")  # Pillow opens it as JPEG and lists it among the formats that it writes
    return frozenset(suffixes)


class ImageError(ValueError):
    """An image that cannot be read. The message names the file and the remedy."""


def load(path: str | Path) -> torch.Tensor:
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
        _expect_file(path)
        _register_heif()
        limit = _pixel_limit()
        # From an open file: given a path, Pillow maps an uncompressed TIFF into memory, and then
        # scrambles it if it is rotated.
        with path.open("rb") as file, Image.open(file) as image:
            width, height = image.size
            if width * height == 0:
                raise ImageError(f"{name}: the image has no pixels ({width} x {height}). "
                                 "Replace or remove this file.")
            if limit is not None and width * height > limit:
                raise _too_many_pixels(name, f"{width} x {height} pixels are", limit)
            array = _srgb_array(image, path)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:  # Pillow stops by itself at twice the limit
        raise _too_many_pixels(name, "its pixels are", Image.MAX_IMAGE_PIXELS) from error
    except Exception as error:  # Pillow's plugins raise many kinds, which all mean this
        reason, remedy = _reason_and_remedy(error, path)
        raise ImageError(f"{name}: cannot be read as an image ({reason}). {remedy}.") from error
    white = np.float32(255) if array.dtype == np.uint8 else np.float32(1)
    x = np.empty((3, *array.shape[:2]), np.float32)
    np.divide(array.transpose(2, 0, 1), white, out=x)
    return torch.from_numpy(x)


def size(path: str | Path) -> tuple[int, int]:
    """(width, height) as the file's first bytes say, before a rotation; (0, 0) if unreadable."""
    with suppress(Exception):  # of many kinds; `load` says what is wrong
        _register_heif()
        _pixel_limit()
        with Image.open(path) as image:
            return image.size
    return 0, 0


# ---- What can be wrong with a file -------------------------------------------------------------

# Brands of the container that HEIC and AVIF share; they follow the letters "ftyp".
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")


def _expect_file(path: Path) -> None:
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


def _pixel_limit() -> int | None:
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


def _too_many_pixels(name: str, count: str, limit: int) -> ImageError:
    return ImageError(f"{name}: {count} more than the limit of {limit:,} pixels, which keeps "
                      "forged files from filling the memory. If you trust this file, set "
                      "PIL.Image.MAX_IMAGE_PIXELS = None in Python, or IQA_MAX_PIXELS=none in the "
                      "environment of the command line.")


def _reason_and_remedy(error: Exception, path: Path) -> tuple[str, str]:
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


def _expect_white(image: Image.Image) -> None:
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


# ---- From the samples of a file to sRGB --------------------------------------------------------

_warned: set[str] = set()  # what this process has warned of once and for all


def _raw_mode(image: Image.Image) -> str:
    """How the samples lie in the file, in Pillow's words ("RGB;16B"). Lost once they are read."""
    if not image.tile:
        return ""
    arguments = image.tile[0][3]
    if isinstance(arguments, (tuple, list)):
        arguments = arguments[0] if arguments else ""
    return str(arguments or "")


def _has_deep_raw_mode(image: Image.Image) -> bool:
    return _raw_mode(image).endswith((";16B", ";16L", ";16N"))


def _has_deep_colour(image: Image.Image, path: Path) -> bool:
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


def _warn_of_eight_bits(name: str) -> None:
    if "eight bits" in _warned:
        return
    _warned.add("eight bits")
    warnings.warn(f"{name}: stores more than 8 bits per colour, of which 8 are read, so that its "
                  "values are steps of 1/255. Nothing needs to be done unless finer steps matter. "
                  "Other such files are not named.", stacklevel=4)


def _srgb_array(image: Image.Image, path: Path) -> np.ndarray:
    """(H, W, 3) of sRGB from an open image: uint8, or float32 in [0, 1] for 16-bit grey."""
    name = printable(str(path))
    _expect_white(image)
    if _has_deep_colour(image, path):
        _warn_of_eight_bits(name)
    raw_mode = _raw_mode(image)
    file_format = image.format
    white_is_zero = getattr(image, "tag_v2", {}).get(262) == 0  # a TIFF tag
    image.load()
    image = _upright(image, name)
    if image.mode.startswith("I"):
        white = 4095 if raw_mode == "I;12" else 65535
        return _srgb_from_grey16(image, white, white_is_zero, name)

    colour, alpha = _colour_and_alpha(image, raw_mode)
    if image.mode != "LAB":  # which needs no profile, and is RGB by now
        colour = _srgb_image(colour, image.info, name)
    if alpha is not None and file_format in ("BMP", "DIB", "TGA") and alpha.getextrema()[1] == 0:
        alpha = None
    if alpha is not None:
        colour.putalpha(alpha)
        white_image = Image.new("RGBA", colour.size, "white")
        colour = Image.alpha_composite(white_image, colour).convert("RGB")
    return np.asarray(colour)


def _upright(image: Image.Image, name: str) -> Image.Image:
    """The image turned as its EXIF data say; as it is, with a warning, if they are damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # of many kinds, such as SyntaxError and struct.error
        warnings.warn(f"{name}: its EXIF data are damaged ({error}), so that it is read without a "
                      "rotation. Save it again if it lies on its side.", stacklevel=4)
        return image


def _colour_and_alpha(image: Image.Image, raw_mode: str) -> tuple[Image.Image, Image.Image | None]:
    """The image without transparency (mode L, CMYK or RGB), and its alpha or None."""
    transparent = image.info.get("transparency")
    if transparent is not None and image.mode in ("L", "RGB"):
        # The transparent colour is noted in the file's bits; Pillow has brought the samples to 8.
        if raw_mode == "RGB;16B":
            image.info["transparency"] = tuple(value >> 8 for value in transparent)
        elif raw_mode == "L;2":
            image.info["transparency"] = transparent * 85
        elif raw_mode == "L;4":
            image.info["transparency"] = transparent * 17
    is_grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        colour = rgba.getchannel("R") if is_grey else rgba.convert("RGB")
        return colour, rgba.getchannel("A")
    if image.mode == "CMYK":
        return image, None
    return image.convert("L" if is_grey else "RGB"), None


def _srgb_from_grey16(
    image: Image.Image, white: int, white_is_zero: bool, name: str
) -> np.ndarray:
    """(H, W, 3) of sRGB from 16-bit grey: float32 in [0, 1]; uint8 where a profile is converted."""
    samples = np.asarray(image).astype(np.int32)
    opaque = samples != image.info.get("transparency", -1)
    if white_is_zero:
        samples = white - samples
    profile = image.info.get("icc_profile")
    transform = _transform_or_warning(profile, "L", name) if profile else None
    if transform is not None:  # lcms writes 8 bits
        _warn_of_eight_bits(name)
        grey8 = np.round(samples * (255 / white)).clip(0, 255).astype(np.uint8)
        rgb = np.array(transform.apply(Image.fromarray(grey8).convert(transform.input_mode)))
        rgb[~opaque] = 255
        return rgb
    grey = (samples.astype(np.float32) / np.float32(white)).clip(0, 1)
    gamma = _png_gamma(image.info)
    if gamma:
        grey = _srgb_of_light(grey ** np.float32(1 / gamma))
    grey[~opaque] = 1
    return np.repeat(grey[..., None], 3, axis=2)


def _srgb_image(image: Image.Image, info: dict, name: str) -> Image.Image:
    """An image of mode L, RGB or CMYK in sRGB; `info` holds the profile or gamma of its file."""
    profile = info.get("icc_profile")
    transform = _transform_or_warning(profile, image.mode, name) if profile else None
    if transform is not None:
        return transform.apply(image.convert(transform.input_mode))
    gamma = _png_gamma(info)
    if gamma:
        light = np.linspace(0, 1, 256) ** (1 / gamma)
        table = np.round(255 * _srgb_of_light(light)).astype(int).tolist()
        image = image.point(table * len(image.getbands()))
    return image.convert("RGB")


def _png_gamma(info: dict) -> float | None:
    """The gAMA entry of a PNG, if it counts: no profile, not marked as sRGB, far from 1/2.2."""
    gamma = info.get("gamma")
    if not gamma or info.get("icc_profile") or "srgb" in info or abs(gamma * 2.2 - 1) <= 0.05:
        return None
    return gamma


def _srgb_of_light(light: np.ndarray) -> np.ndarray:
    """sRGB values in [0, 1] of linear light in [0, 1] (IEC 61966-2-1)."""
    curve = 1.055 * light ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, 12.92 * light, curve).astype(np.float32)


def _transform_or_warning(
    profile: bytes, mode: str, name: str
) -> ImageCms.ImageCmsTransform | None:
    """`_srgb_transform`; None with a warning if the profile cannot be used."""
    try:
        return _srgb_transform(profile, mode)
    except Exception as error:  # of many kinds; a viewer shows such a file without its profile
        warnings.warn(f"{name}: its colour profile cannot be used ({error}), so that its colours "
                      "are taken as sRGB. Save it again as sRGB if they look wrong.", stacklevel=5)
        return None


@lru_cache(maxsize=8)
def _srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform of an ICC profile to sRGB for an image of mode L, RGB or CMYK.

    None if it would move no colour of a grid over the cube by more than 1/255. So the many profiles
    of sRGB are told from others by what they do: their names and curves differ.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space.strip()
    if space == "RGB" and mode == "L":
        mode = "RGB"  # cameras and editors put the profile of RGB into grey images, too
    if (space, mode) not in (("GRAY", "L"), ("RGB", "RGB"), ("CMYK", "CMYK")):
        raise ValueError(f"it is made for {space}, not for {mode}")
    intent = source.profile.rendering_intent
    if intent not in (ImageCms.Intent.PERCEPTUAL, ImageCms.Intent.SATURATION):
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC  # the absolute intent would tint the white
    srgb = ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(source, srgb, mode, "RGB", intent)
    if mode == "CMYK":
        return transform

    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    probes = [ramp.convert(mode)]
    if mode == "RGB":
        levels = np.linspace(0, 255, 18).astype(np.uint8)
        cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
        probes.append(Image.fromarray(cube))
    for probe in probes:
        before = np.asarray(probe.convert("RGB")).astype(int)
        after = np.asarray(transform.apply(probe)).astype(int)
        if np.abs(after - before).max() > 1:
            return transform
    return None


# ---- 8 bits and back ---------------------------------------------------------------------------


def to_uint8(x: torch.Tensor) -> torch.Tensor:
    """Round an image in [0, 1] to 8 bits: floor(255 x + 0.5), clipped. Shape and device are kept.

    >>> to_uint8(torch.tensor([0.0, 0.5, 1.0])).tolist()
    [0, 128, 255]
    """
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()  # half precision cannot count to 255.5 in halves
    return (x * 255 + 0.5).floor().clamp(0, 255).to(torch.uint8)


def from_uint8(x: torch.Tensor) -> torch.Tensor:
    """The way back from `to_uint8`: float32 in [0, 1]."""
    return x.float() / 255


def save(path: str | Path, x: torch.Tensor) -> None:
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
    if not isinstance(x, torch.Tensor):
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


# ---- Sizes and crops ---------------------------------------------------------------------------


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


def shrink(x: torch.Tensor, longest: int) -> torch.Tensor:
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
    x: torch.Tensor, size: int, how: str = "five", n: int = 5, seed: int = 0
) -> torch.Tensor:
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
