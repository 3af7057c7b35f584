"""Scores for image files, by the function and from the command line."""

import errno
import itertools
import multiprocessing
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import data_download
from iqa_core import __main__ as command
from iqa_core import (
    baselines, files, images, metrics, score, score_files, score_methods, store, yoto)
from iqa_core.distortions import distort

MEAN = SimpleNamespace(name="mean", score=lambda x, x_ref=None: x.mean((1, 2, 3)))


def noise(path: Path, height: int = 40, width: int = 48) -> Path:
    """Write an image of noise that only its name decides."""
    generator = torch.Generator().manual_seed(sum(os.fsencode(path.name)))
    path.parent.mkdir(parents=True, exist_ok=True)
    images.save(path, torch.rand(3, height, width, generator=generator))
    return path


def run(*arguments) -> int:
    """The command in this process: its exit code."""
    return command.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A clean picture in `references`, four blurred versions in `mine`, one of them in a folder below."""
    top, x = tmp_path_factory.mktemp("photographs"), data_download.load("offline").reference(0)[:, :200, :240]
    images.save(top / "references" / "boat.png", x)
    for level in range(1, 5):
        name = f"boat_{level}.png" if level < 4 else "below/boat_4.JPG"
        images.save(top / "mine" / name, distort(x[None], [1], [level])[0])
    return top


def test_a_folder_is_scored_by_name_and_what_is_broken_does_not_stop_it(photographs, tmp_path):
    for path in score_files.search_images(photographs / "mine").files:
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
    with pytest.raises(ValueError, match="no images here"):
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
    assert "boat_1.png: no reference in" in table["error"][0]  # boa is not the whole word
    assert "zebra.png: no reference in" in table["error"][1]
    with pytest.raises(ValueError, match="psnr compares with a reference"):
        score.score_paths(photographs / "mine", method="psnr")


def test_pictures_of_one_size_go_together_and_scores_stay_those_of_each(tmp_path):
    x = data_download.load("offline").reference(0)
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
    (tmp_path / "copy.png").write_bytes((tmp_path / "large.png").read_bytes())
    same = score.score_paths(tmp_path / "large.png", tmp_path / "copy.png", "psnr", longest=60)
    assert same["psnr"][0] == 100  # identical images, at their own size


@pytest.mark.parametrize("name", score_methods.CLASSES)
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
    assert "boat_cut.png: cannot be read" in shown.err and "4 of 5 images scored" in shown.err
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
    assert ended.value.code == 0 and found.out.count("boat_") == 4 and "4 of 4 images scored" in found.err


# --- which files are images -----------------------------------------------------------------------


def test_the_same_file_is_scored_once_whatever_names_lead_to_it(tmp_path):
    noise(tmp_path / "z.png")
    noise(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "a_link.png").symlink_to("z.png")
    (tmp_path / "folder_link").symlink_to("elsewhere")
    os.link(tmp_path / "z.png", tmp_path / "hard.png")  # two names of equal rank are two files
    found = score_files.search_images([tmp_path, tmp_path / "z.png", f"{tmp_path}/elsewhere/../z.png"]).files
    assert sorted(path.name for path in found) == ["b.png", "hard.png", "z.png"]


def test_what_is_passed_over_is_counted_and_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(images, "readable_suffixes", lambda: frozenset({".png"}))
    for name in ("a.PNG", "IMG_1.HEIC", "IMG_2.heic", "notes.txt", "README", ".hidden.png", "__MACOSX/._a.png"):
        noise(tmp_path / "a.png").rename(tmp_path / "one")
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / "one").rename(tmp_path / name)
    (tmp_path / "gone").symlink_to("nowhere")
    with pytest.warns(score_files.PassedOver, match="^2 files passed over: 2 .heic .*pip install pillow-heif.$"):
        table = score.score_paths(tmp_path, method=MEAN)
    assert [Path(path).name for path in table["image"]] == ["a.PNG"]
    assert len(table.attrs["passed_over"][".heic"]) == 2
    assert run("score", tmp_path, "--method", "brisque") == 0
    shown = capsys.readouterr()
    assert "5 files passed over: 2 .heic, 1 .txt, 1 link that leads nowhere, 1 without a suffix (" in shown.err
    assert str(tmp_path / "notes.txt") in shown.err and shown.err.count("passed over") == 1
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "b.heif").touch()
    with pytest.raises(ValueError, match="no images here.*1 file passed over: 1 .heif"):
        score_files.search_images(tmp_path / "only")


@pytest.mark.parametrize("suffix", [".jfif", ".mpo", ".pgm", ".tga", ".jp2", ".webp", ".avif", ".TIFF", ".Jpe"])
def test_a_folder_gives_everything_that_pillow_reads(suffix, tmp_path):
    if suffix.lower() not in images.readable_suffixes():
        pytest.skip(f"this Pillow does not read {suffix}")
    kind = {".mpo": "JPEG", ".jfif": "JPEG", ".jpe": "JPEG", ".pgm": "PPM"}.get(suffix.lower())
    Image.new("L" if suffix == ".pgm" else "RGB", (40, 30), 90).save(tmp_path / f"a{suffix}", kind)
    table = score.score_paths(tmp_path, method=MEAN)
    assert table["mean"][0] == pytest.approx(90 / 255 if suffix == ".pgm" else 30 / 255, abs=0.02)


def test_nothing_waits_for_a_pipe_that_is_named_as_an_image(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    noise(tmp_path / "a.png")
    table = score.score_paths(tmp_path, method=MEAN).set_index("image")
    assert table["mean"].notna().tolist() == [True, False]
    assert "pipe.png: " in table["error"].iloc[1]


@pytest.mark.parametrize("paths", ["", [], [""]])
def test_no_path_is_said(paths):
    with pytest.raises(ValueError, match="empty|No file is named"):
        score.score_paths(paths, method=MEAN)


def test_names_that_the_system_refuses_are_said(tmp_path):
    noise(tmp_path / "a.png")
    table = score.score_paths([tmp_path, tmp_path / (300 * "x" + ".png"), tmp_path / "empty"], method=MEAN)
    assert table["mean"].notna().tolist() == [True, False, False] and (table["error"][1:] != "").all()


# --- references -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name, expected", [
    ("img.png", "img.bmp"), ("IMG_3.png", "img.bmp"), ("img-blur.png", "img.bmp"), ("img (2).png", "img.bmp"),
    ("img.png.jpg", "img.bmp"), ("img_blur_9.png", "img_blur.bmp"), ("img2.png", None), ("imgx_1.png", None),
    ("im.png", None), ("i10_blur_3.png", None), ("i1_blur.png", "i1.bmp"), ("cafe\u0301_2.png", "caf\xe9.bmp"),
    ("cafe_2.png", None)])
def test_a_name_goes_on_with_no_letter_or_digit(name, expected, tmp_path):
    for reference in ("img", "img_blur", "i1", "caf\xe9"):
        (tmp_path / f"{reference}.bmp").touch()
    if expected is None:
        with pytest.raises(images.ImageError, match="no reference in"):
            score_files.References(tmp_path).of(name)
    else:
        assert score_files.References(tmp_path).of(name).name == expected


def make_twins(folder: Path, how: str) -> Path:
    """Another name of the image `folder / img.png`, in a folder of references."""
    references = folder / "references"
    references.mkdir()
    if how == "symbolic link":
        (references / "img.png").symlink_to(folder / "img.png")
    elif how == "hard link":
        os.link(folder / "img.png", references / "img.png")
    elif how == "linked folder":
        references.rmdir()
        references.symlink_to(folder)
    elif how == "dots":
        return references / ".."
    else:
        return folder
    return references


@pytest.mark.parametrize("how", ["same folder", "dots", "symbolic link", "hard link", "linked folder"])
def test_an_image_is_never_its_own_reference(how, tmp_path):
    folder = tmp_path / "images"
    noise(folder / "img.png")
    noise(folder / "img_noisy.png")
    references = make_twins(folder, how)
    names = [folder / "img.png", folder / "img_noisy.png"]
    table = score.score_paths(names, references, "psnr")
    assert table["psnr"].isna().tolist() == [True, False] and table["psnr"][1] < 20
    assert "no reference in" in table["error"][0]


def test_one_reference_for_all_is_not_compared_with_itself(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        noise(tmp_path / name)
    table = score.score_paths(tmp_path, tmp_path / "b.png", ["psnr", "brisque"])
    assert table["psnr"].isna().tolist() == [False, True, False] and table["brisque"].notna().all()
    assert table["error"][1].endswith("b.png: is the reference itself, and is not compared with itself.")


def test_two_references_that_fit_are_both_named(tmp_path):
    noise(tmp_path / "dist" / "img_1.png")
    for name in ("img.png", "img.jpg", "other.png"):
        noise(tmp_path / "ref" / name)
    table = score.score_paths(tmp_path / "dist", tmp_path / "ref", "psnr")
    assert "two references fit" in table["error"][0]
    assert "img.png" in table["error"][0] and "img.jpg" in table["error"][0]
    (tmp_path / "ref" / "img.jpg").unlink()
    (tmp_path / "ref" / "deeper").mkdir()
    (tmp_path / "ref" / "deeper" / "img.png").symlink_to(tmp_path / "ref" / "img.png")  # the same file
    assert score.score_paths(tmp_path / "dist", tmp_path / "ref", "psnr")["psnr"].notna().all()


def test_references_in_sub_folders(tmp_path):
    def touch(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    def found(name):
        return score_files.References(tmp_path / "ref").of(tmp_path / "dist" / name).relative_to(tmp_path / "ref").as_posix()

    touch("ref/scene1/frame.png", "ref/scene2/frame.png", "ref/originals/boat.png", "ref/tree.png", "ref/scene1/tree.png")
    touch("dist/scene1/frame_1.png", "dist/scene2/frame_1.png", "dist/scene3/frame_1.png", "dist/blur/tree_2.png")
    assert found("scene1/frame_1.png") == "scene1/frame.png" and found("scene2/frame_1.png") == "scene2/frame.png"
    assert found("blur/tree_2.png") == "tree.png" and found("scene1/tree_2.png") == "scene1/tree.png"
    assert found("boat_3.png") == "originals/boat.png"
    with pytest.raises(images.ImageError, match="no reference"):  # the frames belong to other scenes
        found("scene3/frame_1.png")


def test_a_folder_of_references_that_is_not_there_is_said_once(tmp_path):
    for i in range(3):
        noise(tmp_path / "dist" / f"{i}.png")
    (tmp_path / "empty").mkdir()
    for method in ("psnr", "brisque"):
        with pytest.raises(ValueError, match="nowhere: no such folder or file of references"):
            score.score_paths(tmp_path / "dist", tmp_path / "nowhere", method)
        with pytest.raises(ValueError, match="empty: no images here that could be references"):
            score.score_paths(tmp_path / "dist", tmp_path / "empty", method)
        with pytest.raises(ValueError, match="folder of references is empty"):
            score.score_paths(tmp_path / "dist", "", method)


@pytest.mark.parametrize("method", ["psnr", "ssim", "ms_ssim", "yoto", "own"])
def test_a_reference_of_another_size_is_refused_for_all_methods(method, tmp_path):
    noise(tmp_path / "dist" / "a_1.png", 170, 180)
    noise(tmp_path / "ref" / "a.png", 170, 188)
    chosen = MEAN if method == "own" else method
    table = score.score_paths(tmp_path / "dist", tmp_path / "ref", [chosen, "brisque"])
    assert table[chosen if isinstance(chosen, str) else "mean"].isna().all() and table["brisque"].notna().all()
    assert "has 180 x 170 pixels, but its reference" in table["error"][0] and "188 x 170" in table["error"][0]


# --- partial results ------------------------------------------------------------------------------


def test_what_one_method_cannot_score_the_others_do(tmp_path, capsys):
    noise(tmp_path / "dist" / "a_1.png", 96, 96)
    noise(tmp_path / "ref" / "a.png", 96, 96)
    noise(tmp_path / "dist" / "orphan.png", 96, 96)
    out = tmp_path / "new" / "scores.csv"
    code = run("score", tmp_path / "dist", "--reference", tmp_path / "ref", "--method", "ms_ssim", "ssim", "brisque",
               "--csv", out)
    shown = capsys.readouterr()
    assert code == 1 and shown.out.count(".png") == 2
    assert "ms_ssim: The images have 96 x 96" in shown.err and "orphan.png: no reference" in shown.err
    assert "2 of 2 images scored" in shown.err and "ms_ssim is missing for 2" in shown.err
    written = pd.read_csv(out)
    assert written["brisque"].notna().all() and written["ms_ssim"].isna().all() and written["ssim"].notna().sum() == 1


def test_a_method_that_gives_no_number_or_cannot_be_loaded_is_named(tmp_path, monkeypatch):
    noise(tmp_path / "a.png")
    silent = SimpleNamespace(name="silent", score=lambda x: x.new_full((len(x),), np.nan))
    few = SimpleNamespace(name="few", score=lambda x: x.new_zeros(0))
    table = score.score_paths(tmp_path, method=[silent, few, MEAN, MEAN])
    assert [*table] == ["image", "silent", "few", "mean", "mean 2", "error"] and table["mean"].equals(table["mean 2"])
    assert "silent: gives no number; few: returned 0 scores for 1 images" in table["error"][0]
    monkeypatch.setattr(yoto.YOTO, "load", lambda path: (_ for _ in ()).throw(ValueError("it is damaged")))
    table = score.score_paths(tmp_path, method=["yoto", "brisque"])
    assert table["brisque"].notna().all() and "yoto: it is damaged" in table["error"][0]
    with pytest.raises(ValueError, match="damaged"):
        score.score_paths(tmp_path, method="yoto")


@pytest.mark.parametrize("name, reason", [("/proc/out.csv", "cannot be written"), ("", "is a folder"),
                                          ("deep/er/a.csv/", "is a folder"), ("file/a.csv", "cannot be written"),
                                          ("x.PNG", "is the name of an image")])
def test_a_table_that_cannot_be_written_is_said_first_and_printed(name, reason, tmp_path, capsys, monkeypatch):
    noise(tmp_path / "a.png")
    (tmp_path / "file").touch()
    (tmp_path / "deep/er/a.csv").mkdir(parents=True)
    said_before = []
    whole = score.score_paths
    monkeypatch.setattr(score, "score_paths", lambda *a: said_before.append(capsys.readouterr().err) or whole(*a))
    assert run("score", tmp_path / "a.png", "--method", "brisque", "--csv", tmp_path / name) == 1
    shown = capsys.readouterr()
    assert reason in said_before[0] and "a.png" in shown.out and shown.err.endswith("was not written.\n")


def test_a_disk_that_fills_up_at_the_end_costs_the_file_alone(tmp_path, capsys, monkeypatch):
    noise(tmp_path / "a.png")
    (tmp_path / "old.csv").write_text("old")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    assert run("score", tmp_path / "a.png", "--method", "brisque", "--csv", tmp_path / "old.csv") == 1
    shown = capsys.readouterr()
    assert "a.png" in shown.out and "old.csv: could not be written (No space left on device)" in shown.err
    assert (tmp_path / "old.csv").read_text() == "old"


def test_a_device_or_a_link_stays_what_it_is(tmp_path, capsys):
    noise(tmp_path / "a.png")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("link.csv", "null"):
        assert run("score", tmp_path / "a.png", "--method", "brisque", "--csv", tmp_path / name) == 0
    assert (tmp_path / "link.csv").is_symlink() and len(pd.read_csv(tmp_path / "real.csv")) == 1
    assert Path("/dev/null").is_char_device() and "a.png" in capsys.readouterr().out


def fails(error: Exception):
    def raise_it(*_, **__):
        raise error

    return raise_it


@pytest.mark.parametrize("how", ["/proc/cache", "a file", "no home", "full disk", "lock"])
def test_without_a_cache_there_is_one_warning_and_all_scores(how, tmp_path, monkeypatch, capsys):
    for i in range(3):
        noise(tmp_path / "images" / f"{i}.png", 40, 40 + i)
    no_space = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setenv("IQA_CACHE", str(tmp_path / "cache"))
    if how == "a file":
        (tmp_path / "cache").touch()
    elif how == "/proc/cache":
        monkeypatch.setenv("IQA_CACHE", how)
    elif how == "no home":
        monkeypatch.delenv("IQA_CACHE")
        monkeypatch.setattr(files.Path, "expanduser", fails(RuntimeError("Could not determine home directory.")))
        monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    elif how == "lock":
        monkeypatch.setattr(files.FileLock, "acquire", fails(PermissionError(errno.EACCES, "Permission denied")))
    else:
        monkeypatch.setattr(store.RowStore, "_append", fails(no_space))
    assert run("score", tmp_path / "images", "--method", "brisque") == 0
    shown = capsys.readouterr()
    assert shown.out.count(".png") == 3
    assert shown.err.count("IQA_CACHE") == 1 and len(shown.err.strip().splitlines()) == 2


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [
    ["--method", "brisque", "PATH"], ["PATH", "--method", "brisque"], ["--method=brisque", "PATH"],
    ["--method", "Brisque,frozen ridge", "PATH"], ["PATH", "--methods", "FROZEN", "Ridge", "brisque"],
    ["--method", "brisque", "--longest", "64", "PATH"], ["--longest", "0", "PATH", "--method", "frozen_ridge", "BRISQUE"],
    ["--method", "brisque", "--method", "'frozen-ridge'", "PATH"], ["--method", "frozen-ridge", "PATH", "--longest", "9", "PATH"]])
def test_methods_come_before_or_after_the_paths_in_any_case(words, tmp_path, capsys):
    path = noise(tmp_path / "a photo, 1.png")
    assert run("score", *[str(path) if word == "PATH" else word for word in words]) == 0
    out = capsys.readouterr().out
    several = any("rozen" in word.lower() for word in words)
    assert ("frozen ridge" in out.splitlines()[0]) == several and out.count("a photo, 1.png") == 1


@pytest.mark.parametrize("name, expected", [
    ("Re-IQA", "re-iqa"), ("re_iqa", "re-iqa"), ("REIQA", "re-iqa"), ("frozen-ridge", "frozen ridge"), ("MS-SSIM", "ms_ssim"),
    ("ms ssim", "ms_ssim"), ('"DRI IQA"', "dri-iqa"), ("qfm\u2013iqm", "qfm-iqm"), ("Psnr", "psnr")])
def test_names_of_methods(name, expected):
    assert score_methods.method_name(name) == expected


@pytest.mark.parametrize("words, sentence", [
    (["--method", "brisqe", "PATH"], "'brisqe' is no method; choose one of psnr, .* The nearest is brisque"),
    (["PATH", "--method", "psnr"], "psnr compares with a reference"),
    (["PATH", "--longest", "-5"], "longest=-5: give the number of pixels"),
    (["PATH", "--method", "psnr", "--reference", "PATH", "--weights", "none.pt"], "none.pt: psnr has no weights"),
    (["PATH", "--method", "MS-SSIM", "--weights", "none.pt"], "none.pt: ms_ssim has no weights"),
    (["PATH", "--method", "brisque", "yoto", "--weights", "none.pt"], "none.pt holds one method"),
    (["PATH", "--method", "brisque", "--weights", "none.pt"], "none.pt: no trained brisque here"),
    (["PATH", "--method", "brisque", "--weights", ""], "name of the file of weights is empty"),
    (["--method", "brisque"], "Which images?"), ([], "Which images?"),
    (["PATH", "--reference", "/nowhere"], "/nowhere: no such folder or file")])
def test_a_wrong_command_gets_one_sentence(words, sentence, tmp_path, capsys):
    path = noise(tmp_path / "a.png")
    assert run("score", *[str(path) if word == "PATH" else word for word in words]) == 2
    shown = capsys.readouterr()
    assert re.search(sentence, shown.err) and shown.out == "" and len(shown.err.splitlines()) <= 4


def test_help_shows_examples(capsys):
    assert run() == 2
    assert "examples:\n  python -m iqa_core score photographs/" in capsys.readouterr().err
    for words, expected in ((["--help"], "examples:"), (["score", "--help"], "examples:"), (["--version"], "0.")):
        with pytest.raises(SystemExit) as ended:
            run(*words)
        assert ended.value.code == 0 and expected in capsys.readouterr().out
    assert run("photographs") == 2 and "python -m iqa_core score photographs" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        run("score", "a.png", "--longest", "many")
    assert ended.value.code == 2


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    noise(tmp_path / "mine" / "a_1.png")
    noise(tmp_path / "ref" / "a.png")
    score.load_method("brisque").save(tmp_path / "mine.weights")
    assert run("score", "~/mine", "--reference", "~/ref", "--method", "psnr", "--csv", "~/out.csv") == 0
    assert run("score", "~/mine/a_1.png", "--method", "brisque", "--weights", "~/mine.weights") == 0
    assert (tmp_path / "out.csv").is_file() and capsys.readouterr().out.count("a_1.png") == 2


def test_odd_names_a_console_without_utf8_and_a_reader_that_leaves(tmp_path):
    """In a process of its own, because streams and the end of Python take part."""
    image = noise(tmp_path / "plain.png").read_bytes()
    odd = [b"caf\xe9.png", "na\xefve \u2603.png".encode(), b"two\nlines.png", b"b\xffd.png"]
    for name in odd:
        (tmp_path / os.fsdecode(name)).write_bytes(b"no image" if name == odd[-1] else image)
    command_line = f"{sys.executable} -m iqa_core score . --method brisque --csv out.csv | head -1"
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command_line], cwd=tmp_path, capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(score.__file__).parent.parent)})
    assert ended.returncode == 1 and len(ended.stdout.splitlines()) == 1  # 1: one image is none
    assert b"Traceback" not in ended.stderr and b"BrokenPipe" not in ended.stderr and b"b\\udcffd.png: " in ended.stderr
    written = (tmp_path / "out.csv").read_bytes()
    assert all(name in written for name in odd)


# --- stopped and started again --------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """A cache of its own; the names of what is read are counted."""
    monkeypatch.setenv("IQA_CACHE", str(tmp_path / "cache"))
    read = []
    load = images.load
    monkeypatch.setattr(images, "load", lambda path: read.append(Path(path).name) or load(path))
    return read


def signal_at(number: int, which: int, patch: pytest.MonkeyPatch) -> None:
    """The process gets a signal when it scores that image."""
    calls = itertools.count(1)
    extract = baselines.brisque_features

    def spy(x):
        if next(calls) == number:
            os.kill(os.getpid(), which)
        return extract(x)

    patch.setattr(baselines.Brisque, "extract", staticmethod(spy))


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_prints_what_is_done_and_the_next_call_goes_on(which, counted, tmp_path, capsys):
    for i in range(8):
        noise(tmp_path / "images" / f"{i}.png", 40, 40 + i)
    arguments = ["score", tmp_path / "images", "--method", "brisque", "--csv", tmp_path / "out.csv"]
    with pytest.MonkeyPatch.context() as patch:
        signal_at(6, which, patch)
        assert run(*arguments) == 130
    shown = capsys.readouterr()
    assert shown.out.count(".png") == 5 == len(pd.read_csv(tmp_path / "out.csv"))
    assert "Stopped after 5 of 8 images; the same call goes on from there." in shown.err
    assert "Traceback" not in shown.err
    counted.clear()
    assert run(*arguments) == 0
    assert sorted(counted) == ["5.png", "6.png", "7.png"] and capsys.readouterr().out.count(".png") == 8


def test_a_stop_of_the_function_holds_the_rows(tmp_path):
    for i in range(3):
        noise(tmp_path / f"{i}.png", 40, 40 + i)
    calls = []

    def stop(x, x_ref=None):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return x.mean((1, 2, 3))

    with pytest.raises(score.Stopped, match="2 of 3 images; the same call starts again") as stopped:
        score.score_paths(tmp_path, method=SimpleNamespace(name="own", score=stop))
    assert stopped.value.table["own"].notna().tolist() == [True, True]


@pytest.mark.parametrize("change", ["nothing", "image", "reference", "weights", "code", "longest"])
def test_kept_scores_are_those_of_the_same_images_references_weights_and_code(change, counted, tmp_path, monkeypatch):
    for i in range(4):
        noise(tmp_path / "dist" / f"{i}_x.png", 40, 40 + i)
        noise(tmp_path / "ref" / f"{i}.png", 40, 40 + i)
    score.load_method("brisque").save(tmp_path / "own.weights")
    options = {"method": "brisque", "weights": tmp_path / "own.weights"}
    if change == "reference":
        options = {"reference": tmp_path / "ref", "method": ["psnr", "brisque"]}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(score.Stopped):
        signal_at(4, signal.SIGINT, patch)
        score.score_paths(tmp_path / "dist", **options)
    if change == "image":
        noise(tmp_path / "dist" / "0_x.png", 41, 40)
    elif change == "reference":
        noise(tmp_path / "ref" / "0.png", 40, 40)
        os.utime(tmp_path / "ref" / "0.png", (1, 1))
    elif change == "weights":
        method = score.load_method("brisque")
        method.state["b"] = method.state["b"] + 1
        method.save(tmp_path / "own.weights")
    elif change == "code":
        monkeypatch.setattr(score, "code_hash", lambda *_: "another")
    elif change == "longest":
        options["longest"] = 32
    counted.clear()
    table = score.score_paths(tmp_path / "dist", **options)
    again = {"nothing": 1, "image": 2, "reference": 2}.get(change, 4)
    assert len([name for name in counted if "_x" in name]) == again and (table["error"] == "").all()
    fresh = score.score_paths(tmp_path / "dist", **options)
    pd.testing.assert_frame_equal(table, fresh)


def test_two_equal_calls_at_once_do_not_disturb_each_other(counted, tmp_path):
    for i in range(3):
        noise(tmp_path / "images" / f"{i}.png", 40, 40 + i)
    tables = []
    extract = baselines.brisque_features

    def second_call(x):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(baselines.Brisque, "extract", staticmethod(extract))
            worker = threading.Thread(target=lambda: tables.append(score.score_paths(tmp_path / "images", method="brisque")))
            worker.start()
            worker.join(60)
        return extract(x)

    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="another process is at the same work"):
        patch.setattr(baselines.Brisque, "extract", staticmethod(second_call))
        first = score.score_paths(tmp_path / "images", method="brisque")
    assert len(tables) == 3
    for table in tables:
        pd.testing.assert_frame_equal(first, table)


def make_mixed(folder: Path) -> set[str]:
    """40 files, 12 of them odd in one way or another. Returns the names that must be told with a reason."""
    for i in range(28):
        noise(folder / ("deep" if i % 4 == 0 else "") / f"{i:02}.{'png' if i % 2 else 'jpg'}", 36 + i, 48)
    whole = (folder / "01.png").read_bytes()
    (folder / "empty.png").touch()
    (folder / "cut.png").write_bytes(whole[:300])
    (folder / "text.jpg").write_text("no image")
    (folder / "notes.txt").write_text("no image")
    (folder / "photo.heic").write_bytes(b"no heic")
    (folder / "gone.png").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.png")
    Image.new("F", (40, 40)).save(folder / "float.tiff")
    told = {"empty.png", "cut.png", "text.jpg", "notes.txt", "photo.heic", "gone.png", "pipe.png", "float.tiff"}
    (folder / ".hidden.png").write_bytes(whole)
    (folder / "again.png").symlink_to("01.png")
    (folder / "loop").symlink_to(folder)
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(whole)
    return told


def test_a_mixed_folder_is_scored_to_the_end_killed_and_without_a_cache(counted, tmp_path, monkeypatch, capsys):
    told = make_mixed(tmp_path / "mixed")
    arguments = ["score", tmp_path / "mixed", "--method", "brisque"]

    def die() -> None:
        torch.set_num_threads(1)  # a forked process has lost the other threads
        signal_at(12, signal.SIGKILL, pytest.MonkeyPatch())
        run(*arguments)

    process = multiprocessing.get_context("fork").Process(target=die)
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    with pytest.MonkeyPatch.context() as patch:
        signal_at(8, signal.SIGINT, patch)
        assert run(*arguments) == 130
    stopped = capsys.readouterr()
    rows = len(stopped.out.splitlines()) - 1
    assert 18 <= rows < 29 and "of 35 images; the same call goes on from there" in stopped.err
    counted.clear()
    assert run(*arguments) == 1
    shown = capsys.readouterr()
    assert len([name for name in counted if name not in told]) == 29 - rows
    for _ in range(2):
        assert len(shown.out.splitlines()) == 1 + 29
        assert all(name in shown.err for name in told) and "29 of 35 images scored" in shown.err
        monkeypatch.setenv("IQA_CACHE", "/proc/cache")
        assert run(*arguments) == 1
        shown = capsys.readouterr()
        assert "the work goes on without" in shown.err
