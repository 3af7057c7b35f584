"""TID2013 made again from Kodak: operations, scores, published values, and the photographs themselves."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import ndimage

from data_download import fetch
from data_download.made import kodak, tid2013_kodak
from data_download.made.tid2013_types import distort, jpeg_tables, luma, psnr, saturate, ycbcr
from iqa_core import files, metrics

KODAK = files.data_root() / "kodak"
needs_kodak = pytest.mark.skipif(not (KODAK / "kodim24.png").is_file(),
                                 reason="The Kodak photographs are not in $IQA_DATA/kodak.")


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A small colourful image with smooth areas, edges and texture."""
    y, x = np.mgrid[:96, :128]
    planes = [x * 1.9, y * 2.5, 127 + 90 * np.sin(x / 3) * (y > 48)]
    return np.stack(planes, axis=-1).clip(5, 250).astype(np.uint8)


def flat(value: int, size: int = 128) -> np.ndarray:
    return np.full((size, size, 3), value, dtype=np.uint8)


# The operations, on images made here

@pytest.mark.parametrize("value, expected", [(38, 0), (114, 152), (190, 152), (39, 76)])
def test_quantization_rounds_halves_to_even(value, expected):
    *_, level5 = distort(flat(value, 8), 7, 1)  # step 76: 38, 114 and 190 lie half-way
    assert (level5 == expected).all()


def test_a_half_in_luma_rounds_as_in_the_database():
    colour = np.array([[[206, 88, 125]]], dtype=np.uint8)  # luma 125.5; another order of sums gives 126
    assert luma(colour).item() == 125


def test_jpeg_tables_are_not_limited_to_8_bits(scene):
    levels = list(distort(scene, 10, 1))
    assert max(max(t) for t in jpeg_tables(4)) > 255
    for x, quality, same in ((levels[0], 80, True), (levels[4], 4, False)):
        buffer = BytesIO()
        Image.fromarray(scene).save(buffer, "JPEG", quality=quality, subsampling=2)
        assert np.array_equal(x, np.asarray(Image.open(buffer))) is same


def test_saturation_keeps_greys_and_inverts_colours(scene):
    planes = [np.floor(plane + 0.5) for plane in ycbcr(scene)]
    kept, grey, opposite = (ycbcr(saturate(*planes, k)) for k in (1, 0, -1))
    assert np.abs(saturate(*planes, 1).astype(int) - scene).max() <= 2
    assert np.abs(grey[1] - 128).max() < 1
    inside = ((saturate(*planes, -1) > 0) & (saturate(*planes, -1) < 255)).all(-1)  # nothing was clipped here
    assert inside.sum() > 1000
    assert np.abs((opposite[2] - 128) + (kept[2] - 128))[inside].max() < 2


def test_blur_has_a_dark_border_and_keeps_the_middle():
    *_, level5 = distort(flat(200, 64), 8, 1)
    assert (level5[10:-10, 10:-10] == 200).all()
    assert 50 <= level5[0, 0, 0] < 80  # a corner sees little more than a quarter of the picture


@pytest.mark.parametrize("kind", [1, 3, 5])
def test_noise_has_its_variance_and_its_spectrum(kind):
    for x, variance in zip(distort(flat(127, 256), kind, 1), (32, 64, 130)):
        error = x.astype(float) - 127
        if kind != 5:
            assert error.var() == pytest.approx(variance, rel=0.03)
        smooth = ndimage.uniform_filter(error, (3, 3, 1)).var() / error.var()
        low, high = {1: (0.09, 0.13), 3: (0.35, 0.65), 5: (0, 0.05)}[kind]  # independent noise: 1/9
        assert low < smooth < high


def test_masked_noise_hides_in_texture(scene):
    error = (list(distort(scene, 4, 1))[2].astype(float) - scene)[..., 2]
    assert error[60:].std() > 1.4 * error[:30].std()


def test_impulses_hit_channels_together_in_even_references_only():
    for number, together in ((1, False), (2, True)):
        x = list(distort(flat(0), 6, number))[4]
        hit = x > 0
        assert hit.mean() == pytest.approx(0.0688 * 255 / 256, rel=0.1)
        # a hit channel keeps the value 0 in one of 256 cases, so "together" is not quite always
        assert (hit.all(-1).sum() / hit.any(-1).sum() > 0.9) == together


def test_noise_does_not_depend_on_what_was_made_before(scene):
    first, second = (list(distort(scene, 1, number)) for number in (3, 3))
    other = list(distort(scene, 1, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, second))
    assert not np.array_equal(first[0], other[0])
    errors = [(x.astype(float) - scene).ravel() for x in first[:2]]
    assert abs(np.corrcoef(*errors)[0, 1]) < 0.05  # levels do not share their noise


@pytest.mark.parametrize("kind, tolerance", [(11, 0.35), (19, 0.01), (22, 1.0)])
def test_types_that_aim_at_a_psnr_reach_it(kind, tolerance):
    rng = np.random.default_rng(0)
    grey = 127 + 40 * ndimage.gaussian_filter(rng.standard_normal((192, 192)), 3) / 0.094
    r = np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    reached = [psnr(x, r) for x in distort(r, kind, 1)]
    assert reached[:4] == pytest.approx((33, 30, 27, 24), abs=tolerance)


