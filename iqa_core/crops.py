"""Batches of random crops for training, the same for every number of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from iqa_core import images
from iqa_core.tables import DatasetError

if TYPE_CHECKING:
    from iqa_core.data import Dataset


def expect_same_size(dataset: Dataset, row: int, image: tuple[int, int],
                     reference: tuple[int, int]) -> None:
    """DatasetError if the image of a row and its reference differ in (height, width): they show
    other places."""
    if tuple(image) == tuple(reference):
        return
    names = dataset.table.iloc[row]
    raise DatasetError(f"{dataset.name}: {names['image']} has {image[1]:.0f} x {image[0]:.0f} "
                       f"pixels, but its reference {names['reference']} has {reference[1]:.0f} x "
                       f"{reference[0]:.0f}, so they do not show the same places. Replace one of "
                       "them, or remove this row.")


class SeededOrder(Sampler):
    """Yields (row, seed) pairs. The crop of an image depends on its pair alone, not on the worker
    that reads it."""

    def __init__(self, length: int, shuffle: bool, seed: int):
        self.length = length
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.epoch += 1
        if self.shuffle:
            rows = torch.randperm(self.length, generator=generator)
        else:
            rows = torch.arange(self.length)
        seeds = torch.randint(2**31, (self.length,), generator=generator)
        yield from zip(rows.tolist(), seeds.tolist())


class Crops(TorchDataset):
    """One random crop of an image, and the same crop of its reference, for a (row, seed) pair.

    Args:
        dataset: images, scores and maybe references.
        size: side of the crop in pixels.
        flip: mirror the crops of every odd seed.
        paired: give the crop of the reference as well.
        memory: bytes that decoded images may take.
    """

    def __init__(self, dataset: Dataset, size: int, flip: bool, paired: bool, memory: int):
        self.dataset = dataset
        self.size = size
        self.flip = flip
        self.paired = paired
        self.free = memory
        self.in_memory: dict[str, Tensor] = {}  # uint8 (3, H, W) by name

    def __getitem__(self, pair: tuple[int, int]) -> dict[str, Tensor]:
        row, seed = pair
        names = self.dataset.table.iloc[row]
        stack = self._decoded(names["image"], self.dataset.image, row)[None]  # (1, 3, H, W)
        if self.paired:
            reference = self._decoded(names["reference"], self.dataset.reference, row)
            expect_same_size(self.dataset, row, stack.shape[-2:], reference.shape[-2:])
            stack = torch.cat([stack, reference[None]])  # (2, 3, H, W)
        crop = images.crops(stack, self.size, "random", n=1, seed=seed)[0]
        crop = images.from_uint8(crop)  # (1 or 2, 3, size, size)
        if self.flip and seed % 2:
            crop = crop.flip(-1)
        item = {
            "x": crop[0],
            "score": torch.tensor(names["score"], dtype=torch.float32),
            "row": torch.tensor(row),
        }
        if self.paired:
            item["x_ref"] = crop[1]
        return item

    def _decoded(self, name: str, read: Callable[[int], Tensor], row: int) -> Tensor:
        """An image with 8 bits, which stays in memory while there is room: decoding takes longer
        than a small training step."""
        if name in self.in_memory:
            return self.in_memory[name]
        image = images.to_uint8(read(row))
        if image.numel() <= self.free:
            self.in_memory[name] = image
            self.free -= image.numel()
        return image


def loader(dataset: Dataset, size: int, batch_size: int, seed: int = 0, shuffle: bool = True,
           flip: bool = False, workers: int = 0, references: bool = True,
           keep_gb: float = 2.0) -> DataLoader:
    """Batches of random crops for training; the same for every number of workers.

    Each epoch draws new crops from `(seed, epoch)`; `loader.sampler.epoch` may be set to go on
    after a stop. An image smaller than the crop is mirrored (see `images.fit`). Reference and
    distorted crop are aligned and flipped together.

    Args:
        dataset: any dataset with readable images.
        size: side of the crops in pixels.
        batch_size: crops in a batch.
        seed: of the order, the places and the flips.
        shuffle: draw a new order in each epoch.
        flip: mirror half of the crops.
        workers: processes that read ahead; 0 reads in this process.
        references: give the crops of references too, where the card says that there are some.
        keep_gb: memory for decoded images, in all; what does not fit is read each time.

    Returns:
        DataLoader of dicts: `x` (B, 3, size, size), `x_ref` likewise, `score` (B,) in [0, 1],
        HIGHER = BETTER, `row` (B,) the row of the table.

    >>> from iqa_core import data
    >>> batch = next(iter(loader(data.example(), size=32, batch_size=4)))
    >>> batch["x"].shape, batch["x_ref"].shape
    (torch.Size([4, 3, 32, 32]), torch.Size([4, 3, 32, 32]))
    """
    memory = int(keep_gb * 2**30 / max(workers, 1))
    crops = Crops(dataset, size, flip, references and dataset.card.reference, memory)
    return DataLoader(
        crops,
        batch_size,
        sampler=SeededOrder(len(dataset), shuffle, seed),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),
    )
