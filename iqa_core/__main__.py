"""`python -m iqa_core score PATH... [--reference DIR] [--method NAME...] [--csv out.csv]`: scores for your pictures."""

import argparse
import sys
from pathlib import Path

import torch

from iqa_core import score
from iqa_core.files import atomic


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 1 if a picture could not be scored, or 2 if none could."""
    parser = argparse.ArgumentParser(prog="python -m iqa_core", description=__doc__.split(": ")[1])
    command = parser.add_subparsers(required=True, metavar="score").add_parser(
        "score", help="score picture files", description="Higher is better. PSNR is in dB, all else is about 0 to 1.")
    command.add_argument("paths", nargs="+", metavar="PATH", help="picture files, or folders with pictures in them and below")
    command.add_argument("--reference", metavar="DIR", help="folder of the references, or one file for all")
    command.add_argument("--method", nargs="+", default=["re-iqa"], metavar="NAME",
                         help=f"{', '.join(score.METHODS)}, or all (default: re-iqa)")
    command.add_argument("--weights", metavar="FILE", help="what a method's save() wrote, for one method of your own")
    command.add_argument("--longest", type=int, default=1024, metavar="N",
                         help="shrink pictures with a longer side before trained methods look (default: 1024; 0 = never)")
    command.add_argument("--csv", metavar="FILE", help="write the table there as well")
    given = parser.parse_args(arguments)
    methods = given.method
    if methods == ["all"]:
        methods = [name for name in score.METHODS if given.reference or name not in score.FULL_REFERENCE]
    try:
        if given.weights and len(methods) > 1:
            raise ValueError("--weights is for one method: name it with --method.")
        with torch.no_grad():
            table = score.score_paths(given.paths, given.reference, methods, given.weights, given.longest)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    scored = table[table["error"] == ""]
    print(scored.drop(columns="error").sort_values(methods[0], ascending=False).round(3).to_string(index=False) if len(scored) else "")
    if given.csv:
        with atomic(Path(given.csv)) as temporary:
            table.to_csv(temporary, index=False)
    for sentence in table["error"][table["error"] != ""]:
        print(sentence, file=sys.stderr)
    print(f"{len(scored)} of {len(table)} pictures scored, best first; higher is better", file=sys.stderr)
    return 0 if len(scored) == len(table) else 1 if len(scored) else 2


if __name__ == "__main__":
    sys.exit(main())
