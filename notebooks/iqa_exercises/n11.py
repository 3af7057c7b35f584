"""Exercises of notebook 11: memory of the key encoder, a second meter, content, early keys."""

import torch

from iqa_exercises import Choice, Exercise


def memory(m: float, steps: int) -> torch.Tensor:
    """What the key encoder is made of, after some steps of theta_k <- m theta_k + (1 - m) theta_q.

    m: between 0 and 1; steps: S, a whole number from 1. Returns shares (S + 1,) of sum 1: first the share of
    the key encoder's own start, then those of the query encoders of steps 1 to S.
    """
    recent = (1 - m) * m ** torch.arange(steps - 1, -1, -1.0)
    return torch.cat([torch.tensor([m**steps]), recent])


def memory_reversed(m, steps):
    """The order is reversed. The query encoder of the LAST step has the share 1 - m; older ones
    have shrunk."""
    recent = (1 - m) * m ** torch.arange(0, steps, 1.0)
    return torch.cat([torch.tensor([m**steps]), recent])


def memory_start_shrunk(m, steps):
    """The sum is below 1. The start is no query encoder: nothing multiplies it by 1 - m, each
    step only by m."""
    return (1 - m) * m ** torch.arange(steps, -1, -1.0)


def memory_one_step_late(m, steps):
    """Off by one: the query encoder of step S enters with 1 - m, and no step has multiplied it
    by m yet."""
    recent = (1 - m) * m ** torch.arange(steps, 0, -1.0)
    return torch.cat([torch.tensor([m**steps]), recent])


def memory_roles_exchanged(m, steps):
    """m and 1 - m have changed places: m is the share that the key encoder KEEPS at each step."""
    recent = m * (1 - m) ** torch.arange(steps - 1, -1, -1.0)
    return torch.cat([torch.tensor([(1 - m)**steps]), recent])


def dimensions(codes: torch.Tensor) -> torch.Tensor:
    """In how many directions codes spread: (sum of l)^2 / (sum of l^2), l: eigenvalues of their covariance.

    codes: (N, D). Returns a number from 1, all codes on a line, to D, all directions alike.
    """
    z = codes - codes.mean(0)
    values = torch.linalg.eigvalsh(z.T @ z)
    return values.sum() ** 2 / (values**2).sum()


def dimensions_not_centred(codes):
    """The codes are not centred, so their mean counts as a direction. Subtract the mean code,
    codes.mean(0), first."""
    values = torch.linalg.eigvalsh(codes.T @ codes)
    return values.sum() ** 2 / (values**2).sum()


def dimensions_centred_along_codes(codes):
    """You subtract from each code the mean of its own numbers. The mean over the codes is meant:
    codes.mean(0)."""
    z = codes - codes.mean(1, keepdim=True)
    values = torch.linalg.eigvalsh(z.T @ z)
    return values.sum() ** 2 / (values**2).sum()


def dimensions_of_singular_values(codes):
    """These are singular values of the codes. The eigenvalues of the covariance are their
    squares."""
    values = torch.linalg.svdvals(codes - codes.mean(0))
    return values.sum() ** 2 / (values**2).sum()


def dimensions_sum_not_squared(codes):
    """The upper sum is not squared. So twice as long codes get another number: a count must not
    change with length."""
    z = codes - codes.mean(0)
    values = torch.linalg.eigvalsh(z.T @ z / (len(z) - 1))
    return values.sum() / (values**2).sum()


def clouds() -> list[tuple]:
    z = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    z = z * torch.tensor([3, 2, 1, 1, 0.5, 0.1])
    return [(torch.nn.functional.normalize(z + 2, dim=1),), (z - 1,)]


EXERCISES = {
    "11.1": Exercise(
        memory,
        [memory_reversed, memory_start_shrunk, memory_one_step_late, memory_roles_exchanged],
        lambda: [(0.9, 5), (0.6, 3), (0.75, 1)]),
    "11.2": Exercise(
        dimensions,
        [dimensions_not_centred, dimensions_centred_along_codes, dimensions_of_singular_values,
         dimensions_sum_not_squared],
        clouds, atol=1e-3),
    "11.3": Choice("c", {
        "a": "Among the pictures of its own content is also its own type at the next level. "
             "What is more alike?",
        "b": "The question is the same, but not the neighbours. Print the share and look at the "
             "table of section 7."}),
    "11.4": Choice("b", {
        "a": "It is no negative like the others: it equals the positive, whatever the encoder "
             "does.",
        "c": "The queue holds the WRONG answers. Which probability can the right one reach beside "
             "its double?"}),
}
