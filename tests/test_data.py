"""The dataset contract, splits that share no content, loaders that repeat, and one sentence for each fault."""

import numpy as np
import pandas as pd
import pytest
import torch

import data_download
from iqa_core import data, images


@pytest.fixture
def own(tmp_path):
    """Ten images of five contents with references and a DMOS-like column, as a CSV and a folder."""
    rows = []
    for i in range(10):
        content = f"c{i // 2}"
        for name in (f"d{i}.png", f"{content}.png"):
            images.save(tmp_path / name, torch.full((3, 24, 40), i / 10))
        rows.append((f"d{i}.png", 10.0 * i, f"{content}.png"))
    pd.DataFrame(rows, columns=["image", "score", "reference"]).to_csv(tmp_path / "own.csv", index=False)
    return tmp_path / "own.csv"


def test_own_table_is_scaled_and_directed(own):
    up = data.from_csv(own, low=0, high=100)
    assert list(up.table.columns[:8]) == data.COLUMNS
    assert up.scores[0] == 0 and up.scores[-1] == pytest.approx(0.9)
    down = data.from_csv(own, low=0, high=100, higher_better=False)
    assert np.allclose(down.scores, 1 - up.scores) and down.table["raw_score"].iloc[-1] == 90
    assert up.table["content"].nunique() == 5  # the reference is the content
    assert up.reference(3).shape == (3, 24, 40)


def test_pyiqas_tables_are_read_like_own_ones(own):
    frame = pd.read_csv(own)
    pyiqa = pd.DataFrame({"ref_name": frame["reference"], "dist_name": frame["image"], "mos": frame["score"],
                          "ratio802_seed123_split_01": ["train"] * 8 + ["val"] * 2})
    pyiqa.to_csv(own.with_name("meta_info_Own.csv"), index=False)
    plain = data.from_csv(own, low=0, high=100)
    read = data.from_csv(own.with_name("meta_info_Own.csv"), low=0, high=100, split="ratio802_seed123_split_01")
    for column in ("image", "reference", "score", "content"):
        assert read.table[column].tolist() == plain.table[column].tolist()
    assert data.splits(read, 0)[2].table["image"].tolist() == ["d8.png", "d9.png"]


@pytest.mark.parametrize("name", [name for name, card in data_download.cards().items() if card.table])
def test_published_scores_load_without_images_and_within_their_range(name):
    dataset, card = data_download.load(name, images=False), data_download.cards()[name]
    assert ((dataset.scores >= 0) & (dataset.scores <= 1)).all()
    assert len(dataset) == card.images - (name == "clive")  # the published table lacks 100.bmp
    direction = np.corrcoef(dataset.scores, dataset.table["raw_score"])[0, 1]
    assert direction == pytest.approx(1 if card.higher_better else -1)
    with pytest.raises(ValueError, match="no such file"):
        dataset.image(0)


def test_sets_without_a_table_and_own_tables_say_what_to_do():
    with pytest.raises(data.DatasetError, match="no score table comes with this kit. Choose one of"):
        data_download.load("kodak", images=False)
    with pytest.raises(data.DatasetError, match="own: this card describes tables of your own"):
        data_download.load("own")


def edited(own, **changes):
    frame = pd.read_csv(own)
    for column, (row, value) in changes.items():
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = value
    frame.to_csv(own, index=False)
    return own


@pytest.mark.parametrize("change, sentence", [
    (dict(score=(4, np.nan)), r"1 of 10 scores are no number, first '' of d4\.png in row 6"),
    (dict(score=(4, "good")), r"1 of 10 scores are no number, first 'good' of d4\.png"),
    (dict(score=(4, 400)), r"score 400 \(d4\.png\) in row 6 does not fit the range 0 to 100"),
    (dict(image=(4, "gone.png")), r"gone\.png: no such image \(1 of 15"),
    (dict(reference=(4, "gone.png")), r"gone\.png: no such image"),
])
def test_faults_of_a_table_are_named(own, change, sentence):
    with pytest.raises(data.DatasetError, match=sentence):
        data.from_csv(edited(own, **change), low=0, high=100)


