"""Maps of a dataset's crops under a frozen encoder: computed once, kept on disk, read in training.

A head that is trained on frozen maps sees the same crops of every image again and again. So the
encoder need not run in training: its maps are computed once for a fixed plan of crops, kept at half
precision, and read through a memory map. References get maps of the same crops, once each.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from iqa_core import files, images
from iqa_core.crops import SeededOrder, expect_same_size
from iqa_core.data import Dataset
from iqa_core.identity import fingerprint
from iqa_core.store import RowStore, expect_room

# Whatever maps depend on beside the encoder's weights: they are computed anew when it changes.
_CODE = [Path(__file__).with_name(name)
         for name in ("images.py", "image_colours.py", "image_formats.py", "backbones.py",
                      "encoders.py", "frozen_maps.py")]


class CropPlan(NamedTuple):
    """Which crops of an image are looked at.

    Attributes:
        size: side of a crop; 0 = the whole image.
        positions: "five" = the four corners and the centre, or "random" = seeded places.
        count: number of random places.
    """

    size: int
    positions: str = "five"
    count: int = 5

    def cut(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (crops, B, 3, size, size), at the same places for all images of a size.

        >>> CropPlan(16).cut(torch.rand(2, 3, 40, 50)).shape
        torch.Size([5, 2, 3, 16, 16])
        """
        if not self.size:
            return x[None]
        return images.crops(x, self.size, self.positions, self.count)


@dataclass
class FrozenMaps:
    """The maps of a dataset's crops. Made by `compute`.

    Attributes:
        dataset: whose rows are counted.
        shapes: (channels, height, width) of each map.
        crops: number of crops of an image.
    """

    dataset: Dataset
    shapes: list[tuple[int, ...]]
    crops: int
    _store: RowStore
    _images: list[str]  # names in the store, a row each
    _references: list[str]

    def __len__(self) -> int:
        return len(self.dataset)

    def image(self, row: int) -> list[Tensor]:
        """Maps (crops, C_i, h_i, w_i) of the image of a row, at half precision."""
        return self._split(self._images[row])

    def reference(self, row: int) -> list[Tensor]:
        """The same of its reference.

        Raises:
            DatasetError: there is none.
        """
        if not self._references[row]:
            self.dataset.reference(row)  # raises, naming the image
        return self._split(self._references[row])

    def _split(self, name: str) -> list[Tensor]:
        row = np.array(self._store.row(name)[:-4])  # without the size
        numbers = torch.from_numpy(row).view(self.crops, -1)
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        parts = numbers.split(sizes, dim=1)
        return [part.view(self.crops, *shape) for part, shape in zip(parts, self.shapes)]


def compute(dataset: Dataset, encoder: nn.Module, plan: CropPlan, references: bool = True
            ) -> FrozenMaps:
    """The maps of all images of a dataset, and of its references; what is on disk is not computed
    again.

    The files lie in the cache folder, named by the dataset, the plan, the encoder with its weights,
    and the code. An image is found again by its path, size and time of change: so all splits share
    them, and a replaced image is computed anew. A run that is killed loses one image.

    Args:
        dataset: any dataset.
        encoder: images (B, 3, H, W) in [0, 1] -> list of maps, the same for every image and time.
        plan: the crops.
        references: False leaves them out.

    Raises:
        OSError: the disk has no room for them.
        ValueError: a map that is no number, or maps of another size than those of the other images.
        DatasetError: an image and a reference of different sizes.
    """
    table = dataset.table
    names = list(table["image"])
    reference_names = [""] * len(dataset)
    if references:
        reference_names = [name if dataset.has_reference(i) else ""
                           for i, name in enumerate(table["reference"])]
    stamps = {name: f"{name} {files.stamp(Path(dataset.root) / name)}"
              for name in {*names, *reference_names} if name}
    shapes = _shapes(encoder, plan)
    crops = len(plan.cut(torch.zeros(1, 3, *[max(plan.size, 32)] * 2)))
    store = RowStore(_path(dataset, encoder, plan, shapes), "float16")
    with store:
        missing = [name for name in dict.fromkeys([*names, *reference_names])
                   if name and stamps[name] not in store]
        needed = 2 * crops * sum(int(np.prod(shape)) for shape in shapes) * len(missing)
        what = f"maps of {dataset.name} ({needed / 1e9:.2f} GB in {store.path.parent})"
        expect_room(store.path.parent, needed, f"the maps of {dataset.name}")
        for name in files.progress(missing, what):
            x = images.load(Path(dataset.root) / name)
            row = _numbers(encoder, plan, x, name, dataset, shapes)
            store.add(stamps[name], np.concatenate([row, _coded(x.shape[-2:])]))
    for row, (name, reference) in enumerate(zip(names, reference_names)):
        if reference:
            sizes = [_decoded(store.row(stamps[which])[-4:]) for which in (name, reference)]
            expect_same_size(dataset, row, *sizes)
    return FrozenMaps(dataset, shapes, crops, store, [stamps[name] for name in names],
                      [stamps.get(name, "") for name in reference_names])


