"""Exercises of notebook 10: the overlap rule, versions of an image, the half scale, the swap, InfoNCE,
a training loop, and what the pairs and the negatives are worth."""

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import nn

from iqa_core.distortions import IDENTITY, TYPES
from iqa_exercises import Choice, Exercise, Number


def offsets(u: torch.Tensor, size: int, low: float, high: float) -> torch.Tensor:
    """By how much the second crop of a pair lies below the first, s_y, and to its right, s_x.

    u: (N, 2), uniform random numbers in [0, 1), the first for s_y, the second for s_x.

    - s_y is one of first, first + 1, ..., end - 1 with equal chance, where
      first = ceil((1 - high) size) and end = ceil((1 - low) size).
    - s_x is one of 0, 1, ..., X - 1 with equal chance. X is the largest whole number, but at least
      1, with (size - s_y)(size - X) >= low size^2.

    size: side of the crops; low, high: the shares of a crop that both have in common. Returns
    (N, 2), whole numbers (`.long()`).
    """
    first = math.ceil(round((1 - high) * size, 6))
    end = math.ceil(round((1 - low) * size, 6))
    down = first + (u[:, 0] * (end - first)).long()
    most = (size - low * size**2 / (size - down) + 1e-6).floor().clamp(min=1)
    right = (u[:, 1] * most).long()
    return torch.stack([down, right], 1)


def offsets_shares_exchanged(u, size, low, high):
    """The shares are exchanged. A large overlap belongs to a small offset: s_y begins at
    (1 - high) size, and ends before (1 - low) size."""
    first = math.ceil(round(low * size, 6))
    end = math.ceil(round(high * size, 6))
    down = first + (u[:, 0] * (end - first)).long()
    most = (size - low * size**2 / (size - down) + 1e-6).floor().clamp(min=1)
    right = (u[:, 1] * most).long()
    return torch.stack([down, right], 1)


def offsets_both_alike(u, size, low, high):
    """s_x is drawn as s_y is. Then the shared area is the product of two small shares, far below
    `low`. What s_x may be depends on s_y."""
    first = math.ceil(round((1 - high) * size, 6))
    end = math.ceil(round((1 - low) * size, 6))
    return first + (u * (end - first)).long()


def offsets_only_down(u, size, low, high):
    """The second crop never moves to the right. s_x lies between 0 and X - 1, and X follows from the
    smallest overlap, `low`, not from `high`."""
    first = math.ceil(round((1 - high) * size, 6))
    end = math.ceil(round((1 - low) * size, 6))
    down = first + (u[:, 0] * (end - first)).long()
    return torch.stack([down, torch.zeros_like(down)], 1)


def offsets_turned(u, size, low, high):
    """The columns are exchanged: the first number goes down, the second to the right."""
    first = math.ceil(round((1 - high) * size, 6))
    end = math.ceil(round((1 - low) * size, 6))
    down = first + (u[:, 0] * (end - first)).long()
    most = (size - low * size**2 / (size - down) + 1e-6).floor().clamp(min=1)
    right = (u[:, 1] * most).long()
    return torch.stack([right, down], 1)


def uniform_numbers() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    u = torch.rand(200, 2, generator=draw)
    return [(u, 160, 0.1, 0.3), (u, 64, 0.1, 0.3), (u, 64, 0.4, 0.6)]


def choose(u: torch.Tensor, v: torch.Tensor) -> tuple:
    """Which distortion each version of an image gets: types and levels.

    u: (25,), uniform random numbers, one a type. The chosen types are those of the 11 smallest
    numbers, the smallest first; so no type comes twice. v: (11,), uniform random numbers in [0, 1);
    each gives a level 1 to 5 with equal chance. Types count from 1 to 25. Before them stands the
    pristine version, with type 0 and level 0.

    Returns types (12,) and levels (12,), whole numbers.
    """
    types = u.argsort()[:11] + 1
    levels = (5 * v).long() + 1
    return F.pad(types, (1, 0)), F.pad(levels, (1, 0))


def choose_with_replacement(u, v):
    """One type may come twice. Take the places of the 11 smallest of the 25 numbers: argsort."""
    types = (25 * u[:11]).long() + 1
    levels = (5 * v).long() + 1
    return F.pad(types, (1, 0)), F.pad(levels, (1, 0))


def choose_from_zero(u, v):
    """argsort counts from 0. Types count from 1, since 0 stands for the pristine version."""
    types = u.argsort()[:11]
    levels = (5 * v).long() + 1
    return F.pad(types, (1, 0)), F.pad(levels, (1, 0))


