"""Pooled features of frozen networks, kept on disk, and ridge regressions that make scores of them.

This is the plain form of what CONTRIQUE, Re-IQA and ARNIQA do: features at two scales, and alpha
chosen on the validation part.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from iqa_core import metrics
from iqa_core.data import Dataset
from iqa_core.files import cache_dir, code_hash, progress, read_tensors, stamp, write_tensors
from iqa_core.identity import fingerprint, identity
from iqa_core.inputs import expect_batch, expect_training
from iqa_core.store import RowStore

# Features are computed anew when one of these files changes.
_FEATURE_CODE = [
    Path(__file__).with_name(name)
    for name in ("images.py", "image_colours.py", "image_formats.py", "baselines.py",
                 "features.py", "backbones.py", "reiqa.py", "reiqa_experts.py")
]


def halve(x: Tensor) -> Tensor:
    """Images at half their size, bicubic with antialiasing, as Pillow does it.

    (B, C, H, W) -> (B, C, H // 2, W // 2), each side at least 1.
    """
    size = [max(1, n // 2) for n in x.shape[-2:]]
    return F.interpolate(x, size=size, mode="bicubic", antialias=True)


def moments(maps: Sequence[Tensor]) -> Tensor:
    """Mean and standard deviation over the places of each channel of some maps.

    Args:
        maps: (B, C_i, H_i, W_i).

    Returns:
        (B, 2 (C_1 + C_2 + ...)): means of the first map, its standard deviations, and so on.

    >>> moments([torch.tensor([[[[1.0, 3.0]]]])])
    tensor([[2., 1.]])
    """
    parts = []
    for m in maps:
        mean = m.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        std = (m - mean).square().mean((2, 3)).sqrt()  # (B, C)
        parts += [mean.flatten(1), std]
    return torch.cat(parts, 1)


def pooled(dataset: Dataset, extract: Callable[[Tensor], Tensor], key: str) -> np.ndarray:
    """Features of every image of a dataset, computed once and kept in the cache folder.

    A row is found again by the image's path, size and time of change: all splits share one cache,
    and a replaced image is computed anew. Images go one by one: on a CPU that is faster than
    batches. A run that is killed loses one image. The file's name holds a hash of the code that
    computes the features of this kit's methods; for an `extract` of your own, change `key` when
    you change what it does.

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


def features_and_sizes(
    dataset: Dataset, extract: Callable[[Tensor], Tensor], key: str
) -> tuple[np.ndarray, np.ndarray]:
    """As `pooled`, and from the same cache the (height, width) of every image as read, (N, 2)."""
    root = Path(dataset.root)
    cache_name = f"{root.resolve()} {key} {code_hash(*_FEATURE_CODE)}"
    digest = hashlib.sha256(cache_name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    path = cache_dir() / "features" / f"{dataset.name}-{digest}"
    names = list(dataset.table["image"])
    keys = [f"{name} {stamp(root / name)}" for name in names]
    with RowStore(path) as store:
        missing = [i for i, row_key in enumerate(keys) if row_key not in store]
        for i in progress(missing, f"features of {dataset.name}"):
            x = dataset.image(i)[None]
            row = extract(x)[0].float().cpu()
            if not row.isfinite().all():
                raise ValueError(f"{dataset.name}: a feature of {names[i]} is no number. Look at "
                                 "that image, and at the weights of the method.")
            size = torch.tensor(x.shape[-2:], dtype=torch.float32)
            store.add(keys[i], torch.cat([row, size]).numpy())
        rows = store.rows(keys)
    return rows[:, :-2], rows[:, -2:]


def ridges(
    features: np.ndarray, scores: np.ndarray, alphas: Sequence[float], standardise: bool = True
) -> Iterator[dict]:
    """One ridge regression for each alpha.

        w = argmin |y - Z w|^2 + alpha |w|^2

    where Z are the features, centred or standardised, and y the centred scores.

    Args:
        features, scores: (N, D) and (N,) of the training part.
        alphas: strengths of the penalty.
        standardise: divide each feature by its standard deviation; else it is only centred.

    Yields:
        For each alpha what `ridge_score` needs.

    >>> state = next(ridges(np.arange(4.0)[:, None], np.arange(4.0), [1e-9]))
    >>> ridge_score(np.array([[10.0]]), state).round(6)
    array([10.])
    """
    features = features.astype(np.float64)
    mean = features.mean(0)
    std = np.maximum(features.std(0), 1e-6) if standardise else np.ones(features.shape[1])
    z = (features - mean) / std
    y = scores - scores.mean()
    # w = (Z'Z + alpha)^-1 Z'y = Z'(ZZ' + alpha)^-1 y. The smaller of the two products is taken, and
    # decomposed once for all alphas.
    wide = z.shape[1] > z.shape[0]
    product = z @ z.T if wide else z.T @ z
    values, vectors = np.linalg.eigh(product)
    right = vectors.T @ (y if wide else z.T @ y)
    for alpha in alphas:
        solution = vectors @ (right / (values + alpha))
        w = z.T @ solution if wide else solution
        yield {"mean": mean, "std": std, "alpha": alpha, "w": w, "b": scores.mean()}


def ridge_score(features: np.ndarray, state: dict) -> np.ndarray:
    """Predictions (N,) of a fitted ridge for features (N, D)."""
    return (features - state["mean"]) / state["std"] @ state["w"] + state["b"]


class FeatureMethod:
    """What BRISQUE, the frozen ridge and Re-IQA share: cached features, a regression, a small file.

    A child brings `extract` (images to features), the `key` of its cache, its `settings` (arguments
    of its constructor), `grid` and `default` for the constants of its regression, `_candidates` and
    `_regress`, and `_STATE`, the names of what `_candidates` yields.
    """

    tasks: tuple[str, ...] = ("NR",)  # ("FR",): every image needs its reference
    variant = ""  # what differs from the default settings
    state: dict | None = None  # the fitted arrays and numbers
    _STATE: tuple[str, ...] = ()

    @property
    def identity(self) -> dict[str, str]:
        """`method`, `variant`, and a `hash` of the settings and the weights of the networks."""
        return identity(self.name, self.variant, self.key)

    def fit(self, train: Dataset, val: Dataset | None = None, checkpoint: str | Path | None = None):
        """Fit the regression on `train` alone; `val` only chooses its constants, by SRCC.

        There is no second fit on both parts: the constants were chosen for this one, and ARNIQA's
        protocol has none. Without `val` the constants are `default`. The features are kept as they
        are computed, so no checkpoint is needed: the argument is ignored.

        Returns:
            self.

        Raises:
            DatasetError: an empty part, a score that is no number, or in the full-reference form an
                image without a reference of its size.
        """
        expect_training(train, val, references="FR" in self.tasks)
        constants = [self.default] if val is None else self.grid
        candidates = self._candidates(self._features(train), train.scores, constants)
        if val is None:
            self.state = next(iter(candidates))
            return self
        val_features = self._features(val)
        best = -np.inf
        for state in candidates:
            srcc = metrics.srcc(self._regress(val_features, state), val.scores)
            srcc = np.nan_to_num(srcc, nan=-1)  # NaN: a constant, which must not win
            if srcc > best:
                best = srcc
                self.state = state
        return self

    def score(self, x: Tensor, x_ref: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) in [0, 1], of any float type -> (B,), HIGHER = BETTER.

        It estimates the scores that it was fitted on, by a regression: so it may lie outside of
        their scale. Ignores x_ref.
        """
        state = self._fitted()
        x, _ = expect_batch(x)
        return torch.from_numpy(self._regress(self.extract(x).cpu().numpy(), state)).float()

    def predict(self, dataset: Dataset) -> np.ndarray:
        """Scores (N,) of a whole dataset, HIGHER = BETTER, from cached features."""
        return self._regress(self._features(dataset), self._fitted())

    def _features(self, dataset: Dataset) -> np.ndarray:
        return pooled(dataset, self.extract, self.key)

    def _fitted(self) -> dict:
        if self.state is None:
            raise RuntimeError(f"{self.name} is not fitted: call fit(train, val), or load a fitted "
                               "one.")
        return self.state

    def save(self, path: str | Path) -> None:
        """Write the fitted regression as one small file of tensors, all of it or nothing."""
        state = {
            name: torch.from_numpy(np.asarray(value)) for name, value in self._fitted().items()
        }
        write_tensors(path, {"method": self.name, "key": self.key, "settings": self.settings,
                             "state": state})

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


class FrozenRidge(FeatureMethod):
    """A frozen ImageNet backbone under a ridge regression.

        phi(x) = mean and standard deviation over the positions of every map of the pyramid,
                 at full and at half size
        score(x) = w . z(phi) + b,    w = argmin |y - Z w|^2 + alpha |w|^2

    where z is phi standardised on the training part: what features are worth that never saw a
    score. alpha comes from a geometric grid, chosen by
    SRCC on the validation part. The arguments are those of `backbones.pyramid`; the network must
    take images of any size.

    >>> FrozenRidge(weights="random").extract(torch.rand(1, 3, 64, 64)).shape
    torch.Size([1, 2048])
    """

    name = "frozen ridge"
    _STATE = ("mean", "std", "alpha", "w", "b")
    grid = list(np.geomspace(1, 1e6, 25))
    default = 1e3

    def __init__(self, pyramid_name: str = "tf_efficientnet_lite0", weights: str = "auto"):
        from iqa_core import backbones  # timm takes long to import

        default = "tf_efficientnet_lite0"
        self.variant = "" if pyramid_name == default else f"pyramid_name={pyramid_name}"
        self.settings = {"pyramid_name": pyramid_name, "weights": str(weights)}
        self.pyramid = backbones.pyramid(pyramid_name, weights).requires_grad_(False)
        backbones.expect_any_size(self.pyramid, pyramid_name)
        self.key = f"{pyramid_name} {fingerprint(self.pyramid)} mean std 2 scales 1"
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.pyramid.to(self.device, memory_format=torch.channels_last)  # a quarter faster on a CPU

    @torch.inference_mode()
    def extract(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> features (B, D), D = 4 times the channels of the pyramid."""
        x = x.to(next(self.pyramid.parameters()).device)
        parts = []
        for scale in (x, halve(x)):
            parts.append(moments(self.pyramid(scale.contiguous(memory_format=torch.channels_last))))
        return torch.cat(parts, 1)

    _candidates = staticmethod(ridges)
    _regress = staticmethod(ridge_score)
