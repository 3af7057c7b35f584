"""The datasets that this kit knows: their cards (`registry.toml`), names, and which are here."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from functools import cache
from pathlib import Path

import pandas as pd

from iqa_core import tables
from iqa_core.data import Card, DatasetError
from iqa_core.files import data_root


@cache
def cards() -> dict[str, Card]:
    """All known datasets by name.

    >>> cards()["biq2021"].higher_better
    True
    """
    path = Path(__file__).with_name("registry.toml")
    entries = tomllib.loads(path.read_text("utf-8"))
    return {name: Card(name=name, **entry) for name, entry in entries.items()}


def overview() -> pd.DataFrame:
    """All cards as a table, a row a dataset: what a reader wants to know before choosing one.

    >>> overview().loc["kadid10k"].to_dict()["scores"]
    '1 to 5, higher is better'
    """
    rows = {}
    for card in cards().values():
        rows[card.name] = {
            "title": card.title,
            "needs": card.needs,
            "size": card.size,
            "images": card.images or "",
            "references": "yes" if card.reference else "",
            "scores": _scores(card),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")


def _scores(card: Card) -> str:
    """The range and the direction of the scores of a set, in words."""
    if card.low is None:
        return "yours" if card.needs == "your files" else "none"
    better = "higher" if card.higher_better else "LOWER"
    proxy = " (proxy)" if card.proxy else ""
    return f"{card.low:g} to {card.high:g}, {better} is better{proxy}"


def find_name(text: str) -> str:
    """The name in `cards()` of a dataset, however it is spelt: case, dashes, spaces and underscores
    do not matter.

    Raises:
        DatasetError: no such dataset. The nearest names are given.

    >>> find_name("KADID-10K"), find_name("LIVE challenge"), find_name("tid 2013")
    ('kadid10k', 'clive', 'tid2013')
    """
    if "/" in str(text) or os.sep in str(text):
        raise DatasetError(f"{text}: is no table and no name of a dataset. Give a table of your "
                           f"own ({', '.join(tables.SUFFIXES)}), or one of {', '.join(cards())}.")
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
    """Names of the sets that lie under `root` (default `$IQA_DATA`), in the order of the cards.

    >>> available("absent")
    []
    """
    root = Path(root or data_root())
    return [name for name, card in cards().items() if card.folder and (root / card.folder).is_dir()]
