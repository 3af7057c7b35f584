"""Small made-up images for examples and tests: smooth patterns, and noise upon them."""

import tempfile
from functools import cache
from pathlib import Path

import pandas as pd
import torch

from iqa_core import images


def noisy_patterns(count: int, levels: int, height: int, width: int) -> tuple[Path, pd.DataFrame]:
    """The folder of `count` patterns, each with `levels` noisy images, and their table.

    The table has the columns image, reference, score (1 = no noise, 0 = most noise), distortion
    and level. The folder is removed when Python ends.
    """
    rows = []
    for content in range(count):
        for level in range(levels):
            rows.append({
                "image": f"image-{content}-{level}.png",
                "reference": f"reference-{content}.png",
                "score": 1 - _strength(content, level, count, levels),
                "distortion": "noise",
                "level": level + 1,
            })
    folder = _folder(count, levels, height, width)
    return Path(folder.name), pd.DataFrame(rows)


def _strength(content: int, level: int, count: int, levels: int) -> float:
    """How strong the noise of an image is, in (0, 1); no two images have the same."""
    return (level + (content + 1) / (count + 1)) / levels


@cache
def _folder(count: int, levels: int, height: int, width: int) -> tempfile.TemporaryDirectory:
    """The files, written once a process."""
    folder = tempfile.TemporaryDirectory(prefix="iqa-example-")
    y = torch.linspace(0, 1, height)[:, None]  # (H, 1)
    x = torch.linspace(0, 1, width)  # (W,)
    for content in range(count):
        generator = torch.Generator().manual_seed(content)
        channels = []
        for _ in range(3):
            across, down, phase = torch.rand(3, generator=generator)
            wave = torch.sin(6 * (across + 0.5) * x + 9 * down * y + 6 * phase)
            channels.append(0.5 + 0.4 * wave)
        reference = torch.stack(channels)  # (3, H, W)
        images.save(Path(folder.name, f"reference-{content}.png"), reference)
        for level in range(levels):
            noise = torch.randn(3, height, width, generator=generator)
            strength = 0.4 * _strength(content, level, count, levels)
            noisy = (reference + strength * noise).clamp(0, 1)
            images.save(Path(folder.name, f"image-{content}-{level}.png"), noisy)
    return folder
