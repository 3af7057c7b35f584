"""Metrics that judge predictions (SRCC, KRCC, PLCC, RMSE) and images (PSNR, SSIM, MS-SSIM).

What is judged comes first, the truth second: `srcc(pred, mos)`, `ssim(x, x_ref)`. Signs are kept: a
metric of the wrong direction gets a negative correlation, never its absolute value.

Sources: VQEG, final reports on the validation of objective video quality models (2000, 2003), the
logistic; Wang, Bovik, Sheikh, Simoncelli, Image quality assessment: from error visibility to
structural similarity (2004); Wang, Simoncelli, Bovik, Multiscale structural similarity for image
quality assessment (2003).
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy import optimize, special, stats
from torch import Tensor

from iqa_core.batches import expect_pair


def _array(values, name: str) -> np.ndarray:
    values = values.detach().cpu().double() if isinstance(values, Tensor) else values
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, but has shape {values.shape}: give one "
                         "number for each image, for example with .flatten().")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(f"{name} holds {len(bad)} NaN or infinite values of {len(values)}, first "
                         f"at index {bad[0]}: find what went wrong for that image, or leave it out "
                         "on both sides.")
    return values


def pair(pred, mos) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 arrays (N,), or one clear sentence about what is wrong with them."""
    pred = _array(pred, "pred")
    mos = _array(mos, "mos")
    if len(pred) != len(mos):
        raise ValueError(f"pred has {len(pred)} values and mos has {len(mos)}: give both for "
                         "the same images, in the same order.")
    if len(pred) < 3:
        raise ValueError(f"{len(pred)} images are too few to judge a metric: give at least 3.")
    return pred, mos


def _correlation(function: Callable, pred, mos) -> float:
    # An untrained network may predict a constant. That must not end its training: only warn.
    pred, mos = pair(pred, mos)
    for name, values in (("pred", pred), ("mos", mos)):
        if np.ptp(values) == 0:
            warnings.warn(f"{name} is constant (all {len(values)} values are {values[0]:g}), so "
                          "its correlation is undefined and nan is returned. Check that the "
                          "model is trained.", stacklevel=3)
            return float("nan")
    return float(function(pred, mos).statistic)


def srcc(pred, mos) -> float:
    """Spearman rank correlation: does the metric put the images into the right order?

        SRCC = PLCC(rank(pred), rank(mos))

    Equal values share their average rank: 5, 5, 8 -> 1.5, 1.5, 3.

    Args:
        pred: (N,) predictions, array or tensor, any scale.
        mos: (N,) mean opinion scores, higher = better.

    Returns:
        float in [-1, 1], HIGHER = BETTER, sign kept. NaN and a warning if either side is constant.

    Raises:
        ValueError: NaN or infinite values, unequal lengths, fewer than 3 images, not
            one-dimensional.

    Source: Spearman (1904); scipy.stats.spearmanr.

    >>> srcc([1, 4, 9, 16], [1, 2, 3, 4]), srcc([4, 3, 2, 1], [1, 2, 3, 4])
    (1.0, -1.0)
    >>> round(srcc([5, 5, 8, 9], [1, 2, 3, 4]), 3)  # the tie costs a little: ranks 1.5, 1.5, 3, 4
    0.949
    """
    return _correlation(stats.spearmanr, pred, mos)


def krcc(pred, mos) -> float:
    """Kendall rank correlation (tau-b): share of pairs in the right order minus share in the wrong.

        KRCC = (agreeing - disagreeing pairs) / sqrt(pairs not tied in pred * pairs not tied in mos)

    Args, Returns and Raises: as `srcc`. Source: Kendall (1945); scipy.stats.kendalltau.

    >>> round(krcc([1, 2, 4, 3], [1, 2, 3, 4]), 3)  # 5 of 6 pairs agree, 1 disagrees
    0.667
    """
    return _correlation(stats.kendalltau, pred, mos)


def plcc(pred, mos) -> float:
    """Pearson linear correlation: do predictions and scores lie on one straight line?

        PLCC = cov(pred, mos) / (std(pred) std(mos))

    Args, Returns and Raises: as `srcc`. Source: Pearson (1895); scipy.stats.pearsonr.

    >>> round(plcc([1, 4, 9, 16], [1, 2, 3, 4]), 3)
    0.984
    """
    return _correlation(stats.pearsonr, pred, mos)


