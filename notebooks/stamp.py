"""Write the repository's address into every notebook's badge and set-up cell, and into README's badges.

The address stands once, in pyproject.toml. Run `python notebooks/stamp.py` after changing it there; with `--check`
nothing is written and the files that would change are named (a test does that).
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ADDRESS = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]
OWNER_AND_NAME = ADDRESS.removeprefix("https://github.com/")

SETUP = f'''# Set-up, the same in every notebook. Where the kit is missing (Colab), it is installed first.
try:
    import iqa_core
except ModuleNotFoundError:
    %pip install -q "seeing-quality @ git+{ADDRESS}"
import torch
from iqa_core import check, data, images, modes, plot

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
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    stale = []
    for path in [HERE.parent / "README.md", *sorted(HERE.glob("*.ipynb"))]:
        wanted = stamped(path)
        if wanted != path.read_text("utf-8"):
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(wanted, "utf-8")
    print(f"stale: {', '.join(stale)}" if stale else "all badges and set-up cells carry the present address")
    return bool(stale) and "--check" in sys.argv


if __name__ == "__main__":
    sys.exit(main())
