"""Training, validation and test parts that share no content."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from iqa_core import tables
from iqa_core.tables import DatasetError

if TYPE_CHECKING:
    from iqa_core.data import Dataset


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

    >>> from iqa_core import data
    >>> parts(data.example())[:2].tolist()
    ['', '']
    """
    table = dataset.table
    if "split" not in table:
        return np.full(len(table), "", dtype=object)
    known, unknown = tables.parts(table["split"])
    if unknown.any():
        position = int(unknown.to_numpy().argmax())
        raise DatasetError(f"{dataset.name}: the split of {table['image'].iloc[position]} is "
                           f"{table['split'].iloc[position]!r}, which is no part ({unknown.sum()} "
                           f"such rows). Write {tables.PART_WORDS}.")
    return known.to_numpy(dtype=object)


def splits(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """Training, validation and test part that share no content.

    70 % of the contents train, 10 % validate, 20 % test, drawn by `seed`. Where the set has an
    official test part, that part is the test part for every seed; an official validation part
    likewise; what is missing is drawn from all other images, those marked train among them.

    Args:
        dataset: any dataset.
        seed: 0 to 9 in this kit's tables. The same seed gives the same split on every machine.

    Returns:
        (train, val, test), three datasets.

    Raises:
        DatasetError: fewer than 3 contents, an official split that shares content, or a word that
            is no part.

    >>> from iqa_core import data
    >>> train, val, test = splits(data.example(10), seed=0)
    >>> len(train), len(val), len(test)
    (7, 1, 2)
    >>> set(train.table["content"]) & set(test.table["content"])
    set()
    """
    official = parts(dataset)
    part = np.where(np.isin(official, ["val", "test"]), official, "").astype(object)  # "" = open
    content = contents(dataset.table).to_numpy(dtype=object)
    order = _sorted_contents(content[part == ""])
    np.random.default_rng(seed).shuffle(order)

    wanted = {"test": 0.2, "val": 0.1}
    present = [name for name in wanted if (part == name).any()]
    if len(order) + len(present) < 3:
        raise DatasetError(f"{dataset.name}: {len(order)} contents are too few to train, validate "
                           "and test. Three different images (references) are the least.")
    total = len(order)
    for name, share in wanted.items():
        if name in present:
            continue
        count = max(1, round(share * total))
        chosen = list(order[:count])
        order = order[count:]
        is_chosen = pd.Series(content).isin(chosen).to_numpy()
        part[is_chosen & (part == "")] = name
    part[part == ""] = "train"

    parts_of_content = pd.Series(part).groupby(content).nunique()
    if parts_of_content.max() > 1:
        raise DatasetError(f"{dataset.name}: content {parts_of_content.idxmax()!r} lies in two "
                           "parts of the official split, so a test score would be flattered. "
                           "Correct the split column.")
    train = dataset.subset(part == "train")
    val = dataset.subset(part == "val")
    test = dataset.subset(part == "test")
    return train, val, test


def _sorted_contents(content: np.ndarray) -> np.ndarray:
    """Every content once, sorted, so that the order of rows in a table does not matter."""
    unique = pd.unique(pd.Series(content, dtype=object))
    try:
        return np.array(sorted(unique), dtype=object)
    except TypeError:  # numbers and texts in one column
        return np.array(sorted(unique, key=str), dtype=object)
