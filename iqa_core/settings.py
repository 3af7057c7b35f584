"""Settings that say where they come from: known from a paper or its code, or chosen by us."""

import dataclasses

import pandas as pd


def said(default, source: str):
    """A field of a config with the place that its default comes from: `paper`, `code` or `ours`."""
    return dataclasses.field(default=default, metadata={"source": source})


def expect_words(config, **known: tuple[str, ...]) -> None:
    """ValueError if a field of a config holds none of the words that it may.

    >>> from iqa_core.pairs import PretrainConfig
    >>> expect_words(PretrainConfig(), swap=("on", "off"))
    Traceback (most recent call last):
    ValueError: swap='clean' is unknown; choose one of on, off.
    """
    for name, words in known.items():
        if getattr(config, name) not in words:
            raise ValueError(f"{name}={getattr(config, name)!r} is unknown; choose one of {', '.join(words)}.")


def table(config) -> pd.DataFrame:
    """A config as a table: every field, its value, and who says so. A changed default counts as ours.

    >>> from iqa_core.pairs import PretrainConfig
    >>> table(PretrainConfig(crop=64)).loc[["crop", "momentum"]].values.tolist()
    [[64, 'ours (paper: 160)'], [0.999, 'code']]
    """
    rows = {}
    for field in dataclasses.fields(config):
        value, source = getattr(config, field.name), field.metadata["source"]
        rows[field.name] = value, source if value == field.default or source.startswith("ours") else (
            f"ours ({source.split(',')[0]}: {field.default})")
    return pd.DataFrame.from_dict(rows, "index", dtype=object, columns=["value", "source"])
