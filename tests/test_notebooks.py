"""Notebook hygiene: order, outputs, addresses. What the cells compute is nbval's business."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
spec = importlib.util.spec_from_file_location("stamp", FOLDER / "stamp.py")
stamp = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stamp)

TAGS = {"nbval-ignore-output", "nbval-skip"}
HEADINGS = ["Exercises", "Recap", "Further reading"]  # in this order, at the end of each notebook but the first


def cells(path, kind=None):
    found = json.loads(path.read_text("utf-8"))["cells"]
    return [cell for cell in found if kind in (None, cell["cell_type"])]


def source(cell):
    return "".join(cell["source"])


def lines(cell):
    return [line for line in source(cell).splitlines() if line.strip()]


def tags(cell):
    return set(cell["metadata"].get("tags", []))


def test_there_are_notebooks():
    assert [path.name[:2] for path in NOTEBOOKS][:4] == ["00", "01", "02", "03"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_every_cell_was_run_in_order_and_none_failed(path):
    code = cells(path, "code")
    assert all(lines(cell) for cell in code), "an empty code cell"
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = [output["output_type"] for cell in code for output in cell["outputs"]]
    assert "error" not in kinds
    streams = [output for cell in code for output in cell["outputs"] if output.get("name") == "stderr"]
    assert not streams, "a stored warning or progress bar"


def test_most_outputs_are_compared(path):
    code = cells(path, "code")
    assert all(tags(cell) <= TAGS for cell in code)
    compared = [cell for cell in code if not tags(cell)]
    assert len(compared) >= 0.6 * len(code)
    for cell, following in zip(code, code[1:] + [None]):
        if tags(cell):  # what depends on the mode is followed by something that does not
            assert following is not None and not tags(following), source(cell)[:80]


def test_no_stored_path_of_a_machine(path):
    text = path.read_text("utf-8")
    assert not re.search(r"(?<![\w.])/(home|root|Users|tmp|work|private|mnt|content)/|[A-Z]:\\\\", text)


def test_anatomy(path):
    first = source(cells(path)[0])
    assert first.startswith("# ") and "You will build" in first and re.search(r"\d+ min", first)
    found = [match for cell in cells(path, "markdown") for match in re.findall(r"^## (.+)$", source(cell), re.M)]
    if not path.name.startswith("00"):
        ending = [heading for heading in found if heading in HEADINGS]
        assert ending == HEADINGS, found
    assert source(cells(path, "code")[0]) == stamp.SETUP
    for cell in cells(path, "code")[1:]:
        assert not re.search(r"^\s*(%|!)", source(cell), re.M), "a shell or magic line outside the set-up cell"
    assert "as we can see" not in path.read_text("utf-8").lower()


def test_badges_carry_the_address():
    for file in [FOLDER.parent / "README.md", *NOTEBOOKS]:
        assert stamp.stamped(file) == file.read_text("utf-8"), f"run: python notebooks/stamp.py ({file.name})"
    for file in NOTEBOOKS:
        assert stamp.badge(file.name) in source(cells(file)[0])
        assert file.name in (FOLDER.parent / "README.md").read_text("utf-8")
