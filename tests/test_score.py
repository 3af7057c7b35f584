"""Scores for picture files, by the function and from the command line."""

import runpy
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from iqa_core import __main__ as command
from iqa_core import data, images, metrics, score
from iqa_core.distortions import distort

MEAN = SimpleNamespace(name="mean", score=lambda x, x_ref=None: x.mean((1, 2, 3)))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A clean picture in `references`, four blurred versions in `mine`, one of them in a folder below."""
    top, x = tmp_path_factory.mktemp("photographs"), data.load("offline").reference(0)[:, :200, :240]
    images.save(top / "references" / "boat.png", x)
    for level in range(1, 5):
        name = f"boat_{level}.png" if level < 4 else "below/boat_4.JPG"
        images.save(top / "mine" / name, distort(x[None], [1], [level])[0])
    return top


def test_a_folder_is_scored_by_name_and_what_is_broken_does_not_stop_it(photographs, tmp_path):
    for path in score.find_pictures(photographs / "mine"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "cut.png").write_bytes((tmp_path / "boat_1.png").read_bytes()[:500])
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.txt").write_text("no picture")
    table = score.score_paths(tmp_path, method=MEAN)
    assert [path.rsplit("/")[-1] for path in table["image"]] == [
        "boat_1.png", "boat_2.png", "boat_3.png", "boat_4.JPG", "cut.png", "empty.png"]
    assert table["mean"].notna().tolist() == 4 * [True] + 2 * [False]
    assert "cut.png: cannot be read as an image" in table["error"][4] and "0 bytes" in table["error"][5]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match="no pictures here"):
        score.score_paths(tmp_path / "nothing", method=MEAN)


def test_references_are_found_and_full_reference_scores_fall_with_the_level(photographs):
    table = score.score_paths(photographs / "mine", photographs / "references", ["psnr", "ssim", MEAN]).sort_values("image")
    by_level = table.set_index(table["image"].str.extract(r"_(\d)")[0]).sort_index()
    assert [*table] == ["image", "psnr", "ssim", "mean", "error"] and (table["error"] == "").all()
    assert by_level["ssim"].is_monotonic_decreasing and by_level["psnr"].is_monotonic_decreasing
    one = score.score_paths(photographs / "mine" / "boat_2.png", photographs / "references" / "boat.png", "psnr")
    x, x_ref = (images.load(photographs / name)[None] for name in ("mine/boat_2.png", "references/boat.png"))
    assert one["psnr"][0] == pytest.approx(metrics.psnr(x, x_ref).item()) == by_level.loc["2", "psnr"]


def test_a_reference_that_is_missing_or_of_another_size_is_said(photographs, tmp_path):
    images.save(tmp_path / "refs" / "boa.png", torch.rand(3, 20, 20))
    images.save(tmp_path / "zebra.png", torch.rand(3, 20, 20))
    table = score.score_paths([photographs / "mine" / "boat_1.png", tmp_path / "zebra.png"], tmp_path / "refs", "ssim")
    assert table["ssim"].isna().all()
    assert "boat_1.png: " in table["error"][0] and "x_ref has (1, 1, 20, 20)" in table["error"][0]
    assert "zebra.png: no reference in" in table["error"][1]
    with pytest.raises(ValueError, match="psnr compares with a reference"):
        score.score_paths(photographs / "mine", method="psnr")


def test_pictures_of_one_size_go_together_and_scores_stay_those_of_each(tmp_path):
    x = data.load("offline").reference(0)
    for i, (height, width) in enumerate(4 * [(40, 48)] + [(48, 40)] + 2 * [(64, 32)] + [(40, 48)]):
        images.save(tmp_path / f"{i}.png", x[:, i:i + height, i:i + width])
    with Image.open(tmp_path / "4.png") as upright:  # as wide as the others when it is turned
        (turn := upright.getexif())[274] = 6
        upright.save(tmp_path / "3.png", exif=turn)
    brisque, sizes = score.load_method("brisque"), []
    spy = SimpleNamespace(name="brisque", score=lambda p, p_ref=None: sizes.append(len(p)) or brisque.score(p))
    table = score.score_paths(tmp_path, method=spy)
    assert sorted(sizes) == [1, 1, 2, 4]  # the one that was turned stood beside one of another size
    one_by_one = [brisque.score(images.load(path)[None]).item() for path in table["image"]]
    assert table["brisque"].to_numpy() == pytest.approx(one_by_one, abs=1e-6) and (table["error"] == "").all()


def test_large_pictures_are_made_smaller_for_trained_methods_only(tmp_path):
    images.save(tmp_path / "large.png", torch.rand(3, 90, 180))
    seen = []
    spy = SimpleNamespace(name="spy", score=lambda x, x_ref=None: seen.append([*x.shape[-2:]]) or torch.zeros(1))
    for longest in (60, 180, 0):
        score.score_paths(tmp_path, method=spy, longest=longest)
    assert seen == [[30, 60], [90, 180], [90, 180]]
    noisy = score.score_paths(tmp_path, tmp_path / "large.png", "psnr", longest=60)
    assert noisy["psnr"][0] == 100  # identical pictures, at their own size


@pytest.mark.parametrize("name", score.CLASSES)
def test_shipped_methods_score_odd_pictures_and_mild_above_severe(name, photographs, tmp_path):
    images.save(tmp_path / "tiny.png", torch.rand(3, 7, 9))
    images.save(tmp_path / "wide.png", torch.rand(3, 40, 300))
    table = score.score_paths([tmp_path, photographs / "mine" / "boat_1.png", photographs / "mine" / "below"], method=name)
    assert (table["error"] == "").all() and np.isfinite(table[name]).all()
    assert table[name][2] > table[name][3], "blur of level 1 must score above level 4"
    again = score.score_paths(photographs / "mine" / "boat_1.png", method=name)
    assert again[name][0] == pytest.approx(table[name][2], abs=1e-5)


def test_a_method_of_ones_own_and_wrong_names(photographs, tmp_path):
    fitted = score.load_method("re-iqa")
    fitted.save(tmp_path / "mine.pt")
    files = photographs / "mine"
    assert score.score_paths(files, method="re-iqa", weights=tmp_path / "mine.pt").equals(score.score_paths(files, method=fitted))
    with pytest.raises(ValueError, match="'niqe' is no method; choose one of psnr, "):
        score.load_method("niqe")
    with pytest.raises(ValueError, match="no trained yoto here. Train one"):
        score.load_method("yoto", tmp_path / "none.pt")
    with pytest.raises(ValueError, match="holds no fitted yoto"):
        score.load_method("yoto", tmp_path / "mine.pt")


def test_the_command_prints_the_best_first_and_writes_everything(photographs, tmp_path, capsys):
    (tmp_path / "boat_cut.png").write_bytes(b"no picture")
    arguments = ["score", str(photographs / "mine"), str(tmp_path), "--reference", str(photographs / "references"),
                 "--method", "ssim", "psnr", "--csv", str(tmp_path / "out.csv")]
    assert command.main(arguments) == 1
    shown = capsys.readouterr()
    assert [line.split()[0][-5] for line in shown.out.strip().splitlines()[1:]] == ["1", "2", "3", "4"]
    assert "boat_cut.png: cannot be read" in shown.err and "4 of 5 pictures scored" in shown.err
    written = pd.read_csv(tmp_path / "out.csv")
    assert [*written] == ["image", "ssim", "psnr", "error"] and len(written) == 5 and written["ssim"].isna().sum() == 1
    assert command.main(arguments[:2] + ["--method", "all", "--weights", "x.pt"]) == 2
    assert "x.pt holds one method" in capsys.readouterr().err
    assert command.main(["score", str(tmp_path / "boat_cut.png"), "--method", "brisque"]) == 2


def test_the_module_runs_as_a_command(photographs, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["iqa_core", "score", str(photographs / "mine"), "--method", "brisque"])
    monkeypatch.delitem(sys.modules, "iqa_core.__main__")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("iqa_core", run_name="__main__")  # as python -m does, without importing all again
    found = capsys.readouterr()
    assert ended.value.code == 0 and found.out.count("boat_") == 4 and "4 of 4 pictures scored" in found.err
