"""`python -m iqa_core score PATH...`: scores for your image files. `--help` shows examples."""

import argparse
import os
import re
import signal
import sys
import threading
import warnings
from pathlib import Path

from iqa_core import __version__
from iqa_core.console import plain_console, printable, show
from iqa_core.score_methods import DEFAULT, METHODS, method_name

USAGE = """python -m iqa_core score PATH... [--method NAME...] [--reference DIR]
                                [--longest N] [--weights FILE] [--csv FILE]"""
EXAMPLES = """examples:
  python -m iqa_core score photographs/
  python -m iqa_core score photographs/ --method all --csv out.csv
  python -m iqa_core score --method brisque frozen-ridge photographs/ holiday.jpg
  python -m iqa_core score coded/ --reference originals/ --method ms_ssim yoto
"""
ABOUT = """Scores image files. HIGHER is better.

PSNR is in dB, 100 for identical images; SSIM and MS-SSIM are at most 1. The trained methods
estimate the scores of their training set, in [0, 1], and may lie outside: nothing is clamped.
YOTO is at least 0; all others of them have no bounds.

The exit code is 0 if all methods scored all images, 1 if something is missing (a sentence says
what), 2 if nothing could be scored or the command is wrong, 130 if it was stopped.
"""


def _stop(*_) -> None:
    """What the system asks for with SIGTERM is what a user asks for with Ctrl-C."""
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m iqa_core",
        usage=USAGE,
        description=ABOUT,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"seeing-quality {__version__}")
    parser.add_argument("command", metavar="score", help="the only command")
    parser.add_argument(
        "paths", nargs="*", metavar="PATH",
        help="image files, or folders with images in them and below",
    )
    parser.add_argument(
        "--method", "--methods", nargs="+", action="extend", metavar="NAME",
        help=f"{', '.join(METHODS)}, all; in any case, one or several, also separated by commas "
             f"(default: {DEFAULT})",
    )
    parser.add_argument(
        "--reference", metavar="DIR",
        help="folder of the references, or one file for all; an image's name is that of its "
             "reference, or that and more, as in img_blur_3 for img",
    )
    parser.add_argument(
        "--longest", type=int, default=1024, metavar="N",
        help="trained methods see larger images shrunk to this many pixels (default: 1024; 0: "
             "never)",
    )
    parser.add_argument(
        "--weights", metavar="FILE", help="what a method's save() wrote, for one method of your own"
    )
    parser.add_argument("--csv", metavar="FILE", help="write the table there as well")
    return parser


def _methods_and_paths(values: list[str]) -> tuple[list[str], list[str]]:
    """Tell the names behind `--method` from the paths that may follow them.

    A name of two words may come without quotes, several names may be separated by commas.

    Args:
        values: what follows `--method`.

    Raises:
        ValueError: neither a method nor a path.
    """

    def name(text: str) -> str:
        if re.sub("[^a-z]", "", text.lower()) == "all":
            return "all"
        try:
            return method_name(text)
        except ValueError:
            return ""

    methods = []
    paths = []
    waiting = list(values)
    while waiting:
        two_words = name(" ".join(waiting[:2])) if len(waiting) > 1 else ""
        if two_words:
            methods.append(two_words)
            waiting = waiting[2:]
            continue
        value = waiting.pop(0)
        if name(value):
            methods.append(name(value))
        elif os.path.exists(os.path.expanduser(value)):
            paths.append(value)
        elif len(parts := re.findall(r"[^,\s]+", value)) > 1:
            waiting = parts + waiting
        elif os.sep in value or Path(value).suffix:
            paths.append(value)  # it looks like a path, and what is wrong with it is said later
        else:
            method_name(parts[0] if parts else value)  # raises: it says which methods there are
    return methods, paths


def _csv_problem(path: Path) -> str:
    """Why a table cannot be written there; "" if it can."""
    from iqa_core.images import readable_suffixes

    if path.name == "" or path.is_dir():
        return f"{path}: is a folder. Name a file in it, such as {path / 'scores.csv'}."
    if path.suffix.lower() in readable_suffixes():
        return f"{path}: is the name of an image. Name a file that ends with .csv."
    target = Path(os.path.realpath(path))  # a link stays a link
    existed = target.exists()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "ab"):
            pass
        if not existed:
            target.unlink()
    except OSError as error:
        return f"{path}: cannot be written ({error.strerror}). Name another file."
    return ""


