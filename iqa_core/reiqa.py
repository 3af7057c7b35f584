"""Re-IQA: two frozen experts look at a picture at two scales, and one ridge regression turns that into a score.

Saha, Mishra, Bovik, Re-IQA: Unsupervised learning for image quality assessment in the wild (CVPR 2023). The
content expert knows what is in a picture, the quality expert (trained in `contrast`) how it is distorted. The
search for alpha is ARNIQA's (github.com/miccunifi/ARNIQA), because Re-IQA's regression was not published.
"""

import dataclasses
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from torch import nn

from iqa_core import backbones, data, metrics
from iqa_core.baselines import (
    FeatureMethod, features_and_sizes, fingerprint, halve, ridge_score, ridges)
from iqa_core.reiqa_pretrain import expert, network
from iqa_core.data import Dataset, expect_same_size
from iqa_core.inputs import expect_batch
from iqa_core.settings import (
    expect_positive, expect_switch, expect_text, expect_words, from_saved, to_save)

ALPHAS = np.geomspace(1e-3, 1e3, 100)
SHIPPED = Path(__file__).with_name("weights") / "reiqa_lite0.pt"


@dataclasses.dataclass(frozen=True)
class ReIQAConfig:
    """Which experts look, at what, and how the regression is chosen."""

    experts: Annotated[str, "paper, or 'content' or 'quality' alone"] = "both"
    content: Annotated[
        str, "ours, the paper has a MoCo-v2 ResNet-50; this one's weights ship"
    ] = "tf_efficientnet_lite0"
    content_weights: Annotated[str, "ours, or the path of a checkpoint"] = "auto"
    quality: Annotated[str, "ours, path of the quality expert; '' = the one that ships"] = ""
    half_scale: Annotated[bool, "paper"] = True
    full_reference: Annotated[bool, "paper, True compares with the reference"] = False
    alpha: Annotated[
        float | None, "ours, None = by SRCC on each validation part; `best_alpha` finds one for all"
    ] = None

    def __post_init__(self):
        expect_words(self, experts=("both", "content", "quality"))
        expect_text(self, "content", "content_weights")
        expect_text(self, "quality", empty=True)
        expect_switch(self, "half_scale", "full_reference")
        if self.alpha is not None:
            expect_positive(self, "alpha")


