"""pyiqa's tables: what is written reads back the same, and each form that is in use reads."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from data_download.tables import DatasetError
from iqa_core import data, data_checks, images, meta_info

KEPT = ["image", "reference", "raw_score", "score", "content", "split", "distortion", "level"]


def finish(name, frame, folder, card) -> data.Dataset:
    table, faults = data_checks.complete(frame, folder, card)
    return data.without_faults(data.Dataset(name, table, folder, card), faults)


def placed(folder, rows: pd.DataFrame) -> pd.DataFrame:
    for name in {*rows["image"], *rows.get("reference", "")} - {""}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        images.save(folder / name, torch.zeros(3, 8, 8))
    return rows


def full_reference(folder) -> data.Dataset:
    rows = pd.DataFrame({
        "image": ["d/1, a.png", "d/2.png", "d/3.png"], "reference": ["r/A.png", "r/A.png", "r/B.png"],
        "raw_score": [-2.640015016409613, 0.1 + 0.2, 111.7746935263145], "content": ["A", "A", "NA"],
        "distortion": ["jpeg", "None", "01"], "level": [1, 5, 0]})
    card = data.Card("fr", "FR", low=-3, high=112, higher_better=False, reference=True)
    return finish("fr", placed(folder, rows), folder, card)


def no_reference(folder) -> data.Dataset:
    rows = pd.DataFrame({"image": ["a.png", "b.png", "c.png"], "raw_score": [402 / 105, 1.0, 5.0],
                         "split": ["train", "val", "test"], "content": ['a "tray", of sushi', "null", "x y"]})
    return finish("nr", placed(folder, rows), folder, data.Card("nr", "NR", low=1, high=5))


def pristine(folder) -> data.Dataset:
    rows = placed(folder, pd.DataFrame({"image": ["a.png", "b.png"]}))
    return finish("pristine", rows, folder, data.Card("pristine", "Pristine"))


@pytest.mark.parametrize("make, header", [
    (full_reference, "ref_name,dist_name,mos,std,content,distortion,level"),
    (no_reference, "img_name,mos,std,official_split,content,distortion,level"),
    (pristine, "img_name,mos,std,content,distortion,level")])
def test_what_is_written_reads_back_identical(make, header, tmp_path):
    dataset, path = make(tmp_path), tmp_path / "meta_info_Own.csv"
    meta_info.write_meta_info(dataset, path)
    assert path.read_text("utf-8").splitlines()[0] == header and meta_info.is_meta_info(path)
    again = finish(dataset.name, meta_info.read_meta_info(path), tmp_path, dataset.card)
    pd.testing.assert_frame_equal(again.table[KEPT], dataset.table[KEPT], check_exact=True)
    assert not list(tmp_path.glob(".*"))  # no temporary file is left


def test_a_write_that_fails_leaves_the_old_table(tmp_path, monkeypatch):
    def torn(frame, path, **options):
        path.write_text("half")
        raise OSError("disk full")
    (tmp_path / "m.csv").write_text("old")
    monkeypatch.setattr(pd.DataFrame, "to_csv", torn)
    with pytest.raises(OSError, match="disk full"):
        meta_info.write_meta_info(no_reference(tmp_path), tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_text() == "old" and not list(tmp_path.glob(".*"))


def test_random_splits_travel_along(tmp_path):
    dataset, path = full_reference(tmp_path), tmp_path / "m.csv"
    dataset.table["ratio802_seed123_split_01"] = ["train", "train", "val"]
    meta_info.write_meta_info(dataset, path)
    assert list(meta_info.read_meta_info(path)["ratio802_seed123_split_01"]) == ["train", "train", "val"]


def read(tmp_path, text: str, **options) -> pd.DataFrame:
    (tmp_path / "m.csv").write_bytes(text.encode())
    return meta_info.read_meta_info(tmp_path / "m.csv", **options)


@pytest.mark.parametrize("text, reference, split", [
    ("img_name,mos,std,official_split\na.png,1.5,0.2,train\nb.png,2,,test\n", None, ["train", "test"]),
    ("img_name\tmos\tstd\tofficial_split\na.png\t1.5\t0.2\tval\nb.png\t2\t\ttest\n", None, ["val", "test"]),
    ("img_name/patch_name,mos,split\na.png,1.5,0\nb.png,2,2\n", None, ["train", "test"]),
    ("img_name,mos,std,split,c1\na.png,1.5,.2,training,0\nb.png,2,.2,validation,1\n", None, ["train", "val"]),
    ("\ufeffref_name,dist_name,dmos,std\r\nA.png,a.png,1.5,0.2\r\nB.png,b.png,2,0.1\r\n", ["A.png", "B.png"], None),
    ("hq_name,dist_name,elo_score\nA.png,a.png,1.5\nB.png,b.png,2\n", ["A.png", "B.png"], None)])
def test_forms_in_use(text, reference, split, tmp_path):
    table = read(tmp_path, text)
    assert list(table["image"]) == ["a.png", "b.png"] and list(table["raw_score"]) == [1.5, 2.0]
    assert (list(table["reference"]) if "reference" in table else None) == reference
    assert (list(table["split"]) if "split" in table else None) == split


RANDOM = ("img_name,mos,split,ratio802_seed123_split_01,ratio802_seed123_split02\n"
          "a.png,1,0,train,val\nb.png,2,1,val,train\n")


def test_a_random_split_is_chosen_by_name(tmp_path):
    table = read(tmp_path, RANDOM)
    assert list(table["split"]) == ["train", "val"]
    assert list(table["ratio802_seed123_split02"]) == ["val", "train"]
    # 8:0:2 has no validation part: what pyiqa's scripts call val is what a method is judged on
    assert list(read(tmp_path, RANDOM, split="ratio802_seed123_split_01")["split"]) == ["train", "test"]


def test_names_are_looked_up_below_the_folder(tmp_path):
    placed(tmp_path, pd.DataFrame({"image": ["CSIQ/dst_imgs/a.PNG"], "reference": ["CSIQ/src_imgs/A.png"]}))
    table = read(tmp_path, "ref_name,dist_name,dmos\nA.png,a.png,0.5\n", folder=tmp_path)
    assert table.iloc[0][["reference", "image"]].tolist() == ["CSIQ/src_imgs/A.png", "CSIQ/dst_imgs/a.PNG"]


@pytest.mark.parametrize("text, options, sentence", [
    ("img_name,score\na.png,1\n", {}, r"m\.csv: has no column 'mos' or 'dmos' .*Rename them in the first line"),
    ("image,mos\na.png,1\n", {}, r"m\.csv: has no column 'dist_name' or 'img_name'"),
    ("img_name,mos\na.png,good\n", {}, r"m\.csv: row 2, column 'mos': 'good' is no number\. Correct or remove this row"),
    ("img_name,mos,level\na.png,1,x\n", {}, r"m\.csv: row 2, column 'level': 'x' is no number\. Correct or remove this row"),
    ("img_name,mos,official_split\na.png,1,holdout\n", {},
     r"m\.csv: row 2, column 'official_split' holds 'holdout'.*Write train \(training"),
    (RANDOM, {"split": "split_99"}, r"m\.csv: has no column 'split_99' to split by; choose from 'split', 'ratio802"),
    ("img_name,mos\na.png,1\n", {"split": "x"}, r"m\.csv: has no column 'x' to split by; choose from none"),
    ('img_name,mos\n"a.png,1\n', {}, r"m\.csv: cannot be read as a CSV table .*Replace this file")])
def test_faults_are_named(text, options, sentence, tmp_path):
    with pytest.raises(DatasetError, match=sentence):
        read(tmp_path, text, **options)


def test_an_absent_table_is_named(tmp_path):
    assert not meta_info.is_meta_info(tmp_path / "absent.csv")
    with pytest.raises(DatasetError, match=r"absent\.csv: no such file"):
        meta_info.read_meta_info(tmp_path / "absent.csv")


def test_own_tables_are_told_from_pyiqa_s(tmp_path):
    (tmp_path / "own.csv").write_text("image,score,reference\na.png,1,b.png\n")
    assert not meta_info.is_meta_info(tmp_path / "own.csv")
