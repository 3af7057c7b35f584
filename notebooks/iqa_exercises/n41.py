"""Exercises of notebook 41: a ratio with bounds, how much of a restoration helps, what a change tells, zeros."""

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


def best_share(x: torch.Tensor, restored: torch.Tensor, x_ref: torch.Tensor) -> torch.Tensor:
    """How much of a restoration helps: the share a in [0, 1] of least squared error of x + a (restored - x).

    x, restored, x_ref: (B, 3, H, W). Unbounded, a = sum (restored - x)(x_ref - x) / sum (restored - x)^2.
    Returns (B,); 0 where nothing was changed.
    """
    change, wanted = (restored - x).flatten(1), (x_ref - x).flatten(1)
    return ((change * wanted).sum(1) / (change * change).sum(1).clamp(min=1e-12)).clamp(0, 1)


def best_share_unbounded(x, restored, x_ref):
    """A share lies in [0, 1]: a harmful change gets 0, and nobody goes further than the restored picture."""
    change, wanted = (restored - x).flatten(1), (x_ref - x).flatten(1)
    return (change * wanted).sum(1) / (change * change).sum(1).clamp(min=1e-12)


def best_share_of_the_batch(x, restored, x_ref):
    """The sums run over all pictures, so all get one share. Sum over the pixels of each picture."""
    change, wanted = restored - x, x_ref - x
    return ((change * wanted).sum() / (change * change).sum()).clamp(0, 1).expand(len(x))


def best_share_of_what_is_wanted(x, restored, x_ref):
    """Below stands the length of x_ref - x. Divide by that of the change: it is the change that is to be shortened."""
    change, wanted = (restored - x).flatten(1), (x_ref - x).flatten(1)
    return ((change * wanted).sum(1) / (wanted * wanted).sum(1).clamp(min=1e-12)).clamp(0, 1)


def best_share_undefined(x, restored, x_ref):
    """Where nothing was changed this is 0 / 0, not a number. Asked for is 0."""
    change, wanted = (restored - x).flatten(1), (x_ref - x).flatten(1)
    return ((change * wanted).sum(1) / (change * change).sum(1)).clamp(0, 1)


def restorations() -> list[tuple]:
    x, x_ref, away = torch.rand(3, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    shares = torch.tensor([0.5, 2.0, -1.0, 0.0, 1.0]).view(5, 1, 1, 1)  # too short, too far, wrong way, nothing, right
    return [(x, x + shares * (x_ref - x) + 0.1 * (shares != 0) * (away - 0.5), x_ref)]


EXERCISES = {
    "41.1": Exercise(bounded_ratio, [bounded_ratio_of_the_batch, bounded_ratio_upside_down,
                                     bounded_ratio_of_the_whole_way, bounded_ratio_summed], triples),
    "41.2": Exercise(best_share, [best_share_unbounded, best_share_of_the_batch, best_share_of_what_is_wanted,
                                  best_share_undefined], restorations),
    "41.3": Choice("a", {
        "b": "So it is with noise, which a filter takes away. What is left to take away where a picture is smooth? "
             "Compare the means of the halves.",
        "c": "The filter knows nothing of your blur, but it sees edges and texture. Compare the means of the halves."}),
    "41.4": Choice("b", {
        "a": "It starts just as deaf. But the gradient of a layer's weights is a product with what comes in, and behind a "
             "layer of zeros, zeros come in.",
        "c": "The zeros stand where it listens, not where it looks: gamma = beta = 0 leaves LN(F), and F itself is added."}),
}
