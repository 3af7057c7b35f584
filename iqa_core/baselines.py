"""The baselines that every method here must beat, and the feature cache that makes them quick.

Full reference: PSNR, SSIM, MS-SSIM. No reference: BRISQUE (Mittal, Moorthy, Bovik, No-reference image quality
assessment in the spatial domain, 2012), and a frozen ImageNet backbone under a ridge regression, the plain
form of what CONTRIQUE, Re-IQA and ARNIQA do: features at two scales, alpha chosen on the validation part.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist
from sklearn.svm import SVR

from iqa_core import backbones, images, metrics
from iqa_core.data import Dataset
from iqa_core.files import Kept, cache_dir, code_hash, progress, read_tensors, stamp, write_tensors
from iqa_core.inputs import expect_batch, expect_training, load_pair

# Whatever a method's features depend on: they are computed anew when one of these files changes.
_FEATURE_CODE = [
    Path(__file__).with_name(name)
    for name in ("images.py", "baselines.py", "backbones.py", "contrast.py", "reiqa.py")]
_SHAPES = torch.arange(0.2, 10.0005, 0.001, dtype=torch.float64)  # shape parameters that BRISQUE chooses from


def _gamma(x: torch.Tensor) -> torch.Tensor:
    return torch.lgamma(x).exp()


class FullReference:
    """PSNR, SSIM or MS-SSIM as a method. There is nothing to fit.

    PSNR is taken over R, G and B together. SSIM and MS-SSIM are taken on luma, as in most published tables,
    and SSIM after the down-sampling of its authors' code. Identical pictures have an infinite PSNR; 100 dB
    stands for it, so that correlations stay defined.

    >>> x = torch.rand(2, 3, 32, 32)
    >>> FullReference("psnr").score(x, x)
    tensor([100., 100.])
    """

    def __init__(self, metric: str = "ssim"):
        if metric not in ("psnr", "ssim", "ms_ssim"):
            raise ValueError(f"{metric!r} is no full-reference baseline; choose 'psnr', 'ssim' or 'ms_ssim'.")
        self.name = metric

    def score(self, x: torch.Tensor, x_ref: torch.Tensor | None = None) -> torch.Tensor:
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


def halve(x: torch.Tensor) -> torch.Tensor:
    """Half the size, bicubic with antialiasing, as Pillow does it: (B, C, H, W) -> (B, C, H // 2, W // 2)."""
    return F.interpolate(x, size=[max(1, n // 2) for n in x.shape[-2:]], mode="bicubic", antialias=True)


def features(dataset: Dataset, extract: Callable[[torch.Tensor], torch.Tensor], key: str) -> np.ndarray:
    """Features of every image of a dataset, computed once an image and kept in the cache folder.

    A row is found again by the image's path, size and time of change: all splits share one cache,
    and a replaced image is computed anew. Images go one by one: on a CPU that is faster than
    batches. The file is written every minute, so a run that is killed loses no more. Its name holds
    a hash of the code that computes the features of this kit's methods; for an `extract` of your
    own, change `key` when you change what it does.

    Args:
        dataset: any dataset.
        extract: (1, 3, H, W) in [0, 1] -> (1, D).
        key: names what `extract` does. Another key is another cache.

    Returns:
        (N, D) float32, in the order of the table.

    Raises:
        ImageError: an image that cannot be read. What was computed before it is kept.
        ValueError: a feature that is no number; the image is named.
    """
    return features_and_sizes(dataset, extract, key)[0]


def features_and_sizes(dataset: Dataset, extract: Callable[[torch.Tensor], torch.Tensor], key: str
                       ) -> tuple[np.ndarray, np.ndarray]:
    """As `features`, and from the same cache the (height, width) of every image as read, (N, 2)."""
    named = f"{Path(dataset.root).resolve()} {key} {code_hash(*_FEATURE_CODE)}"
    digest = hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    path = cache_dir() / "features" / f"{dataset.name}-{digest}.pt"
    names = list(dataset.table["image"])
    keys = [f"{name} {stamp(Path(dataset.root) / name)}" for name in names]
    with Kept(path) as known:
        missing = [i for i, row_key in enumerate(keys) if row_key not in known]
        for i in progress(missing, f"features of {dataset.name}"):
            x = dataset.image(i)[None]
            found = extract(x)[0].float().cpu()
            if not found.isfinite().all():
                raise ValueError(f"{dataset.name}: a feature of {names[i]} is no number. Look at "
                                 "that image, and at the weights of the method.")
            known[keys[i]] = torch.cat([found, torch.tensor(x.shape[-2:], dtype=torch.float32)])
    rows = torch.stack([known[row_key] for row_key in keys]).numpy()
    return rows[:, :-2], rows[:, -2:]


class FeatureMethod:
    """What BRISQUE, the frozen backbone and Re-IQA share: features from the cache, a regression, and one small file.

    A child brings `extract` (images to features), the `key` of its cache, its `settings` (arguments
    of its constructor), `grid` and `default` for the constants of its regression, `_candidates` and
    `_regress`, and `_STATE`, the names of what `_candidates` yields.
    """

    _STATE: tuple[str, ...] = ()
    state: dict | None = None  # the fitted arrays and numbers

    def fit(self, train: Dataset, val: Dataset | None = None):
        """Fit the regression on `train` alone; `val` only chooses its constants, by SRCC. Returns self.

        There is no second fit on both parts: the constants were chosen for this one, and ARNIQA's protocol
        has none. Without `val` the constants are `default`.

        Raises:
            DatasetError: an empty part, a score that is no number, or in the full-reference form an
                image without a reference of its size.
        """
        expect_training(train, val, references=self._compares())
        constants = [self.default] if val is None else self.grid
        candidates = self._candidates(self._features(train), train.scores, constants)
        if val is None:
            self.state = next(iter(candidates))
            return self
        judged = self._features(val)
        best = -np.inf
        for state in candidates:
            srcc = metrics.srcc(self._regress(judged, state), val.scores)
            srcc = np.nan_to_num(srcc, nan=-1)  # NaN: a constant, which must not win
            if srcc > best:
                best, self.state = srcc, state
        return self

    def score(self, x: torch.Tensor, x_ref: torch.Tensor | None = None) -> torch.Tensor:
        """(B, 3, H, W) in [0, 1], of any float type -> (B,), HIGHER = BETTER.

        It estimates the scores that it was fitted on, by a regression: so it may lie outside of
        their scale. Ignores x_ref.
        """
        state = self._fitted()
        x, _ = expect_batch(x)
        return torch.from_numpy(self._regress(self.extract(x).cpu().numpy(), state)).float()

    def predict(self, dataset: Dataset) -> np.ndarray:
        """Scores (N,) of a whole dataset, HIGHER = BETTER. As `score`, but from the feature cache."""
        return self._regress(self._features(dataset), self._fitted())

    def _compares(self) -> bool:
        """Does it need a reference for every image?"""
        return False

    def _features(self, dataset: Dataset) -> np.ndarray:
        return features(dataset, self.extract, self.key)

    def _fitted(self) -> dict:
        if self.state is None:
            raise RuntimeError(f"{self.name} is not fitted: call fit(train, val), or load a fitted one.")
        return self.state

    def save(self, path: str | Path) -> None:
        """Write the fitted regression as one small file of tensors, all of it or nothing."""
        state = {name: torch.from_numpy(np.asarray(value)) for name, value in self._fitted().items()}
        write_tensors(path, {"method": self.name, "key": self.key, "settings": self.settings, "state": state})

    @classmethod
    def load(cls, path: str | Path):
        """Read what `save` wrote.

        Raises:
            ValueError: the file is damaged, another method's, of another version of this kit, or
                was fitted on a backbone with other weights than it has now.
        """
        saved = read_tensors(path, cls.name)
        method = cls._from_settings(saved.get("settings"), path)
        if method.key != saved.get("key"):
            raise ValueError(f"{path}: was fitted on {saved.get('key')!r}, but this {cls.__name__} "
                             f"computes {method.key!r}. Fit it again, or use the same weights.")
        method.state = cls._checked_state(saved.get("state"), path)
        return method

    @classmethod
    def _from_settings(cls, settings, path: str | Path):
        """A method that is not fitted, from the arguments in a file."""
        try:
            return cls(**settings)
        except TypeError as error:
            raise ValueError(f"{path}: its settings are not those of this {cls.__name__} "
                             f"({error}). Fit it again, or load it with the version of this kit "
                             "that wrote it.") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def _checked_state(cls, state, path: str | Path) -> dict[str, np.ndarray]:
        """The fitted arrays in a file, after a look whether they go together."""
        remedy = "Fit it again, or load it with the version of this kit that wrote it."
        if not isinstance(state, dict) or set(state) != set(cls._STATE):
            has = ", ".join(map(str, state)) if isinstance(state, dict) else "nothing"
            raise ValueError(f"{path}: a fitted {cls.name} holds {', '.join(cls._STATE)}, but this "
                             f"file holds {has}. {remedy}")
        try:
            arrays = {name: value.numpy() for name, value in state.items()}
            zero = np.zeros((1, len(arrays[cls._STATE[0]])), dtype=np.float32)
            fits = cls._regress(zero, arrays).shape == (1,)
            fits = fits and all(np.isfinite(array).all() for array in arrays.values())
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: its numbers do not go together ({error}). "
                             f"{remedy}") from error
        if not fits:
            raise ValueError(f"{path}: its numbers do not go together. {remedy}")
        return arrays


def mscn(luma: torch.Tensor) -> torch.Tensor:
    """Mean-subtracted, contrast-normalised luma: (B, 1, H, W) in 0..255 -> (B, 1, H, W).

        MSCN = (I - mu) / (sigma + 1),    mu = w * I,    sigma = sqrt(|w * I^2 - mu^2|)

    where w is a Gaussian window of 7 x 7 pixels, sigma 7/6. Beyond the border it sees black, as in the
    authors' code. In a good photograph the result is nearly normally distributed; distortions change that.

    >>> mscn(torch.full((1, 1, 9, 9), 99.0))[0, 0, 4, 4].abs() < 1e-3
    tensor(True)
    """
    offsets = torch.arange(-3, 4, dtype=luma.dtype, device=luma.device)
    window = torch.exp(-(offsets**2) / (2 * (7 / 6) ** 2))
    window = (window / window.sum()).expand(2, 1, 1, 7)
    maps = F.conv2d(torch.cat([luma, luma * luma], 1), window, padding=(0, 3), groups=2)
    mu, mean_square = F.conv2d(maps, window.transpose(2, 3), padding=(3, 0), groups=2).chunk(2, 1)
    return (luma - mu) / ((mean_square - mu * mu).abs().sqrt() + 1)


def ggd(x: torch.Tensor) -> torch.Tensor:
    """Shape a and variance of a generalised Gaussian, by moments: (B, 1, H, W) -> (B, 2).

        E[x^2] / E[|x|]^2 = G(1/a) G(3/a) / G(2/a)^2,    G the gamma function, solved for a by table

    >>> ggd(torch.randn(1, 1, 400, 400, generator=torch.manual_seed(0))).round(decimals=1)  # Gaussian: a = 2
    tensor([[2., 1.]])
    """
    shapes = _SHAPES.to(x)
    table = _gamma(1 / shapes) * _gamma(3 / shapes) / _gamma(2 / shapes) ** 2
    variance = x.square().mean((2, 3))
    ratio = variance / x.abs().mean((2, 3)).square().clamp(min=1e-12)
    return torch.cat([shapes[(ratio - table).abs().argmin(1, keepdim=True)], variance], 1)


def aggd(x: torch.Tensor) -> torch.Tensor:
    """Shape a, mean, left and right variance of asymmetric generalised Gaussians: (B, N, H, W) -> (B, 4 N).

        left^2 = E[x^2 | x < 0],    right^2 = E[x^2 | x > 0],    g = left / right
        R = E[|x|]^2 / E[x^2] (g^3 + 1) (g + 1) / (g^2 + 1)^2 = G(2/a)^2 / (G(1/a) G(3/a)), solved for a
        mean = (right - left) G(2/a) / sqrt(G(1/a) G(3/a))
    """
    shapes = _SHAPES.to(x)
    table = _gamma(2 / shapes) ** 2 / (_gamma(1 / shapes) * _gamma(3 / shapes))
    below, above = x.clamp(max=0).square().sum((2, 3)), x.clamp(min=0).square().sum((2, 3))
    left = (below / (x < 0).sum((2, 3)).clamp(min=1)).sqrt()
    right = (above / (x > 0).sum((2, 3)).clamp(min=1)).sqrt()
    g = left / right.clamp(min=1e-12)
    mean_square = ((below + above) / x[0, 0].numel()).clamp(min=1e-12)
    ratio = x.abs().mean((2, 3)).square() / mean_square * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
    a = shapes[(ratio[..., None] - table).abs().argmin(-1)]
    mean = (right - left) * _gamma(2 / a) / (_gamma(1 / a) * _gamma(3 / a)).sqrt()
    return torch.stack([a, mean, left**2, right**2], -1).flatten(1)


@torch.no_grad()
def brisque_features(x: torch.Tensor) -> torch.Tensor:
    """The 36 features of BRISQUE: 18 at full and 18 at half size.

    At each scale: `ggd` of the MSCN map (2 numbers), and `aggd` of the product of that map with itself
    shifted by one pixel to the right, down, and along both diagonals (4 x 4 numbers).

    Args:
        x: (B, 3, H, W) in [0, 1]. Its luma is rounded to 0..255, as in the authors' code.

    Returns:
        (B, 36). A constant picture gets finite features.

    Source: Mittal, Moorthy, Bovik (2012), equations 1 to 15.

    >>> brisque_features(torch.rand(2, 3, 32, 48)).shape
    torch.Size([2, 36])
    """
    # float64: where a picture is smooth, w * I^2 - mu^2 is a small difference of large numbers
    luma = (255 * images.luma(x).double()).round()
    found = []
    for _ in range(2):
        n = mscn(luma).float()
        shifted = [torch.roll(n, shift, (2, 3)) for shift in ((0, 1), (1, 0), (1, 1), (-1, 1))]
        found += [ggd(n), aggd(n * torch.cat(shifted, 1))]
        luma = halve(luma)
    return torch.cat(found, 1)


class Brisque(FeatureMethod):
    """BRISQUE trained here: 36 features, scaled to [-1, 1] on the training part, and support vectors.

        score(f) = b + sum_i a_i exp(-gamma |z(f) - z_i|^2)

    C and gamma come from a small grid, chosen by SRCC on the validation part. The tube epsilon is 0.1
    standard deviations of the training scores.

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

    def _candidates(self, found: np.ndarray, scores: np.ndarray, grid: list) -> Iterator[dict]:
        low = found.min(0)
        span = np.maximum(np.ptp(found, 0), 1e-6)
        centre = scores.mean()
        spread = max(scores.std(), 1e-6)
        for c, gamma in grid:
            svr = SVR(C=c, gamma=gamma, epsilon=0.1)
            svr.fit(2 * (found - low) / span - 1, (scores - centre) / spread)
            yield {"low": low, "span": span, "C": c, "gamma": gamma, "z": svr.support_vectors_,
                   "a": spread * svr.dual_coef_[0], "b": centre + spread * svr.intercept_[0]}

    @staticmethod
    def _regress(found: np.ndarray, state: dict) -> np.ndarray:
        z = 2 * (found - state["low"]) / state["span"] - 1
        return np.exp(-state["gamma"] * cdist(z, state["z"], "sqeuclidean")) @ state["a"] + state["b"]


def fingerprint(net: torch.nn.Module) -> str:
    """A network's weights in 12 letters. They name its cache: two networks must never share features."""
    tensors = b"".join(t.cpu().numpy().tobytes() for t in net.state_dict().values())
    return hashlib.sha256(tensors).hexdigest()[:12]


def ridges(found: np.ndarray, scores: np.ndarray, alphas: Sequence[float], standardise: bool = True) -> Iterator[dict]:
    """One ridge regression an alpha: w = argmin |y - Z w|^2 + alpha |w|^2, Z the centred or standardised features.

    Args:
        found, scores: features (N, D) and scores (N,) of the training part.
        alphas: strengths of the penalty.

    Yields:
        For each alpha what `ridge_score` needs.

    >>> state = next(ridges(np.arange(4.0)[:, None], np.arange(4.0), [1e-9]))
    >>> ridge_score(np.array([[10.0]]), state).round(6)
    array([10.])
    """
    found = found.astype(np.float64)
    mean, std = found.mean(0), np.maximum(found.std(0), 1e-6) if standardise else np.ones(found.shape[1])
    z, y = (found - mean) / std, scores - scores.mean()
    # w = (Z'Z + alpha)^-1 Z'y = Z'(ZZ' + alpha)^-1 y: the smaller product, decomposed once for all alphas
    wide = z.shape[1] > z.shape[0]
    values, vectors = np.linalg.eigh(z @ z.T if wide else z.T @ z)
    right = vectors.T @ (y if wide else z.T @ y)
    for alpha in alphas:
        w = vectors @ (right / (values + alpha))
        yield {"mean": mean, "std": std, "alpha": alpha, "w": z.T @ w if wide else w, "b": scores.mean()}


def ridge_score(found: np.ndarray, state: dict) -> np.ndarray:
    """Predictions (N,) of a fitted ridge for features (N, D)."""
    return (found - state["mean"]) / state["std"] @ state["w"] + state["b"]


class FrozenRidge(FeatureMethod):
    """A frozen ImageNet backbone under a ridge regression: what features are worth that never saw a score.

        phi(x) = mean and standard deviation over positions of every map of the pyramid, at full and half size
        score(x) = w . z(phi) + b,    w = argmin |y - Z w|^2 + alpha |w|^2,    z: phi standardised on train

    alpha comes from a geometric grid, chosen by SRCC on the validation part. The arguments are those of
    `backbones.pyramid`; the network must take images of any size.

    >>> FrozenRidge(weights="random").extract(torch.rand(1, 3, 64, 64)).shape
    torch.Size([1, 2048])
    """

    name = "frozen ridge"
    _STATE = ("mean", "std", "alpha", "w", "b")
    grid = list(np.geomspace(1, 1e6, 25))
    default = 1e3

    def __init__(self, pyramid_name: str = "tf_efficientnet_lite0", weights: str = "auto"):
        self.variant = pyramid_name
        self.settings = {"pyramid_name": pyramid_name, "weights": str(weights)}
        self.pyramid = backbones.pyramid(pyramid_name, weights).requires_grad_(False)
        backbones.expect_any_size(self.pyramid, pyramid_name)
        self.key = f"{pyramid_name} {fingerprint(self.pyramid)} mean std 2 scales 1"
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.pyramid.to(self.device, memory_format=torch.channels_last)  # a quarter faster on a CPU

    @torch.inference_mode()
    def extract(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [0, 1] -> features (B, D), D = 4 times the channels of the pyramid."""
        x = x.to(next(self.pyramid.parameters()).device)
        found = []
        for scale in (x, halve(x)):
            for m in self.pyramid(scale.contiguous(memory_format=torch.channels_last)):
                mean = m.mean((2, 3), keepdim=True)
                found += [mean.flatten(1), (m - mean).square().mean((2, 3)).sqrt()]
        return torch.cat(found, 1)

    _candidates = staticmethod(ridges)
    _regress = staticmethod(ridge_score)
