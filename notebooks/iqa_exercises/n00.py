"""Exercises of notebook 00: PSNR, the rank correlation of two orders, a pair that fools a metric.
"""

import numpy as np
import torch

from iqa_exercises import Exercise


def psnr(x: torch.Tensor, x_ref: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in decibels, higher is better.

    -10 times the logarithm to base 10 of the mean of all squared differences.
    x, x_ref: (3, H, W) in [0, 1]. Returns one number.
    """
    return -10 * torch.log10(((x - x_ref) ** 2).mean())


def psnr_natural(x, x_ref):
    """This is the natural logarithm. Decibels are made with the logarithm to base 10: torch.log10.
    """
    return -10 * torch.log(((x - x_ref) ** 2).mean())


def psnr_sign(x, x_ref):
    """The minus is missing, so a larger error gets a higher value."""
    return 10 * torch.log10(((x - x_ref) ** 2).mean())


def psnr_not_squared(x, x_ref):
    """The differences are not squared: this is the mean absolute error in decibels."""
    return -10 * torch.log10((x - x_ref).abs().mean())


def psnr_square_of_mean(x, x_ref):
    """The mean is taken before the square, so errors upwards and downwards cancel. Square first.
    """
    return -10 * torch.log10((x - x_ref).mean() ** 2)


def psnr_factor(x, x_ref):
    """The factor is 20 instead of 10: that one belongs to the root of the mean squared error."""
    return -20 * torch.log10(((x - x_ref) ** 2).mean())


def two_images() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    return [tuple(torch.rand(2, 3, 8, 10, generator=draw))]


def srcc(rank: np.ndarray, true_rank: np.ndarray) -> float:
    """Spearman's rank correlation of two orders: 1 - 6 sum(d^2) / (n (n^2 - 1)), d = rank -
    true_rank.

    rank, true_rank: (n,), each holds 0 to n - 1 once. Returns a number between -1 and 1.
    """
    n = len(rank)
    d = rank - true_rank
    return 1 - 6 * (d**2).sum() / (n * (n**2 - 1))


def srcc_not_squared(rank, true_rank):
    """The differences d are not squared."""
    n = len(rank)
    return 1 - 6 * np.abs(rank - true_rank).sum() / (n * (n**2 - 1))


def srcc_without_one(rank, true_rank):
    """This is only the part that is subtracted: two equal orders get 0. They should get 1."""
    n = len(rank)
    return 6 * ((rank - true_rank) ** 2).sum() / (n * (n**2 - 1))


def srcc_without_n(rank, true_rank):
    """The denominator is n^2 - 1. It should be n times that."""
    n = len(rank)
    return 1 - 6 * ((rank - true_rank) ** 2).sum() / (n**2 - 1)


def srcc_mean(rank, true_rank):
    """This takes the mean of d^2 where the equation has the sum."""
    n = len(rank)
    return 1 - 6 * ((rank - true_rank) ** 2).mean() / (n * (n**2 - 1))


def two_orders() -> list[tuple]:
    return [(np.array([0, 2, 1, 5, 3, 4]), np.arange(6)), (np.arange(5), np.arange(5)[::-1])]


def fooled(metric: np.ndarray, score: np.ndarray, tolerance: float) -> tuple[int, int]:
    """The two images that a metric cannot tell apart and people tell apart most.

    metric, score: (N,), the values of the images. Of all pairs whose metric differs by less than
    `tolerance`, take the one whose scores differ most. Returns its row numbers, the better first.
    """
    same = np.abs(metric[:, None] - metric) < tolerance  # (N, N)
    gap = score[:, None] - score  # (N, N), row minus column
    better, worse = np.unravel_index((gap * same).argmax(), gap.shape)
    return int(better), int(worse)


def fooled_without_tolerance(metric, score, tolerance):
    """This is the pair with the largest gap of all. Only pairs with nearly equal metric count."""
    return int(score.argmax()), int(score.argmin())


def fooled_swapped(metric, score, tolerance):
    """The right pair, but the worse image comes first."""
    same = np.abs(metric[:, None] - metric) < tolerance
    gap = score[:, None] - score
    better, worse = np.unravel_index((gap * same).argmax(), gap.shape)
    return int(worse), int(better)


def fooled_roles_swapped(metric, score, tolerance):
    """This finds images with nearly equal scores whose metric differs most. It is the other way
    round: equal metric, different scores."""
    same = np.abs(score[:, None] - score) < tolerance
    gap = metric[:, None] - metric
    better, worse = np.unravel_index((gap * same).argmax(), gap.shape)
    return int(better), int(worse)


def fooled_neighbours(metric, score, tolerance):
    """Only neighbours in the order of the metric are compared. A pair may lie further apart and
    still be within the tolerance."""
    order = metric.argsort()
    best = max(
        range(len(order) - 1),
        key=lambda i: (
            abs(score[order[i]] - score[order[i + 1]])
            * (metric[order[i + 1]] - metric[order[i]] < tolerance)
        ),
    )
    a, b = int(order[best]), int(order[best + 1])
    return (a, b) if score[a] > score[b] else (b, a)


def values_and_scores() -> list[tuple]:
    rng = np.random.default_rng(3)
    return [(rng.uniform(20, 30, 40), rng.uniform(0, 1, 40), 0.8)]


EXERCISES = {
    "00.1": Exercise(
        psnr,
        [psnr_natural, psnr_sign, psnr_not_squared, psnr_square_of_mean, psnr_factor],
        two_images,
    ),
    "00.2": Exercise(
        srcc, [srcc_not_squared, srcc_without_one, srcc_without_n, srcc_mean], two_orders
    ),
    "00.3": Exercise(
        fooled,
        [fooled_without_tolerance, fooled_swapped, fooled_roles_swapped, fooled_neighbours],
        values_and_scores,
    ),
}
