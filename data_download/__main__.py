"""`python -m data_download list | info NAME | make NAME`: what datasets there are, and making two of them."""

from __future__ import annotations

import argparse
import sys

from iqa_core import data


def list_sets() -> None:
    """One line a dataset: is it here, how many pictures, what it is."""
    here = data.available()
    for name, card in data.cards().items():
        state = "made here" if card.made else "present" if name in here else "absent"
        print(f"{name:15} {state:10} {card.what}")


def info(name: str) -> None:
    """The card of a dataset, a field a line."""
    card = data.cards()[name]
    scale = f"{card.low:g} to {card.high:g}, {'higher' if card.higher_better else 'lower'} is better" if card.low is not None else "none"
    fields = {"score": card.score, "range": scale, "references": "yes" if card.reference else "no", "split": card.split,
              "licence": card.licence, "cite": card.citation, "source": card.source}
    print(f"{card.title}: {card.what}")
    for field, value in fields.items():
        print(f"  {field:10} {value}")


def make(name: str) -> None:
    """Make one of the two sets that this kit makes, downloading Kodak (15 MB) first where it is needed."""
    if name == "tid2013-kodak":
        from data_download import kodak
        kodak.fetch_kodak()
    dataset = data.load(name)
    print(f"{dataset} in {dataset.root}")


def main() -> int:
    parser = argparse.ArgumentParser("python -m data_download", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="all datasets, and which are here")
    commands.add_parser("info", help="the card of one dataset").add_argument("name", choices=data.cards())
    made = [name for name, card in data.cards().items() if card.made]
    commands.add_parser("make", help="make a set that needs no form and no password").add_argument("name", choices=made)
    arguments = parser.parse_args()
    try:
        if arguments.command == "list":
            list_sets()
        else:
            (info if arguments.command == "info" else make)(arguments.name)
    except ValueError as error:  # DatasetError, ImageError: the sentence is enough, a traceback would hide it
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
