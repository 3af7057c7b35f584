"""Exercises of notebook 40: positives in shares, what one vector says of another, one vector for two tables."""

import torch
import torch.nn.functional as F

from iqa_exercises import Choice, Exercise


def soft_contrast(z: torch.Tensor, weight: torch.Tensor, T: float) -> torch.Tensor:
    """Supervised contrast with a table of shares: 1 is a positive, 0 a negative, 0.5 half a positive.

    An anchor a costs sum_p weight[a, p] * -log(chance of p) / sum_p weight[a, p], the chance as in section 3.
    z: (N, D), of any length; weight: (N, N) in [0, 1], diagonal 0, no row of zeros; T: temperature.
    Returns the mean over anchors, a number.
    """
    z, itself = F.normalize(z, dim=1), torch.eye(len(z), dtype=torch.bool)
    logs = (z @ z.T / T).masked_fill(itself, -torch.inf).log_softmax(1)
    logs = logs.masked_fill(itself, 0)  # 0 * inf would be nan
    return -((weight * logs).sum(1) / weight.sum(1)).mean()


def soft_contrast_nan(z, weight, T):
    """It is nan: on the diagonal the weight 0 meets log 0 = -inf. Set the diagonal of the logs to 0 first."""
    z = F.normalize(z, dim=1)
    logs = (z @ z.T / T).fill_diagonal_(-torch.inf).log_softmax(1)
    return -((weight * logs).sum(1) / weight.sum(1)).mean()


def soft_contrast_with_itself(z, weight, T):
    """A patch is among its own neighbours, and the nearest. Set the diagonal to -inf before the softmax."""
    z = F.normalize(z, dim=1)
    logs = (z @ z.T / T).log_softmax(1)
    return -((weight * logs).sum(1) / weight.sum(1)).mean()


def soft_contrast_summed(z, weight, T):
    """An anchor with many positives costs more. Divide each row by its sum of weights."""
    z = F.normalize(z, dim=1)
    logs = (z @ z.T / T).fill_diagonal_(-torch.inf).log_softmax(1)
    return -(weight * logs.fill_diagonal_(0)).sum(1).mean()


def soft_contrast_pooled(z, weight, T):
    """All pairs are in one mean, so anchors with many positives count more. Divide row by row, then take the mean."""
    z = F.normalize(z, dim=1)
    logs = (z @ z.T / T).fill_diagonal_(-torch.inf).log_softmax(1)
    return -(weight * logs.fill_diagonal_(0)).sum() / weight.sum()


def soft_contrast_any_length(z, weight, T):
    """The codes are not brought to length 1, so long ones count more. Use F.normalize(z, dim=1)."""
    logs = (z @ z.T / T).fill_diagonal_(-torch.inf).log_softmax(1)
    return -((weight * logs.fill_diagonal_(0)).sum(1) / weight.sum(1)).mean()


def shares() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    weight = torch.randint(3, (6, 6), generator=draw) / 2
    weight = torch.maximum(weight, weight.T).fill_diagonal_(0)
    return [(torch.randn(6, 4, generator=draw), weight, 0.2)]


def told(q: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """What `my_correlation`, pair by pair, overlooks: how much of g is a linear map of q (and a constant).

    Returns 1 - left / all, at most 1: the sums over all entries of the squared rest that the best linear
    map leaves (torch.linalg.lstsq), and of the squared distance of g from its mean. q: (N, D), g: (N, E).
    """
    q, g = q - q.mean(0), g - g.mean(0)
    left = g - q @ torch.linalg.lstsq(q, g).solution
    return 1 - left.square().sum() / g.square().sum()


def told_around_zero(q, g):
    """The means are still in q and g. Take them away first, else the constant is asked of q."""
    left = g - q @ torch.linalg.lstsq(q, g).solution
    return 1 - left.square().sum() / g.square().sum()


def told_of_q(q, g):
    """This says how much of q is told by g. Solve for g: lstsq(q, g)."""
    q, g = q - q.mean(0), g - g.mean(0)
    left = q - g @ torch.linalg.lstsq(g, q).solution
    return 1 - left.square().sum() / q.square().sum()


def told_not(q, g):
    """This is the share that is left. Asked for is the share that is told: 1 minus it."""
    q, g = q - q.mean(0), g - g.mean(0)
    left = g - q @ torch.linalg.lstsq(q, g).solution
    return left.square().sum() / g.square().sum()


def told_by_entries(q, g):
    """This is a mean of one share for each entry of g. Sum the squares over all entries first, then divide."""
    q, g = q - q.mean(0), g - g.mean(0)
    left = g - q @ torch.linalg.lstsq(q, g).solution
    return (1 - left.square().sum(0) / g.square().sum(0)).mean()


def vectors() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    q, noise, mixed = (torch.randn(*size, generator=draw).double() for size in ((60, 4), (60, 3), (4, 3)))
    return [(q + 1, q @ mixed + noise * torch.tensor([0.5, 2, 4]) + 3), (q, q @ mixed)]


EXERCISES = {
    "40.1": Exercise(soft_contrast, [soft_contrast_nan, soft_contrast_with_itself, soft_contrast_summed,
                                     soft_contrast_pooled, soft_contrast_any_length], shares),
    "40.2": Exercise(told, [told_around_zero, told_of_q, told_not, told_by_entries], vectors),
    "40.3": Choice("c", {
        "a": "The quality table calls versions with one degradation negative, the other table positive. Compare their "
             "cosine with that of versions with two degradations.",
        "b": "The quality table pushes two contents apart, however they are degraded. Look at the cosine of two contents "
             "with one degradation: is it 1?"}),
    "40.4": Choice("b", {
        "a": "Two contents with the same degradation are positives for g. A code that tells them apart pays for it.",
        "c": "To know a degradation is to tell it from others. Here is no other, so no pair is negative."}),
}
