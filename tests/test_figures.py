"""The committed figures are what their scripts draw today; every script of figures is a module."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from figures import FOLDER
from figures.plots import (
    architecture, claims, diagram, distortion_gallery, equal_psnr, results)

BOUND = 1.0  # of 255 grey values, of the worst tile
DRAWERS = [architecture, results, claims, distortion_gallery, equal_psnr]
MODULES = sorted(".".join(path.relative_to(FOLDER.parent).with_suffix("").parts)
                 for path in FOLDER.rglob("*.py") if path.stem != "__init__")


def difference(one: Path, other: Path) -> float:
    """Largest mean difference of grey values, 0 to 255, in any tile of 32 x 32 pixels.

    It is 255 if the sizes differ. Both are reduced to a quarter first, so that edges drawn a little
    otherwise count little. A mean over the whole image would not notice one dot that moved.
    """
    with Image.open(one) as a, Image.open(other) as b:
        if a.size != b.size:
            return 255.0
        grey_a, grey_b = (np.asarray(x.convert("L").reduce(4), dtype=float) for x in (a, b))
    apart = np.abs(grey_a - grey_b)
    padded = np.pad(apart, [(0, -n % 8) for n in apart.shape])
    height, width = padded.shape
    tiles = padded.reshape(height // 8, 8, width // 8, 8)
    return float(tiles.mean((1, 3)).max())


@pytest.mark.parametrize("module", DRAWERS, ids=lambda module: module.__name__)
def test_the_committed_drawing_is_what_the_script_draws(module, tmp_path):
    module.draw(tmp_path)
    assert sorted(module.ALT) == sorted(path.stem for path in tmp_path.glob("*.png"))
    for stem, alt in module.ALT.items():
        again = f"run: python -m {module.__name__}"
        assert (FOLDER / f"{stem}.png").is_file() and len(alt) >= 15, again
        apart = difference(tmp_path / f"{stem}.png", FOLDER / f"{stem}.png")
        assert apart < BOUND, f"{stem}.png is not what its script draws ({apart:.1f}). {again}"


@pytest.mark.parametrize("name", MODULES)
def test_every_script_can_be_imported_and_does_nothing_then(name):
    assert importlib.import_module(name).__doc__


def test_a_script_runs_as_a_module_from_any_folder(tmp_path):
    command = [sys.executable, "-m", "figures.plots.claims", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "claims.png").is_file()


def test_drawings_of_this_kit_stay_small():
    sizes = {path.name: path.stat().st_size for path in FOLDER.glob("*.png")
             if path.stem != "distortion_gallery"}
    assert len(sizes) >= 9 and max(sizes.values()) < 200_000, sizes


@pytest.mark.parametrize("change", ["a box", "an arrow", "a number", "a kind"])
def test_a_changed_diagram_is_noticed(change, tmp_path):
    def page(path, changed=""):
        sheet = diagram.Sheet(6.0, 3.0)
        sheet.title("A title")
        sheet.box("x", 1.0, 2.0, diagram.DATA, "image x\n3 × 224 × 224")
        parameters = "27.6 M" if changed == "a number" else "27.5 M"
        sheet.box("net", 3.0, 2.0, diagram.NEW, f"network\n{parameters}")
        if changed != "a box":
            kind = diagram.NEW if changed == "a kind" else diagram.TRAINING
            sheet.box("loss", 5.0, 2.0, kind, "loss")
        sheet.arrows("x>net" if changed in ("a box", "an arrow") else "x>net~loss")
        sheet.save(path)

    page(tmp_path / "as_is.png")
    page(tmp_path / "again.png")
    page(tmp_path / "changed.png", change)
    assert (tmp_path / "as_is.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert difference(tmp_path / "as_is.png", tmp_path / "changed.png") > 1.5 * BOUND


@pytest.mark.parametrize("module, source, changes", [
    (results, "ledger.csv", {"srcc": "0.55"}),
    (claims, "claims.csv", {"high": "0.2", "verdict": "reversed"})], ids=["results", "claims"])
def test_one_changed_result_is_noticed(module, source, changes, tmp_path):
    drawing = tmp_path / f"{source.replace('ledger', 'results').removesuffix('.csv')}.png"
    changed = tmp_path / "changed.csv"
    module.draw(tmp_path)
    drawing.rename(tmp_path / "as_is.png")
    for column, value in changes.items():
        rows = pd.read_csv(FOLDER / source, keep_default_na=False, dtype=str)
        row = results.compared().index[-1] if module is results else 20
        assert rows.loc[row, column] != value
        rows.loc[row, column] = value
        rows.to_csv(changed, index=False, lineterminator="\n")
        module.draw(tmp_path, changed)
        assert difference(drawing, tmp_path / "as_is.png") > 1.5 * BOUND, column


def test_hooks_record_shapes_and_parameters():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2), torch.nn.Flatten(),
                              torch.nn.LazyLinear(1000))
    watched = diagram.Watched(net)
    net(torch.rand(2, 3, 33, 33))
    assert watched.input("0") == "3 × 33 × 33"
    assert watched.output("0") == "8 × 16 × 16"
    assert watched.output("1") == "2,048"
    assert watched.output_and_parameters("2") == "1,000\n2.0 M"
    assert watched.parameters("0") == "224" and watched.parameters("") == "2.0 M"
