"""Imports run one way, and the light modules of the package stay light."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK_PACKAGES = {"lesson", "iqa_exercises", "course"}
OURS = {"iqa_core", "data_download", "figures", "tests"} | NOTEBOOK_PACKAGES

# What the modules of a folder may import of this repository, besides their own folder.
MAY_IMPORT = {
    "iqa_core": set(),
    "data_download": {"iqa_core"},
    "notebooks/lesson": {"iqa_core", "data_download"},
    "notebooks/iqa_exercises": {"iqa_core", "data_download", "lesson"},
    "notebooks/course": {"iqa_core", "data_download"},
    "figures": {"iqa_core", "data_download"},
}
# Figures are drawn in the style of the lessons, and compute as much as they do.
MAY_IMPORT_LESSON_PLOT = ("figures/",)


def imported(path: Path) -> set[str]:
    """The full names of all modules that a file imports, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_the_reader_of_imports_sees_each_kind(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("import a.b, c\nfrom d import e as f\ndef g():\n    from h.i import j\n")
    assert imported(path) == {"a.b", "c", "d.e", "h.i.j"}


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_run_one_way(folder):
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths, f"{folder} has no modules"
    allowed = MAY_IMPORT[folder] | {Path(folder).name}
    wrong = []
    for path in paths:
        place = path.relative_to(ROOT).as_posix()
        for name in sorted(imported(path)):
            if place.startswith(MAY_IMPORT_LESSON_PLOT) and name.startswith(("lesson.plot", "lesson.modes")):
                continue
            top = name.split(".")[0]
            if top in OURS and top not in allowed:
                wrong.append(f"{place} imports {name}")
    assert wrong == []


def test_the_names_of_datasets_load_no_heavy_package():
    heavy = "{'timm', 'torchvision', 'accelerate', 'sklearn', 'skimage', 'matplotlib', 'requests'}"
    script = f"import sys, data_download; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.strip() == "[]", run.stderr


def test_the_newcomers_page_names_every_file_of_the_package():
    package = ROOT / "iqa_core"
    page = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8")))
    files = {path.stem for path in package.glob("*.py")} - {"__init__"}
    assert [name for name in sorted(files) if not re.search(rf"\b{name}\b", page)] == []
