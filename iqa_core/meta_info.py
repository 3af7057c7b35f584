"""pyiqa's tables, in and out: a set's images, scores and parts in one text file.

The convention is that of IQA-PyTorch (C. Chen, docs/Dataset_Preparation.md):
`ref_name,dist_name,mos,std` where there are references, `img_name,mos,std` where not, then columns
of splits. `mos` is the raw score in the range and DIRECTION OF THE SET, so a card has to say which.
Three columns at the end are ours: content, distortion, level.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from iqa_core import tables
from iqa_core.files import atomic
from iqa_core.paths import Tree
from iqa_core.tables import DatasetError

if TYPE_CHECKING:
    from iqa_core.data import Dataset

# Names that a column has in the tables at hand: KADID-10k and CSIQ write dmos, PIPAL hq_name and
# elo_score, FLIVE img_name/patch_name.
NAMES = {
    "image": ("dist_name", "img_name", "img_name/patch_name"),
    "reference": ("ref_name", "hq_name"),
    "raw_score": ("mos", "dmos", "elo_score"),
    "std": ("std",),
}
OURS = ["content", "distortion", "level"]


def is_meta_info(path: str | Path) -> bool:
    """Does the first line of a file have pyiqa's column of image names? False if there is no such
    file."""
    return not set(NAMES["image"]).isdisjoint(tables.header(path))


def read_meta_info(path: str | Path, folder: str | Path | None = None,
                   split: str | None = None) -> pd.DataFrame:
    """Read a table of pyiqa's convention, with any separator, in the columns of a layout.

    Args:
        path: the table.
        folder: where the images lie; names are looked up there by the end of their path, because
            pyiqa's start from one folder for images and another for references. Default: names stay
            as they are.
        split: the column that becomes `split`; default `official_split`, else `split`, else none.

    Returns:
        image, raw_score (range and DIRECTION OF THE SET), std (NaN if unknown) and, where the table
        has them, reference, split, content, distortion, level; the columns of pyiqa's random splits
        keep their names. The index counts rows as a spreadsheet does: the first line of the file is
        row 1.

    Raises:
        DatasetError: an absent or torn file, no such column, a score that is no number, an unknown
            part.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "meta_info_Mine.csv")
    >>> _ = path.write_text("img_name\\tmos\\tofficial_split\\na.png\\t3.5\\t2\\n")
    >>> read_meta_info(path).to_dict("records")
    [{'image': 'a.png', 'raw_score': 3.5, 'std': nan, 'split': 'test'}]
    """
    text = tables.read_text(path)
    path = text.path
    cells = text.cells
    table = pd.DataFrame(index=cells.index)
    for column, names in NAMES.items():
        present = [name for name in names if name in cells]
        if present and column in ("raw_score", "std"):
            table[column] = _numbers(text, cells[present[0]])
        elif present:
            table[column] = cells[present[0]]
        elif column in ("image", "raw_score"):
            raise DatasetError(f"{path}: has no column {' or '.join(map(repr, names))}; its "
                               f"columns are {', '.join(map(repr, cells.columns))}. Rename them in "
                               "the first line.")
    if "std" not in table:
        table["std"] = float("nan")
    if folder is not None:
        tree = Tree(folder)
        for column in {"image", "reference"} & set(table):
            table[column] = [_find(tree, name) for name in table[column]]

    columns = [column for column in cells if "split" in column]
    usual = [column for column in ("official_split", "split") if column in columns]
    chosen = split or (usual[0] if usual else None)
    if chosen is not None:
        if chosen not in columns:
            raise DatasetError(f"{path}: has no column {chosen!r} to split by; choose from "
                               f"{', '.join(map(repr, columns)) or 'none'}.")
        table["split"] = _parts(path, cells[chosen])
    for column in OURS:
        if column not in cells:
            continue
        table[column] = _levels(text, cells[column]) if column == "level" else cells[column]
    random_splits = [column for column in columns if column.startswith("ratio")]
    return table.join(cells[random_splits])


def _find(tree: Tree, name: str) -> str:
    """The path of a file by the end that a table names; backslashes are understood."""
    if name in tree:
        return tree.find(name)
    return tree.find(name.replace("\\", "/"))


def _numbers(text: tables.TextTable, column: pd.Series) -> pd.Series:
    """A column of texts as numbers, every digit kept; an empty text is NaN."""
    values, bad = tables.numbers(column, text.separator)
    bad &= column != ""
    if bad.any():
        row = bad.idxmax()
        raise DatasetError(f"{text.path}: row {row}, column {column.name!r}: {column[row]!r} is no "
                           "number. Correct or remove this row.")
    return values


def _levels(text: tables.TextTable, column: pd.Series) -> pd.Series:
    """A column of whole numbers; an empty text is 0, no level."""
    values = _numbers(text, column).fillna(0)
    bad = values != values.round()
    if bad.any():
        row = bad.idxmax()
        raise DatasetError(f"{text.path}: row {row}, column {column.name!r}: {column[row]!r} is no "
                           "whole number. Correct or remove this row.")
    return values.astype("int64")


def _parts(path: Path, column: pd.Series) -> pd.Series:
    """A column of parts as "train", "val", "test" or "" (open)."""
    parts, unknown = tables.parts(column)
    if unknown.any():
        row = unknown.idxmax()
        raise DatasetError(f"{path}: row {row}, column {column.name!r} holds {column[row]!r}, "
                           f"which is no part. Write {tables.PART_WORDS}.")
    return parts


def write_meta_info(dataset: Dataset, path: str | Path) -> None:
    """Write a dataset as a table of pyiqa's convention, whole or not at all.

    `mos` holds the raw scores in the range and DIRECTION OF THE SET. `read_meta_info` gives back
    the same image, reference, raw_score, split, content, distortion and level. Paths start from
    `dataset.root`.

    >>> import tempfile
    >>> from iqa_core import data
    >>> path = Path(tempfile.mkdtemp(), "meta_info_Example.csv")
    >>> write_meta_info(data.example(), path)
    >>> path.read_text().splitlines()[0]
    'ref_name,dist_name,mos,std,content,distortion,level'
    """
    table = dataset.table
    if dataset.card.reference:
        names = {"reference": "ref_name", "image": "dist_name"}
    else:
        names = {"image": "img_name"}
    out = table[[*names, "raw_score"]].rename(columns={**names, "raw_score": "mos"})
    out["std"] = table["std"] if "std" in table else float("nan")
    if (table["split"] != "").any():
        out["official_split"] = table["split"]
    random_splits = [column for column in table if column.startswith("ratio")]
    out = out.join(table[OURS + random_splits])
    with atomic(path) as temporary:
        out.to_csv(temporary, index=False)