def test_unknown_column_and_absent_sets_are_named(own, tmp_path):
    pd.read_csv(own).rename(columns={"score": "mos"}).to_csv(own, index=False)
    with pytest.raises(data.DatasetError, match="no column 'score'; its columns are 'image', 'mos', 'reference'"):
        data.from_csv(own)
    with pytest.raises(data.DatasetError, match="Get BIQ2021 with `python -m data_download get biq2021`"):
        data_download.load("biq2021", root=tmp_path)
    with pytest.raises(data.DatasetError, match="'flickr' is not a known dataset"):
        data_download.load("flickr")
    with pytest.raises(data.DatasetError, match=r"absent\.csv: no such file"):
        data.from_csv(tmp_path / "absent.csv")
    (tmp_path / "torn.csv").write_bytes(b'image,score\n"a.png,1\n\x00\xff')
    with pytest.raises(data.DatasetError, match=r"torn\.csv"):
        data.from_csv(tmp_path / "torn.csv")


def test_a_corrupt_image_in_the_middle_is_named(own):
    (own.parent / "d5.png").write_bytes(b"\x89PNG broken")
    dataset = data.from_csv(own)
    assert dataset.image(4).shape == (3, 24, 40)
    with pytest.raises(images.ImageError, match=r"d5\.png: cannot be read"):
        list(data.loader(dataset, size=16, batch_size=2, shuffle=False))


def miniature_biq(tmp_path, parts):
    (tmp_path / "biq2021/Images").mkdir(parents=True)
    for part, names in parts.items():
        for name in names:
            images.save(tmp_path / "biq2021/Images" / name, torch.rand(3, 8, 8))
        table = pd.DataFrame({"Image Name": [name.replace(".JPG", ".jpg") for name in names], "MOS": 0.5})
        table.to_csv(tmp_path / f"biq2021/{part} (Images and MOS).csv", index=False)
    return data_download.load("biq2021", root=tmp_path)


def test_biq2021_official_test_part_is_kept(tmp_path):
    names = {"Train": [f"ss01 ({i}).jpg" for i in range(10)], "Test": ["ss02 (1014).JPG", "ss02 (3).jpg"]}
    dataset = miniature_biq(tmp_path, names)
    assert "Images/ss02 (1014).JPG" in set(dataset.table["image"])  # the table says .jpg
    for seed in range(3):
        train, val, test = data.splits(dataset, seed)
        assert set(test.table["split"]) == {"test"} and len(test) == 2
        assert (len(train), len(val)) == (9, 1)


def test_biq2021_without_its_test_part_is_split_by_seed(tmp_path):
    dataset = miniature_biq(tmp_path, {"Train": [f"ss01 ({i}).jpg" for i in range(10)]})
    assert [len(part) for part in data.splits(dataset, 0)] == [7, 1, 2]


def test_splits_share_no_content_and_repeat(own):
    dataset = data.from_csv(own)
    for seed in range(5):
        parts = data.splits(dataset, seed)
        contents = [set(part.table["content"]) for part in parts]
        assert not (contents[0] & contents[1] or contents[0] & contents[2] or contents[1] & contents[2])
        assert sum(map(len, parts)) == len(dataset)
        shuffled = dataset.subset(np.random.default_rng(seed).permutation(len(dataset)))
        again = data.splits(shuffled, seed)  # the order of rows does not matter
        assert [sorted(a.table["image"]) for a in parts] == [sorted(b.table["image"]) for b in again]
    assert len({tuple(data.splits(dataset, seed)[2].table["image"]) for seed in range(10)}) > 1


def test_an_official_split_that_shares_content_is_refused(own):
    frame = pd.read_csv(own)
    frame["split"] = ["train", "test"] * 5
    frame.to_csv(own, index=False)
    with pytest.raises(data.DatasetError, match="lies in two parts"):
        data.splits(data.from_csv(own), 0)


def test_too_few_contents_are_said(own):
    with pytest.raises(data.DatasetError, match="2 contents are too few"):
        data.splits(data.from_csv(own).subset(range(4)), 0)


