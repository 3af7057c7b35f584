"""The 25 distortion types of KADID-10k, one function each, for batches of images in torch.

Types, order and parameters follow KADID-10k (Lin, Hosu, Saupe, QoMEX 2019) and the MATLAB generator
published with KADIS-700k; the code is our own. Where it knowingly differs from the MATLAB code:
- the generator stretches every image to full range before and after; here [0, 1] is only clamped;
- denoise: without DnCNN's weights, shrinkage of DCT blocks stands in for it (a reconstruction);
- color_quantization: k-means on a sample of the pixels, for MATLAB's minimum-variance palette;
- quantization: Otsu's thresholds are the exact optimum, MATLAB searches for a local one;
- jitter: torch's bicubic kernel has a = -0.75, MATLAB's -0.5;
- jpeg2000: OpenJPEG at the same ratio;
- color_shift repeats the edges (MATLAB's helper is unknown);
- non_eccentricity_patch: below 64 pixels, patches keep off the edge by 8 pixels.

Every function takes x (B, 3, H, W) in [0, 1], its parameter p and a torch generator g, and returns
images of the same shape, which may leave [0, 1]. `distortions.distort` calls them, checks what it
is given, and clamps.
"""

import os
from functools import cache
from math import ceil, pi

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

from iqa_core.color import OPPONENT, lab_to_rgb, mix, rgb_to_lab, rgb_to_ycbcr, ycbcr_to_rgb
from iqa_core.distortion_tools import (
    bend, correlate, gaussian, pick, random_like, stretch, through_file, through_pillow)
from iqa_core.images import luma, to_uint8

# JPEG 2000 is the slowest type, and Pillow lets no other thread run meanwhile. So OpenJPEG gets
# threads of its own.
os.environ.setdefault("OPJ_NUM_THREADS", str(min(4, os.cpu_count() or 1)))


# ---- Blur --------------------------------------------------------------------------------------


def gaussian_blur(x: Tensor, p: float, g: Generator) -> Tensor:
    """Gaussian blur; p = sigma in pixels."""
    return gaussian(x, p)


def lens_blur(x: Tensor, p: float, g: Generator) -> Tensor:
    """Mean over a disc; p = radius in pixels."""
    return correlate(x, _disc(p))


@cache
def _disc(radius: float) -> Tensor:
    """The area of each pixel inside the disc; the sum is 1 (fspecial 'disk')."""
    t = torch.arange(-ceil(radius), ceil(radius) + 1.0)
    u = t[:, None] + torch.arange(-127.5, 128) / 256
    chord = (radius ** 2 - u[:, :, None] ** 2).clamp(min=0).sqrt()  # half the disc's height at u
    upper = torch.minimum(chord, t + 0.5)
    lower = torch.maximum(-chord, t - 0.5)
    area = (upper - lower).clamp(min=0).mean(1)
    return area / area.sum()


def motion_blur(x: Tensor, p: float, g: Generator) -> Tensor:
    """Mean along a line of p pixels at a random angle in 0..180 degrees (fspecial 'motion')."""
    angles = torch.deg2rad((random_like(torch.rand, x, g, len(x)) * 181).floor()).cpu()
    blurred = [correlate(image, _line(p, angle)) for image, angle in zip(x.split(1), angles)]
    return torch.cat(blurred)


