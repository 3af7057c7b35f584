"""`python -m iqa_core score PATH... [--reference DIR] [--method NAME...] [--csv out.csv]`: scores for your pictures."""

import argparse
import sys

import torch

from iqa_core import score
from iqa_core.files import atomic


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 1 if a picture could not be scored, or 2 if none could."""
    parser = argparse.ArgumentParser(prog="python -m iqa_core", description=__doc__.split(": ")[1])
    command = parser.add_subparsers(required=True, metavar="score").add_parser(
        "score", help="score picture files", description="Higher is better. PSNR is in dB, all else is about 0 to 1.")
    add = command.add_argument
    add("paths", nargs="+", metavar="PATH", help="picture files, or folders with pictures in them and below")
    add("--reference", metavar="DIR", help="folder of the references, or one file for all")
    add("--method", nargs="+", default=["re-iqa"], metavar="NAME", help=f"{', '.join(score.METHODS)}, all (default: re-iqa)")
    add("--weights", metavar="FILE", help="what a method's save() wrote, for one method of your own")
    add("--longest", type=int, default=1024, metavar="N", help="trained methods see larger pictures shrunk to this (0: never)")
    add("--csv", metavar="FILE", help="write the table there as well")
    given = parser.parse_args(arguments)
    try:
        with torch.no_grad():
            table = score.score_paths(given.paths, given.reference, given.method, given.weights, given.longest)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if given.csv:
        with atomic(given.csv) as temporary:
            table.to_csv(temporary, index=False)
    failed = table["error"] != ""
    if not failed.all():
        print(table[~failed].drop(columns="error").sort_values(table.columns[1], ascending=False).round(3).to_string(index=False))
    print(*table["error"][failed], f"{(~failed).sum()} of {len(table)} pictures scored, best first; higher is better",
          sep="\n", file=sys.stderr)
    return 2 if failed.all() else int(failed.any())


if __name__ == "__main__":
    sys.exit(main())
