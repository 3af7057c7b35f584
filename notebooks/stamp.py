"""Write what the notebooks share into them: the repository's address, the set-up cell, the stubs of the exercises.

The address stands once, in pyproject.toml; an exercise stands once, in `iqa_exercises`. Run `python
notebooks/stamp.py` after changing either; with `--check` nothing is written and the files that would change are named
(a test does that). `python notebooks/stamp.py --solutions FOLDER` writes the notebooks with solutions in place of stubs.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

import iqa_exercises as exercises

HERE = Path(__file__).parent
ADDRESS = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]
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
    return ("[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
            f"(https://colab.research.google.com/github/{OWNER_AND_NAME}/blob/main/notebooks/{notebook})")


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
    title, setup = notebook["cells"][0], next(c for c in notebook["cells"] if c["cell_type"] == "code")
    heading = "".join(title["source"])
    heading = BADGE.sub(badge(path.name), heading) if BADGE.search(heading) else heading.replace("\n", f"\n\n{badge(path.name)}\n", 1)
    title["source"], setup["source"] = heading.splitlines(keepends=True), SETUP.splitlines(keepends=True)
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code" and exercised(text) != text:
            cell["source"] = exercised(text).splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def exercised(source: str, body: str = "stub") -> str:
    """A cell's source with its exercises as "stub" or "solution"; other cells stay as they are."""
    if number := re.match(r"# Exercise ([\d.]+)\n", source):
        return exercises.cell(number[1], body)
    return re.sub(r'^exercises\.check\("([\d.]+)", (None|"\w")\).*$', lambda m: exercises.cell(m[1], body), source, flags=re.M)


def solutions(folder: Path) -> None:
    """Every notebook that has exercises, with the solutions in it and without the outputs of these cells."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(HERE.glob("*.ipynb")):
        notebook, found = json.loads(path.read_text("utf-8")), False
        for cell in notebook["cells"]:
            text = "".join(cell["source"])
            solved = exercised(text, "solution") if cell["cell_type"] == "code" else text
            if solved != text:
                cell |= {"source": solved.splitlines(keepends=True), "outputs": [], "execution_count": None}
                found = True
        if found:
            (folder / path.name).write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")


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
