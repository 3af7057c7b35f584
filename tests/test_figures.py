"""The committed figures are what their scripts draw today."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

FIGURES = Path(__file__).parent.parent / "figures"
BOUND = 1.0  # of 255 grey values, of the worst tile
SCRIPTS = ["architecture", "results", "claims", "distortion_gallery"]


def script(name):
    """A script of figures/ as a module; scripts import one another by name."""
    sys.path.insert(0, str(FIGURES))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FIGURES))


def difference(one, other):
    """Largest mean difference of grey values, 0 to 255, in any tile of 32 x 32 pixels; 255 if the sizes differ.

    Both are reduced to a quarter first, so that edges drawn a little otherwise count little. A mean over the whole
    picture would not see one dot that moved.
    """
    with Image.open(one) as a, Image.open(other) as b:
        if a.size != b.size:
            return 255.0
        a, b = (np.asarray(x.convert("L").reduce(4), dtype=float) for x in (a, b))
    tiles = np.pad(np.abs(a - b), [(0, -n % 8) for n in a.shape])
    return float(tiles.reshape(tiles.shape[0] // 8, 8, tiles.shape[1] // 8, 8).mean((1, 3)).max())


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_committed_picture_is_what_the_script_draws(name, tmp_path):
    module = script(name)
    module.draw(tmp_path)
    assert sorted(module.ALT) == sorted(path.stem for path in tmp_path.glob("*.png"))
    for stem, alt in module.ALT.items():
        assert (FIGURES / f"{stem}.png").is_file() and len(alt) >= 15, f"run: python figures/{name}.py"
        found = difference(tmp_path / f"{stem}.png", FIGURES / f"{stem}.png")
        assert found < BOUND, f"{stem}.png is not what its script draws ({found:.1f}). run: python figures/{name}.py"


def test_pictures_of_this_kit_stay_small():
    sizes = {path.name: path.stat().st_size for path in FIGURES.glob("*.png") if path.stem != "distortion_gallery"}
    assert len(sizes) >= 9 and max(sizes.values()) < 200_000, sizes


@pytest.mark.parametrize("change", ["a box", "an arrow", "a number", "a kind"])
def test_a_changed_diagram_is_noticed(change, tmp_path):
    diagram = script("diagram")

    def page(path, changed=""):
        sheet = diagram.Sheet(6.0, 3.0)
        sheet.title("A title")
        sheet.box("x", 1.0, 2.0, diagram.DATA, "picture x\n3 × 224 × 224")
        sheet.box("net", 3.0, 2.0, diagram.NEW, "network\n27.6 M" if changed == "a number" else "network\n27.5 M")
        if changed != "a box":
            sheet.box("loss", 5.0, 2.0, diagram.NEW if changed == "a kind" else diagram.TRAINING, "loss")
        sheet.arrows("x>net" if changed in ("a box", "an arrow") else "x>net~loss")
        sheet.save(path)

    page(tmp_path / "as_is.png")
    page(tmp_path / "again.png")
    page(tmp_path / "changed.png", change)
    assert (tmp_path / "as_is.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert difference(tmp_path / "as_is.png", tmp_path / "changed.png") > 1.5 * BOUND


@pytest.mark.parametrize("name, source, changes", [
    ("results", "ledger.csv", {"srcc": "0.55"}), ("claims", "claims.csv", {"high": "0.2", "verdict": "does not hold"})])
def test_one_changed_result_is_noticed(name, source, changes, tmp_path):
    module, changed = script(name), tmp_path / "changed.csv"
    module.draw(tmp_path)
    (tmp_path / f"{name}.png").rename(tmp_path / "as_is.png")
    for column, value in changes.items():
        rows = pd.read_csv(FIGURES / source, keep_default_na=False, dtype=str)
        rows.loc[module.compared().index[-1] if name == "results" else 20, column] = value
        rows.to_csv(changed, index=False, lineterminator="\n")
        module.draw(tmp_path, changed)
        assert difference(tmp_path / f"{name}.png", tmp_path / "as_is.png") > 1.5 * BOUND, column


def test_hooks_see_shapes_and_parameters():
    import torch
    diagram = script("diagram")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2), torch.nn.Flatten(), torch.nn.LazyLinear(1000))
    seen = diagram.Watched(net)
    net(torch.rand(2, 3, 33, 33))
    assert (seen.given("0"), seen.gave("0"), seen.gave("1"), seen.both("2")) == (
        "3 × 33 × 33", "8 × 16 × 16", "2,048", "1,000\n2.0 M")
    assert seen.weights("0") == "224" and seen.weights("") == "2.0 M"
