"""Exercises of notebook 01: a mean opinion score, the rounding of JPEG, SSIM, MS-SSIM, ranks,
pairs, the logistic, and a PSNR that knows where errors hide."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dctn, idctn
from scipy.optimize import curve_fit
from torchvision.transforms.functional import gaussian_blur

from data_download.made.offline import photograph
from iqa_core import metrics
from iqa_exercises import Choice, Exercise, Number


def opinion(grades: np.ndarray) -> tuple:
    """The MOS of each image, and its standard error s / sqrt(n).

    grades: (n, images), one row a rater. s is the standard deviation of the n grades of an image,
    with n - 1 in the denominator. Returns two arrays (images,).
    """
    return grades.mean(0), grades.std(0, ddof=1) / len(grades) ** 0.5


def opinion_of_raters(grades):
    """The means run over the images, so each rater gets a number. Each image needs one: axis 0."""
    return grades.mean(1), grades.std(1, ddof=1) / grades.shape[1] ** 0.5


def opinion_spread(grades):
    """The second result is s, the spread of single grades. A mean of n grades is known better:
    divide by sqrt(n)."""
    return grades.mean(0), grades.std(0, ddof=1)


def opinion_without_root(grades):
    """s is divided by n. The error of a mean falls with the square root of n."""
    return grades.mean(0), grades.std(0, ddof=1) / len(grades)


def opinion_population(grades):
    """s has n in its denominator. With few raters that is too small: ddof=1."""
    return grades.mean(0), grades.std(0) / len(grades) ** 0.5


def some_grades() -> list[tuple]:
    return [(np.random.default_rng(0).integers(1, 6, (7, 4)).astype(float),)]


def round_blocks(x: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """What JPEG does: in each block of 8 x 8 pixels, round every frequency to a multiple of its
    step.

    x: (C, H, W), H and W multiples of 8. steps: (8, 8), the step of each of the 64 frequencies.
    dctn(blocks, axes=..., norm="ortho") goes over to frequencies, idctn goes back. Returns (C, H,
    W).
    """
    C, H, W = x.shape
    blocks = x.reshape(C, H // 8, 8, W // 8, 8).transpose(0, 1, 3, 2, 4)  # (C, H/8, W/8, 8, 8)
    frequencies = dctn(blocks, axes=(-2, -1), norm="ortho")
    rounded = np.round(frequencies / steps) * steps
    return idctn(rounded, axes=(-2, -1), norm="ortho").transpose(0, 1, 3, 2, 4).reshape(C, H, W)


def round_blocks_not_back(x, steps):
    """The rounded numbers count steps. Multiply by the steps before you go back."""
    C, H, W = x.shape
    blocks = x.reshape(C, H // 8, 8, W // 8, 8).transpose(0, 1, 3, 2, 4)
    rounded = np.round(dctn(blocks, axes=(-2, -1), norm="ortho") / steps)
    return idctn(rounded, axes=(-2, -1), norm="ortho").transpose(0, 1, 3, 2, 4).reshape(C, H, W)


def round_blocks_pixels(x, steps):
    """The pixels are rounded, not the frequencies."""
    C, H, W = x.shape
    blocks = x.reshape(C, H // 8, 8, W // 8, 8).transpose(0, 1, 3, 2, 4)
    rounded = np.round(blocks / steps) * steps
    return rounded.transpose(0, 1, 3, 2, 4).reshape(C, H, W)


def round_blocks_turned(x, steps):
    """Rows and columns of the steps are exchanged: steps[u, v] belongs to u half waves down and v
    across."""
    C, H, W = x.shape
    blocks = x.reshape(C, H // 8, 8, W // 8, 8).transpose(0, 1, 3, 2, 4)
    rounded = np.round(dctn(blocks, axes=(-2, -1), norm="ortho") / steps.T) * steps.T
    return idctn(rounded, axes=(-2, -1), norm="ortho").transpose(0, 1, 3, 2, 4).reshape(C, H, W)


def round_blocks_wrong_blocks(x, steps):
    """These are no squares of neighbours. After the first reshape the axes are block row, row in
    the block, block column, column in the block: the two block axes belong together."""
    C, H, W = x.shape
    blocks = x.reshape(C, H // 8, W // 8, 8, 8)
    rounded = np.round(dctn(blocks, axes=(-2, -1), norm="ortho") / steps) * steps
    return idctn(rounded, axes=(-2, -1), norm="ortho").reshape(C, H, W)


def round_blocks_without_norm(x, steps):
    """The norm is missing: without norm="ortho" the frequencies have another size than the steps.
    """
    C, H, W = x.shape
    blocks = x.reshape(C, H // 8, 8, W // 8, 8).transpose(0, 1, 3, 2, 4)
    rounded = np.round(dctn(blocks, axes=(-2, -1)) / steps) * steps
    return idctn(rounded, axes=(-2, -1)).transpose(0, 1, 3, 2, 4).reshape(C, H, W)


def an_image_and_steps() -> list[tuple]:
    rng = np.random.default_rng(0)
    return [(rng.random((2, 16, 24)), rng.uniform(0.2, 1, (8, 8)))]


def ssim_terms(x: torch.Tensor, x_ref: torch.Tensor, local_mean: Callable) -> tuple:
    """The luminance and the contrast-structure term of SSIM at every place.

    local_mean: (B, C, H, W) -> (B, C, H-10, W-10), means over the window. c1 = 0.01^2, c2 =
    0.03^2. x, x_ref: (B, C, H, W). Returns l and cs, each (B, C, H-10, W-10).
    """
    c1, c2 = 0.01**2, 0.03**2
    mu, mu_ref = local_mean(x), local_mean(x_ref)
    var = local_mean(x**2) - mu**2
    var_ref = local_mean(x_ref**2) - mu_ref**2
    cov = local_mean(x * x_ref) - mu * mu_ref
    luminance = (2 * mu * mu_ref + c1) / (mu**2 + mu_ref**2 + c1)
    structure = (2 * cov + c2) / (var + var_ref + c2)
    return luminance, structure


def ssim_terms_second_moments(x, x_ref, local_mean):
    """The means are not subtracted: local_mean(x * x) is no variance yet. Subtract mu * mu, and
    likewise for the covariance."""
    c1, c2 = 0.01**2, 0.03**2
    mu, mu_ref = local_mean(x), local_mean(x_ref)
    luminance = (2 * mu * mu_ref + c1) / (mu**2 + mu_ref**2 + c1)
    squares = local_mean(x**2) + local_mean(x_ref**2)
    return luminance, (2 * local_mean(x * x_ref) + c2) / (squares + c2)


def ssim_terms_constants_swapped(x, x_ref, local_mean):
    """The constants are exchanged: c1 = 0.01^2 belongs to the means, c2 = 0.03^2 to the variances.
    """
    c2, c1 = 0.01**2, 0.03**2
    mu, mu_ref = local_mean(x), local_mean(x_ref)
    var = local_mean(x**2) - mu**2
    var_ref = local_mean(x_ref**2) - mu_ref**2
    cov = local_mean(x * x_ref) - mu * mu_ref
    luminance = (2 * mu * mu_ref + c1) / (mu**2 + mu_ref**2 + c1)
    return luminance, (2 * cov + c2) / (var + var_ref + c2)


def ssim_terms_without_two(x, x_ref, local_mean):
    """The factor 2 is missing, so two equal images get about 1/2. They should get 1."""
    c1, c2 = 0.01**2, 0.03**2
    mu, mu_ref = local_mean(x), local_mean(x_ref)
    var = local_mean(x**2) - mu**2
    var_ref = local_mean(x_ref**2) - mu_ref**2
    cov = local_mean(x * x_ref) - mu * mu_ref
    luminance = (mu * mu_ref + c1) / (mu**2 + mu_ref**2 + c1)
    return luminance, (cov + c2) / (var + var_ref + c2)


def ssim_terms_swapped(x, x_ref, local_mean):
    """The order is luminance first, then contrast-structure."""
    c1, c2 = 0.01**2, 0.03**2
    mu, mu_ref = local_mean(x), local_mean(x_ref)
    var = local_mean(x**2) - mu**2
    var_ref = local_mean(x_ref**2) - mu_ref**2
    cov = local_mean(x * x_ref) - mu * mu_ref
    luminance = (2 * mu * mu_ref + c1) / (mu**2 + mu_ref**2 + c1)
    return (2 * cov + c2) / (var + var_ref + c2), luminance


def two_images_and_a_window() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    x, x_ref = torch.rand(2, 2, 3, 16, 18, generator=draw)

    def local_mean(v: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(v, 11, stride=1)

    return [(x, x_ref, local_mean)]


def ms_ssim(x: torch.Tensor, x_ref: torch.Tensor, terms: Callable) -> torch.Tensor:
    """MS-SSIM: mean(l cs) at the coarsest of five scales, times mean(cs) at the others, each to
    the power of its weight.

    The weights are 0.0448, 0.2856, 0.3001, 0.2363, 0.1333, from the finest scale to the coarsest.
    F.avg_pool2d(x, 2) halves an image. terms(x, x_ref) gives l and cs, each (B, C, h, w). Means
    run over the places of a channel, and the product is taken for each channel; the result is the
    mean over the channels. x, x_ref: (B, C, H, W). Returns (B,).
    """
    result = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale > 0:
            x, x_ref = F.avg_pool2d(x, 2), F.avg_pool2d(x_ref, 2)
        luminance, structure = terms(x, x_ref)
        at_scale = luminance * structure if scale == 4 else structure
        result = result * at_scale.mean((2, 3)) ** weight  # (B, C)
    return result.mean(1)


def ms_ssim_weighted_mean(x, x_ref, terms):
    """The weights are factors of a sum here. They are exponents, and the scales are multiplied."""
    result = 0.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale > 0:
            x, x_ref = F.avg_pool2d(x, 2), F.avg_pool2d(x_ref, 2)
        luminance, structure = terms(x, x_ref)
        at_scale = luminance * structure if scale == 4 else structure
        result = result + weight * at_scale.mean((2, 3))
    return result.mean(1)


def ms_ssim_luminance_everywhere(x, x_ref, terms):
    """The luminance enters at every scale. It enters at the coarsest one only."""
    result = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale > 0:
            x, x_ref = F.avg_pool2d(x, 2), F.avg_pool2d(x_ref, 2)
        luminance, structure = terms(x, x_ref)
        result = result * (luminance * structure).mean((2, 3)) ** weight
    return result.mean(1)


def ms_ssim_without_luminance(x, x_ref, terms):
    """The luminance never enters. At the coarsest scale the mean is that of l cs."""
    result = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale > 0:
            x, x_ref = F.avg_pool2d(x, 2), F.avg_pool2d(x_ref, 2)
        result = result * terms(x, x_ref)[1].mean((2, 3)) ** weight
    return result.mean(1)


def ms_ssim_one_scale(x, x_ref, terms):
    """All five terms are taken at full size. Halve both images before each of the last four."""
    result = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        luminance, structure = terms(x, x_ref)
        at_scale = luminance * structure if scale == 4 else structure
        result = result * at_scale.mean((2, 3)) ** weight
    return result.mean(1)


def ms_ssim_backwards(x, x_ref, terms):
    """The weights run the other way: the first one, 0.0448, belongs to the finest scale."""
    result = 1.0
    for scale, weight in enumerate((0.1333, 0.2363, 0.3001, 0.2856, 0.0448)):
        if scale > 0:
            x, x_ref = F.avg_pool2d(x, 2), F.avg_pool2d(x_ref, 2)
        luminance, structure = terms(x, x_ref)
        at_scale = luminance * structure if scale == 4 else structure
        result = result * at_scale.mean((2, 3)) ** weight
    return result.mean(1)


def images_and_terms() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    x_ref = torch.rand(2, 3, 32, 48, generator=draw)
    x = x_ref * 0.7 + 0.3 * torch.rand(2, 3, 32, 48, generator=draw)

    def terms(x: torch.Tensor, x_ref: torch.Tensor) -> tuple:
        return 0.5 + 0.5 * x_ref, 1 - (x - x_ref).abs()

    return [(x, x_ref, terms)]


def ranks(v: np.ndarray) -> np.ndarray:
    """The rank of each value: 1 for the smallest, n for the largest. Equal values share the mean
    of their ranks.

    v: (n,). Returns (n,): ranks of 5, 8, 5, 9 are 1.5, 3, 1.5, 4.
    """
    smaller = (v[:, None] > v).sum(1)  # how many values are smaller than mine
    equal = (v[:, None] == v).sum(1)  # how many equal mine, with myself
    return smaller + (equal + 1) / 2


def ranks_order(v):
    """argsort says which value stands at each place. Asked for is the place of each value."""
    return v.argsort() + 1.0


def ranks_ties_broken(v):
    """Equal values get different ranks here. They share the mean of their ranks."""
    return v.argsort(kind="stable").argsort(kind="stable") + 1.0


def ranks_lowest(v):
    """Equal values all get the lowest of their ranks. They share the mean."""
    return (v[:, None] > v).sum(1) + 1.0


def ranks_from_zero(v):
    """The ranks start at 0. The smallest value has rank 1."""
    return (v[:, None] > v).sum(1) + ((v[:, None] == v).sum(1) - 1) / 2


def values_with_ties() -> list[tuple]:
    return [(np.array([28.0, 31, 31, 40, 35, 31]),), (np.array([3.0, 1, 2]),)]


def pairs(pred: np.ndarray, mos: np.ndarray) -> float:
    """KRCC for data without ties: (agreeing pairs - disagreeing pairs) / all pairs.

    A pair of images agrees if pred and mos put it into the same order. pred, mos: (n,). Returns a
    number between -1 and 1.
    """
    n = len(pred)
    agree = np.sign(pred[:, None] - pred) * np.sign(
        mos[:, None] - mos
    )  # (n, n), 0 on the diagonal
    return agree.sum() / (n * (n - 1))


def pairs_with_itself(pred, mos):
    """The denominator counts each image with itself as a pair. Of n images there are n (n - 1) / 2
    pairs, or n (n - 1) if each is counted twice."""
    return (np.sign(pred[:, None] - pred) * np.sign(mos[:, None] - mos)).mean()


def pairs_share(pred, mos):
    """This is the share of agreeing pairs, between 0 and 1. Subtract the disagreeing ones."""
    n = len(pred)
    return ((np.sign(pred[:, None] - pred) * np.sign(mos[:, None] - mos)) > 0).sum() / (
        n * (n - 1)
    )


def pairs_twice(pred, mos):
    """The numerator counts each pair twice, the denominator once."""
    n = len(pred)
    return (np.sign(pred[:, None] - pred) * np.sign(mos[:, None] - mos)).sum() / (n * (n - 1) / 2)


def pairs_weighted(pred, mos):
    """Pairs that lie far apart count more here. Each pair counts once: take the sign."""
    n = len(pred)
    return ((pred[:, None] - pred) * (mos[:, None] - mos)).sum() / (n * (n - 1))


def two_orders() -> list[tuple]:
    rng = np.random.default_rng(0)
    return [
        (np.array([30.0, 34, 33, 41]), np.array([1.5, 2.5, 3.5, 4.5])),
        (rng.normal(size=12), rng.normal(size=12)),
    ]


def straightened(pred: np.ndarray, mos: np.ndarray, logistic: Callable) -> np.ndarray:
    """The predictions after a logistic curve that was fitted to the scores by least squares.

    logistic(p, b1, b2, b3, b4) is the curve. curve_fit(curve, p, m, start) returns the best
    parameters first; it needs a sensible start, or it stays where it is: begin with the largest
    and the smallest score, the mean prediction and the standard deviation of the predictions.
    pred, mos: (N,). Returns (N,), on the scale of mos.
    """
    start = mos.max(), mos.min(), pred.mean(), pred.std()
    best, _ = curve_fit(logistic, pred, mos, start, maxfev=10000)
    return logistic(pred, *best)


def straightened_not_fitted(pred, mos, logistic):
    """This is the curve of the start. Give the start to curve_fit, and use the parameters that it
    returns."""
    return logistic(pred, mos.max(), mos.min(), pred.mean(), pred.std())


def straightened_swapped(pred, mos, logistic):
    """The curve is fitted from scores to predictions. It should map predictions to scores."""
    start = pred.max(), pred.min(), mos.mean(), mos.std()
    best, _ = curve_fit(logistic, mos, pred, start, maxfev=10000)
    return logistic(mos, *best)


def straightened_line(pred, mos, logistic):
    """This is the best straight line. The bend is still there."""
    slope, offset = np.polyfit(pred, mos, 1)
    return slope * pred + offset


def bent_predictions() -> list[tuple]:
    rng = np.random.default_rng(0)
    pred = rng.uniform(20, 45, 60)
    mos = 0.1 + 0.8 / (1 + np.exp(-(pred - 30) / 3)) + rng.normal(0, 0.03, 60)

    def logistic(p, b1, b2, b3, b4):
        return b2 + (b1 - b2) / (1 + np.exp(-(p - b3) / abs(b4)))

    return [(pred, mos, logistic)]


def masked_psnr(x: torch.Tensor, x_ref: torch.Tensor, local_mean: Callable) -> torch.Tensor:
    """A PSNR in which errors count less where the reference is busy.

    -10 log10(sum(w e) / sum(w)), where e is the local mean of (x - x_ref)^2 and w = 1 / (v +
    0.01), v the local variance of the reference. local_mean: (B, C, H, W) -> (B, C, H-10, W-10).
    Sums run over channels and places. x, x_ref: (B, C, H, W). Returns (B,).
    """
    e = local_mean((x - x_ref) ** 2)
    w = 1 / (local_mean(x_ref**2) - local_mean(x_ref) ** 2 + 0.01)
    return -10 * torch.log10((w * e).sum((1, 2, 3)) / w.sum((1, 2, 3)))


def masked_by_itself(x, x_ref, local_mean):
    """The weights come from the distorted image. Blur would make it smooth, and noise busy: take
    the reference."""
    e = local_mean((x - x_ref) ** 2)
    w = 1 / (local_mean(x**2) - local_mean(x) ** 2 + 0.01)
    return -10 * torch.log10((w * e).sum((1, 2, 3)) / w.sum((1, 2, 3)))


def masked_the_other_way(x, x_ref, local_mean):
    """Errors count more where the reference is busy. It is the other way round: 1 / (v + 0.01)."""
    e = local_mean((x - x_ref) ** 2)
    w = local_mean(x_ref**2) - local_mean(x_ref) ** 2 + 0.01
    return -10 * torch.log10((w * e).sum((1, 2, 3)) / w.sum((1, 2, 3)))


def masked_not_normalised(x, x_ref, local_mean):
    """The weights are not divided by their sum, so the value depends on how busy the image is."""
    e = local_mean((x - x_ref) ** 2)
    w = 1 / (local_mean(x_ref**2) - local_mean(x_ref) ** 2 + 0.01)
    return -10 * torch.log10((w * e).mean((1, 2, 3)))


def gain_from_afar(both: bool = True) -> float:
    x_ref = photograph("chelsea")[None]
    noise = torch.randn(x_ref.shape, generator=torch.Generator().manual_seed(0))
    x = (x_ref + 0.0633 * noise).clamp(0, 1)  # 24 dB
    far, far_ref = (gaussian_blur(v, [13, 13], [2.0, 2.0]) for v in (x, x_ref))
    return (metrics.psnr(far, far_ref if both else x_ref) - metrics.psnr(x, x_ref)).item()


def gain_of_one_blurred() -> float:
    """Only the noisy image was blurred. From afar both images are blurred."""
    return gain_from_afar(both=False)


EXERCISES = {
    "01.1": Exercise(
        opinion,
        [opinion_of_raters, opinion_spread, opinion_without_root, opinion_population],
        some_grades,
    ),
    "01.2": Exercise(
        round_blocks,
        [
            round_blocks_not_back,
            round_blocks_pixels,
            round_blocks_turned,
            round_blocks_wrong_blocks,
            round_blocks_without_norm,
        ],
        an_image_and_steps,
    ),
    "01.3": Exercise(
        ssim_terms,
        [
            ssim_terms_second_moments,
            ssim_terms_constants_swapped,
            ssim_terms_without_two,
            ssim_terms_swapped,
        ],
        two_images_and_a_window,
    ),
    "01.4": Exercise(
        ms_ssim,
        [
            ms_ssim_weighted_mean,
            ms_ssim_luminance_everywhere,
            ms_ssim_without_luminance,
            ms_ssim_one_scale,
            ms_ssim_backwards,
        ],
        images_and_terms,
    ),
    "01.5": Exercise(
        ranks, [ranks_order, ranks_ties_broken, ranks_lowest, ranks_from_zero], values_with_ties
    ),
    "01.6": Exercise(
        pairs, [pairs_with_itself, pairs_share, pairs_twice, pairs_weighted], two_orders
    ),
    "01.7": Exercise(
        straightened,
        [straightened_not_fitted, straightened_swapped, straightened_line],
        bent_predictions,
        atol=1e-3,
    ),
    "01.8": Exercise(
        masked_psnr,
        [masked_by_itself, masked_the_other_way, masked_not_normalised],
        two_images_and_a_window,
    ),
    "01.9": Number(gain_from_afar, 0.3, [gain_of_one_blurred]),
    "01.10": Choice(
        "b",
        {
            "a": "Cropping moved every pixel, so the two images do not fit on each other, and PSNR "
            "compares places that show different things.",
            "c": "SSIM compares windows at the same place of both images. It needs them aligned as "
            "much as PSNR does.",
        },
    ),
}