def test_loader_is_the_same_with_and_without_workers_and_new_each_epoch(own):
    dataset = data.from_csv(own)
    plain, workers = (data.loader(dataset, size=16, batch_size=4, seed=1, flip=True, workers=n) for n in (0, 2))
    first = [batch["row"] for batch in plain]
    workers.sampler.epoch = plain.sampler.epoch  # both go on with the second epoch
    second = list(plain)
    for a, b in zip(second, workers, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in ("x", "x_ref", "score", "row"))
    assert not torch.equal(torch.cat(first), torch.cat([batch["row"] for batch in second]))


def test_loader_keeps_what_fits_and_gives_the_same(own):
    dataset = data.from_csv(own)
    kept, read = (data.loader(dataset, 16, 4, keep_gb=gb) for gb in (1, 0))
    for _ in range(2):  # the second epoch comes from memory
        for a, b in zip(kept, read, strict=True):
            assert torch.equal(a["x"], b["x"])
    assert set(dataset.table["image"]) <= set(kept.dataset.in_memory) and not read.dataset.in_memory
    alone = next(iter(data.loader(dataset, 16, 4, references=False)))
    assert "x_ref" not in alone and torch.equal(alone["x"], next(iter(data.loader(dataset, 16, 4)))["x"])


def test_own_tables_may_bring_a_raw_score(own):
    table = pd.read_csv(own)
    table.assign(raw_score=7).to_csv(own, index=False)
    assert np.allclose(data.from_csv(own).table["raw_score"], table["score"])


def test_loader_crops_are_aligned_with_their_reference(tmp_path):
    x = torch.rand(3, 40, 40)
    images.save(tmp_path / "r.png", x)
    rows = [(f"d{i}.png", i, "r.png") for i in range(4)]
    for name, *_ in rows:
        images.save(tmp_path / name, x)
    pd.DataFrame(rows, columns=["image", "score", "reference"]).to_csv(tmp_path / "t.csv", index=False)
    for batch in data.loader(data.from_csv(tmp_path / "t.csv"), size=16, batch_size=4, flip=True):
        assert torch.equal(batch["x"], batch["x_ref"])
        assert not torch.equal(batch["x"][0], batch["x"][1])  # each image has a crop of its own


def with_index(dataset, index):
    """The same dataset, with another index on its table."""
    return data.Dataset(dataset.name, dataset.table.set_axis(index), dataset.root, dataset.card)


@pytest.mark.parametrize("index", [range(10), range(9, -1, -1), range(100, 110), list("abcdefghij"), [0] * 10,
                                   [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]])
def test_thin_takes_rows_by_position_whatever_the_index(own, index):
    dataset = data.from_csv(own)
    for at_most in (1, 4, 9):
        expected = dataset.thin(at_most).table["image"].tolist()
        assert with_index(dataset, index).thin(at_most).table["image"].tolist() == expected
    assert dataset.thin(4).table["image"].tolist() == ["d0.png", "d3.png", "d6.png", "d9.png"]
    with pytest.raises(ValueError, match="at_most=0 leaves no image"):
        dataset.thin(0)


def test_subset_matches_a_mask_by_its_index(own):
    dataset = with_index(data.from_csv(own), range(100, 110))
    mask = dataset.table["image"].isin(["d2.png", "d7.png"])
    expected = ["d2.png", "d7.png"]
    for same in (mask, mask.sample(frac=1, random_state=0), mask.to_numpy(), mask.tolist(), [2, 7], mask.astype("boolean")):
        assert dataset.subset(same).table["image"].tolist() == expected
    assert len(dataset.subset([])) == 0
    with pytest.raises(data.DatasetError, match="the mask has another index than the table"):
        dataset.subset(mask.reset_index(drop=True))
    with pytest.raises(data.DatasetError, match="the mask has 9 values for 10 images"):
        dataset.subset(mask.to_numpy()[:9])


@pytest.mark.parametrize("content", [[None] * 10, [""] * 10, [np.nan] * 8 + ["x"] * 2, [1, 1, 2, 2] + ["x"] * 6,
                                     [1, 1, 2, 2, 3, 3, 4, 4, 5, 5], [0.5] * 4 + [np.nan] * 6])
