"""Exercises of notebook 10: the shared area of two crops, the loss in both directions."""

import torch
import torch.nn.functional as F

from iqa_core.exercises import Choice, Exercise


def overlap(a: torch.Tensor, b: torch.Tensor, side: int) -> torch.Tensor:
    """Shared area of two square crops, as a share of one crop.

    a, b: (N, 2), top and left of the crops in pixels; side: of a crop in pixels. Returns (N,) in [0, 1].
    """
    shared = (side - (a - b).abs()).clamp(min=0)
    return shared[:, 0] * shared[:, 1] / side**2


def overlap_unclamped(a, b, side):
    """Two crops that lie apart both ways share nothing; but negative times negative is positive. Clamp each side at 0."""
    shared = side - (a - b).abs()
    return shared[:, 0] * shared[:, 1] / side**2


def overlap_of_union(a, b, side):
    """This is intersection over union. Asked for is the share of ONE crop: divide by side ** 2."""
    shared = (side - (a - b).abs()).clamp(min=0).prod(1)
    return shared / (2 * side**2 - shared)


def places() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    return [(*torch.randint(60, (2, 30, 2), generator=draw).float(), 32)]


def both_ways(q: torch.Tensor, k: torch.Tensor, T: float) -> torch.Tensor:
    """InfoNCE in both directions: each query finds its key among all keys, each key its query among all queries.

    q, k: (N, C), codes of length 1, rows of equal number belong together; T: temperature. Returns the mean, a number.
    """
    logits, right = q @ k.T / T, torch.arange(len(q))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def both_ways_one_way(q, k, T):
    """This asks in one direction only. Keys must find their queries as well: the transposed logits."""
    return F.cross_entropy(q @ k.T / T, torch.arange(len(q)))


def both_ways_times_temperature(q, k, T):
    """The logits are multiplied by the temperature. Divide: a small T makes differences large."""
    logits, right = q @ k.T * T, torch.arange(len(q))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def both_ways_without_temperature(q, k, T):
    """The temperature is missing: divide the logits by T."""
    logits, right = q @ k.T, torch.arange(len(q))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def both_ways_summed(q, k, T):
    """This is the sum of both directions; the mean is asked for."""
    logits, right = q @ k.T / T, torch.arange(len(q))
    return F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)


def codes() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    return [(*F.normalize(torch.randn(2, 6, 8, generator=draw), dim=-1), 0.2)]


EXERCISES = {
    "10.1": Exercise(overlap, [overlap_unclamped, overlap_of_union], places),
    "10.2": Exercise(both_ways, [both_ways_one_way, both_ways_times_temperature, both_ways_without_temperature,
                                 both_ways_summed], codes),
}
