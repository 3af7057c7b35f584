"""The methods of the command line: their names, and the fitted ones that come with this kit.

The fitted methods lie in `weights`; their cards, and on what they were trained, in
`weights/README.md`. They were trained on images of 512 to 768 pixels.
"""

import difflib
import re
from importlib import import_module
from pathlib import Path

from iqa_core.files import expand

FULL_REFERENCE = ("psnr", "ssim", "ms_ssim")
# Module and class of each trained method. A module is imported when its method is asked for.
CLASSES = {
    "brisque": ("baselines", "Brisque"),
    "frozen ridge": ("features", "FrozenRidge"),
    "frozen mlp": ("frozen_mlp", "FrozenMLP"),
    "re-iqa": ("reiqa", "ReIQA"),
    "yoto": ("yoto", "YOTO"),
    "qfm-iqm": ("qfm", "QFMIQM"),
    "dri-iqa": ("dri", "DRIIQA"),
}
METHODS = (*FULL_REFERENCE, *CLASSES)
DEFAULT = "frozen mlp"


def _letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def method_name(name: str) -> str:
    """The name of `METHODS` that is meant, in any case, with hyphens, underscores or spaces.

    Raises:
        ValueError: there is none; the message lists all, and the nearest.

    >>> method_name("Re_IQA"), method_name("frozen-ridge"), method_name("MS-SSIM")
    ('re-iqa', 'frozen ridge', 'ms_ssim')
    """
    by_letters = {_letters(known): known for known in METHODS}
    if _letters(name) in by_letters:
        return by_letters[_letters(name)]
    nearest = difflib.get_close_matches(_letters(name), by_letters, n=1)
    hint = f" The nearest is {by_letters[nearest[0]]}." if nearest else ""
    raise ValueError(f"{name!r} is no method; choose one of {', '.join(METHODS)}.{hint}")


def load_method(name: str, weights: str | Path | None = None):
    """A method that is ready to score.

    Args:
        name: one of `METHODS`, in any case.
        weights: file that the method's `save` wrote; default: the one that comes with this kit.

    Raises:
        ValueError: an unknown name, no such file, a file of another method, or weights for a
            method that has none.

    >>> import torch
    >>> load_method("Re-IQA").score(torch.rand(1, 3, 64, 64)).shape
    torch.Size([1])
    """
    name = method_name(name)
    if name in FULL_REFERENCE:
        if weights is not None:
            raise ValueError(_no_weights(name, weights))
        from iqa_core.baselines import FullReference

        return FullReference(name)
    path = weights_file(name, weights)
    if not path.is_file():
        raise ValueError(f"{path}: no trained {name} here. Train one: method.fit(train, val), then "
                         "method.save(path); then name that file as weights.")
    module, class_name = CLASSES[name]
    return getattr(import_module(f"iqa_core.{module}"), class_name).load(path)


def weights_file(name: str, weights: str | Path | None) -> Path:
    """The file of weights that a user named, or the one that comes with this kit."""
    if weights is not None:
        return expand(weights)
    return Path(__file__).with_name("weights") / f"{name.replace(' ', '-')}.weights"


def choose(method, weights: str | Path | None, with_reference: bool) -> list:
    """The methods that are asked for, each once: their names, and objects as they are.

    Args:
        method: a name, an object with a `name` and a function `score`, or a list of these; "all":
            every method that applies.
        weights: a file for the one method that is named, or None.
        with_reference: are references given?

    Raises:
        ValueError: an unknown name, no method at all, or weights or references that do not go
            with the methods.
    """
    chosen = []
    for item in method if isinstance(method, (list, tuple)) else [method]:
        if isinstance(item, str) and _letters(item) == "all":
            names = [name for name in METHODS if with_reference or name not in FULL_REFERENCE]
            chosen += [name for name in names if name not in chosen]
        elif isinstance(item, str):
            if method_name(item) not in chosen:
                chosen.append(method_name(item))
        elif hasattr(item, "score") and isinstance(getattr(item, "name", None), str):
            chosen.append(item)
        else:
            raise ValueError(f"{item!r} is no method: give a name, or an object with a `name` and "
                             "a function `score`.")
    if not chosen:
        raise ValueError(f"No method is named; choose one of {', '.join(METHODS)}.")
    if weights is not None:
        _expect_weights(weights, chosen)
    for item in chosen:
        name = item if isinstance(item, str) else item.name
        if name in FULL_REFERENCE and not with_reference:
            raise ValueError(f"{name} compares with a reference: say where they are, or choose "
                             "another method.")
    return chosen


def _expect_weights(weights: str | Path, chosen: list) -> None:
    """ValueError if a file of weights does not go with the methods."""
    if len(chosen) > 1:
        raise ValueError(f"{weights} holds one method; name that method alone.")
    if not isinstance(chosen[0], str):
        raise ValueError(f"{weights}: {chosen[0].name} is an object that is fitted already. Leave "
                         "the weights out, or give its name.")
    if str(weights) == "":
        raise ValueError("The name of the file of weights is empty. Name what a method's save() "
                         "wrote.")
    if chosen[0] in FULL_REFERENCE:
        raise ValueError(_no_weights(chosen[0], weights))


def _no_weights(name: str, weights: str | Path) -> str:
    return (f"{weights}: {name} has no weights to load. Leave them out, or name a method that was "
            f"trained: {', '.join(CLASSES)}.")


class _Unavailable:
    """A method that could not be loaded: it scores nothing and says why."""

    tasks = ("NR",)

    def __init__(self, name: str, error: ValueError):
        self.name = name
        self.error = error

    def score(self, x, x_ref=None):
        raise self.error


def load_chosen(chosen: list, weights: str | Path | None) -> list:
    """The methods themselves. One of several that cannot be loaded does not stop the others."""
    methods = []
    for item in chosen:
        if not isinstance(item, str):
            methods.append(item)
            continue
        try:
            methods.append(load_method(item, weights))
        except ValueError as error:
            if len(chosen) == 1:
                raise
            methods.append(_Unavailable(item, error))
    return methods
