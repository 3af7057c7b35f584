"""Exercises of notebook 02: blur, noise and JPEG from their definitions, the order of levels, the
direction of a score, and two more distortions."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from iqa_exercises import Choice, Exercise, Number


def gaussian_blur(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur: every pixel becomes a weighted mean of its neighbours.

    The weights of one pass are k(i) = exp(-i^2 / (2 sigma^2)) for i = -r ... r with r = ceil(2
    sigma), divided by their sum. Blur the columns with k, then the rows. Beyond the border the
    border pixel repeats: F.pad(x, (r, r, r, r), mode="replicate"). x: (B, 3, H, W). Returns (B, 3,
    H, W).
    """
    r = math.ceil(2 * sigma)
    i = torch.arange(-r, r + 1)
    k = torch.exp(-(i**2) / (2 * sigma**2))
    k = k / k.sum()
    x = F.pad(x, (r, r, r, r), mode="replicate")
    x = F.conv2d(x, k.view(1, 1, -1, 1).repeat(3, 1, 1, 1), groups=3)
    return F.conv2d(x, k.view(1, 1, 1, -1).repeat(3, 1, 1, 1), groups=3)


def gaussian_blur_not_normalised(x, sigma):
    """The weights do not sum to 1, so the image gets brighter. Divide them by their sum."""
    r = math.ceil(2 * sigma)
    k = torch.exp(-(torch.arange(-r, r + 1) ** 2) / (2 * sigma**2))
    x = F.pad(x, (r, r, r, r), mode="replicate")
    x = F.conv2d(x, k.view(1, 1, -1, 1).repeat(3, 1, 1, 1), groups=3)
    return F.conv2d(x, k.view(1, 1, 1, -1).repeat(3, 1, 1, 1), groups=3)


def gaussian_blur_zeros(x, sigma):
    """Beyond the border there is black, which darkens the edges. The border pixel should repeat.
    """
    r = math.ceil(2 * sigma)
    k = torch.exp(-(torch.arange(-r, r + 1) ** 2) / (2 * sigma**2))
    k = k / k.sum()
    x = F.pad(x, (r, r, r, r))
    x = F.conv2d(x, k.view(1, 1, -1, 1).repeat(3, 1, 1, 1), groups=3)
    return F.conv2d(x, k.view(1, 1, 1, -1).repeat(3, 1, 1, 1), groups=3)


def gaussian_blur_one_pass(x, sigma):
    """There is one pass only, so the image is blurred in one direction."""
    r = math.ceil(2 * sigma)
    k = torch.exp(-(torch.arange(-r, r + 1) ** 2) / (2 * sigma**2))
    k = k / k.sum()
    x = F.pad(x, (0, 0, r, r), mode="replicate")
    return F.conv2d(x, k.view(1, 1, -1, 1).repeat(3, 1, 1, 1), groups=3)


def gaussian_blur_not_squared(x, sigma):
    """The exponent divides by 2 sigma. It should be 2 sigma^2."""
    r = math.ceil(2 * sigma)
    k = torch.exp(-(torch.arange(-r, r + 1) ** 2) / (2 * sigma))
    k = k / k.sum()
    x = F.pad(x, (r, r, r, r), mode="replicate")
    x = F.conv2d(x, k.view(1, 1, -1, 1).repeat(3, 1, 1, 1), groups=3)
    return F.conv2d(x, k.view(1, 1, 1, -1).repeat(3, 1, 1, 1), groups=3)


def an_image_and_sigma() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    return [(torch.rand(2, 3, 12, 15, generator=draw), 1.5)]


def white_noise(x: torch.Tensor, variance: float, generator: torch.Generator) -> torch.Tensor:
    """White noise: an independent normal error of the given variance in every value.

    torch.randn(shape, generator=generator) draws normal numbers of variance 1. x: (B, 3, H, W).
    Returns (B, 3, H, W), not clamped.
    """
    return x + variance**0.5 * torch.randn(x.shape, generator=generator)


def white_noise_variance(x, variance, generator):
    """The noise is multiplied by its variance. Multiply it by the standard deviation, the root."""
    return x + variance * torch.randn(x.shape, generator=generator)


def white_noise_grey(x, variance, generator):
    """All three colours get the same error. Every value gets one of its own."""
    B, _, H, W = x.shape
    return x + variance**0.5 * torch.randn((B, 1, H, W), generator=generator)


def white_noise_uniform(x, variance, generator):
    """These errors are uniform between 0 and 1, so they make the image brighter. Take torch.randn.
    """
    return x + variance**0.5 * torch.rand(x.shape, generator=generator)


def an_image_and_variance() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    return [(torch.rand(2, 3, 6, 8, generator=draw), 0.01, torch.Generator().manual_seed(1))]


def steps_of(quality: int, table: np.ndarray) -> np.ndarray:
    """The steps of a JPEG quality: the standard's table, scaled.

    scale = floor(5000 / quality) below 50, else 200 - 2 quality; steps = floor((table scale + 50)
    / 100), and no step is below 1 or above 255. table: (8, 8). Returns (8, 8).
    """
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip(np.floor((table * scale + 50) / 100), 1, 255)


