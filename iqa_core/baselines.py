"""Classical methods that every method here is compared with: PSNR, SSIM, MS-SSIM, and BRISQUE.

BRISQUE: Mittal, Moorthy, Bovik, No-reference image quality assessment in the spatial domain (2012).
The third kind of baseline, a frozen network under a ridge regression, is `features.FrozenRidge`.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist
from torch import Tensor

from iqa_core import images, metrics
from iqa_core.data import Dataset
from iqa_core.features import FeatureMethod, halve
from iqa_core.files import progress
from iqa_core.identity import identity
from iqa_core.inputs import expect_batch, load_pair


# The shape parameters among which BRISQUE looks for the best one.
_SHAPES = torch.arange(0.2, 10.0005, 0.001, dtype=torch.float64)


class FullReference:
    """PSNR, SSIM or MS-SSIM as a method. There is nothing to fit.

    PSNR is taken over R, G and B together. SSIM and MS-SSIM are taken on luma, as in most published
    tables, and SSIM after the down-sampling of its authors' code. Identical images have an infinite
    PSNR; 100 dB stands for it, so that correlations stay defined.

    >>> x = torch.rand(2, 3, 32, 32)
    >>> FullReference("psnr").score(x, x)
    tensor([100., 100.])
    """

    tasks = ("FR",)

    def __init__(self, metric: str = "ssim"):
        if metric not in ("psnr", "ssim", "ms_ssim"):
            raise ValueError(f"{metric!r} is no full-reference baseline; choose 'psnr', 'ssim' or "
                             "'ms_ssim'.")
        self.name = metric

    @property
    def identity(self) -> dict[str, str]:
        """`method`, `variant` and `hash`; nothing about these methods can be changed."""
        return identity(self.name)

    def score(self, x: Tensor, x_ref: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) in [0, 1] of any float type, and its reference -> (B,), HIGHER = BETTER.

        Raises:
            ValueError: no reference, no such batches, other sizes, or images that are too small for
                the metric.
        """
        if x_ref is None:
            raise ValueError(f"{self.name} needs the reference: score(x, x_ref).")
        x, x_ref = expect_batch(x, x_ref)
        if self.name == "psnr":
            return metrics.psnr(x, x_ref).clamp(max=100)
        if self.name == "ssim":
            return metrics.ssim(images.luma(x), images.luma(x_ref), downsample=True)
        return metrics.ms_ssim(images.luma(x), images.luma(x_ref))

    @torch.no_grad()
    def predict(self, dataset: Dataset) -> np.ndarray:
        """Scores (N,) of a whole dataset, HIGHER = BETTER.

        Raises:
            DatasetError: an image without a reference, or with one of another size.
            ValueError: an image that is too small for the metric; it is named.
        """
        scores = np.empty(len(dataset))
        for i in progress(range(len(dataset)), f"{self.name} of {dataset.name}"):
            x, x_ref = load_pair(dataset, i)
            try:
                scores[i] = self.score(x[None], x_ref[None]).item()
            except ValueError as error:
                raise ValueError(f"{dataset.name}: {dataset.table['image'].iloc[i]}: "
                                 f"{error}") from error
        return scores


def mscn(luma: Tensor) -> Tensor:
    """Mean-subtracted, contrast-normalised luma: (B, 1, H, W) in 0..255 -> (B, 1, H, W).

        MSCN = (I - mu) / (sigma + 1),    mu = w * I,    sigma = sqrt(|w * I^2 - mu^2|)

    where w is a Gaussian window of 7 x 7 pixels, sigma 7/6. Beyond the border it sees black, as in
    the authors' code. In a good photograph the result is nearly normally distributed; distortions
    change that.

    >>> mscn(torch.full((1, 1, 9, 9), 99.0))[0, 0, 4, 4].abs() < 1e-3
    tensor(True)
    """
    offsets = torch.arange(-3, 4, dtype=luma.dtype, device=luma.device)
    window = torch.exp(-(offsets**2) / (2 * (7 / 6) ** 2))
    window = (window / window.sum()).expand(2, 1, 1, 7)
    maps = torch.cat([luma, luma * luma], 1)  # (B, 2, H, W)
    maps = F.conv2d(maps, window, padding=(0, 3), groups=2)
    maps = F.conv2d(maps, window.transpose(2, 3), padding=(3, 0), groups=2)
    mu, mean_square = maps.chunk(2, 1)
    sigma = (mean_square - mu * mu).abs().sqrt()
    return (luma - mu) / (sigma + 1)


def _gamma(x: Tensor) -> Tensor:
    return torch.lgamma(x).exp()


def ggd(x: Tensor) -> Tensor:
    """Shape a and variance of a generalised Gaussian, by moments: (B, 1, H, W) -> (B, 2).

        E[x^2] / E[|x|]^2 = G(1/a) G(3/a) / G(2/a)^2,    G the gamma function, solved for a by table

    >>> ggd(torch.randn(1, 1, 400, 400, generator=torch.manual_seed(0))).round(decimals=1)
    tensor([[2., 1.]])
    """
    shapes = _SHAPES.to(x)
    table = _gamma(1 / shapes) * _gamma(3 / shapes) / _gamma(2 / shapes) ** 2
    variance = x.square().mean((2, 3))
    ratio = variance / x.abs().mean((2, 3)).square().clamp(min=1e-12)
    nearest = (ratio - table).abs().argmin(1, keepdim=True)
    return torch.cat([shapes[nearest], variance], 1)


