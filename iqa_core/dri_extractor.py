"""DRI-IQA's first stage: one network gives two vectors of a picture, its quality q and its degradation g.

Yue, Lin, Yang, Ren, Dual-Representation Interaction Driven Image Quality Assessment with Restoration Assistance (WACV
2025, arXiv 2411.17390). Of the paper only abstract, introduction and figure captions were at hand, and the official
repository holds no code. The two halves, their positives and negatives, and the three pictures x1, x2 and y are the
paper's; sizes, losses and the drawing of degradations are ours, in the style of DASR, CONTRIQUE and ARNIQA.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from iqa_core import backbones, images
from iqa_core.distortions import distort
from iqa_core.reiqa_pairs import BORDER, cut, cut_pair, pair_offsets

# KADID-10k's groups of types: blur, colour, compression, noise, brightness, places, sharpness and contrast
GROUPS = [range(1, 4), range(4, 9), range(9, 11), range(11, 16), range(16, 19), range(19, 24), range(24, 26)]


def conv(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.1))


class Extractor(nn.Module):
    """The Dual-Representation Extractor: a picture becomes a quality vector q and a degradation vector g.

        e = mean over places of trunk(x),    q = first half of e,    g = second half

    With split=False both are the whole of e. The trunk is DASR's, new, of four widths; the last is the length of e. Or
    it is a trained pyramid of timm, by name; then e = W BN([mean, standard deviation of each of its maps])
    is 128 long. The heads serve the losses of this stage alone. `fold` is the stride of the finest map.

    >>> q, g, maps = Extractor((8, 16, 32, 64))(torch.rand(2, 3, 32, 32))
    >>> q.shape, g.shape, [tuple(m.shape[1:]) for m in maps]
    (torch.Size([2, 32]), torch.Size([2, 32]), [(8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4)])
    """

    def __init__(self, trunk: tuple[int, ...] | str, split: bool = True, weights: str | Path = "auto"):
        super().__init__()
        self.split = split
        if isinstance(trunk, str):
            self.trunk = backbones.pyramid(trunk, weights)
            strides = self.trunk.strides
            if len(strides) < 4 or list(strides[:4]) != [strides[0] * 2**i for i in range(4)]:
                raise ValueError(f"{trunk} has maps of strides {strides}; the extractor needs four "
                                 "that double, such as 2, 4, 8 and 16. Take resnet50, "
                                 "tf_efficientnet_lite0 or four widths of a new trunk.")
            n, length = sum(self.trunk.channels), 128
            self.widths = self.trunk.channels[:4]
            self.fold = strides[0]
            self.embed = nn.Sequential(nn.BatchNorm1d(2 * n), nn.Linear(2 * n, length))
        else:
            self.trunk = nn.ModuleList(nn.Sequential(conv(before, after, 1 + (i > 0)), conv(after, after))
                                       for i, (before, after) in enumerate(zip((3, *trunk), trunk)))
            self.widths, self.fold, length, self.embed = trunk, 1, trunk[-1], None
        self.length = n = length // 2 if split else length
        self.heads = nn.ModuleList(nn.Sequential(nn.Linear(n, n), nn.LeakyReLU(0.1), nn.Linear(n, 128)) for _ in range(2))

    def try_crop(self, crop: int) -> None:
        """ValueError if a pyramid as the trunk does not take crops of this size."""
        if self.embed is not None:
            backbones.expect_crop(self.trunk, crop)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """(B, 3, H, W) -> q (B, length), g (B, length), and four maps (B, widths[i], H / (fold 2^i), W / (fold 2^i))."""
        if self.embed is not None:
            maps = self.trunk(x)
            e = self.embed(torch.cat([part for m in maps for part in (m.mean((2, 3)), (m.var((2, 3)) + 1e-5).sqrt())], 1))
        else:
            maps = []
            for scale in self.trunk:
                x = scale(x)
                maps.append(x)
            e = x.mean((2, 3))
        q, g = e.chunk(2, 1) if self.split else (e, e)
        return q, g, maps[:4]


def relations(contents: Tensor, degradations: Tensor) -> tuple[Tensor, Tensor]:
    """Who is positive to whom: boolean (N, N) for the quality half and for the degradation half.

                                            quality     degradation
        same picture, same degradation      positive    positive       two crops of one distorted picture
        other picture, same degradation     negative    positive       the paper's "degradation-positive"
        same picture, other degradation     negative    negative
        neither                             negative    negative

    Args:
        contents, degradations: (N,) integers: which picture, which degradation (sequence of types and levels).

    Source: three images x1, x2 (one content, two degradations) and y (neither) with two patches each, paper (figure 3);
    its table was not at hand, so what follows from it is ours.

    >>> quality, degradation = relations(torch.tensor([0, 0, 1, 0]), torch.tensor([0, 0, 0, 1]))
    >>> quality[0].int().tolist(), degradation[0].int().tolist()
    ([0, 1, 0, 0], [0, 1, 1, 0])
    """
    other = ~torch.eye(len(contents), dtype=torch.bool, device=contents.device)
    degradation = (degradations[:, None] == degradations) & other
    return degradation & (contents[:, None] == contents), degradation


def contrast(z: Tensor, positive: Tensor, temperature: float) -> Tensor:
    """Supervised contrast; with one positive an anchor it is InfoNCE.

        L = mean_a mean_{p in P(a)} -log( exp(z_a z_p / T) / sum_{j != a} exp(z_a z_j / T) )

    Args:
        z: (N, D), brought to length 1 here.
        positive: (N, N), from `relations`. Anchors without a positive do not count.

    >>> z = torch.eye(2).repeat_interleave(2, 0)
    >>> contrast(z, relations(torch.tensor([0, 0, 1, 1]), torch.zeros(4))[0], 0.01).item() < 1e-3
    True
    """
    z = F.normalize(z, dim=1)
    likeness = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    loss = -likeness.log_softmax(1).masked_fill(~positive, 0).sum(1) / positive.sum(1).clamp(min=1)
    return loss.sum() / positive.any(1).sum().clamp(min=1)


def correlation(q: Tensor, g: Tensor) -> Tensor:
    """Mean square of the correlations between all entries of q and all of g over the batch: 0 = nothing in common."""
    q, g = ((v - v.mean(0)) / v.std(0).clamp(min=1e-6) for v in (q, g))
    return (q.T @ g / (len(q) - 1)).square().mean()


def sequences(count: int, generator: Generator, most: int = 4, groups: Sequence[Sequence[int]] = GROUPS,
              spread: float = 2.5) -> list[list[tuple[int, int]]]:
    """Random degradations, each a list of one to `most` (type, level), no two types of one of the `groups`.

    Levels follow p(level) ~ exp(-(level - 1)^2 / (2 spread^2)), so mild ones are drawn more often. Source: ARNIQA.

    >>> [len(s) for s in sequences(4, torch.Generator().manual_seed(0))]
    [4, 2, 4, 3]
    """
    chances = torch.exp(-torch.arange(5.0).square() / (2 * spread**2))
    found = []
    for _ in range(count):
        chosen = torch.randperm(len(groups), generator=generator)[:torch.randint(1, most + 1, (), generator=generator)]
        types = [groups[g][torch.randint(len(groups[g]), (), generator=generator)] for g in chosen]
        levels = 1 + torch.multinomial(chances, len(types), True, generator=generator)
        found.append([*zip(types, levels.tolist())])
    return found


def degrade(x: Tensor, which: Sequence[list[tuple[int, int]]], generator: Generator) -> Tensor:
    """Pictures (B, 3, H, W), each through its own sequence, one step after the other."""
    for step in range(max(map(len, which))):
        rows = [i for i, s in enumerate(which) if len(s) > step]
        x = x.index_copy(0, torch.tensor(rows), distort(x[rows], *zip(*(which[i][step] for i in rows)), generator))
    return x


def grid(pictures: Sequence[Tensor], count: int, size: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A batch of this stage: every picture in each of `count` random degradations, two overlapping crops of each.

    Any two rows of the grid with two columns hold the paper's x1, x2 and y.

    Args:
        pictures: uint8 (3, H, W), M of them.
        count: K degradations, the same for all pictures.
        size: side P of a crop; two crops of a picture share 10 to 30 %, as in `pairs`.

    Returns:
        Crops (N, 3, P, P), N = 2 M K, and their contents and degradations, (N,) each.

    >>> photos = torch.randint(256, (2, 3, 120, 100), dtype=torch.uint8)
    >>> x, contents, degradations = grid(photos, 3, 32, torch.Generator().manual_seed(0))
    >>> x.shape, contents.tolist(), degradations.tolist()
    (torch.Size([12, 3, 32, 32]), [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2])
    """
    offset = pair_offsets(1, size, (0.1, 0.3), generator)[0].tolist()
    which, parts = sequences(count, generator), []
    for picture in pictures:
        region = images.from_uint8(cut(picture, [size + s + 2 * BORDER for s in offset], generator))
        versions = degrade(region.expand(count, -1, -1, -1), which, generator)
        parts.append(torch.stack(cut_pair(versions[None], size, offset, BORDER, generator), 2)[0])  # (K, 2, 3, P, P)
    labels = torch.cartesian_prod(torch.arange(len(parts)), torch.arange(count), torch.arange(2))
    return torch.cat(parts).flatten(0, 1), labels[:, 0], labels[:, 1]