def test_splits_of_contents_that_are_empty_or_numbers(own, content):
    dataset = data.from_csv(own)
    by_hand = data.Dataset("hand", dataset.table.assign(content=pd.Series(content, dtype=object)), own.parent, dataset.card)
    parts = data.splits(by_hand, 0)
    contents = [set(data.contents(part.table)) for part in parts]
    assert sum(map(len, parts)) == 10 and min(map(len, parts)) > 0
    assert not (contents[0] & contents[1] or contents[0] & contents[2] or contents[1] & contents[2])


def test_references_that_are_partly_missing_matter_only_where_they_are_needed(own):
    dataset = data.from_csv(own)
    dataset.table["reference"] = dataset.table["reference"].where(dataset.table.index != 4, np.nan)
    assert [dataset.has_reference(row) for row in (3, 4, 5)] == [True, False, True]
    assert dataset.image(4).shape == (3, 24, 40)
    with pytest.raises(data.DatasetError, match="d4.png has no reference"):
        dataset.reference(4)


@pytest.mark.parametrize("spelling, name", [
    ("kadid10k", "kadid10k"), ("KADID10K", "kadid10k"), ("KADID-10k", "kadid10k"), ("kadid 10k", "kadid10k"),
    ("kadid_10K", "kadid10k"), ("TID2013", "tid2013"), ("TID2013-Kodak", "tid2013-kodak"), ("tid2013 kodak", "tid2013-kodak"),
    ("LIVE", "live"), ("LIVE Challenge", "clive"), ("live_challenge", "clive"), ("LIVE in the Wild", "clive"),
    ("KonIQ-10k", "koniq10k"), ("PaQ-2-PiQ", "flive"), ("AGIQA-3K", "agiqa3k"), ("Offline", "offline")])
def test_a_dataset_is_found_however_it_is_spelt(spelling, name):
    assert data_download.find_name(spelling) == name


def test_every_name_finds_itself():
    assert [data_download.find_name(name) for name in data_download.cards()] == [*data_download.cards()]


@pytest.mark.parametrize("wrong, near", [("kadid", "kadid10k"), ("koniq", "koniq10k"), ("TID2012", "tid2013"),
                                         ("biq2020", "biq2021"), ("kodac", "kodak")])
def test_an_unknown_name_gets_the_nearest(wrong, near):
    with pytest.raises(data.DatasetError, match=f"{wrong!r} is not a known dataset. Did you mean .*{near}"):
        data_download.load(wrong)


# ---- any DataFrame -----------------------------------------------------------------------------


def test_a_frame_gives_the_dataset_of_the_same_csv(own):
    frame = pd.read_csv(own).assign(level=[0, 1, 2, 3, 4] * 2, distortion="grey", split="Train", seed=7)
    frame.to_csv(own, index=False)
    before = frame.copy()
    by_frame = data.from_frame(frame, own.parent, low=0, high=100, higher_better=False)
    by_csv = data.from_csv(own, low=0, high=100, higher_better=False)
    pd.testing.assert_frame_equal(by_frame.table, by_csv.table, check_dtype=False)
    pd.testing.assert_frame_equal(frame, before)  # it is not changed
    assert by_frame.name == "own" and by_frame.root == own.parent and by_frame.card.reference
    assert by_frame.reference(3).shape == (3, 24, 40)
    again = data.Dataset.from_frame(by_frame.table, own.parent, "again", low=0, high=1)
    assert again.scores.tolist() == by_frame.scores.tolist() and again.name == "again"


@pytest.mark.parametrize("index", [list("abcdefghij"), [0] * 10, range(50, 60),
                                   pd.MultiIndex.from_product([range(5), ["x", "y"]])])
def test_the_index_of_a_frame_only_names_its_rows(own, index):
    frame = pd.read_csv(own)
    plain = data.from_frame(frame, own.parent)
    indexed = data.from_frame(frame.set_axis(index), own.parent)
    pd.testing.assert_frame_equal(indexed.table, plain.table)


