"""DRI-IQA's first stage: one network gives two vectors of an image, its quality q and its
degradation g.

Yue, Lin, Yang, Ren, Dual-Representation Interaction Driven Image Quality Assessment with
Restoration Assistance (WACV 2025, arXiv 2411.17390). Of the paper only abstract, introduction and
figure captions were at hand, and the official repository holds no code. The two halves, their
positives and negatives, and the three images x1, x2 and y are the paper's. Sizes, losses and the
drawing of degradations are ours, in the style of DASR, CONTRIQUE and ARNIQA.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from iqa_core import backbones, images
from iqa_core.distortions import distort
from iqa_core.encoders import freeze_batch_norms
from iqa_core.reiqa_pairs import BORDER, cut, cut_pair, pair_offsets

# KADID-10k's groups of types
GROUPS = [
    range(1, 4),  # blur
    range(4, 9),  # colour
    range(9, 11),  # compression
    range(11, 16),  # noise
    range(16, 19),  # brightness
    range(19, 24),  # places
    range(24, 26),  # sharpness and contrast
]


def conv(before: int, after: int, stride: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution from `before` to `after` channels, with batch norm and LeakyReLU."""
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False),
                         nn.BatchNorm2d(after), nn.LeakyReLU(0.1))


class Extractor(nn.Module):
    """The Dual-Representation Extractor: an image becomes a quality vector q and a degradation
    vector g.

        e = mean over positions of trunk(x),    q = first half of e,    g = second half

    With split=False both are the whole of e.

    Args:
        trunk: four widths of a new trunk, DASR's; the last is the length of e. Or the name of a
            pretrained pyramid of timm; then e = W BN([mean, standard deviation of each of its
            maps]) has length 128.
        split: see above.
        weights: of a pretrained pyramid, as in `backbones.pyramid`.

    Attributes:
        length: of q and of g.
        widths: channels of the four maps that guide the restoration network.
        stride: of the finest of these maps.
        heads: of the losses of this stage; nothing else uses them.

    Raises:
        ValueError: a pyramid without four maps whose strides double.

    >>> q, g, maps = Extractor((8, 16, 32, 64))(torch.rand(2, 3, 32, 32))
    >>> q.shape, g.shape, [tuple(m.shape[1:]) for m in maps]
    (torch.Size([2, 32]), torch.Size([2, 32]), [(8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4)])
    """

    def __init__(self, trunk: tuple[int, ...] | str, split: bool = True,
                 weights: str | Path = "auto"):
        super().__init__()
        self.split = split
        self.embed = None
        if isinstance(trunk, str):
            self.trunk = backbones.pyramid(trunk, weights)
            strides = list(self.trunk.strides)
            if len(strides) < 4 or strides[:4] != [strides[0] * 2**i for i in range(4)]:
                raise ValueError(f"{trunk} has maps of strides {strides}; the extractor needs four "
                                 "that double, such as 2, 4, 8 and 16. Take resnet50, "
                                 "tf_efficientnet_lite0 or four widths of a new trunk.")
            self.widths = tuple(self.trunk.channels[:4])
            self.stride = strides[0]
            length = 128
            count = 2 * sum(self.trunk.channels)
            self.embed = nn.Sequential(nn.BatchNorm1d(count), nn.Linear(count, length))
        else:
            self.trunk = nn.ModuleList()
            for i, (before, after) in enumerate(zip((3, *trunk), trunk)):
                stride = 1 if i == 0 else 2
                self.trunk.append(nn.Sequential(conv(before, after, stride), conv(after, after)))
            self.widths = tuple(trunk)
            self.stride = 1
            length = trunk[-1]
        self.length = length // 2 if split else length
        self.heads = nn.ModuleList(self._head(self.length) for _ in range(2))

    @staticmethod
    def _head(length: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(length, length), nn.LeakyReLU(0.1), nn.Linear(length, 128))

    def expect_crop(self, crop: int) -> None:
        """ValueError if a pretrained pyramid does not take crops of this size."""
        if self.embed is not None:
            backbones.expect_crop(self.trunk, crop)

    def train(self, mode: bool = True) -> Self:
        """As usual, but the batch norms of a pretrained trunk keep their statistics."""
        super().train(mode)
        if self.embed is not None:
            freeze_batch_norms(self.trunk)
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """(B, 3, H, W) -> q (B, length), g (B, length), and four maps (B, widths[i], h_i, w_i),
        h_i = H / (stride 2^i)."""
        if self.embed is not None:
            maps = self.trunk(x)
            return *self.vectors(self.moments(maps)), maps[:4]
        maps = []
        for scale in self.trunk:
            x = scale(x)
            maps.append(x)
        return *self._halves(x.mean((2, 3))), maps

    @staticmethod
    def moments(maps: Sequence[Tensor]) -> Tensor:
        """Mean and standard deviation over the places of each channel, (B, 2 x all channels)."""
        numbers = []
        for m in maps:
            numbers.append(m.mean((2, 3)))
            numbers.append((m.var((2, 3)) + 1e-5).sqrt())
        return torch.cat(numbers, 1)

    def vectors(self, moments: Tensor) -> tuple[Tensor, Tensor]:
        """q and g from the moments of a pretrained trunk's maps. Where the trunk is frozen these
        can be computed once."""
        return self._halves(self.embed(moments))

    def _halves(self, e: Tensor) -> tuple[Tensor, Tensor]:
        return tuple(e.chunk(2, 1)) if self.split else (e, e)


