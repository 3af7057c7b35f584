"""DRI-IQA's predictor: the score from a picture, its two vectors, and what a restoration network made of it.

Yue, Lin, Yang, Ren (WACV 2025, arXiv 2411.17390) state that the quality vector and features of the picture meet in a
Transposed Guidance Block, before Swin blocks. All else is ours; Swin stage and head are MANIQA's (Yang et al., CVPRW 2022).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from iqa_core import backbones
from iqa_core.dri_restorer import Guided


class SwinStage(nn.Module):
    """MANIQA's scaled Swin stage: x <- 0.8 layer(x) + x, twice; layer = two Swin blocks, 3 x 3 convolution, ReLU."""

    def __init__(self, width: int, side: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict({
            "blocks": nn.Sequential(*(SwinTransformerBlock(width, (side, side), 4, window_size=4, shift_size=shift,
                                                           dynamic_mask=True) for shift in (0, 2))),
            "conv": nn.Conv2d(width, width, 3, padding=1)}) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            found = layer["blocks"](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            x = x + 0.8 * F.relu(layer["conv"](found))
        return x


class Head(nn.Module):
    """Each place gives a score and a weight: score = sum_n s_n w_n / (sum_n w_n + 1e-8). Source: MANIQA."""

    def __init__(self, width: int):
        super().__init__()
        self.score, self.weight = (nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Dropout(0.1),
                                                 nn.Conv2d(width, 1, 1)) for _ in range(2))
        nn.init.constant_(self.score[-1].bias, 0.5)  # mid-scale

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight(x).sigmoid()
        return (self.score(x) * weight).sum((1, 2, 3)) / (weight.sum((1, 2, 3)) + 1e-8)


class Stem(nn.Sequential):
    """Three convolutions: (B, 3, H, W) -> (B, width, H / 8, W / 8)."""

    def __init__(self, width: int):
        super().__init__(*(layer for before in (3, width, width)
                           for layer in (nn.Conv2d(before, width, 3, 2, 1), nn.GELU())))


class PyramidStem(nn.Module):
    """As `Stem`, from a trained pyramid's maps at 1/8, 1/16 and 1/32: sum of linear maps of LN(map).

    Raises:
        ValueError: the pyramid has other strides, or does not take the crop.
    """

    def __init__(self, name: str, weights: str | Path, width: int, crop: int):
        super().__init__()
        self.net = backbones.pyramid(name, weights)
        if list(self.net.strides[-3:]) != [8, 16, 32]:
            raise ValueError(f"{name} has maps of strides {self.net.strides}; the predictor needs "
                             "8, 16 and 32. Take resnet50, swin_tiny_patch4_window7_224 or "
                             "tf_efficientnet_lite0.")
        backbones.expect_crop(self.net, crop)
        self.embeds = nn.ModuleList(nn.Sequential(nn.GroupNorm(1, c), nn.Conv2d(c, width, 1))
                                    for c in self.net.channels[-3:])

    def forward(self, x: Tensor) -> Tensor:
        found = [embed(m) for embed, m in zip(self.embeds, self.net(x)[-3:])]
        return sum(F.interpolate(m, found[0].shape[-2:]) for m in found)


class Predictor(nn.Module):
    """The score from the picture's features, the two vectors, and what the restoration network made of it.

        X = mix([stem(x), stem(|x_res - x|), R]),  R = reduced maps of the restorer;  without it stem(x) alone
        X = TGB(X, v = [q; g], G = R)      the interaction;  "add": X + W v
        score = head(Swin(reduce(Swin(X))))

    Source: q and the picture's features meet in a TGB before Swin blocks, paper (figure 4); the rest is ours.

    Args:
        config: `dri.DRIConfig`.
        vector: length of v, 0 = none.
        channels: of the restorer's maps, () = no restorer.
    """

    def __init__(self, config, vector: int, channels: Sequence[int]):
        super().__init__()
        c, part = config, config.width // 3
        self.stem = PyramidStem(c.encoder, c.weights, part, c.crop) if c.encoder else Stem(part)
        self.change = Stem(part) if channels else None
        self.reduced = nn.ModuleList(nn.Conv2d(n, part // 4, 1) for n in channels)
        guide = len(channels) * (part // 4)
        self.mix = nn.Conv2d(part + part * bool(channels) + guide, c.width, 1)
        self.tgb = Guided(c.width, 4, vector, guide) if c.interaction == "tgb" and (vector or guide) else None
        self.add = nn.Linear(vector, c.width) if c.interaction == "add" and vector else None
        self.swin1, self.swin2 = SwinStage(c.width, c.crop // 8), SwinStage(c.width // 2, c.crop // 8)
        self.reduce = nn.Conv2d(c.width, c.width // 2, 1)
        self.head = Head(c.width // 2)

    def forward(self, x: Tensor, v: Tensor | None, restored: Tensor | None, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """-> scores (B,), and the pooled features (B, width // 2) that the RS loss looks at."""
        found, told = [self.stem(x)], None
        if self.change is not None:
            size = found[0].shape[-2:]
            told = torch.cat([shrink(F.adaptive_avg_pool2d(m, size)) for shrink, m in zip(self.reduced, maps)], 1)
            found += [self.change((restored - x).abs()), told]
        y = self.mix(torch.cat(found, 1))
        if self.tgb is not None:
            y = self.tgb(y, v, told)
        if self.add is not None:
            y = y + self.add(v)[..., None, None]
        y = self.swin2(self.reduce(self.swin1(y)))
        return self.head(y), y.mean((2, 3))
