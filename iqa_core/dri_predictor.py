"""DRI-IQA's predictor: the score of an image from its maps, its two vectors, and what a restoration
network made of it.

Yue, Lin, Yang, Ren (WACV 2025, arXiv 2411.17390) state that the quality vector and features of the
image meet in a Transposed Guidance Block, before Swin blocks. All else is ours; Swin stage and head
are MANIQA's (Yang et al., CVPRW 2022).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from iqa_core.dri_restorer import Guided


class SwinStage(nn.Module):
    """MANIQA's scaled Swin stage: x <- 0.8 layer(x) + x, twice.

    A layer is two Swin blocks, a 3 x 3 convolution and a ReLU.

    >>> SwinStage(8, side=8)(torch.rand(2, 8, 8, 8)).shape
    torch.Size([2, 8, 8, 8])
    """

    def __init__(self, width: int, side: int):
        super().__init__()
        self.layers = nn.ModuleList()
        for _ in range(2):
            blocks = [SwinTransformerBlock(width, (side, side), 4, window_size=4, shift_size=shift,
                                           dynamic_mask=True) for shift in (0, 2)]
            self.layers.append(nn.ModuleDict({"blocks": nn.Sequential(*blocks),
                                              "conv": nn.Conv2d(width, width, 3, padding=1)}))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            y = layer["blocks"](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            x = x + 0.8 * F.relu(layer["conv"](y))
        return x


class Head(nn.Module):
    """Each position gives a score and a weight. Source: MANIQA.

        score = sum_n s_n w_n / (sum_n w_n + 1e-8)

    >>> Head(8)(torch.rand(2, 8, 4, 4)).shape
    torch.Size([2])
    """

    def __init__(self, width: int):
        super().__init__()
        self.score = self._mlp(width)
        self.weight = self._mlp(width)
        nn.init.constant_(self.score[-1].bias, 0.5)  # mid-scale

    @staticmethod
    def _mlp(width: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Dropout(0.1),
                             nn.Conv2d(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight(x).sigmoid()
        return (self.score(x) * weight).sum((1, 2, 3)) / (weight.sum((1, 2, 3)) + 1e-8)


class Stem(nn.Sequential):
    """Three convolutions: (B, 3, H, W) -> (B, width, H / 8, W / 8)."""

    def __init__(self, width: int):
        super().__init__(nn.Conv2d(3, width, 3, 2, 1), nn.GELU(),
                         nn.Conv2d(width, width, 3, 2, 1), nn.GELU(),
                         nn.Conv2d(width, width, 3, 2, 1), nn.GELU())


class MapStem(nn.Module):
    """As `Stem`, from the maps of an encoder: the sum of linear maps of LN(map), at the size of the
    finest one.

    >>> MapStem([4, 8], 16)([torch.rand(2, 4, 12, 12), torch.rand(2, 8, 6, 6)]).shape
    torch.Size([2, 16, 12, 12])
    """

    def __init__(self, channels: Sequence[int], width: int):
        super().__init__()
        self.embeds = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(1, count), nn.Conv2d(count, width, 1)) for count in channels)

    def forward(self, maps: list[Tensor]) -> Tensor:
        embedded = [embed(m) for embed, m in zip(self.embeds, maps)]
        size = embedded[0].shape[-2:]
        return sum(F.interpolate(m, size) for m in embedded)


class Predictor(nn.Module):
    """The score from the maps of an image, the two vectors, and what the restoration network made
    of it.

        X = mix([stem(maps), stem(|x_res - x|), R]),    R = reduced maps of the restorer;
                                                        without a restorer stem(maps) alone
        X = TGB(X, v = [q; g], G = R)      the interaction;  "add": X + W v
        score = head(Swin(reduce(Swin(X))))

    Source: q and the image's features meet in a TGB before Swin blocks, paper (figure 4); the rest
    is ours.

    Args:
        width: channels of X.
        side: rows of X in training.
        vector: length of v, 0 = none.
        channels: of the encoder's maps; () = the stem looks at the image itself.
        restorer: channels of the restorer's maps, () = no restorer.
        interaction: "tgb" or "add".
    """

    def __init__(self, width: int, side: int, vector: int, channels: Sequence[int] = (),
                 restorer: Sequence[int] = (), interaction: str = "tgb"):
        super().__init__()
        part = width // 3
        guide = len(restorer) * (part // 4)  # channels of R
        self.stem = MapStem(channels, part) if channels else Stem(part)
        self.change = Stem(part) if restorer else None
        self.reduced = nn.ModuleList(nn.Conv2d(count, part // 4, 1) for count in restorer)
        both = 2 * part if restorer else part
        self.mix = nn.Conv2d(both + guide, width, 1)
        self.tgb = None
        if interaction == "tgb" and (vector or guide):
            self.tgb = Guided(width, 4, vector, guide)
        self.add = nn.Linear(vector, width) if interaction == "add" and vector else None
        self.swin1 = SwinStage(width, side)
        self.reduce = nn.Conv2d(width, width // 2, 1)
        self.swin2 = SwinStage(width // 2, side)
        self.head = Head(width // 2)

    def forward(self, inputs: Tensor | list[Tensor], v: Tensor | None = None,
                change: Tensor | None = None, restorer_maps: Sequence[Tensor] = ()
                ) -> tuple[Tensor, Tensor]:
        """Scores (B,), and the pooled features (B, width / 2) that the RS loss looks at.

        Args:
            inputs: maps of the encoder, or the image (B, 3, H, W) if there is no encoder.
            v: (B, vector).
            change: |x_res - x|, (B, 3, H, W).
            restorer_maps: of the restoration network.
        """
        x = self.stem(inputs)
        guide = None
        if self.change is not None:
            size = x.shape[-2:]
            guide = torch.cat([reduce(F.adaptive_avg_pool2d(m, size))
                               for reduce, m in zip(self.reduced, restorer_maps)], 1)
            changed = F.adaptive_avg_pool2d(self.change(change), size)
            x = torch.cat([x, changed, guide], 1)
        x = self.mix(x)
        if self.tgb is not None:
            x = self.tgb(x, v, guide)
        if self.add is not None:
            x = x + self.add(v)[..., None, None]
        x = self.swin2(self.reduce(self.swin1(x)))
        return self.head(x), x.mean((2, 3))
