"""Exercises of notebook 40: who is positive to whom, supervised contrast, two vectors that
differ, the triplet test, positives in shares, what one vector says of another, one vector for
two tables."""

import torch
import torch.nn.functional as F

from iqa_exercises import Choice, Exercise


def relations(contents: torch.Tensor, degradations: torch.Tensor) -> tuple:
    """Who is positive to whom, as two boolean tables (N, N): for quality, and for degradation.

    Two rows are positive for degradation if they have the same degradation, and for quality if they
    have the same degradation and the same content. No row is positive to itself.
    contents, degradations: (N,) whole numbers. Returns both tables.
    """
    itself = torch.eye(len(contents), dtype=torch.bool)
    same_degradation = (degradations[:, None] == degradations) & ~itself
    same_content = contents[:, None] == contents
    return same_degradation & same_content, same_degradation


def relations_with_itself(contents, degradations):
    """A row is positive to itself. Take the diagonal out of both tables."""
    same_degradation = degradations[:, None] == degradations
    return same_degradation & (contents[:, None] == contents), same_degradation


def relations_by_content(contents, degradations):
    """For quality, all versions of one image are positive here, however they are degraded. Both
    must agree: content and degradation."""
    itself = torch.eye(len(contents), dtype=torch.bool)
    same_content = contents[:, None] == contents
    return same_content & ~itself, (degradations[:, None] == degradations) & ~itself


def relations_other_contents_only(contents, degradations):
    """For degradation, the other crop of the same image is missing. It has the same degradation,
    so it is positive, too."""
    itself = torch.eye(len(contents), dtype=torch.bool)
    same_degradation = (degradations[:, None] == degradations) & ~itself
    same_content = contents[:, None] == contents
    return same_degradation & same_content, same_degradation & ~same_content


def relations_swapped(contents, degradations):
    """The two tables have changed places: quality comes first."""
    itself = torch.eye(len(contents), dtype=torch.bool)
    same_degradation = (degradations[:, None] == degradations) & ~itself
    return same_degradation, same_degradation & (contents[:, None] == contents)


def labels() -> list[tuple]:
    return [(torch.tensor([0, 0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 1, 1, 0]))]


def contrast(z: torch.Tensor, positive: torch.Tensor, T: float) -> torch.Tensor:
    """Supervised contrast: the mean over the rows a, and over the positives p of a, of

        -log( exp(z_a z_p / T) / sum over j != a of exp(z_a z_j / T) ),    all z at length 1

    z: (N, D), of any length; positive: (N, N), at least one in each row; T: the temperature.
    Returns a number.
    """
    z = F.normalize(z, dim=1)
    similarity = (z @ z.T / T).fill_diagonal_(-torch.inf)
    logs = similarity.log_softmax(1).masked_fill(~positive, 0)
    return -(logs.sum(1) / positive.sum(1)).mean()


def contrast_with_itself(z, positive, T):
    """A row competes with itself, and wins: it is the nearest to itself. Set the diagonal to -inf
    before the softmax."""
    z = F.normalize(z, dim=1)
    logs = (z @ z.T / T).log_softmax(1).masked_fill(~positive, 0)
    return -(logs.sum(1) / positive.sum(1)).mean()


def contrast_any_length(z, positive, T):
    """The rows are not brought to length 1, so long ones count more. Use F.normalize(z, dim=1)."""
    similarity = (z @ z.T / T).fill_diagonal_(-torch.inf)
    logs = similarity.log_softmax(1).masked_fill(~positive, 0)
    return -(logs.sum(1) / positive.sum(1)).mean()


def contrast_summed(z, positive, T):
    """The positives of a row are summed. Take their mean: else rows with many positives weigh more."""
    z = F.normalize(z, dim=1)
    similarity = (z @ z.T / T).fill_diagonal_(-torch.inf)
    return -similarity.log_softmax(1).masked_fill(~positive, 0).sum(1).mean()


def contrast_log_of_the_sum(z, positive, T):
    """The chances of all positives are added before the logarithm: then one near positive is
    enough. Take the logarithm of each, then the mean."""
    z = F.normalize(z, dim=1)
    chance = (z @ z.T / T).fill_diagonal_(-torch.inf).softmax(1)
    return -(chance * positive).sum(1).log().mean()