def _line(p: float, angle: Tensor) -> Tensor:
    """1 - distance to a line of p pixels, near the line; the sum is 1."""
    half = (p - 1) / 2
    t = torch.arange(-(p // 2), p // 2 + 1)
    along = t * angle.cos() + t[:, None] * angle.sin()
    across = t[:, None] * angle.cos() - t * angle.sin()
    beyond = torch.where(along ** 2 + across ** 2 >= half ** 2, half - along.abs(), 0.0)
    kernel = (1 - (across ** 2 + beyond ** 2).sqrt()).clamp(min=0)
    return kernel / kernel.sum()


# ---- Colour ------------------------------------------------------------------------------------


def color_diffusion(x: Tensor, p: float, g: Generator) -> Tensor:
    """Blur Lab's a and b with sigma 1.5 p + 2, then multiply them by p."""
    lab = rgb_to_lab(x)
    return lab_to_rgb(torch.cat([lab[:, :1], p * gaussian(lab[:, 1:], 1.5 * p + 2)], 1))


def color_shift(x: Tensor, p: float, g: Generator) -> Tensor:
    """Shift green by p pixels in a random direction, where a smoothed edge map is high."""
    b, _, h, w = x.shape
    dy, dx = torch.gradient(luma(x), dim=(2, 3))
    edge = stretch(gaussian((dy ** 2 + dx ** 2).sqrt(), 4)).clamp(0.1, 1).flatten(1)
    rank = round(0.99 * h * w)
    low = edge.kthvalue(h * w + 1 - rank, keepdim=True).values
    high = edge.kthvalue(rank, keepdim=True).values
    edge = stretch(torch.clamp(edge, low, high).view(b, 1, h, w))
    direction = random_like(torch.rand, x, g, b, 2)
    step = (p * direction / direction.norm(dim=1, keepdim=True)).round().long()
    rows = (torch.arange(h, device=x.device) - step[:, :1]).clamp(min=0)
    cols = (torch.arange(w, device=x.device) - step[:, 1:]).clamp(min=0)
    red, green, blue = x.split(1, 1)
    moved = pick(green, rows[:, :, None] * w + cols[:, None])
    return torch.cat([red, green + edge * (moved - green), blue], 1)


def color_quantization(x: Tensor, p: float, g: Generator) -> Tensor:
    """Reduce to p colours with Floyd-Steinberg dithering."""

    def code(image: Image.Image) -> Image.Image:
        # A palette of 48 x 48 pixels at 5 bits: within 1.3 dB of one of all pixels, and 50 times
        # faster.
        small = image.resize((48, 48), Image.Resampling.NEAREST).point(lambda v: (v & 0xF8) + 4)
        palette = small.quantize(int(p), Image.Quantize.MEDIANCUT, kmeans=1)
        return image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)

    return through_pillow(x, code)


def color_saturation_1(x: Tensor, p: float, g: Generator) -> Tensor:
    """Multiply HSV's S by p: c -> V - p (V - c) for each channel c, V = max(R, G, B)."""
    v = x.amax(1, keepdim=True)
    return v - p * (v - x)


def color_saturation_2(x: Tensor, p: float, g: Generator) -> Tensor:
    """Multiply Lab's a and b by p."""
    return lab_to_rgb(rgb_to_lab(x) * x.new_tensor([1, p, p]).view(3, 1, 1))


# ---- Compression -------------------------------------------------------------------------------


def jpeg2000(x: Tensor, p: float, g: Generator) -> Tensor:
    """JPEG 2000 at compression ratio p."""
    # the 9/7 wavelet and YCbCr: both are off in Pillow unless asked for
    options = {"quality_mode": "rates", "quality_layers": [p], "irreversible": True, "mct": 1}
    return through_pillow(x, lambda image: through_file(image, "JPEG2000", **options))


def jpeg(x: Tensor, p: float, g: Generator) -> Tensor:
    """JPEG, chroma at half resolution, at quality p."""
    return through_pillow(x, lambda image: through_file(image, "JPEG", quality=int(p)))


# ---- Noise -------------------------------------------------------------------------------------


def white_noise(x: Tensor, p: float, g: Generator) -> Tensor:
    """Add Gaussian noise of variance p to R, G and B."""
    return x + random_like(torch.randn, x, g) * p ** 0.5


def white_noise_ycbcr(x: Tensor, p: float, g: Generator) -> Tensor:
    """Add Gaussian noise of variance p to Y, Cb and Cr."""
    noisy = rgb_to_ycbcr(x) + random_like(torch.randn, x, g) * p ** 0.5
    return ycbcr_to_rgb(noisy.clamp(0, 1))


def impulse_noise(x: Tensor, p: float, g: Generator) -> Tensor:
    """Salt and pepper: a share p of all channel values becomes 0 or 1, half each."""
    u = random_like(torch.rand, x, g)
    return torch.where(u < p, (u >= p / 2).float(), x)


def multiplicative_noise(x: Tensor, p: float, g: Generator) -> Tensor:
    """Speckle x + x n, n uniform with mean 0 and variance p (imnoise 'speckle')."""
    return x + x * (random_like(torch.rand, x, g) - 0.5) * (12 * p) ** 0.5


def denoise(x: Tensor, p: float, g: Generator) -> Tensor:
    """White noise of variance p, then a denoiser (reconstruction, see `shrink`)."""
    noisy = white_noise(x, p, g).clamp(0, 1)
    return mix(OPPONENT.T, shrink(mix(OPPONENT, noisy), 2.6 * p ** 0.5))


def shrink(x: Tensor, limit: float) -> Tensor:
    """Zero the DCT coefficients below `limit` in all 8 x 8 blocks at step 4; average the blocks."""
    # Of the limits 2.2, 2.6 and 3 sigma, 2.6 came closest to KADID's human means (by six
    # full-reference metrics).
    b, c, h, w = x.shape
    t = torch.arange(8.0)
    scale = torch.where(t == 0, 0.125, 0.25).sqrt()[:, None]
    dct = torch.cos((t + 0.5) * t[:, None] * pi / 8) * scale
    # A block is 2 x 2 cells of 4 x 4 pixels, the pixels of a cell as channels: a CPU convolves that
    # four times faster.
    basis = torch.kron(dct, dct).view(64, 2, 4, 2, 4).permute(0, 2, 4, 1, 3)
    basis = basis.reshape(64, 16, 2, 2).to(x)
    padded = F.pad(x, (4, 4 + -w % 4, 4, 4 + -h % 4), mode="reflect").flatten(0, 1)[:, None]
    cells = F.pixel_unshuffle(padded, 4).contiguous(memory_format=torch.channels_last)
    z = F.conv2d(cells, basis)
    shrunk = F.hardshrink(z, limit)
    shrunk[:, 0] = z[:, 0]  # the mean of a block stays
    # Each cell is the sum of one quarter of each of the four blocks that cover it.
    cells = F.conv2d(shrunk, basis.transpose(0, 1).flip(2, 3) / 4)
    return F.pixel_shuffle(cells, 4)[:, 0, :h, :w].view(b, c, h, w)


# ---- Brightness and contrast -------------------------------------------------------------------


def brighten(x: Tensor, p: float, g: Generator) -> Tensor:
    """Raise the curve of RGB (two thirds) and of Lab's L (one third) by p."""
    lab = rgb_to_lab(x)
    lab = torch.cat([100 * bend(lab[:, :1] / 100, p), lab[:, 1:]], 1)
    return (2 * bend(x, p) + lab_to_rgb(lab)) / 3


def darken(x: Tensor, p: float, g: Generator) -> Tensor:
    """Lower the curve of RGB by p."""
    return bend(x, -p)


def mean_shift(x: Tensor, p: float, g: Generator) -> Tensor:
    """Add p."""
    return x + p


def high_sharpen(x: Tensor, p: float, g: Generator) -> Tensor:
    """Unsharp mask on Lab's L: L + p (L - blurred L), sigma 3 pixels."""
    lab = rgb_to_lab(x)
    detail = lab[:, :1] - gaussian(lab[:, :1], 3)
    return lab_to_rgb(torch.cat([lab[:, :1] + p * detail, lab[:, 1:]], 1))


def contrast_change(x: Tensor, p: float, g: Generator) -> Tensor:
    """Spline through (0, 0), (0.3, 0.25 - p/4), (0.5, 0.5), (0.7, 0.75 + p/4), (1, 1)."""
    u = x - 0.5  # by symmetry the spline is one odd cubic in u
    c = -(0.05 + p / 4) / 0.042
    return 0.5 + (1 - c / 4) * u + c * u ** 3


# ---- Places ------------------------------------------------------------------------------------


def jitter(x: Tensor, p: float, g: Generator) -> Tensor:
    """Five times: move every pixel by N(0, 1) p pixels in x and in y, bicubic interpolation."""
    b, _, h, w = x.shape
    axes = ((2 * torch.arange(n, device=x.device) + 1) / n - 1 for n in (w, h))
    grid = torch.stack(torch.meshgrid(*axes, indexing="xy"), -1).expand(b, -1, -1, -1)
    for _ in range(5):
        moved = grid + random_like(torch.randn, grid, g) * x.new_tensor([2 * p / w, 2 * p / h])
        x = F.grid_sample(x, moved, "bicubic", "border", align_corners=False)
    return x


def non_eccentricity_patch(x: Tensor, p: float, g: Generator) -> Tensor:
    """Copy p patches of 16 x 16 pixels, one after another, to places up to 8 pixels away."""
    b, _, h, w = x.shape
    margin = 16 if min(h, w) >= 64 else 8
    u = random_like(torch.rand, x, g, b, int(p), 4).cpu().numpy()
    start = np.rint(u[..., :2] * (np.array([h, w]) - 16 - 2 * margin)).astype(int) + margin
    end = start + np.rint((u[..., 2:] - 0.5) * 16).astype(int)
    # A patch may copy pixels of an earlier patch, so the copies run one by one, on pixel numbers.
    source = np.arange(h * w).reshape(1, h, w).repeat(b, 0)
    for numbers, starts, ends in zip(source, start.tolist(), end.tolist()):
        for (i, j), (k, l) in zip(starts, ends):
            numbers[k:k + 16, l:l + 16] = numbers[i:i + 16, j:j + 16].copy()
    return pick(x, torch.from_numpy(source).to(x.device))


def pixelate(x: Tensor, p: float, g: Generator) -> Tensor:
    """Nearest-neighbour reduction by the factor 0.95 - p^0.6 and back."""
    factor = 0.95 - p ** 0.6
    h, w = x.shape[-2:]

    def source(n: int) -> Tensor:
        small = ((torch.arange(n, device=x.device) + 0.5) * ceil(factor * n) / n).floor()
        return ((small + 0.5) / factor).long().clamp(max=n - 1)

    return pick(x, (source(h)[:, None] * w + source(w))[None])


def color_block(x: Tensor, p: float, g: Generator) -> Tensor:
    """Paint p squares of 32 x 32 pixels in random colours at random places."""
    u = random_like(torch.rand, x, g, len(x), int(p), 5)
    y = x.clone()
    corners = (u[..., :2] * (u.new_tensor(x.shape[-2:]) - 32)).int().tolist()
    for image, places, colors in zip(y, corners, u[..., 2:, None, None]):
        for (i, j), color in zip(places, colors):
            image[:, i:i + 32, j:j + 32] = color
    return y


# ---- Grey levels -------------------------------------------------------------------------------


def quantization(x: Tensor, p: float, g: Generator) -> Tensor:
    """Otsu's p thresholds over all values; a value becomes the threshold above it (or 0, or 1)."""
    b = len(x)
    values = to_uint8(x.detach()).flatten(1).long()  # (B, 3 H W)
    offset = 256 * torch.arange(b, device=x.device)[:, None]
    histogram = torch.bincount((values + offset).flatten(), minlength=256 * b).view(b, 256)
    cuts = otsu(histogram, int(p))
    level = torch.searchsorted(cuts, torch.arange(256, device=x.device).repeat(b, 1), right=True)
    table = F.pad((cuts - 1) / 255, (0, 1), value=1).gather(1, level) * (level > 0)
    return table.gather(1, values).view_as(x)


def otsu(histogram: Tensor, n: int) -> Tensor:
    """The n cuts (B, n) of each histogram (B, 256) with the largest variance between classes.

    With W and S the sums of counts and of count * value below a cut, the class between cuts i < j
    adds (S_j - S_i)^2 / (W_j - W_i); dynamic programming over the cuts finds the largest sum.
    """
    values = torch.arange(256, device=histogram.device)
    w = F.pad(histogram.double().cumsum(1), (1, 0))
    s = F.pad((histogram * values).double().cumsum(1), (1, 0))
    dw = w[:, :, None] - w[:, None]
    ds = s[:, :, None] - s[:, None]
    gain = ds ** 2 / dw.clamp(min=0.5) + torch.full_like(dw[0], -torch.inf).triu(1)
    best = [gain[:, :, 0]]  # best[k][:, j]: the largest sum of k + 1 classes below cut j
    for _ in range(n):
        best.append((best[-1][:, None] + gain).amax(2))
    cuts = [torch.full_like(histogram[:, :1], 256)]
    for before in best[-2::-1]:  # back from the end: which cut led to the best sum?
        last = gain.take_along_dim(cuts[0][..., None], 1)[:, 0]
        cuts.insert(0, (before + last).argmax(1, keepdim=True))
    return torch.cat(cuts[:-1], 1)
