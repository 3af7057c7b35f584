"""Exercises of notebook 41: a ratio with bounds, what a place does to the score, what a change tells, zeros."""

import torch

from iqa_exercises import Choice, Exercise


def bounded_ratio(restored: tuple, reference: tuple, degraded: tuple) -> torch.Tensor:
    """The ratio of section 5 without its weak spot: 0 = at the reference, 1 = nothing was changed.

    A picture's share: near / (near + far), means over n of |r(x_res) - r(x_ref)| and |r(x_res) - r(x)|.
    restored, reference, degraded: (q, g) of each, (B, n). Returns the mean over pictures and q, g: a number.
    """
    shares = []
    for r, ref, x in zip(restored, reference, degraded):
        near, far = (r - ref).abs().mean(1), (r - x).abs().mean(1)
        shares.append((near / (near + far)).mean())
    return sum(shares) / len(shares)


def bounded_ratio_of_the_batch(restored, reference, degraded):
    """The batch is summed before the division, so pictures with large distances decide. Divide picture by picture."""
    shares = []
    for r, ref, x in zip(restored, reference, degraded):
        near, far = (r - ref).abs().mean(), (r - x).abs().mean()
        shares.append(near / (near + far))
    return sum(shares) / len(shares)


def bounded_ratio_upside_down(restored, reference, degraded):
    """It rewards doing nothing: 0 where nothing was changed. Over the fraction stands the distance to the reference."""
    shares = []
    for r, ref, x in zip(restored, reference, degraded):
        near, far = (r - ref).abs().mean(1), (r - x).abs().mean(1)
        shares.append((far / (near + far)).mean())
    return sum(shares) / len(shares)


def bounded_ratio_of_the_whole_way(restored, reference, degraded):
    """Below stands the distance from x to x_ref: whoever errs sideways gets more than 1. Divide by near + far."""
    shares = []
    for r, ref, x in zip(restored, reference, degraded):
        shares.append(((r - ref).abs().mean(1) / (x - ref).abs().mean(1)).mean())
    return sum(shares) / len(shares)


def bounded_ratio_summed(restored, reference, degraded):
    """This is the sum over q and g, up to 2. The mean of both is asked for."""
    shares = []
    for r, ref, x in zip(restored, reference, degraded):
        near, far = (r - ref).abs().mean(1), (r - x).abs().mean(1)
        shares.append((near / (near + far)).mean())
    return sum(shares)


def triples() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    restored, reference, degraded = ([torch.randn(5, n, generator=draw) for n in (8, 8)] for _ in range(3))
    for i in range(2):
        restored[i][1], restored[i][2] = reference[i][1], degraded[i][2]
        degraded[i][3] *= 9
    return [(restored, reference, degraded)]


def moved(s: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """By how much each place moves the score: the score, minus the score if this place were not there.

    s, w: (B, 1, H, W), scores and weights (> 0) of places; the score is sum s w / sum w, HIGHER = BETTER.
    Returns (B, 1, H, W); below 0 = the place pulls the score down.
    """
    top, bottom = (s * w).sum((2, 3), keepdim=True), w.sum((2, 3), keepdim=True)
    return top / bottom - (top - s * w) / (bottom - w)


def moved_to_zero(s, w):
    """The place is gone above, but its weight still stands below: as if its score were 0. Take it out of both."""
    top, bottom = (s * w).sum((2, 3), keepdim=True), w.sum((2, 3), keepdim=True)
    return top / bottom - (top - s * w) / bottom


def moved_wrong_way(s, w):
    """The sign is wrong: asked for is the score with the place minus the score without it."""
    top, bottom = (s * w).sum((2, 3), keepdim=True), w.sum((2, 3), keepdim=True)
    return (top - s * w) / (bottom - w) - top / bottom


def moved_by_the_batch(s, w):
    """The sums run over all pictures. Sum over the places of each picture: dimensions 2 and 3, with keepdim=True."""
    top, bottom = (s * w).sum(), w.sum()
    return top / bottom - (top - s * w) / (bottom - w)


def moved_nearly(s, w):
    """This is the first-order answer, w (s - score) / sum w. It is close for one of many places. Use exact sums."""
    bottom = w.sum((2, 3), keepdim=True)
    return w * (s - (s * w).sum((2, 3), keepdim=True) / bottom) / bottom


def places() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    return [(torch.rand(2, 1, 3, 4, generator=draw), 0.1 + torch.rand(2, 1, 3, 4, generator=draw))]


EXERCISES = {
    "41.1": Exercise(bounded_ratio, [bounded_ratio_of_the_batch, bounded_ratio_upside_down,
                                     bounded_ratio_of_the_whole_way, bounded_ratio_summed], triples),
    "41.2": Exercise(moved, [moved_to_zero, moved_wrong_way, moved_by_the_batch, moved_nearly], places),
    "41.3": Choice("a", {
        "b": "So it is with noise, which a filter takes away. What is left to take away where a picture is smooth? "
             "Compare the means of the halves.",
        "c": "The filter knows nothing of your blur, but it sees edges and texture. Compare the means of the halves."}),
    "41.4": Choice("b", {
        "a": "It starts just as deaf. But the gradient of a layer's weights is a product with what comes in, and behind a "
             "layer of zeros, zeros come in.",
        "c": "The zeros stand where it listens, not where it looks: gamma = beta = 0 leaves LN(F), and F itself is added."}),
}
