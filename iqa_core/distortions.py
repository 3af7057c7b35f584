"""The distortion bank of KADID-10k: 25 types at five levels each, for batches of images.

The types themselves, their sources and where they differ from the MATLAB generator stand in
`distortion_types`.

The cells in `IDENTITY` change nothing; they are among the five that KADID's viewers rated highest.
contrast_change has no such level: the generator's curve raises the contrast at amount 0 (level 3).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import torch
from torch import Generator, Tensor

from iqa_core import distortion_types as functions
from iqa_core.batches import expect

# KADID's order: name -> (function, its parameter at the five levels, what the parameter is).
_BANK: dict[str, tuple[Callable, tuple[float, ...], str]] = {
    "gaussian_blur": (functions.gaussian_blur, (0.1, 0.5, 1, 2, 5), "sigma"),
    "lens_blur": (functions.lens_blur, (1, 2, 4, 6, 8), "radius"),
    "motion_blur": (functions.motion_blur, (1, 2, 4, 6, 10), "length"),
    "color_diffusion": (functions.color_diffusion, (1, 3, 6, 8, 12), "amount"),
    "color_shift": (functions.color_shift, (1, 3, 6, 8, 12), "shift"),
    "color_quantization": (functions.color_quantization, (64, 48, 32, 16, 8), "colours"),
    "color_saturation_1": (functions.color_saturation_1, (0.4, 0.2, 0.1, 0, -0.4), "factor"),
    "color_saturation_2": (functions.color_saturation_2, (1, 2, 3, 6, 9), "factor"),
    "jpeg2000": (functions.jpeg2000, (16, 32, 45, 120, 400), "ratio"),
    "jpeg": (functions.jpeg, (43, 36, 24, 7, 4), "quality"),
    "white_noise": (functions.white_noise, (0.001, 0.002, 0.003, 0.005, 0.01), "var"),
    "white_noise_ycbcr": (functions.white_noise_ycbcr, (0.0001, 0.0005, 0.001, 0.002, 0.003), "var"),
    "impulse_noise": (functions.impulse_noise, (0.001, 0.005, 0.01, 0.02, 0.03), "density"),
    "multiplicative_noise": (functions.multiplicative_noise, (0.001, 0.005, 0.01, 0.02, 0.05), "var"),
    "denoise": (functions.denoise, (0.01, 0.03, 0.05, 0.1, 0.15), "var"),
    "brighten": (functions.brighten, (0.1, 0.2, 0.4, 0.7, 1.1), "amount"),
    "darken": (functions.darken, (0.05, 0.1, 0.2, 0.4, 0.8), "amount"),
    "mean_shift": (functions.mean_shift, (0.15, 0.08, 0, -0.08, -0.15), "shift"),
    "jitter": (functions.jitter, (0.05, 0.1, 0.2, 0.5, 1), "amount"),
    "non_eccentricity_patch": (functions.non_eccentricity_patch, (20, 40, 60, 80, 100), "patches"),
    "pixelate": (functions.pixelate, (0.01, 0.05, 0.1, 0.2, 0.5), "strength"),
    "quantization": (functions.quantization, (20, 16, 13, 10, 7), "thresholds"),
    "color_block": (functions.color_block, (2, 4, 6, 8, 10), "blocks"),
    "high_sharpen": (functions.high_sharpen, (1, 2, 3, 6, 12), "amount"),
    "contrast_change": (functions.contrast_change, (0.3, 0.15, 0, -0.4, -0.6), "amount"),
}
TYPES: tuple[str, ...] = tuple(_BANK)
LEVELS: dict[str, tuple[float, ...]] = {name: row[1] for name, row in _BANK.items()}
PARAMETERS: dict[str, str] = {name: row[2] for name, row in _BANK.items()}
IDENTITY = frozenset({
    ("gaussian_blur", 1), ("motion_blur", 1), ("color_saturation_2", 1), ("mean_shift", 3)})


def distort(
    x: Tensor,
    type: str | int | Sequence | Tensor,
    level: int | Sequence[int] | Tensor,
    generator: Generator | None = None,
) -> Tensor:
    """Distort images as KADID-10k does, with one type and level for all or one for each.

        y = clamp(D_type(x; LEVELS[type][level - 1]), 0, 1)

    Lengths are in pixels and counts are those of an image, for KADID's 512 x 384: distort first,
    then crop.

    Args:
        x: float images (B, 3, H, W) or (3, H, W) in [0, 1], sides of at least 32 pixels, on any
            device.
        type: a name of `TYPES`, its number 1..25, or B of them.
        level: 1..5, or B of them. Higher is worse, but mean_shift and contrast_change run from +
            to -.
        generator: on the device of x; None is torch's default. It decides every random choice.

    Returns:
        The images in [0, 1], shape, dtype and device as x, computed in float32. No gradient passes
        through jpeg, jpeg2000, color_quantization (all three work on 8 bits) and quantization.

    Raises:
        ValueError: x, type, level or generator is not as above.

    >>> x = torch.rand(2, 3, 48, 64)
    >>> distort(x, ["gaussian_blur", "jpeg"], [2, 5]).shape
    torch.Size([2, 3, 48, 64])
    """
    images = expect(x[None] if getattr(x, "ndim", 0) == 3 else x).float()
    if x.shape[-3] != 3 or min(x.shape[-2:]) < 32:
        raise ValueError(f"distort: x has shape {tuple(x.shape)}; give (B,3,H,W) or (3,H,W) with "
                         "sides of at least 32 px (repeat a grey image 3 times).")
    cells = _cells(type, level, len(images))
    # A few images at a time stay in a CPU's cache: up to 4 times faster than all at once.
    most = len(images)
    if not x.is_cuda:
        most = max(1, 2**19 // (3 * x.shape[-2] * x.shape[-1]))
    parts = []  # of images with the same type and level: (name, level, their numbers)
    in_order = sorted((*cell, i) for i, cell in enumerate(cells))
    for (name, step), group in groupby(in_order, key=lambda row: row[:2]):
        numbers = [i for *_, i in group]
        parts += [(name, step, numbers[k:k + most]) for k in range(0, len(numbers), most)]
    # Every part draws from a generator of its own, so the threads' order does not matter.
    seeds = torch.randint(2**62, (len(parts),), generator=generator, device=x.device).tolist()

    def work(part: tuple, seed: int) -> Tensor:
        name, step, numbers = part
        function = _BANK[name][0]
        parameter = float(LEVELS[name][int(step) - 1])
        own_generator = Generator(x.device).manual_seed(seed)
        batch = torch.stack([images[i] for i in numbers])
        return function(batch, parameter, own_generator).clamp_(0, 1)

    # The pool lives for one call: a global one would hang in the forked workers of a DataLoader.
    # Within it torch has one thread. Our tensors are small: splitting each operation among threads
    # that wait for one another is slower than one Python thread for each part, and far slower when
    # other programs use the cores too.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, "", torch.set_num_threads, (1,)) as pool:
            run = map if x.is_cuda else pool.map
            y = list(images)
            for (*_, numbers), distorted in zip(parts, run(work, parts, seeds)):
                for i, image in zip(numbers, distorted):
                    y[i] = image
            return torch.stack(y).to(x.dtype).view_as(x)
    finally:
        torch.set_num_threads(threads)


def _cells(type, level, count: int) -> list[tuple[str, int]]:
    """The name of the type and the level of each of `count` images.

    Raises:
        ValueError: an unknown type or level, or another number of them.
    """
    types, levels = (_listed(value, count) for value in (type, level))
    if not len(types) == len(levels) == count:
        raise ValueError(f"distort: {len(types)} types, {len(levels)} levels, {count} images; give "
                         f"one or {count}.")
    names = [TYPES[t - 1] if t in range(1, 26) else t for t in types]
    for bad in set(names) - set(TYPES):
        raise ValueError(f"distort: type is {bad!r}; give a number 1..25 or one of "
                         f"{', '.join(TYPES)}.")
    for bad in set(levels) - {1, 2, 3, 4, 5}:
        raise ValueError(f"distort: level is {bad!r}; give 1, 2, 3, 4 or 5.")
    return list(zip(names, levels))


def _listed(value, count: int) -> list:
    """One value for each image, of one for all, a sequence, an array or a tensor."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (str, int, float)):
        return [value] * count
    return list(value)
