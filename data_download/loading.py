"""Datasets by name, as `iqa_core.data.Dataset`."""

from __future__ import annotations

import importlib
from pathlib import Path

from data_download import registry
from iqa_core.data import Dataset, DatasetError, Fault, without_faults
from iqa_core.data_checks import complete
from iqa_core.files import data_root


def load(name: str, root: str | Path | None = None, images: bool = True) -> Dataset:
    """Load a dataset by name.

    Args:
        name: a name of `cards()`, such as "offline", "tid2013-kodak", "biq2021" or "kadid10k".
        root: folder that holds one folder a dataset; default `$IQA_DATA`. Sets that this kit makes
            ignore it.
        images: False takes the published score table that comes with this kit: all scores, and no
            image.

    Returns:
        Dataset with scores in [0, 1], HIGHER = BETTER (NaN for a set without scores).

    Raises:
        DatasetError: unknown name, absent folder, missing image, NaN or out-of-range score.

    >>> load("offline").table["score"].between(0, 1).all()
    np.True_
    >>> load("kadid10k", images=False)
    Dataset('kadid10k', 10125 images, 81 contents)
    """
    dataset, faults = inspect(name, root, images)
    return without_faults(dataset, faults)


def inspect(name: str, root: str | Path | None = None,
            images: bool = True) -> tuple[Dataset, list[Fault]]:
    """Read a dataset and what is wrong with its table, without raising for a fault in a row.

    Arguments of `load`.
    """
    from data_download.layouts import LAYOUTS  # here, so that the package is imported quickly
    from data_download.tables import published

    name = registry.find_name(name)
    card = registry.cards()[name]
    if card.needs == "your files":
        raise DatasetError(f"{name}: this card describes tables of your own. {card.by_hand}")
    if not images:
        if not card.table:
            others = [other.name for other in registry.cards().values() if other.table]
            raise DatasetError(f"{name}: no score table comes with this kit. Choose one of "
                               f"{', '.join(others)}.")
        root = Path()
        frame = published(card.table)
    else:
        if card.made:  # by the module of its name
            maker = importlib.import_module(f"data_download.made.{name.replace('-', '_')}")
            root = maker.prepare()
        else:
            root = Path(root or data_root()) / card.folder
        if not root.is_dir():
            raise DatasetError(f"{root}: no such folder. Get {card.title} with "
                               f"`python -m data_download get {name}`, or point IQA_DATA to the "
                               "folder that holds it.")
        frame = LAYOUTS[name](root)
    table, faults = complete(frame, root, card, check_files=images)
    return Dataset(name, table, root, card), faults
