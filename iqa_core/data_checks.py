"""What a table of images must fulfil before it becomes a dataset, and a sentence for each fault."""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from iqa_core import images, paths, tables
from iqa_core.splits import contents
from iqa_core.tables import ROW, DatasetError

if TYPE_CHECKING:
    from iqa_core.data import Card

COLUMNS = ["image", "reference", "score", "raw_score", "content", "split", "distortion", "level"]


class Fault(NamedTuple):
    """Something wrong with a dataset: its kind in one word, and a sentence that names the file and
    the remedy."""

    kind: str
    sentence: str


def own_columns(frame: pd.DataFrame, title: str,
                split: str | None) -> tuple[pd.DataFrame, list[Fault]]:
    """A reader's table with the columns `image, score` in the columns that `complete` expects.

    Args:
        frame: the table; its index names the rows.
        title: of the table, for messages.
        split: the column that becomes `split`; None: `split`, else `official_split`, else none.

    Returns:
        The table with `raw_score` instead of `score`, and the cells that cannot be read.

    Raises:
        DatasetError: no such column to split by.
    """
    rows = frame.index
    faults = []
    result = pd.DataFrame({"image": frame["image"], "raw_score": frame["score"]})
    for column in ("reference", "content", "distortion"):
        if column in frame:
            result[column] = frame[column]

    usual = [column for column in ("split", "official_split") if column in frame]
    chosen = split or (usual[0] if usual else None)
    if chosen is not None and chosen not in frame:
        raise DatasetError(f"{title}: has no column {chosen!r} to split by; its columns are "
                           f"{', '.join(map(repr, frame.columns))}. Give one of them as split.")
    if chosen is not None:
        result["split"], unknown = tables.parts(frame[chosen])
        if unknown.any():
            first = int(unknown.to_numpy().argmax())
            word = frame[chosen].iloc[first]
            sentence = (f"{title}: row {rows[first]}, column {chosen!r} holds {word!r}, which is "
                        f"no part ({unknown.sum()} such rows). Write {tables.PART_WORDS}.")
            faults.append(Fault("split word", sentence))
        written = set(_texts(frame[chosen]))
        if written <= {"", "0", "1", "0.0", "1.0"} and written & {"1", "1.0"}:
            # The stack: this function, _own_dataset, inspect_csv or inspect_frame, from_csv or
            # from_frame, and who called that.
            warnings.warn(f"{title}: column {chosen!r} holds 1, but no 2: 1 is read as val (0 "
                          "train, 1 val, 2 test). If it marks the test part, write test.",
                          stacklevel=5)

    if "level" in frame:
        levels = pd.to_numeric(frame["level"], errors="coerce").astype(float)
        bad = ~np.isfinite(levels.to_numpy()) & (_texts(frame["level"]) != "").to_numpy()
        if bad.any():
            first = int(bad.argmax())
            word = frame["level"].iloc[first]
            faults.append(Fault("level", f"{title}: row {rows[first]}, column 'level' holds "
                                         f"{word!r}, which is no number ({bad.sum()} such rows). "
                                         "Write 1, 2, 3 ... (larger = worse), or put words into "
                                         "the column distortion."))
        levels = levels.where(np.isfinite(levels), 0)
        is_whole = (levels == levels.round()).all()
        result["level"] = levels.astype("int64") if is_whole else levels

    for column in frame:
        if column not in {*COLUMNS, chosen}:
            result[column] = frame[column]
    return result, faults


def _texts(column: pd.Series) -> pd.Series:
    """A column as texts without spaces around them; "" where a value is missing."""
    return column.astype(object).where(column.notna(), "").map(str).str.strip()


def complete(frame: pd.DataFrame, root: Path, card: Card,
             check_files: bool = True) -> tuple[pd.DataFrame, list[Fault]]:
    """A table with all columns of a dataset and scaled scores, and what breaks the contract.

    Args:
        frame: `image` and any other of `COLUMNS` but `score`; further columns stay. Where its
            index is named `tables.ROW`, sentences name the row by it.
        root: the folder that paths start from.
        card: title and scale of the set.
        check_files: look whether the files are there.

    Raises:
        DatasetError: no row at all.
    """
    rows = frame.index.to_numpy() if frame.index.name == ROW else None
    frame = frame.reset_index(drop=True).copy()
    if frame.empty:
        raise DatasetError(f"{root}: {card.title} has no images here. Place its files as its card "
                           "says.")
    for column, default in {"reference": "", "split": "", "distortion": "", "level": 0}.items():
        if column in frame:
            frame[column] = frame[column].fillna(default)
        else:
            frame[column] = default
    if "raw_score" not in frame:
        frame["raw_score"] = np.nan
    frame["image"] = frame["image"].fillna("")
    frame["content"] = contents(frame)

    faults = []
    nameless = (frame["image"].astype(str).str.strip() == "").to_numpy()
    if nameless.any():
        first = int(nameless.argmax())
        where = _place(rows, first) or f" in line {first + 1} of the table"
        faults.append(Fault("name", f"{card.title}: the name of the image is missing{where} "
                                    f"({nameless.sum()} such rows). Write the name of the file, or "
                                    "remove the row."))
    if card.low is None:
        frame["score"] = np.nan
    else:
        faults += _scale(frame, card, rows)
    if check_files:
        files = _identities(frame, root)
        faults += _missing_files(frame, root, card, rows, files)
        faults += _repeated_images(frame, card, rows, files)
    extra = [column for column in frame if column not in COLUMNS]
    return frame[COLUMNS + extra], faults


def _place(rows: np.ndarray | None, position: int) -> str:
    """Where a row stands in the reader's table, for a sentence; "" where nobody counts rows."""
    return "" if rows is None else f" in row {rows[position]}"


