"""The 25 distortions of KADID-10k for one image at a time, in plain numpy, scipy, skimage and Pillow.

The straightforward version: the reference of tests/test_distortions.py for the types without
randomness, and the peer of figures/bench/distortions.py. An image is a float32 array (H,W,3) in [0,1].
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import fft, interpolate, ndimage, signal
from skimage import color


def plain(image: np.ndarray, name: str, p: float, rng: np.random.Generator) -> np.ndarray:
    """Distort one image by the type `name` with parameter p."""
    return np.clip(globals()[name](image, p, rng), 0, 1).astype(np.float32)


def _convolve(image, kernel):
    # scipy's direct convolution is the faster one for kernels up to about 9 x 9.
    if kernel.size <= 81:
        return np.stack([ndimage.correlate(image[..., c], kernel, mode="nearest") for c in range(3)], -1)
    r = len(kernel) // 2
    padded = np.pad(image, ((r, r), (r, r), (0, 0)), mode="edge")
    return signal.fftconvolve(padded, kernel[::-1, ::-1, None].astype(np.float32), mode="valid", axes=(0, 1))


def _gauss(image, sigma):
    return ndimage.gaussian_filter(image, sigma, mode="nearest", radius=int(np.ceil(2 * sigma)), axes=(0, 1))


def _stretch(x):
    return (x - x.min()) / (x.max() - x.min()) if x.max() > x.min() else x


def _to_pil(image):
    return Image.fromarray((image * 255 + 0.5).astype(np.uint8))


def _through(file_format, image, **options):
    file = io.BytesIO()
    _to_pil(image).save(file, file_format, **options)
    return np.asarray(Image.open(file)) / np.float32(255)


def gaussian_blur(image, p, rng):
    return _gauss(image, p)


def lens_blur(image, p, rng):
    n, fine = int(p), 100  # area of a pixel inside the disc, by counting 100 x 100 points
    t = (np.arange((2 * n + 1) * fine) + 0.5) / fine - n - 0.5
    inside = (t[:, None] ** 2 + t ** 2 <= p ** 2).reshape(2 * n + 1, fine, 2 * n + 1, fine).mean((1, 3))
    return _convolve(image, inside / inside.sum())


def motion_blur(image, p, rng):
    return _convolve(image, motion_kernel(p, rng.integers(181)))


def motion_kernel(p, degrees):
    """MATLAB's fspecial('motion', p, degrees): 1 - distance to the line, near the line."""
    half, n, phi = (p - 1) / 2, int(np.ceil(p / 2)), np.radians(degrees)
    y, x = np.mgrid[-n:n + 1, -n:n + 1]
    along, distance = x * np.cos(phi) + y * np.sin(phi), np.abs(y * np.cos(phi) - x * np.sin(phi))
    tip = x ** 2 + y ** 2 >= half ** 2
    distance[tip] = np.hypot(distance, half - np.abs(along))[tip]
    kernel = np.clip(1 - distance, 0, None)
    return kernel / kernel.sum()


def color_diffusion(image, p, rng):
    lab = color.rgb2lab(image)
    lab[..., 1:] = _gauss(lab[..., 1:], 1.5 * p + 2) * p
    return color.lab2rgb(lab)


def color_shift(image, p, rng):
    way = rng.random(2)
    return shift_green(image, np.rint(way / np.linalg.norm(way) * p).astype(int))


def shift_green(image, step):
    """Move green by step = (down, right) px where there are edges."""
    dy, dx = np.gradient(image @ np.float32([0.299, 0.587, 0.114]))
    edge = np.clip(_stretch(_gauss(np.hypot(dy, dx), 4)), 0.1, 1)
    order = np.sort(edge, axis=None)
    rank = round(0.99 * edge.size)
    edge = _stretch(np.clip(edge, order[edge.size - rank], order[rank - 1]))
    h, w = edge.shape
    moved = np.pad(image[..., 1], ((step[0], 0), (step[1], 0)), mode="edge")[:h, :w]
    out = image.copy()
    out[..., 1] = moved * edge + image[..., 1] * (1 - edge)
    return out


def color_quantization(image, p, rng):
    picture = _to_pil(image)
    palette = picture.quantize(int(p), Image.Quantize.MEDIANCUT)
    reduced = picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    return np.asarray(reduced.convert("RGB")) / np.float32(255)


def color_saturation_1(image, p, rng):
    hsv = color.rgb2hsv(image)
    hsv[..., 1] *= p
    return color.hsv2rgb(hsv)


def color_saturation_2(image, p, rng):
    lab = color.rgb2lab(image)
    lab[..., 1:] *= p
    return color.lab2rgb(lab)


def jpeg2000(image, p, rng):
    return _through("JPEG2000", image, quality_mode="rates", quality_layers=[p], irreversible=True, mct=1)


def jpeg(image, p, rng):
    return _through("JPEG", image, quality=int(p))


def white_noise(image, p, rng):
    return image + rng.standard_normal(image.shape, np.float32) * np.float32(p ** 0.5)


def white_noise_ycbcr(image, p, rng):
    ycbcr = color.rgb2ycbcr(image) / 255
    noisy = ycbcr + rng.standard_normal(image.shape, np.float32) * np.float32(p ** 0.5)
    return color.ycbcr2rgb(np.clip(noisy, 0, 1) * 255)


def impulse_noise(image, p, rng):
    u = rng.random(image.shape, np.float32)
    out = image.copy()
    out[u < p / 2] = 0
    out[(u >= p / 2) & (u < p)] = 1
    return out