def rmse(pred, mos) -> float:
    """Root mean squared error in the units of mos, LOWER = BETTER.

        RMSE = sqrt(mean((pred - mos)^2)),    both on one scale (see `logistic_fit`)

    Args and Raises: as `srcc`.

    >>> rmse([1, 2, 3], [1, 2, 6]) == 3**0.5
    True
    """
    pred, mos = pair(pred, mos)
    return float(np.sqrt(np.mean((pred - mos) ** 2)))


def _no_logistic(pred: np.ndarray, mos: np.ndarray) -> str:
    """Why no increasing logistic can be fitted; "" if one can."""
    if np.ptp(pred) == 0 or np.ptp(mos) == 0:
        return "one side is constant"
    if len(pred) < 5:
        return "4 parameters need at least 5 images"
    return "" if srcc(pred, mos) > 0 else "predictions do not rise with mos"


def logistic_fit(pred, mos) -> Callable[[np.ndarray], np.ndarray]:
    """The increasing logistic curve that maps predictions onto the scale of mos, by least squares.

        f(x) = b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|)),    b1 >= b2

    Raters use the ends of a scale sparingly, so even a perfect metric bends against MOS; VQEG takes
    this bend out before PLCC and RMSE. A falling curve would flatter a metric of the wrong
    direction: none is allowed.

    Once b3 and b4 are chosen, b1 and b2 follow from a line fit in closed form, and the best (b3,
    b4) is where the bent predictions correlate most with mos. The search starts from the best point
    of a grid. The grid holds almost straight curves (large b4), so the result is as good as the
    straight line or better.

    The way out: with fewer than 5 images, constant values, or predictions that do not rise with
    mos (SRCC <= 0), the least-squares line is returned, its slope not below 0, with a warning.

    Args and Raises: as `srcc`. Source: VQEG (2003).

    Returns:
        Callable that maps predictions to the scale of mos and never decreases.

    >>> x = np.linspace(-3, 3, 50)
    >>> f = logistic_fit(x, 1 / (1 + np.exp(-2 * x)))  # b1 = 1, b2 = 0, b3 = 0, b4 = 1/2
    >>> f([0, 0.5]).round(3).tolist()
    [0.5, 0.731]
    """
    pred, mos = pair(pred, mos)
    centre, spread = pred.mean(), pred.std()
    why = _no_logistic(pred, mos)
    if why:
        slope = 0.0
        if "constant" not in why:
            slope = max(0.0, plcc(pred, mos) * mos.std() / spread)
        warnings.warn(f"No logistic was fitted to {len(pred)} images, because {why}: a line of "
                      f"slope {slope:.3g} is used instead. Check the metric's direction, or give "
                      "more images.", stacklevel=2)
        return lambda x: mos.mean() + slope * (np.asarray(x, dtype=np.float64) - centre)

    def curve(x, b):  # the bend alone; predictions get mean 0 and spread 1, so units do not matter
        z = (np.asarray(x, dtype=np.float64) - centre) / spread
        return special.expit((z - b[0]) / np.exp(b[1]))

    def loss(b):
        bent = curve(pred, b)
        return -np.corrcoef(bent, mos)[0, 1] if bent.std() > 1e-9 else 1.0

    # b4 from 1/20 of the spread, almost a step, to 100 spreads, where the curve is almost straight.
    b3_limits = tuple((np.array([pred.min(), pred.max()]) - centre) / spread)
    log_b4_limits = (np.log(0.05), np.log(100))
    grid = [(b3, log_b4)
            for b3 in np.linspace(*b3_limits, 9) for log_b4 in np.linspace(*log_b4_limits, 7)]
    best = optimize.minimize(loss, min(grid, key=loss), method="Nelder-Mead",
                             bounds=[b3_limits, log_b4_limits], tol=1e-6).x
    bent = curve(pred, best)
    rise = np.cov(bent, mos)[0, 1] / np.var(bent, ddof=1)
    return lambda x: mos.mean() + rise * (curve(x, best) - bent.mean())


def plcc_logistic(pred, mos) -> float:
    """PLCC after the logistic fit, the form in which most papers report it.

        PLCC(f(pred), mos),    f = logistic_fit(pred, mos)

    The curve is fitted to the scores that it is judged on. That flatters weak metrics and small
    sets, so report the plain `plcc` beside it.

    Args and Raises: as `srcc`. Source: VQEG (2003).

    Returns:
        float in [-1, 1], HIGHER = BETTER. Where no logistic can be fitted this is the plain PLCC: a
        metric of the wrong direction keeps its negative sign.

    >>> x = np.linspace(-3, 3, 50)
    >>> bent = 1 / (1 + np.exp(-2 * x))
    >>> round(plcc(x, bent), 3), round(plcc_logistic(x, bent), 3)
    (0.964, 1.0)
    """
    pred, mos = pair(pred, mos)
    fitted = pred if _no_logistic(pred, mos) else logistic_fit(pred, mos)(pred)
    return _correlation(stats.pearsonr, fitted, mos)


