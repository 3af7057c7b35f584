"""The ledger: every measured number in one CSV file, from which tables and figures are rendered.

One row is one kind of score of one training on one split. `evaluate.run` makes the rows, `append`
files them, `leaderboard` shows them. A killed process or two writers at once lose nothing: rows are
merged under a lock, and the file is replaced whole.
"""

import csv
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd

from figures import machine
from iqa_core.evaluate import summary
from iqa_core.files import atomic, locked

# What tells rows apart, and the order in which they stand in the file.
KEY = ["dataset", "split", "mode", "method", "variant", "task", "epoch", "trained_on", "hash",
       "seed", "repeat", "images"]
COLUMNS = ["method", "variant", "task", "epoch", "trained_on", "hash", "dataset", "images", "split",
           "seed", "repeat", "mode", "srcc", "plcc", "plcc_logistic", "krcc", "srcc_within", "rmse",
           "n", "n_train", "n_part", "minutes", "memory_mb", "hardware", "version", "date"]
CLAIM_COLUMNS = ["claim", "paper", "text", "dataset", "measure", "primary", "margin", "effect",
                 "low", "high", "p", "p_equivalent", "splits", "repeats", "n", "s_split", "s_seed",
                 "overlap", "verdict", "splits_needed", "remark"]
_WHOLE = ["images", "seed", "repeat", "n", "n_train", "n_part"]
_DECIMAL = ["srcc", "plcc", "plcc_logistic", "krcc", "srcc_within", "rmse", "minutes", "memory_mb"]
_RANK = {"full": 0, "quick": 1, "smoke": 2}  # the leaderboard shows the most thorough mode


def default_path() -> Path:
    """`figures/ledger.csv` of the checkout around the current directory, else below it."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "figures").is_dir() and (folder / "iqa_core").is_dir():
            return folder / "figures" / "ledger.csv"
    return here / "figures" / "ledger.csv"


def _checked(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """The columns of a ledger in their order and types; anything else is one clear sentence."""
    missing = [column for column in COLUMNS if column not in frame]
    unknown = [str(column) for column in frame if column not in COLUMNS]
    if missing or unknown:
        raise ValueError(f"{where}: no ledger rows (missing columns: "
                         f"{', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'})"
                         ". Use evaluate.run's rows.")
    texts = [column for column in COLUMNS if column not in _WHOLE + _DECIMAL]
    frame = frame[COLUMNS].assign(**frame[texts].fillna("").astype(str))
    for column in _WHOLE + _DECIMAL:
        try:
            values = pd.to_numeric(frame[column].mask(frame[column] == "")).astype(float)
            whole = column in _WHOLE
            frame[column] = values.astype("int64") if whole else values.round(4)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where}: column {column} holds something that is no number "
                             f"({error}). Correct it, or restore the file from version "
                             "control.") from error
    return frame


def read(path: str | Path | None = None) -> pd.DataFrame:
    """The ledger as a table with the columns `COLUMNS`.

    Args:
        path: the CSV file; default `default_path()`.

    Returns:
        DataFrame, one row a `KEY`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another table, or a file that was cut short.
    """
    path = Path(path or default_path())
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no ledger yet. Run a notebook, which appends to it, or "
                                "give path=.")
    text = path.read_text("utf-8")
    rows = list(csv.reader(text.splitlines()))  # pandas would fill a torn row with NaN
    torn = [number for number, row in enumerate(rows, 1) if len(row) != len(rows[0])]
    if torn or not text.endswith("\n"):
        line = torn[0] if torn else len(rows)
        raise ValueError(f"{path}: line {line} is cut short or too long. Delete that line, or "
                         "restore the file from version control.")
    return _checked(pd.DataFrame(rows[1:], columns=rows[0]), str(path))


def describe(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `evaluate.run` with what they were measured with: machine, version and date.

    `memory_mb` is the peak of this process so far (of the GPU, if it has used one).
    """
    return rows.assign(memory_mb=machine.peak_memory_mb(), hardware=machine.hardware(),
                       version=machine.version(), date=date.today().isoformat())


def append(rows: pd.DataFrame, path: str | Path | None = None) -> Path:
    """Add rows to the ledger. Rows of the same key (`KEY`) replace the older ones; the rest stays.

    Args:
        rows: as `evaluate.run` returns them, or with the columns that `describe` adds.
        path: the CSV file; default `default_path()`. It is made if there is none.

    Returns:
        The path that was written.

    Raises:
        ValueError: missing or unknown columns, or a file at `path` that is no ledger. It is left as
            it was.

    >>> import tempfile
    >>> row = dict.fromkeys(COLUMNS, "") | dict.fromkeys(_WHOLE, 0) | {"method": "PSNR"}
    >>> path = append(pd.DataFrame([row | {"srcc": 0.5}]), tempfile.mkdtemp() + "/ledger.csv")
    >>> path = append(pd.DataFrame([row | {"srcc": 0.6}, row | {"seed": 1, "srcc": 0.7}]), path)
    >>> read(path)[["method", "seed", "srcc"]].values.tolist()
    [['PSNR', 0, 0.6], ['PSNR', 1, 0.7]]
    """
    if "hardware" not in rows:
        rows = describe(rows)
    return merge(Path(path or default_path()), _checked(rows, "append"), KEY, read)


