"""Re-IQA: two frozen experts see an image at two scales; one ridge regression makes a score of it.

Saha, Mishra, Bovik, Re-IQA: Unsupervised learning for image quality assessment in the wild (CVPR
2023). The content expert knows what is in an image, the quality expert (trained in
`reiqa_pretrain`) how it is distorted. The search for alpha is ARNIQA's
(github.com/miccunifi/ARNIQA), because Re-IQA's regression was not published.
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
from iqa_core.data import Dataset, expect_same_size
from iqa_core.features import (
    FeatureMethod, FrozenRidge, features_and_sizes, halve, ridge_score, ridges)
from iqa_core.identity import differences, fingerprint
from iqa_core.inputs import expect_batch
from iqa_core.reiqa_experts import expert, network, read
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
    readout: Annotated[
        str, "paper, 'pyramid' (ours) is mean and standard deviation of the maps of all levels"
    ] = "final"
    standardise: Annotated[
        bool, "code, features as they are and alphas to 1e3; True (ours) is as the frozen ridge"
    ] = False
    alpha: Annotated[
        float | None, "ours, None = by SRCC on each validation part; `best_alpha` finds one for all"
    ] = None

    def __post_init__(self):
        expect_words(self, experts=("both", "content", "quality"), readout=("final", "pyramid"))
        expect_text(self, "content", "content_weights")
        expect_text(self, "quality", empty=True)
        expect_switch(self, "half_scale", "full_reference", "standardise")
        if self.alpha is not None:
            expect_positive(self, "alpha")


class ReIQA(FeatureMethod):
    """Re-IQA as a method: phi = [f_q(x), f_q(x/2), f_c(x), f_c(x/2)],  score = w . phi + b.

    f_q and f_c are the pooled features of the quality and the content expert for the whole image at
    its own size and at half of it; f_c normalises its input, f_q must not. With
    `readout="pyramid"` f_q and f_c are mean and standard deviation of the maps of all levels. With
    `full_reference` phi is |phi(reference) - phi(image)|. Only w and b are fitted:

        w = argmin |y - Phi w|^2 + alpha |w|^2

    where `standardise` divides each feature by its standard deviation on the training part, and
    alpha comes from the wide grid of `FrozenRidge`.

    >>> method = ReIQA(ReIQAConfig("content", content_weights="random"))
    >>> method.extract(torch.rand(1, 3, 40, 48)).shape
    torch.Size([1, 2560])
    """

    name = "re-iqa"
    _STATE = ("mean", "std", "alpha", "w", "b")
    _regress = staticmethod(ridge_score)

    def __init__(self, config: ReIQAConfig | dict = ReIQAConfig()):
        if isinstance(config, dict):
            config = ReIQAConfig(**config)
        self.config = config
        self.settings = {"config": to_save(config)}
        if config.full_reference:
            self.tasks = ("FR",)
        self._candidates = partial(ridges, standardise=config.standardise)
        self.alphas = list(FrozenRidge.grid if config.standardise else ALPHAS)
        self.grid = self.alphas
        self.default = FrozenRidge.default if config.standardise else 1.0
        if config.alpha is not None:
            self.grid = [config.alpha]
            self.default = config.alpha
        self.nets = nn.ModuleDict()
        if config.experts != "content":
            as_it_is = nn.Identity()  # the quality expert learnt from images in [0, 1]
            self.nets["quality"] = nn.Sequential(as_it_is, expert(config.quality or SHIPPED))
        if config.experts != "quality":
            net = network(config.content, config.content_weights)
            self.nets["content"] = nn.Sequential(backbones.Normalise(config.content), net)
            backbones.expect_any_size(net, config.content)
        for _, net in self.nets.values():
            if config.readout == "pyramid" and not hasattr(net, "forward_intermediates"):
                raise ValueError(f"{type(net).__name__} does not give the maps of its levels: set "
                                 "readout='final', or take another network, such as resnet50.")
        # each expert has a cache of its own, with both readouts, so that `both` costs nothing where
        # each was tried alone
        scales = 2 if config.half_scale else 1
        self.keys = {
            name: f"re-iqa {name} {fingerprint(net)} {scales} scales 1"
            for name, net in self.nets.items()
        }
        readouts = [] if config.readout == "final" else [config.readout]
        self.key = ", ".join([*self.keys.values(), *readouts])
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.nets.eval().requires_grad_(False)
        self.nets.to(self.device, memory_format=torch.channels_last)

    @property
    def variant(self) -> str:
        """The settings that are not the usual ones, files by their names; "" if all are usual."""
        named = dataclasses.replace(
            self.config,
            quality=Path(self.config.quality).name,
            content_weights=Path(self.config.content_weights).name,
        )
        return differences(named, ReIQAConfig())

    def extract(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B, D) of images (B, 3, H, W) in [0, 1]; D = experts x scales x width."""
        return torch.cat([self._chosen(name, self._look(name, x)) for name in self.nets], 1)

    @torch.inference_mode()
    def _look(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """What one expert gives: the final features of all scales, then those of the pyramid."""
        normalise, net = self.nets[name]
        x = x.to(next(net.parameters()).device)
        scales = [x]
        if self.config.half_scale:
            scales.append(halve(x).clamp(0, 1))
        looks = []
        for scale in scales:
            seen = normalise(scale).contiguous(memory_format=torch.channels_last)
            looks.append(read(net, seen))
        final, pyramid = zip(*looks)
        return torch.cat([*final, *pyramid], 1)

    def _chosen(self, name: str, look):
        """The columns of the readout that the config asks for, of a tensor or an array (B, D)."""
        finals = self.nets[name][1].head_hidden_size * (2 if self.config.half_scale else 1)
        return look[:, :finals] if self.config.readout == "final" else look[:, finals:]

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
        features = self.extract(x)
        if x_ref is not None:
            features = (self.extract(x_ref) - features).abs()
        return torch.from_numpy(self._regress(features.cpu().numpy(), state)).float()

    @classmethod
    def _from_settings(cls, settings, path: str | Path):
        settings = settings if isinstance(settings, dict) else {}
        config = from_saved(ReIQAConfig, settings.get("config"), path)
        return super()._from_settings({**settings, "config": config}, path)

    def _cached(self, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Features of all experts (N, D), and the (height, width) of every image, (N, 2)."""
        parts = []
        for name, key in self.keys.items():
            looks, sizes = features_and_sizes(dataset, partial(self._look, name), key)
            parts.append(self._chosen(name, looks))
        return np.hstack(parts), sizes

    def _features(self, dataset: Dataset) -> np.ndarray:
        features, sizes = self._cached(dataset)
        if not self.config.full_reference:
            return features
        for i in range(len(dataset)):
            if not dataset.has_reference(i):
                dataset.reference(i)  # raises, naming the image
        once = dataset.table.drop_duplicates("reference")
        references = dataclasses.replace(dataset, table=once.assign(image=once["reference"]))
        ref_features, ref_sizes = self._cached(references)
        row_of = {name: row for row, name in enumerate(once["reference"])}
        rows = [row_of[name] for name in dataset.table["reference"]]
        for i in np.flatnonzero((sizes != ref_sizes[rows]).any(1)):
            expect_same_size(dataset, i, sizes[i], ref_sizes[rows][i])  # raises, naming both
        return np.abs(ref_features[rows] - features)


def best_alpha(method: ReIQA, dataset: Dataset, seeds: Iterable[int] = range(10)) -> float:
    """ARNIQA's search: the alpha with the best median validation SRCC over all splits of a dataset.

    It sees validation parts only. But an image of one split's validation part is tested on in
    another: so the result is a little flattered, as the published ones are. Use it as
    `ReIQAConfig(alpha=best_alpha(...))`. By default `fit` chooses alpha on its own validation part,
    which is clean.

    Args:
        method: a method with experts; its own fit is left alone.
        dataset: images with scores.
        seeds: seeds of the splits.

    Returns:
        One of the method's alphas: of `ALPHAS`, or with `standardise` of `FrozenRidge.grid`.
    """
    srcc = []  # (seeds, alphas)
    for seed in seeds:
        train, val, _ = data.splits(dataset, seed)
        features = method._features(val)
        states = method._candidates(method._features(train), train.scores, method.alphas)
        predictions = [method._regress(features, state) for state in states]
        srcc.append([metrics.srcc(pred, val.scores) for pred in predictions])
    median = np.median(np.nan_to_num(srcc, nan=-1), 0)
    return float(method.alphas[np.argmax(median)])
