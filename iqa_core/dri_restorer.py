"""DRI-IQA's restoration network and the block that guides: channel attention that listens.

Yue, Lin, Yang, Ren (WACV 2025, arXiv 2411.17390) name a Transposed Guidance Block and a restoration network; equations
and layout were not at hand and are ours: Restormer's (Zamir et al., CVPR 2022), reduced.
"""

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn


class Guided(nn.Module):
    """Transposed Guidance Block: a Restormer block whose attention listens to a vector v, to a map G, or to both.

        Fh = LN(F) (1 + gamma) + beta,    (gamma, beta, kappa) = MLP(v), 0 at the start
        F1 = F + W (softmax(Q K' tau exp(kappa)) U),    Q from Fh;  K, U from Fh + P G, P = 0 at the start
        F2 = F1 + W (gelu(a) * b),    a, b = depth-wise 3 x 3 of a linear map of LN(F1)

    Q and K have length 1 over places. The attention is between channels ("transposed"), so its cost grows with the
    number of places, not its square. G is averaged down to the size of F. A fresh block is a plain Restormer block;
    without v and G it stays one. Source: name, and that q and features of the picture meet in it, paper; rest ours.

    Args:
        width, heads: channels of F, and into how many groups the attention splits them.
        vector, guide: length of v and channels of G, 0 = none.

    >>> Guided(16, 2, vector=8)(torch.rand(2, 16, 6, 10), torch.rand(2, 8)).shape
    torch.Size([2, 16, 6, 10])
    """

    def __init__(self, width: int, heads: int, vector: int = 0, guide: int = 0, growth: float = 2.66):
        super().__init__()
        hidden = round(growth * width)
        self.heads = heads
        self.norm1, self.norm2 = LayerNorm2d(width), LayerNorm2d(width)
        self.query, self.keys = self._maps(width, width), self._maps(width, 2 * width)
        self.out = nn.Conv2d(width, width, 1, bias=False)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.up, self.down = self._maps(width, 2 * hidden), nn.Conv2d(hidden, width, 1, bias=False)
        self.listen = nn.Sequential(nn.Linear(vector, vector), nn.LeakyReLU(0.1),
                                    nn.Linear(vector, 2 * width + heads)) if vector else None
        self.project = nn.Conv2d(guide, width, 1) if guide else None
        for last in ([self.listen[-1]] if vector else []) + ([self.project] if guide else []):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    @staticmethod
    def _maps(before: int, after: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(before, after, 1, bias=False),
                             nn.Conv2d(after, after, 3, padding=1, groups=after, bias=False))

    def forward(self, x: Tensor, v: Tensor | None = None, guide: Tensor | None = None) -> Tensor:
        """x (B, width, H, W), v (B, vector), guide (B, guide, h, w) -> (B, width, H, W)."""
        own, tau = self.norm1(x), self.temperature
        if self.listen is not None:
            said = self.listen(v)[..., None, None]
            gamma, beta, kappa = said.split([x.shape[1], x.shape[1], self.heads], 1)
            own, tau = own * (1 + gamma) + beta, tau * kappa.exp()
        source = own
        if self.project is not None:
            source = own + self.project(F.adaptive_avg_pool2d(guide, x.shape[-2:]))
        q, k, u = (m.flatten(2).unflatten(1, (self.heads, -1)) for m in (self.query(own), *self.keys(source).chunk(2, 1)))
        attention = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-1, -2) * tau).softmax(-1)
        x = x + self.out((attention @ u).flatten(1, 2).view_as(x))
        a, b = self.up(self.norm2(x)).chunk(2, 1)
        return x + self.down(F.gelu(a) * b)


