"""The health report: a clean bill for a clean set, and each planted fault named."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from data_download import health, tables
from data_download.made.offline import photograph
from iqa_core import data, distortions, images

REAL = Path(os.environ.get("IQA_DATA") or "no-data") / "biq2021"


def pattern(seed: int, size: int = 24) -> torch.Tensor:
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def biq(tmp_path):
    """A miniature of BIQ2021: the first 20 rows of each official part with their published scores."""
    published = tables.published("BIQ2021")
    folder = tmp_path / "biq2021"
    for part, rows in (("Train", published[:20]), ("Test", published[20:40])):
        table = pd.DataFrame({"Image Name": rows["image"].str.rpartition("/")[2], "MOS": rows["raw_score"]})
        for row, name in zip(rows.index, table["Image Name"]):
            images.save(folder / "Images" / name, pattern(row))
        table.to_csv(folder / f"{part} (Images and MOS).csv", index=False)
    return folder


def kinds(report) -> set:
    return {fault.kind for fault in report.faults}


def edit(csv: Path, change) -> None:
    frame = pd.read_csv(csv)
    change(frame)
    frame.to_csv(csv, index=False)


def test_a_clean_set_gets_a_clean_bill(biq):
    report = health.check("biq2021", root=biq.parent)
    assert report.faults == [] and "clean, no fault found" in str(report)
    assert report.facts["images"].startswith("40 of 12000; files: 40 of 24 x 24")
    assert report.facts["parts"] == "train 20, test 20"
    assert report.facts["direction"] == "+1.00 is the SRCC of the scores with those published for 40 of these images"
    assert report.facts["copies"] == "none"


def plant_five(folder: Path, train: Path, test: Path) -> dict[str, str]:
    """Five faults, the names that the report must say for each."""
    names = pd.read_csv(train)["Image Name"].tolist()
    corrupt, gone, copied, out = names[3], names[5], names[7], names[9]
    whole = (folder / "Images" / corrupt).read_bytes()
    (folder / "Images" / corrupt).write_bytes(whole[: len(whole) // 2])
    (folder / "Images" / gone).unlink()
    other = pd.read_csv(test)["Image Name"].tolist()[-1]
    shutil.copy(folder / "Images" / copied, folder / "Images" / other)
    for csv in {train, test}:
        edit(csv, lambda frame: frame.update(pd.DataFrame({"MOS": 1 - frame["MOS"]})))
    edit(train, lambda frame: frame.__setitem__("MOS", frame["MOS"].where(frame["Image Name"] != out, 7.5)))
    return {"unreadable": corrupt, "missing": gone, "direction": "the wrong way", "copies": copied, "range": out}


def test_five_planted_faults_are_all_named(biq):
    planted = plant_five(biq, biq / "Train (Images and MOS).csv", biq / "Test (Images and MOS).csv")
    report = health.check("biq2021", root=biq.parent)
    assert kinds(report) == set(planted)
    for fault in report.faults:
        assert planted[fault.kind] in fault.sentence and fault.sentence in str(report)


@pytest.mark.skipif(not REAL.is_dir(), reason="IQA_DATA has no biq2021")
def test_five_planted_faults_in_real_photographs(tmp_path):
    source = pd.read_csv(REAL / "Train (Images and MOS).csv").iloc[::25]
    (tmp_path / "biq2021/Images").mkdir(parents=True)
    for name in source["Image Name"]:
        shutil.copy(REAL / "Images" / name, tmp_path / "biq2021/Images" / name)
    csv = tmp_path / "biq2021/Train (Images and MOS).csv"
    source.to_csv(csv, index=False)
    assert health.check("biq2021", root=tmp_path).faults == []
    planted = plant_five(tmp_path / "biq2021", csv, csv)
    report = health.check("biq2021", root=tmp_path)
    assert kinds(report) == set(planted)
    assert all(planted[fault.kind] in fault.sentence for fault in report.faults)


def test_a_changed_score_is_named(biq):
    edit(biq / "Test (Images and MOS).csv", lambda frame: frame.__setitem__("MOS", [0.123, *frame["MOS"][1:]]))
    [fault] = health.check("biq2021", root=biq.parent).faults
    assert fault.kind == "changed" and "0.123 is published as" in fault.sentence and "(1 such rows)" in fault.sentence


def own(folder: Path, rows: list[tuple], columns: list[str]) -> Path:
    pd.DataFrame(rows, columns=columns).to_csv(folder / "own.csv", index=False)
    return folder / "own.csv"


@pytest.fixture
def rated(tmp_path):
    """12 images of 3 references through 4 blurs, with references and a DMOS-like score."""
    rows = []
    for content in range(3):
        x_ref = pattern(content, 48)
        images.save(tmp_path / f"r{content}.png", x_ref)
        for level in (2, 3, 4, 5):
            images.save(tmp_path / f"d{content}_{level}.png", distortions.distort(x_ref[None], "gaussian_blur", level)[0])
            rows.append((f"d{content}_{level}.png", f"r{content}.png", 20.0 * level + content))
    return own(tmp_path, rows, ["image", "reference", "score"])


def test_without_published_scores_ssim_finds_the_direction(rated):
    right = health.check(rated, low=0, high=110, higher_better=False)
    assert right.faults == [] and "SSIM of 12 images" in right.facts["direction"]
    assert kinds(health.check(rated, low=0, high=110)) == {"direction"}


def test_levels_find_the_direction_before_ssim(rated):
    frame = pd.read_csv(rated)
    frame.assign(level=frame["image"].str[-5].astype(int), distortion="blur").to_csv(rated, index=False)
    report = health.check(rated, low=0, high=110)
    assert kinds(report) == {"direction"} and "minus the level within a type" in report.facts["direction"]


def test_a_reference_of_another_size_is_named(rated):
    images.save(rated.parent / "r1.png", pattern(1, 40))
    assert kinds(health.check(rated, low=0, high=110, higher_better=False)) == {"size"}


def test_reencoded_copies_of_two_contents_are_found_and_versions_of_one_reference_are_not(tmp_path):
    for name, shown in zip("abc", ("chelsea", "coffee", "rocket")):
        images.save(tmp_path / f"{name}.png", photograph(shown))
    copy = distortions.distort(images.load(tmp_path / "b.png")[None], "jpeg", 2)[0]
    images.save(tmp_path / "d.png", copy)
    report = health.check(own(tmp_path, [(f"{n}.png", i) for i, n in enumerate("abcd")], ["image", "score"]))
    assert kinds(report) == {"copies"} and report.copies[["image", "copy"]].values.tolist() == [["b.png", "d.png"]]
    together = [(f"{n}.png", i, "b" if n in "bd" else n) for i, n in enumerate("abcd")]
    report = health.check(own(tmp_path, together, ["image", "score", "content"]))
    assert report.faults == [] and not report.copies["apart"].any() and "each pair is one content" in str(report)


def test_an_official_split_that_shares_content_is_named(tmp_path):
    rows = [(f"{i}.png", i, f"c{i // 2}", "train" if i % 2 else "test") for i in range(8)]
    for name, *_ in rows:
        images.save(tmp_path / name, pattern(int(name[0])))
    [fault] = health.check(own(tmp_path, rows, ["image", "score", "content", "split"])).faults
    assert fault.kind == "split" and "lies in two parts" in fault.sentence


def test_scores_that_are_no_numbers_and_sets_that_are_not_there(biq, tmp_path):
    edit(biq / "Train (Images and MOS).csv", lambda frame: frame.__setitem__("MOS", [np.nan, *frame["MOS"][1:]]))
    assert kinds(health.check("biq2021", root=biq.parent)) == {"no score"}
    with pytest.raises(data.DatasetError, match="get kadid10k"):
        health.check("kadid10k", root=tmp_path)
    with pytest.raises(data.DatasetError, match=r"gone\.csv: no such file"):
        health.check(tmp_path / "gone.csv")


@pytest.mark.skipif(not REAL.is_dir(), reason="IQA_DATA has no biq2021")
def test_kodak_with_a_wrong_image_is_named(tmp_path):
    shutil.copytree(REAL.parent / "kodak", tmp_path / "kodak")
    assert health.check("kodak", root=tmp_path).faults == []
    shutil.copy(tmp_path / "kodak/kodim01.png", tmp_path / "kodak/kodim02.png")
    assert kinds(health.check("kodak", root=tmp_path)) == {"wrong image", "copies"}
