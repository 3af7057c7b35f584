"""Exercises of notebook 30: the score that neighbours tell, noise by an angle, summary or tokens, a perfect network."""

import numpy as np
import torch
import torch.nn.functional as F

from iqa_exercises import Choice, Exercise


def from_neighbours(keys: torch.Tensor, scores: torch.Tensor, k: int) -> torch.Tensor:
    """Guess each picture's score: the mean score of its k nearest OTHER pictures, by cosine.

    keys: (N, C), of any lengths; scores: (N,) in [0, 1]; k: 1 to N - 1. Returns (N,) guesses.
    """
    unit = F.normalize(keys, dim=1)
    cosine = (unit @ unit.T).fill_diagonal_(-torch.inf)
    return scores[cosine.topk(k).indices].mean(1)


def from_neighbours_and_itself(keys, scores, k):
    """Each picture is its own nearest neighbour, so it tells its own score. Put -inf on the diagonal of the cosines."""
    unit = F.normalize(keys, dim=1)
    return scores[(unit @ unit.T).topk(k).indices].mean(1)


def from_neighbours_zero(keys, scores, k):
    """A cosine of 0 does not put a picture last: others are negative. Put -inf on the diagonal."""
    unit = F.normalize(keys, dim=1)
    return scores[(unit @ unit.T).fill_diagonal_(0).topk(k).indices].mean(1)


def from_neighbours_farthest(keys, scores, k):
    """These are the farthest pictures. A large cosine means near: take the largest."""
    unit = F.normalize(keys, dim=1)
    return scores[(unit @ unit.T).fill_diagonal_(torch.inf).topk(k, largest=False).indices].mean(1)


def from_neighbours_long(keys, scores, k):
    """A product of two vectors grows with their lengths, so long ones look near. Give each key length 1 first."""
    return scores[(keys @ keys.T).fill_diagonal_(-torch.inf).topk(k).indices].mean(1)


def from_neighbours_wrong_axis(keys, scores, k):
    """Each channel was given length 1, over the pictures. A picture's vector is a row: normalise along dim=1."""
    unit = F.normalize(keys, dim=0)
    return scores[(unit @ unit.T).fill_diagonal_(-torch.inf).topk(k).indices].mean(1)


def neighbourhoods() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    keys = torch.randn(30, 5, generator=draw) * (0.2 + torch.rand(30, 1, generator=draw)) * torch.arange(1, 6)
    scores = torch.rand(30, generator=draw)
    return [(keys, scores, 3), (keys, scores, 20)]


def turn(features: torch.Tensor, noise: torch.Tensor, angle: float) -> torch.Tensor:
    """Turn each token by an angle towards its partner's token, in the plane of both; it keeps its length.

    length * (cos(angle) * u + sin(angle) * v): u has the token's direction, v is at a right angle to u, both
    of length 1. features, noise: (B, 1 + N, C); angle: radians, 0 to pi / 2. Returns (B, 1 + N, C).
    """
    u = F.normalize(features, dim=-1)
    v = F.normalize(noise - (noise * u).sum(-1, keepdim=True) * u, dim=-1)
    return features.norm(dim=-1, keepdim=True) * (u * np.cos(angle) + v * np.sin(angle))


def turn_askew(features, noise, angle):
    """The partner's token is not at a right angle to u. Take away its part along u before v gets length 1."""
    u, v = F.normalize(features, dim=-1), F.normalize(noise, dim=-1)
    return features.norm(dim=-1, keepdim=True) * (u * np.cos(angle) + v * np.sin(angle))


def turn_and_shorten(features, noise, angle):
    """All tokens have length 1 now. Give each one the length back that it had."""
    u = F.normalize(features, dim=-1)
    v = F.normalize(noise - (noise * u).sum(-1, keepdim=True) * u, dim=-1)
    return u * np.cos(angle) + v * np.sin(angle)


def turn_too_far(features, noise, angle):
    """v is as long as the partner's token across u, so the angle is another one. Give v length 1."""
    u = F.normalize(features, dim=-1)
    v = noise - (noise * u).sum(-1, keepdim=True) * u
    return features.norm(dim=-1, keepdim=True) * (u * np.cos(angle) + v * np.sin(angle))


def turn_wrong_axis(features, noise, angle):
    """Sums and lengths go over the tokens here. A token is a vector of C channels: use the last axis, dim=-1."""
    u = F.normalize(features, dim=1)
    v = F.normalize(noise - (noise * u).sum(1, keepdim=True) * u, dim=1)
    return features.norm(dim=1, keepdim=True) * (u * np.cos(angle) + v * np.sin(angle))


def turn_along(features, noise, angle):
    """The noise's part along the token is (noise · u) u, with u of length 1. The token itself is longer than u."""
    u = F.normalize(features, dim=-1)
    v = F.normalize(noise - (noise * features).sum(-1, keepdim=True) * features, dim=-1)
    return features.norm(dim=-1, keepdim=True) * (u * np.cos(angle) + v * np.sin(angle))


def features_of_two() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    features, noise = torch.randn(2, 3, 5, 8, generator=draw)
    return [(features, noise, 0.3), (features, noise, 1.2)]


EXERCISES = {
    "30.1": Exercise(from_neighbours, [from_neighbours_and_itself, from_neighbours_zero, from_neighbours_farthest,
                                       from_neighbours_long, from_neighbours_wrong_axis], neighbourhoods),
    "30.2": Exercise(turn, [turn_askew, turn_and_shorten, turn_too_far, turn_wrong_axis, turn_along], features_of_two),
    "30.3": Choice("a", {
        "b": "The tokens are many, but a member takes only one weighted mean of them. What does it add that mean to?",
        "c": "Compare two means of |new score - y| over the test pictures: one is several times the other."}),
    "30.4": Choice("b", {
        "a": "Partners are of like score, not of the same: half of a small gap is a movement, too.",
        "c": "The movement is half the gap between two scores of the network. How wide is it, now that both are human "
             "scores?"}),
}
