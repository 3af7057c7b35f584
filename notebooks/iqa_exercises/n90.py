"""Exercises of notebook 90: comparisons become wins and wins a scale, an observer who is asked
twice, a loss of one's own, and two questions."""

import numpy as np
import torch

from iqa_exercises import Choice, Exercise


def count_wins(pairs: list[tuple], answers: list[str], n: int) -> np.ndarray:
    """How often each image was preferred to each other one, (n, n): [i, j] counts i before j.

    pairs: (i, j), the image on the left and the one on the right; answers: "left", "right" or
    "same" for each pair that was answered, which may be fewer than all. "same" is half a win for
    each of the two.
    """
    wins = np.zeros((n, n))
    for (i, j), answer in zip(pairs, answers):
        share = {"left": 1.0, "same": 0.5, "right": 0.0}[answer]
        wins[i, j] += share
        wins[j, i] += 1 - share
    return wins


def count_wins_tie_for_both(pairs, answers, n):
    """A tie counts as a whole win for both, so a tie weighs as much as two comparisons. It is half
    a win for each."""
    wins = np.zeros((n, n))
    for (i, j), answer in zip(pairs, answers):
        wins[i, j] += answer in ("left", "same")
        wins[j, i] += answer in ("right", "same")
    return wins


def count_wins_without_ties(pairs, answers, n):
    """Ties are left out. But "same" says something, too: that the two are close. It is half a win
    for each."""
    wins = np.zeros((n, n))
    for (i, j), answer in zip(pairs, answers):
        wins[i, j] += answer == "left"
        wins[j, i] += answer == "right"
    return wins


def count_wins_transposed(pairs, answers, n):
    """This counts losses: the winner's row and column are exchanged. [i, j] is i before j."""
    wins = np.zeros((n, n))
    for (i, j), answer in zip(pairs, answers):
        share = {"left": 1.0, "same": 0.5, "right": 0.0}[answer]
        wins[j, i] += share
        wins[i, j] += 1 - share
    return wins


def some_answers() -> list[tuple]:
    pairs = [(0, 1), (2, 0), (1, 2), (3, 1), (0, 1), (2, 3)]
    return [(pairs, ["left", "same", "right", "left", "left"], 4)]


def bradley_terry_round(p: np.ndarray, wins: np.ndarray) -> np.ndarray:
    """One round of the iteration for the strengths p (N,) of N images:

        p_i <- (w_i + 1/2) / (sum_j n_ij / (p_i + p_j) + 1 / (p_i + 1))

    and then all p are divided by their geometric mean. w_i is the number of wins of i, n_ij how
    often i and j were compared; wins: (N, N), [i, j] counts i before j.
    """
    compared = wins + wins.T
    expected = (compared / (p[:, None] + p)).sum(1) + 1 / (p + 1)
    p = (wins.sum(1) + 0.5) / expected
    return p / np.exp(np.log(p).mean())


def bradley_terry_without_average(p, wins):
    """The game against the average image is missing (the 1/2 and the 1 / (p + 1)). Then an image
    that never won gets strength 0, and its logarithm is lost."""
    p = wins.sum(1) / ((wins + wins.T) / (p[:, None] + p)).sum(1)
    return p / np.exp(np.log(p).mean())


def bradley_terry_of_losses(p, wins):
    """The losses are counted, not the wins: sum each row of wins, not each column."""
    expected = ((wins + wins.T) / (p[:, None] + p)).sum(1) + 1 / (p + 1)
    p = (wins.sum(0) + 0.5) / expected
    return p / np.exp(np.log(p).mean())


def bradley_terry_of_wins(p, wins):
    """n_ij is how often the two were compared, won or lost: wins_ij + wins_ji."""
    p = (wins.sum(1) + 0.5) / ((wins / (p[:, None] + p)).sum(1) + 1 / (p + 1))
    return p / np.exp(np.log(p).mean())


def bradley_terry_unscaled(p, wins):
    """The strengths are right up to a factor. Divide them by their geometric mean,
    exp(mean(log p)), at the end."""
    expected = ((wins + wins.T) / (p[:, None] + p)).sum(1) + 1 / (p + 1)
    return (wins.sum(1) + 0.5) / expected


