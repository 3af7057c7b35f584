"""Encoders as the methods see them: the deepest maps of a network, pooled to a grid, frozen or not.

A method asks for an `Encoder` and gets maps, whether a timm network or a module of your own makes
them, and whether it learns or not.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iqa_core import backbones


def freeze_batch_norms(net: nn.Module) -> None:
    """Batch norms keep their statistics from now on, until `train()` is called again.

    The batches of this kit, 8 to 32 crops of a few images, are too few to have statistics of their
    own. Call it at the end of `train(mode)`.
    """
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


class Encoder(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> the deepest maps of a network, fine to coarse.

    Where a map is larger than `side` x `side`, each cell of such a grid becomes one position: the
    mean over the cell, and with `spread` also the standard deviation within it,

        m_c = mean of the cell,    s_c = sqrt(mean of the squares - m_c^2 + 1e-6),    [m; s].

    Args:
        network: a timm name, or a module of your own with `channels` and `strides` (lists, fine to
            coarse) that maps images in [0, 1] to a list of maps (B, channels[i], H / strides[i],
            W / strides[i]).
        weights, drop_path: as in `backbones.pyramid`; a module of your own has its weights.
        count: how many maps are used, from the deepest one.
        side: of the grid; 0 leaves the maps as they are.
        spread: append the standard deviations, which doubles the channels.
        frozen: nothing in it learns.

    Attributes:
        channels, strides: of the maps that it gives (strides as before the pooling).

    Raises:
        ValueError: a module without `channels` and `strides`, or too few maps.

    >>> encoder = Encoder("tf_efficientnet_lite0", "random", side=8, spread=True, frozen=True)
    >>> [tuple(m.shape) for m in encoder(torch.rand(1, 3, 128, 128))]
    [(1, 48, 8, 8), (1, 80, 8, 8), (1, 224, 8, 8), (1, 640, 4, 4)]
    """

    def __init__(self, network: str | nn.Module, weights: str | Path = "auto",
                 drop_path: float = 0.0, count: int = 4, side: int = 0, spread: bool = False,
                 frozen: bool = False):
        super().__init__()
        if isinstance(network, str):
            network = backbones.pyramid(network, weights, drop_path)
        self.name = getattr(network, "name", type(network).__name__)
        for attribute in ("channels", "strides"):
            if not hasattr(network, attribute):
                raise ValueError(f"{self.name} has no attribute {attribute!r}. An encoder of your "
                                 "own needs `channels` and `strides`, a number for each map.")
        if len(network.channels) < count:
            raise ValueError(f"{self.name} has {len(network.channels)} maps, and {count} are "
                             "needed. Take another encoder.")
        self.net = network
        self.count = count
        self.side = side
        self.spread = spread
        self.frozen = frozen
        self.channels = [c * (1 + spread) for c in list(network.channels)[-count:]]
        self.strides = list(network.strides)[-count:]
        if frozen:
            self.net.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As usual, but batch norms keep their statistics, and a frozen network is as in
        evaluation."""
        super().train(mode)
        if self.frozen:
            self.net.eval()
        freeze_batch_norms(self.net)
        return self

    def extra_repr(self) -> str:
        return f"count={self.count}, side={self.side}, spread={self.spread}"

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> `count` maps (B, channels[i], h_i, w_i).

        A gradient passes through a frozen encoder only to an image that has one.
        """
        learns = not self.frozen or x.requires_grad
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
            maps = list(self.net(x))[-self.count:]
            return [self._pooled(m) for m in maps]

    def _pooled(self, m: Tensor) -> Tensor:
        if not self.side and not self.spread:
            return m
        height, width = m.shape[-2:]
        grid = (min(height, self.side or height), min(width, self.side or width))
        mean = F.adaptive_avg_pool2d(m, grid)
        if not self.spread:
            return mean
        square = F.adaptive_avg_pool2d(m.float().square(), grid)
        deviation = (square - mean.float().square()).clamp(min=0).add(1e-6).sqrt()
        return torch.cat([mean, deviation.to(mean.dtype)], 1)

    def grids(self, crop: int) -> list[int]:
        """Sides of the maps of a square crop."""
        sides = [-(-crop // stride) for stride in self.strides]
        return [min(side, self.side or side) for side in sides]

    def expect_crop(self, crop: int) -> None:
        """Try a crop before a training begins.

        Raises:
            ValueError: the network does not take the crop, or its maps have other sides than its
                strides promise.
        """
        if isinstance(self.net, backbones.Pyramid):
            backbones.expect_crop(self.net, crop)
            return
        like = next(self.parameters(), torch.zeros(()))
        with torch.inference_mode():
            maps = self.net(torch.zeros(1, 3, crop, crop, device=like.device, dtype=like.dtype))
        shapes = [tuple(m.shape[1:]) for m in maps[-self.count:]]
        sides = [-(-crop // stride) for stride in self.strides]
        channels = list(self.net.channels)[-self.count:]
        wanted = [(c, side, side) for c, side in zip(channels, sides)]
        if shapes != wanted:
            raise ValueError(f"{self.name} makes maps of shapes {shapes} from a crop of {crop} "
                             f"pixels, where its channels and strides promise {wanted}. Correct "
                             "`channels` and `strides`.")


class Standardise(nn.Module):
    """Every channel of every map to mean 0 and standard deviation 1 over the training images.

        z = (m - mean) / std

    Until `measure` is called it changes nothing. Heads on frozen maps need it, since the channels
    of a pretrained network differ in size by orders of magnitude.

    >>> standardise = Standardise([3])
    >>> standardise.measure([[5 + 2 * torch.randn(16, 3, 8, 8)]])
    >>> standardise([5 + 2 * torch.randn(16, 3, 8, 8)])[0].std().round().item()
    1.0
    """

    def __init__(self, channels: list[int]):
        super().__init__()
        for i, count in enumerate(channels):
            self.register_buffer(f"mean{i}", torch.zeros(count, 1, 1))
            self.register_buffer(f"std{i}", torch.ones(count, 1, 1))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps (B, C_i, h_i, w_i) -> the same shapes."""
        return [(m.to(self.mean0.dtype) - getattr(self, f"mean{i}")) / getattr(self, f"std{i}")
                for i, m in enumerate(maps)]

    @torch.no_grad()
    def measure(self, batches: Iterable[list[Tensor]]) -> None:
        """Take mean and standard deviation from the maps of training images."""
        sums: list[Tensor] = []
        squares: list[Tensor] = []
        counts: list[int] = []
        for maps in batches:
            for i, m in enumerate(maps):
                m = m.double().transpose(0, 1).flatten(1)  # (C, B h w)
                if i == len(sums):
                    sums.append(torch.zeros(len(m), dtype=torch.float64, device=m.device))
                    squares.append(sums[i].clone())
                    counts.append(0)
                sums[i] += m.sum(1)
                squares[i] += m.square().sum(1)
                counts[i] += m.shape[1]
        for i, count in enumerate(counts):
            mean = sums[i] / count
            variance = (squares[i] / count - mean.square()).clamp(min=0)
            getattr(self, f"mean{i}").copy_(mean[:, None, None])
            # a channel that is constant, as the spread of cells of one position, stays 0
            std = variance.sqrt()
            std = torch.where(std > 1e-3 * mean.abs().clamp(min=1e-3), std, torch.ones_like(std))
            getattr(self, f"std{i}").copy_(std[:, None, None])