def steps_of_one_law(quality, table):
    """Below a quality of 50 the scale follows another law: 5000 / quality."""
    return np.clip(np.floor((table * (200 - 2 * quality) + 50) / 100), 1, 255)


def steps_of_not_clipped(quality, table):
    """A step may be 0, or above 255. The standard allows 1 to 255."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.floor((table * scale + 50) / 100)


def steps_of_not_rounded(quality, table):
    """The steps are no whole numbers. Take the floor, after adding 50."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip(table * scale / 100, 1, 255)


def qualities() -> list[tuple]:
    table = np.arange(8)[:, None] * 11 + np.arange(8) * 3 + 7.0
    return [(4, table), (43, table), (50, table), (90, table), (100, table)]


def jpeg(
    x: np.ndarray,
    luma_steps: np.ndarray,
    colour_steps: np.ndarray,
    to_ycbcr: Callable,
    to_rgb: Callable,
    round_blocks: Callable,
) -> np.ndarray:
    """JPEG: brightness and two colour differences, each rounded in blocks with its own steps.

    x: (3, H, W) in [0, 1]. JPEG counts from -128 to 127: use 255 to_ycbcr(x) - 128, round its
    first channel with luma_steps and the other two with colour_steps, and go back the same way.
    to_ycbcr and to_rgb: (3, H, W) in [0, 1] -> the same; round_blocks(channels (C, H, W), steps)
    of notebook 01. Returns (3, H, W), clipped to [0, 1].
    """
    channels = 255 * to_ycbcr(x) - 128
    luma = round_blocks(channels[:1], luma_steps)
    colours = round_blocks(channels[1:], colour_steps)
    return np.clip(to_rgb((np.concatenate([luma, colours]) + 128) / 255), 0, 1)


def jpeg_rgb(x, luma_steps, colour_steps, to_ycbcr, to_rgb, round_blocks):
    """Red, green and blue are rounded. Go over to brightness and colour differences first."""
    channels = 255 * x - 128
    luma = round_blocks(channels[:1], luma_steps)
    colours = round_blocks(channels[1:], colour_steps)
    return np.clip((np.concatenate([luma, colours]) + 128) / 255, 0, 1)


def jpeg_one_table(x, luma_steps, colour_steps, to_ycbcr, to_rgb, round_blocks):
    """All three channels are rounded with the steps of the brightness."""
    channels = round_blocks(255 * to_ycbcr(x) - 128, luma_steps)
    return np.clip(to_rgb((channels + 128) / 255), 0, 1)


def jpeg_small_numbers(x, luma_steps, colour_steps, to_ycbcr, to_rgb, round_blocks):
    """The steps are meant for numbers from -128 to 127. Numbers from 0 to 1 are nearly all rounded
    to zero."""
    channels = to_ycbcr(x)
    luma = round_blocks(channels[:1], luma_steps)
    colours = round_blocks(channels[1:], colour_steps)
    return np.clip(to_rgb(np.concatenate([luma, colours])), 0, 1)


def jpeg_without_shift(x, luma_steps, colour_steps, to_ycbcr, to_rgb, round_blocks):
    """The 128 is missing, so the mean of a block is rounded at another place."""
    channels = 255 * to_ycbcr(x)
    luma = round_blocks(channels[:1], luma_steps)
    colours = round_blocks(channels[1:], colour_steps)
    return np.clip(to_rgb(np.concatenate([luma, colours]) / 255), 0, 1)


def jpeg_not_back(x, luma_steps, colour_steps, to_ycbcr, to_rgb, round_blocks):
    """The result is still brightness and colour differences. Go back to red, green and blue."""
    channels = 255 * to_ycbcr(x) - 128
    luma = round_blocks(channels[:1], luma_steps)
    colours = round_blocks(channels[1:], colour_steps)
    return np.clip((np.concatenate([luma, colours]) + 128) / 255, 0, 1)


def an_image_and_its_steps() -> list[tuple]:
    rng = np.random.default_rng(0)
    matrix = np.array([[0.3, 0.6, 0.1], [-0.2, -0.3, 0.5], [0.5, -0.4, -0.1]])
    offset = np.array([0, 0.5, 0.5])[:, None, None]

    def to_ycbcr(x: np.ndarray) -> np.ndarray:
        return np.tensordot(matrix, x, 1) + offset

    def to_rgb(y: np.ndarray) -> np.ndarray:
        return np.tensordot(np.linalg.inv(matrix), y - offset, 1)

    def round_blocks(x: np.ndarray, steps: np.ndarray) -> np.ndarray:
        return np.round(x / steps[0, 0]) * steps[0, 0]

    x = rng.uniform(0.3, 0.7, (3, 8, 16))
    return [(x, np.full((8, 8), 10.0), np.full((8, 8), 6.0), to_ycbcr, to_rgb, round_blocks)]


def in_order(mos: np.ndarray) -> np.ndarray:
    """Does every step from one level to the next lower the score of a type?

    mos: (types, 5), the scores of levels 1 to 5. Returns (types,), True or False.
    """
    return (np.diff(mos, axis=1) < 0).all(1)


