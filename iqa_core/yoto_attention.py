"""YOTO's attention blocks: gated, between channels, hierarchical, and aware of semantic distortion.

Yun and Lin, You Only Train Once (arXiv 2310.09560), and the official code,
github.com/BarCodeReader/YOTO. A grid of a map is written (h, w); its tokens are the h w positions,
row by row.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Grid = tuple[int, int]


class GatedAttention(nn.Module):
    """One head of attention, weighed by a gate that each token opens for itself.

        out = x + gelu(x w + b) * dropout(softmax(Q K^T / sqrt(C)) V)
        Q = q W_q + b_q,    K = kv W_k + b_k,    V = kv W_v + b_v

    With q = kv it is self-attention; with q from somewhere else it is cross-attention. With `cells`
    each token attends only to its own cell of the two grids (see `to_cells`). Source: official
    code.

    >>> GatedAttention(8)(torch.rand(2, 5, 8), torch.rand(2, 5, 8), torch.rand(2, 3, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, width: int, dropout: float = 0.1):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.gate = nn.Linear(width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, q: Tensor, kv: Tensor, cells: Grid | None = None,
                q_grid: Grid | None = None, kv_grid: Grid | None = None) -> Tensor:
        """x and q (B, N, C), one q a token of x; kv (B, M, C) -> (B, N, C). `cells` needs both
        grids."""
        q = self.query(q)
        k = self.key(kv)
        v = self.value(kv)
        if cells:  # cut after the linear maps, or each piece would be kept for the backward pass
            q = to_cells(q, q_grid, cells)
            k = to_cells(k, kv_grid, cells)
            v = to_cells(v, kv_grid, cells)
        attended = F.scaled_dot_product_attention(q, k, v)
        if cells:
            attended = from_cells(attended, q_grid, cells)
        return x + F.gelu(self.gate(x)) * self.dropout(attended)

    def weights(self, q: Tensor, kv: Tensor) -> Tensor:
        """The attention itself, (B, N, M): how much of each kv token goes to each q. Rows sum to
        1."""
        logits = self.query(q) @ self.key(kv).transpose(1, 2) / math.sqrt(q.shape[-1])
        return logits.softmax(-1)


class ChannelAttention(nn.Module):
    """Attention between channels: each channel is a vector over N = side^2 positions.

        Q, K, V = linear over positions of X (C, N)
        out = X + gelu(X w + b) * dropout(softmax(Q K^T / sqrt(N)) V)

    The linear maps belong to positions, so they fit one grid only. A map of another size is
    resampled to that grid, and the output back to the map. With `side` = the map's own side nothing
    is resampled: that is the paper's layer. With a small side it has few weights and reads a
    summary of the map: `channel="pooled"`.

    Args:
        side: side of the square grid.
        as_code: transpose and reshape the values wrongly, and add X twice, as the official code
            does.

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
        attended = F.scaled_dot_product_attention(self.query(p), self.key(p), self.value(p))
        if self.as_code:
            attended = attended.transpose(1, 2).reshape(p.shape)
        attended = F.gelu(self.gate(p)) * self.dropout(attended)
        attended = attended.unflatten(2, (self.side, self.side))
        if resampled:
            attended = F.interpolate(attended, grid, mode="bilinear", align_corners=False)
        return x + attended + x if self.as_code else x + attended


def to_cells(tokens: Tensor, grid: Grid, cells: Grid) -> Tensor:
    """Cut a grid of tokens into cells: (B, h w, C) -> (B cells, tokens of a cell, C).

    `from_cells` is the way back.

    >>> left_and_right = (1, 2)
    >>> to_cells(torch.arange(8.0).view(1, 8, 1), (2, 4), left_and_right)[..., 0].tolist()
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
    """Where the reference comes in: first all tokens at once, then the four quarters of the image.

        X' = global(X, q=Y, kv=X),    X'' = local(X', q=Y, kv=X') within each cell of a 2 x 2 cut,
        H = LN(X'')

    X are the tokens of the distorted image, Y those of the reference: the reference brings the
    queries, the distorted image keys and values. Without a reference Y = X: self-attention. The
    deepest stage is global only. With reference="answers" the roles are swapped: q=X, kv=Y. Then
    values of the reference enter the sum, and not only weights. Source: paper, HA; official code,
    class MSSA; the swap is ours.

    >>> block = HierarchicalAttention(8, local=True)
    >>> block(torch.rand(2, 16, 8), torch.rand(2, 16, 8), (4, 4)).shape
    torch.Size([2, 16, 8])
    """

    def __init__(self, width: int, local: bool, dropout: float = 0.1,
                 reference: str = "asks"):
        super().__init__()
        self.reference = reference
        self.whole = GatedAttention(width, dropout)
        self.local = GatedAttention(width, dropout) if local else None
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, y: Tensor, grid: Grid) -> Tensor:
        """x, y (B, h w, C) -> (B, h w, C); h and w are even where there is a local step."""
        asks = self.reference == "asks"
        x = self.whole(x, y, x) if asks else self.whole(x, x, y)
        if self.local is not None:
            cut = (2, 2), grid, grid
            x = self.local(x, y, x, *cut) if asks else self.local(x, x, y, *cut)
        return self.norm(x)