def _path(dataset: Dataset, encoder: nn.Module, plan: CropPlan, shapes: list[tuple[int, ...]]
          ) -> Path:
    # weights do not tell how an encoder pools, nor what a module without weights does
    made_of = (f"{Path(dataset.root).resolve()} {tuple(plan)} {fingerprint(encoder)} "
               f"{encoder} {shapes} {files.code_hash(*_CODE)}")
    digest = hashlib.sha256(made_of.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return files.cache_dir() / "maps" / f"{dataset.name}-{digest}"


def _coded(size: tuple[int, int]) -> np.ndarray:
    """Height and width as four numbers that half precision holds exactly."""
    height, width = size
    return np.array([height // 1024, height % 1024, width // 1024, width % 1024], np.float16)


def _decoded(numbers: np.ndarray) -> tuple[int, int]:
    thousands_h, height, thousands_w, width = numbers.astype(int).tolist()
    return 1024 * thousands_h + height, 1024 * thousands_w + width


@torch.inference_mode()
def _shapes(encoder: nn.Module, plan: CropPlan) -> list[tuple[int, ...]]:
    """Shapes of the maps of one crop; of a whole image it stands for all, since grids are fixed."""
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    side = plan.size or 512
    return [tuple(m.shape[1:]) for m in encoder(torch.zeros(1, 3, side, side, device=device))]


@torch.inference_mode()
def _numbers(encoder: nn.Module, plan: CropPlan, x: Tensor, name: str, dataset: Dataset,
             shapes: list[tuple[int, ...]]) -> np.ndarray:
    """All maps of one image as one row."""
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    crops = plan.cut(x[None].to(device)).flatten(0, 1)
    maps = encoder(crops.contiguous(memory_format=torch.channels_last))
    if [tuple(m.shape[1:]) for m in maps] != shapes:
        raise ValueError(f"{dataset.name}: the maps of {name} have the shapes "
                         f"{[tuple(m.shape[1:]) for m in maps]}, those of other images {shapes}. "
                         "Choose crops of one size, or a smaller grid.")
    row = torch.cat([m.half().flatten(1) for m in maps], 1)
    if not row.isfinite().all():
        raise ValueError(f"{dataset.name}: a map of {name} is no number at half precision. Look at "
                         "that image, and at the weights of the encoder.")
    return row.flatten().cpu().numpy()


@dataclass
class _Items(torch.utils.data.Dataset):
    """Items of a loader: the maps of one crop of one image, flipped or not."""

    maps: FrozenMaps
    references: bool
    flip: bool

    def __getitem__(self, pair: tuple[int, int]) -> dict:
        row, seed = pair
        crop = seed % self.maps.crops
        flipped = self.flip and (seed // self.maps.crops) % 2 == 1
        score = self.maps.dataset.table["score"].iloc[row]
        item = {"maps": self._chosen(self.maps.image(row), crop, flipped),
                "score": torch.tensor(score, dtype=torch.float32), "row": torch.tensor(row)}
        if self.references:
            item["ref_maps"] = self._chosen(self.maps.reference(row), crop, flipped)
        return item

    @staticmethod
    def _chosen(maps: list[Tensor], crop: int, flipped: bool) -> list[Tensor]:
        chosen = [m[crop] for m in maps]
        return [m.flip(-1) for m in chosen] if flipped else chosen


def loader(maps: FrozenMaps, batch_size: int, seed: int = 0, flip: bool = False,
           references: bool = True) -> DataLoader:
    """Batches of crops drawn from frozen maps, in the manner of `data.loader`.

    Each epoch takes every image once, at one of its crops, drawn from (seed, epoch). A flip mirrors
    the maps. That is not the map of the mirrored crop, since even strides and one-sided padding
    shift it: of EfficientNet-lite0 with 128-pixel crops on 8 x 8 cells the difference is 0.8, 0.9,
    0.5 and 0.2 standard deviations of a channel, from the finest to the deepest map. So a flip of
    maps is an augmentation of its own. On the two splits that were tried, YOTO's validation SRCC
    is the same with it and without, to .003.

    Args:
        maps: of the training images.
        batch_size, seed: as in `data.loader`.
        flip: mirror half of the crops.
        references: bring the maps of the references, too.

    Returns:
        DataLoader of dicts: `maps` (and `ref_maps`), a list of (B, C_i, h_i, w_i) at half
        precision, `score` (B,) in [0, 1], HIGHER = BETTER, and `row` (B,).
    """
    items = _Items(maps, references, flip)
    return DataLoader(items, batch_size, sampler=SeededOrder(len(maps), True, seed))
