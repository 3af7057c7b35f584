"""The datasets that the kit knows: their cards, how they lie on disk, how to get and to check them.

    import data_download
    dataset = data_download.load("offline")

Files in reading order:

- `registry`: cards and names of the datasets (`registry.toml`).
- `loading`: a dataset by its name.
- `layouts`: how each dataset lies on disk; `tables`: published scores.
- `fetch`: one file from the network; `archives`: safe unpacking; `get`: a whole dataset.
- `health`: a report on a dataset.
- `made`: the sets that the kit makes itself, and what they are made from.
"""

from data_download.loading import inspect, load
from data_download.registry import available, cards, find_name, overview

__all__ = ["available", "cards", "find_name", "inspect", "load", "overview"]
