"""DRI-IQA's restoration network, and its block: channel attention that a vector or a map guides.

Yue, Lin, Yang, Ren (WACV 2025, arXiv 2411.17390) name a Transposed Guidance Block and a restoration
network. Equations and layout were not at hand and are ours: Restormer's (Zamir et al., CVPR 2022),
reduced.
"""

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn


def depthwise(before: int, after: int) -> nn.Sequential:
    """A linear map of channels, then a depth-wise 3 x 3 convolution."""
    return nn.Sequential(nn.Conv2d(before, after, 1, bias=False),
                         nn.Conv2d(after, after, 3, padding=1, groups=after, bias=False))


class Guided(nn.Module):
    """Transposed Guidance Block: a Restormer block that a vector v guides, or a map G, or both.

        Fh = LN(F) (1 + gamma) + beta,    (gamma, beta, kappa) = MLP(v), 0 at the start
        F1 = F + W (softmax(Q K' tau exp(kappa)) V),    Q from Fh;  K, V from Fh + P G, P = 0 at the
                                                        start
        F2 = F1 + W (gelu(a) * b),    a, b = depth-wise 3 x 3 of a linear map of LN(F1)

    Q and K have length 1 over positions. The attention is between channels ("transposed"), so its
    cost grows with the number of positions, not its square. gamma and beta are FiLM. G is averaged
    down to the size of F. A fresh block is a plain Restormer block; without v and G it stays one.
    With `still` a fresh block changes nothing, F2 = F: both W are 0 at the start.
    Source: name, and that q and features of the image meet in it, paper; rest ours.

    Args:
        width, heads: channels of F, and into how many groups the attention splits them.
        vector, guide: length of v and channels of G, 0 = none.
        growth: width of the last part, as a multiple of `width`.
        still: see above; for a block that is added to a network that works without it.

    >>> Guided(16, 2, vector=8)(torch.rand(2, 16, 6, 10), torch.rand(2, 8)).shape
    torch.Size([2, 16, 6, 10])
    """

    def __init__(self, width: int, heads: int, vector: int = 0, guide: int = 0,
                 growth: float = 2.66, still: bool = False):
        super().__init__()
        hidden = round(growth * width)
        self.heads = heads
        self.norm1 = LayerNorm2d(width)
        self.norm2 = LayerNorm2d(width)
        self.query = depthwise(width, width)
        self.key_value = depthwise(width, 2 * width)
        self.out = nn.Conv2d(width, width, 1, bias=False)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.up = depthwise(width, 2 * hidden)
        self.down = nn.Conv2d(hidden, width, 1, bias=False)
        self.film = None
        self.project = None
        if vector:
            self.film = nn.Sequential(nn.Linear(vector, vector), nn.LeakyReLU(0.1),
                                      nn.Linear(vector, 2 * width + heads))
            nn.init.zeros_(self.film[-1].weight)
            nn.init.zeros_(self.film[-1].bias)
        if guide:
            self.project = nn.Conv2d(guide, width, 1)
            nn.init.zeros_(self.project.weight)
            nn.init.zeros_(self.project.bias)
        if still:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor, v: Tensor | None = None, guide: Tensor | None = None) -> Tensor:
        """x (B, width, H, W), v (B, vector), guide (B, guide, h, w) -> (B, width, H, W)."""
        width = x.shape[1]
        y = self.norm1(x)
        temperature = self.temperature
        if self.film is not None:
            modulation = self.film(v)[..., None, None]  # (B, 2 width + heads, 1, 1)
            gamma, beta, kappa = modulation.split([width, width, self.heads], 1)
            y = y * (1 + gamma) + beta
            temperature = temperature * kappa.exp()
        source = y
        if self.project is not None:
            source = y + self.project(F.adaptive_avg_pool2d(guide, x.shape[-2:]))
        query = self._per_head(self.query(y))
        key, value = map(self._per_head, self.key_value(source).chunk(2, 1))
        similarity = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-1, -2)
        attention = (similarity * temperature).softmax(-1)  # (B, heads, width/heads, width/heads)
        attended = (attention @ value).flatten(1, 2).view_as(x)
        x = x + self.out(attended)
        a, b = self.up(self.norm2(x)).chunk(2, 1)
        return x + self.down(F.gelu(a) * b)

    def _per_head(self, m: Tensor) -> Tensor:
        """(B, width, H, W) -> (B, heads, width / heads, H W)."""
        return m.flatten(2).unflatten(1, (self.heads, -1))


