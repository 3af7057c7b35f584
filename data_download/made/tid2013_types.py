"""Fifteen distortion types of TID2013, level by level: what was done to a reference, as numpy
operations.

Six types have no chance in them and come out as the rated images themselves. Nine follow the same
law at the same strength, with other random numbers or another encoder. Formulas and parameters were
found by comparison with the PSNR and SSIM that the database publishes for every image. They are
reconstructions: its authors released no code.

Evidence for the six: of 720 images, 715 meet the published PSNR at 4 decimals and five differ by
0.0001 dB; three files of the database that could be compared (one of type 10, two of type 18) are
identical in every pixel.

Database: N. Ponomarenko et al., Image database TID2013: Peculiarities, results and perspectives,
Signal Processing: Image Communication 30, 57-77, 2015.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

TARGETS = (33, 30, 27, 24, 21)  # colour PSNR in dB of levels 1 to 5, for the types that aim at one
VARIANCES = (32, 64, 130, 260, 520)


def round8(x: np.ndarray) -> np.ndarray:
    """Round halves up and clip to 8 bits.

    >>> round8(np.array([-3.0, 0.5, 254.5, 300.0])).tolist()
    [0, 1, 255, 255]
    """
    return np.clip(np.floor(x + 0.5), 0, 255).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """10 log10(255^2 / mean squared error) of two uint8 arrays, over all that they hold. Higher =
    better.

    On (H, W, 3) it is TID2013's colour PSNR, on `luma` of both its luma PSNR.
    """
    error = np.mean(np.subtract(a, b, dtype=np.float64) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ycbcr(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RGB (H, W, 3) in 0..255 to Y in 16..235 and Cb, Cr in 16..240: BT.601, not rounded.

    The order of the sums decides how exact halves round. This order is the one that meets the
    published values.
    """
    r, g, b = np.moveaxis(rgb.astype(np.float64), -1, 0)
    return (
        65.481 / 255 * r + 128.553 / 255 * g + 24.966 / 255 * b + 16,
        -37.797 / 255 * r - 74.203 / 255 * g + 112 / 255 * b + 128,
        112 / 255 * r - 93.786 / 255 * g - 18.214 / 255 * b + 128,
    )


TO_RGB = 255 * np.linalg.inv(
    [[65.481, 128.553, 24.966], [-37.797, -74.203, 112], [112, -93.786, -18.214]]
)


def to_rgb(y: np.ndarray, cb: np.ndarray, cr: np.ndarray) -> np.ndarray:
    """The inverse of `ycbcr`: (H, W, 3) in 0..255, not rounded."""
    return np.stack([a * (y - 16) + b * (cb - 128) + c * (cr - 128) for a, b, c in TO_RGB], axis=-1)


def luma(rgb: np.ndarray) -> np.ndarray:
    """Y of BT.601 rounded to uint8, 16..235: the luma of TID2013's PSNR and SSIM.

    >>> luma(np.array([[[0, 0, 0], [255, 255, 255]]], dtype=np.uint8)).tolist()
    [[16, 235]]
    """
    return round8(ycbcr(rgb)[0])


# One function a type. It gets the reference (H, W, 3) uint8, its number, and five random
# generators, one a level, and yields five uint8 images, level 1 to 5.


def _additive_gaussian_noise(r, number, rngs):
    return (round8(r + rng.normal(0, v**0.5, r.shape)) for v, rng in zip(VARIANCES, rngs))


def _colour_component_noise(r, number, rngs):
    """Strong noise on the colour components, weak noise on luma."""
    for target, share, rng in zip(TARGETS, (0.333, 0.335, 0.343, 0.341, 0.347), rngs):
        v = 255**2 / 10 ** (target / 10)
        scales = np.sqrt([v / 12, share * v, share * v])
        yield round8(
            to_rgb(*(plane + rng.normal(0, s, plane.shape) for plane, s in zip(ycbcr(r), scales)))
        )


def _scaled(noise: np.ndarray, variance: float) -> np.ndarray:
    return noise * (variance**0.5 / noise.std())


def _spatially_correlated_noise(r, number, rngs):
    for v, rng in zip(VARIANCES, rngs):
        yield round8(
            r + _scaled(ndimage.uniform_filter(rng.standard_normal(r.shape), (3, 3, 1)), v)
        )


