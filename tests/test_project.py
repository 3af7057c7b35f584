"""The lists and texts of the repository agree with one another."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import data_download
from data_download import layouts
from figures import report

ROOT = Path(__file__).parent.parent
ASSERTING = {"raises", "warns", "assert_close", "assert_allclose", "assert_frame_equal"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_environment_and_pyproject_agree():
    text = (ROOT / "environment.yml").read_text("utf-8")
    entries = yaml.safe_load(text)["dependencies"]
    pip = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    extras = PROJECT["optional-dependencies"]
    wanted = PROJECT["dependencies"] + extras["lab"] + extras["test"]
    assert sorted(pip) == sorted([*wanted, "-e ."])
    assert f"python{PROJECT['requires-python']}" in entries
    for package in wanted:
        assert re.search(rf"^ *- {re.escape(package)} +# \w+", text, re.M), f"{package} has no reason beside it"


def test_readme_fits_on_few_screens():
    text = (ROOT / "README.md").read_text("utf-8")
    words = re.findall(r"\w[^\s|]*", re.sub(r"\]\([^)]*\)", "]", text))
    assert len(words) <= 1000


def test_the_cards_are_shown_and_every_card_can_be_read_or_brought():
    table = report.markdown(data_download.overview().reset_index())
    assert table in (ROOT / "notebooks" / "course" / "datasets.md").read_text("utf-8")
    for name, card in data_download.cards().items():
        assert card.licence and card.citation and name in layouts.LAYOUTS or card.needs == "your files"
        assert card.made or card.by_hand and card.source
        assert bool(card.download) == (card.needs == "download") or name == "kodak"
        assert all(file["url"].startswith("http") for files in card.download for file in files)


def test_nothing_is_pinned():
    assert not [entry for entry in PROJECT["dependencies"] if "==" in entry or "<" in entry]


def test_the_site_has_every_notebook_and_every_page_of_the_course():
    notebooks = ROOT / "notebooks"
    toc = yaml.safe_load((notebooks / "_toc.yml").read_text("utf-8"))
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    named = [toc["root"], *(chapter["file"] for chapter in chapters)]
    inside = [section["glob"] for chapter in chapters for section in chapter.get("sections", [])]
    pages = [path.relative_to(notebooks).with_suffix("") for path in
             [*notebooks.glob("*.ipynb"), *notebooks.glob("*.md"), *notebooks.glob("course/*.md")]]
    missing = [page for page in pages
               if page.as_posix() not in named and not any(page.match(pattern) for pattern in inside)]
    assert not missing and len(named) == len(set(named))
    site = yaml.safe_load((notebooks / "_config.yml").read_text("utf-8"))
    assert site["repository"]["url"] == PROJECT["urls"]["Repository"]


def test_python_version_of_the_makefile_is_the_projects():
    assert "sys.version_info < (3, 11)" in (ROOT / "Makefile").read_text("utf-8")
    assert PROJECT["requires-python"] == ">=3.11"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout")
def test_top_level_and_tracked_files():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    top = {name.split("/")[0] for name in listed if name}
    assert top <= {"notebooks", "iqa_core", "data_download", "figures", "tests", "environment.yml", "README.md",
                   "pyproject.toml", "Makefile", "LICENSE", ".ci", ".gitignore", "conftest.py"}
    assert not [name for name in listed if name.endswith((".lock", ".pth", ".npz"))]


def test_no_test_without_an_assertion_and_no_comparison_that_nobody_reads():
    for path in (ROOT / "tests").glob("test_*.py"):
        for test in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
                where = f"{path.name}: {test.name}"
                nodes = list(ast.walk(test))
                calls = {getattr(node, "attr", "") for node in nodes}
                assert any(isinstance(node, ast.Assert) for node in nodes) or calls & ASSERTING, where
                assert not any(isinstance(node, ast.Expr) and isinstance(node.value, ast.Compare) for node in nodes), where
