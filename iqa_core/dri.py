"""DRI-IQA: two vectors of a picture, its quality and its degradation, and a restoration network that helps to judge.

Yue, Lin, Yang, Ren, Dual-Representation Interaction Driven Image Quality Assessment with Restoration Assistance (WACV
2025, arXiv 2411.17390). The official repository holds no code, and of the paper only its abstract, introduction and
figure captions were at hand. So this is a RECONSTRUCTION: faithful to the structure that these state (tagged `paper`);
everything else is `ours`, in the style of DASR, Restormer and MANIQA.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Generator, Tensor, nn

from iqa_core import images
from iqa_core.contrast import Pictures
from iqa_core.data import Dataset, DatasetError
from iqa_core.distortions import distort
from iqa_core.files import progress, resume, write_tensors
from iqa_core.pairs import BORDER, _cut as cut, _cut_pair as cut_pair, pair_offsets
from iqa_core.settings import said
from iqa_core.train import CropMethod

# KADID-10k's groups: blur, colour, compression, noise, brightness, places, sharpness and contrast
GROUPS = [range(1, 4), range(4, 9), range(9, 11), range(11, 16), range(16, 19), range(19, 24), range(24, 26)]


@dataclass(frozen=True)
class DRIConfig:
    """What is built and how it is trained. `QUICK` and `SMOKE` fit a CPU. No size or weight of the paper is known."""

    # stage 1, the Dual-Representation Extractor
    trunk: tuple[int, ...] = said((64, 128, 256, 512), "ours, as DASR; the last is the length of both vectors together")
    split: bool = said(True, "paper, False = one vector that is both, the control")
    contents: int = said(8, "ours, pictures a step of stage 1")
    degradations: int = said(8, "ours, versions of each")
    patch: int = said(128, "ours, side of a crop in stage 1")
    temperature: float = said(0.1, "ours, as CONTRIQUE")
    decorrelation: float = said(0.01, "ours, weight of the correlation between the two halves")
    steps: int = said(100_000, "ours, of stage 1")
    lr1: float = said(1e-3, "ours, as DASR")
    # restoration
    restorer: int = said(32, "ours, channels of the restoration network at full size")
    blocks: tuple[int, ...] = said((2, 3, 3, 4), "ours, blocks a scale, a reduced Restormer")
    guidance: str = said("tgb", "paper, or to compare with: 'add', 'none'")
    restore_steps: int = said(50_000, "ours, of the restoration network alone")
    lr2: float = said(2e-4, "ours, as the authors' deraining network")
    # the predictor
    width: int = said(192, "ours, as MANIQA has in proportion")
    quality: bool = said(True, "paper, the quality half guides the predictor; False = ablation")
    degradation: bool = said(True, "paper, the degradation half guides it too; False = ablation")
    assist: bool = said(True, "paper, restoration features enter; False = ablation")
    rs: str = said("ratio align", "ours, parts of the RS loss, whose formula is not known; '' = none")
    lambda_rec: float = said(1.0, "ours")
    lambda_rs: float = said(0.1, "ours")
    joint: bool = said(True, "paper, 'the complete network joins in training'; False = extractor and restorer frozen")
    # training of stage 2
    crop: int = said(224, "ours, as MANIQA")
    epochs: int = said(30, "ours")
    batch: int = said(8, "ours, as MANIQA")
    lr: float = said(1e-4, "ours")
    weight_decay: float = said(1e-5, "ours, as MANIQA")
    test_crops: int = said(10, "ours")


def conv(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.1))


class Extractor(nn.Module):
    """The Dual-Representation Extractor: a picture becomes a quality vector q and a degradation vector g.

        e = mean over places of trunk(x),    q = first half of e,    g = second half

    With split=False both are the whole of e. The trunk halves the size three times and is that of DASR. Source:
    the two vectors and the halves, paper; all sizes, ours.

    >>> q, g, maps = Extractor((8, 16, 32, 64))(torch.rand(2, 3, 32, 32))
    >>> q.shape, g.shape, [tuple(m.shape[1:]) for m in maps]
    (torch.Size([2, 32]), torch.Size([2, 32]), [(8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4)])
    """

    def __init__(self, widths: tuple[int, ...], split: bool = True):
        super().__init__()
        self.split, self.length = split, widths[-1] // 2 if split else widths[-1]
        self.scales = nn.ModuleList(nn.Sequential(conv(before, after, 1 + (i > 0)), conv(after, after))
                                    for i, (before, after) in enumerate(zip((3, *widths), widths)))
        self.heads = nn.ModuleList(nn.Sequential(nn.Linear(self.length, self.length), nn.LeakyReLU(0.1),
                                                 nn.Linear(self.length, 128)) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """(B, 3, H, W) -> q (B, length), g (B, length), and the maps (B, widths[i], H / 2^i, W / 2^i)."""
        maps = []
        for scale in self.scales:
            x = scale(x)
            maps.append(x)
        e = x.mean((2, 3))
        q, g = e.chunk(2, 1) if self.split else (e, e)
        return q, g, maps


def relations(contents: Tensor, degradations: Tensor) -> tuple[Tensor, Tensor]:
    """Who is positive to whom: boolean (N, N) for the quality half and for the degradation half.

                                            quality     degradation
        same picture, same degradation      positive    positive       two crops of one distorted picture
        other picture, same degradation     negative    positive       the paper's "degradation-positive"
        same picture, other degradation     negative    negative
        neither                             negative    negative

    Args:
        contents, degradations: (N,) integers: which picture, which degradation (sequence of types and levels).

    Source: three images x1, x2 (one content, two degradations) and y (neither) with two crops each, paper (figure 3);
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


