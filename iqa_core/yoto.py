"""YOTO: one attention network that scores a picture with its reference and without it.

Yun and Lin, You Only Train Once: a unified framework for both full-reference and no-reference image quality
assessment (arXiv 2310.09560). The modules follow the official code, github.com/BarCodeReader/YOTO; where that code
seems to be in error this file does what the paper says, and `as_code` brings two of the errors back to be tried.
A grid of a map is written (h, w); its tokens are the h w positions, row by row.
"""

import dataclasses
import math
from itertools import combinations
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from iqa_core import backbones
from iqa_core.settings import (
    expect_number, expect_positive, expect_switch, expect_text, expect_whole, expect_words)
from iqa_core.train import CropMethod, groups

Grid = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class YOTOConfig:
    """What is built and how it is trained. The defaults are the paper's; `QUICK` and `SMOKE` fit a CPU."""

    task: Annotated[str, "paper, or 'fr' or 'nr' alone"] = "joint"
    encoder: Annotated[
        str, "paper, any timm pyramid with strides 4, 8, 16, 32"
    ] = "swin_tiny_patch4_window7_224"
    weights: Annotated[str, "ours, ImageNet-1k from timm; the paper has ImageNet-22k"] = "auto"
    drop_path: Annotated[float, "code"] = 0.2
    width: Annotated[int, "code"] = 768
    channel: Annotated[str, "code, or 'pooled' or 'off'"] = "full"
    task_embedding: Annotated[bool, "code, a part of ha: without ha there is none"] = True
    ha: Annotated[bool, "paper"] = True
    asks: Annotated[str, "code, or 'distorted', ours: then the reference answers"] = "reference"
    sda: Annotated[bool, "paper"] = True
    as_code: Annotated[
        bool, "ours, True brings back the code's scrambled values and its second residual"
    ] = False
    dropout: Annotated[float, "code"] = 0.1
    recompute: Annotated[
        bool, "ours, attention is computed again for the backward pass: less memory, more time"
    ] = True
    crop: Annotated[int, "code"] = 224
    epochs: Annotated[int, "ours, the code's 600 go six times through one cosine of 100"] = 100
    batch: Annotated[int, "code"] = 16
    lr: Annotated[float, "code"] = 1e-4
    encoder_rate: Annotated[float, "code, learning rate of the encoder / that of all else"] = 0.1
    weight_decay: Annotated[float, "code"] = 1e-5
    test_crops: Annotated[int, "code, seeded positions; 5 = corners and centre"] = 20

    def __post_init__(self):
        expect_words(self, task=("joint", "fr", "nr"), channel=("full", "pooled", "off"), asks=("reference", "distorted"))
        expect_text(self, "encoder", "weights")
        expect_switch(self, "task_embedding", "ha", "sda", "as_code", "recompute")
        expect_whole(self, 2, "width")
        expect_whole(self, 1, "epochs", "batch", "test_crops")
        expect_positive(self, "lr")
        expect_number(self, 0, math.inf, "encoder_rate", "weight_decay")
        expect_number(self, 0, 0.99, "drop_path", "dropout")
        expect_whole(self, 32, "crop")
        if self.crop % 32:
            raise ValueError(f"crop={self.crop} must be a multiple of 32, the deepest stride: its "
                             "maps are cut into cells.")
        if self.as_code and self.channel == "off":
            raise ValueError("as_code=True changes the channel attention, so with channel='off' "
                             "it has no effect: set as_code=False, or channel='full'.")
        if self.asks == "distorted" and not self.ha:
            raise ValueError("asks='distorted' is about ha, so with ha=False it has no effect: "
                             "set asks='reference'.")
        if self.asks == "distorted" and self.task == "nr":
            raise ValueError("asks='distorted' needs references, so with task='nr' it has no "
                             "effect: set asks='reference'.")


QUICK = YOTOConfig(encoder="tf_efficientnet_lite0", drop_path=0.0, width=64, channel="pooled", recompute=False,
                   crop=96, epochs=6, lr=1e-3, test_crops=5)
SMOKE = dataclasses.replace(QUICK, width=32, crop=64, epochs=4, batch=8)