def test_columns_of_a_frame_in_any_case_with_paths_and_missing_values(own):
    frame = pd.read_csv(own).rename(columns={"image": "Image", "score": " Score "})
    frame["Image"] = [own.parent / name for name in frame["Image"]]  # paths, not texts
    frame["reference"] = frame["reference"].where(frame.index < 8)
    frame["level"] = [np.nan, 1.5] * 5
    dataset = data.from_frame(frame, own.parent)
    assert dataset.image(9).shape == (3, 24, 40)
    assert [dataset.has_reference(row) for row in (7, 8)] == [True, False]
    assert dataset.table["level"].tolist() == [0, 1.5] * 5


@pytest.mark.parametrize("change, sentence", [
    (dict(score=("e", np.nan)), "own: 1 of 10 scores are no number, first 'nan' of d4.png in row e. Correct"),
    (dict(score=("e", "good")), "first 'good' of d4.png in row e. Correct or remove these rows."),
    (dict(score=("e", 400)), "own: score 400 (d4.png) in row e does not fit the range 0 to 100"),
    (dict(image=("e", None)), "own: the name of the image is missing in row e (1 such rows)."),
    (dict(image=("e", "gone.png")), "gone.png: no such image (1 of 15 that the table names are missing) in row e"),
    (dict(image=("e", "D4.png")), "d4.png is there: write that name"),
    (dict(image=("e", "d3.png"), reference=("e", "c1.png")), "own: d3.png stands in rows d, e (1 such images)."),
    (dict(reference=("e", "gone.png")), "gone.png: no such image"),
    (dict(split=("e", "holdout")), "own: row e, column 'split' holds 'holdout', which is no part (1 such rows)."),
    (dict(level=("e", "strong")), "own: row e, column 'level' holds 'strong', which is no number"),
])
def test_faults_of_a_frame_are_named_by_its_index(own, change, sentence):
    frame = pd.read_csv(own).assign(split="train", level=1).astype(object).set_axis(list("abcdefghij"))
    for column, (row, value) in change.items():
        frame.loc[row, column] = value
    with pytest.raises(data.DatasetError) as raised:
        data.from_frame(frame, own.parent, low=0, high=100)
    assert sentence in str(raised.value)


@pytest.mark.parametrize("frame, sentence", [
    (pd.DataFrame({"file": ["a"], "score": [1]}), "own: has no column 'image'; its columns are 'file', 'score'. Rename"),
    (pd.DataFrame({"image": [], "score": []}), "own: has no row"),
    (pd.DataFrame([["a", 1, 2]], columns=["image", "score", "Score"]), "own: has 2 columns named 'score'"),
    (pd.DataFrame({"image": ["a"], "score": ["x"]}), "own: no score is a number, first 'x' in row 0."),
])
def test_frames_that_are_no_table_of_images_are_said(tmp_path, frame, sentence):
    with pytest.raises(data.DatasetError) as raised:
        data.from_frame(frame, tmp_path)
    assert sentence in str(raised.value)
    with pytest.raises(data.DatasetError, match="absent: no such folder. Give the folder that the paths in mine"):
        data.from_frame(pd.DataFrame({"image": ["a"], "score": [1]}), tmp_path / "absent", name="mine")


def test_ones_without_twos_in_a_frame_are_said_to_the_caller(own):
    frame = pd.read_csv(own).assign(split=[0, 1] * 5)
    for read in (data.from_frame, data.Dataset.from_frame):
        with pytest.warns(UserWarning, match="own: column 'split' holds 1, but no 2") as caught:
            assert read(frame, own.parent).table["split"].tolist() == ["train", "val"] * 5
        assert caught[0].filename == __file__


def test_examples_have_contents_levels_and_falling_scores():
    dataset = data.example(count=5, levels=3, height=40, width=48)
    assert len(dataset) == 15 and dataset.image(14).shape == (3, 40, 48)
    assert len(set(dataset.scores)) == 15 and 0 < dataset.scores.min() < dataset.scores.max() < 1
    errors = [(dataset.image(row) - dataset.reference(row)).abs().mean().item() for row in range(15)]
    for rows in (range(0, 3), range(12, 15)):  # the levels of one content
        assert np.all(np.diff([errors[row] for row in rows]) > 0)
    train, val, test = data.splits(dataset, 0)
    assert (len(train), len(val), len(test)) == (9, 3, 3)