def relations(contents: Tensor, degradations: Tensor) -> tuple[Tensor, Tensor]:
    """Which rows are positive to which: boolean (N, N) for the quality half and for the degradation
    half.

                                          quality     degradation
        same image, same degradation      positive    positive       two crops of a distorted image
        other image, same degradation     negative    positive       the "degradation-positive"
        same image, other degradation     negative    negative
        neither                           negative    negative

    Args:
        contents, degradations: (N,) integers: which image, which degradation (sequence of types and
            levels).

    Source: three images x1, x2 (one content, two degradations) and y (neither) with two patches
    each, paper (figure 3); its table was not at hand, so what follows from it is ours.

    >>> quality, degradation = relations(torch.tensor([0, 0, 1, 0]), torch.tensor([0, 0, 0, 1]))
    >>> quality[0].int().tolist(), degradation[0].int().tolist()
    ([0, 1, 0, 0], [0, 1, 1, 0])
    """
    other = ~torch.eye(len(contents), dtype=torch.bool, device=contents.device)
    same_degradation = (degradations[:, None] == degradations) & other
    same_content = contents[:, None] == contents
    return same_degradation & same_content, same_degradation


def contrast(z: Tensor, positive: Tensor, temperature: float) -> Tensor:
    """Supervised contrast; with one positive an anchor it is InfoNCE.

        L = mean_a mean_{p in P(a)} -log( exp(z_a z_p / T) / sum_{j != a} exp(z_a z_j / T) )

    Args:
        z: (N, D), brought to length 1 here.
        positive: (N, N), from `relations`. Anchors without a positive do not count.
        temperature: T.

    Returns:
        A scalar, at least 0, LOWER = BETTER.

    >>> z = torch.eye(2).repeat_interleave(2, 0)
    >>> contrast(z, relations(torch.tensor([0, 0, 1, 1]), torch.zeros(4))[0], 0.01).item() < 1e-3
    True
    """
    z = F.normalize(z, dim=1)
    similarity = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    log_share = similarity.log_softmax(1).masked_fill(~positive, 0)
    loss = -log_share.sum(1) / positive.sum(1).clamp(min=1)  # (N,)
    return loss.sum() / positive.any(1).sum().clamp(min=1)