def choose_level_zero(u, v):
    """(5 * v).long() is one of 0 to 4. The levels are 1 to 5."""
    types = u.argsort()[:11] + 1
    return F.pad(types, (1, 0)), F.pad((5 * v).long(), (1, 0))


def choose_rounded(u, v):
    """Rounding gives the first and the last level half of the chance of the others. Cut off the
    decimals instead: .long()."""
    types = u.argsort()[:11] + 1
    levels = (4 * v).round().long() + 1
    return F.pad(types, (1, 0)), F.pad(levels, (1, 0))


def choose_without_pristine(u, v):
    """The pristine version is missing. It stands first, with type 0 and level 0."""
    return u.argsort()[:11] + 1, (5 * v).long() + 1


def choose_largest(u, v):
    """These are the 11 largest numbers. The smallest are asked for, in rising order."""
    types = u.argsort(descending=True)[:11] + 1
    levels = (5 * v).long() + 1
    return F.pad(types, (1, 0)), F.pad(levels, (1, 0))


def types_and_levels() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    return [(torch.rand(25, generator=draw), torch.rand(11, generator=draw)) for _ in range(8)]


def half(y: torch.Tensor) -> torch.Tensor:
    """The versions of an image at half scale, as the official code makes them.

    Bicubic interpolation to half of both sides (rounded down), with the corners aligned and without
    antialiasing: F.interpolate. Its curves may leave the range of an image, so clamp to [0, 1].
    y: (B, 3, H, W). Returns (B, 3, H // 2, W // 2).
    """
    size = (y.shape[-2] // 2, y.shape[-1] // 2)
    return F.interpolate(y, size, mode="bicubic", align_corners=True).clamp(0, 1)


def half_every_second(y):
    """This keeps every second pixel. Interpolate, with mode="bicubic"."""
    return y[..., :y.shape[-2] // 2 * 2:2, :y.shape[-1] // 2 * 2:2]


def half_means(y):
    """This takes the mean of 2 x 2 pixels, which removes noise. The official code does not average
    before it drops pixels."""
    return F.avg_pool2d(y, 2)


def half_bilinear(y):
    """The interpolation is bilinear; bicubic is asked for."""
    size = (y.shape[-2] // 2, y.shape[-1] // 2)
    return F.interpolate(y, size, mode="bilinear", align_corners=True).clamp(0, 1)


def half_corners_free(y):
    """The corners are not aligned: align_corners=True."""
    size = (y.shape[-2] // 2, y.shape[-1] // 2)
    return F.interpolate(y, size, mode="bicubic", align_corners=False).clamp(0, 1)


def half_antialiased(y):
    """This averages before it drops pixels: antialias=True is not in the official code."""
    size = (y.shape[-2] // 2, y.shape[-1] // 2)
    return F.interpolate(y, size, mode="bicubic", antialias=True).clamp(0, 1)


def half_not_clamped(y):
    """Some values lie below 0 or above 1: clamp them."""
    size = (y.shape[-2] // 2, y.shape[-1] // 2)
    return F.interpolate(y, size, mode="bicubic", align_corners=True)


def some_versions() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    return [((torch.rand(2, 3, 21, 26, generator=draw) > 0.5).float(),)]


def swap(a: torch.Tensor, b: torch.Tensor, rows: slice) -> tuple:
    """Exchange the two crops of some of the versions.

    a, b: (N, 3, P, P), the first and the second crops; rows: which versions are exchanged. Both are
    windows of one region, and they overlap there. Leave them as they are, and return two new
    tensors.
    """
    new_a = a.clone()
    new_b = b.clone()
    new_a[rows] = b[rows]
    new_b[rows] = a[rows]
    return new_a, new_b


def swap_all(a, b, rows):
    """All versions are exchanged. Only `rows` are."""
    return b.clone(), a.clone()


def swap_none(a, b, rows):
    """Nothing is exchanged."""
    return a.clone(), b.clone()


def swap_lost(a, b, rows):
    """The first assignment writes over the crops that the second one needs, so both sides hold the
    same crop. Clone first."""
    new_a = a.clone()
    new_b = b.clone()
    new_a[rows] = new_b[rows]
    new_b[rows] = new_a[rows]
    return new_a, new_b


def swap_without_clone(a, b, rows):
    """This writes into the region that a and b are windows of: where they overlap, writing the one
    spoils the other. Clone first, and write into the clones."""
    before = a[rows].clone()
    a[rows] = b[rows]
    b[rows] = before
    return a, b


def swap_by_arithmetic(a, b, rows):
    """This is the exchange of the official code, by three additions and subtractions in place. It
    works for tensors of their own. But a and b are windows of one region, and writing the one changes
    the other where they overlap."""
    a[rows] = a[rows] + b[rows]
    b[rows] = a[rows] - b[rows]
    a[rows] = a[rows] - b[rows]
    return a, b


def overlapping_windows() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    y = torch.rand(12, 3, 15, 13, generator=draw)
    a, b = y[..., :8, 1:9], y[..., 6:14, 3:11]
    return [(a, b, slice(0, 6)), (a.clone(), b.clone(), slice(6, 12))]


def info_nce(q: torch.Tensor, k: torch.Tensor, negatives: torch.Tensor, T: float) -> torch.Tensor:
    """InfoNCE: how hard it is to tell a query's own key from its negatives.

        L_i = -log( e_ii / (e_ii + sum over the negatives j of e_ij) ),   e_ij = exp(q_i k_j / T)

    q, k: (N, D), codes of length 1; row i of k is the key of row i of q. negatives: (N, N), True in
    row i and column j where key j is a negative of query i. T: temperature. Returns the mean of the
    L_i, one number.
    """
    logits = q @ k.T / T
    own = logits.diagonal().exp()
    others = (logits.exp() * negatives).sum(1)
    return -(own / (own + others)).log().mean()


def info_nce_without_own(q, k, negatives, T):
    """The own key is missing below the fraction line. So the loss may fall below 0."""
    logits = q @ k.T / T
    others = (logits.exp() * negatives).sum(1)
    return -(logits.diagonal().exp() / others).log().mean()


def info_nce_all_keys(q, k, negatives, T):
    """Every other key of the batch counts as a negative. Only those count where `negatives` is
    True."""
    logits = q @ k.T / T
    return -(logits.diagonal().exp() / logits.exp().sum(1)).log().mean()


def info_nce_zero_logits(q, k, negatives, T):
    """The logits of the keys that do not count were set to 0. But exp(0) is 1, so they count after
    all. Set the exponentials to 0, or the logits to minus infinity."""
    logits = q @ k.T / T
    own = logits.diagonal().exp()
    logits = logits * negatives
    logits.fill_diagonal_(-torch.inf)
    return -(own / (own + logits.exp().sum(1))).log().mean()


def info_nce_times_temperature(q, k, negatives, T):
    """The similarities are multiplied by the temperature. Divide: a small T makes differences
    large."""
    logits = q @ k.T * T
    own = logits.diagonal().exp()
    others = (logits.exp() * negatives).sum(1)
    return -(own / (own + others)).log().mean()


def info_nce_keys_ask(q, k, negatives, T):
    """Here every key looks for its query. Row i of the logits belongs to query i: q @ k.T, and the
    sum runs along a row."""
    logits = q @ k.T / T
    own = logits.diagonal().exp()
    others = (logits.exp() * negatives).sum(0)
    return -(own / (own + others)).log().mean()


def info_nce_log_of_mean(q, k, negatives, T):
    """The mean over the queries is taken before the logarithm. Take the logarithm of each query
    first."""
    logits = q @ k.T / T
    own = logits.diagonal().exp()
    others = (logits.exp() * negatives).sum(1)
    return -(own / (own + others)).mean().log()


def codes() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    q, k = F.normalize(torch.randn(2, 6, 8, generator=draw), dim=-1)
    other = ~torch.eye(6, dtype=bool)
    some = other & (torch.rand(6, 6, generator=draw) > 0.4)
    return [(q, k, other, 0.2), (q, k, some, 0.5)]


def train(net: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable, loss_of: Callable,
          T: float) -> list:
    """The training loop: one step a batch, by InfoNCE.

    batches yields (queries, keys, negatives); net maps queries or keys to vectors (N, D) of any
    lengths, so make the length of each vector 1 (F.normalize); loss_of(q, k, negatives, T) is the
    loss. Returns the loss of every step as a list of numbers.
    """
    losses = []
    for queries, keys, negatives in batches:
        q = F.normalize(net(queries), dim=1)
        k = F.normalize(net(keys), dim=1)
        loss = loss_of(q, k, negatives, T)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_not_normalised(net, optimizer, batches, loss_of, T):
    """The vectors keep their lengths. Then the network can make the loss small by making them long:
    F.normalize."""
    losses = []
    for queries, keys, negatives in batches:
        loss = loss_of(net(queries), net(keys), negatives, T)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_normalised_over_batch(net, optimizer, batches, loss_of, T):
    """The lengths are those of the columns. One vector is a row: F.normalize(..., dim=1)."""
    losses = []
    for queries, keys, negatives in batches:
        q = F.normalize(net(queries), dim=0)
        k = F.normalize(net(keys), dim=0)
        loss = loss_of(q, k, negatives, T)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_adding_up(net, optimizer, batches, loss_of, T):
    """The gradients of all steps add up. Before loss.backward() comes optimizer.zero_grad()."""
    losses = []
    for queries, keys, negatives in batches:
        q = F.normalize(net(queries), dim=1)
        k = F.normalize(net(keys), dim=1)
        loss = loss_of(q, k, negatives, T)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_without_step(net, optimizer, batches, loss_of, T):
    """Nothing is learned: optimizer.step() is missing."""
    losses = []
    for queries, keys, negatives in batches:
        q = F.normalize(net(queries), dim=1)
        k = F.normalize(net(keys), dim=1)
        losses.append(loss_of(q, k, negatives, T).item())
    return losses


def train_on_queries_only(net, optimizer, batches, loss_of, T):
    """The keys are the queries themselves, so each query finds its key at once. Hand the keys to the
    network."""
    losses = []
    for queries, keys, negatives in batches:
        q = F.normalize(net(queries), dim=1)
        loss = loss_of(q, q, negatives, T)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def a_small_training() -> list[tuple]:
    def loss_of(q, k, negatives, T):
        logits = (q @ k.T / T).masked_fill(~(negatives | torch.eye(len(q), dtype=bool)), -1e9)
        return F.cross_entropy(logits, torch.arange(len(q)))

    draw = torch.Generator().manual_seed(0)
    batches = [(*torch.randn(2, 5, 6, generator=draw), ~torch.eye(5, dtype=bool)) for _ in range(4)]
    net = nn.Linear(6, 3)
    with torch.no_grad():
        net.weight.copy_(torch.randn(3, 6, generator=draw))
        net.bias.copy_(torch.randn(3, generator=draw))
    return [(net, torch.optim.SGD(net.parameters(), lr=0.5), batches, loss_of, 0.2)]


def share_with_a_copy() -> float:
    """How often the 11 distorted versions hold a copy of the pristine one."""
    draw = torch.Generator().manual_seed(0)
    unchanged = torch.zeros(26, 6, dtype=torch.bool)
    for name, level in IDENTITY:
        unchanged[TYPES.index(name) + 1, level] = True
    draws = 20_000
    types = torch.rand(draws, 25, generator=draw).argsort(1)[:, :11] + 1
    levels = torch.randint(1, 6, (draws, 11), generator=draw)
    return unchanged[types, levels].any(1).float().mean().item()


def copies_expected() -> float:
    """This is how many copies there are on average. A draw with two copies counts only once."""
    return 11 * len(IDENTITY) / 125


def share_of_versions() -> float:
    """This is the share of cells, or of versions, that change nothing. Ask of each draw of 11
    versions whether any of them is a copy."""
    return len(IDENTITY) / 125


def share_without_a_copy() -> float:
    """This is the share of draws without a copy."""
    return 1 - share_with_a_copy()


EXERCISES = {
    "10.1": Exercise(
        offsets,
        [offsets_shares_exchanged, offsets_both_alike, offsets_only_down, offsets_turned],
        uniform_numbers),
    "10.2": Exercise(
        choose,
        [choose_with_replacement, choose_from_zero, choose_level_zero, choose_rounded,
         choose_without_pristine, choose_largest],
        types_and_levels),
    "10.3": Exercise(
        half,
        [half_every_second, half_means, half_bilinear, half_corners_free, half_antialiased,
         half_not_clamped],
        some_versions),
    "10.4": Exercise(
        swap,
        [swap_all, swap_none, swap_lost, swap_by_arithmetic, swap_without_clone],
        overlapping_windows),
    "10.5": Exercise(
        info_nce,
        [info_nce_without_own, info_nce_all_keys, info_nce_zero_logits, info_nce_times_temperature,
         info_nce_keys_ask, info_nce_log_of_mean],
        codes),
    "10.6": Exercise(
        train,
        [train_not_normalised, train_normalised_over_batch, train_adding_up, train_without_step,
         train_on_queries_only],
        a_small_training),
    "10.7": Number(
        share_with_a_copy, 0.015, [copies_expected, share_of_versions, share_without_a_copy]),
    "10.8": Choice("b", {
        "a": "A network must know what sets the positive apart. Distortion does not: it differs "
             "inside the pair, too.",
        "c": "Something does set the positive apart: it alone shows the query's image."}),
}
