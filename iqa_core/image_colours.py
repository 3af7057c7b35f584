"""From the samples of an image file to sRGB: bit depth, rotation, transparency, colour profiles."""

import io
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from iqa_core.console import printable
from iqa_core.image_formats import expect_white, has_deep_colour, raw_mode_of

_warned: set[str] = set()  # what this process has warned of once and for all


def _warn_of_eight_bits(name: str) -> None:
    if "eight bits" in _warned:
        return
    _warned.add("eight bits")
    warnings.warn(f"{name}: stores more than 8 bits per colour, of which 8 are read, so that its "
                  "values are steps of 1/255. Nothing needs to be done unless finer steps matter. "
                  "Other such files are not named.", stacklevel=4)


def srgb_array(image: Image.Image, path: Path) -> np.ndarray:
    """(H, W, 3) of sRGB from an open image: uint8, or float32 in [0, 1] for 16-bit grey."""
    name = printable(str(path))
    expect_white(image)
    if has_deep_colour(image, path):
        _warn_of_eight_bits(name)
    raw_mode = raw_mode_of(image)
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
