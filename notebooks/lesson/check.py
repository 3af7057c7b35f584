"""Checks for readers: each prints one fixed line when it holds and raises with a hint when it does not.

The line never contains a measured number, so a notebook's stored output stays true in every mode and on every
machine. The tolerance lives in the code.
"""

from collections.abc import Callable

import numpy as np
import torch


class CheckFailed(AssertionError):
    """A check that did not hold. The message says what to look at."""


def holds(condition: bool, what: str, hint: str = "") -> None:
    """Print `✓ what` if the condition holds, else raise.

    >>> holds(2 > 1, "two is more than one")
    ✓ two is more than one
    """
    if not bool(condition):
        raise CheckFailed(f"✗ {what}. {hint}".rstrip())
    print(f"✓ {what}")


def close(mine, theirs, what: str, atol: float = 1e-6, hint: str = "") -> None:
    """Two numbers or arrays agree to `atol`.

    >>> close(0.1 + 0.2, 0.3, "sums agree")
    ✓ sums agree
    """
    found = apart(mine, theirs, atol)
    holds(not found, what, f"{found} {hint}")


def apart(mine, theirs, atol: float) -> str:
    """How two numbers or arrays differ; "" if they agree."""
    a, b = (np.asarray(v.detach().cpu() if torch.is_tensor(v) else v, dtype=np.float64) for v in (mine, theirs))
    if a.shape != b.shape:
        return f"The shapes are {a.shape} and {b.shape}."
    gap = np.abs(a - b).max(initial=0)
    return "" if np.allclose(a, b, rtol=0, atol=atol, equal_nan=True) else (
        f"The largest gap is {gap:.2g}, allowed is {atol:g}.")


def same_as(mine: Callable, theirs: Callable, *inputs, atol: float = 1e-6) -> None:
    """What you built gives the package's answer on the same inputs.

    Both are functions or modules. Modules get equal weights first. Outputs are compared one by one.

    >>> same_as(lambda x: x * x, torch.square, torch.ones(3))
    ✓ <lambda> gives the same as iqa_core's square
    """
    if isinstance(mine, torch.nn.Module) and isinstance(theirs, torch.nn.Module):
        mine.load_state_dict(theirs.state_dict())
    names = [getattr(f, "__name__", type(f).__name__) for f in (mine, theirs)]
    what = f"{names[0]} gives the same as iqa_core's {names[1]}"
    with torch.no_grad():
        ours, packages = mine(*inputs), theirs(*inputs)
    if not isinstance(ours, (tuple, list)):
        ours, packages = [ours], [packages]
    found = ([f"{len(ours)} outputs against {len(packages)}."] if len(ours) != len(packages) else
             [apart(a, b, atol) for a, b in zip(ours, packages)])
    holds(not any(found), what, f"{' '.join(filter(None, found))} Run both on a tiny input and print each step.")


def at_least(value: float, floor: float, what: str) -> None:
    """A result reaches the floor of this mode. The floor is low: it catches a broken cell, not a bad day.

    >>> at_least(0.8, 0.5, "SRCC is above this mode's floor")
    ✓ SRCC is above this mode's floor
    """
    holds(value >= floor, what, f"It is {value:.3f}, the floor is {floor:.3f}. Did an earlier cell run with other data?")


def shape(x: torch.Tensor, expected: str) -> None:
    """The shape is as said: numbers are compared, a letter stands for any size and for the same size throughout.

    >>> shape(torch.zeros(2, 3, 8, 8), "B 3 H H")
    ✓ shape B 3 H H
    """
    sizes: dict[str, int] = {}
    words = expected.split()
    good = len(words) == x.ndim and all(
        n == (int(word) if word.isdigit() else sizes.setdefault(word, n)) for word, n in zip(words, x.shape))
    holds(good, f"shape {expected}", f"It is {tuple(x.shape)}.")
