"""What the scripts of this folder write: claims into claims.csv, tables into README files."""

from pathlib import Path

import pandas as pd

from iqa_core.files import atomic
from figures.ledger import CLAIM_COLUMNS, default_path, merge, read_claims


def claim(name: str, paper: str, text: str, dataset: str, measure: str, effect: pd.Series, remark: str = "",
          margin: float = 0.0, path: str | Path | None = None) -> str:
    """Write down how a claim of a paper did here, in `claims.csv` beside the ledger.

    The verdict follows from the 95 % interval of the effect: "holds" if it lies above -margin, "does not hold" if
    below, else "not decided". A line of the same name and dataset is replaced.

    Args:
        name: short and unique, such as "re-iqa a".
        paper, text: who claims what.
        dataset, measure: on what it was tested, and how.
        effect: `difference`, `low`, `high`, `pairs`, as `protocol.compare` returns them; positive = as claimed.
        remark: why the test is weaker or other than the paper's.
        margin: a claim of "at least as good" may lose so much.
        path: the CSV file; default `claims.csv` beside `default_path()`.

    Returns:
        The verdict.

    >>> import tempfile
    >>> effect = pd.Series({"difference": 0.02, "low": 0.01, "high": 0.03, "pairs": 10})
    >>> claim("x a", "X", "A helps", "kodak", "SRCC, with - without", effect, path=tempfile.mkdtemp() + "/claims.csv")
    'holds'
    """
    path = Path(path or default_path().with_name("claims.csv"))
    verdict = ("holds" if effect["low"] > -margin else "does not hold" if effect["high"] < -margin else "not decided")
    row = [name, paper, text, dataset, measure, *(round(float(effect[key]), 3) for key in ("difference", "low", "high")),
           int(effect["pairs"]), verdict, remark]
    merge(path, pd.DataFrame([row], columns=CLAIM_COLUMNS), ["claim", "dataset"], read_claims)
    return verdict


def markdown(frame: pd.DataFrame) -> str:
    """A table in GitHub's Markdown; numbers get 3 decimals and stand on the right.

    >>> print(markdown(pd.DataFrame({"method": ["PSNR", "a|b"], "SRCC": [0.61234, float("nan")]})))
    | method | SRCC |
    | --- | ---: |
    | PSNR | 0.612 |
    | a\\|b |  |
    """
    def cell(value) -> str:
        text = "" if pd.isna(value) else f"{value:.3f}" if isinstance(value, float) else str(value)
        return text.replace("|", "\\|").replace("\n", " ")

    right = [pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]
    lines = [[cell(c) for c in frame.columns], ["---:" if number else "---" for number in right]]
    lines += [[cell(value) for value in row] for row in frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def stamp(readme: str | Path, name: str, table: pd.DataFrame) -> None:
    """Render a table into a README, between `<!-- name:start -->` and `<!-- name:end -->`.

    Args:
        readme: the Markdown file, rewritten whole or not at all.
        name: of the two marks, such as "ledger".
        table: what to render, such as `leaderboard()`.

    Raises:
        ValueError: the two marks do not stand there once each, in this order.
    """
    readme, marks = Path(readme), (f"<!-- {name}:start -->", f"<!-- {name}:end -->")
    text = readme.read_text("utf-8")
    start, end = (text.find(mark) for mark in marks)
    if [text.count(mark) for mark in marks] != [1, 1] or end < start:
        raise ValueError(f"{readme}: {marks[0]} and {marks[1]} must stand there once each, in this order. "
                         "Add them where the table belongs.")
    with atomic(readme) as temporary:
        temporary.write_text(f"{text[:start]}{marks[0]}\n{markdown(table)}\n{text[end:]}", "utf-8")