# The scores

def test_scores_belong_to_24_references_and_15_types():
    ratings, table = tid2013_kodak.ratings(), tid2013_kodak.table()
    assert len(ratings) == 2880 and (ratings.groupby("content").size() == 120).all()
    assert len(table) == 1800 and table["exact"].sum() == 720 and table["image"].is_unique
    assert "I25" not in set(table["content"]) and table["raw_score"].between(0, 9).all()
    # rows of the published table, by name
    scores = table.set_index("image")["raw_score"]
    assert scores["distorted/i01_03_1.png"] == pytest.approx(4.7714, abs=1e-4)
    assert scores["distorted/i04_18_5.png"] == pytest.approx(3.927, abs=1e-3)
    assert scores["distorted/i19_10_5.png"] == pytest.approx(1.658, abs=1e-3)


def test_mild_images_are_rated_above_strong_ones():
    means = tid2013_kodak.table().groupby(["type", "level"])["raw_score"].mean().unstack()
    assert (means[1] > means[5] + 0.5).all()
    assert (means.loc[17, [2, 4]] > means.loc[17, 1]).all()  # contrast increases please


@pytest.mark.parametrize("arguments, word", [({"types": [9]}, "types: 9"),
                                             ({"references": [25]}, "references: 25")])
def test_what_cannot_be_made_is_named(arguments, word):
    with pytest.raises(ValueError, match=word):
        next(tid2013_kodak.recreate(**arguments))


# The published values of reference 1, at 4 decimals

COLOUR = {7: (33.2890, 30.2663, 27.1280, 24.0697, 21.1297), 10: (33.1252, 30.2636, 27.0572, 23.9254, 20.9001),
          17: (35.9478, 30.0055, 27.9776, 23.5081, 21.9609)}
LUMA = {8: (35.2849, 30.4650, 26.6019, 24.0550, 22.2914), 10: (34.9589, 31.9585, 28.7633, 25.7280, 23.6522),
        16: (33.8659, 29.4410, 23.4448, 19.9056, 17.5174)}
SSIM = {8: (0.9691, 0.8992, 0.7418, 0.5433, 0.3859), 10: (0.9534, 0.9130, 0.8273, 0.6761, 0.5432),
        16: (0.9980, 0.9955, 0.9800, 0.9730, 0.9106), 17: (0.9948, 0.9837, 0.9665, 0.9356, 0.8465)}


@needs_kodak
@pytest.mark.parametrize("kind", sorted({*COLOUR, *LUMA, *SSIM}))
def test_exact_images_meet_the_published_values(kind):
    r = tid2013_kodak.reference(KODAK, 1)
    pictures = [x for _, x in tid2013_kodak.recreate(KODAK, [kind], [1])]
    y, y_ref = (torch.from_numpy(np.stack(p))[:, None].double() / 255
                for p in ([luma(x) for x in pictures], [luma(r)] * 5))
    if kind in COLOUR:
        assert tuple(round(psnr(x, r), 4) for x in pictures) == COLOUR[kind]
    if kind in LUMA:
        assert tuple(round(psnr(luma(x), luma(r)), 4) for x in pictures) == LUMA[kind]
    if kind in SSIM:
        assert tuple(round(v, 4) for v in metrics.ssim(y, y_ref).tolist()) == SSIM[kind]


@needs_kodak
@pytest.mark.parametrize("number", [4, 10, 12])
def test_saturation_meets_the_published_psnr(number):
    r = tid2013_kodak.reference(KODAK, number)
    published = pd.read_csv(Path(tid2013_kodak.__file__).with_name("tid2013-type18-psnr.csv"), index_col=0)
    reached = [round(psnr(x, r), 4) for _, x in tid2013_kodak.recreate(KODAK, [18], [number])]
    assert reached == published.loc[number].tolist()


# The folder

def _rows(*kinds: int) -> pd.DataFrame:
    table = tid2013_kodak.table()
    return table[table["type"].isin(kinds) & table["content"].isin(["I01", "I02", "I03"])]


@needs_kodak
def test_a_made_folder_holds_what_its_table_says(tmp_path):
    folder = files.prepare(tmp_path / "set", lambda f: tid2013_kodak.make(f, _rows(8, 16), progress=False))
    rows = pd.read_csv(folder / "table.csv")
    assert len(rows) == 30 and list(rows) == list(tid2013_kodak.table())
    for name, x in tid2013_kodak.recreate(KODAK, [8], [2]):
        assert np.array_equal(np.asarray(Image.open(folder / f"distorted/{name}.png")), x)
    report = tid2013_kodak.faithfulness(folder, progress=False)
    assert report.loc["gaussian_blur", "n"] == 15
    assert report.loc["gaussian_blur", "ssim_2x"] > 0.9 > report.loc["mean_shift", "ssim_2x"] > 0


