"""DRI-IQA: two vectors of an image, its quality and its degradation, and a restoration network that
helps to judge it.

Yue, Lin, Yang, Ren, Dual-Representation Interaction Driven Image Quality Assessment with
Restoration Assistance (WACV 2025, arXiv 2411.17390). The official repository holds no code, and of
the paper only abstract, introduction and figure captions were at hand. So this is a RECONSTRUCTION:
faithful to the structure that these state (`paper`); everything else is `ours`, in the style of
DASR, Restormer and MANIQA. Its settings: `dri_config`; its parts: `dri_extractor`, `dri_restorer`,
`dri_predictor`; the trainings before the scores come: `dri_stages`; the RS loss: `dri_losses`.
"""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqa_core import frozen_maps
from iqa_core.data import Dataset, DatasetError
from iqa_core.dri_config import AUTHENTIC, QUICK, SMOKE, DRIConfig
from iqa_core.dri_losses import align, interact, ratio
from iqa_core.dri_predictor import Predictor
from iqa_core.dri_stages import (
    UNDONE, build, extractor_stage, learned_from, parts_file, pristine, reserved, restorer_stage,
    save_parts, train_extractor, train_restorer)
from iqa_core.encoders import Encoder, Standardise, freeze_batch_norms
from iqa_core.frozen_maps import FrozenMaps
from iqa_core.identity import identity
from iqa_core.inputs import expect_batch
from iqa_core.method import Method
from iqa_core.reiqa_pretrain import Uint8Images, about
from iqa_core.train import Stage, parameter_groups, warmup_cosine
from iqa_core.yoto import fidelity

__all__ = ["DRIConfig", "QUICK", "AUTHENTIC", "SMOKE", "Network", "Views", "DRIIQA", "UNDONE",
           "pristine", "save_parts", "train_extractor", "train_restorer", "align", "interact",
           "ratio"]


