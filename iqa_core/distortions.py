"""The 25 distortion types of KADID-10k at five levels each, for batches of pictures in torch.

Types, order and parameters follow KADID-10k (Lin, Hosu, Saupe, QoMEX 2019) and the MATLAB generator
published with KADIS-700k; the code is our own. Where it knowingly differs from the MATLAB code:
- the generator stretches every picture to full range before and after; here [0, 1] is only clamped;
- denoise: without DnCNN's weights, shrinkage of DCT blocks stands in for it (a reconstruction);
- color_quantization: k-means on a sample of the pixels, for MATLAB's minimum-variance palette;
- quantization: Otsu's thresholds are the exact optimum, MATLAB searches for a local one;
- jitter: torch's bicubic kernel has a = -0.75, MATLAB's -0.5; jpeg2000: OpenJPEG at the same ratio;
- color_shift repeats the edges (MATLAB's helper is unknown); below 64 px, patches keep off the edge by 8 px.

The cells in `IDENTITY` change nothing; they are among the five that KADID's viewers rated highest.
contrast_change has no such level: the generator's curve raises the contrast at amount 0 (level 3).
"""

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import groupby
from math import ceil, pi

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

from iqa_core.color import OPPONENT, lab_to_rgb, mix, rgb_to_lab, rgb_to_ycbcr, ycbcr_to_rgb
from iqa_core.images import from_uint8, luma, to_uint8
from iqa_core.metrics import expect

# JPEG 2000 is the slowest type, and Pillow lets no other thread run meanwhile. So OpenJPEG gets threads of its own.
os.environ.setdefault("OPJ_NUM_THREADS", str(min(4, os.cpu_count() or 1)))


