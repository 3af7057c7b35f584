"""The lists, limits and texts of the repository agree with one another."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_environment_and_pyproject_agree():
    text = (ROOT / "environment.yml").read_text("utf-8")
    entries = yaml.safe_load(text)["dependencies"]
    pip = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]
    assert sorted(pip) == sorted([*wanted, "-e ."])
    assert f"python{PROJECT['requires-python']}" in entries
    for package in wanted:
        assert re.search(rf"^ *- {re.escape(package)} +# \w+", text, re.M), f"{package} has no reason beside it"


def test_nothing_is_pinned():
    assert not [entry for entry in PROJECT["dependencies"] if "==" in entry or "<" in entry]


def test_the_package_stays_small():
    sizes = {path.name: len(path.read_text("utf-8").splitlines()) for path in (ROOT / "iqa_core").glob("*.py")}
    assert max(sizes.values()) <= 420, sizes
    assert sum(sizes.values()) <= 3500, sizes


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


def test_no_test_without_an_assertion():
    for path in (ROOT / "tests").glob("test_*.py"):
        text = path.read_text("utf-8")
        for match in re.finditer(r"^def (test_\w+)\(.*?(?=^\S|\Z)", text, re.S | re.M):
            assert re.search(r"\bassert\b|raises|warns", match.group(0)), f"{path.name}: {match.group(1)}"
            assert not re.search(r"^\s+\w[\w.()\[\]]* == .*$(?<!,)", match.group(0), re.M), f"{path.name}: bare comparison"