class GatedAttention(nn.Module):
    """One head of attention, weighed by a gate that each token opens for itself:

        out = x + gelu(x w + b) * dropout(softmax(Q K^T / sqrt(C)) V),    Q = q W_q,  K = kv W_k,  V = kv W_v

    With q = kv it is self-attention; with q from somewhere else it is cross-attention. With `cells` each token looks
    only into its own cell of the two grids (see `to_cells`). Source: official code.

    >>> GatedAttention(8)(torch.rand(2, 5, 8), torch.rand(2, 5, 8), torch.rand(2, 3, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, width: int, dropout: float = 0.1):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.gate = nn.Linear(width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, q: Tensor, kv: Tensor, cells: Grid | None = None, q_grid: Grid | None = None,
                kv_grid: Grid | None = None) -> Tensor:
        """x and q (B, N, C), one q a token of x; kv (B, M, C) -> (B, N, C). `cells` needs both grids."""
        k, v = self.key(kv), self.value(kv)
        if kv.shape[1] < q.shape[1]:  # (q W_q) k' = q (k W_q')': the fewer tokens are multiplied
            k = k @ self.query.weight
        else:
            q = self.query(q)
        if cells:  # cut after the linear maps: before them each piece would be kept for the backward pass
            q, k, v = to_cells(q, q_grid, cells), to_cells(k, kv_grid, cells), to_cells(v, kv_grid, cells)
        found = F.scaled_dot_product_attention(q, k, v)
        if cells:
            found = from_cells(found, q_grid, cells)
        return x + F.gelu(self.gate(x)) * self.dropout(found)

    def weights(self, q: Tensor, kv: Tensor) -> Tensor:
        """The attention itself, (B, N, M): how much of each kv token goes to each q. Rows sum to 1."""
        return (self.query(q) @ self.key(kv).transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1)


class ChannelAttention(nn.Module):
    """Attention between channels: each channel, seen as a vector over N = side^2 positions, asks all others.

        Q, K, V = linear over positions of X (C, N);   out = gelu(X w + b) * dropout(softmax(Q K^T / sqrt(N)) V) + X

    The linear maps belong to positions, so they fit one grid only. A map of another size is resampled to that grid,
    and the answer back to the map. With `side` = the map's own side nothing is resampled: that is the paper's layer.
    With a small side it has few weights and reads a summary of the map: `channel="pooled"`.

    Args:
        side: side of the square grid.
        as_code: transpose and reshape the values wrongly, and add X twice, as the official code does.

    >>> ChannelAttention(4)(torch.rand(2, 8, 6, 10)).shape
    torch.Size([2, 8, 6, 10])
    """

    def __init__(self, side: int, dropout: float = 0.1, as_code: bool = False):
        super().__init__()
        n = side * side
        self.side, self.as_code = side, as_code
        self.query, self.key, self.value = (nn.Linear(n, n) for _ in range(3))
        self.gate = nn.Linear(n, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        grid = x.shape[-2:]
        resampled = tuple(grid) != (self.side, self.side)
        p = (F.adaptive_avg_pool2d(x, self.side) if resampled else x).flatten(2)
        found = F.scaled_dot_product_attention(self.query(p), self.key(p), self.value(p))
        if self.as_code:
            found = found.transpose(1, 2).reshape(p.shape)
        found = (F.gelu(self.gate(p)) * self.dropout(found)).unflatten(2, (self.side, self.side))
        if resampled:
            found = F.interpolate(found, grid, mode="bilinear", align_corners=False)
        return x + found + x if self.as_code else x + found


def to_cells(tokens: Tensor, grid: Grid, cells: Grid) -> Tensor:
    """Cut a grid of tokens into cells: (B, h w, C) -> (B cells, tokens of a cell, C). `from_cells` is the way back.

    >>> to_cells(torch.arange(8.0).view(1, 8, 1), (2, 4), (1, 2))[..., 0].tolist()  # left half, right half
    [[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0]]
    """
    (h, w), (rows, columns) = grid, cells
    cut = tokens.unflatten(1, (rows, h // rows, columns, w // columns))
    return cut.transpose(2, 3).reshape(-1, (h // rows) * (w // columns), tokens.shape[-1])


def from_cells(tokens: Tensor, grid: Grid, cells: Grid) -> Tensor:
    """The inverse of `to_cells`: (B cells, tokens of a cell, C) -> (B, h w, C)."""
    (h, w), (rows, columns) = grid, cells
    cut = tokens.view(-1, rows, columns, h // rows, w // columns, tokens.shape[-1])
    return cut.transpose(2, 3).reshape(-1, h * w, tokens.shape[-1])


class HierarchicalAttention(nn.Module):
    """Where the reference comes in: it asks, the distorted picture answers; first as a whole, then in quarters.

        X' = global(X, q=Y, kv=X),    X'' = local(X', q=Y, kv=X') within each cell of a 2 x 2 cut,    H = LN(X'')

    X are the tokens of the distorted picture, Y those of the reference. Without a reference Y = X: self-attention.
    The deepest stage is global only. With asks="distorted" the roles are swapped: q=X, kv=Y. Then values of the
    reference enter the sum, and not only weights. Source: paper, HA; official code, class MSSA; the swap is ours.
    """

    def __init__(self, width: int, local: bool, dropout: float = 0.1, asks: str = "reference"):
        super().__init__()
        self.asks = asks
        self.whole = GatedAttention(width, dropout)
        self.local = GatedAttention(width, dropout) if local else None
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, y: Tensor, grid: Grid) -> Tensor:
        """x, y (B, h w, C) -> (B, h w, C); h and w are even where there is a local step."""
        x = self.whole(x, y, x) if self.asks == "reference" else self.whole(x, x, y)
        if self.local is not None:
            cut = (2, 2), grid, grid
            x = self.local(x, y, x, *cut) if self.asks == "reference" else self.local(x, x, y, *cut)
        return self.norm(x)


class SemanticDistortionAware(nn.Module):
    """What a distortion does to meaning: fine tokens ask the coarse tokens of the same place.

        S = LN(low + gate(low) * softmax(Q K^T / sqrt(C)) V),    Q from low, K and V from high, cell by cell

    The cells are the positions of the deepest map (7 x 7 for 224 pixels). With a single coarse token in a cell the
    softmax is 1: W_q and W_k then have no say, and get a gradient of zero. Source: paper, SDA; code, class CSA.
    """

    def __init__(self, width: int, dropout: float = 0.1):
        super().__init__()
        self.attention = GatedAttention(width, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, low: Tensor, high: Tensor, low_grid: Grid, high_grid: Grid, cells: Grid) -> Tensor:
        """low (B, N, C), high (B, M, C) -> (B, N, C)."""
        return self.norm(self.attention(low, low, high, cells, low_grid, high_grid))


class Network(nn.Module):
    """The network behind `YOTO`: (B, 3, H, W) in [0, 1] -> scores (B,), HIGHER = BETTER.

        O_i = mean of H_i and all S_ij, j > i;    score = sum_t s_t w_t / sum_t w_t over the tokens t of all O_i

    s = relu(MLP(token)) says how good a place is, w = sigmoid(MLP(token)) how much it counts.

    Raises:
        ValueError: an encoder without the strides 4, 8, 16, 32, or one that does not take the crop.

    >>> net = Network(dataclasses.replace(SMOKE, weights="random"))
    >>> net(torch.rand(2, 3, 64, 96)).shape
    torch.Size([2])
    """

    def __init__(self, config: YOTOConfig):
        super().__init__()
        self.encoder = backbones.pyramid(config.encoder, config.weights, config.drop_path)
        if self.encoder.strides[-4:] != [4, 8, 16, 32]:
            raise ValueError(f"{config.encoder} has maps of strides {self.encoder.strides}; YOTO needs 4, 8, 16 and 32. "
                             "Take resnet50, swin_tiny_patch4_window7_224 or tf_efficientnet_lite0.")
        backbones.expect_crop(self.encoder, config.crop)
        self.recompute = config.recompute
        channels, width, deepest = self.encoder.channels[-4:], config.width, config.crop // 32
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in channels)
        self.embeds = nn.ModuleList(nn.Linear(c, width) for c in channels)  # a 1 x 1 convolution
        sides = [config.crop // s if config.channel == "full" else deepest for s in (4, 8, 16, 32)]
        self.channel = nn.ModuleList(ChannelAttention(side, config.dropout, config.as_code) for side in sides
                                     if config.channel != "off")
        # small, where the code has N(0, 1): that would be as large as the features themselves
        self.tasks = nn.Parameter(0.02 * torch.randn(4, 2, width)) if config.task_embedding and config.ha else None
        self.ha = nn.ModuleList(HierarchicalAttention(width, i < 3, config.dropout, config.asks) for i in range(4 * config.ha))
        self.plain = nn.ModuleList(nn.LayerNorm(width) for _ in range(4 * (not config.ha)))  # what is left of HA
        self.sda = nn.ModuleDict({f"{i}{j}": SemanticDistortionAware(width, config.dropout)
                                  for i, j in combinations(range(1, 5), 2) if config.sda})
        self.good, self.counts = (nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Dropout(config.dropout),
                                                nn.Linear(width // 2, 1), last) for last in (nn.ReLU(), nn.Sigmoid()))
        nn.init.constant_(self.good[3].bias, 0.5)  # mid-scale: a relu that starts at 0 everywhere never learns

    def train(self, mode: bool = True) -> Self:
        """As usual, but batch norms of the encoder keep their statistics: 16 crops are too few to have their own."""
        super().train(mode)
        for module in self.encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def stages(self, x: Tensor) -> list[Tensor]:
        """Maps (B, C, h_i, w_i) of the four stages, after embedding and channel attention."""
        maps = [embed(norm(m.movedim(1, -1))).movedim(-1, 1)
                for m, norm, embed in zip(self.encoder(x)[-4:], self.norms, self.embeds)]
        return [self._run(attend, m) for attend, m in zip(self.channel, maps)] if self.channel else maps

    def _run(self, module: nn.Module, *inputs):
        """module(*inputs); in training with `recompute` nothing inside it is kept for the backward pass."""
        keep = not (self.training and self.recompute)
        return module(*inputs) if keep else checkpoint(module, *inputs, use_reentrant=False)

    def tokens(self, x: Tensor, x_ref: Tensor | None = None) -> tuple[list[Tensor], list[Grid]]:
        """The four O_i (B, N_i, C) and their grids."""
        maps = self.stages(x if x_ref is None else torch.cat([x, x_ref]))  # NR needs one pass: R would be D again
        grids = [tuple(m.shape[-2:]) for m in maps]
        flat = [m.flatten(2).transpose(1, 2).contiguous() for m in maps]  # else each linear map makes its own copy
        distorted = [t[:len(x)] for t in flat]
        if self.ha:
            found = []
            for i, (attend, d) in enumerate(zip(self.ha, distorted)):
                own, other = (0, 0) if self.tasks is None else (self.tasks[i, 0], self.tasks[i, 1])
                asked = d + own
                asking = asked if x_ref is None else flat[i][len(x):] + other
                found.append([self._run(attend, asked, asking, grids[i])])
        else:
            found = [[norm(d)] for norm, d in zip(self.plain, distorted)]
        for pair, attend in self.sda.items():
            i, j = int(pair[0]) - 1, int(pair[1]) - 1
            found[i].append(self._run(attend, distorted[i], distorted[j], grids[i], grids[j], grids[3]))
        return [sum(parts) / len(parts) for parts in found], grids

    def places(self, x: Tensor, x_ref: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """Score map and weight map of each stage, (B, h_i, w_i) each: what the head thinks of each place."""
        return [tuple(head(o).view(-1, *grid) for head in (self.good, self.counts))
                for o, grid in zip(*self.tokens(x, x_ref))]

    def forward(self, x: Tensor, x_ref: Tensor | None = None) -> Tensor:
        """x, and x_ref for the full-reference score, (B, 3, H, W) in [0, 1]; H, W multiples of 32 -> (B,)."""
        o = torch.cat(self.tokens(x, x_ref)[0], 1)
        good, counts = (self._run(head, o)[..., 0] for head in (self.good, self.counts))
        return (good * counts).sum(1) / counts.sum(1)


class YOTO(CropMethod):
    """YOTO as a method: `score(x)` without a reference, `score(x, x_ref)` with it, one network for both.

    Trained by the squared error to the scores. With task "joint" a fair coin decides for each batch whether it comes
    with its references or without. The score of a picture is the mean over its crops.

    >>> YOTO().score(torch.rand(1, 3, 64, 64))
    Traceback (most recent call last):
    RuntimeError: yoto is not fitted: call fit(train, val), or load a fitted one.
    """

    name = "yoto"
    config_class = YOTOConfig
    network = Network

    def __init__(self, config: YOTOConfig = QUICK):
        super().__init__(config)
        self.tasks = ("FR",) if config.task == "fr" else ("NR",) if config.task == "nr" else ("NR", "FR")
        parts = [config.task]
        if not config.ha:
            parts.append("no ha")
        if not config.sda:
            parts.append("no sda")
        if config.ha and not config.task_embedding:
            parts.append("no task_embedding")
        if config.channel == "off":
            parts.append("no channel")
        if config.asks == "distorted":
            parts.append("distorted asks")
        self.variant = ", ".join(parts)

    def learner(self) -> torch.optim.Optimizer:
        c = self.config
        return torch.optim.Adam(groups(self.net, [self.net.encoder], c.lr, c.encoder_rate), weight_decay=c.weight_decay)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """mean (score - mos)^2 of a batch, with references or without."""
        fr = "FR" in self.tasks and ("NR" not in self.tasks or torch.rand(()).item() < 0.5)
        return F.mse_loss(self.net(batch["x"], batch["x_ref"] if fr else None).float(), batch["score"])
