"""Exercises of notebook 10: shared pixels, InfoNCE in both directions, no swap, other pairs."""

import torch
import torch.nn.functional as F

from iqa_exercises import Choice, Exercise


def disagreement(a: torch.Tensor, b: torch.Tensor, offset: tuple[int, int]) -> torch.Tensor:
    """Mean absolute difference of two crops where both show the same place.

    a, b: (N, 3, P, P). offset: by how many pixels b lies below and right of a; negative is above, left.
    Returns (N,), one number a pair: 0 where both crops carry the same damage.
    """
    down, right = offset
    P = a.shape[-1]
    a = a[..., max(down, 0):P + min(down, 0), max(right, 0):P + min(right, 0)]
    b = b[..., max(-down, 0):P - max(down, 0), max(-right, 0):P - max(right, 0)]
    return (a - b).abs().mean((1, 2, 3))


def disagreement_other_way(a, b, offset):
    """You align them as if a lay below b. But b lies lower: a[..., down:, :] meets the upper
    rows of b."""
    down = -offset[0]
    right = -offset[1]
    P = a.shape[-1]
    a = a[..., max(down, 0):P + min(down, 0), max(right, 0):P + min(right, 0)]
    b = b[..., max(-down, 0):P - max(down, 0), max(-right, 0):P - max(right, 0)]
    return (a - b).abs().mean((1, 2, 3))


def disagreement_without_sign(a, b, offset):
    """An offset may be negative. Then b lies above or left of a, and the END of b meets the
    beginning of a."""
    down = abs(offset[0])
    right = abs(offset[1])
    P = a.shape[-1]
    return (a[..., down:, right:] - b[..., :P - down, :P - right]).abs().mean((1, 2, 3))


def disagreement_turned(a, b, offset):
    """The axes are exchanged: the first number of the offset goes down (dimension -2), the
    second to the right (-1)."""
    right, down = offset
    P = a.shape[-1]
    a = a[..., max(down, 0):P + min(down, 0), max(right, 0):P + min(right, 0)]
    b = b[..., max(-down, 0):P - max(down, 0), max(-right, 0):P - max(right, 0)]
    return (a - b).abs().mean((1, 2, 3))


def disagreement_not_aligned(a, b, offset):
    """You compare pixels that show different places. Cut the shared rectangle from both crops
    first."""
    return (a - b).abs().mean((1, 2, 3))


def disagreement_of_all(a, b, offset):
    """One number for each pair is asked for: average over dimensions 1, 2 and 3 only."""
    down, right = offset
    P = a.shape[-1]
    a = a[..., max(down, 0):P + min(down, 0), max(right, 0):P + min(right, 0)]
    b = b[..., max(-down, 0):P - max(down, 0), max(-right, 0):P - max(right, 0)]
    return (a - b).abs().mean()


def crops() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    y = torch.rand(3, 3, 48, 48, generator=draw)
    noise = torch.rand(2, 3, 3, 48, 48, generator=draw) / 10
    first = y + noise[0]
    second = y + noise[1]
    inputs = []
    for down, right in [(12, 3), (-9, 5), (4, -13), (-2, -11), (7, 0)]:
        a = first[..., 14:30, 14:30]
        b = second[..., 14 + down:30 + down, 14 + right:30 + right]
        inputs.append((a, b, (down, right)))
    return inputs


def both_ways(q: torch.Tensor, k: torch.Tensor, T: float) -> torch.Tensor:
    """InfoNCE in both directions: a query finds its key among all keys, a key its query among all queries.

    q, k: (N, D), codes of length 1, row i of q belongs to row i of k; T: temperature.
    Returns the mean over both directions, a number.
    """
    logits = q @ k.T / T
    right = torch.arange(len(q))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def both_ways_one_way(q, k, T):
    """This asks in one direction only. Keys must find their queries as well: the transposed
    logits."""
    return F.cross_entropy(q @ k.T / T, torch.arange(len(q)))


def both_ways_times_temperature(q, k, T):
    """The logits are multiplied by the temperature. Divide: a small T makes differences large."""
    logits = q @ k.T * T
    right = torch.arange(len(q))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def both_ways_without_temperature(q, k, T):
    """The temperature is missing: divide the logits by T."""
    logits = q @ k.T
    right = torch.arange(len(q))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def both_ways_summed(q, k, T):
    """This is the sum of both directions; the mean is asked for."""
    logits = q @ k.T / T
    right = torch.arange(len(q))
    return F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)


def codes() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    return [(*F.normalize(torch.randn(2, 6, 8, generator=draw), dim=-1), 0.2)]


EXERCISES = {
    "10.1": Exercise(
        disagreement,
        [disagreement_other_way, disagreement_without_sign, disagreement_turned,
         disagreement_not_aligned, disagreement_of_all],
        crops),
    "10.2": Exercise(
        both_ways,
        [both_ways_one_way, both_ways_times_temperature, both_ways_without_temperature,
         both_ways_summed],
        codes),
    "10.3": Choice("c", {
        "a": "The swap gives the network no clue: it puts wrong keys at the query's own place. "
             "Print both numbers.",
        "b": "Where do the 11 wrong keys lie, with the swap and without? Content answers "
             "differently then."}),
    "10.4": Choice("b", {
        "a": "A network must know what sets the positive apart. Distortion does not: it differs "
             "inside the pair, too.",
        "c": "Something does set the positive apart: it alone shows the query's picture."}),
}
