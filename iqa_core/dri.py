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
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqa_core.data import Dataset
from iqa_core.dri_config import QUICK, SMOKE, DRIConfig
from iqa_core.dri_losses import align, interact, ratio
from iqa_core.dri_predictor import Predictor
from iqa_core.dri_stages import (
    UNDONE, build, extractor_stage, pristine, reserved, restorer_stage, train_extractor,
    train_restorer)
from iqa_core.encoders import Encoder, Standardise, freeze_batch_norms
from iqa_core.identity import identity
from iqa_core.inputs import expect_batch
from iqa_core.method import Method
from iqa_core.reiqa_pretrain import Uint8Images, about
from iqa_core.train import Stage, parameter_groups

__all__ = ["DRIConfig", "QUICK", "SMOKE", "Network", "DRIIQA", "UNDONE", "pristine",
           "train_extractor", "train_restorer", "align", "interact", "ratio"]


class Network(nn.Module):
    """The network behind `DRIIQA`: (B, 3, H, W) in [0, 1], sides multiples of 32 -> (B,), HIGHER =
    BETTER.

    Args:
        config: sizes and parts.
        encoder: of the predictor, a module of your own with `channels` and `strides` 8, 16, 32;
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
        if c.encoder or encoder is not None:
            self.encoder = Encoder(encoder or c.encoder, c.weights, count=3, side=c.side,
                                   spread=c.spread, frozen=c.frozen)
            strides = self.encoder.strides
            if strides != [8, 16, 32]:
                raise ValueError(f"{self.encoder.name} has maps of strides {strides}; the "
                                 "predictor needs 8, 16 and 32. Take resnet50, "
                                 "swin_tiny_patch4_window7_224 or tf_efficientnet_lite0.")
            self.encoder.expect_crop(c.crop)
            channels, side = self.encoder.channels, self.encoder.grids(c.crop)[0]
            self.standardise = Standardise(channels)
        vectors = c.quality + c.degradation
        restorer = self.restorer.channels if c.assist else ()
        self.predictor = Predictor(c.width, side, vectors * length, channels, restorer,
                                   c.interaction)
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

    def everything(self, x: Tensor | None, maps: list[Tensor] | None = None
                   ) -> tuple[Tensor, Tensor | None, tuple[Tensor, Tensor] | None, Tensor]:
        """Scores (B,), the restored images, (q, g), and the predictor's pooled features.

        Args:
            x: images (B, 3, H, W).
            maps: of the encoder, if they are there already.
        """
        c = self.config
        vectors, restored, change, restorer_maps = None, None, None, ()
        with torch.set_grad_enabled(torch.is_grad_enabled() and c.joint):
            if self.extractor is not None:
                q, g, guides = self.extractor(x)
                vectors = q, g
            if self.restorer is not None:
                restored, restorer_maps = self.restorer(x, g, guides)
                change = (restored - x).abs()
        v = None
        if c.quality or c.degradation:
            v = torch.cat([q] * c.quality + [g] * c.degradation, 1)
        inputs = x
        if self.encoder is not None:
            inputs = self.standardise(self.encoder(x) if maps is None else maps)
        score, features = self.predictor(inputs, v, change, restorer_maps)
        return score, restored, vectors, features

    def head(self, maps: list[Tensor], ref_maps: list[Tensor] | None = None) -> Tensor:
        """Maps of the encoder -> (B,), of a predictor that is alone; references are not used."""
        return self.everything(None, maps)[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.everything(x)[0]


class DRIIQA(Method):
    """DRI-IQA as a method: extractor, then restorer, then the score, all on the training part.

        L = MSE(y, mos) + lambda_rec mean |x_res - x_ref| + lambda_rs RS

    The middle term only where there are references.

    Args:
        config: sizes, parts and training.
        images: pristine images for extractor and restorer; default: the references of the training
            part. NEVER give images that you test on: of a set with the name or folder of the
            training images only training contents are taken, but what lies in other folders cannot
            be checked.
        encoder: see `Network`.

    >>> DRIIQA().score(torch.rand(1, 3, 64, 64))
    Traceback (most recent call last):
    RuntimeError: dri-iqa is not fitted: call fit(train, val), or load a fitted one.
    """

    name = "dri-iqa"
    config_class = DRIConfig
    presets = (SMOKE, QUICK, DRIConfig())
    network = Network
    paired = True

    def __init__(self, config: DRIConfig = QUICK, images: Dataset | None = None,
                 encoder: nn.Module | None = None):
        super().__init__(config, encoder=encoder)
        self.images = images
        self.needs_crops = config.has_extractor  # it looks at the image itself

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
        """
        if not train.card.reference and "ratio" in self.config.rs_parts:
            warnings.warn(f"{train.name} has no references, so the reconstruction loss and RS "
                          "ratio are left out.", stacklevel=2)
        return super().fit(train, val, checkpoint)

    def stages(self, train: Dataset, val: Dataset | None, seed: int,
               checkpoint: str | Path | None) -> Iterator[Stage]:
        """Extractor and restorer, which may lie in the cache folder, then the score."""
        net = self.net
        photographs = []
        if net.extractor is not None:
            photographs = Uint8Images(pristine(train, self.images))
            if len(photographs) <= 500:
                photographs = [*photographs]  # decoded once
            stage = extractor_stage(net.extractor, photographs, self.config)
            with reserved(stage):
                yield stage
            net.extractor.requires_grad_(self.config.joint)
        if net.restorer is not None:
            stage = restorer_stage(net.restorer, net.extractor, photographs, self.config)
            with reserved(stage):
                yield stage
            net.restorer.requires_grad_(self.config.joint)
        stage = self.score_stage(train, val, seed, checkpoint)
        stage.settings["pristine images"] = about(photographs)
        yield stage

    def optimizer(self, net: Network) -> torch.optim.Optimizer:
        """Adam, slower for all that was trained before; the decay is in the gradient."""
        c = self.config
        parts = (net.extractor, net.restorer, net.encoder)
        pretrained = [part for part in parts if part is not None]
        groups = parameter_groups(net, pretrained, c.lr, c.pretrained_rate)
        for group in groups:
            group["weight_decay"] = c.weight_decay
        return torch.optim.Adam(groups)

    def loss(self, batch: dict) -> dict[str, Tensor]:
        """L of a batch and its three terms, before they are weighted; a term that is left out is
        0."""
        c = self.config
        net = self.net
        x_ref = batch.get("x_ref")
        score, restored, vectors, features = net.everything(batch.get("x"), batch.get("maps"))
        quality = F.mse_loss(score.float(), batch["score"])
        reconstruction = quality.new_zeros(())
        rs = quality.new_zeros(())
        if restored is not None and x_ref is not None:
            reconstruction = (restored - x_ref).abs().mean()
            if "ratio" in c.rs_parts:
                rs = rs + ratio(self._vectors(restored), self._vectors(x_ref), vectors)
        if "align" in c.rs_parts:
            rs = rs + align(features, vectors, net.align_projections)
        if "interact" in c.rs_parts:
            rs = rs + interact(net.interact_line(vectors[0])[:, 0], batch["score"])
        loss = quality + c.lambda_rec * reconstruction + c.lambda_rs * rs
        return {"loss": loss, "quality": quality, "reconstruction": reconstruction, "rs": rs}

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
