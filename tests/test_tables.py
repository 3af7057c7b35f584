"""Tables that readers bring: each usual way to write one reads the same, each fault is one sentence with its row."""

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from data_download import health
from data_download import tables as released
from iqa_core import data, images, meta_info, tables

NAMES = [f"p{i}.png" for i in range(6)]
SCORES = [1, 1.5, 2.25, 3, 4, 5]


@pytest.fixture
def folder(tmp_path):
    """Six images of which no two look alike."""
    for i, name in enumerate(NAMES):
        generator = torch.Generator().manual_seed(i)
        images.save(tmp_path / name, torch.rand(3, 16, 16, generator=generator))
    return tmp_path


def write(folder: Path, content: str | bytes, name: str = "own.csv") -> Path:
    """A table in the folder of its images."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(separator: str = ",", decimal: str = ".", header: str = "image,score") -> str:
    """The table of the six images."""
    lines = [header.replace(",", separator)]
    for name, score in zip(NAMES, SCORES):
        lines.append(f"{name}{separator}{str(score).replace('.', decimal)}")
    return "\n".join(lines) + "\n"


def fault(path: Path, **options) -> str:
    """The sentence of `from_csv`, which is one, names the table, and stands in the health report as well."""
    with pytest.raises(data.DatasetError) as raised:
        data.from_csv(path, **options)
    sentence = str(raised.value)
    assert path.name in sentence and "\n" not in sentence and sentence.endswith(".")
    try:
        report = health.check(path, progress=False, **options)
    except data.DatasetError as error:  # nothing there to examine
        assert str(error) == sentence
    else:
        assert sentence in [found.sentence for found in report.faults] and sentence in str(report)
    return sentence


# ---- how a table may be written ----------------------------------------------------------------


@pytest.mark.parametrize("content", [
    rows(),
    rows(";"),
    rows("\t"),
    rows("|"),
    rows(" "),
    rows(";", ","),
    rows("\t", ","),
    rows("|", ","),
    rows("; "),
    rows().replace("\n", "\r\n"),
    rows().replace("\n", "\r"),
    "\ufeff" + rows(";"),
    rows().encode("utf-16"),
    rows("\t", ",").encode("utf-16"),
    rows().encode("utf-16-le"),
    rows().encode("utf-16-be"),
    rows().encode("utf-32"),
    rows().rstrip("\n"),
    rows().replace("\n", "\n\n"),
    "\n" + rows(),
    rows().replace("\n", ",\n"),
    rows(";", ",").replace("\n", ";;\n"),
    rows(header="Image,Score"),
    rows(";", header=" IMAGE , SCORE "),
    rows(header='"image","score"'),
    "sep=;\n" + rows(";", ","),
    "sep=\t\n" + rows("\t"),
    pd.DataFrame({"image": NAMES, "score": SCORES}).to_csv(),  # with the row numbers of pandas
    "".join(f'"{line.split(",")[0]}","{line.split(",")[1]}"\n' for line in rows().splitlines()),
])
def test_every_usual_way_to_write_a_table_reads_the_same(folder, content):
    dataset = data.from_csv(write(folder, content), low=1, high=5)
    assert dataset.table["image"].tolist() == NAMES
    assert dataset.table["raw_score"].tolist() == SCORES
    assert dataset.scores.tolist() == [(score - 1) / 4 for score in SCORES]
    assert health.check(folder / "own.csv", low=1, high=5, progress=False).faults == []


@pytest.mark.parametrize("name", ["own.CSV", "own.tsv", "own.Tsv", "own.txt", "own.TXT", "own.tab", "own"])
def test_the_suffix_does_not_matter(folder, name):
    path = write(folder, rows("\t"), name)
    assert len(data.from_csv(path)) == 6
    assert health.check(path, progress=False).dataset.table["image"].tolist() == NAMES


def test_names_with_separators_and_foreign_letters_are_read(folder):
    names = ["a, b.png", "c;d.png", "größe.png", "e 'f'.png"]
    for name in names:
        images.save(folder / name, torch.rand(3, 8, 8))
    text = "image;score\n" + "".join(f'"{name}";{i},5\n' for i, name in enumerate(names))
    for encoding in ("utf-8", "utf-8-sig", "cp1252", "utf-16"):
        table = data.from_csv(write(folder, text.encode(encoding))).table
        assert table["image"].tolist() == names and table["raw_score"].tolist() == [0.5, 1.5, 2.5, 3.5]


@pytest.mark.skipif(os.name == "nt", reason="Windows names are no bytes")
def test_names_that_are_no_utf8_on_the_disk_are_found(folder):
    odd = os.fsencode(folder) + b"/gr\xf6\xdfe.png"
    try:
        os.rename(folder / "p0.png", odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    dataset = data.from_csv(write(folder, b"image,score\ngr\xf6\xdfe.png,1\np1.png,2\n"))
    assert dataset.image(0).shape == (3, 16, 16)


@pytest.mark.parametrize("name", ["NA", "None", "nan", "null", "N/A", "1", "01", "1e5", "True", "#N/A.png"])
def test_a_name_that_looks_like_something_else_is_a_name(folder, name):
    target = folder / name
    target.parent.mkdir(exist_ok=True)
    target.write_bytes((folder / "p0.png").read_bytes())
    dataset = data.from_csv(write(folder, f"image,score,content,distortion\n{name},1,{name},{name}\np1.png,5,x,y\n"))
    assert dataset.table.loc[0, ["image", "content", "distortion"]].tolist() == [name] * 3
    assert dataset.image(0).shape == (3, 16, 16)


@pytest.mark.parametrize("spelling", ["sub/a.png", "./sub/a.png", "sub\\a.png", ".\\sub\\a.png", "sub//a.png",
                                      "{folder}/sub/a.png", "~/sub/a.png"])
def test_paths_of_every_spelling_are_found(folder, spelling, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    images.save(folder / "sub/a.png", torch.rand(3, 8, 8))
    written = spelling.format(folder=folder)
    path = write(folder, f"image,score,reference\n{written},1,{written}\np1.png,2,p1.png\n")
    dataset = data.from_csv(path)
    assert dataset.image(0).shape == dataset.reference(0).shape == (3, 8, 8)


def test_home_and_a_folder_of_images_are_understood(folder, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    write(folder, rows())
    assert len(data.from_csv("~/own.csv")) == len(data.from_csv("~/own.csv", "~")) == 6
    with pytest.raises(data.DatasetError, match="absent: no such folder. Give the folder that the paths in own.csv"):
        data.from_csv("~/own.csv", folder / "absent")


def test_empty_cells_of_further_columns_have_their_defaults(folder):
    path = write(folder, "image,score,reference,content,split,distortion,level,note\n"
                         "p0.png,1,,,,,,\np1.png,2,p0.png,,,blur,1,\np2.png,3,p0.png, ,,blur,2.5,\n"
                         "p3.png,4,,c,,,0,x\np4.png,5,p5.png,c ,,,,\np5.png,5,,,,,,\n")
    table = data.from_csv(path).table
    assert table["content"].tolist() == ["p0.png", "p0.png", "p0.png", "c", "c", "p5.png"]
    assert table["level"].tolist() == [0, 1, 2.5, 0, 0, 0]
    assert table["reference"].tolist() == ["", "p0.png", "p0.png", "", "p5.png", ""]
    assert set(table["split"]) == {""} and table["note"].tolist() == ["", "", "", "x", "", ""]
    parts = data.splits(data.from_csv(path), 0)
    assert sum(map(len, parts)) == 6


def test_what_else_a_table_brings_keeps_its_type(folder):
    frame = pd.DataFrame({"image": NAMES, "score": SCORES, "seed": 7, "sharp": 0.5, "exact": True, "note": "x"})
    table = data.from_csv(write(folder, frame.to_csv(index=False))).table
    assert table["seed"].tolist() == [7] * 6 and table["sharp"].tolist() == [0.5] * 6
    assert table["exact"].all() and table["exact"].dtype == bool and table["note"].tolist() == ["x"] * 6


def test_references_that_are_all_empty_make_no_set_with_references(folder):
    frame = pd.DataFrame({"image": NAMES, "score": SCORES, "reference": ""})
    dataset = data.from_csv(write(folder, frame.to_csv(index=False)))
    assert not dataset.card.reference
    with pytest.raises(data.DatasetError, match="p2.png has no reference"):
        dataset.reference(2)


# ---- words for the parts -----------------------------------------------------------------------

WORDS = {"train": ["train", "Train", "TRAINING", " training ", "tr", "0", "0.0"],
         "val": ["val", "Val", "valid", "VALIDATION", "dev", "1", "1.0"],
         "test": ["test", "Test", "TEST", "testing", " Test", "2", "2.0"]}


@pytest.mark.parametrize("part, word", [(part, word) for part, words in WORDS.items() for word in words])
def test_every_word_for_a_part_is_known_in_tables_of_both_kinds_and_by_hand(folder, part, word):
    own = "image,score,Split\n" + "".join(f"{name},{i},{word if i < 3 else ''}\n" for i, name in enumerate(NAMES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = data.from_csv(write(folder, own))
    expected = [part] * 3 + [""] * 3
    assert dataset.table["split"].tolist() == expected
    pyiqa = own.replace("image,score,Split", "img_name,mos,official_split")
    assert meta_info.read_meta_info(write(folder, pyiqa, "meta.csv"))["split"].tolist() == expected

    by_hand = data.Dataset("hand", dataset.table.assign(split=[word] * 3 + [None] * 3), folder, dataset.card)
    train, val, test = data.splits(by_hand, 0)
    marked = {"train": train, "val": val, "test": test}[part]
    if part != "train":
        assert marked.table["image"].tolist() == NAMES[:3]
    assert not {*train.table["image"]} & {*test.table["image"]}


@pytest.mark.parametrize("word", ["holdout", "tets", "eval", "3", "-1", "0.5", "True", "train/test", "x", "nan"])
def test_an_unknown_word_for_a_part_is_an_error_everywhere(folder, word):
    text = "image,score,split\n" + "".join(f"{name},{i},{word if i == 4 else 'train'}\n" for i, name in enumerate(NAMES))
    sentence = fault(write(folder, text))
    assert f"row 6, column 'split' holds '{word}'" in sentence and "testing" in sentence and "validation" in sentence
    with pytest.raises(data.DatasetError, match="row 6, column 'split' holds"):
        meta_info.read_meta_info(write(folder, text.replace("image,score", "img_name,mos"), "meta.csv"))
    dataset = data.from_csv(write(folder, rows()))
    by_hand = data.Dataset("hand", dataset.table.assign(split=["train"] * 4 + [word, "train"]), folder, dataset.card)
    with pytest.raises(data.DatasetError, match="hand: the split of p4.png is .*, which is no part"):
        data.splits(by_hand, 0)


@pytest.mark.parametrize("column", [
    pd.Series([0, 0, 1, 2, 2, 2]), pd.Series([0.0, 0, 1, 2, 2, 2]), pd.Series([0, 0, 1, 2, 2, 2], dtype="Int64"),
    pd.Series(["0", "0", "1", "2", "2", "2"]), pd.Series(["train", "tr", "val", "Test", "test", "TEST"], dtype="category"),
    pd.Series(["train", None, "val", "test", "test", "test"]), pd.Series([None, np.nan, "val", "test", "test", "test"], dtype=object)])
def test_splits_of_any_column_type(folder, column):
    dataset = data.from_csv(write(folder, rows()))
    by_hand = data.Dataset("hand", dataset.table.assign(split=column), folder, dataset.card)
    before = by_hand.table.copy()
    assert [part.table["image"].tolist() for part in data.splits(by_hand, 0)] == [NAMES[:2], NAMES[2:3], NAMES[3:]]
    pd.testing.assert_frame_equal(by_hand.table, before)  # nothing is written into the table


@pytest.mark.parametrize("marks, wanted", [
    ("......", {}), ("TT....", {"test": 2}), ("rrrrTT", {"test": 2}), ("VV....", {"val": 2}), ("rrVVTT", {"val": 2, "test": 2})])
def test_a_split_may_mark_only_some_rows(folder, marks, wanted):
    word = {".": "", "T": "Test", "V": "Validation", "r": "Train"}
    text = "image,score,split\n" + "".join(f"{name},{i},{word[m]}\n" for i, (name, m) in enumerate(zip(NAMES, marks)))
    dataset = data.from_csv(write(folder, text))
    for seed in range(4):
        parts = dict(zip(("train", "val", "test"), data.splits(dataset, seed)))
        assert sum(map(len, parts.values())) == 6
        for part, count in wanted.items():
            mark = part[0].upper()
            assert parts[part].table["image"].tolist() == [n for n, m in zip(NAMES, marks) if m == mark]
            assert len(parts[part]) == count


def test_ones_without_twos_are_read_as_val_and_said(folder):
    text = "image,score,split\n" + "".join(f"{name},{i},{i % 2}\n" for i, name in enumerate(NAMES))
    with pytest.warns(UserWarning, match="holds 1, but no 2: 1 is read as val") as caught:
        dataset = data.from_csv(write(folder, text))
    assert caught[0].filename == __file__
    assert dataset.table["split"].tolist() == ["train", "val"] * 3


def test_another_column_may_be_followed(folder):
    fold = ["test"] * 2 + ["train"] * 4
    frame = pd.DataFrame({"image": NAMES, "score": SCORES, "fold": fold, "split": "train"})
    path = write(folder, frame.to_csv(index=False))
    assert data.from_csv(path, split="fold").table["split"].tolist() == ["test"] * 2 + ["train"] * 4
    assert set(data.from_csv(path).table["split"]) == {"train"}
    with pytest.raises(data.DatasetError, match="has no column 'wrong' to split by; its columns are"):
        data.from_csv(path, split="wrong")


# ---- faults ------------------------------------------------------------------------------------


@pytest.mark.parametrize("line, sentence", [
    (",3", "the name of the image is missing in row 8 (1 such rows)"),
    ("   ,3", "the name of the image is missing in row 8"),
    ('"",3', "the name of the image is missing in row 8"),
    ("gone.png,3", "no such image (1 of 7 that the table names are missing) in row 8 of own.csv. Place them there"),
    ("P0.PNG,3", "p0.png is there: write that name (upper and lower case count)"),
    ("p0,3", "p0.png is there: write that name"),
    ("p0.jpg,3", "no such image"),
    ("elsewhere/p0.png,3", "p0.png is there: write that name"),
    ("C:\\images\\p0.png,3", "no such image"),
    ("p0.png,3", "p0.png stands in rows 2, 8 (1 such images). Average the scores of an image first"),
    ("./p0.png,3", "p0.png stands in rows 2, 8"),
    (".\\p0.png,3", "p0.png stands in rows 2, 8"),
    ("link.png,3", "p0.png and link.png are one file and stand in rows 2, 8"),
    ("hard.png,3", "p0.png and hard.png are one file and stand in rows 2, 8"),
    ("more.png,", "1 of 7 scores are no number, first '' of more.png in row 8"),
    ("more.png", "1 of 7 scores are no number, first '' of more.png in row 8"),
    ("more.png,good", "first 'good' of more.png in row 8"),
    ("more.png,nan", "first 'nan' of more.png in row 8"),
    ("more.png,inf", "first 'inf' of more.png in row 8"),
    ("more.png,1_0", "first '1_0' of more.png in row 8"),
    ("more.png,50%", "first '50%' of more.png in row 8"),
    ('more.png,"3,5"', "first '3,5' of more.png in row 8. Write a point, not a comma"),
    ("more.png,3,5", "row 8 has 3 cells, but the first line names 2 columns (separator: comma)"),
    ("more, b.png,3", "row 8 has 3 cells, but the first line names 2 columns"),
    ("more.png,9", "score 9 (more.png) in row 8 does not fit the range 1 to 5"),
    ("more.png,-1e3", "score -1000 (more.png) in row 8 does not fit the range 1 to 5"),
])
def test_a_faulty_row_is_one_sentence_with_its_number(folder, line, sentence):
    images.save(folder / "more.png", torch.rand(3, 16, 16))
    (folder / "link.png").symlink_to(folder / "p0.png")
    os.link(folder / "p0.png", folder / "hard.png")
    assert sentence in fault(write(folder, rows() + line + "\n"), low=1, high=5)


def test_row_numbers_count_blank_lines_as_a_spreadsheet_does(folder):
    text = "image,score\n\np0.png,1\n\n\np1.png,2\np2.png,bad\n"
    assert "first 'bad' of p2.png in row 7" in fault(write(folder, text))


@pytest.mark.parametrize("word", ["high", "strong", "3 of 5", "1;2", "inf"])
def test_a_level_that_is_no_number_is_named(folder, word):
    levels = [1, 2, word, 3, 4, 5]
    frame = pd.DataFrame({"image": NAMES, "score": SCORES, "reference": "p0.png", "distortion": "blur", "level": levels})
    sentence = fault(write(folder, frame.to_csv(index=False)))
    assert f"row 4, column 'level' holds '{word}'" in sentence and "put words into the column distortion" in sentence


@pytest.mark.parametrize("raters", [2, 3, 7])
def test_a_row_a_rater_gets_the_remedy(folder, raters):
    text = rows() + "".join(rows().split("\n", 1)[1] for _ in range(raters - 1))
    path = write(folder, text)
    assert "(6 such images). Average the scores of an image first, e.g. table.groupby('image'" in fault(path)
    pd.read_csv(path).groupby("image", as_index=False)["score"].mean().to_csv(path, index=False)
    assert data.from_csv(path).table["image"].tolist() == NAMES  # the remedy works


def test_one_image_with_two_references_needs_one_content(folder):
    text = "image,score,reference\np0.png,1,p1.png\np0.png,2,p2.png\np3.png,3,p1.png\n"
    assert "p0.png in row 2 stands in several rows with 2 contents" in fault(write(folder, text))
    text = "image,score,reference,content\np0.png,1,p1.png,a\np0.png,2,p2.png,a\np3.png,3,p1.png,a\n"
    assert len(data.from_csv(write(folder, text))) == 3


@pytest.mark.parametrize("content, sentence", [
    ("", "the table is empty"),
    ("\n\n \n", "the table is empty"),
    ("image,score\n", "has no row below its first line"),
    (rows(header="image,mos"), "has no column 'score'; its columns are 'image', 'mos'"),
    (rows(header="file,score"), "has no column 'image'; its columns are 'file', 'score'"),
    (rows(";", header="picture,mos"), "has no column 'image', 'score'; its columns are 'picture', 'mos'"),
    (rows("#"), "Between columns stands a comma, a semicolon or a tab"),
    (rows().split("\n", 1)[1], "has no column 'image', 'score'; its columns are 'p0.png', '1'"),
    (rows(header="image,score,Score").replace("\n", ",1\n"), "has 2 columns named 'score'"),
    ("image,score,\np0.png,3,5\np1.png,1,\n", "row 2 has '5' in column 3, which has no name"),
    (b"PK\x03\x04 and so on", "is a workbook, not a text table. Save its sheet as CSV"),
    (b"\xd0\xcf\x11\xe0 and so on", "is a workbook"),
    (b"\x89PNG\r\n\x1a\n\x00\x00\x00", "bytes are no text"),
    ('image,score\n"p0.png,1\np1.png,2\n', "A quotation mark may be left open"),
])
def test_what_is_no_table_of_images_and_scores_is_said(folder, content, sentence):
    assert sentence in fault(write(folder, content))


def test_folders_and_absent_tables_are_said(folder):
    with pytest.raises(data.DatasetError, match="is a folder. Give the table"):
        data.from_csv(folder)
    with pytest.raises(data.DatasetError, match=r"absent\.csv: no such file"):
        data.from_csv(folder / "absent.csv")
    with pytest.raises(data.DatasetError, match="is a workbook"):
        data.from_csv(write(folder, "anything", "scores.xlsx"))


@pytest.mark.parametrize("scale, sentence", [
    (dict(low=5, high=1), "low=5 is not below high=1.*higher_better=False"),
    (dict(low=2, high=2), "low=2 is not below high=2"),
    (dict(low=float("nan")), "low=nan is no end of a scale"),
    (dict(high=float("inf")), "high=inf is no end of a scale"),
    (dict(low=2), r"score 1 \(p0.png\) in row 2 does not fit the range 2 to 5"),
])
def test_a_scale_that_cannot_be_is_said(folder, scale, sentence):
    with pytest.raises(data.DatasetError, match=sentence):
        data.from_csv(write(folder, rows()), **scale)


@pytest.mark.parametrize("count", [1, 2, 6])
def test_equal_scores_do_not_tell_the_scale(folder, count):
    path = write(folder, "image,score\n" + "".join(f"{name},3\n" for name in NAMES[:count]))
    assert "all scores are 3, so they do not tell the scale. Give low and high" in fault(path)
    assert data.from_csv(path, low=1, high=5).scores.tolist() == [0.5] * count
    kinds = {found.kind for found in health.check(path, progress=False, low=1, high=5).faults}
    assert kinds == ({"constant"} if count > 1 else set())


def test_no_number_among_the_scores_is_said(folder):
    path = write(folder, "image,score\np0.png,good\np1.png,bad\n")
    assert "no score is a number, first 'good' in row 2" in fault(path)


def test_the_error_has_one_class():
    assert released.DatasetError is data.DatasetError is tables.DatasetError is meta_info.DatasetError