class Restorer(nn.Module):
    """A reduced Restormer: x_res = x + U-net(x), guided by what the extractor makes of x.

    guidance="tgb": each stage begins with a `Guided` block that the degradation vector guides, and
    on the way down the extractor's map of the same size, too. "add": a linear map of the vector is
    added there instead, as in the authors' deraining network. "none": no guidance. Source: a
    restoration network that the features of the extractor guide, paper; its layout, ours.

    Args:
        width: channels at the finest scale; they double at each of the three below.
        blocks: of each scale, fine to coarse.
        vector, guides: length of the degradation vector, channels of the extractor's four maps.
        guidance: see above.
        stride: stride x stride pixels are folded into channels at first: with 2 it costs a quarter.

    Attributes:
        channels: of the four maps that it gives.

    >>> vector = torch.rand(2, 6)
    >>> guides = [torch.rand(2, 4, 32 // 2**i, 40 // 2**i) for i in range(4)]
    >>> restorer = Restorer(8, (1, 1, 1, 1), 6, (4, 4, 4, 4))
    >>> restored, maps = restorer(torch.rand(2, 3, 32, 40), vector, guides)
    >>> restored.shape, [tuple(m.shape[1:]) for m in maps]
    (torch.Size([2, 3, 32, 40]), [(16, 32, 40), (16, 16, 20), (32, 8, 10), (64, 4, 5)])
    """

    def __init__(self, width: int, blocks: tuple[int, ...], vector: int, guides: tuple[int, ...],
                 guidance: str = "tgb", stride: int = 1):
        super().__init__()
        self.stride = stride
        sizes = [width * 2**i for i in range(4)]
        self.channels = [2 * width, *sizes[1:]]
        heads = (1, 2, 4, 8)
        if guidance != "tgb":
            guides = (0, 0, 0, 0)
        guiding = vector if guidance == "tgb" else 0

        self.first = nn.Conv2d(3 * stride**2, width, 3, padding=1)
        self.last = nn.Conv2d(2 * width, 3 * stride**2, 3, padding=1)
        nn.init.zeros_(self.last.weight)  # a fresh network changes nothing
        nn.init.zeros_(self.last.bias)
        self.encode = nn.ModuleList()
        for i in range(4):
            self.encode.append(self._blocks(sizes[i], heads[i], blocks[i], guiding, guides[i]))
        self.decode = nn.ModuleList()
        for i in range(3):
            self.decode.append(self._blocks(self.channels[i], heads[i], blocks[i], guiding, 0))
        self.shrink = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))
            for c in sizes[:3])
        self.grow = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * c, 4 * c, 3, padding=1, bias=False), nn.PixelShuffle(2))
            for c in sizes[:3])
        self.merge = nn.ModuleList(
            [nn.Identity(), *(nn.Conv2d(2 * c, c, 1, bias=False) for c in sizes[1:3])])
        self.add = None
        if guidance == "add":
            self.add = nn.ModuleList(nn.Linear(vector, c) for c in sizes + self.channels[:3])

    @staticmethod
    def _blocks(width: int, heads: int, count: int, vector: int, guide: int) -> nn.ModuleList:
        """A guided block and count - 1 plain ones."""
        plain = [Guided(width, heads) for _ in range(count - 1)]
        return nn.ModuleList([Guided(width, heads, vector, guide), *plain])

    def _run(self, x: Tensor, blocks: nn.ModuleList, stage: int, g: Tensor, guide: Tensor | None
             ) -> Tensor:
        if self.add is not None:
            x = x + self.add[stage](g)[..., None, None]
        x = blocks[0](x, g, guide)
        for block in blocks[1:]:
            x = block(x)
        return x

    def forward(self, x: Tensor, g: Tensor, guides: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Images (B, 3, H, W), sides multiples of 8 stride; g (B, vector) and the extractor's maps
        -> restored images (B, 3, H, W), not clamped, and the decoder's four maps, fine to coarse.
        """
        y = self.first(F.pixel_unshuffle(x, self.stride))
        skips = []
        for i in range(3):
            y = self._run(y, self.encode[i], i, g, guides[i])
            skips.append(y)
            y = self.shrink[i](y)
        y = self._run(y, self.encode[3], 3, g, guides[3])
        maps = [y]
        for i in (2, 1, 0):
            y = self.merge[i](torch.cat([self.grow[i](y), skips[i]], 1))
            y = self._run(y, self.decode[i], 4 + i, g, None)
            maps.insert(0, y)
        return x + F.pixel_shuffle(self.last(y), self.stride), maps