def contrast_times_temperature(z, positive, T):
    """The similarities are multiplied by the temperature. Divide: a small T makes them sharper."""
    z = F.normalize(z, dim=1)
    similarity = (z @ z.T * T).fill_diagonal_(-torch.inf)
    logs = similarity.log_softmax(1).masked_fill(~positive, 0)
    return -(logs.sum(1) / positive.sum(1)).mean()


def rows_with_positives() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    first = torch.tensor([0, 0, 1, 1, 1, 1])
    itself = torch.eye(6, dtype=torch.bool)
    positive = (first[:, None] == first) & ~itself
    return [(2 * torch.randn(6, 4, generator=draw), positive, 0.2)]


def correlation(q: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """How much two vectors have in common: the mean square of the correlations between each entry
    of q and each entry of g, over the rows of the batch.

    q: (N, D), g: (N, E). Returns a number in [0, 1].
    """
    q = (q - q.mean(0)) / q.std(0)
    g = (g - g.mean(0)) / g.std(0)
    return (q.T @ g / (len(q) - 1)).square().mean()


def correlation_around_zero(q, g):
    """The means are still in there: two entries that are always about 5 look alike. Subtract the
    mean of each entry over the batch first."""
    q = q / q.std(0)
    g = g / g.std(0)
    return (q.T @ g / (len(q) - 1)).square().mean()


def correlation_covariance(q, g):
    """This is the covariance: it grows with the size of the numbers. Divide each entry by its
    standard deviation over the batch."""
    return ((q - q.mean(0)).T @ (g - g.mean(0)) / (len(q) - 1)).square().mean()


def correlation_signed(q, g):
    """Positive and negative correlations cancel. Square each before the mean."""
    q = (q - q.mean(0)) / q.std(0)
    g = (g - g.mean(0)) / g.std(0)
    return (q.T @ g / (len(q) - 1)).mean()


def correlation_of_rows(q, g):
    """The statistics run over the entries of a vector. They must run over the batch, the first
    axis."""
    q = (q - q.mean(1, keepdim=True)) / q.std(1, keepdim=True)
    g = (g - g.mean(1, keepdim=True)) / g.std(1, keepdim=True)
    return (q.T @ g / (len(q) - 1)).square().mean()


def two_batches() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    q = torch.randn(20, 3, generator=draw)
    g = torch.cat([2 * q[:, :1] + 0.3 * torch.randn(20, 1, generator=draw),
                   torch.randn(20, 3, generator=draw)], 1)
    return [(q + 1, 3 * g - 2)]


def triplet_share(anchor: torch.Tensor, near: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
    """The triplet test: for how many rows is `near` closer to `anchor` than `far` is, by the
    cosine?

    anchor, near, far: (N, D), of any length. Returns a share in [0, 1].
    """
    to_near = F.cosine_similarity(anchor, near)
    to_far = F.cosine_similarity(anchor, far)
    return (to_near > to_far).float().mean()


def triplet_share_products(anchor, near, far):
    """These are products, which grow with the length of the vectors. The cosine divides by both
    lengths: F.cosine_similarity."""
    return ((anchor * near).sum(1) > (anchor * far).sum(1)).float().mean()


def triplet_share_reversed(anchor, near, far):
    """This counts the rows that fail. The cosine is LARGER where two vectors are closer."""
    return (F.cosine_similarity(anchor, near) < F.cosine_similarity(anchor, far)).float().mean()


def triplet_share_of_means(anchor, near, far):
    """The mean is taken before the comparison, so that the answer is 0 or 1. Compare row by row."""
    to_near = F.cosine_similarity(anchor, near).mean()
    return (to_near > F.cosine_similarity(anchor, far).mean()).float()


def three_rows() -> list[tuple]:
    draw = torch.Generator().manual_seed(1)
    anchor, near, far = torch.randn(3, 25, 4, generator=draw)
    lengths = torch.linspace(0.1, 3, 25)[:, None]
    return [(anchor, near * lengths, (far + 0.5 * anchor) * lengths.flip(0))]


def soft_contrast(z: torch.Tensor, weight: torch.Tensor, T: float) -> torch.Tensor:
    """Supervised contrast with a table of shares: 1 is a positive, 0 a negative, 0.5 half a
    positive.

    An anchor a costs sum_p weight[a, p] * -log(chance of p) / sum_p weight[a, p], the chance as
    in section 2. z: (N, D), of any length; weight: (N, N) in [0, 1], diagonal 0, no row of
    zeros; T: temperature. Returns the mean over anchors, a number.
    """
    z, itself = F.normalize(z, dim=1), torch.eye(len(z), dtype=torch.bool)
    logs = (z @ z.T / T).masked_fill(itself, -torch.inf).log_softmax(1)
    logs = logs.masked_fill(itself, 0)  # 0 * inf would be nan
    return -((weight * logs).sum(1) / weight.sum(1)).mean()


def soft_contrast_nan(z, weight, T):
    """It is nan: on the diagonal the weight 0 meets log 0 = -inf. Set the diagonal of the logs
    to 0 first."""
    z = F.normalize(z, dim=1)
    logs = (z @ z.T / T).fill_diagonal_(-torch.inf).log_softmax(1)
    return -((weight * logs).sum(1) / weight.sum(1)).mean()


def soft_contrast_with_itself(z, weight, T):
    """A crop is among its own neighbours, and the nearest. Set the diagonal to -inf before the
    softmax."""
    z = F.normalize(z, dim=1)
    logs = (z @ z.T / T).log_softmax(1)
    return -((weight * logs).sum(1) / weight.sum(1)).mean()


def soft_contrast_summed(z, weight, T):
    """An anchor with many positives costs more. Divide each row by its sum of weights."""
    z = F.normalize(z, dim=1)
    logs = (z @ z.T / T).fill_diagonal_(-torch.inf).log_softmax(1)
    return -(weight * logs.fill_diagonal_(0)).sum(1).mean()


def soft_contrast_pooled(z, weight, T):
    """All pairs are in one mean, so anchors with many positives count more. Divide row by row,
    then take the mean."""
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
    """What `correlation`, pair by pair, overlooks: how much of g is a linear map of q (and a
    constant).

    Returns 1 - left / all, at most 1: the sums over all entries of the squared rest that the
    best linear map leaves (torch.linalg.lstsq), and of the squared distance of g from its mean.
    q: (N, D), g: (N, E).
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
    """This is a mean of one share for each entry of g. Sum the squares over all entries first,
    then divide."""
    q, g = q - q.mean(0), g - g.mean(0)
    left = g - q @ torch.linalg.lstsq(q, g).solution
    return (1 - left.square().sum(0) / g.square().sum(0)).mean()


def vectors() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    sizes = (60, 4), (60, 3), (4, 3)
    q, noise, mixed = (torch.randn(*size, generator=draw).double() for size in sizes)
    return [(q + 1, q @ mixed + noise * torch.tensor([0.5, 2, 4]) + 3), (q, q @ mixed)]


EXERCISES = {
    "40.1": Exercise(relations, [relations_with_itself, relations_by_content,
                                 relations_other_contents_only, relations_swapped], labels),
    "40.2": Exercise(contrast, [contrast_with_itself, contrast_any_length, contrast_summed,
                                contrast_log_of_the_sum, contrast_times_temperature],
                     rows_with_positives),
    "40.3": Exercise(correlation, [correlation_around_zero, correlation_covariance,
                                   correlation_signed, correlation_of_rows], two_batches),
    "40.4": Exercise(triplet_share, [triplet_share_products, triplet_share_reversed,
                                     triplet_share_of_means], three_rows),
    "40.5": Exercise(soft_contrast, [soft_contrast_nan, soft_contrast_with_itself,
                                     soft_contrast_summed, soft_contrast_pooled,
                                     soft_contrast_any_length], shares),
    "40.6": Exercise(told, [told_around_zero, told_of_q, told_not, told_by_entries], vectors),
    "40.7": Choice("c", {
        "a": "The quality table calls versions with one degradation negative, the other table "
             "positive. Compare their cosine with that of versions with two degradations.",
        "b": "The quality table pushes two contents apart, however they are degraded. Look at the "
             "cosine of two contents with one degradation: is it 1?"}),
    "40.8": Choice("b", {
        "a": "Two contents with the same degradation are positives for g. A code that tells them "
             "apart pays for it.",
        "c": "To know a degradation is to tell it from others. Here is no other, so no pair is "
             "negative."}),
}
