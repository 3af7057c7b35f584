"""Write what the notebooks share into them: the address, the set-up cell, the stubs of exercises.

The repository's address stands once, in pyproject.toml; an exercise stands once, in `iqa_exercises`.
Run `python notebooks/stamp.py` after changing either; with `--check` nothing is written and the files
that would change are named (a test does that). `python notebooks/stamp.py --solutions FOLDER` writes
the notebooks with solutions in place of stubs.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

import iqa_exercises as exercises

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))["project"]
ADDRESS = PROJECT["urls"]["Repository"]
OWNER_AND_NAME = ADDRESS.removeprefix("https://github.com/")

SETUP = f'''# Set-up, the same in every notebook. Where the kit is missing (Colab), it is installed first.
try:
    import iqa_core
except ModuleNotFoundError:
    %pip install -q "seeing-quality @ git+{ADDRESS}"
import torch
import data_download
import iqa_exercises as exercises
from iqa_core import data, images
from lesson import check, modes, plot

plot.style()
torch.manual_seed(0)
torch.set_printoptions(precision=3, sci_mode=False)'''


def badge(notebook: str) -> str:
    """Markdown of the Colab badge of a notebook file."""
    colab = "https://colab.research.google.com"
    return (f"[![Open in Colab]({colab}/assets/colab-badge.svg)]"
            f"({colab}/github/{OWNER_AND_NAME}/blob/main/notebooks/{notebook})")


BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\([^)]*?/([^/)]*\.ipynb)\)")


def stamp_badges(text: str) -> str:
    """Give every badge in a text the present address; each keeps the notebook that it names."""
    return BADGE.sub(lambda match: badge(match.group(1)), text)


def stamped(path: Path) -> str:
    """The file's text as it should be."""
    text = path.read_text("utf-8")
    if path.suffix != ".ipynb":
        return stamp_badges(text)
    notebook = json.loads(text)
    code_cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell in code_cells:
        cell["source"] = in_lines(exercised("".join(cell["source"])))
    for cell in notebook["cells"]:
        number = re.match(r"<details><summary>Solution of ([\d.]+)<", "".join(cell["source"]))
        if number:
            cell["source"] = in_lines(exercises.folded(number[1]))
    code_cells[0]["source"] = in_lines(SETUP)
    title = notebook["cells"][0]
    heading = "".join(title["source"])
    if BADGE.search(heading):
        heading = BADGE.sub(badge(path.name), heading)
    else:  # below the first line
        heading = heading.replace("\n", f"\n\n{badge(path.name)}\n", 1)
    title["source"] = in_lines(heading)
    return as_file(notebook)


def in_lines(source: str) -> list[str]:
    """A cell's source as notebook files hold it: a list of lines."""
    return source.splitlines(keepends=True)


def as_file(notebook: dict) -> str:
    """The text of a notebook file."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def exercised(source: str, body: str = "stub") -> str:
    """A cell's source with its exercise as "stub" or "solution"; other cells stay as they are."""
    written = re.match(r"# Exercise ([\d.]+)\n", source)
    if written:
        return exercises.cell(written[1], body)
    choice = r'^exercises\.check\("([\d.]+)", (None|"\w"|[\d.-]+)\).*$'
    return re.sub(choice, lambda match: exercises.cell(match[1], body), source, flags=re.M)


def solutions(folder: Path) -> None:
    """Write every notebook that has exercises with solutions, without the outputs of these cells."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(HERE.glob("*.ipynb")):
        notebook = json.loads(path.read_text("utf-8"))
        has_exercises = False
        for cell in notebook["cells"]:
            if cell["cell_type"] != "code":
                continue
            text = "".join(cell["source"])
            solved = exercised(text, "solution")
            if solved != text:
                cell["source"] = in_lines(solved)
                cell["outputs"] = []
                cell["execution_count"] = None
                has_exercises = True
        if has_exercises:
            (folder / path.name).write_text(as_file(notebook), "utf-8")


def main() -> int:
    if "--solutions" in sys.argv:
        solutions(Path(sys.argv[-1]))
        print(f"{sys.argv[-1]}: the notebooks with their solutions")
        return 0
    stale = []
    for path in [HERE.parent / "README.md", *sorted(HERE.glob("*.ipynb"))]:
        wanted = stamped(path)
        if wanted != path.read_text("utf-8"):
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(wanted, "utf-8")
    print(f"stale: {', '.join(stale)}" if stale else "badges, set-up cells and exercises are up to date")
    return bool(stale) and "--check" in sys.argv


if __name__ == "__main__":
    sys.exit(main())