def aggd(x: Tensor) -> Tensor:
    """Shape a, mean, left and right variance of asymmetric generalised Gaussians.

    (B, N, H, W) -> (B, 4 N), by moments:

        left^2 = E[x^2 | x < 0],    right^2 = E[x^2 | x > 0],    g = left / right
        R = E[|x|]^2 / E[x^2] (g^3 + 1) (g + 1) / (g^2 + 1)^2 = G(2/a)^2 / (G(1/a) G(3/a))
        mean = (right - left) G(2/a) / sqrt(G(1/a) G(3/a))

    where G is the gamma function, and the second line is solved for a by table.
    """
    shapes = _SHAPES.to(x)
    table = _gamma(2 / shapes) ** 2 / (_gamma(1 / shapes) * _gamma(3 / shapes))
    below = x.clamp(max=0).square().sum((2, 3))  # (B, N), as all that follows
    above = x.clamp(min=0).square().sum((2, 3))
    left = (below / (x < 0).sum((2, 3)).clamp(min=1)).sqrt()
    right = (above / (x > 0).sum((2, 3)).clamp(min=1)).sqrt()
    g = left / right.clamp(min=1e-12)
    mean_square = ((below + above) / x[0, 0].numel()).clamp(min=1e-12)
    ratio = x.abs().mean((2, 3)).square() / mean_square
    ratio = ratio * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
    a = shapes[(ratio[..., None] - table).abs().argmin(-1)]
    mean = (right - left) * _gamma(2 / a) / (_gamma(1 / a) * _gamma(3 / a)).sqrt()
    return torch.stack([a, mean, left**2, right**2], -1).flatten(1)


@torch.no_grad()
def brisque_features(x: Tensor) -> Tensor:
    """The 36 features of BRISQUE: 18 at full and 18 at half size.

    At each scale: `ggd` of the MSCN map (2 numbers), and `aggd` of the product of that map with
    itself shifted by one pixel to the right, down, and along both diagonals (4 x 4 numbers).

    Args:
        x: (B, 3, H, W) in [0, 1]. Its luma is rounded to 0..255, as in the authors' code.

    Returns:
        (B, 36). A constant image gets finite features.

    Source: Mittal, Moorthy, Bovik (2012), equations 1 to 15.

    >>> brisque_features(torch.rand(2, 3, 32, 48)).shape
    torch.Size([2, 36])
    """
    # float64: where an image is smooth, w * I^2 - mu^2 is a small difference of large numbers
    luma = (255 * images.luma(x).double()).round()
    parts = []
    for _ in range(2):
        normalised = mscn(luma).float()
        shifts = [(0, 1), (1, 0), (1, 1), (-1, 1)]
        neighbours = torch.cat([torch.roll(normalised, shift, (2, 3)) for shift in shifts], 1)
        parts += [ggd(normalised), aggd(normalised * neighbours)]
        luma = halve(luma)
    return torch.cat(parts, 1)


class Brisque(FeatureMethod):
    """BRISQUE trained here: 36 features, scaled to [-1, 1] on the training part, and an SVR.

        score(f) = b + sum_i a_i exp(-gamma |z(f) - z_i|^2)

    C and gamma come from a small grid, chosen by SRCC on the validation part. The tube epsilon is
    0.1 standard deviations of the training scores.

    >>> Brisque().score(torch.rand(1, 3, 32, 32))
    Traceback (most recent call last):
    RuntimeError: brisque is not fitted: call fit(train, val), or load a fitted one.
    """

    name = "brisque"
    key = "brisque features 1"  # in weight files; rises when these features mean something else
    settings: dict = {}
    _STATE = ("low", "span", "C", "gamma", "z", "a", "b")
    grid = [(c, gamma) for c in (4, 16, 64, 256) for gamma in (0.0125, 0.05, 0.2)]
    default = (64, 0.05)
    extract = staticmethod(brisque_features)

    def _candidates(self, features: np.ndarray, scores: np.ndarray, grid: list) -> Iterator[dict]:
        from sklearn.svm import SVR  # takes long to import, and only training needs it

        low = features.min(0)
        span = np.maximum(np.ptp(features, 0), 1e-6)
        z = 2 * (features - low) / span - 1
        centre = scores.mean()
        spread = max(scores.std(), 1e-6)
        for c, gamma in grid:
            svr = SVR(C=c, gamma=gamma, epsilon=0.1)
            svr.fit(z, (scores - centre) / spread)
            yield {
                "low": low,
                "span": span,
                "C": c,
                "gamma": gamma,
                "z": svr.support_vectors_,
                "a": spread * svr.dual_coef_[0],
                "b": centre + spread * svr.intercept_[0],
            }

    @staticmethod
    def _regress(features: np.ndarray, state: dict) -> np.ndarray:
        z = 2 * (features - state["low"]) / state["span"] - 1
        distances = cdist(z, state["z"], "sqeuclidean")  # (N, support vectors)
        return np.exp(-state["gamma"] * distances) @ state["a"] + state["b"]
