"""Re-IQA's positive pairs: two overlapping crops of one image that carry the same distortion.

Saha, Mishra, Bovik, Re-IQA: Unsupervised learning for image quality assessment in the wild (CVPR
2023). Facts marked `code` come from the official repository, github.com/avinabsaha/ReIQA. This kit
differs from it on purpose:
- The official code distorts whole images on the CPU, and then crops. Here a region is cut,
  distorted together with all others of its size on the device, and the pairs are cut from it. So
  whatever depends on the whole image (the number of blocks or patches, a palette, thresholds, a
  grid, a bit budget) depends on the region instead.
- The overlap is drawn once a step and scale, and not once an image, so that all regions have one
  size.
- An image that is smaller than a pair is mirrored, where the official code pads with black.
- The bank is KADID-10k's with 25 types. The official bank has 26, and some of its parameters
  differ.

Three weaknesses are known and left as they are. Four of the 125 cells change nothing, so a copy of
the pristine version may count as a different one. With in-batch negatives the same version at the
other scale counts as different, too. And the half scale of training is not antialiased, while that
of scoring is, as in the official code.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from iqa_core import images
from iqa_core.distortions import TYPES, distort
from iqa_core.settings import (
    expect_number, expect_positive, expect_switch, expect_text, expect_whole, expect_words)

NOTHING = TYPES.index("mean_shift") + 1, 3  # the cell of the bank that adds 0: the pristine version
# Pixels of a region that no full-scale crop uses: filters then see real neighbours of every pixel,
# and not the repeated edge of the region.
BORDER = 8


def _shifts(size: int, overlap: tuple[float, float]) -> tuple[int, int]:
    """The least and the most rows that the second crop of a pair may lie below the first."""
    low, high = overlap
    return math.ceil(round((1 - high) * size, 6)), math.ceil(round((1 - low) * size, 6)) - 1


@dataclass(frozen=True)
class PretrainConfig:
    """How the quality expert is trained. The defaults are the authors'; `QUICK` and `SMOKE` fit a
    CPU."""

    backbone: Annotated[str, "paper"] = "resnet50"
    weights: Annotated[str, "code"] = "random"
    crop: Annotated[int, "paper"] = 160
    types_per_image: Annotated[int, "code, and the pristine image"] = 11
    overlap: Annotated[tuple[float, float], "paper"] = (0.1, 0.3)
    half_scale: Annotated[bool, "paper"] = True
    swap: Annotated[
        str, "ours, the official exchange spoils the overlap ('aliased'); or 'off'"
    ] = "clean"
    negatives: Annotated[
        str, "code, or 'batch': all other keys of the step, also of the same image"
    ] = "queue"
    queue: Annotated[int, "code"] = 65_536
    momentum: Annotated[float, "code"] = 0.999
    temperature: Annotated[float, "code"] = 0.2
    dim: Annotated[int, "code"] = 128
    batch: Annotated[int, "code, images a step; each gives 24 pairs"] = 630
    epochs: Annotated[float, "code, the paper has 25"] = 40
    warmup: Annotated[float, "code, epochs"] = 5
    optimizer: Annotated[str, "code, or 'sgd'"] = "lars"
    lr: Annotated[float, "code, 0.6 for 64 images and scales, in proportion"] = 12.0
    weight_decay: Annotated[float, "code"] = 1e-4
    seed: Annotated[int, "ours"] = 0

    def __post_init__(self):
        expect_words(self, swap=("clean", "off", "aliased"), negatives=("queue", "batch"),
                     optimizer=("lars", "sgd"))
        expect_text(self, "backbone", "weights")
        expect_switch(self, "half_scale")
        expect_whole(self, 1, "types_per_image", "queue", "dim", "batch")
        expect_whole(self, 8, "crop")
        expect_whole(self, 0, "seed")
        expect_positive(self, "epochs", "lr", "temperature")
        expect_number(self, 0, math.inf, "warmup", "weight_decay")
        expect_number(self, 0, 1, "momentum")
        if self.types_per_image > len(TYPES):
            raise ValueError(f"types_per_image={self.types_per_image}: the bank has "
                             f"{len(TYPES)} types of distortion.")
        shares = tuple(self.overlap) if isinstance(self.overlap, (tuple, list)) else ()
        if len(shares) != 2 or not 0 <= shares[0] < shares[1] < 1:
            raise ValueError(f"overlap={self.overlap}: give two shares of a crop, the smaller "
                             "first, below 1.")
        first, last = _shifts(self.crop, shares)
        if first > last:
            raise ValueError(f"overlap={self.overlap} leaves no whole number of rows to move a "
                             f"crop={self.crop} by: make the range wider, or the crop larger.")
        if self.batch * self.pairs < 2:
            raise ValueError(f"batch={self.batch} with {self.pairs} pair an image has no "
                             "negatives: give more images.")
        if self.negatives == "queue" and self.queue < self.batch * self.pairs:
            raise ValueError(f"queue={self.queue} cannot hold the {self.batch} x {self.pairs} keys "
                             "of one step; make it larger, or the batch smaller.")

    @property
    def pairs(self) -> int:
        """Pairs that one image gives: its versions at every scale."""
        return (self.types_per_image + 1) * (1 + self.half_scale)


# For a CPU: a network with ImageNet weights goes on learning at small crops. QUICK takes few images
# a step, which makes the other versions of the same image the main negatives. A queue needs more
# images a step, or codes betray their batch.
SMOKE = PretrainConfig("tf_efficientnet_lite0", "auto", crop=48, types_per_image=5, queue=288,
                       momentum=0.99, dim=32, batch=6, epochs=10, warmup=1, optimizer="sgd",
                       lr=0.02)
QUICK = PretrainConfig("tf_efficientnet_lite0", "auto", crop=64, negatives="batch", momentum=0.9,
                       batch=2, epochs=60, warmup=1, optimizer="sgd", lr=0.01)


class Pairs(NamedTuple):
    """N positive pairs: `queries` and `keys` (N, 3, P, P) in [0, 1], and what each of them shows.

    `types`, `levels` and `images` have shape (N,).
    """

    queries: Tensor
    keys: Tensor
    types: Tensor  # 1 to 25 in the order of distortions.TYPES, 0 = pristine
    levels: Tensor  # 1 to 5, 0 = pristine
    images: Tensor  # number of the image in the batch


def pair_offsets(n: int, size: int, overlap: tuple[float, float], generator: Generator) -> Tensor:
    """By how much the second crop of a pair lies below and to the right of the first: the paper's
    OLA rule.

        s_y ~ U{(1 - high) P, (1 - low) P - 1},   s_x ~ U{0, X - 1},   (P - s_y) (P - X) = low P^2

    Args:
        n: number of draws.
        size: side P of the crops.
        overlap: (low, high), shares of a crop that both have in common.

    Returns:
        (n, 2) integers. The rule always moves the second crop far down, and to the right by
        anything from nothing to far.

    >>> pair_offsets(3, 160, (0.1, 0.3), torch.Generator().manual_seed(0)).tolist()
    [[124, 4], [127, 5], [133, 11]]
    """
    low = overlap[0]
    first, last = _shifts(size, overlap)
    y = torch.randint(first, last + 1, (n,), generator=generator)
    most = (size - low * size**2 / (size - y).double() + 1e-6).floor().clamp(min=1)
    x = (torch.rand(n, generator=generator, dtype=torch.float64) * most).long()
    return torch.stack([y, x], 1)


def swap(a: Tensor, b: Tensor, how: str = "clean") -> tuple[Tensor, Tensor]:
    """Exchange the crops of some pairs, so that a query is not always the upper crop.

    "clean" exchanges, "off" does not. "aliased" is the official code's exchange in place, a += b,
    b = a - b, a -= b. Where a and b are overlapping views of one tensor it spoils them: of an
    overlap o, the share 2o of a and o of b is wrong, and so is what else uses that tensor.

    >>> [x.item() for x in swap(torch.tensor(1.0), torch.tensor(2.0))]
    [2.0, 1.0]
    """
    if how == "aliased":
        a.copy_(a + b)
        b.copy_(a - b)
        a.copy_(a - b)
    return (b, a) if how == "clean" else (a, b)


def make_pairs(photographs: Sequence[Tensor], config: PretrainConfig, generator: Generator,
               device: str | torch.device = "cpu") -> Pairs:
    """All positive pairs of a batch of images: 12 versions of each, at full and half scale.

    A region that holds a pair at half scale is cut at random from every image, and distorted by 11
    different types at random levels. The pristine region stays beside them. From these 12 versions
    come the pairs at full scale, each at one random place. The same versions, reduced by two, give
    the pairs at half scale, so that a noise or a blur is seen at half its width. At full scale the
    first six versions swap their crops, at half scale the other six.

    Args:
        photographs: uint8 tensors (3, H, W) of any sizes, sides of at least 32 px.
        config: crop, overlap, versions, scales and swap.
        generator: on the CPU. It decides everything.
        device: where to distort.

    Returns:
        Pairs on `device`, `config.pairs` for each image.

    >>> photo = torch.randint(256, (3, 100, 120), dtype=torch.uint8)
    >>> pairs = make_pairs([photo], SMOKE, torch.Generator().manual_seed(0))
    >>> pairs.queries.shape, pairs.types[:6].unique().numel()
    (torch.Size([12, 3, 48, 48]), 6)
    """
    size, count = config.crop, config.types_per_image
    factors = (1, 2) if config.half_scale else (1,)
    offsets = pair_offsets(len(factors), size, config.overlap, generator).tolist()
    # Room for the larger pair, and 16 px more than borders need: so the blocks of JPEG, which start
    # at the region's corner, fall anywhere in a crop, as they do in crops of whole images.
    need = []
    for axis in (0, 1):
        largest = max(factor * (size + offset[axis]) for factor, offset in zip(factors, offsets))
        need.append(largest + 2 * BORDER + 16)
    regions = [cut(photograph, need, generator) for photograph in photographs]
    # A GPU gets all regions of one size at once. On a CPU an image alone stays in the CPU's cache.
    alone = torch.device(device).type == "cpu"
    groups: dict = {}
    for i, region in enumerate(regions):
        groups.setdefault(i if alone else region.shape, []).append(i)
    parts = []
    for rows in groups.values():
        x = images.from_uint8(torch.stack([regions[i] for i in rows]).to(device))
        types = torch.rand(len(x), len(TYPES), generator=generator).argsort(1)[:, :count] + 1
        levels = torch.randint(1, 6, types.shape, generator=generator)
        seed = int(torch.randint(2**62, (), generator=generator))
        cells = F.pad(types, (1, 0), value=NOTHING[0]), F.pad(levels, (1, 0), value=NOTHING[1])
        copies = x[:, None].expand(-1, count + 1, -1, -1, -1).flatten(0, 1)
        versions = distort(copies, *(v.flatten() for v in cells),
                           Generator(device).manual_seed(seed))
        versions = versions.unflatten(0, (len(x), count + 1))
        about = [F.pad(types, (1, 0)).flatten(), F.pad(levels, (1, 0)).flatten(),
                 torch.tensor(rows).repeat_interleave(count + 1)]
        for factor, offset in zip(factors, offsets):
            scaled = _reduce(versions) if factor == 2 else versions
            a, b = cut_pair(scaled, size, offset, BORDER // factor, generator)
            half = (count + 1) // 2
            parts_a = list(a.tensor_split([half], 1))
            parts_b = list(b.tensor_split([half], 1))
            some = factor - 1  # the first half of the versions, at half scale the other half
            parts_a[some], parts_b[some] = swap(parts_a[some], parts_b[some], config.swap)
            crops = [torch.cat(crop, 1).flatten(0, 1) for crop in (parts_a, parts_b)]
            parts.append([*crops, *(values.to(device) for values in about)])
    queries, keys, *about = map(torch.cat, zip(*parts))
    for crop in (queries, keys):
        # distorted and reduced images have 8 bits when they come from files
        crop.mul_(255).round_().div_(255)
    return Pairs(queries, keys, *about)


def seeded_generator(*numbers: int) -> Generator:
    """A generator for each (seed, purpose, number): well apart even where the numbers are small.

    >>> torch.rand(2, generator=seeded_generator(0, 1)).round(decimals=2)
    tensor([0.5200, 0.3900])
    """
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
    return Generator().manual_seed(seed)


def cut(image: Tensor, size: Sequence[int], generator: Generator) -> Tensor:
    """A piece of at most `size` at a random place."""
    (h, w), (rows, columns) = image.shape[-2:], size
    top = int(torch.randint(max(h - rows, 0) + 1, (), generator=generator))
    left = int(torch.randint(max(w - columns, 0) + 1, (), generator=generator))
    return image[..., top:top + rows, left:left + columns]


def _reduce(versions: Tensor) -> Tensor:
    """Half the size as in the official code: bicubic, corners aligned, no antialiasing.
    (B, V, 3, H, W)."""
    half = [n // 2 for n in versions.shape[-2:]]
    y = F.interpolate(versions.flatten(0, 1), half, mode="bicubic", align_corners=True).clamp(0, 1)
    return y.unflatten(0, versions.shape[:2])


def cut_pair(y: Tensor, size: int, offset: Sequence[int], border: int, generator: Generator
             ) -> tuple[Tensor, Tensor]:
    """Both crops at one random place of y, as views of it where it is large enough."""
    if y.shape[-2] < size + offset[0] or y.shape[-1] < size + offset[1]:
        y = images.fit(y, size + max(offset))
    places = []
    for dim, s in zip((-2, -1), offset):
        room = y.shape[dim] - size - s
        edge = min(border, room // 2)
        places.append(edge + int(torch.randint(room - 2 * edge + 1, (), generator=generator)))
    (top, left), (down, right) = places, offset
    return (y[..., top:top + size, left:left + size],
            y[..., top + down:top + down + size, left + right:left + right + size])