def in_order_ends(mos):
    """Only the first and the last level are compared. In between the score may rise."""
    return mos[:, -1] < mos[:, 0]


def in_order_mostly(mos):
    """Some step falls. Asked is whether every step does."""
    return (np.diff(mos, axis=1) < 0).any(1)


def in_order_ties(mos):
    """A step without any change counts as a fall here."""
    return (np.diff(mos, axis=1) <= 0).all(1)


def in_order_rising(mos):
    """The direction is turned: a higher level should have a lower score."""
    return (np.diff(mos, axis=1) > 0).all(1)


def some_types() -> list[tuple]:
    return [
        (
            np.array(
                [
                    [5.0, 4, 3, 2, 1],
                    [1, 2, 3, 4, 5],
                    [5, 4, 4, 2, 1],
                    [5, 3, 4, 2, 1],
                    [3, 4, 5, 4, 3.5],
                ]
            ),
        )
    ]


def to_unit(raw: np.ndarray, low: float, high: float, higher_better: bool) -> np.ndarray:
    """Raw scores on the scale of this kit: 0 is the worst, 1 the best, whatever the raters used.

    raw: (N,), between low and high. higher_better: whether a high raw score is good. Returns (N,).
    """
    score = (raw - low) / (high - low)
    return score if higher_better else 1 - score


def to_unit_never_turned(raw, low, high, higher_better):
    """Where low is good, the score must be turned round: 1 minus it."""
    return (raw - low) / (high - low)


def to_unit_minus(raw, low, high, higher_better):
    """A minus turns the order round, but the result lies between -1 and 0. Take 1 minus the score.
    """
    score = (raw - low) / (high - low)
    return score if higher_better else -score


def to_unit_over_high(raw, low, high, higher_better):
    """The scale does not begin at 0. Subtract low first, and divide by high - low."""
    return raw / high if higher_better else 1 - raw / high


def to_unit_of_data(raw, low, high, higher_better):
    """The smallest and largest of these scores are taken as the ends. The ends of the scale count,
    or two halves of a dataset get different scores."""
    score = (raw - raw.min()) / (raw.max() - raw.min())
    return score if higher_better else 1 - score


def raw_scores() -> list[tuple]:
    return [
        (np.array([1.5, 4.0, 2.5]), 1.0, 5.0, True),
        (np.array([10.0, 55, 30]), 0.0, 100.0, False),
    ]


def pixelate(x: torch.Tensor, block: int) -> torch.Tensor:
    """Squares of block x block pixels, each of one colour: the mean of its pixels.

    x: (B, 3, H, W), H and W multiples of block. Returns (B, 3, H, W).
    """
    small = F.avg_pool2d(x, block)
    return small.repeat_interleave(block, 2).repeat_interleave(block, 3)


def pixelate_small(x, block):
    """The result is smaller than x. Repeat every pixel block times in both directions."""
    return F.avg_pool2d(x, block)


def pixelate_corner(x, block):
    """Each square has the colour of its first pixel. Take the mean of all its pixels."""
    return x[..., ::block, ::block].repeat_interleave(block, 2).repeat_interleave(block, 3)


def pixelate_smooth(x, block):
    """The squares are blended into each other by the interpolation. Repeat the pixels instead."""
    return F.interpolate(F.avg_pool2d(x, block), scale_factor=float(block), mode="bilinear")


def an_image_and_a_block() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    return [(torch.rand(1, 3, 12, 18, generator=draw), 3)]


def neutral_amount() -> float:
    return -0.2


def the_middle_level() -> float:
    """0 is the amount of level 3, and its curve is steeper than the diagonal."""
    return 0.0


EXERCISES = {
    "02.1": Exercise(
        gaussian_blur,
        [
            gaussian_blur_not_normalised,
            gaussian_blur_zeros,
            gaussian_blur_one_pass,
            gaussian_blur_not_squared,
        ],
        an_image_and_sigma,
    ),
    "02.2": Exercise(
        white_noise,
        [white_noise_variance, white_noise_grey, white_noise_uniform],
        an_image_and_variance,
    ),
    "02.3": Exercise(
        steps_of, [steps_of_one_law, steps_of_not_clipped, steps_of_not_rounded], qualities
    ),
    "02.4": Exercise(
        jpeg,
        [jpeg_rgb, jpeg_one_table, jpeg_small_numbers, jpeg_without_shift, jpeg_not_back],
        an_image_and_its_steps,
    ),
    "02.5": Exercise(
        in_order, [in_order_ends, in_order_mostly, in_order_ties, in_order_rising], some_types
    ),
    "02.6": Exercise(
        to_unit,
        [to_unit_never_turned, to_unit_minus, to_unit_over_high, to_unit_of_data],
        raw_scores,
    ),
    "02.7": Exercise(
        pixelate, [pixelate_small, pixelate_corner, pixelate_smooth], an_image_and_a_block
    ),
    "02.8": Number(neutral_amount, 0.005, [the_middle_level]),
    "02.9": Choice(
        "c",
        {
            "a": "Which types have a level that is worse than the next one, by many standard errors?",
            "b": "color_shift only ties at its last step. Other types run from one sign to another.",
        },
    ),
}
