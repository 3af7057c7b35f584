"""Tables that readers bring: how they are read, and the words for the parts of a split.

A spreadsheet may write commas, semicolons or tabs, decimal points or commas, UTF-8 or UTF-16. All
of them are read here; what cannot be read without a guess is said in one sentence.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

SUFFIXES = (".csv", ".tsv", ".tab", ".txt")  # of a table, in any case of letters
# Name of an index that counts rows as a spreadsheet does: the first line of the file is row 1.
ROW = "row"

# Column names that have a meaning: those of a dataset, then those of pyiqa's tables. They are found
# in any case.
COLUMNS = ("image", "reference", "score", "raw_score", "content", "split", "official_split",
           "distortion", "level")
PYIQA_COLUMNS = ("dist_name", "img_name", "img_name/patch_name", "ref_name", "hq_name", "mos",
                 "dmos", "elo_score", "std")

SEPARATORS = {"\t": "tab", ";": "semicolon", "|": "vertical bar", ",": "comma", " ": "space"}

# FLIVE and KonIQ-10k write numbers or long words. "eval" is missing, because it may mean either
# part.
PARTS = {
    "train": "train", "training": "train", "tr": "train", "0": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "1": "val",
    "test": "test", "testing": "test", "te": "test", "2": "test",
    "": ""}
PART_WORDS = ("train (training, tr, 0), val (valid, validation, dev, 1), test (testing, te, 2), or "
              "nothing where the part is drawn")


class DatasetError(ValueError):
    """A dataset that is absent or not as its layout says. The message names the file and the
    remedy."""


class TextTable(NamedTuple):
    """A table as it was read, each cell a text without spaces around it.

    The index of `cells` is the row number as a spreadsheet counts: the first line of the file is
    row 1, and blank lines count.
    """

    path: Path
    cells: pd.DataFrame
    separator: str
    encoding: str


def is_table(path: str | Path) -> bool:
    """Does a name look like a table's? By its suffix, in any case of letters.

    >>> is_table("Mine.CSV"), is_table("kadid10k")
    (True, False)
    """
    return Path(path).suffix.lower() in SUFFIXES


def read_text(path: str | Path, columns: list[str] | None = None) -> TextTable:
    """Read a table of a reader, every cell as text, whatever its encoding and separator.

    UTF-8, UTF-16 and Windows-1252 are read; commas, semicolons, tabs, vertical bars and spaces.

    Names of columns lose the spaces around them; those with a meaning are found in any case of
    letters. No word is taken for a missing value, because "NA" or "None" may well name an image.

    Args:
        path: the file; `~` is the home folder.
        columns: names that must be there.

    Returns:
        TextTable.

    Raises:
        DatasetError: no such file, no table, a workbook, a missing or doubled column, a row with
            too many cells.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "Ratings.CSV")
    >>> _ = path.write_text("Image; Score\\nNA;3,5\\n")
    >>> table = read_text(path, ["image", "score"])
    >>> table.separator, table.cells.loc[2].tolist()
    (';', ['NA', '3,5'])
    """
    path = Path(path).expanduser()
    text, encoding = _decode(path)
    separator, records = _records(path, text)
    if not records:
        raise DatasetError(f"{path}: the table is empty. Write the names of the columns into the "
                           "first line and an image a line below it.")
    names = [column_name(name) for name in records[0][1]]
    body = records[1:]
    _expect_unique(path, names)
    expect_columns(path, names, columns or [])

    rows = []
    for number, cells in body:
        extra = [cell for cell in cells[len(names):] if cell]
        if extra:
            raise DatasetError(f"{path}: row {number} has {len(cells)} cells, but the first line "
                               f"names {len(names)} columns (separator: {SEPARATORS[separator]}). "
                               "Put a name that holds a separator in quotes, and write decimal "
                               "numbers with a point.")
        padded = cells[:len(names)] + [""] * (len(names) - len(cells))
        rows.append(padded)
    index = pd.Index([number for number, _ in body], name=ROW, dtype="int64")
    cells = pd.DataFrame(rows, columns=range(len(names)), index=index, dtype=str)

    unnamed = [place for place, name in enumerate(names) if not name]
    for place in unnamed:
        filled = cells[place] != ""
        if place > 0 and filled.any():  # the first may hold the row numbers that pandas writes
            raise DatasetError(f"{path}: row {filled.idxmax()} has "
                               f"{cells[place][filled].iloc[0]!r} in column {place + 1}, which has "
                               f"no name (separator: {SEPARATORS[separator]}). Name the column in "
                               "the first line; write decimal numbers with a point.")
    cells = cells.drop(columns=unnamed)
    cells.columns = [name for name in names if name]
    return TextTable(path, cells, separator, encoding)


def header(path: str | Path) -> list[str]:
    """The names of the columns of a table; none if there is no such table.

    >>> header("absent.csv")
    []
    """
    try:
        path = Path(path).expanduser()
        text, _ = _decode(path)
        _, records = _records(path, text, most=1)
    except (DatasetError, OSError):
        return []
    return [column_name(name) for name in records[0][1]] if records else []


def _decode(path: Path) -> tuple[str, str]:
    """The text of a file and its encoding."""
    if path.is_dir():
        raise DatasetError(f"{path}: is a folder. Give the table, such as {path / 'scores.csv'}.")
    if not path.is_file():
        raise DatasetError(f"{path}: no such file. Place the score table there.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}). Correct its "
                           "rights.") from error
    workbook = content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0"))
    if workbook or path.suffix.lower() in (".xlsx", ".xls", ".ods"):
        raise DatasetError(f"{path}: is a workbook, not a text table. Save its sheet as CSV (in "
                           "Excel: Save As, CSV UTF-8) and give that file.")
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        encodings = ["utf-32"]
    elif content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]  # what Excel calls Unicode text
    elif content[1:2] == b"\0":
        encodings = ["utf-16-le"]
    elif content[:1] == b"\0":
        encodings = ["utf-16-be"]
    else:
        encodings = ["utf-8-sig", "cp1252", "latin-1"]  # the last takes any bytes
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeError:
            continue
        if "\0" not in text:
            return text, encoding
    raise DatasetError(f"{path}: cannot be read as a CSV table (its bytes are no text). Replace "
                       "this file.")


def _records(path: Path, text: str,
             most: int | None = None) -> tuple[str, list[tuple[int, list[str]]]]:
    """The separator, and every row that is not blank: its number and its cells, without spaces
    around them.

    `most`: read no more rows than that.
    """
    lines = text.lstrip("\r\n").splitlines()
    first = lines[0] if lines else ""
    announced = re.fullmatch(r"(?i)sep=(.)[;,\t]*", first.strip(' "'))
    if announced:  # Excel's own line that names the separator
        separator = announced[1]
        if separator not in SEPARATORS:
            separator = _separator(lines[1] if len(lines) > 1 else "")
    else:
        separator = _separator(first)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True,
                        skipinitialspace=True)
    records = []
    try:
        for number, cells in enumerate(reader, 1):
            cells = [cell.strip() for cell in cells]
            names_separator = announced and not records and cells[0].lower().startswith("sep=")
            if any(cells) and not names_separator:
                records.append((number, cells))
            if len(records) == most:
                break
    except csv.Error as error:
        raise DatasetError(f"{path}: cannot be read as a CSV table (line {reader.line_num}: "
                           f"{error}). A quotation mark may be left open. Replace this "
                           "file.") from error
    return separator, records


def _separator(line: str) -> str:
    """The separator that cuts the first line into the most columns."""
    counts = {}
    for separator in SEPARATORS:
        try:
            reader = csv.reader([line], delimiter=separator, skipinitialspace=True)
            counts[separator] = len(next(reader, []))
        except csv.Error:
            counts[separator] = 0
    marks = {separator: count for separator, count in counts.items() if separator != " "}
    best = max(marks, key=marks.get)
    if marks[best] > 1:
        return best
    return " " if counts[" "] > 1 else ","


def column_name(name: str) -> str:
    """The name of a column without spaces around it; in lower case where it has a meaning.

    >>> column_name(" Image "), column_name("Viewer")
    ('image', 'Viewer')
    """
    name = name.strip().lstrip("\ufeff")
    return name.lower() if name.lower() in COLUMNS + PYIQA_COLUMNS else name


def _expect_unique(path: Path, names: list[str]) -> None:
    for name in names:
        if name and names.count(name) > 1:
            raise DatasetError(f"{path}: has {names.count(name)} columns named {name!r}. Rename or "
                               "remove all but one.")


def expect_columns(path: Path, names: list[str], columns: list[str]) -> None:
    """DatasetError if a table with columns of these `names` lacks one of `columns`."""
    missing = [column for column in columns if column not in names]
    if not missing:
        return
    shown = ", ".join(repr(name) for name in names)
    hint = ""
    if len(names) == 1:
        hint = " Between columns stands a comma, a semicolon or a tab."
    raise DatasetError(f"{path}: has no column {', '.join(map(repr, missing))}; its columns are "
                       f"{shown}. Rename them in the first line, which has to name the "
                       f"columns.{hint}")


def numbers(cells: pd.Series, separator: str = ",") -> tuple[pd.Series, pd.Series]:
    """A column of texts as numbers.

    A decimal comma is read where the separator is not a comma and no cell of the column holds a
    point.

    Args:
        cells: texts.
        separator: of the table that they come from.

    Returns:
        The numbers, NaN where there is none; and where a text is no number. An empty text is no
        number.

    >>> numbers(pd.Series(["1,5", "2", "high"]), ";")[0].tolist()
    [1.5, 2.0, nan]
    """
    texts = cells
    comma = separator != "," and cells.str.contains(",", regex=False).any()
    if comma and not cells.str.contains(".", regex=False).any():
        texts = cells.str.replace(",", ".", regex=False)
    values = texts.map(_number).astype(float)
    return values, ~np.isfinite(values)


def _number(text: str) -> float:
    """The number that a text stands for, every digit kept; NaN for any other text."""
    if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text):
        return float("nan")
    return float(text)


def typed(text: TextTable, split: str | None = None) -> pd.DataFrame:
    """The cells of a table, with numbers where a column holds numbers.

    Columns with a meaning stay texts, but for `score` and `level`: there, numbers stand where the
    text is one, and any other text stays, so that a message can quote it.

    Args:
        text: the table.
        split: another column that stays a text, because it names parts.
    """
    frame = text.cells.copy()
    for column in frame:
        if column in ("score", "level"):
            values, bad = numbers(frame[column], text.separator)
            frame[column] = values.astype(object).where(~bad, frame[column])
        elif column not in (*COLUMNS, split):
            frame[column] = guessed(frame[column])
    return frame


def guessed(cells: pd.Series) -> pd.Series:
    """A column without a meaning of its own: as numbers or as True and False where all its texts
    are such."""
    values, bad = numbers(cells)
    if not (bad & (cells != "")).any() and not bad.all():
        whole = not bad.any() and not cells.str.contains("[.eE]").any()
        return values.astype("int64") if whole else values
    if len(cells) and cells.isin(["True", "False"]).all():
        return cells == "True"
    return cells


def parts(column: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Words for the parts of a split, in any case of letters, as "train", "val", "test" or ""
    (open).

    Args:
        column: texts or numbers (0, 1, 2; 0.0 as well); a missing value is open.

    Returns:
        The parts, "" where a word is not known; and where it is not known. `PART_WORDS` says what
        is.

    >>> known, unknown = parts(pd.Series(["Test", "validation", 0.0, None, "holdout"]))
    >>> known.tolist(), unknown.tolist()
    (['test', 'val', 'train', '', ''], [False, False, False, False, True])
    """
    texts = column.astype(object).where(column.notna(), "").map(str)
    known = {text: _part(text) for text in pd.unique(texts)}
    each = [known[text] for text in texts]
    words = pd.Series([part or "" for part in each], index=column.index, dtype=str)
    unknown = pd.Series([part is None for part in each], index=column.index, dtype=bool)
    # pyiqa's ten random splits have two parts, 8:0:2, and its scripts call the second one val. It
    # is what a method is judged on, so it is the test part; as `val`, a test part would be drawn
    # from the training images.
    if str(column.name).startswith("ratio802") and not (words == "test").any():
        words = words.replace("val", "test")
    return words, unknown


def _part(text: str) -> str | None:
    word = text.strip().lower()
    number = re.fullmatch(r"([012])\.0*", word)  # pandas makes 1.0 of 1 where a cell is empty
    return PARTS.get(number[1] if number else word)