@needs_kodak
def test_a_killed_run_leaves_no_folder(tmp_path):
    script = "from data_download.made import tid2013_kodak; tid2013_kodak.prepare(progress=False)"
    environment = {**os.environ, "IQA_CACHE": str(tmp_path), "IQA_DATA": str(KODAK.parent)}
    unfinished = f".tid2013-kodak-{tid2013_kodak.VERSION}-*"
    with subprocess.Popen([sys.executable, "-c", script], env=environment) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob(unfinished + "/distorted/*.png")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    assert list(tmp_path.glob(unfinished + "/distorted/*.png")), "the run made no image within two minutes"
    assert not list(tmp_path.glob("tid2013-kodak-*/"))
    folder = files.prepare(tmp_path / f"tid2013-kodak-{tid2013_kodak.VERSION}",
                           lambda f: tid2013_kodak.make(f, _rows(16), progress=False))
    assert len(list(folder.glob("distorted/*.png"))) == 15
    assert not list(tmp_path.glob(unfinished))  # the next run cleared the rest away


# The Kodak photographs

@pytest.fixture
def small_kodak(tmp_path, monkeypatch):
    """24 tiny images that pass for the Kodak photographs, in `good`; `bad` holds a wrong one."""
    rng, hashes = np.random.default_rng(0), []
    for folder in ("good", "bad"):
        (tmp_path / folder).mkdir()
    for number in range(1, 25):
        pixels = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
        hashes.append(hashlib.sha256(pixels.tobytes()).hexdigest())
        for folder in ("good", "bad"):
            Image.fromarray(pixels).save(tmp_path / folder / f"kodim{number:02d}.png")
    Image.fromarray(255 - pixels).save(tmp_path / "bad" / "kodim24.png")
    monkeypatch.setattr(kodak, "SHA256", tuple(hashes))
    monkeypatch.setenv("IQA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("IQA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("IQA_MIRROR", raising=False)
    return tmp_path


@pytest.fixture
def server(small_kodak):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=small_kodak)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_the_second_source_helps_where_the_first_is_wrong(small_kodak, server, monkeypatch):
    sources = tuple(f"{server}/{folder}/kodim{{0:02d}}.png" for folder in ("bad", "good"))
    monkeypatch.setattr(kodak, "SOURCES", sources)
    folder = kodak.fetch_kodak(progress=False)
    assert folder == small_kodak / "data" / "kodak" == kodak.kodak_folder()
    assert all(kodak.read(folder, number).shape == (4, 6, 3) for number in range(1, 25))


def test_a_wrong_download_makes_no_folder(small_kodak, server, monkeypatch):
    monkeypatch.setattr(kodak, "SOURCES", (f"{server}/bad/kodim{{0:02d}}.png",))
    with pytest.raises(kodak.KodakUnavailable, match="photograph 24"):
        kodak.fetch_kodak(progress=False)
    assert kodak.kodak_folder() is None


def test_a_folder_of_ones_own_serves_without_a_network(small_kodak, monkeypatch):
    monkeypatch.setattr(kodak, "SOURCES", ())
    (small_kodak / "stick").mkdir()
    (small_kodak / "good").rename(small_kodak / "stick" / "kodak")
    monkeypatch.setenv("IQA_MIRROR", str(small_kodak / "stick"))
    assert len(list(kodak.fetch_kodak(progress=False).iterdir())) == 24
    assert not list((small_kodak / "cache").rglob("*.png"))


def test_without_a_network_one_sentence_comes_soon(small_kodak, monkeypatch):
    monkeypatch.setattr(kodak, "SOURCES", ("http://127.0.0.1:9/{0}.png", "http://name.invalid/{0}.png"))
    start = time.monotonic()
    with pytest.raises(kodak.KodakUnavailable, match=r"no network.*kodim01\.png \.\.\. kodim24\.png"):
        kodak.fetch_kodak(progress=False)
    assert time.monotonic() - start < 2 * fetch.PATIENCE


@pytest.mark.parametrize("harm, word", [("remove", "no such file"), ("cut", "cannot be read"),
                                        ("change", "not those of")])
def test_a_harmed_photograph_is_named(small_kodak, harm, word):
    folder = small_kodak / "good"
    file = folder / "kodim07.png"
    if harm == "remove":
        file.unlink()
    elif harm == "cut":
        file.write_bytes(file.read_bytes()[:60])
    else:
        file.write_bytes((folder / "kodim08.png").read_bytes())
    with pytest.raises(kodak.KodakUnavailable, match=rf"kodim07\.png.*{word}"):
        for number in range(1, 25):
            kodak.read(folder, number)


def test_a_folder_with_a_gap_is_not_taken(small_kodak):
    folder = small_kodak / "data" / "kodak"
    folder.parent.mkdir()
    (small_kodak / "good").rename(folder)
    assert kodak.fetch_kodak() == folder
    (folder / "kodim20.png").unlink()
    with pytest.raises(kodak.KodakUnavailable, match=r"kodim20\.png: no such file"):
        kodak.fetch_kodak()