def merge(path: Path, rows: pd.DataFrame, key: list[str],
          reader: Callable[[Path], pd.DataFrame] = pd.read_csv) -> Path:
    """Put rows into a CSV file, in the order of their keys; one that is there already is replaced.

    The file is written whole or not at all, and writers take turns.

    Args:
        path: made, if there is none.
        rows, key: a table, and the columns that tell its rows apart.
        reader: reads what is there; it may refuse.

    Returns:
        path.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "own.csv"
    >>> row = pd.DataFrame({"seed": [1], "value": [0.5]})
    >>> path = merge(path, row, ["seed"])
    >>> pd.read_csv(merge(path, row.assign(value=0.7), ["seed"])).values.tolist()
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
    """One line a method: medians over its splits, from its most thorough mode (full, quick, smoke).

    Results are those of the last epoch, of trainings on the same set with all scores of the
    training part; what else was tried stays in the ledger. Of several sizes of a set that with the
    most seeds counts, then the largest; of several settings of equal name (`hash`) the latest.

    Args:
        path: the CSV file; default `default_path()`.

    Returns:
        DataFrame sorted by dataset, then by median SRCC, best first. "SRCC" is text: the median
        and, with several seeds, the quartiles. "SRCC within" (contents) is there if any row has it.
        HIGHER = BETTER in SRCC, PLCC, PLCC logistic and KRCC.

    Raises:
        FileNotFoundError, ValueError: as `read`.
    """
    rows = read(path)
    own = (rows["trained_on"] == "") | (rows["trained_on"] == rows["dataset"])
    all_labels = rows["n_train"] == rows["n_part"]
    rows = rows[own & all_labels & (rows["epoch"] == "last")]
    same = ["dataset", "split", "method", "variant", "task"]
    rank = rows["mode"].map(_RANK).fillna(len(_RANK))
    rows = rows[rank == _best_in_group(rows, same, rank, "min")]
    seeds = rows.groupby([*same, "mode", "hash", "images"])["seed"].transform("nunique")
    rows = rows[seeds == _best_in_group(rows, same, seeds, "max")]
    rows = rows[rows["images"] == _best_in_group(rows, same, rows["images"], "max")]
    latest = rows.groupby([*same, "hash"])["date"].transform("max")  # splits may be of several days
    rows = rows[latest == _best_in_group(rows, same, latest, "max")]
    table = summary(rows)
    columns = {column: table[column] for column in [*same, "mode"]}
    columns["SRCC"] = [_median_and_quartiles(row) for row in table.itertuples()]
    if table["srcc_within"].notna().any():
        columns["SRCC within"] = table["srcc_within"]
    columns |= {"PLCC": table["plcc"], "PLCC logistic": table["plcc_logistic"],
                "KRCC": table["krcc"], "seeds": table["seeds"], "n": table["n"].astype(int)}
    return pd.DataFrame(columns).round(3)


def _best_in_group(rows: pd.DataFrame, same: list[str], values: pd.Series, best: str) -> pd.Series:
    """For each row the "min" or "max" of the values among the rows that are alike in `same`."""
    return values.groupby([rows[column] for column in same]).transform(best)


def _median_and_quartiles(row) -> str:
    if row.seeds == 1:
        return f"{row.srcc:.3f}"
    return f"{row.srcc:.3f} [{row.srcc_25:.3f}, {row.srcc_75:.3f}]"


# ---- claims ------------------------------------------------------------------------------------


def read_claims(path: str | Path) -> pd.DataFrame:
    """The rows of a file of claims, with the columns `CLAIM_COLUMNS`."""
    numbers = ["n", "splits_needed"]  # empty where there is none
    return pd.read_csv(path, keep_default_na=False, na_values=dict.fromkeys(numbers, [""]))


def claims(path: str | Path | None = None) -> pd.DataFrame:
    """All claims as a table for readers: paper, claim, data, measure, effect, verdict.

    The effect stands with its 95 % interval. A claim that is not decided says how many repetitions
    (splits, contents or trainings, whatever was repeated) it would take.

    Raises:
        FileNotFoundError: no claim has been tested yet.
    """
    rows = read_claims(path or default_path().with_name("claims.csv"))
    effect = [f"{row.effect:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" for row in rows.itertuples()]
    return pd.DataFrame({"paper": rows["paper"], "claim": rows["text"], "kind": rows["primary"],
                         "on": rows["dataset"], "measure": rows["measure"], "effect": effect,
                         "verdict": [_in_words(row) for row in rows.itertuples()]})


def _in_words(row) -> str:
    """The verdict, and for a claim that is not decided what it would take."""
    if row.verdict != "not decided":
        return row.verdict
    if row.splits_needed == float("inf"):
        return "not decided; more repetitions on these images would not decide it"
    return f"not decided; about {row.splits_needed:.0f} repetitions would decide it"