def some_wins() -> list[tuple]:
    rng = np.random.default_rng(0)
    wins = rng.integers(0, 4, (5, 5)) * (1.0 - np.eye(5))
    return [(np.ones(5), wins), (np.array([0.5, 2.0, 1.0, 0.8, 1.25]), wins)]


def same_answers(first: list[str], second: list[str]) -> float:
    """Share of repeated pairs that were answered alike, in [0, 1].

    first, second: "left", "right" or "same" for the same pairs. When a pair was shown for the
    second time, its two sides were exchanged.
    """
    exchanged = {"left": "right", "same": "same", "right": "left"}
    return float(np.mean([a == exchanged[b] for a, b in zip(first, second)]))


def same_answers_as_clicked(first, second):
    """The sides were exchanged the second time: who means the same image says "left" once and
    "right" once."""
    return float(np.mean([a == b for a, b in zip(first, second)]))


def same_answers_without_ties(first, second):
    """Who says "same" twice has answered alike, too: keep these pairs."""
    exchanged = {"left": "right", "right": "left"}
    return float(np.mean([a == exchanged.get(b) for a, b in zip(first, second)]))


def repeated() -> list[tuple]:
    first = ["left", "right", "same", "same", "left", "right"]
    return [(first, ["right", "right", "same", "left", "right", "left"])]


def plcc_loss(scores: torch.Tensor, mos: torch.Tensor) -> torch.Tensor:
    """1 - PLCC of a batch: 0 where scores lie on a rising line over the MOS, 2 on a falling one.

        PLCC = sum(s m) / (|s| |m|),   s = scores - mean(scores),   m = mos - mean(mos)

    scores, mos: (B,). Returns (). Add 1e-6 to the denominator: equal scores have no direction.
    """
    s = scores - scores.mean()
    m = mos - mos.mean()
    return 1 - (s * m).sum() / (s.norm() * m.norm() + 1e-6)


def plcc_loss_without_means(scores, mos):
    """The means are still in it. All scores and MOS are positive, so this is near 0 for any
    order."""
    return 1 - (scores * mos).sum() / (scores.norm() * mos.norm() + 1e-6)


def plcc_loss_squared(scores, mos):
    """The square of PLCC is 1 for a falling line, too: a network that is upside down would be
    content."""
    s = scores - scores.mean()
    m = mos - mos.mean()
    return 1 - ((s * m).sum() / (s.norm() * m.norm() + 1e-6)) ** 2


def plcc_loss_rewarding(scores, mos):
    """This is PLCC itself. A loss must fall when the scores get better: 1 - PLCC."""
    s = scores - scores.mean()
    m = mos - mos.mean()
    return (s * m).sum() / (s.norm() * m.norm() + 1e-6)


def a_batch() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    mos = torch.rand(12, generator=draw)
    return [(mos + 0.2 * torch.rand(12, generator=draw), mos), (1 - mos.square(), mos)]


EXERCISES = {
    "90.1": Exercise(
        count_wins, [count_wins_tie_for_both, count_wins_without_ties, count_wins_transposed],
        some_answers),
    "90.2": Exercise(
        bradley_terry_round,
        [bradley_terry_without_average, bradley_terry_of_losses, bradley_terry_of_wins,
         bradley_terry_unscaled], some_wins),
    "90.3": Exercise(
        same_answers, [same_answers_as_clicked, same_answers_without_ties], repeated),
    "90.4": Exercise(
        plcc_loss, [plcc_loss_without_means, plcc_loss_squared, plcc_loss_rewarding], a_batch),
    "90.5": Choice("c", {
        "a": "The interval also holds 0, no connection at all. One more image or another "
             "sitting could turn the sign.",
        "b": "The interval also holds 0.6. That nothing was seen does not show that nothing is "
             "there.",
    }),
    "90.6": Choice("a", {
        "b": "More splits make an interval narrower, but the best of eight was chosen by luck "
             "as well, and it keeps that luck on the same images.",
        "c": "An interval of 95 % fails one time in twenty. With eight tries that is about one "
             "time in three.",
    }),
}
