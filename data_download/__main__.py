"""Datasets at the command line: what there is, getting one, examining one."""

from __future__ import annotations

import argparse
import sys
import warnings

import data_download
from data_download import health
from data_download.get import get
from iqa_core import console, files
from iqa_core.data import DatasetError

EXAMPLES = """examples:
  python -m data_download list                every dataset: is it here, what it needs, its size
  python -m data_download info kadid10k       its card: terms, citation, range of its scores
  python -m data_download get kadid10k        download, verify, unpack, check; asks first
  python -m data_download check kadid10k      a health report of what lies here
  python -m data_download check scores.csv --low 1 --high 5      the same for your own table
  python -m data_download make offline        make a set that needs no download

Names may be written in any way: kadid10k, KADID-10k and "kadid 10k" are one set. The exit code is
0 if all is well, 1 if `check` found a fault, 2 if nothing could be done (a sentence says why),
130 if it was stopped.
"""


def list_sets() -> None:
    """One line a dataset."""
    table = data_download.overview().drop(columns=["title", "references"])
    here = set(data_download.available())
    table.insert(0, "here", ["yes" if name in here else "" for name in table.index])
    console.show(table.to_string())


def info(name: str) -> None:
    """The card of a dataset, a field a line."""
    card = data_download.cards()[name]
    rows = data_download.overview().loc[name]
    fields = {
        "score": card.score,
        "scores": rows["scores"],
        "references": rows["references"] or "no",
        "images": card.images or "not stated",
        "split": card.split,
        "needs": card.needs,
        "size": card.size,
        "terms": card.licence,
        "cite": card.citation,
        "source": card.source,
        "by hand": card.by_hand,
    }
    if card.table:
        fields["no image"] = f"its scores are here: data_download.load({name!r}, images=False)"
    if card.folder:
        fields["folder"] = str(files.data_root() / card.folder)
    lines = [f"{card.title}: {card.what}"]
    lines += [f"  {field:11}{value}" for field, value in fields.items() if value]
    console.show(*lines)


def check(name: str, **scale) -> int:
    """Print the health report; 1 if there is a fault."""
    report = health.check(name, **scale)
    console.show(*map(console.printable, str(report).splitlines()))
    return int(bool(report.faults))


def _check(given: argparse.Namespace) -> int:
    scale = {"low": given.low, "high": given.high}
    if given.lower_better:
        scale["higher_better"] = False
    scale = {option: value for option, value in scale.items() if value is not None}
    if not health.is_own_table(given.name):
        name = data_download.find_name(given.name)
        if scale:
            raise DatasetError(f"{name}: its card says the scale of its scores. --low, --high "
                                    "and --lower-better are for tables of your own.")
        return check(name)
    return check(given.name, **scale)


def _get(given: argparse.Namespace) -> int:
    name = data_download.find_name(given.name)
    card = data_download.cards()[name]
    if card.needs == "your files":
        raise DatasetError(f"{name}: this card describes tables of your own. {card.by_hand}")
    if given.command == "make" and not card.made:
        made = ", ".join(other.name for other in data_download.cards().values() if other.made)
        raise DatasetError(f"{card.title} is not made here; what is made: {made}. Get it "
                                f"with: python -m data_download get {name}")
    get(name, yes=given.command == "make" or given.yes)
    return check(name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m data_download", description=__doc__, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="all datasets, and which are here")
    card = commands.add_parser("info", help="the card of one dataset")
    card.add_argument("name", help="a dataset of `list`")
    download = commands.add_parser("get", help="download, verify, unpack and check a dataset")
    download.add_argument("name", help="a dataset of `list`")
    download.add_argument("--yes", action="store_true", help="do not ask")
    examine = commands.add_parser("check", help="a health report")
    examine.add_argument("name", help="a dataset, or your own table (.csv, .tsv, .txt)")
    examine.add_argument("--low", type=float, help="lowest value of your scale")
    examine.add_argument("--high", type=float, help="highest value of your scale")
    examine.add_argument("--lower-better", action="store_true",
                         help="a large number means bad (DMOS)")
    make = commands.add_parser("make", help="make a set that needs no form and no password")
    make.add_argument("name", help="offline or tid2013-kodak")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0 all is well, 1 `check` found a fault, 2 nothing could be done, 130 stopped.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    console.plain_console()
    parser = _parser()
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    given = parser.parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: console.show(str(message), file=sys.stderr)
            if given.command == "list":
                list_sets()
            elif given.command == "info":
                info(data_download.find_name(given.name))
            elif given.command == "check":
                return _check(given)
            else:
                return _get(given)
    except (ValueError, OSError) as error:  # the sentence is enough, a traceback would hide it
        console.show(console.printable(str(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        what = "The same command starts again."
        if given.command == "get":
            what = "What was downloaded so far is kept; the same command goes on from there."
        console.show(f"Stopped. {what}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
