"""How measured numbers are reported: claims into claims.csv, tables into Markdown files."""

from pathlib import Path

import numpy as np
import pandas as pd

from figures import ledger
from iqa_core import verdicts
from iqa_core.files import atomic

# The one claim by which a paper is judged here, and the set on which: (claim, dataset). It is
# tested at 5 %; the other claims of the paper are corrected together.
PRIMARY = {
    "Re-IQA": ("re-iqa a content", "biq2021"),
    "YOTO": ("yoto a", "tid2013-kodak"),
    "QFM-IQM": ("qfm-iqm c 100%", "biq2021"),
    "DRI-IQA": ("dri-iqa all", "tid2013-kodak"),
}


def claim(name: str, paper: str, text: str, dataset: str, measure: str, effect: pd.Series,
          remark: str = "", path: str | Path | None = None) -> str:
    """Write down how a claim of a paper did here, in `claims.csv` beside the ledger.

    The verdict is one of four, see `verdicts.verdict`. Claims of one paper that are not its primary
    one (`PRIMARY`) are corrected together, so a new claim can change the verdicts of its
    neighbours. A line of the same name and dataset is replaced.

    Args:
        name: short and unique, such as "re-iqa a".
        paper, text: who claims what.
        dataset, measure: on what it was tested, and how.
        effect: of `comparisons.compare` or `comparisons.of_differences`; positive = as claimed.
        remark: why the test is weaker or other than the paper's.
        path: the CSV file; default `claims.csv` beside `ledger.default_path()`.

    Returns:
        The verdict.

    >>> import tempfile
    >>> from iqa_core.comparisons import of_differences
    >>> path = tempfile.mkdtemp() + "/claims.csv"
    >>> effect = of_differences([0.02, 0.03, 0.02, 0.04])
    >>> claim("x a", "X", "A helps", "kodak", "SRCC, with - without", effect, path=path)
    'holds'
    """
    path = Path(path or ledger.default_path().with_name("claims.csv"))
    row = {"claim": name, "paper": paper, "text": text, "dataset": dataset, "measure": measure,
           "primary": "primary" if PRIMARY.get(paper) == (name, dataset) else "secondary",
           "margin": effect["margin"], "effect": round(effect["difference"], 4),
           "low": round(effect["low"], 4), "high": round(effect["high"], 4),
           "p": float(f"{effect['p']:.4g}"), "p_equivalent": float(f"{effect['p_equivalent']:.4g}"),
           "splits": int(effect["pairs"]), "repeats": int(effect["repeats"]), "n": effect["n"],
           "s_split": float(f"{effect['s_split']:.4g}"), "s_seed": float(f"{effect['s_seed']:.4g}"),
           "overlap": round(effect["overlap"], 4), "verdict": "", "splits_needed": np.nan,
           "remark": remark}
    rows = pd.DataFrame([row], columns=ledger.CLAIM_COLUMNS)
    ledger.merge(path, rows, ["claim", "dataset"], ledger.read_claims)
    judged = judge(ledger.read_claims(path))
    ledger.merge(path, judged, ["claim", "dataset"])
    mine = (judged["claim"] == name) & (judged["dataset"] == dataset)
    return judged.loc[mine, "verdict"].item()


def judge(claims: pd.DataFrame) -> pd.DataFrame:
    """The verdicts of a table of claims, from their intervals and p-values.

    Both kinds of p-value, of a difference and of equivalence, of a paper's secondary claims are
    corrected by Holm's procedure. `splits_needed` of a claim that is not decided counts the splits
    that would decide it at 0.05 / m, if it is one of m secondary claims.
    """
    claims = claims.rename(columns={"effect": "difference"})
    corrected = claims.astype({"p": float, "p_equivalent": float})
    together = pd.Series(1, claims.index)  # number of claims that are corrected together
    for _, rows in claims[claims["primary"] == "secondary"].groupby("paper"):
        together[rows.index] = len(rows)
        for column in ("p", "p_equivalent"):
            corrected.loc[rows.index, column] = verdicts.holm(rows[column])
    claims["verdict"] = [verdicts.verdict(row) for _, row in corrected.iterrows()]
    claims["splits_needed"] = np.nan
    for index, row in claims[claims["verdict"] == "not decided"].iterrows():
        claims.loc[index, "splits_needed"] = verdicts.splits_needed(
            row["difference"], row["s_split"], row["s_seed"], row["repeats"], row["overlap"], 1,
            row["margin"], level=0.05 / together[index])
    return claims.rename(columns={"difference": "effect"})


def markdown(frame: pd.DataFrame) -> str:
    """A table in GitHub's Markdown; numbers get 3 decimals and stand on the right.

    >>> print(markdown(pd.DataFrame({"method": ["PSNR", "a|b"], "SRCC": [0.61234, float("nan")]})))
    | method | SRCC |
    | --- | ---: |
    | PSNR | 0.612 |
    | a\\|b |  |
    """
    rules = ["---:" if pd.api.types.is_numeric_dtype(dtype) else "---" for dtype in frame.dtypes]
    lines = [[_cell(name) for name in frame.columns], rules]
    for row in frame.itertuples(index=False):
        lines.append([_cell(value) for value in row])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value) -> str:
    if pd.isna(value):
        return ""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def stamp(readme: str | Path, name: str, table: pd.DataFrame) -> None:
    """Render a table into a README, between `<!-- name:start -->` and `<!-- name:end -->`.

    Args:
        readme: the Markdown file, rewritten whole or not at all.
        name: of the two marks, such as "ledger".
        table: what to render, such as `leaderboard()`.

    Raises:
        ValueError: the two marks do not stand there once each, in this order.
    """
    readme = Path(readme)
    first = f"<!-- {name}:start -->"
    last = f"<!-- {name}:end -->"
    text = readme.read_text("utf-8")
    if text.count(first) != 1 or text.count(last) != 1 or text.find(last) < text.find(first):
        raise ValueError(f"{readme}: {first} and {last} must stand there once each, in this order. "
                         "Add them where the table belongs.")
    before = text[:text.find(first)]
    after = text[text.find(last):]
    with atomic(readme) as temporary:
        temporary.write_text(f"{before}{first}\n{markdown(table)}\n{after}", "utf-8")