def multiplicative_noise(image, p, rng):
    return image + image * (rng.random(image.shape, np.float32) - 0.5) * np.float32((12 * p) ** 0.5)


def denoise(image, p, rng):
    opponent = np.float32([[1, 1, 1], [1, 0, -1], [1, -2, 1]])
    opponent /= np.linalg.norm(opponent, axis=1, keepdims=True)
    return shrink(np.clip(white_noise(image, p, rng), 0, 1) @ opponent.T, 2.6 * p ** 0.5) @ opponent


def shrink(image, limit):
    """Zero the small coefficients of all 8 x 8 DCT blocks at step 4 and average the blocks."""
    h, w = image.shape[:2]
    x = np.pad(image, ((4, 4 + -h % 4), (4, 4 + -w % 4), (0, 0)), mode="reflect")
    blocks = np.lib.stride_tricks.sliding_window_view(x, (8, 8), axis=(0, 1))[::4, ::4]
    z = fft.dctn(blocks, axes=(-2, -1), norm="ortho")
    mean = z[..., 0, 0].copy()
    z[np.abs(z) <= limit] = 0
    z[..., 0, 0] = mean
    blocks = fft.idctn(z, axes=(-2, -1), norm="ortho")
    out = np.zeros_like(x)
    for i in range(blocks.shape[0]):
        for j in range(blocks.shape[1]):
            out[4 * i:4 * i + 8, 4 * j:4 * j + 8] += np.moveaxis(blocks[i, j], 0, -1)
    return out[4:4 + h, 4:4 + w] / 4


def _curve(x, xs, ys):
    return np.clip(interpolate.CubicSpline(xs, ys)(x), 0, 1)


def brighten(image, p, rng):
    ys = [0, 0.5 + p / 2, 1]
    lab = color.rgb2lab(image)
    lab[..., 0] = 100 * _curve(lab[..., 0] / 100, [0, 0.5, 1], ys)
    return (2 * _curve(image, [0, 0.5, 1], ys) + color.lab2rgb(lab)) / 3


def darken(image, p, rng):
    return _curve(image, [0, 0.5, 1], [0, 0.5 - p / 2, 1])


def mean_shift(image, p, rng):
    return image + np.float32(p)


def jitter(image, p, rng):
    h, w = image.shape[:2]
    y, x = np.mgrid[:h, :w].astype(np.float32)
    for _ in range(5):
        dy, dx = rng.standard_normal((2, h, w), np.float32) * np.float32(p)
        image = np.stack([ndimage.map_coordinates(image[..., c], [y + dy, x + dx], order=3, mode="nearest")
                          for c in range(3)], -1)
    return image


def non_eccentricity_patch(image, p, rng):
    out = image.copy()
    h, w = image.shape[:2]
    margin = 16 if min(h, w) >= 64 else 8
    for _ in range(int(p)):
        y, x = rng.integers(margin, [h - 16 - margin + 1, w - 16 - margin + 1])
        y2, x2 = np.rint([y, x] + (rng.random(2) - 0.5) * 16).astype(int)
        out[y2:y2 + 16, x2:x2 + 16] = out[y:y + 16, x:x + 16].copy()
    return out


def pixelate(image, p, rng):
    z = 0.95 - p ** 0.6
    for axis in (0, 1):
        n = image.shape[axis]
        small = np.minimum(((np.arange(np.ceil(z * n)) + 0.5) / z).astype(int), n - 1)
        back = ((np.arange(n) + 0.5) * len(small) / n).astype(int)
        image = np.take(image, small[back], axis)
    return image


def quantization(image, p, rng):
    values = (image * 255 + 0.5).astype(np.uint8)
    cuts = otsu(np.bincount(values.ravel(), minlength=256), int(p))
    levels = np.concatenate([[0], (cuts[1:] - 1) / 255, [1]]).astype(np.float32)
    return levels[np.searchsorted(cuts, values, side="right")]


def otsu(histogram, n):
    """The n cuts that maximise the between-class variance, by dynamic programming."""
    weight = np.concatenate([[0], np.cumsum(histogram)])
    total = np.concatenate([[0], np.cumsum(histogram * np.arange(256))])
    dw, ds = weight[None] - weight[:, None], total[None] - total[:, None]
    gain = np.where(dw > 0, ds ** 2 / np.maximum(dw, 1), 0.0)
    gain[np.tril_indices(257, -1)] = -np.inf
    best, came_from = gain[0], []
    for _ in range(n):
        table = best[:, None] + gain
        came_from.append(table.argmax(0))
        best = table.max(0)
    cuts, at = [], 256
    for arg in reversed(came_from):
        at = arg[at]
        cuts.append(at)
    return np.array(cuts[::-1])


def color_block(image, p, rng):
    out = image.copy()
    h, w = image.shape[:2]
    for _ in range(int(p)):
        y, x = int(rng.random() * (h - 32)), int(rng.random() * (w - 32))
        out[y:y + 32, x:x + 32] = rng.random(3)
    return out


def high_sharpen(image, p, rng):
    lab = color.rgb2lab(image)
    lab[..., 0] += p * (lab[..., 0] - _gauss(lab[..., 0], 3))
    return color.lab2rgb(lab)


def contrast_change(image, p, rng):
    return _curve(image, [0, 0.3, 0.5, 0.7, 1], [0, 0.25 - p / 4, 0.5, 0.75 + p / 4, 1])
