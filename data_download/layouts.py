"""How each dataset lies on disk: one function a layout, folder in, table out.

A layout returns a pandas table with `image` (path below the folder) and, where the set has them, `raw_score`,
`reference`, `split` (official part), `content`, `distortion`, `level`. `iqa_core.data` completes and checks it.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd


class DatasetError(ValueError):
    """A dataset that is absent or not as its layout says. The message names the file and the remedy."""


def read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read a score table and check that the named columns are there."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file. Place the score table there.")
    try:
        frame = pd.read_csv(path)
    except Exception as error:  # pandas raises many kinds; all mean that this is not a CSV table
        raise DatasetError(f"{path}: cannot be read as a CSV table ({error}). Replace this file.") from error
    missing = [column for column in columns if column not in frame]
    if missing:
        raise DatasetError(f"{path}: has no column {', '.join(map(repr, missing))}; its columns are "
                           f"{', '.join(map(repr, frame.columns))}. Rename them in the first line.")
    return frame


def biq2021(folder: Path) -> pd.DataFrame:
    """BIQ2021 as its repository lies: `Images/`, 'Train (Images and MOS).csv' and 'Test (Images and MOS).csv'.

    One file is named `.JPG` on disk and `.jpg` in the table, so names are matched without case.
    """
    tables = {part: folder / f"{part.title()} (Images and MOS).csv" for part in ("train", "test")}
    if not any(path.is_file() for path in tables.values()):
        raise DatasetError(f"{tables['train']}: no such file. Place the tables of BIQ2021 there.")
    on_disk = {path.name.lower(): path.name for path in (folder / "Images").glob("*")}
    parts = []
    for part, path in tables.items():
        if path.is_file():
            frame = read_csv(path, ["Image Name", "MOS"])
            names = frame["Image Name"].map(lambda name: on_disk.get(str(name).lower(), name))
            parts.append(pd.DataFrame({"image": "Images/" + names.astype(str), "raw_score": frame["MOS"], "split": part}))
    return pd.concat(parts, ignore_index=True)


def flat(folder: Path) -> pd.DataFrame:
    """A folder of PNG pictures without scores (Kodak, CID22)."""
    return pd.DataFrame({"image": sorted(path.name for path in folder.glob("*.png"))})


def made(folder: Path) -> pd.DataFrame:
    """A set that this kit made: `table.csv` with the columns of the dataset table beside the pictures."""
    return read_csv(folder / "table.csv", ["image", "reference", "raw_score", "content", "distortion", "level"])


LAYOUTS = {"biq2021": biq2021, "kodak": flat, "cid22": flat, "offline": made, "tid2013-kodak": made}
