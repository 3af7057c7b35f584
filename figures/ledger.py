"""The ledger: every measured number in one CSV file. Tables and figures are rendered from it; none is typed.

One row is one method on one split. `protocol.run` makes the rows, `append` files them, `leaderboard` shows them. A
killed process or two writers at once lose nothing: rows are merged under a lock, and the file is replaced whole.
"""

import csv
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from iqa_core.files import atomic, locked
from iqa_core.evaluate import summary

KEY = ["dataset", "split", "mode", "method", "variant", "seed", "images"]  # also the order of the rows
COLUMNS = ["method", "variant", "dataset", "images", "split", "seed", "mode", "srcc", "plcc", "plcc_logistic",
           "krcc", "rmse", "n", "n_train", "minutes", "memory_mb", "hardware", "version", "date"]
CLAIM_COLUMNS = ["claim", "paper", "text", "dataset", "measure", "effect", "low", "high", "pairs", "verdict", "remark"]
_WHOLE = ["images", "seed", "n", "n_train"]
_DECIMAL = ["srcc", "plcc", "plcc_logistic", "krcc", "rmse", "minutes", "memory_mb"]
_RANK = {"full": 0, "quick": 1, "smoke": 2}  # the leaderboard shows the most thorough mode that was run


def default_path() -> Path:
    """`figures/ledger.csv` of the checkout around the current directory, else of the current directory."""
    here = Path.cwd()
    checkouts = (f for f in (here, *here.parents) if (f / "figures").is_dir() and (f / "iqa_core").is_dir())
    return next(checkouts, here) / "figures" / "ledger.csv"


