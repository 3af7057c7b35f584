"""Exercises of notebook 31: which rule finds the partner, consistency of gaps, a shrunken network, random partners."""

import torch
import torch.nn.functional as F

from iqa_exercises import Choice, Exercise


def which_rule(labels: torch.Tensor, keys: torch.Tensor, tau_q: float, tau_s: float) -> torch.Tensor:
    """The rule by which v3 finds each picture's partner among the others, v3 as in section 3.

    labels: (N,) in [0, 1]; keys: (N, C), each of length 1. Returns (N,), whole numbers:
    0 somebody fits in both, 1 similar quality only, 2 nobody of similar quality.
    """
    alike = ((labels[:, None] - labels).abs() <= tau_q).fill_diagonal_(False)
    both = alike & (keys @ keys.T <= tau_s)
    return 2 - alike.any(1).long() - both.any(1).long()


def which_rule_with_itself(labels, keys, tau_q, tau_s):
    """Everybody is as good as himself, so nobody is left for rule 2. Leave each picture out of its own search."""
    alike = (labels[:, None] - labels).abs() <= tau_q
    both = alike & (keys @ keys.T <= tau_s)
    return 2 - alike.any(1).long() - both.any(1).long()


def which_rule_two_partners(labels, keys, tau_q, tau_s):
    """One picture of similar quality and ANOTHER of other meaning are no partner. Join the conditions, then ask any."""
    alike = ((labels[:, None] - labels).abs() <= tau_q).fill_diagonal_(False)
    other = keys @ keys.T <= tau_s
    return 2 - alike.any(1).long() - (alike.any(1) & other.any(1)).long()


def which_rule_same_meaning(labels, keys, tau_q, tau_s):
    """A cosine above tau_s means that both show the same. v3 wants another meaning: at most tau_s."""
    alike = ((labels[:, None] - labels).abs() <= tau_q).fill_diagonal_(False)
    both = alike & (keys @ keys.T >= tau_s)
    return 2 - alike.any(1).long() - both.any(1).long()


def which_rule_signed(labels, keys, tau_q, tau_s):
    """A gap of quality has no sign: without abs every better picture counts as similar."""
    alike = ((labels[:, None] - labels) <= tau_q).fill_diagonal_(False)
    both = alike & (keys @ keys.T <= tau_s)
    return 2 - alike.any(1).long() - both.any(1).long()


def which_rule_reversed(labels, keys, tau_q, tau_s):
    """The numbers run the wrong way: 0 is for those who find a partner that fits in both."""
    alike = ((labels[:, None] - labels).abs() <= tau_q).fill_diagonal_(False)
    both = alike & (keys @ keys.T <= tau_s)
    return alike.any(1).long() + both.any(1).long()


def galleries() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    labels, keys = torch.rand(25, generator=draw), F.normalize(torch.rand(25, 3, generator=draw), dim=1)
    return [(labels, keys, 0.01, 0.9), (labels, keys, 0.03, 0.7)]


def gaps_kept(moved: torch.Tensor, y: torch.Tensor, beta: float) -> torch.Tensor:
    """SmoothL1 of gaps: noise may move all scores alike, but the gap y_i - y_j of any two pictures must stay.

    moved, y: (B,), scores with and without noise; no gradient to y. Returns the mean over all pairs i < j.
    """
    i, j = torch.triu_indices(len(y), len(y), 1)
    return F.smooth_l1_loss(moved[i] - moved[j], (y[i] - y[j]).detach(), beta=beta)


def gaps_kept_unsigned(moved, y, beta):
    """Without their signs, gaps stay even where two pictures swap their order. Keep the sign."""
    i, j = torch.triu_indices(len(y), len(y), 1)
    return F.smooth_l1_loss((moved[i] - moved[j]).abs(), (y[i] - y[j]).abs().detach(), beta=beta)


def gaps_kept_of_scores(moved, y, beta):
    """This compares the scores themselves, so a shift that all share is punished. Compare the gaps."""
    return F.smooth_l1_loss(moved, y.detach(), beta=beta)


def gaps_kept_with_itself(moved, y, beta):
    """The mean counts each picture with itself, a gap that is always kept. Take only pairs i < j."""
    return F.smooth_l1_loss(moved[:, None] - moved, (y[:, None] - y).detach(), beta=beta)


def gaps_kept_neighbours(moved, y, beta):
    """These are pairs of neighbours in the batch only. Take all pairs i < j, as torch.triu_indices gives them."""
    return F.smooth_l1_loss(moved.diff(), y.diff().detach(), beta=beta)


def gaps_kept_without_beta(moved, y, beta):
    """beta is missing, and its default 1 makes a square of every gap between scores in [0, 1]. Pass beta=beta."""
    i, j = torch.triu_indices(len(y), len(y), 1)
    return F.smooth_l1_loss(moved[i] - moved[j], (y[i] - y[j]).detach())


def gaps_kept_summed(moved, y, beta):
    """This is the sum over pairs; the mean is asked for."""
    i, j = torch.triu_indices(len(y), len(y), 1)
    return F.smooth_l1_loss(moved[i] - moved[j], (y[i] - y[j]).detach(), beta=beta, reduction="sum")


def scores_with_noise() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    y = torch.rand(8, generator=draw)
    return [(y + 0.3 + 0.3 * torch.randn(8, generator=draw), y, 0.01), (y + 0.2, y, 0.1)]


EXERCISES = {
    "31.1": Exercise(which_rule, [which_rule_with_itself, which_rule_two_partners, which_rule_same_meaning,
                                  which_rule_signed, which_rule_reversed], galleries),
    "31.2": Exercise(gaps_kept, [gaps_kept_unsigned, gaps_kept_of_scores, gaps_kept_with_itself, gaps_kept_neighbours,
                                 gaps_kept_without_beta, gaps_kept_summed], scores_with_noise),
    "31.3": Choice("a", {
        "b": "S is measured in standard deviations of the scores. What became of them?",
        "c": "The loss compares scores, not ranks. How large are y and the noisy y now?"}),
    "31.4": Choice("b", {
        "a": "To tell good from bad takes human scores, and here none speaks.",
        "c": "No label of the partner is used, but half of the features are the partner's, and they move the score."}),
}
