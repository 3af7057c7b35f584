"""The network of QFM-IQM: an encoder, tokens, and a panel that scores them. Its settings, too.

Features are one tensor (B, 1 + N, C): the summary c of the image first, then its N tokens.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Self

import torch
from timm.models import is_model_in_modules
from torch import Tensor, nn

from iqa_core import backbones
from iqa_core.encoders import Encoder, Standardise
from iqa_core.qfm_noise import MemoryBank
from iqa_core.settings import (
    expect_number, expect_positive, expect_switch, expect_text, expect_whole, expect_words)


@dataclasses.dataclass(frozen=True)
class QFMConfig:
    """What is built and how it is trained. The defaults are the paper's; `QUICK` and `SMOKE` fit a
    CPU: there the encoder is frozen, and only what stands on its maps is trained.

    lambda1 = 0 and no unlabelled images: that is the baseline, DEIQT.
    """

    # the network
    encoder: Annotated[str, "code, or any ViT or pyramid of timm"] = "deit3_small_patch16_224"
    weights: Annotated[str, "code, ImageNet-1k from timm"] = "auto"
    frozen: Annotated[bool, "code; True = train on the encoder's maps, computed once"] = False
    side: Annotated[int, "ours, maps are averaged to at most so many rows; 0 = as they are"] = 0
    spread: Annotated[bool, "ours, standard deviations beside those averages"] = False
    width: Annotated[int, "code, of the tokens of a pyramid; a ViT brings its own"] = 384
    heads: Annotated[int, "code"] = 6
    scale: Annotated[
        float, "code, of LIVE Challenge: the panel's scores run from 0 to so many; ours, 1"
    ] = 100.0
    # semantic noise
    lambda1: Annotated[
        float, "ours, the paper's weight of the consistency is not known; 1 upset short trainings"
    ] = 0.2
    lambda2: Annotated[
        float, "ours, the paper's weight of the pseudo-labels is not known to us"
    ] = 0.5
    rule: Annotated[
        str, "paper, or 'v1' of the first preprint, or to compare with: 'random', 'gaussian'"
    ] = "v3"
    tau_q: Annotated[
        float, "ours, what counts as similar quality on the scale [0, 1]; not known"
    ] = 0.1
    tau_s: Annotated[float, "ours, what counts as similar meaning, a cosine; not known"] = 0.7
    key: Annotated[
        str, "ours, the trained 'summary' tells what an image shows; or the frozen 'encoder' does"
    ] = "summary"
    alpha: Annotated[float, "ours, the plain reading of 'added'"] = 1.0
    rescale: Annotated[bool, "ours, see `perturb`; False = the plain sum"] = True
    memory: Annotated[int, "ours, images in the memory bank; not known"] = 256
    consistency_start: Annotated[
        int, "ours, epochs before the consistency begins: early features know no quality"
    ] = 1
    # training
    beta: Annotated[
        float, "code, 1 on the scale 0 to 100: below this error the loss is a square"
    ] = 0.01
    crop: Annotated[int, "code, which makes images of KonIQ-10k and SPAQ smaller before"] = 224
    labels: Annotated[
        float, "ours, share of the training images whose scores are used, for learning curves"
    ] = 1.0
    crops_per_epoch: Annotated[int, "code, crops of an image in an epoch"] = 10
    epochs: Annotated[int, "code"] = 9
    batch: Annotated[
        int, "code, 16 on each of 4 GPUs for LIVE Challenge; 128 on each for KonIQ-10k"
    ] = 64
    lr: Annotated[float, "code"] = 2e-4
    encoder_rate: Annotated[float, "code, learning rate of the encoder / that of all else"] = 1.0
    warmup: Annotated[float, "code, epochs"] = 3
    decay: Annotated[float, "code, epochs to the next tenth; unused by 'cosine'"] = 3
    schedule: Annotated[
        str, "code; 'new' = what a timm of 0.8 or later makes of the same settings; or 'cosine'"
    ] = "old"
    weight_decay: Annotated[float, "code"] = 0.05
    clip: Annotated[float, "code, largest norm of a gradient"] = 5.0
    positions: Annotated[str, "code, seeded places of test crops; or 'five'"] = "random"
    test_crops: Annotated[int, "code, number of seeded places"] = 10

    def __post_init__(self):
        expect_words(self, rule=("v3", "v1", "random", "gaussian"),
                     key=("summary", "encoder"), schedule=("old", "new", "cosine"),
                     positions=("random", "five"))
        expect_text(self, "encoder", "weights")
        expect_switch(self, "frozen", "spread", "rescale")
        expect_whole(self, 1, "width", "heads", "memory", "crop")
        expect_whole(self, 1, "crops_per_epoch", "epochs", "batch", "test_crops")
        expect_whole(self, 0, "side", "consistency_start")
        expect_positive(self, "lr", "beta", "decay", "clip", "labels", "scale")
        expect_number(self, 0, math.inf, "lambda1", "lambda2", "alpha", "tau_q")
        expect_number(self, 0, math.inf, "encoder_rate", "warmup", "weight_decay")
        expect_number(self, -1, 1, "tau_s")
        expect_number(self, 0, 1, "labels")
        if self.lambda1 and self.consistency_start >= self.epochs:
            raise ValueError(f"consistency_start={self.consistency_start} of "
                             f"epochs={self.epochs}: the consistency would never begin. Make "
                             "consistency_start smaller, or set lambda1=0, the baseline.")
        if self.key == "encoder" and not self.frozen:
            raise ValueError("key='encoder' wants an encoder that stays as it is: set frozen=True, "
                             "or key='summary'.")
        if _is_vit(self.encoder):
            if self.side or self.spread:
                raise ValueError(f"side={self.side} and spread={self.spread} are about the maps of "
                                 f"a pyramid, and {self.encoder} is a ViT: set side=0 and "
                                 "spread=False.")
            patch = re.search(r"patch(\d+)", self.encoder)
            if patch:
                _expect_patches(self, int(patch[1]))
        elif self.width % self.heads:
            raise ValueError(f"width={self.width} must be a multiple of heads={self.heads}.")


def _is_vit(encoder: str) -> bool:
    return is_model_in_modules(str(encoder).split(".")[0], ["vision_transformer", "deit"])


def _expect_patches(config: QFMConfig, patch: int) -> None:
    """ValueError if the crop is not made of whole patches."""
    if config.crop % patch:
        raise ValueError(f"crop={config.crop} is no multiple of {patch}, the patch of "
                         f"{config.encoder}.")


QUICK = QFMConfig(encoder="tf_efficientnet_lite0", frozen=True, side=8, spread=True, width=96,
                  heads=4, scale=1.0, key="encoder", tau_s=0.25, memory=256, crop=256,
                  crops_per_epoch=1, epochs=12, batch=32, lr=3e-4, warmup=0.6, schedule="cosine",
                  clip=1.0, positions="five")
SMOKE = dataclasses.replace(QUICK, width=32, memory=64, crop=64, epochs=8, batch=8, lr=1e-3)


class ViTEncoder(nn.Module):
    """A ViT of timm as an encoder: (B, 3, H, W) in [0, 1] -> two maps, a summary and the tokens.

    The summary (B, C, 1, 1) is the class token, or, where a ViT has none, the mean of its tokens.
    The tokens (B, C, H / patch, W / patch) are those of the patches, each at its place.

    Args:
        name, weights: as in `backbones.transformer`.
        frozen: nothing in it learns.

    Attributes:
        channels: of both maps, the width C of the ViT.
        patch: side of a patch in pixels.
    """

    def __init__(self, name: str, weights: str | Path = "auto", frozen: bool = False):
        super().__init__()
        self.name = name
        self.net, self.weights = backbones.transformer(name, weights)
        self.normalise = backbones.Normalise(name)
        self.channels = [self.net.embed_dim] * 2
        self.patch = self.net.patch_embed.patch_size[0]
        self.frozen = frozen
        if frozen:
            self.net.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As usual, but a frozen network is as in evaluation."""
        super().train(mode)
        if self.frozen:
            self.net.eval()
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        height = x.shape[-2] // self.patch
        width = x.shape[-1] // self.patch
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            everything = self.net.forward_features(self.normalise(x))  # (B, prefix + N, C)
        tokens = everything[:, self.net.num_prefix_tokens:]  # without class and register tokens
        if self.net.has_class_token:
            summary = everything[:, :1]
        else:
            summary = tokens.mean(1, keepdim=True)
        return [summary.transpose(1, 2).unflatten(2, (1, 1)),
                tokens.transpose(1, 2).unflatten(2, (height, width))]

    def grids(self, crop: int) -> list[int]:
        """Sides of both maps of a square crop."""
        return [1, crop // self.patch]


class Panel(nn.Module):
    """The decoder: the members of a panel query the tokens, and the mean of their scores counts.

        q_j = e_j + c,    q' = Layer(q, memory = P),    score = mean_j w q'_j

    Layer is one pre-norm layer of a Transformer decoder: the members attend to each other, then to
    the tokens, then comes an MLP. The tokens come as they are, and nothing tells their places.
    Linear maps start small (standard deviation 0.02), but for those that make queries, keys and
    values, which start as torch has them. Source: DEIQT, paper and code.

    Args:
        width: channels C of the features.
        heads: of both attentions.

    >>> Panel(96, 4)(torch.rand(2, 81, 96)).shape
    torch.Size([2])
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.members = nn.Parameter(torch.empty(1, 6, width))
        self.layer = nn.TransformerDecoderLayer(width, heads, 4 * width, dropout=0.0,
                                                activation="gelu", batch_first=True,
                                                norm_first=True)
        self.score = nn.Linear(width, 1, bias=False)
        for name, parameter in self.named_parameters():
            if "in_proj" in name:
                continue
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """(B, 1 + N, C), the summary first -> (B,)."""
        summary, tokens = features[:, :1], features[:, 1:]
        answers = self.layer(self.members + summary, tokens)  # (B, 6, C)
        return self.score(answers).mean((1, 2))


class Network(nn.Module):
    """The network behind `QFMIQM`, all there is after training: (B, 3, H, W) in [0, 1] -> (B,),
    HIGHER = BETTER.

    The tokens of a ViT are its own. Those of a pyramid, or of an encoder of your own, are the
    places of its two deepest maps, each map with its own W:

        P = LN(W LN(place)),    c = mean of the tokens of the deepest map
        score = panel(c, P) / scale

    With the default encoder it has 24,043,776 parameters: 21,674,496 of the ViT and 2,369,280 of
    the panel. The tokens of a pyramid are ours.

    Args:
        config: sizes and parts.
        encoder: a module of your own with `channels` and `strides` (see `Encoder`); default:
            `config.encoder`.
        panel: class of the decoder, made as panel(width, heads): features (B, 1 + N, C) -> (B,).

    Attributes:
        memory: the memory bank while it is trained with consistency, else None.
        width: C.

    Raises:
        ValueError: a crop that the patches of a ViT do not divide, or that the encoder does not
            take; heads that do not divide the width.

    >>> net = Network(dataclasses.replace(SMOKE, weights="random"))
    >>> net.features(net.encoder(torch.rand(2, 3, 64, 64))).shape  # 1 + 4 x 4 + 2 x 2
    torch.Size([2, 21, 32])
    >>> net(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2])
    """

    def __init__(self, config: QFMConfig, encoder: nn.Module | None = None,
                 panel: Callable[..., nn.Module] = Panel):
        super().__init__()
        c = config
        self.embeds = nn.ModuleList()
        if encoder is None and _is_vit(c.encoder):
            self.encoder = ViTEncoder(c.encoder, c.weights, c.frozen)
            _expect_patches(c, self.encoder.patch)
            self.width = self.encoder.channels[0]
        else:
            self.encoder = Encoder(encoder or c.encoder, c.weights, count=2, side=c.side,
                                   spread=c.spread, frozen=c.frozen)
            self.encoder.expect_crop(c.crop)
            self.width = c.width
            self.embeds.extend(nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, c.width),
                                             nn.LayerNorm(c.width))
                               for channels in self.encoder.channels)
        if self.width % c.heads:
            raise ValueError(f"heads={c.heads} must divide {self.width}, the width of "
                             f"{self.encoder.name}.")
        self.standardise = Standardise(self.encoder.channels)
        self.panel = panel(self.width, c.heads)
        self.scale = c.scale
        self.frozen_keys = c.key == "encoder"
        self.memory: MemoryBank | None = None

    def features(self, maps: list[Tensor]) -> Tensor:
        """Maps of the encoder -> (B, 1 + N, C)."""
        flat = [m.flatten(2).transpose(1, 2) for m in self.standardise(maps)]  # (B, h w, channels)
        if not self.embeds:  # a ViT: its summary, and its tokens
            return torch.cat(flat, 1)
        tokens = [embed(places) for embed, places in zip(self.embeds, flat)]
        summary = tokens[-1].mean(1, keepdim=True)
        return torch.cat([summary, *tokens], 1)

    def keys(self, maps: list[Tensor], features: Tensor) -> Tensor:
        """What tells images apart by what they show (B, K), of any length.

        The trained summary has learnt quality as well. The frozen encoder has not: its key is the
        mean of the deepest map over all places.
        """
        if self.frozen_keys:
            return self.standardise(maps)[-1].mean((2, 3))
        return features[:, 0]

    def score(self, features: Tensor) -> Tensor:
        """Features (B, 1 + N, C) -> (B,)."""
        return self.panel(features).float() / self.scale

    def head(self, maps: list[Tensor], ref_maps: list[Tensor] | None = None) -> Tensor:
        """Maps of the encoder -> (B,). There are no references."""
        return self.score(self.features(maps))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))

    def memory_bank(self, config: QFMConfig) -> MemoryBank:
        """An empty memory bank for the features of this network's crops."""
        places = sum(side**2 for side in self.encoder.grids(config.crop))
        tokens = places + 1 if self.embeds else places  # a ViT's summary is one of its maps
        key_width = self.encoder.channels[-1] if self.frozen_keys else self.width
        return MemoryBank(config.memory, tokens, self.width, key_width)