def bootstrap(
    pred, mos, statistic: Callable = srcc, n: int = 1000, seed: int = 0, groups=None
) -> tuple[float, float]:
    """95 % interval of a statistic: how far would it move if other images had been rated?

        low, high = quantiles 0.025 and 0.975 of the statistic over n resamples

    Images of one content are no independent evidence: give `groups=dataset.table["content"]`, and
    whole contents are drawn. Below about 20 contents the interval is still somewhat too narrow.

    Args:
        pred, mos: (N,), as `srcc`.
        statistic: any function of (pred, mos).
        n, seed: number of resamples and their seed.
        groups: (N,) content of each image; default: each image on its own.

    Returns:
        (low, high). Resamples whose statistic is NaN, because they are constant, are left out.

    Raises:
        ValueError: as `srcc`; groups of another length; fewer than 3 contents.

    Source: Efron (1979); for contents, Field and Welsh, Bootstrapping clustered data (2007).

    >>> mos = np.arange(50.0)
    >>> low, high = bootstrap(np.sin(mos) * 20 + mos, mos)
    >>> low < srcc(np.sin(mos) * 20 + mos, mos) < high
    True
    """
    pred, mos = pair(pred, mos)
    groups = np.arange(len(pred)) if groups is None else np.asarray(groups)
    if groups.shape != pred.shape:
        raise ValueError(f"groups has shape {groups.shape}, pred has {pred.shape}: give one "
                         "content each.")
    content = np.unique(groups, return_inverse=True)[1]
    total = content.max() + 1
    if total < 3:
        raise ValueError(f"The {len(pred)} images have {total} contents: an interval needs at "
                         "least 3.")
    rng = np.random.default_rng(seed)
    values = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(n):
            times = np.bincount(rng.integers(total, size=total), minlength=total)
            # each image as often as its content is drawn
            rows = np.repeat(np.arange(len(pred)), times[content])
            values.append(statistic(pred[rows], mos[rows]))
        low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def psnr(x: Tensor, x_ref: Tensor) -> Tensor:
    """Peak signal-to-noise ratio.

        PSNR = -10 log10(mean((x - x_ref)^2)),    the peak is 1

    Args:
        x: (B, C, H, W) in [0, 1]; for PSNR on luma give `images.luma(x)`, here and in the metrics
            below.
        x_ref: the same shape, the reference.

    Returns:
        (B,) in dB, HIGHER = BETTER. Infinite for identical images; correlations refuse infinite
        values.

    Raises:
        ValueError: wrong or unequal shapes, values outside [0, 1].

    >>> psnr(torch.full((1, 3, 8, 8), 0.6), torch.full((1, 3, 8, 8), 0.5)).round(decimals=3)
    tensor([20.])
    """
    x, x_ref = expect_pair(x, x_ref)
    # mse_loss makes one map, where (x - x_ref) ** 2 makes two: faster
    mse = F.mse_loss(x, x_ref, reduction="none").flatten(1).mean(1)
    return -10 * torch.log10(mse)