def correlation(q: Tensor, g: Tensor) -> Tensor:
    """Mean square of the correlations between all entries of q and all of g over the batch.

    In [0, 1]; 0 = nothing in common.

    >>> q = torch.tensor([[0.0], [1.0], [2.0]])
    >>> round(correlation(q, -q).item(), 3)
    1.0
    """
    q = (q - q.mean(0)) / q.std(0).clamp(min=1e-6)
    g = (g - g.mean(0)) / g.std(0).clamp(min=1e-6)
    return (q.T @ g / (len(q) - 1)).square().mean()


def sequences(count: int, generator: Generator, most: int = 4,
              groups: Sequence[Sequence[int]] = GROUPS, spread: float = 2.5
              ) -> list[list[tuple[int, int]]]:
    """Random degradations, each a list of one to `most` (type, level), no two types of one group.

    Levels follow p(level) ~ exp(-(level - 1)^2 / (2 spread^2)), so mild ones are drawn more often.
    Source: ARNIQA.

    >>> [len(s) for s in sequences(4, torch.Generator().manual_seed(0))]
    [4, 2, 4, 3]
    """
    chances = torch.exp(-torch.arange(5.0).square() / (2 * spread**2))
    drawn = []
    for _ in range(count):
        order = torch.randperm(len(groups), generator=generator)
        length = torch.randint(1, most + 1, (), generator=generator)
        types = []
        for number in order[:length]:
            group = groups[number]
            types.append(group[torch.randint(len(group), (), generator=generator)])
        levels = 1 + torch.multinomial(chances, len(types), True, generator=generator)
        drawn.append([*zip(types, levels.tolist())])
    return drawn


def degrade(x: Tensor, which: Sequence[list[tuple[int, int]]], generator: Generator) -> Tensor:
    """Images (B, 3, H, W), each through its own sequence of (type, level), one step after the
    other."""
    for step in range(max(map(len, which))):
        rows = [row for row, sequence in enumerate(which) if len(sequence) > step]
        types = [which[row][step][0] for row in rows]
        levels = [which[row][step][1] for row in rows]
        x = x.index_copy(0, torch.tensor(rows), distort(x[rows], types, levels, generator))
    return x


def grid(photographs: Sequence[Tensor], count: int, size: int, generator: Generator
         ) -> tuple[Tensor, Tensor, Tensor]:
    """A batch of this stage: every image in each of `count` random degradations, two overlapping
    crops of each.

    Any two rows of the grid with two columns hold the paper's x1, x2 and y.

    Args:
        photographs: uint8 (3, H, W), M of them.
        count: K degradations, the same for all images.
        size: side P of a crop; two crops of an image share 10 to 30 %, as in `reiqa_pairs`.
        generator: of everything random.

    Returns:
        Crops (N, 3, P, P), N = 2 M K, and their contents and degradations, (N,) each.

    >>> photographs = torch.randint(256, (2, 3, 120, 100), dtype=torch.uint8)
    >>> x, contents, degradations = grid(photographs, 2, 32, torch.Generator().manual_seed(0))
    >>> x.shape, contents.tolist(), degradations.tolist()
    (torch.Size([8, 3, 32, 32]), [0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0, 1, 1])
    """
    offset = pair_offsets(1, size, (0.1, 0.3), generator)[0].tolist()
    which = sequences(count, generator)
    crops = []
    for photograph in photographs:
        sides = [size + shift + 2 * BORDER for shift in offset]
        region = images.from_uint8(cut(photograph, sides, generator))
        versions = degrade(region.expand(count, -1, -1, -1), which, generator)
        pair = cut_pair(versions[None], size, offset, BORDER, generator)  # (1, K, 3, P, P) each
        crops.append(torch.stack(pair, 2)[0])  # (K, 2, 3, P, P)
    labels = torch.cartesian_prod(torch.arange(len(crops)), torch.arange(count), torch.arange(2))
    return torch.cat(crops).flatten(0, 1), labels[:, 0], labels[:, 1]
