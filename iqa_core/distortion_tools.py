"""What several distortion types need: filters, curves, moved pixels, random numbers, codecs."""

import io
from collections.abc import Callable
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

from iqa_core.images import from_uint8, to_uint8


def correlate(x: Tensor, kernel: Tensor) -> Tensor:
    """Correlate every channel with a kernel (kh, kw), edges repeated."""
    # One shifted addition for each weight: for so few channels this is faster on a CPU than conv2d,
    # and mostly also than an FFT.
    h, w = x.shape[-2:]
    kh, kw = kernel.shape
    padded = F.pad(x, (kw // 2, kw // 2, kh // 2, kh // 2), mode="replicate")
    y = torch.zeros_like(x)
    for (i, j), weight in zip(kernel.nonzero().tolist(), kernel[kernel != 0].tolist()):
        y = y.add_(padded[:, :, i:i + h, j:j + w], alpha=weight)
    return y


def gaussian(x: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian blur, cut at ceil(2 sigma) as MATLAB's imgaussfilt."""
    n = ceil(2 * sigma)
    kernel = torch.softmax(-0.5 * (torch.arange(-n, n + 1) / sigma) ** 2, 0)
    return correlate(correlate(x, kernel[None]), kernel[:, None])


def stretch(x: Tensor) -> Tensor:
    """Map the minimum of each map to 0 and its maximum to 1."""
    low = x.amin((1, 2, 3), keepdim=True)
    high = x.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low).clamp(min=1e-12)


def bend(x: Tensor, amount: float) -> Tensor:
    """Parabola through (0, 0), (0.5, 0.5 + amount / 2), (1, 1), clamped."""
    return (x + 2 * amount * x * (1 - x)).clamp(0, 1)


def pick(x: Tensor, index: Tensor) -> Tensor:
    """Pixel (i, j) of image b taken from pixel number index[b, i, j]."""
    index = index.flatten(1)[:, None].expand(len(x), x.shape[1], -1)  # (B, 3, H W)
    return x.flatten(2).gather(2, index).view_as(x)


def random_like(draw: Callable, x: Tensor, g: Generator, *shape: int) -> Tensor:
    """Random numbers of `draw` (torch.rand or torch.randn) in a shape, by default that of x."""
    return draw(shape or x.shape, generator=g, device=x.device)


def through_pillow(x: Tensor, code: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Round to 8 bits and let Pillow code image by image."""
    # Images on CUDA too: nvJPEG keeps the chroma at full resolution, so results would depend on the
    # device.
    arrays = to_uint8(x.detach()).cpu().permute(0, 2, 3, 1).contiguous().numpy()
    coded = np.stack([np.asarray(code(Image.fromarray(a)).convert("RGB")) for a in arrays])
    return from_uint8(torch.from_numpy(coded).to(x.device).permute(0, 3, 1, 2))


def through_file(image: Image.Image, file_format: str, **options) -> Image.Image:
    """The image after it was written in a format and read again."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return Image.open(file)