def _scale(frame: pd.DataFrame, card: Card, rows: np.ndarray | None) -> list[Fault]:
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
                                        f"number, first '{text}' of {frame['image'].iloc[first]}"
                                        f"{_place(rows, first)}. {remedy}"))
    outside = (((raw < card.low) | (raw > card.high)) & ~bad).to_numpy()
    if outside.any():
        first = int(outside.argmax())
        faults.append(Fault("range", f"{card.title}: score {raw.iloc[first]:g} "
                                     f"({frame['image'].iloc[first]}){_place(rows, first)} does "
                                     f"not fit the range {card.low:g} to {card.high:g} "
                                     f"({outside.sum()} such rows). Give the range of the scale "
                                     "(low, high) and check the column."))
    raw = raw.mask(bad)
    score = (raw - card.low) / (card.high - card.low)
    frame["raw_score"] = raw
    frame["score"] = score if card.higher_better else 1 - score
    return faults


def _identities(frame: pd.DataFrame, root: Path) -> dict[str, tuple[int, int] | None]:
    """Of each name in a table, what tells its file from all others, whatever link leads to it;
    None where there is no such file."""
    files = {}
    for name in pd.unique(pd.concat([frame["image"], frame["reference"]])):
        if not name:
            continue
        files[name] = None
        try:
            status = os.stat(root / name)
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(status.st_mode):
            files[name] = (status.st_dev, status.st_ino)
    return files


def _missing_files(frame: pd.DataFrame, root: Path, card: Card, rows: np.ndarray | None,
                   files: dict) -> list[Fault]:
    """Files that a table names and that are not there."""
    missing = [name for name, identity in files.items() if identity is None]
    if not missing:
        return []
    others = ""
    if len(missing) > 1:
        others = f": {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}"
    where = ""
    hint = "Place them there or remove their rows"
    if rows is not None:
        named = (frame["image"] == missing[0]) | (frame["reference"] == missing[0])
        where = f"{_place(rows, int(named.to_numpy().argmax()))} of {card.title}"
        near = paths.nearest(missing[0], root, images.readable_suffixes())
        if near:
            hint = f"{near} is there: write that name (upper and lower case count)"
    return [Fault("missing", f"{root / missing[0]}: no such image ({len(missing)} of {len(files)} "
                             f"that the table names are missing{others}){where}. {hint}.")]


def _repeated_images(frame: pd.DataFrame, card: Card, rows: np.ndarray | None,
                     files: dict) -> list[Fault]:
    """Images that stand in several rows with one reference, or with several contents."""
    faults = []
    image = [files.get(name) or name for name in frame["image"]]
    reference = [files.get(name) or name for name in frame["reference"]]
    pairs = pd.Series(list(zip(image, reference)), index=frame.index, dtype=object)
    named = (frame["image"] != "").to_numpy()
    repeated = pairs.duplicated(keep=False).to_numpy() & named
    if repeated.any():
        first = int(repeated.argmax())
        same = [position for position in np.flatnonzero(repeated)
                if pairs.iloc[position] == pairs.iloc[first]]
        names = list(dict.fromkeys(frame["image"].iloc[same]))
        numbers = [position + 1 if rows is None else rows[position] for position in same]
        shown = ", ".join(str(number) for number in numbers[:5])
        if len(numbers) > 5:
            shown += " ..."
        stand = "stands" if len(names) == 1 else "are one file and stand"
        faults.append(Fault("repeated", f"{card.title}: {' and '.join(names[:2])} {stand} in rows "
                                        f"{shown} ({pairs[repeated].nunique()} such images). "
                                        "Average the scores of an image first, e.g. "
                                        "table.groupby('image', as_index=False)['score'].mean(), "
                                        "or remove the rows too many."))

    by_image = pd.DataFrame({"image": pd.Series(image, dtype=object), "content": frame["content"]})
    by_image = by_image[named & ~repeated]
    counts = by_image.groupby("image", sort=False)["content"].nunique()
    if len(counts) and counts.max() > 1:
        position = image.index(counts.idxmax())
        faults.append(Fault("repeated", f"{card.title}: {frame['image'].iloc[position]}"
                                        f"{_place(rows, position)} stands in several rows with "
                                        f"{counts.max()} contents ({(counts > 1).sum()} such "
                                        "images), so one row may train and another test. Give its "
                                        "rows one value in a column `content`."))
    return faults


def scale_of(raw_score: pd.Series, title: str, low: float | None,
             high: float | None) -> tuple[float, float]:
    """The range of a score scale; where an end is not given, the smallest or largest score.

    Raises:
        DatasetError: no such range, no number among the scores, or equal scores and an end that is
            not given.
    """
    for name, value in (("low", low), ("high", high)):
        if value is not None and not np.isfinite(value):
            raise DatasetError(f"{title}: {name}={value} is no end of a scale. Give the lowest "
                               "and the highest score that viewers could give.")
    if low is not None and high is not None and low >= high:
        raise DatasetError(f"{title}: low={low:g} is not below high={high:g}. Where a large "
                           "number means bad, give low and high in their order, and "
                           "higher_better=False.")
    raw = pd.to_numeric(raw_score, errors="coerce").astype(float)
    raw = raw[np.isfinite(raw)]
    if raw.empty:
        first = str(raw_score.iloc[0])
        raise DatasetError(f"{title}: no score is a number, first {first!r} in row "
                           f"{raw_score.index[0]}. Write numbers into the column of scores.")
    if raw.min() == raw.max() and (low is None or high is None):
        raise DatasetError(f"{title}: all scores are {raw.min():g}, so they do not tell the scale. "
                           "Give low and high, such as low=1, high=5 (--low 1 --high 5).")
    if low is None:
        low = float(raw.min())
    if high is None:
        high = float(raw.max())
    return low, high