def _write_csv(table, path: Path) -> str:
    """Write the table; what went wrong, or "" if it is there."""
    from iqa_core.files import atomic

    path = Path(os.path.realpath(path))
    options = {"index": False, "errors": "surrogateescape"}  # a file name keeps its odd bytes
    try:
        if path.exists() and not path.is_file():  # such as /dev/null: it must not be replaced
            table.to_csv(path, **options)
        else:
            with atomic(path) as temporary:
                table.to_csv(temporary, **options)
    except OSError as error:
        return f"{path}: could not be written ({error.strerror or error})."
    return ""


def _show_table(table) -> bool:
    """Print every row of which any method has a score, best first; False if that is impossible."""
    methods = [*table.columns[1:-1]]
    scored = table[table[methods].notna().any(axis=1)]
    if scored.empty:
        return True
    by = next(name for name in methods if scored[name].notna().any())
    rows = scored.drop(columns="error").sort_values(by, ascending=False, kind="stable").round(3)
    return show(rows.assign(image=rows["image"].map(printable)).to_string(index=False))


def _summary(table) -> str:
    """How many images have scores, and which methods lack some."""
    methods = [*table.columns[1:-1]]
    scored = table[methods].notna().any(axis=1)
    sentences = [f"{scored.sum()} of {len(table)} images scored, best first; higher is better."]
    for name in methods:
        lacking = (scored & table[name].isna()).sum()
        if lacking:
            sentences.append(f"{name} is missing for {lacking} of them.")
    return " ".join(sentences)


def _show_warning(message, *_) -> None:
    show(printable(str(message)), file=sys.stderr)


def _score(given: argparse.Namespace) -> int:
    """Score, print, write: the command itself."""
    from iqa_core import score  # torch takes seconds to import
    from iqa_core.files import expand
    from iqa_core.score_files import PassedOver, about_passed_over

    warnings.simplefilter("ignore", PassedOver)  # with the table all kinds are listed

    def complain(text: object) -> None:
        show(printable(str(text)), file=sys.stderr)

    try:
        methods, more_paths = _methods_and_paths(given.method or ["re-iqa"])
        paths = given.paths + more_paths
        if not paths:
            raise ValueError(f"Which images? Name files or folders. Usage:\n{USAGE}")
        problem = ""
        if given.csv is not None:
            csv = expand(given.csv)
            problem = _csv_problem(csv) if given.csv else "The name after --csv is empty."
            if problem:
                complain(f"{problem} The scores are printed, and not written.")
        stopped = None
        try:
            table = score.score_paths(paths, given.reference, methods, given.weights, given.longest)
        except score.Stopped as error:
            stopped = error
            table = error.table
    except ValueError as error:
        show(*map(printable, str(error).splitlines()), file=sys.stderr)
        return 2

    shown = _show_table(table)
    if table.attrs["passed_over"]:
        complain(about_passed_over(table.attrs["passed_over"]))
    errors = table["error"][table["error"] != ""]
    for error in errors:
        complain(error)
    if given.csv is not None and not problem:
        problem = _write_csv(table, csv)
        if problem:
            complain(problem)
    if stopped is not None:
        raise stopped  # it says how many images were scored
    complain(_summary(table) + (f" {given.csv or 'The table'} was not written." if problem else ""))
    if table[table.columns[1:-1]].isna().all(axis=None):
        return 2
    return int(len(errors) > 0 or problem != "" or not shown)


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0 all is scored, 1 some of it, 2 nothing or a wrong command, 130 stopped.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    old_handler = None
    if threading.current_thread() is threading.main_thread():
        old_handler = signal.signal(signal.SIGTERM, _stop)
    try:
        plain_console()
        parser = _parser()
        if not arguments:
            parser.print_help(sys.stderr)
            return 2
        given = parser.parse_intermixed_args(arguments)
        if given.command != "score":
            show(
                f"{printable(given.command)!r} is no command. Write: python -m iqa_core score "
                f"{printable(' '.join(arguments))}",
                file=sys.stderr,
            )
            return 2
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)  # shown, whatever the environment says
            warnings.showwarning = _show_warning
            return _score(given)
    except KeyboardInterrupt as stop:
        sentence = "Stopped before the first image; the same command starts again."
        print(str(stop) or sentence, file=sys.stderr)
        return 130
    finally:
        if old_handler is not None:
            signal.signal(signal.SIGTERM, old_handler)


if __name__ == "__main__":
    sys.exit(main())