def _masked_noise(r, number, rngs):
    """Noise that is stronger where the image is busy and hides it."""
    y = ycbcr(r)[0]
    deviation = np.sqrt(
        np.maximum(ndimage.uniform_filter(y**2, 9) - ndimage.uniform_filter(y, 9) ** 2, 0)
    )
    mask = (deviation[..., None] + 0.5) ** 0.9
    return (
        round8(r + _scaled(mask * rng.standard_normal(r.shape), v))
        for v, rng in zip(VARIANCES, rngs)
    )


def _high_frequency_noise(r, number, rngs):
    for v, rng in zip((32.5, 65, 206, 664, 2225), rngs):
        noise = rng.standard_normal(r.shape)
        yield round8(r + _scaled(noise - ndimage.uniform_filter(noise, (3, 3, 1)), v))


def _impulse_noise(r, number, rngs):
    for level, (p, rng) in enumerate(zip((0.0040, 0.0086, 0.0172, 0.0344, 0.0688), rngs), 1):
        together = number % 2 == 0 and level > 1  # as in the database: all channels are hit
        hit = rng.random((*r.shape[:2], 1 if together else 3)) < p
        yield np.where(hit, rng.integers(0, 256, r.shape, dtype=np.uint8), r)


def _quantization_noise(r, number, rngs):
    # np.round rounds halves to even: with half up, the luma PSNR of level 5 misses the published
    # value
    return (round8(np.round(r / step) * step) for step in (19, 27, 39, 55, 76))


def _gaussian_blur(r, number, rngs):
    """11 x 11 taps at every sigma, zeros outside: the dark border is part of what people rated."""
    for sigma in (0.5, 0.65, 1, 1.7, 4):
        taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * sigma**2))
        rows = ndimage.correlate1d(r.astype(np.float64), taps / taps.sum(), axis=0, mode="constant")
        yield round8(ndimage.correlate1d(rows, taps / taps.sum(), axis=1, mode="constant"))


@cache
def _standard_tables() -> list[list[int]]:
    """The two quantization tables of the JPEG standard: what libjpeg uses at quality 50."""
    buffer = BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", quality=50)
    return list(Image.open(buffer).quantization.values())


def _through(image: Image.Image, file_format: str, **options) -> np.ndarray:
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return np.asarray(Image.open(buffer).convert("RGB"))