def _ssim_terms(x: Tensor, x_ref: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance and contrast-structure term of SSIM, each (B, C, H-10, W-10)."""
    offsets = torch.arange(11, dtype=x.dtype, device=x.device) - 5
    window = torch.softmax(-(offsets**2) / (2 * 1.5**2), 0)  # Gaussian of 11 taps, sigma 1.5, sum 1

    # SSIM needs the two variances only as a sum, so four maps are blurred instead of five, all in
    # one pass.
    maps = torch.cat([x, x_ref, x * x + x_ref * x_ref, x * x_ref], 1)
    n = maps.shape[1]
    if maps.device.type == "cpu":  # twice as fast; CUDA would choose cuDNN with a coarse TF32
        maps = maps.contiguous(memory_format=torch.channels_last)
    with torch.autocast(maps.device.type, enabled=False):
        # separable: 22 taps, not 121
        maps = F.conv2d(maps, window.view(1, 1, 1, 11).expand(n, 1, 1, 11), groups=n)
        maps = F.conv2d(maps, window.view(1, 1, 11, 1).expand(n, 1, 11, 1), groups=n)
    mu, mu_ref, squares, product = maps.chunk(4, 1)

    mu_product = mu * mu_ref
    mu_squares = mu * mu + mu_ref * mu_ref
    c1 = 0.01**2
    c2 = 0.03**2
    # l = (2 mu mu_ref + c1) / (mu^2 + mu_ref^2 + c1)
    luminance = (2 * mu_product + c1) / (mu_squares + c1)
    # cs = (2 sigma_x,ref + c2) / (sigma_x^2 + sigma_ref^2 + c2),    sigma_ab = E[ab] - mu_a mu_b
    structure = (2 * (product - mu_product) + c2) / (squares - mu_squares + c2)
    return luminance, structure


def ssim_map(x: Tensor, x_ref: Tensor) -> Tensor:
    """SSIM at every place where the 11 x 11 window fits: it shows WHERE an image is worse.

        SSIM = l cs,    l = (2 mu mu_ref + c1) / (mu^2 + mu_ref^2 + c1),
        cs = (2 sigma_x,ref + c2) / (sigma_x^2 + sigma_ref^2 + c2),    c1 = 0.01^2, c2 = 0.03^2

    Means mu, variances and covariance are weighted by a Gaussian of sigma 1.5.

    Args and Raises: as `psnr`; H and W at least 11. Source: Wang et al. (2004), equation 13.

    Returns:
        (B, C, H-10, W-10) in [-1, 1], HIGHER = BETTER.

    >>> ssim_map(torch.rand(2, 3, 32, 40), torch.rand(2, 3, 32, 40)).shape
    torch.Size([2, 3, 22, 30])
    """
    luminance, structure = _ssim_terms(*expect_pair(x, x_ref, least=11))
    return luminance * structure


def ssim(x: Tensor, x_ref: Tensor, downsample: bool = False) -> Tensor:
    """Structural similarity: the mean of `ssim_map` over places and channels. Differentiable.

    Args:
        x, x_ref: as `psnr`; H and W at least 11.
        downsample: first average f x f pixels, f = max(1, round(min(H, W) / 256)), as the authors'
            code does to imitate a usual viewing distance. A half is rounded up as there (640
            pixels: f = 3; piq: 2).

    Returns:
        (B,) in [-1, 1], 1 = identical, HIGHER = BETTER.

    Raises:
        ValueError: as `psnr`; images below 11 pixels.

    Source: Wang et al. (2004) and the authors' ssim.m.

    >>> ssim(torch.ones(1, 3, 32, 32), torch.ones(1, 3, 32, 32))
    tensor([1.])
    """
    x, x_ref = expect_pair(x, x_ref, least=11)
    factor = 1
    if downsample:
        factor = max(1, int(min(x.shape[-2:]) / 256 + 0.5))
    return ssim_map(F.avg_pool2d(x, factor), F.avg_pool2d(x_ref, factor)).mean((1, 2, 3))


def ms_ssim(x: Tensor, x_ref: Tensor) -> Tensor:
    """Multi-scale SSIM: structure at five scales, luminance at the coarsest. Differentiable.

        MS-SSIM = mean(l cs)_5^w5 * prod_(j<5) mean(cs)_j^wj
        w = 0.0448, 0.2856, 0.3001, 0.2363, 0.1333

    Each scale is half the one before. A negative mean counts as 0. Odd sizes are padded at the top
    left, as in piq.

    Args and Raises: as `psnr`; H and W at least 161. Source: Wang, Simoncelli, Bovik (2003),
    equation 7.

    Returns:
        (B,) in [0, 1], 1 = identical, HIGHER = BETTER.

    >>> ms_ssim(torch.ones(1, 3, 176, 176), torch.ones(1, 3, 176, 176))
    tensor([1.])
    """
    x, x_ref = expect_pair(x, x_ref, least=161)  # so that the window still fits after four halvings
    result = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale > 0:
            odd = max(x.shape[-2] % 2, x.shape[-1] % 2)
            x = F.avg_pool2d(F.pad(x, (odd, 0, odd, 0), mode="replicate"), 2)
            x_ref = F.avg_pool2d(F.pad(x_ref, (odd, 0, odd, 0), mode="replicate"), 2)
        luminance, structure = _ssim_terms(x, x_ref)
        mean = (luminance * structure if scale == 4 else structure).mean((2, 3))
        # The slope of v^w is infinite at 0. Clamping before the power keeps the gradient finite.
        result = result * mean.clamp(min=1e-8) ** weight * (mean > 0)
    return result.mean(1)