class DiscrepancyAttention(nn.Module):
    """What the image has and its reference has not. Ours, to be tried in place of
    `HierarchicalAttention`.

        R = softmax(X W_q (Y W_k)^T / sqrt(C) + b) Y,    b_ij = prior where i = j, else 0
        E = gain (X - R),    H = LN(X + W [E, |E|])

    X are the tokens of the distorted image, Y those of the reference. Each token of the image asks,
    and what it gets from the reference is subtracted from it. The prior makes it look at its own
    place first, so E starts as the plain difference; the attention may learn to look elsewhere,
    where the reference has moved. The gain is there because a distortion changes a token by little
    beside what it is: without it the difference drowns in X. Without a reference Y = X.

    Args:
        width: C.
        local: not used; it stands here because `HierarchicalAttention` has it.
        dropout: of E.

    >>> DiscrepancyAttention(8)(torch.rand(2, 16, 8), torch.rand(2, 16, 8), (4, 4)).shape
    torch.Size([2, 16, 8])
    """

    prior = 6.0
    gain = 8.0

    def __init__(self, width: int, local: bool = False, dropout: float = 0.1):
        super().__init__()
        self.query, self.key = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        self.join = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)

    def retrieve(self, x: Tensor, y: Tensor) -> Tensor:
        """R (B, N, C): what each token of x gets from y."""
        same_place = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        prior = self.prior * same_place
        return F.scaled_dot_product_attention(self.query(x), self.key(y), y, attn_mask=prior)

    def forward(self, x: Tensor, y: Tensor, grid: Grid) -> Tensor:
        """x, y (B, h w, C) -> (B, h w, C)."""
        e = self.gain * (x - self.retrieve(x, y))
        signs_and_sizes = self.dropout(torch.cat([e, e.abs()], -1))  # (B, h w, 2 C)
        return self.norm(x + self.join(signs_and_sizes))


class SemanticDistortionAware(nn.Module):
    """What a distortion does to meaning: fine tokens attend to the coarse tokens of their place.

        S = LN(low + gate(low) * softmax(Q K^T / sqrt(C)) V),    Q from low, K and V from high

    in each cell. The cells are the positions of the deepest map (7 x 7 for 224 pixels). With a
    single coarse token in a cell the softmax is 1: W_q and W_k then have no say, and get a gradient
    of zero. Source: paper, SDA; code, class CSA.
    """

    def __init__(self, width: int, dropout: float = 0.1):
        super().__init__()
        self.attention = GatedAttention(width, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, low: Tensor, high: Tensor, low_grid: Grid, high_grid: Grid, cells: Grid
                ) -> Tensor:
        """low (B, N, C), high (B, M, C) -> (B, N, C)."""
        return self.norm(self.attention(low, low, high, cells, low_grid, high_grid))
