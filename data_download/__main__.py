"""Datasets at the command line: what there is, getting one, examining one.

    python -m data_download list                   every dataset: is it here, what it needs, its size
    python -m data_download info kadid10k          its card: terms, citation, range and direction of its scores
    python -m data_download get kadid10k           download, verify, unpack, check; asks first (--yes does not)
    python -m data_download check kadid10k         a health report of what lies here
    python -m data_download check scores.csv --low 1 --high 5        the same for your own table
    python -m data_download make offline           make a set that needs no download
"""

from __future__ import annotations

import argparse
import sys

from data_download import health
from data_download.get import get
from iqa_core import data, files


def list_sets() -> None:
    """One line a dataset."""
    table = data.overview().drop(columns=["title", "references"])
    here = set(data.available())
    table.insert(0, "here", ["yes" if name in here else "" for name in table.index])
    print(table.to_string())


def info(name: str) -> None:
    """The card of a dataset, a field a line."""
    card = data.cards()[name]
    rows = data.overview().loc[name]
    print(f"{card.title}: {card.what}")
    fields = {"score": card.score, "scores": rows["scores"], "references": rows["references"] or "no",
              "pictures": card.pictures or "not stated", "split": card.split, "needs": card.needs, "size": card.size,
              "terms": card.licence, "cite": card.citation, "source": card.source, "by hand": card.by_hand,
              "no picture": f"its scores are here: data.load({name!r}, pictures=False)" if card.table else ""}
    for field, value in fields.items():
        if value:
            print(f"  {field:11}{value}")
    if card.folder:
        print(f"  {'folder':11}{files.data_root() / card.folder}")


def check(name: str, **scale) -> int:
    """Print the health report; 1 if there is a fault."""
    report = health.check(name, **scale)
    print(report)
    return int(bool(report.faults))


def main() -> int:
    parser = argparse.ArgumentParser("python -m data_download", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="all datasets, and which are here")
    commands.add_parser("info", help="the card of one dataset").add_argument("name", choices=data.cards())
    download = commands.add_parser("get", help="download, verify, unpack and check a dataset")
    download.add_argument("name", choices=[name for name, card in data.cards().items() if card.needs != "your files"])
    download.add_argument("--yes", action="store_true", help="do not ask")
    examine = commands.add_parser("check", help="a health report")
    examine.add_argument("name", help="a dataset, or your own table (a .csv file)")
    examine.add_argument("--low", type=float, help="lowest value of your scale")
    examine.add_argument("--high", type=float, help="highest value of your scale")
    examine.add_argument("--lower-better", action="store_true", help="a large number means bad (DMOS)")
    made = [name for name, card in data.cards().items() if card.made]
    commands.add_parser("make", help="make a set that needs no form and no password").add_argument("name", choices=made)
    arguments = parser.parse_args()
    try:
        if arguments.command == "list":
            list_sets()
        elif arguments.command == "info":
            info(arguments.name)
        elif arguments.command == "check":
            own = arguments.name.endswith(".csv")
            scale = dict(low=arguments.low, high=arguments.high, higher_better=not arguments.lower_better)
            return check(arguments.name, **(scale if own else {}))
        else:
            get(arguments.name, yes=arguments.command == "make" or arguments.yes)
            return check(arguments.name)
    except ValueError as error:  # DatasetError, ImageError: the sentence is enough, a traceback would hide it
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. What was downloaded so far is kept; the same command goes on from there.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
