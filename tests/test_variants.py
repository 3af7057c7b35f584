"""Four variants of fifteen lines at most, as the guide shows them: each is run here on a small set."""

import ast
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from iqa_core import data
from iqa_core.yoto import SMOKE, YOTO

GUIDE = (Path(__file__).parent.parent / "notebooks" / "guide.md").read_text("utf-8")
SECTION = GUIDE.split("## Your own variant")[1].split("\n## ")[0]
BLOCKS = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
NAMES = ["attention", "loss", "encoder", "dataset"]


@pytest.fixture(scope="module")
def parts():
    """Parts of 40 images with references."""
    return data.splits(data.example(10, 4), 0)


def lines(code: str) -> list[str]:
    return [line for line in code.splitlines() if line.strip() and not line.startswith("#")]


def test_the_guide_shows_four_variants_of_fifteen_lines_at_most():
    assert len(BLOCKS) == len(NAMES)
    assert all(3 <= len(lines(block)) <= 15 for block in BLOCKS)
    assert all(ast.parse(block) for block in BLOCKS)


@pytest.mark.parametrize("name, block", [*zip(NAMES, BLOCKS)], ids=NAMES)
def test_a_variant_trains_as_it_stands_in_the_guide(name, block, parts, tmp_path, monkeypatch):
    """Only its config is made smaller, and the folder of its dataset is one that exists."""
    train, val, test = parts
    monkeypatch.chdir(train.root)
    small = dataclasses.replace(SMOKE, weights="random", width=8, epochs=1)
    space = {"train": train, "val": val, "QUICK": small,
             "table": train.table[["image", "raw_score"]].set_axis(["file", "mos"], axis=1)}
    block = block.replace("import QUICK, ", "import ")
    exec(compile(block, f"guide, {name}", "exec"), space)
    method = space["method"]
    scores = method.predict(test)
    assert scores.shape == (len(test),) and np.isfinite(scores).all()
    assert len(method.history) == 1 and np.isfinite(method.history["loss"]).all()
    variant = method.identity["variant"]
    assert {"attention": "attention=", "loss": "method=", "encoder": "encoder=", "dataset": ""}[name] in variant
    if name != "dataset":  # a variant never has the identity of the method that it varies
        assert method.identity["hash"] != YOTO(method.config).identity["hash"]