class Views(nn.Module):
    """What encoder, extractor and restorer make of an image, as one list of maps.

        maps of the encoder                       4, or the image itself without an encoder
        q, g                                      (B, length, 1, 1)
        maps of x_res - maps of x                 4, or |x_res - x| without an encoder
        maps of the restorer                      4

    The second line needs an extractor, the others a restorer. With networks that do not learn this
    list is all that a predictor looks at: so it can be computed once, by `frozen_maps.compute`.

    Args:
        encoder, extractor, restorer: None for what is not there.
    """

    def __init__(self, encoder: Encoder | None, extractor: nn.Module | None,
                 restorer: nn.Module | None):
        super().__init__()
        self.encoder = encoder
        self.extractor = extractor
        self.restorer = restorer

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.and_restored(x)[0]

    def and_restored(self, x: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """The list, and the restored images."""
        maps = [x] if self.encoder is None else self.encoder(x)
        if self.extractor is None:
            return maps, None
        q, g, guides = self.extractor(x)
        views = [*maps, q[..., None, None], g[..., None, None]]
        if self.restorer is None:
            return views, None
        restored, restorer_maps = self.restorer(x, g, guides)
        if self.encoder is None:
            return [*views, (restored - x).abs(), *restorer_maps], restored
        changed = self.encoder(restored.clamp(0, 1))
        size = [max(maps[1].shape[-2:])] * 2
        small = [F.adaptive_avg_pool2d(m, [min(n, most) for n, most in zip(m.shape[-2:], size)])
                 for m in restorer_maps]
        return [*views, *(after - before for after, before in zip(changed, maps)), *small], restored


class Network(nn.Module):
    """The network behind `DRIIQA`: (B, 3, H, W) in [0, 1], sides multiples of 32 -> (B,), HIGHER =
    BETTER.

    Args:
        config: sizes and parts.
        encoder: of the predictor, a module of your own with `channels` and `strides` 4, 8, 16, 32;
            default: `config.encoder`.

    Attributes:
        extractor, restorer: None where the config does without them.
        encoder, standardise: of the predictor; None where it looks at the image itself.

    Raises:
        ValueError: a trunk or an encoder with other strides than are needed, or one that does not
            take crop or patch.

    >>> net = Network(DRIConfig(trunk=(4, 8, 16, 32), width=16, crop=64))
    >>> net(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2])
    """

    def __init__(self, config: DRIConfig, encoder: nn.Module | None = None):
        super().__init__()
        self.config = c = config
        self.extractor, self.restorer = build(c) if c.has_extractor else (None, None)
        length = self.extractor.length if c.has_extractor else 0
        self.encoder = None
        self.standardise = None
        channels, side = [], c.crop // 8
        restorer = self.restorer.channels if c.assist else []
        if c.encoder or encoder is not None:
            self.encoder = Encoder(encoder or c.encoder, c.weights, side=c.side, spread=c.spread,
                                   frozen=c.frozen)
            strides = self.encoder.strides
            if strides != [4, 8, 16, 32]:
                raise ValueError(f"{self.encoder.name} has maps of strides {strides}; the "
                                 "predictor needs 4, 8, 16 and 32. Take resnet50, "
                                 "swin_tiny_patch4_window7_224 or tf_efficientnet_lite0.")
            self.encoder.expect_crop(c.crop)
            channels, side = self.encoder.channels, self.encoder.grids(c.crop)[1]
            of_views = [*channels, *[length] * (2 * c.has_extractor)]
            self.standardise = Standardise([*of_views, *(channels + restorer) * c.assist])
        vectors = [length] * (c.quality + c.degradation)
        self.predictor = Predictor(c.width, side, vectors, channels, restorer, c.interaction,
                                   c.readout)
        self.align_projections = None  # serve the RS loss alone, and so does the next one
        self.interact_line = None
        if "align" in c.rs_parts:
            self.align_projections = nn.ModuleList(
                nn.Linear(c.width // 2, length) for _ in range(2))
        if "interact" in c.rs_parts:
            self.interact_line = nn.Linear(length, 1, bias=False)

    def train(self, mode: bool = True) -> Self:
        """As usual, but batch norms keep their statistics."""
        super().train(mode)
        if self.extractor is not None:
            freeze_batch_norms(self.extractor)
        return self

    @property
    def views(self) -> Views:
        """What the predictor looks at."""
        return Views(self.encoder, self.extractor, self.restorer)

    def judged(self, views: list[Tensor]) -> tuple[Tensor, list[Tensor], Tensor]:
        """`Views` -> scores (B,), [q, g] or [], and the predictor's pooled features."""
        c = self.config
        if self.standardise is not None:
            views = self.standardise(views)
        count = 1 if self.encoder is None else 4
        maps, rest = views[:count], views[count:]
        both = [vector.flatten(1) for vector in rest[:2]]  # q and g
        change, restorer_maps = rest[2:2 + count], rest[2 + count:]
        used = both[:1] * c.quality + both[1:] * c.degradation
        score, features = self.predictor(maps, used, change, restorer_maps)
        return score, both, features

    def everything(self, x: Tensor
                   ) -> tuple[Tensor, Tensor | None, list[Tensor], Tensor]:
        """Scores (B,) of images (B, 3, H, W), the restored images, [q, g], and the predictor's
        pooled features."""
        views, restored = self.views.and_restored(x)
        score, vectors, features = self.judged(views)
        return score, restored, vectors, features

    def head(self, views: list[Tensor], ref_views: list[Tensor] | None = None) -> Tensor:
        """What was computed once -> (B,); references are not used."""
        return self.judged(views)[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.everything(x)[0]


class DRIIQA(Method):
    """DRI-IQA as a method: extractor, then restorer, then the score.

        L = (1 - rank) MSE(y, mos) + rank fidelity(y, mos) + lambda_rec mean |x_res - x_ref|
            + lambda_rs RS

    The reconstruction only where extractor and restorer learn with the score (`joint`), and where
    there are references.

    Args:
        config: sizes, parts and training.
        images: pristine images for extractor and restorer; default: the references of the training
            part. NEVER give images that you test on: of a set with the name or folder of the
            training images only training contents are taken, but what lies in other folders cannot
            be checked. Not with `config.parts`, which name networks that were trained before.
        encoder: see `Network`.

    Raises:
        ValueError: images, and a file with networks that need none.

    >>> DRIIQA().score(torch.rand(1, 3, 64, 64))
    Traceback (most recent call last):
    RuntimeError: dri-iqa is not fitted: call fit(train, val), or load a fitted one.
    """

    name = "dri-iqa"
    config_class = DRIConfig
    presets = (SMOKE, QUICK, AUTHENTIC, DRIConfig())
    network = Network

    def __init__(self, config: DRIConfig = QUICK, images: Dataset | None = None,
                 encoder: nn.Module | None = None):
        super().__init__(config, encoder=encoder)
        if images is not None and config.parts:
            raise ValueError(f"parts={config.parts!r} names an extractor and a restorer that were "
                             "trained before, so images have no effect: leave them out, or set "
                             "parts=''.")
        self.images = images
        self.clip = config.clip
        self.paired = config.joint  # references serve to train the restorer

    @property
    def identity(self) -> dict[str, str]:
        """As of every method; its hash tells which set the pristine images come from, too."""
        own = super().identity
        if self.images is None:
            return own
        return identity(own["method"], own["variant"], own["hash"], self.images.name)

    def fit(self, train: Dataset, val: Dataset | None = None,
            checkpoint: str | Path | None = None) -> Self:
        """As every `Method`, after extractor and restorer, which are kept in the cache folder.

        Without references the restored images cannot be compared with them. Then the reconstruction
        loss and the RS loss's "ratio" are left out, with a warning.

        Raises:
            DatasetError: the networks in the file of the config learned from a set of this name.
        """
        c = self.config
        if not train.card.reference and "ratio" in c.rs_parts:
            warnings.warn(f"{train.name} has no references, so the reconstruction loss and RS "
                          "ratio are left out.", stacklevel=2)
        if c.has_extractor and c.parts and learned_from(c) == train.name:
            raise DatasetError(f"{parts_file(c)}: extractor and restorer learned from "
                               f"{train.name}, so they may have seen its test part. Set parts='' "
                               "to train others on the training part.")
        return super().fit(train, val, checkpoint)

    def stages(self, train: Dataset, val: Dataset | None, seed: int,
               checkpoint: str | Path | None) -> Iterator[Stage]:
        """Extractor and restorer, which may lie in a file or in the cache folder, then the
        score."""
        c = self.config
        net = self.net
        photographs = []
        if net.extractor is not None and not c.parts:
            photographs = Uint8Images(pristine(train, self.images))
            if len(photographs) <= 500:
                photographs = [*photographs]  # decoded once
            stage = extractor_stage(net.extractor, photographs, c)
            with reserved(stage):
                yield stage
        if net.restorer is not None and not c.parts:
            stage = restorer_stage(net.restorer, net.extractor, photographs, c)
            with reserved(stage):
                yield stage
        for part in (net.extractor, net.restorer):
            if part is not None:
                part.requires_grad_(c.joint)
        stage = self.score_stage(train, val, seed, checkpoint)
        stage.settings["pristine images"] = about(photographs)
        yield stage

    def maps(self, dataset: Dataset, references: bool) -> FrozenMaps:
        """All that the frozen networks make of a dataset, see `Views`."""
        return frozen_maps.compute(dataset, self.net.views.eval(), self.plan, references)

    def optimizer(self, net: Network) -> torch.optim.Optimizer:
        """Adam, slower for all that was trained before. The decay is in the gradient; with AdamW
        beside it, and not of biases and norms."""
        c = self.config
        parts = (net.extractor, net.restorer, net.encoder)
        pretrained = [part for part in parts if part is not None]
        if c.optimizer == "adamw":
            return torch.optim.AdamW(
                parameter_groups(net, pretrained, c.lr, c.pretrained_rate, c.weight_decay))
        groups = parameter_groups(net, pretrained, c.lr, c.pretrained_rate)
        for group in groups:
            group["weight_decay"] = c.weight_decay
        return torch.optim.Adam(groups)

    def schedule(self, steps: int) -> Callable[[int], float]:
        return warmup_cosine(steps, self.config.warmup)

    def loss(self, batch: dict) -> dict[str, Tensor]:
        """L of a batch and its three terms, before they are weighted; a term that is left out is
        0."""
        c = self.config
        net = self.net
        x_ref = batch.get("x_ref")
        restored = None
        if "maps" in batch:
            score, vectors, features = net.judged(batch["maps"])
        else:
            score, restored, vectors, features = net.everything(batch["x"])
        mos = batch["score"]
        quality = F.mse_loss(score.float(), mos)
        if c.rank:
            quality = (1 - c.rank) * quality + c.rank * fidelity(score.float(), mos)
        reconstruction = quality.new_zeros(())
        rs = quality.new_zeros(())
        if c.joint and restored is not None and x_ref is not None:
            reconstruction = (restored - x_ref).abs().mean()
            if "ratio" in c.rs_parts:
                rs = rs + ratio(self._vectors(restored), self._vectors(x_ref), vectors)
        if "align" in c.rs_parts:
            rs = rs + align(features, vectors, net.align_projections)
        if "interact" in c.rs_parts:
            rs = rs + interact(net.interact_line(vectors[0])[:, 0], mos)
        loss = quality + c.lambda_rec * reconstruction + c.lambda_rs * rs
        return {"loss": loss, "quality": quality, "reconstruction": reconstruction, "rs": rs}

    def _shipped(self) -> tuple[str, ...]:
        """With the encoder also extractor and restorer, if they are those of this kit."""
        c = self.config
        ships = super()._shipped()
        if c.parts == "shipped" and not c.joint and (ships or not c.encoder):
            return (*ships, "extractor.", "restorer.")
        return ships

    def _vectors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """q and g, by an extractor that gets no gradient: it must not learn to overlook a
        restoration."""
        extractor = self.net.extractor
        state = extractor.state_dict(keep_vars=True)
        fixed = {name: value.detach() for name, value in state.items()}
        q, g, _ = torch.func.functional_call(extractor, fixed, (x,))
        return q, g

    @torch.inference_mode()
    def restore(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] of any size, as the restoration network would have them.

        Raises:
            ValueError: no such batch, or a method without a restoration network.
        """
        net = self.fitted().eval()
        if net.restorer is None:
            raise ValueError(f"{self.name} with assist=False has no restoration network: set "
                             "assist=True and fit it again.")
        x, _ = expect_batch(x)
        x = x.to(next(net.parameters()).device)
        height, width = x.shape[-2:]
        multiple = 8 * net.extractor.stride
        padded = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        _, g, guides = net.extractor(padded)
        restored, _ = net.restorer(padded, g, guides)
        return restored[..., :height, :width].clamp(0, 1).cpu()
