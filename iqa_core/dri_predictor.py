"""DRI-IQA's predictor: the score of an image from its maps, its two vectors, and what a restoration
network made of it.

Yue, Lin, Yang, Ren (WACV 2025, arXiv 2411.17390) state that the quality vector and features of the
image meet in a Transposed Guidance Block, before Swin blocks. All else is ours; Swin stage and head
are MANIQA's (Yang et al., CVPRW 2022).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
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

    With `pooled`, ours, not the scores are averaged but the features of the positions, and one MLP
    makes a score of the mean:

        score = MLP(sum_n w_n x_n / (sum_n w_n + 1e-8))

    >>> Head(8)(torch.rand(2, 8, 4, 4)).shape
    torch.Size([2])
    """

    def __init__(self, width: int, pooled: bool = False):
        super().__init__()
        self.pooled = pooled
        self.score = self._mlp(width)
        self.weight = self._mlp(width)
        nn.init.constant_(self.score[-1].bias, 0.5)  # mid-scale

    @staticmethod
    def _mlp(width: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Dropout(0.1),
                             nn.Conv2d(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight(x).sigmoid()
        total = weight.sum((2, 3), keepdim=True) + 1e-8
        if self.pooled:
            mean = (x * weight).sum((2, 3), keepdim=True) / total  # (B, width, 1, 1)
            return self.score(mean).flatten()
        return ((self.score(x) * weight).sum((2, 3), keepdim=True) / total).flatten()


class Stem(nn.Sequential):
    """Three convolutions: an image (B, 3, H, W) -> (B, width, H / 8, W / 8).

    It takes and gives a list, as `MapStem` does.
    """

    def __init__(self, width: int):
        super().__init__(nn.Conv2d(3, width, 3, 2, 1), nn.GELU(),
                         nn.Conv2d(width, width, 3, 2, 1), nn.GELU(),
                         nn.Conv2d(width, width, 3, 2, 1), nn.GELU())

    def forward(self, images: list[Tensor]) -> Tensor:
        return super().forward(images[0])


class MapStem(nn.Module):
    """As `Stem`, from the four maps of an encoder: the sum of linear maps, at the size of the
    second.

    Args:
        channels, width: of the maps, and of the result.
        norm: LayerNorm over the channels of each map before it. It takes away how large a map is.

    >>> maps = [torch.rand(2, c, s, s) for c, s in ((2, 24), (4, 12), (8, 6), (9, 3))]
    >>> MapStem([2, 4, 8, 9], 16)(maps).shape
    torch.Size([2, 16, 12, 12])
    """

    def __init__(self, channels: Sequence[int], width: int, norm: bool = True):
        super().__init__()
        self.norms = nn.ModuleList(LayerNorm2d(c) if norm else nn.Identity() for c in channels)
        self.embeds = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)

    def forward(self, maps: list[Tensor]) -> Tensor:
        size = maps[1].shape[-2:]
        embedded = [embed(norm(m)) for embed, norm, m in zip(self.embeds, self.norms, maps)]
        return sum(resized(m, size) for m in embedded)


def resized(m: Tensor, size: Sequence[int]) -> Tensor:
    """A map at another size: averaged if it is larger, repeated if it is smaller."""
    if m.shape[-2] > size[0]:
        return F.adaptive_avg_pool2d(m, size)
    return F.interpolate(m, size)


class Predictor(nn.Module):
    """The score from the maps of an image, its vectors, and what the restoration network made of
    it.

        X = stem(maps)
        S = [LN(stem(change)), LN(reduced maps of the restorer)],    X <- X + W S
        v = [LN(q), LN(g)],    X <- TGB(X, v, G = S)    the interaction;  "add": X <- X + W v
        score = head(Swin(reduce(Swin(X))))

    LN brings all signals to one scale: without it those of the restorer are a fortieth of the
    others. Each W is 0 at the start and so are the outputs of the TGB. So a fresh network gives the
    score that it would give without them. Source: q and the image's features meet in a TGB before
    Swin blocks, paper (figure 4); the rest is ours.

    Args:
        width: channels of X.
        side: rows of X in training.
        vectors: length of each vector, () = none.
        channels: of the encoder's maps; () = the stem looks at the image itself.
        restorer: channels of the restorer's maps, () = no restorer.
        interaction: "tgb" or "add".
        readout: "places" or "pooled", see `Head`.
    """

    def __init__(self, width: int, side: int, vectors: Sequence[int] = (),
                 channels: Sequence[int] = (), restorer: Sequence[int] = (),
                 interaction: str = "tgb", readout: str = "places"):
        super().__init__()
        self.stem = MapStem(channels, width) if channels else Stem(width)
        self.change = None
        self.assist = None
        guide = 0  # channels of S
        if restorer:
            part = width // 4
            # not its norm: how large the change is tells how bad the image was
            self.change = MapStem(channels, width, norm=False) if channels else Stem(width)
            self.change_norm = LayerNorm2d(width)
            self.reduced = nn.ModuleList(nn.Conv2d(count, part, 1) for count in restorer)
            self.reduced_norm = LayerNorm2d(len(restorer) * part)
            guide = width + len(restorer) * part
            self.assist = zero(nn.Conv2d(guide, width, 1))
        self.vector_norms = nn.ModuleList(nn.LayerNorm(length) for length in vectors)
        vector = sum(vectors)
        self.tgb = None
        if interaction == "tgb" and (vector or guide):
            self.tgb = Guided(width, 4, vector, guide, still=True)
        self.add = zero(nn.Linear(vector, width)) if interaction == "add" and vector else None
        self.swin1 = SwinStage(width, side)
        self.reduce = nn.Conv2d(width, width // 2, 1)
        self.swin2 = SwinStage(width // 2, side)
        self.head = Head(width // 2, readout == "pooled")

    def forward(self, inputs: list[Tensor], vectors: Sequence[Tensor] = (),
                change: Sequence[Tensor] = (), restorer_maps: Sequence[Tensor] = ()
                ) -> tuple[Tensor, Tensor]:
        """Scores (B,), and the pooled features (B, width / 2) that the RS loss looks at.

        Args:
            inputs: maps of the encoder, or the image (B, 3, H, W) alone if there is no encoder.
            vectors: (B, length) each.
            change: maps of the restored image minus `inputs`; without an encoder |x_res - x|.
            restorer_maps: of the restoration network.
        """
        x = self.stem(inputs)
        size = x.shape[-2:]
        s, v = None, None
        if self.assist is not None:
            changed = self.change_norm(self.change(change))
            reduced = [reduce(resized(m, size)) for reduce, m in zip(self.reduced, restorer_maps)]
            s = torch.cat([changed, self.reduced_norm(torch.cat(reduced, 1))], 1)
            x = x + self.assist(s)
        if self.vector_norms:
            v = torch.cat([norm(one) for norm, one in zip(self.vector_norms, vectors)], 1)
        if self.tgb is not None:
            x = self.tgb(x, v, s)
        if self.add is not None:
            x = x + self.add(v)[..., None, None]
        x = self.swin2(self.reduce(self.swin1(x)))
        return self.head(x), x.mean((2, 3))


def zero(layer: nn.Module) -> nn.Module:
    """A linear map that gives 0, until it has learnt otherwise."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
