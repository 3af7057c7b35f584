"""What is printed: texts on one line, a console that shows them, and readers that stop reading."""

import os
import sys
from typing import TextIO
from unicodedata import category


def printable(text: str) -> str:
    """A text on one line: what cannot be shown, as odd bytes of a file name, becomes an escape.

    >>> printable("a\\nb")
    'a\\\\nb'
    """
    return "".join(
        repr(character)[1:-1] if category(character) in ("Cc", "Cs", "Zl", "Zp") else character
        for character in text
    )


def plain_console() -> None:
    """Printing never fails from now on: what a console cannot show becomes an escape."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def show(*lines: object, file: TextIO | None = None) -> bool:
    """Print lines at once; whoever has stopped reading (`| head -1`) is no reason to stop.

    Args:
        lines: printed one below the other.
        file: `sys.stderr`, or, by default, `sys.stdout`.

    Returns:
        False if the output is lost, because a disk is full, say; a warning on `sys.stderr` says so.
    """
    stream = file or sys.stdout
    try:
        print(*lines, sep="\n", file=stream, flush=True)
    except OSError as error:
        # what is left in the stream would raise again when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not isinstance(error, BrokenPipeError):
            if stream is sys.stdout:
                show(f"The output cannot be written ({error.strerror}).", file=sys.stderr)
            return False
    return True