class ReIQA(FeatureMethod):
    """Re-IQA as a method: phi = [f_q(x), f_q(x/2), f_c(x), f_c(x/2)],  score = w . phi + b.

    f_q and f_c are the pooled features of the quality and the content expert for the whole picture at its own
    size and at half of it; f_c normalises its input, f_q must not. With `full_reference` phi is
    |phi(reference) - phi(picture)|. Only w and b are fitted: w = argmin |y - Phi w|^2 + alpha |w|^2.

    >>> method = ReIQA(ReIQAConfig("content", content_weights="random"))
    >>> method.extract(torch.rand(1, 3, 40, 48)).shape
    torch.Size([1, 2560])
    """

    name = "re-iqa"
    _STATE = ("mean", "std", "alpha", "w", "b")
    grid = list(ALPHAS)
    default = 1.0
    _candidates = staticmethod(partial(ridges, standardise=False))
    _regress = staticmethod(ridge_score)

    def __init__(self, config: ReIQAConfig | dict = ReIQAConfig()):
        self.config = config = ReIQAConfig(**config) if isinstance(config, dict) else config
        self.settings = {"config": to_save(config)}
        self.variant = config.experts + (", full reference" if config.full_reference else "")
        if config.alpha is not None:
            self.grid, self.default = [config.alpha], config.alpha
        self.nets = nn.ModuleDict()
        if config.experts != "content":
            self.nets["quality"] = expert(config.quality or SHIPPED)
        if config.experts != "quality":
            net = network(config.content, config.content_weights)
            self.nets["content"] = nn.Sequential(backbones.Normalise(config.content), net)
            backbones.expect_any_size(net, config.content)
        # each expert has a cache of its own, so that `both` costs nothing where each was tried alone
        self.keys = {name: f"re-iqa {name} {fingerprint(net)} {1 + config.half_scale} scales 1"
                     for name, net in self.nets.items()}
        self.key = ", ".join(self.keys.values())
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.nets.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)

    def extract(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B, D) of images (B, 3, H, W) in [0, 1]; D = experts x scales x width."""
        return torch.cat([self._look(name, x) for name in self.nets], 1)

    @torch.inference_mode()
    def _look(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """What one expert sees: (B, scales x width)."""
        x = x.to(next(self.nets[name].parameters()).device)
        scales = [x, halve(x).clamp(0, 1)] if self.config.half_scale else [x]
        return torch.cat([self.nets[name](s.contiguous(memory_format=torch.channels_last)) for s in scales], 1)

    def score(self, x: torch.Tensor, x_ref: torch.Tensor | None = None) -> torch.Tensor:
        """Images, and maybe references, (B, 3, H, W) in [0, 1] -> (B,), HIGHER = BETTER.

        It is a regression, so scores may lie outside of [0, 1].

        Raises:
            ValueError: no such batches, other sizes, or no reference in the full-reference form.
        """
        state = self._fitted()
        if not self.config.full_reference:
            x_ref = None
        elif x_ref is None:
            raise ValueError("re-iqa with full_reference=True needs the reference: score(x, "
                             "x_ref).")
        x, x_ref = expect_batch(x, x_ref)
        seen = self.extract(x)
        if x_ref is not None:
            seen = (self.extract(x_ref) - seen).abs()
        return torch.from_numpy(self._regress(seen.cpu().numpy(), state)).float()

    @classmethod
    def _from_settings(cls, settings, path: str | Path):
        given = settings if isinstance(settings, dict) else {}
        config = from_saved(ReIQAConfig, given.get("config"), path)
        return super()._from_settings({**given, "config": config}, path)

    def _compares(self) -> bool:
        return self.config.full_reference

    def _cached(self, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Features of all experts (N, D), and the (height, width) of every image, (N, 2)."""
        parts = [features_and_sizes(dataset, partial(self._look, name), key)
                 for name, key in self.keys.items()]
        return np.hstack([seen for seen, _ in parts]), parts[0][1]

    def _features(self, dataset: Dataset) -> np.ndarray:
        seen, sizes = self._cached(dataset)
        if not self.config.full_reference:
            return seen
        for i in range(len(dataset)):
            if not dataset.has_reference(i):
                dataset.reference(i)  # raises, naming the image
        once = dataset.table.drop_duplicates("reference")
        references = dataclasses.replace(dataset, table=once.assign(image=once["reference"]))
        seen_once, sizes_once = self._cached(references)
        row_of = {name: row for row, name in enumerate(once["reference"])}
        rows = [row_of[name] for name in dataset.table["reference"]]
        for i in np.flatnonzero((sizes != sizes_once[rows]).any(1)):
            expect_same_size(dataset, i, sizes[i], sizes_once[rows][i])  # raises, naming both
        return np.abs(seen_once[rows] - seen)


def best_alpha(method: ReIQA, dataset: Dataset, seeds: Iterable[int] = range(10)) -> float:
    """ARNIQA's search: the one alpha with the best median validation SRCC over all splits of a dataset.

    It sees validation parts only. But a picture of one split's validation part is tested on in another: so the
    result is a little flattered, as the published ones are. Use it as `ReIQAConfig(alpha=best_alpha(...))`.
    By default `fit` chooses alpha on its own validation part, which is clean.

    Args:
        method: a method with experts; its own fit is left alone.
        dataset: pictures with scores.
        seeds: seeds of the splits.

    Returns:
        A value of `ALPHAS`.
    """
    found = []
    for seed in seeds:
        train, val, _ = data.splits(dataset, seed)
        seen = method._features(val)
        states = method._candidates(method._features(train), train.scores, ALPHAS)
        found.append([metrics.srcc(method._regress(seen, state), val.scores) for state in states])
    return float(ALPHAS[np.argmax(np.median(np.nan_to_num(found, nan=-1), 0))])