def _checked(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The columns of a ledger in their order and types; anything else is one clear sentence."""
    missing, unknown = [c for c in COLUMNS if c not in frame], [c for c in frame if c not in COLUMNS]
    if missing or unknown:
        raise ValueError(f"{where}: no ledger rows (missing columns: {', '.join(missing) or 'none'}; "
                         f"unknown: {', '.join(map(str, unknown)) or 'none'}). Use protocol.run's rows.")
    texts = [c for c in COLUMNS if c not in _WHOLE + _DECIMAL]
    frame = frame[COLUMNS].assign(**frame[texts].fillna("").astype(str))
    for column in _WHOLE + _DECIMAL:
        try:
            values = pd.to_numeric(frame[column].mask(frame[column] == "")).astype(float)
            frame[column] = values.round(4) if column in _DECIMAL else values.astype("int64")
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where}: column {column} holds something that is no number ({error}). Correct "
                             "it, or restore the file from version control.") from error
    return frame


def read(path: str | Path | None = None) -> pd.DataFrame:
    """The ledger as a table with the columns `COLUMNS`.

    Args:
        path: the CSV file; default `default_path()`.

    Returns:
        DataFrame, one row a (dataset, split, mode, method, variant, seed, images).

    Raises:
        FileNotFoundError: no such file.
        ValueError: another table, or a file that was cut short.
    """
    path = Path(path or default_path())
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no ledger yet. Run a notebook, which appends to it, or give path=.")
    text = path.read_text("utf-8")
    rows = list(csv.reader(text.splitlines()))  # pandas would fill a row that was cut short with NaN
    torn = [number for number, row in enumerate(rows, 1) if len(row) != len(rows[0])]
    if torn or not text.endswith("\n"):
        raise ValueError(f"{path}: line {(torn or [len(rows)])[0]} is cut short or too long. Delete "
                         "that line, or restore the file from version control.")
    return _checked(pd.DataFrame(rows[1:], columns=rows[0]), str(path))


def append(rows: pd.DataFrame, path: str | Path | None = None) -> Path:
    """Add rows to the ledger. Rows with the same key (`KEY`) replace the older ones; all others are kept.

    Args:
        rows: DataFrame with the columns `COLUMNS`, as `protocol.run` returns it.
        path: the CSV file; default `default_path()`. It is made if there is none.

    Returns:
        The path that was written.

    Raises:
        ValueError: missing or unknown columns, or a file at `path` that is no ledger. It is left as it was.

    >>> import tempfile
    >>> row = dict.fromkeys(COLUMNS, "") | {"method": "PSNR", "images": 9, "n": 9, "n_train": 0, "seed": 0}
    >>> path = append(pd.DataFrame([row | {"srcc": 0.5}]), tempfile.mkdtemp() + "/ledger.csv")
    >>> path = append(pd.DataFrame([row | {"srcc": 0.6}, row | {"seed": 1, "srcc": 0.7}]), path)
    >>> read(path)[["method", "seed", "srcc"]].values.tolist()
    [['PSNR', 0, 0.6], ['PSNR', 1, 0.7]]
    """
    return merge(Path(path or default_path()), _checked(rows, "append"), KEY, read)


def merge(path: Path, rows: pd.DataFrame, key: list[str], reader: Callable[[Path], pd.DataFrame] = pd.read_csv) -> Path:
    """Put rows into a CSV file, in the order of their keys; one that is there already is replaced.

    The file is written whole or not at all, and writers take turns.

    Args:
        path: made, if there is none.
        rows, key: a table, and the columns that tell its rows apart.
        reader: reads what is there; it may refuse.

    Returns:
        path.

    >>> import tempfile
    >>> path, row = Path(tempfile.mkdtemp()) / "own.csv", pd.DataFrame({"seed": [1], "value": [0.5]})
    >>> pd.read_csv(merge(merge(path, row, ["seed"]), row.assign(value=0.7), ["seed"])).values.tolist()
    [[1.0, 0.7]]
    """
    with locked(path):
        if path.is_file():
            rows = pd.concat([reader(path), rows], ignore_index=True)
        rows = rows.drop_duplicates(key, keep="last").sort_values(key, kind="stable")
        with atomic(path) as temporary:
            rows.to_csv(temporary, index=False, lineterminator="\n")
    return path


def leaderboard(path: str | Path | None = None) -> pd.DataFrame:
    """One line a method: medians over the seeds, from its most thorough mode (full, else quick, else smoke).

    Args:
        path: the CSV file; default `default_path()`.

    Returns:
        DataFrame sorted by dataset, then by median SRCC, best first. Variants "... best epoch", "... of the scores"
        and "... from another set" stay in the ledger: results are those of the last epoch, with all scores of the
        training part, on the same set. Of several sizes of a set that with the most seeds counts, then the largest.
        "SRCC" is text: the median and, with several seeds, the quartiles. HIGHER = BETTER in SRCC, PLCC, PLCC
        logistic and KRCC.

    Raises:
        FileNotFoundError, ValueError: as `read`.
    """
    rows = read(path).loc[lambda table: ~table["variant"].str.contains("best epoch$|of the scores|, from ")]
    of = ["dataset", "split", "method", "variant", "mode"]
    size = rows.groupby([*of, "images"])["seed"].transform("count") + rows["images"] / 1e9  # seeds first, then pictures
    table = summary(rows[size == size.groupby([rows[c] for c in of]).transform("max")])
    rank = table["mode"].map(_RANK).fillna(len(_RANK))
    best = rank.groupby([table[c] for c in ("dataset", "split", "method", "variant")]).transform("min")
    table = table[rank == best].reset_index(drop=True)
    spread = [f"{row.srcc:.3f}" + (f" [{row.srcc_25:.3f}, {row.srcc_75:.3f}]" if row.seeds > 1 else "")
              for row in table.itertuples()]
    return pd.DataFrame({**table[["dataset", "split", "method", "variant", "mode"]], "SRCC": spread, "PLCC": table["plcc"],
        "PLCC logistic": table["plcc_logistic"], "KRCC": table["krcc"], "seeds": table["seeds"],
        "n": table["n"].astype(int)}).round(3)


def read_claims(path: str | Path) -> pd.DataFrame:
    """The rows of a file of claims, with the columns `CLAIM_COLUMNS`."""
    return pd.read_csv(path, keep_default_na=False)


def claims(path: str | Path | None = None) -> pd.DataFrame:
    """All claims as a table for readers: paper, claim, dataset, measure, effect with its interval, verdict.

    Raises:
        FileNotFoundError: no claim has been tested yet.
    """
    rows = read_claims(path or default_path().with_name("claims.csv"))
    effect = [f"{row.effect:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" for row in rows.itertuples()]
    return pd.DataFrame({"paper": rows["paper"], "claim": rows["text"], "on": rows["dataset"], "measure": rows["measure"],
                         "effect": effect, "verdict": rows["verdict"]})