class Guided(nn.Module):
    """Transposed Guidance Block: a Restormer block whose attention listens to a vector, or to a second map.

        Fh = LN(F) (1 + gamma) + beta,    (gamma, beta, kappa) = MLP(v), 0 at the start
        F1 = F + W (softmax(Q K^T tau exp(kappa)) V),    Q, K, V from Fh, Q and K of length 1 over places
        F2 = F1 + W (gelu(a) * b),    a, b = depth-wise 3 x 3 of a linear map of LN(F1)

    The attention is between channels ("transposed"), so its cost grows with the number of places, not its square.
    With `guide_map` K and V come from that map instead (it is resampled to the size of F). Without v and map it is a plain Restormer block. Source: its
    name, and that the quality half and features of the picture meet in it, paper; equations, ours.

    >>> Guided(16, 2, vector=8)(torch.rand(2, 16, 6, 10), torch.rand(2, 8)).shape
    torch.Size([2, 16, 6, 10])
    """

    def __init__(self, width: int, heads: int, vector: int = 0, guide: int = 0, growth: float = 2.66):
        super().__init__()
        hidden = round(growth * width)
        self.heads = heads
        self.norm1, self.norm2 = nn.GroupNorm(1, width), nn.GroupNorm(1, width)
        self.project = nn.Conv2d(guide, width, 1) if guide else None
        self.query, self.keys = self._maps(width, width), self._maps(width, 2 * width)
        self.out = nn.Conv2d(width, width, 1, bias=False)
        self.temperature = nn.Parameter(torch.ones(heads))
        self.up, self.down = self._maps(width, 2 * hidden), nn.Conv2d(hidden, width, 1, bias=False)
        self.mlp = None
        if vector:
            self.mlp = nn.Sequential(nn.Linear(vector, vector), nn.LeakyReLU(0.1), nn.Linear(vector, 2 * width + heads))
            nn.init.zeros_(self.mlp[-1].weight)
            nn.init.zeros_(self.mlp[-1].bias)

    @staticmethod
    def _maps(before: int, after: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(before, after, 1, bias=False),
                             nn.Conv2d(after, after, 3, padding=1, groups=after, bias=False))

    def forward(self, x: Tensor, v: Tensor | None = None, guide: Tensor | None = None) -> Tensor:
        """x (B, width, H, W), v (B, vector), guide (B, guide, h, w) -> (B, width, H, W)."""
        normed, kappa = self.norm1(x), 0.0
        if self.mlp is not None:
            gamma, beta, kappa = self.mlp(v).split([x.shape[1], x.shape[1], self.heads], 1)
            normed = normed * (1 + gamma[..., None, None]) + beta[..., None, None]
            kappa = kappa[..., None, None]
        source = normed
        if self.project is not None:
            source = self.project(F.adaptive_avg_pool2d(guide, x.shape[-2:]))
        q, k, u = (m.flatten(2).unflatten(1, (self.heads, -1))
                   for m in (self.query(normed), *self.keys(source).chunk(2, 1)))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        scale = self.temperature[:, None, None] * (kappa.exp() if torch.is_tensor(kappa) else 1)
        found = ((q @ k.transpose(-1, -2) * scale).softmax(-1) @ u).flatten(1, 2).view_as(x)
        x = x + self.out(found)
        a, b = self.up(self.norm2(x)).chunk(2, 1)
        return x + self.down(F.gelu(a) * b)


