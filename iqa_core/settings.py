"""Checks of settings, settings in files, and the table of settings with their sources.

A field of a config names the source of its default in its annotation: the paper, the authors'
code, or ours.

    width: Annotated[int, "code"] = 768
"""

import dataclasses
import math
from numbers import Integral, Real
from pathlib import Path
from typing import get_type_hints

import pandas as pd


def expect_words(config, **known: tuple[str, ...]) -> None:
    """ValueError if a field of a config holds none of the words that it may.

    >>> from iqa_core.reiqa_pairs import PretrainConfig
    >>> expect_words(PretrainConfig(), swap=("on", "off"))
    Traceback (most recent call last):
    ValueError: swap='clean' is unknown; choose one of on, off.
    """
    for name, words in known.items():
        value = getattr(config, name)
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(words)}.")


def expect_whole(config, least: int, *names: str) -> None:
    """ValueError if one of these fields of a config is no whole number of at least `least`.

    >>> from types import SimpleNamespace
    >>> expect_whole(SimpleNamespace(epochs=3, batch=0), 1, "epochs", "batch")
    Traceback (most recent call last):
    ValueError: batch=0 must be a whole number of at least 1.
    """
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name}={value!r} must be a whole number of at least {least}.")


def expect_number(config, low: float, high: float, *names: str) -> None:
    """ValueError if one of these fields of a config is no finite number in [low, high].

    >>> from types import SimpleNamespace
    >>> expect_number(SimpleNamespace(weight_decay=-1e-5), 0, math.inf, "weight_decay")
    Traceback (most recent call last):
    ValueError: weight_decay=-1e-05 must be a number of at least 0.
    """
    for name in names:
        value = getattr(config, name)
        if not _is_number(value) or not low <= value <= high:
            limits = f"of at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
            raise ValueError(f"{name}={value!r} must be a number {limits}.")


def expect_positive(config, *names: str) -> None:
    """ValueError if one of these fields of a config is no finite number above 0.

    >>> from types import SimpleNamespace
    >>> expect_positive(SimpleNamespace(lr=-0.1), "lr")
    Traceback (most recent call last):
    ValueError: lr=-0.1 must be a number above 0.
    """
    for name in names:
        value = getattr(config, name)
        if not _is_number(value) or value <= 0:
            raise ValueError(f"{name}={value!r} must be a number above 0.")


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def expect_switch(config, *names: str) -> None:
    """ValueError if one of these fields of a config is neither True nor False.

    >>> from types import SimpleNamespace
    >>> expect_switch(SimpleNamespace(sda="no"), "sda")
    Traceback (most recent call last):
    ValueError: sda='no' must be True or False.
    """
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value!r} must be True or False.")


def expect_text(config, *names: str, empty: bool = False) -> None:
    """ValueError if one of these fields of a config is no text or path, or is empty.

    With `empty` it may be empty.

    >>> from types import SimpleNamespace
    >>> expect_text(SimpleNamespace(encoder=""), "encoder")
    Traceback (most recent call last):
    ValueError: encoder='' must be a text that is not empty.
    """
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, (str, Path)):
            raise ValueError(f"{name}={value!r} must be a text.")
        if not empty and not str(value).strip():
            raise ValueError(f"{name}={value!r} must be a text that is not empty.")


def to_save(config) -> dict:
    """A config as a dict of plain values, as files of tensors hold it: a path becomes a text.

    >>> from iqa_core.reiqa_pairs import PretrainConfig
    >>> to_save(PretrainConfig(weights=Path("net.pth")))["weights"]
    'net.pth'
    """
    values = dataclasses.asdict(config)
    return {name: str(value) if isinstance(value, Path) else value
            for name, value in values.items()}


def from_saved(config_class: type, saved, path: str | Path):
    """The config in a file that was saved earlier.

    A field that this version does not know, or that the file lacks, would change the method without
    a word: so neither is passed over.

    Args:
        config_class: the dataclass.
        saved: what the file holds for it, a dict of all fields.
        path: the file, for the message.

    Raises:
        ValueError: no dict, unknown or missing fields, or values that the config refuses.

    >>> from iqa_core.yoto import YOTOConfig
    >>> from_saved(YOTOConfig, dataclasses.asdict(YOTOConfig()) | {"colour": 1}, "old.pt")
    Traceback (most recent call last):
    ValueError: old.pt: its YOTOConfig has the unknown field colour. Another version of this kit
    wrote it: train the method again, or load it with that version.
    """
    remedy = ("Another version of this kit wrote it: train the method again, or load it with that "
              "version.")
    if not isinstance(saved, dict):
        raise ValueError(f"{path}: holds no {config_class.__name__}. {remedy}")
    known = [field.name for field in dataclasses.fields(config_class)]
    faults = []
    for word, names in (("unknown", [name for name in saved if name not in known]),
                        ("missing", [name for name in known if name not in saved])):
        if names:
            fields = "fields" if len(names) > 1 else "field"
            faults.append(f"the {word} {fields} {', '.join(map(str, names))}")
    if faults:
        raise ValueError(f"{path}: its {config_class.__name__} has {' and '.join(faults)}. "
                         f"{remedy}")
    try:
        return config_class(**saved)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: its {config_class.__name__} is refused ({error}). "
                         f"{remedy}") from error


def table(config) -> pd.DataFrame:
    """A config as a table: each field with its value and the source of this value.

    The source is the text in the annotation of the field. A value that differs from the default is
    `ours`, whatever the source of the default.

    >>> from iqa_core.reiqa_pairs import PretrainConfig
    >>> table(PretrainConfig(crop=64)).loc[["crop", "momentum"]].values.tolist()
    [[64, 'ours (paper: 160)'], [0.999, 'code']]
    """
    annotations = get_type_hints(type(config), include_extras=True)
    rows = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        source = annotations[field.name].__metadata__[0]
        if value != field.default and not source.startswith("ours"):
            source = f"ours ({source.split(',')[0]}: {field.default})"
        rows[field.name] = value, source
    return pd.DataFrame.from_dict(rows, "index", dtype=object, columns=["value", "source"])
