"""Checks for readers: each prints one fixed line when it holds and raises with a hint when not.

The line never contains a measured number, so a notebook's stored output stays true in every mode
and on every machine. The tolerance lives in the code.
"""

from collections.abc import Callable

import numpy as np
import torch


class CheckFailed(AssertionError):
    """A check that did not hold. The message says what to look at."""


def holds(condition: bool, what: str, hint: str = "") -> None:
    """Print `✓ what` if the condition holds, else raise CheckFailed with the hint.

    >>> holds(2 > 1, "two is more than one")
    ✓ two is more than one
    """
    if not bool(condition):
        raise CheckFailed(f"✗ {what}. {hint}".rstrip())
    print(f"✓ {what}")


def close(mine, theirs, what: str, atol: float = 1e-6, hint: str = "") -> None:
    """Check that two numbers or arrays agree to `atol`.

    >>> close(0.1 + 0.2, 0.3, "sums agree")
    ✓ sums agree
    """
    difference = apart(mine, theirs, atol)
    holds(not difference, what, f"{difference} {hint}")


def apart(mine, theirs, atol: float) -> str:
    """Say how two numbers or arrays differ; "" if they agree to `atol`."""
    a = _array(mine)
    b = _array(theirs)
    if a.shape != b.shape:
        return f"The shapes are {a.shape} and {b.shape}."
    if np.allclose(a, b, rtol=0, atol=atol, equal_nan=True):
        return ""
    gap = np.abs(a - b).max(initial=0)
    return f"The largest gap is {gap:.2g}, allowed is {atol:g}."


def _array(value) -> np.ndarray:
    if torch.is_tensor(value):
        value = value.detach().cpu()
    return np.asarray(value, dtype=np.float64)


def same_as(mine: Callable, theirs: Callable, *inputs, atol: float = 1e-6) -> None:
    """Check that what you built gives the package's answer on the same inputs.

    Both are functions or modules. Modules get equal weights first. Outputs are compared one by one.

    >>> same_as(lambda x: x * x, torch.square, torch.ones(3))
    ✓ <lambda> gives the same as iqa_core's square
    """
    if isinstance(mine, torch.nn.Module) and isinstance(theirs, torch.nn.Module):
        mine.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        my_outputs = mine(*inputs)
        their_outputs = theirs(*inputs)
    if not isinstance(my_outputs, (tuple, list)):
        my_outputs = [my_outputs]
        their_outputs = [their_outputs]
    if len(my_outputs) == len(their_outputs):
        differences = [apart(a, b, atol) for a, b in zip(my_outputs, their_outputs)]
    else:
        differences = [f"{len(my_outputs)} outputs against {len(their_outputs)}."]
    differences = [difference for difference in differences if difference]
    what = f"{_name(mine)} gives the same as iqa_core's {_name(theirs)}"
    hint = " ".join([*differences, "Run both on a tiny input and print each step."])
    holds(not differences, what, hint)


def _name(function: Callable) -> str:
    return getattr(function, "__name__", type(function).__name__)


def at_least(value: float, floor: float, what: str) -> None:
    """Check that a result reaches the floor of this mode.

    The floor is low: it catches a broken cell, not a bad day.

    >>> at_least(0.8, 0.5, "SRCC is above this mode's floor")
    ✓ SRCC is above this mode's floor
    """
    hint = f"It is {value:.3f}, the floor is {floor:.3f}. Did an earlier cell run with other data?"
    holds(value >= floor, what, hint)


def shape(x: torch.Tensor, expected: str) -> None:
    """Check a shape: numbers are compared; a letter stands for one size throughout.

    >>> shape(torch.zeros(2, 3, 8, 8), "B 3 H H")
    ✓ shape B 3 H H
    """
    words = expected.split()
    sizes: dict[str, int] = {}  # of each letter
    fits = len(words) == x.ndim
    for word, size in zip(words, x.shape):
        wanted = int(word) if word.isdigit() else sizes.setdefault(word, size)
        fits = fits and size == wanted
    holds(fits, f"shape {expected}", f"It is {tuple(x.shape)}.")