class Restorer(nn.Module):
    """A reduced Restormer: x_res = x + U-net(x), told by the degradation vector what to undo.

    Every stage begins with a guided block, plain ones follow. guidance="add" adds a linear map of the vector to every
    stage instead (as the authors' deraining network does), "none" leaves it out. Source: a restoration network that
    the extractor guides, paper; its layout, ours.

    >>> restored, maps = Restorer(8, (1, 1, 1, 1), vector=6)(torch.rand(2, 3, 32, 40), torch.rand(2, 6))
    >>> restored.shape, [tuple(m.shape[1:]) for m in maps]
    (torch.Size([2, 3, 32, 40]), [(16, 32, 40), (16, 16, 20), (32, 8, 10), (64, 4, 5)])
    """

    def __init__(self, width: int, blocks: tuple[int, ...], vector: int, guidance: str = "tgb"):
        super().__init__()
        sizes = [width * 2**i for i in range(4)]
        listens = vector if guidance == "tgb" else 0

        def stage(channels: int, heads: int, count: int) -> nn.ModuleList:
            return nn.ModuleList(Guided(channels, heads, listens if i == 0 else 0) for i in range(count))

        self.first, self.last = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(2 * width, 3, 3, padding=1)
        heads = (1, 2, 4, 8)
        self.encode = nn.ModuleList(map(stage, sizes, heads, blocks))
        self.decode = nn.ModuleList(map(stage, (2 * width, *sizes[1:3]), heads, blocks))
        self.shrink = nn.ModuleList(nn.Sequential(nn.Conv2d(c, c // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))
                                    for c in sizes[:3])
        self.grow = nn.ModuleList(nn.Sequential(nn.Conv2d(2 * c, 4 * c, 3, padding=1, bias=False), nn.PixelShuffle(2))
                                  for c in sizes[:3])
        self.merge = nn.ModuleList([nn.Identity(), *(nn.Conv2d(2 * c, c, 1, bias=False) for c in sizes[1:3])])
        self.add = nn.ModuleList(nn.Linear(vector, c) for c in sizes) if guidance == "add" else None

    def _stage(self, x: Tensor, g: Tensor, blocks: nn.ModuleList, scale: int) -> Tensor:
        if self.add is not None and x.shape[1] == self.add[scale].out_features:
            x = x + self.add[scale](g)[..., None, None]
        for block in blocks:
            x = block(x, g)
        return x

    def forward(self, x: Tensor, g: Tensor) -> tuple[Tensor, list[Tensor]]:
        """x (B, 3, H, W), sides multiples of 8, and g (B, vector) -> restored (B, 3, H, W), maps fine to coarse."""
        y, skips = self.first(x), []
        for scale in range(3):
            y = self._stage(y, g, self.encode[scale], scale)
            skips.append(y)
            y = self.shrink[scale](y)
        maps = [self._stage(y, g, self.encode[3], 3)]
        for scale in (2, 1, 0):
            y = self.merge[scale](torch.cat([self.grow[scale](maps[0]), skips[scale]], 1))
            maps.insert(0, self._stage(y, g, self.decode[scale], scale))
        return x + self.last(maps[0]), maps


class SwinStage(nn.Module):
    """MANIQA's scaled Swin stage: x <- 0.8 layer(x) + x, twice; layer = two Swin blocks, 3 x 3 convolution, ReLU."""

    def __init__(self, width: int, side: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict({
            "blocks": nn.Sequential(*(SwinTransformerBlock(width, (side, side), 4, window_size=4, shift_size=s, dynamic_mask=True)
                                      for s in (0, 2))),
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

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight(x).sigmoid()
        return (self.score(x) * weight).sum((1, 2, 3)) / (weight.sum((1, 2, 3)) + 1e-8)


class Predictor(nn.Module):
    """The score from the picture's features, the two vectors, and what the restoration network saw.

        X = mix(stem(x), stem(|x_res - x|), D_1 ... D_4)      at an eighth of the size; without `assist` stem(x) alone
        X = TGB(X, guide = D),   X = TGB(X, v = [q; g])       the interaction
        score = head(Swin(reduce(Swin(X))))

    Source: quality vector and the picture's features meet in a TGB before Swin blocks, paper (figure 4); rest ours.
    """

    def __init__(self, config: DRIConfig, maps: list[int], vector: int):
        super().__init__()
        c, part = config, config.width // 3
        self.assist = c.assist

        def stem() -> nn.Sequential:
            layers = [[nn.Conv2d(before, part, 3, 2, 1), nn.GELU()] for before in (3, part, part)]
            return nn.Sequential(*(layer for pair in layers for layer in pair))

        self.stem = stem()
        inputs, self.guided = part, None
        if c.assist:
            self.change = stem()
            self.reduce_maps = nn.ModuleList(nn.Conv2d(channels, part // 4, 1) for channels in maps)
            self.guided = Guided(c.width, 4, guide=4 * (part // 4))
            inputs = 2 * part + 4 * (part // 4)
        self.mix = nn.Conv2d(inputs, c.width, 1)
        self.interact = Guided(c.width, 4, vector=vector) if vector else None
        self.swin1, self.swin2 = SwinStage(c.width, c.crop // 8), SwinStage(c.width // 2, c.crop // 8)
        self.reduce = nn.Conv2d(c.width, c.width // 2, 1)
        self.head = Head(c.width // 2)

    def forward(self, x: Tensor, v: Tensor | None, restored: Tensor, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """-> scores (B,), and the pooled features (B, width // 2) that the RS loss looks at."""
        found = [self.stem(x)]
        if self.assist:
            size = found[0].shape[-2:]
            seen = torch.cat([reduce(F.adaptive_avg_pool2d(m, size)) for reduce, m in zip(self.reduce_maps, maps)], 1)
            found += [self.change((restored - x).abs()), seen]
        y = self.mix(torch.cat(found, 1))
        if self.assist:
            y = self.guided(y, guide=seen)
        if self.interact is not None:
            y = self.interact(y, v)
        y = self.swin2(self.reduce(self.swin1(y)))
        return self.head(y), y.mean((2, 3))


def semantic_loss(parts: str, features: Tensor, q: Tensor, g: Tensor, pull: nn.ModuleList,
                  of: Callable[[Tensor], tuple], x: Tensor, restored: Tensor | None, x_ref: Tensor | None) -> Tensor:
    """RS loss, the sum of its `parts`:

        ratio = mean over r in {q, g} of |r(x_res) - r(x_ref)|_1 / (|r(x_res) - r(x)|_1 + 1e-7)     needs x_ref
        align = 1 - cos(W_q y, sg(q)) + 1 - cos(W_g y, sg(g)),    y = pooled features of the predictor

    ratio: the restored picture must be represented as the pristine one, not as the degraded one. Source: name and
    purpose, paper; the formulas are ours, `ratio` after the authors' deraining network.
    """
    loss = features.new_zeros(())
    if "align" in parts:
        loss = sum(1 - F.cosine_similarity(w(features), v.detach()).mean() for w, v in zip(pull, (q, g)))
    if "ratio" in parts and x_ref is not None and restored is not None:
        for r, r_ref, r_x in zip(of(restored)[:2], of(x_ref)[:2], (q, g)):
            near, far = ((r - other.detach()).abs().mean(1) for other in (r_ref, r_x))
            loss = loss + (near / (far + 1e-7)).mean() / 2
    return loss


class Network(nn.Module):
    """The network behind `DRIIQA`: (B, 3, H, W) in [0, 1], sides multiples of 8 -> (B,), HIGHER = BETTER."""

    def __init__(self, config: DRIConfig):
        super().__init__()
        c = config
        self.config = c
        self.extractor = Extractor(c.trunk, c.split)
        length = self.extractor.length
        self.restorer = Restorer(c.restorer, c.blocks, length, c.guidance) if c.assist else None
        maps = [2 * c.restorer, *(c.restorer * 2**i for i in (1, 2, 3))]
        self.predictor = Predictor(c, maps, length * (c.quality + c.degradation))
        self.pull = nn.ModuleList(nn.Linear(c.width // 2, length) for _ in range(2)) if "align" in c.rs else None

    def look(self, x: Tensor) -> tuple[Tensor, Tensor | None, tuple[Tensor, Tensor], Tensor]:
        """Scores (B,), the restored pictures, (q, g), and the predictor's pooled features."""
        c = self.config
        q, g, _ = self.extractor(x)
        restored, maps = self.restorer(x, g) if self.restorer is not None else (None, [])
        told = [v for v, on in ((q, c.quality), (g, c.degradation)) if on]
        score, features = self.predictor(x, torch.cat(told, 1) if told else None, restored, maps)
        return score, restored, (q, g), features

    def forward(self, x: Tensor) -> Tensor:
        return self.look(x)[0]


def sequences(count: int, generator: Generator) -> list[list[tuple[int, int]]]:
    """Random degradations, each a list of one to four (type, level), no two types of one group.

    Levels follow p(level) ~ exp(-(level - 1)^2 / (2 * 2.5^2)), so mild ones are drawn more often. Source: ARNIQA.

    >>> [len(s) for s in sequences(4, torch.Generator().manual_seed(0))]
    [1, 4, 4, 2]
    """
    chances = torch.exp(-torch.arange(5.0).square() / (2 * 2.5**2))
    found = []
    for _ in range(count):
        groups = torch.randperm(len(GROUPS), generator=generator)[:torch.randint(1, 5, (), generator=generator)]
        types = [GROUPS[g][torch.randint(len(GROUPS[g]), (), generator=generator)] for g in groups]
        levels = 1 + torch.multinomial(chances, len(types), True, generator=generator)
        found.append([*zip(types, levels.tolist())])
    return found


def degrade(x: Tensor, which: Sequence[list[tuple[int, int]]], generator: Generator) -> Tensor:
    """Pictures (B, 3, H, W), each through its own sequence, one step after the other."""
    for step in range(max(map(len, which))):
        rows = [i for i, s in enumerate(which) if len(s) > step]
        x = x.index_copy(0, torch.tensor(rows), distort(x[rows], *zip(*(which[i][step] for i in rows)), generator))
    return x


def grid(pictures: Sequence[Tensor], config: DRIConfig, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A batch of stage 1: every picture in every degradation, two overlapping crops of each.

    Args:
        pictures: uint8 (3, H, W), `config.contents` of them.

    Returns:
        Crops (N, 3, P, P), and their contents and degradations (N,); N = 2 x contents x degradations.
    """
    m, k, size = len(pictures), config.degradations, config.patch
    offset = pair_offsets(1, size, (0.1, 0.3), generator)[0].tolist()
    regions = [cut(picture, [size + s + 2 * BORDER for s in offset], generator) for picture in pictures]
    which, parts = sequences(k, generator), []
    for region in regions:
        versions = degrade(images.from_uint8(region).expand(k, -1, -1, -1), which, generator)
        parts.append(torch.stack(cut_pair(versions[None], size, offset, BORDER, generator), 2)[0])  # (K, 2, 3, P, P)
    labels = torch.cartesian_prod(torch.arange(m), torch.arange(k), torch.arange(2))
    return torch.cat(parts).flatten(0, 1), labels[:, 0], labels[:, 1]


def train_steps(net: nn.Module, loss: Callable[[int], Tensor], steps: int, lr: float, checkpoint: str | Path | None,
                made_of: dict, every: int = 100) -> pd.DataFrame:
    """Adam with half a cosine from lr to lr / 1000, a checkpoint every so many steps. Returns the loss of each step.

    Args:
        loss: number of the step -> loss; all that is random in it follows from that number.
    """
    learner = torch.optim.Adam((p for p in net.parameters() if p.requires_grad), lr=lr)
    history = resume(checkpoint, made_of, net=net, learner=learner).get("history", [])
    net.train()
    for step in progress(range(len(history), steps), made_of["what"]):
        for group in learner.param_groups:
            group["lr"] = lr * (0.001 + 0.999 * (1 + math.cos(math.pi * step / steps)) / 2)
        value = loss(step)
        if not value.isfinite():
            raise RuntimeError(f"The loss of step {step} ({made_of['what']}) is {value.item()}; start again with lr below "
                               f"{lr}.")
        learner.zero_grad()
        value.backward()
        learner.step()
        history.append(value.item())
        if checkpoint and (step + 1) % every == 0 or checkpoint and step + 1 == steps:
            write_tensors(checkpoint, {**made_of, "net": net.state_dict(), "learner": learner.state_dict(),
                                       "history": history})
    net.eval()
    return pd.DataFrame({"loss": history})


def pristine(train: Dataset, more: Dataset | None) -> Dataset:
    """The pictures that stage 1 and the restoration network learn from, and nothing that is tested.

    The references of the training part, if it has them; else `more`, of which, if it is of the same set, only training
    contents are taken.

    Raises:
        DatasetError: there are none.
    """
    if train.card.reference and more is None:
        rows = ~train.table["reference"].duplicated()
        table = train.table[rows].assign(image=train.table["reference"][rows])
        return dataclasses.replace(train, table=table.reset_index(drop=True))
    if more is None:
        raise DatasetError(f"{train.name} has no references: give pristine pictures, such as data.load('kodak').")
    if more.name == train.name or more.root.resolve() == train.root.resolve():
        more = more.subset(more.table["content"].isin(train.table["content"]))
    if not len(more):
        raise DatasetError(f"{more.name}: all its pictures may be in the validation or test part. Give others.")
    return more


class DRIIQA(CropMethod):
    """DRI-IQA as a method: stage 1, restoration, then the score, all on the training part.

        L = MSE(y, mos) + lambda_rec |x_res - x_ref| + lambda_rs RS      the middle term where there are references

    Args:
        pictures: pristine pictures for stage 1 and restoration; default: the references of the training part.
    """

    name = "dri-iqa"
    config_class = DRIConfig
    network = Network

    def __init__(self, config: DRIConfig = DRIConfig(), pictures: Dataset | None = None):
        super().__init__(config)
        self.pictures = pictures

    def fit(self, train: Dataset, val: Dataset | None = None, checkpoint: str | Path | None = None) -> DRIIQA:
        self.seed = torch.initial_seed() % 2**31
        self.source = [*Pictures(pristine(train, self.pictures))]
        self.checkpoint = checkpoint
        self.paired = train.card.reference
        return super().fit(train, val, checkpoint)

    def learner(self) -> torch.optim.Optimizer:
        """Stages 1 and 2a run here, on the fresh network; then Adam for stage 2."""
        c, net = self.config, self.net
        made_of = {"config": dataclasses.asdict(c), "seed": self.seed, "pictures": len(self.source)}

        def name(what: str) -> str | None:
            return self.checkpoint and f"{self.checkpoint}.{what}"

        self.stage1 = train_steps(net.extractor, self.represent, c.steps, c.lr1, name("extractor"),
                                  made_of | {"what": "extractor"})
        if net.restorer is not None:
            net.extractor.requires_grad_(False)
            self.stage2 = train_steps(net.restorer, self.restore, c.restore_steps, c.lr2, name("restorer"),
                                      made_of | {"what": "restorer"})
            net.extractor.requires_grad_(True)
        if not c.joint:
            net.extractor.requires_grad_(False)
            if net.restorer is not None:
                net.restorer.requires_grad_(False)
        return torch.optim.Adam((p for p in net.parameters() if p.requires_grad), lr=c.lr, weight_decay=c.weight_decay)

    def rate(self, epoch: float) -> float:
        return 0.001 + 0.999 * (1 + math.cos(math.pi * epoch / self.config.epochs)) / 2

    def _batch(self, step: int, purpose: int) -> tuple[list[Tensor], Generator]:
        """Pictures of a step, and a generator of its own."""
        seeds = np.random.SeedSequence([self.seed, purpose, step]).generate_state(2)
        order = np.random.default_rng(seeds[0]).permutation(len(self.source))[:self.config.contents]
        return [self.source[i] for i in order], Generator().manual_seed(int(seeds[1]))

    def represent(self, step: int) -> Tensor:
        """The loss of stage 1: contrast of both halves, and their correlation."""
        c = self.config
        x, contents, degradations = grid(*self._batch(step, 1)[:1], c, self._batch(step, 1)[1])
        q, g, _ = self.net.extractor(x.to(self.device))
        quality, degradation = (m.to(self.device) for m in relations(contents, degradations))
        loss = sum(contrast(head(v), positive, c.temperature) for head, v, positive in
                   zip(self.net.extractor.heads, (q, g), (quality, degradation)))
        return loss + c.decorrelation * correlation(q, g) if c.split else loss

    def restore(self, step: int) -> Tensor:
        """The loss of the restoration network: mean |x_res - x_ref|, on crops that the bank has degraded."""
        pictures, generator = self._batch(step, 2)
        x_ref = images.from_uint8(torch.stack([cut(p, [self.config.patch] * 2, generator) for p in pictures]))
        x = degrade(x_ref, sequences(len(x_ref), generator), generator)
        x, x_ref = x.to(self.device), x_ref.to(self.device)
        with torch.no_grad():
            g = self.net.extractor.eval()(x)[1]
        return (self.net.restorer(x, g)[0] - x_ref).abs().mean()

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        c, x, x_ref = self.config, batch["x"], batch.get("x_ref")
        y, restored, (q, g), features = self.net.look(x)
        loss = F.mse_loss(y, batch["score"])
        if restored is not None and x_ref is not None:
            loss = loss + c.lambda_rec * (restored - x_ref).abs().mean()
        if c.rs:
            loss = loss + c.lambda_rs * semantic_loss(c.rs, features, q, g, self.net.pull, self.net.extractor, x, restored,
                                                      x_ref)
        return loss