def jpeg_tables(quality: int) -> list[list[int]]:
    """The quantization tables of a JPEG quality, not limited to 255: TID2013's encoder did not
    limit them.

    >>> max(jpeg_tables(4)[0]), min(jpeg_tables(80)[0])
    (1513, 4)
    """
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return [[(value * scale + 50) // 100 for value in table] for table in _standard_tables()]


def _jpeg(r, number, rngs):
    for quality in (80, 60, 23, 8, 4):
        # progressive: the same pixels; in a sequential file libjpeg would complain about tables
        # above 255
        yield _through(
            Image.fromarray(r),
            "JPEG",
            qtables=jpeg_tables(quality),
            subsampling=2,
            progressive=True,
        )


def _jpeg2000(r, number, rngs):
    """The quality demanded of the encoder is corrected until the image lies just above the
    target."""
    for target in TARGETS:
        demand, kept = float(target), (np.inf, None)
        tries = 0
        while kept[0] > 0.05 and (tries < 6 or kept[1] is None):
            x = _through(
                Image.fromarray(r),
                "JPEG2000",
                irreversible=True,
                mct=1,
                num_resolutions=6,
                quality_mode="dB",
                quality_layers=[demand],
            )
            excess = psnr(x, r) - target
            kept = (excess, x) if 0 <= excess <= kept[0] else kept
            demand, tries = max(demand + 0.03 - excess, 1), tries + 1
        yield kept[1]


def _mean_shift(r, number, rngs):
    return (round8(r + float(shift)) for shift in (-6, 10, -20, 30, -40))


def _contrast_change(r, number, rngs):
    return (round8((r - r.mean()) * gain + r.mean()) for gain in (0.9, 1.2, 0.75, 1.45, 0.5))


def saturate(y: np.ndarray, cb: np.ndarray, cr: np.ndarray, k: float) -> np.ndarray:
    """Scale the colour of rounded Y, Cb, Cr by k: 1 keeps it, 0 gives grey, -1 the opposite. uint8
    RGB."""
    return round8(to_rgb(y, *(round8(128 + k * (c - 128.0)).astype(np.float64) for c in (cb, cr))))


def _colour_saturation(r, number, rngs):
    """k is found by halving [-1, 1] until the published colour PSNR is met at 4 decimals.

    The halving must start from [-1, 1]: it then visits the k that the database's authors stopped at
    (3/32 for reference 4, level 5). The PSNR jumps as k moves, so another search finds other images
    of nearly that PSNR.
    """
    planes = [round8(plane).astype(np.float64) for plane in ycbcr(r)]
    for target in _saturation_targets().loc[number]:
        low, high, x = -1.0, 1.0, saturate(*planes, -1.0)
        if round(psnr(x, r), 4) >= target:  # the opposite colours are as far as one can go
            yield x
            continue
        for _ in range(20):
            k = (low + high) / 2
            x = saturate(*planes, k)
            reached = round(psnr(x, r), 4)
            if reached == target:
                break
            low, high = (low, k) if reached > target else (k, high)
        yield x


@cache
def _saturation_targets() -> pd.DataFrame:
    """Colour PSNR of type 18, a row a reference: from the database's own file
    metrics_values/PSNRc.txt."""
    return pd.read_csv(Path(__file__).with_name("tid2013-type18-psnr.csv"), index_col="reference")


def _multiplicative_noise(r, number, rngs):
    for target, rng in zip(TARGETS, rngs):
        noise = r * rng.standard_normal(r.shape)
        scale = (255**2 / 10 ** (target / 10) / np.mean(noise**2)) ** 0.5
        for _ in range(4):  # clipping takes a part of the error away, so the scale is corrected
            x = round8(r + scale * noise)
            scale *= 10 ** ((psnr(x, r) - target) / 20)
        yield x


def _colour_quantization_dither(r, number, rngs):
    """A palette of the size whose dithered image comes nearest to the target.

    The palette is chosen on every second pixel of every second row: a third of the time, at most
    0.4 dB less.
    """
    image, few, tried = Image.fromarray(r), Image.fromarray(r[::2, ::2]), {}

    def quality(n: int) -> float:
        if n not in tried:
            palette = few.quantize(n, Image.Quantize.MEDIANCUT, kmeans=2)
            dithered = image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
            x = np.asarray(dithered.convert("RGB"))
            tried[n] = psnr(x, r), x
        return tried[n][0]

    n = 32
    for target in TARGETS:
        low, high = 1, 257
        while low < n < high and abs(quality(n) - target) > 0.1:
            low, high = (n, high) if quality(n) < target else (low, n)
            n = round(n * 2 ** ((target - quality(n)) / 3.2))  # about 3.2 dB a doubling
            n = min(max(n, low + 1), high - 1)
        n = min(tried, key=lambda n: abs(tried[n][0] - target))
        yield tried[n][1]
        n = max(n // 2, 2)


# TID2013's number of the type: name, function
TYPES = {
    1: ("additive_gaussian_noise", _additive_gaussian_noise),
    2: ("colour_component_noise", _colour_component_noise),
    3: ("spatially_correlated_noise", _spatially_correlated_noise),
    4: ("masked_noise", _masked_noise),
    5: ("high_frequency_noise", _high_frequency_noise),
    6: ("impulse_noise", _impulse_noise),
    7: ("quantization_noise", _quantization_noise),
    8: ("gaussian_blur", _gaussian_blur),
    10: ("jpeg", _jpeg),
    11: ("jpeg2000", _jpeg2000),
    16: ("mean_shift", _mean_shift),
    17: ("contrast_change", _contrast_change),
    18: ("colour_saturation", _colour_saturation),
    19: ("multiplicative_noise", _multiplicative_noise),
    22: ("colour_quantization_dither", _colour_quantization_dither),
}
EXACT = (7, 8, 10, 16, 17, 18)  # types without chance: the rated images themselves


def distort(r: np.ndarray, kind: int, number: int) -> Iterator[np.ndarray]:
    """Levels 1 to 5 of one type.

    Each image has its own seed, made of its number, type and level. So it does not depend on what
    is made before it.

    Args:
        r: the reference, uint8 (H, W, 3).
        kind: TID2013's type number, a key of `TYPES`.
        number: the reference's number: impulse noise and colour saturation depend on it.

    Yields:
        Five uint8 images (H, W, 3), mild to strong. In contrast change, levels 2 and 4 are
        increases, the others decreases.

    >>> grey = np.full((8, 8, 3), 100, dtype=np.uint8)
    >>> [int(x.mean()) for x in distort(grey, 16, 1)]  # mean shift
    [94, 110, 80, 130, 60]
    """
    rngs = [np.random.default_rng((2013, number, kind, level)) for level in range(1, 6)]
    return TYPES[kind][1](r, number, rngs)