def _filter(x: Tensor, kernel: Tensor) -> Tensor:
    """Correlate every channel with a kernel (kh,kw), edges repeated."""
    # One shifted addition a weight: for so few channels faster on a CPU than conv2d, mostly also than FFT.
    (h, w), (kh, kw) = x.shape[-2:], kernel.shape
    padded, y = F.pad(x, (kw // 2, kw // 2, kh // 2, kh // 2), mode="replicate"), torch.zeros_like(x)
    for (i, j), weight in zip(kernel.nonzero().tolist(), kernel[kernel != 0].tolist()):
        y = y.add_(padded[:, :, i:i + h, j:j + w], alpha=weight)
    return y

def _gaussian(x: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian blur, cut at ceil(2 sigma) as MATLAB's imgaussfilt."""
    n = ceil(2 * sigma)
    k = torch.softmax(-0.5 * (torch.arange(-n, n + 1) / sigma) ** 2, 0)
    return _filter(_filter(x, k[None]), k[:, None])

def _stretch(x: Tensor) -> Tensor:
    """Map the minimum of each map to 0 and its maximum to 1."""
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low).clamp(min=1e-12)

def _bend(x: Tensor, amount: float) -> Tensor:
    """Parabola through (0,0), (0.5, 0.5 + amount/2), (1,1), clamped."""
    return (x + 2 * amount * x * (1 - x)).clamp(0, 1)

def _pick(x: Tensor, index: Tensor) -> Tensor:
    """Pixel (i,j) of picture b taken from pixel number index[b,i,j]."""
    return x.flatten(2).gather(2, index.flatten(1)[:, None].expand(len(x), x.shape[1], -1)).view_as(x)

def _random(draw: Callable, x: Tensor, g: Generator, *shape: int) -> Tensor:
    return draw(shape or x.shape, generator=g, device=x.device)

def _codec(x: Tensor, code: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Round to 8 bits and let Pillow code picture by picture."""
    # CUDA pictures too: nvJPEG keeps the chroma at full resolution, so results would depend on the device.
    pictures = to_uint8(x.detach()).cpu().permute(0, 2, 3, 1).contiguous().numpy()
    done = np.stack([np.asarray(code(Image.fromarray(u)).convert("RGB")) for u in pictures])
    return from_uint8(torch.from_numpy(done).to(x.device).permute(0, 3, 1, 2))

def _through_file(picture: Image.Image, kind: str, **options) -> Image.Image:
    picture.save(file := io.BytesIO(), kind, **options)
    return Image.open(file)


# One function a type: x (B,3,H,W) pictures, p the parameter, g the generator.

def _gaussian_blur(x, p, g):
    """Gaussian blur; p = sigma in px."""
    return _gaussian(x, p)

def _lens_blur(x, p, g):
    """Mean over a disc; p = radius in px."""
    return _filter(x, _disc(p))

@cache
def _disc(radius: float) -> Tensor:
    """The area of each pixel inside the disc; the sum is 1 (fspecial 'disk')."""
    t = torch.arange(-ceil(radius), ceil(radius) + 1.0)
    u = t[:, None] + torch.arange(-127.5, 128) / 256
    chord = (radius ** 2 - u[:, :, None] ** 2).clamp(min=0).sqrt()  # half the disc's height at abscissa u
    area = (torch.minimum(chord, t + 0.5) - torch.maximum(-chord, t - 0.5)).clamp(min=0).mean(1)
    return area / area.sum()

def _motion_blur(x, p, g):
    """Mean along a line; p = length in px, the angle is random in 0..180 degrees (fspecial 'motion')."""
    angles = torch.deg2rad((_random(torch.rand, x, g, len(x)) * 181).floor()).cpu()
    return torch.cat([_filter(picture, _line(p, angle)) for picture, angle in zip(x.split(1), angles)])

def _line(p: float, angle: Tensor) -> Tensor:
    """1 - distance to a line of p pixels, near the line."""
    half, t = (p - 1) / 2, torch.arange(-(p // 2), p // 2 + 1)
    along = t * angle.cos() + t[:, None] * angle.sin()
    across = t[:, None] * angle.cos() - t * angle.sin()
    beyond = torch.where(along ** 2 + across ** 2 >= half ** 2, half - along.abs(), 0.0)
    k = (1 - (across ** 2 + beyond ** 2).sqrt()).clamp(min=0)
    return k / k.sum()

def _color_diffusion(x, p, g):
    """Blur Lab's a and b with sigma 1.5 p + 2, then multiply them by p."""
    lab = rgb_to_lab(x)
    return lab_to_rgb(torch.cat([lab[:, :1], p * _gaussian(lab[:, 1:], 1.5 * p + 2)], 1))

def _color_shift(x, p, g):
    """Shift green by p px in a random direction, blended in where a smoothed edge map is high."""
    b, _, h, w = x.shape
    dy, dx = torch.gradient(luma(x), dim=(2, 3))
    edge = _stretch(_gaussian((dy ** 2 + dx ** 2).sqrt(), 4)).clamp(0.1, 1).flatten(1)
    rank = round(0.99 * h * w)
    low, high = (edge.kthvalue(k, keepdim=True).values for k in (h * w + 1 - rank, rank))
    edge = _stretch(torch.clamp(edge, low, high).view(b, 1, h, w))
    way = _random(torch.rand, x, g, b, 2)
    step = (p * way / way.norm(dim=1, keepdim=True)).round().long()
    rows = (torch.arange(h, device=x.device) - step[:, :1]).clamp(min=0)
    cols = (torch.arange(w, device=x.device) - step[:, 1:]).clamp(min=0)
    red, green, blue = x.split(1, 1)
    moved = _pick(green, rows[:, :, None] * w + cols[:, None])
    return torch.cat([red, green + edge * (moved - green), blue], 1)

def _color_quantization(x, p, g):
    """Reduce to p colours with Floyd-Steinberg dithering."""
    def code(picture: Image.Image) -> Image.Image:
        # A palette of 48 x 48 pixels at 5 bits: within 1.3 dB of one of all pixels and 50 times faster.
        small = picture.resize((48, 48), Image.Resampling.NEAREST).point(lambda v: (v & 0xF8) + 4)
        palette = small.quantize(int(p), Image.Quantize.MEDIANCUT, kmeans=1)
        return picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    return _codec(x, code)

def _color_saturation_1(x, p, g):
    """Multiply HSV's S by p; with V = max(R,G,B) that is c -> V - p (V - c) for each channel c."""
    v = x.amax(1, keepdim=True)
    return v - p * (v - x)

def _color_saturation_2(x, p, g):
    """Multiply Lab's a and b by p."""
    return lab_to_rgb(rgb_to_lab(x) * x.new_tensor([1, p, p]).view(3, 1, 1))

def _jpeg2000(x, p, g):
    """JPEG 2000 (9/7 wavelet and YCbCr, both off in Pillow unless asked for) at compression ratio p."""
    return _codec(x, lambda u: _through_file(u, "JPEG2000", quality_mode="rates", quality_layers=[p], irreversible=True, mct=1))

def _jpeg(x, p, g):
    """JPEG, chroma at half resolution, at quality p."""
    return _codec(x, lambda u: _through_file(u, "JPEG", quality=int(p)))

def _white_noise(x, p, g):
    """Add Gaussian noise of variance p to R, G and B."""
    return x + _random(torch.randn, x, g) * p ** 0.5

def _white_noise_ycbcr(x, p, g):
    """Add Gaussian noise of variance p to Y, Cb and Cr."""
    return ycbcr_to_rgb((rgb_to_ycbcr(x) + _random(torch.randn, x, g) * p ** 0.5).clamp(0, 1))

def _impulse_noise(x, p, g):
    """Salt and pepper: a share p of all channel values becomes 0 or 1, half each."""
    u = _random(torch.rand, x, g)
    return torch.where(u < p, (u >= p / 2).float(), x)

def _multiplicative_noise(x, p, g):
    """Speckle x + x n, n uniform with mean 0 and variance p (imnoise 'speckle')."""
    return x + x * (_random(torch.rand, x, g) - 0.5) * (12 * p) ** 0.5

def _denoise(x, p, g):
    """White noise of variance p, then a denoiser (reconstruction, see `_shrink`)."""
    noisy = _white_noise(x, p, g).clamp(0, 1)
    return mix(OPPONENT.T, _shrink(mix(OPPONENT, noisy), 2.6 * p ** 0.5))

def _shrink(x: Tensor, limit: float) -> Tensor:
    """Zero the DCT coefficients below `limit` in all 8 x 8 blocks at step 4; average the blocks."""
    # Of limits 2.2, 2.6 and 3 sigma, 2.6 came closest to KADID's human means (by six full-reference metrics).
    (b, c, h, w), t = x.shape, torch.arange(8.0)
    dct = torch.cos((t + 0.5) * t[:, None] * pi / 8) * torch.where(t == 0, 0.125, 0.25).sqrt()[:, None]
    # A block is 2 x 2 cells of 4 x 4 pixels, the pixels of a cell as channels: a CPU convolves that four times faster.
    basis = torch.kron(dct, dct).view(64, 2, 4, 2, 4).permute(0, 2, 4, 1, 3).reshape(64, 16, 2, 2).to(x)
    padded = F.pad(x, (4, 4 + -w % 4, 4, 4 + -h % 4), mode="reflect").flatten(0, 1)[:, None]
    z = F.conv2d(F.pixel_unshuffle(padded, 4).contiguous(memory_format=torch.channels_last), basis)
    kept = F.hardshrink(z, limit)
    kept[:, 0] = z[:, 0]  # the mean of a block stays
    # Each cell is the sum of one quarter of each of the four blocks that cover it.
    cells = F.conv2d(kept, basis.transpose(0, 1).flip(2, 3) / 4)
    return F.pixel_shuffle(cells, 4)[:, 0, :h, :w].view(b, c, h, w)

def _brighten(x, p, g):
    """Raise the curve of RGB (two thirds) and of Lab's L (one third) by p."""
    lab = rgb_to_lab(x)
    lab = torch.cat([100 * _bend(lab[:, :1] / 100, p), lab[:, 1:]], 1)
    return (2 * _bend(x, p) + lab_to_rgb(lab)) / 3

def _darken(x, p, g):
    """Lower the curve of RGB by p."""
    return _bend(x, -p)

def _mean_shift(x, p, g):
    """Add p."""
    return x + p

def _jitter(x, p, g):
    """Five times: move every pixel by N(0,1) p px in x and in y, bicubic interpolation."""
    b, _, h, w = x.shape
    axes = ((2 * torch.arange(n, device=x.device) + 1) / n - 1 for n in (w, h))
    grid = torch.stack(torch.meshgrid(*axes, indexing="xy"), -1).expand(b, -1, -1, -1)
    for _ in range(5):
        moved = grid + _random(torch.randn, grid, g) * x.new_tensor([2 * p / w, 2 * p / h])
        x = F.grid_sample(x, moved, "bicubic", "border", align_corners=False)
    return x

def _non_eccentricity_patch(x, p, g):
    """Copy p patches of 16 x 16 px, one after another, to places up to 8 px away."""
    b, _, h, w = x.shape
    margin = 16 if min(h, w) >= 64 else 8
    u = _random(torch.rand, x, g, b, int(p), 4).cpu().numpy()
    start = np.rint(u[..., :2] * (np.array([h, w]) - 16 - 2 * margin)).astype(int) + margin
    end = start + np.rint((u[..., 2:] - 0.5) * 16).astype(int)
    # A patch may copy pixels of an earlier patch, so the copies run one by one, on pixel numbers.
    source = np.arange(h * w).reshape(1, h, w).repeat(b, 0)
    for m, s, e in zip(source, start.tolist(), end.tolist()):
        for (i, j), (k, l) in zip(s, e):
            m[k:k + 16, l:l + 16] = m[i:i + 16, j:j + 16].copy()
    return _pick(x, torch.from_numpy(source).to(x.device))

def _pixelate(x, p, g):
    """Nearest-neighbour reduction by the factor 0.95 - p^0.6 and back."""
    def source(n: int) -> Tensor:
        small = ((torch.arange(n, device=x.device) + 0.5) * ceil(z * n) / n).floor()
        return ((small + 0.5) / z).long().clamp(max=n - 1)
    z, (h, w) = 0.95 - p ** 0.6, x.shape[-2:]
    return _pick(x, (source(h)[:, None] * w + source(w))[None])

def _quantization(x, p, g):
    """Otsu's p thresholds over all values; a value becomes the threshold above it (at the ends 0 and 1)."""
    values, b = to_uint8(x.detach()).flatten(1).long(), len(x)
    offset = 256 * torch.arange(b, device=x.device)[:, None]
    cuts = _otsu(torch.bincount((values + offset).flatten(), minlength=256 * b).view(b, 256), int(p))
    level = torch.searchsorted(cuts, torch.arange(256, device=x.device).repeat(b, 1), right=True)
    table = F.pad((cuts - 1) / 255, (0, 1), value=1).gather(1, level) * (level > 0)
    return table.gather(1, values).view_as(x)

def _otsu(histogram: Tensor, n: int) -> Tensor:
    """The n cuts (B,n) of each histogram (B,256) with the largest variance between classes.

    With W and S the sums of counts and of count * value below a cut, the class between cuts i < j adds
    (S_j - S_i)^2 / (W_j - W_i); dynamic programming over the cuts finds the largest sum.
    """
    values = torch.arange(256, device=histogram.device)
    w, s = (F.pad(v.double().cumsum(1), (1, 0)) for v in (histogram, histogram * values))
    dw, ds = w[:, :, None] - w[:, None], s[:, :, None] - s[:, None]
    gain = ds ** 2 / dw.clamp(min=0.5) + torch.full_like(dw[0], -torch.inf).triu(1)
    best, cuts = [gain[:, :, 0]], [torch.full_like(histogram[:, :1], 256)]
    for _ in range(n):
        best.append((best[-1][:, None] + gain).amax(2))
    for before in best[-2::-1]:  # back from the end: which cut led to the best sum?
        last = gain.take_along_dim(cuts[0][..., None], 1)[:, 0]
        cuts.insert(0, (before + last).argmax(1, keepdim=True))
    return torch.cat(cuts[:-1], 1)

def _color_block(x, p, g):
    """Paint p squares of 32 x 32 px in random colours at random places."""
    u, y = _random(torch.rand, x, g, len(x), int(p), 5), x.clone()
    corners = (u[..., :2] * (u.new_tensor(x.shape[-2:]) - 32)).int().tolist()
    for picture, places, colors in zip(y, corners, u[..., 2:, None, None]):
        for (i, j), color in zip(places, colors):
            picture[:, i:i + 32, j:j + 32] = color
    return y

def _high_sharpen(x, p, g):
    """Unsharp mask on Lab's L: L + p (L - blurred L), sigma 3 px."""
    lab = rgb_to_lab(x)
    detail = lab[:, :1] - _gaussian(lab[:, :1], 3)
    return lab_to_rgb(torch.cat([lab[:, :1] + p * detail, lab[:, 1:]], 1))

def _contrast_change(x, p, g):
    """Spline through (0,0), (0.3, 0.25 - p/4), (0.5,0.5), (0.7, 0.75 + p/4), (1,1)."""
    u, c = x - 0.5, -(0.05 + p / 4) / 0.042  # by symmetry the spline is one odd cubic in u
    return 0.5 + (1 - c / 4) * u + c * u ** 3


# KADID's order: name -> (function, its parameter at the five levels, what the parameter is).
_BANK: dict[str, tuple[Callable, tuple[float, ...], str]] = {
    "gaussian_blur": (_gaussian_blur, (0.1, 0.5, 1, 2, 5), "sigma"),
    "lens_blur": (_lens_blur, (1, 2, 4, 6, 8), "radius"),
    "motion_blur": (_motion_blur, (1, 2, 4, 6, 10), "length"),
    "color_diffusion": (_color_diffusion, (1, 3, 6, 8, 12), "amount"),
    "color_shift": (_color_shift, (1, 3, 6, 8, 12), "shift"),
    "color_quantization": (_color_quantization, (64, 48, 32, 16, 8), "colours"),
    "color_saturation_1": (_color_saturation_1, (0.4, 0.2, 0.1, 0, -0.4), "factor"),
    "color_saturation_2": (_color_saturation_2, (1, 2, 3, 6, 9), "factor"),
    "jpeg2000": (_jpeg2000, (16, 32, 45, 120, 400), "ratio"),
    "jpeg": (_jpeg, (43, 36, 24, 7, 4), "quality"),
    "white_noise": (_white_noise, (0.001, 0.002, 0.003, 0.005, 0.01), "var"),
    "white_noise_ycbcr": (_white_noise_ycbcr, (0.0001, 0.0005, 0.001, 0.002, 0.003), "var"),
    "impulse_noise": (_impulse_noise, (0.001, 0.005, 0.01, 0.02, 0.03), "density"),
    "multiplicative_noise": (_multiplicative_noise, (0.001, 0.005, 0.01, 0.02, 0.05), "var"),
    "denoise": (_denoise, (0.01, 0.03, 0.05, 0.1, 0.15), "var"),
    "brighten": (_brighten, (0.1, 0.2, 0.4, 0.7, 1.1), "amount"),
    "darken": (_darken, (0.05, 0.1, 0.2, 0.4, 0.8), "amount"),
    "mean_shift": (_mean_shift, (0.15, 0.08, 0, -0.08, -0.15), "shift"),
    "jitter": (_jitter, (0.05, 0.1, 0.2, 0.5, 1), "amount"),
    "non_eccentricity_patch": (_non_eccentricity_patch, (20, 40, 60, 80, 100), "patches"),
    "pixelate": (_pixelate, (0.01, 0.05, 0.1, 0.2, 0.5), "strength"),
    "quantization": (_quantization, (20, 16, 13, 10, 7), "thresholds"),
    "color_block": (_color_block, (2, 4, 6, 8, 10), "blocks"),
    "high_sharpen": (_high_sharpen, (1, 2, 3, 6, 12), "amount"),
    "contrast_change": (_contrast_change, (0.3, 0.15, 0, -0.4, -0.6), "amount"),
}
TYPES: tuple[str, ...] = tuple(_BANK)
LEVELS: dict[str, tuple[float, ...]] = {name: row[1] for name, row in _BANK.items()}
PARAMETERS: dict[str, str] = {name: row[2] for name, row in _BANK.items()}
IDENTITY = frozenset({("gaussian_blur", 1), ("motion_blur", 1), ("color_saturation_2", 1), ("mean_shift", 3)})


def distort(x: Tensor, type: str | int | Sequence | Tensor, level: int | Sequence[int] | Tensor,
            generator: Generator | None = None) -> Tensor:
    """Distort pictures as KADID-10k does, with one type and level for all or one for each.

    y = clamp(D_type(x; LEVELS[type][level - 1]), 0, 1)

    Lengths are in pixels and counts per picture, for KADID's 512 x 384: distort first, then crop.

    Args:
        x: float pictures (B,3,H,W) or (3,H,W) in [0,1], sides of at least 32 px, on any device.
        type: a name of `TYPES`, its number 1..25, or B of them.
        level: 1..5, or B of them. Higher is worse, but mean_shift and contrast_change run from + to -.
        generator: on the device of x; None is torch's default. It decides every random choice.
    Returns:
        The pictures in [0,1], shape, dtype and device as x, computed in float32. No gradient passes
        through jpeg, jpeg2000, color_quantization (all three work on 8 bits) and quantization.
    Raises:
        ValueError: x, type, level or generator is not as above.

    >>> x = torch.rand(2, 3, 48, 64)
    >>> distort(x, ["gaussian_blur", "jpeg"], [2, 5]).shape
    torch.Size([2, 3, 48, 64])
    """
    pictures = expect(x[None] if getattr(x, "ndim", 0) == 3 else x).float()
    if x.shape[-3] != 3 or min(x.shape[-2:]) < 32:
        raise ValueError(f"distort: x has shape {tuple(x.shape)}; give (B,3,H,W) or (3,H,W) with sides of at "
                         "least 32 px (repeat a grey picture 3 times).")
    n, types, levels = len(pictures), *(v.tolist() if hasattr(v, "tolist") else v for v in (type, level))
    types, levels = ([v] * n if isinstance(v, (str, int, float)) else list(v) for v in (types, levels))
    if not len(types) == len(levels) == n:
        raise ValueError(f"distort: {len(types)} types, {len(levels)} levels, {n} pictures; give one or {n}.")
    names = [TYPES[t - 1] if t in range(1, 26) else t for t in types]
    for bad in set(names) - set(TYPES):
        raise ValueError(f"distort: type is {bad!r}; give a number 1..25 or one of {', '.join(TYPES)}.")
    for bad in set(levels) - {1, 2, 3, 4, 5}:
        raise ValueError(f"distort: level is {bad!r}; give 1, 2, 3, 4 or 5.")
    cells = sorted(zip(names, levels, range(n)))
    groups = [(cell, [i for *_, i in group]) for cell, group in groupby(cells, lambda row: row[:2])]
    # A few pictures at a time stay in a CPU's cache: up to 4 times faster than all at once.
    most = n if x.is_cuda else max(1, 2 ** 19 // (3 * x.shape[-2] * x.shape[-1]))
    parts = [(cell, where[k:k + most]) for cell, where in groups for k in range(0, len(where), most)]
    # Every part draws from a generator of its own, so the threads' order does not matter.
    seeds = torch.randint(2 ** 62, (len(parts),), generator=generator, device=x.device).tolist()

    def work(part: tuple, seed: int) -> Tensor:
        (name, level), where = part
        p, g = float(LEVELS[name][int(level) - 1]), Generator(x.device).manual_seed(seed)
        return _BANK[name][0](torch.stack([pictures[i] for i in where]), p, g).clamp_(0, 1)

    # The pool lives for one call: a global one would hang in the forked workers of a DataLoader. Within it torch has one
    # thread. Our tensors are small: splitting each operation among threads that wait for one another is slower than
    # one Python thread a part, and far slower when other programs use the cores too.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, "", torch.set_num_threads, (1,)) as pool:
            y = list(pictures)
            for (_, where), done in zip(parts, (map if x.is_cuda else pool.map)(work, parts, seeds)):
                for i, picture in zip(where, done):
                    y[i] = picture
            return torch.stack(y).to(x.dtype).view_as(x)
    finally:
        torch.set_num_threads(threads)