class Restorer(nn.Module):
    """A reduced Restormer: x_res = x + U-net(x), told by the extractor what to undo.

    guidance="tgb": each stage begins with a `Guided` block that hears the degradation vector, and on the way down the
    extractor's map of the same size too. "add": a linear map of the vector is added there instead, as in the authors'
    deraining network. "none": nobody tells. Source: a restoration network that the features of the extractor guide,
    paper; its layout, ours. With fold=2 it works on pixels folded 2 x 2 into channels, which costs a quarter.

    Args:
        width: channels at the finest scale; they double at each of the three below.
        blocks: of each scale, fine to coarse.
        vector, guides: length of the degradation vector, channels of the extractor's four maps.

    >>> told = torch.rand(2, 6), [torch.rand(2, 4, 32 // 2**i, 40 // 2**i) for i in range(4)]
    >>> restored, maps = Restorer(8, (1, 1, 1, 1), 6, (4, 4, 4, 4))(torch.rand(2, 3, 32, 40), *told)
    >>> restored.shape, [tuple(m.shape[1:]) for m in maps]
    (torch.Size([2, 3, 32, 40]), [(16, 32, 40), (16, 16, 20), (32, 8, 10), (64, 4, 5)])
    """

    def __init__(self, width: int, blocks: tuple[int, ...], vector: int, guides: tuple[int, ...], guidance: str = "tgb",
                 fold: int = 1):
        super().__init__()
        sizes, heads, self.fold = [width * 2**i for i in range(4)], (1, 2, 4, 8), fold
        self.channels = [2 * width, *sizes[1:]]  # of the maps that it exports
        listens, nothing = vector if guidance == "tgb" else 0, (0, 0, 0, 0)

        def stage(channels: int, heads: int, count: int, guide: int) -> nn.ModuleList:
            return nn.ModuleList(Guided(channels, heads, *((listens, guide) if i == 0 else ())) for i in range(count))

        self.first = nn.Conv2d(3 * fold**2, width, 3, padding=1)
        self.last = nn.Conv2d(2 * width, 3 * fold**2, 3, padding=1)
        self.encode = nn.ModuleList(map(stage, sizes, heads, blocks, guides if listens else nothing))
        self.decode = nn.ModuleList(map(stage, self.channels[:3], heads, blocks, nothing))
        self.shrink = nn.ModuleList(nn.Sequential(nn.Conv2d(c, c // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))
                                    for c in sizes[:3])
        self.grow = nn.ModuleList(nn.Sequential(nn.Conv2d(2 * c, 4 * c, 3, padding=1, bias=False), nn.PixelShuffle(2))
                                  for c in sizes[:3])
        self.merge = nn.ModuleList([nn.Identity(), *(nn.Conv2d(2 * c, c, 1, bias=False) for c in sizes[1:3])])
        self.add = nn.ModuleList(nn.Linear(vector, c) for c in sizes + self.channels[:3]) if guidance == "add" else None

    def _stage(self, x: Tensor, blocks: nn.ModuleList, place: int, g: Tensor, guide: Tensor | None) -> Tensor:
        if self.add is not None:
            x = x + self.add[place](g)[..., None, None]
        for i, block in enumerate(blocks):
            x = block(x, g, guide) if i == 0 else block(x)
        return x

    def forward(self, x: Tensor, g: Tensor, guides: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Pictures (B, 3, H, W), sides multiples of 8 fold; g (B, vector) and the extractor's maps.

        Returns the restored pictures (B, 3, H, W), not clamped, and the decoder's four maps, fine to coarse.
        """
        y, skips = self.first(F.pixel_unshuffle(x, self.fold)), []
        for i in range(3):
            y = self._stage(y, self.encode[i], i, g, guides[i])
            skips.append(y)
            y = self.shrink[i](y)
        maps = [self._stage(y, self.encode[3], 3, g, guides[3])]
        for i in (2, 1, 0):
            y = self.merge[i](torch.cat([self.grow[i](maps[0]), skips[i]], 1))
            maps.insert(0, self._stage(y, self.decode[i], 4 + i, g, None))
        return x + F.pixel_shuffle(self.last(maps[0]), self.fold), maps
