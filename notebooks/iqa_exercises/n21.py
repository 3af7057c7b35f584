"""Exercises of notebook 21: attention between channels, cells, the weighted score, the loss of
joint training, which place pulls the score, a mask for neighbouring cells."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

from iqa_core import yoto, yoto_attention
from iqa_exercises import Choice, Exercise


def channel_attention(x: torch.Tensor, layer) -> torch.Tensor:
    """Attention between channels: each channel is a token, a list of its N = h w numbers.

    With p = x as (B, C, N):

        out = x + gelu(layer.gate(p)) * attention(layer.query(p), layer.key(p), layer.value(p))

    x: maps (B, C, h, w); layer has four linear maps over positions: gate (to one number), query,
    key and value. Use F.scaled_dot_product_attention. Returns (B, C, h, w).
    """
    p = x.flatten(2)
    answers = F.scaled_dot_product_attention(layer.query(p), layer.key(p), layer.value(p))
    return x + (F.gelu(layer.gate(p)) * answers).view_as(x)


def channel_attention_without_x(x, layer):
    """x itself is missing: with a closed gate a map must pass as it is."""
    p = x.flatten(2)
    answers = F.scaled_dot_product_attention(layer.query(p), layer.key(p), layer.value(p))
    return (F.gelu(layer.gate(p)) * answers).view_as(x)


def channel_attention_ungated(x, layer):
    """The gate is missing: every channel lets its whole answer in."""
    p = x.flatten(2)
    answers = F.scaled_dot_product_attention(layer.query(p), layer.key(p), layer.value(p))
    return x + answers.view_as(x)


def channel_attention_between_places(x, layer):
    """Here the places attend to one another. A channel is a token: leave p as (B, C, N), so that
    the weights are (B, C, C)."""
    p = x.flatten(2)
    q, k, v = layer.query(p).mT, layer.key(p).mT, layer.value(p).mT
    answers = F.scaled_dot_product_attention(q, k, v).mT
    return x + (F.gelu(layer.gate(p)) * answers).reshape(x.shape)


def channel_attention_scrambled(x, layer):
    """The answers are transposed and then reshaped, which mixes channels and places. They are
    (B, C, N) already: only N has to become (h, w) again."""
    p = x.flatten(2)
    answers = F.scaled_dot_product_attention(layer.query(p), layer.key(p), layer.value(p))
    return x + (F.gelu(layer.gate(p)) * answers.mT.reshape(p.shape)).view_as(x)


def maps_and_layer() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 3, 4, generator=draw)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = {name: nn.Linear(12, 1 if name == "gate" else 12)
                 for name in ("query", "key", "value", "gate")}
    return [(x, SimpleNamespace(**layer))]


def semantic(low, high, attend, low_grid, high_grid, cells) -> torch.Tensor:
    """Fine tokens ask the coarse tokens of their own cell.

    low: (B, N, C), fine tokens; high: (B, M, C), coarse tokens; both row by row of their grids.
    attend(x, q, kv): the gated attention of notebook 20. Grids and cells are (rows, columns).
    yoto_attention.to_cells(tokens, grid, cells) cuts a grid into cells, which become entries of the
    batch; yoto_attention.from_cells is the way back. Returns (B, N, C).
    """
    fine = yoto_attention.to_cells(low, low_grid, cells)
    coarse = yoto_attention.to_cells(high, high_grid, cells)
    return yoto_attention.from_cells(attend(fine, fine, coarse), low_grid, cells)


def semantic_not_cut(low, high, attend, low_grid, high_grid, cells):
    """Every fine token asks all coarse tokens: nothing was cut into cells."""
    return attend(low, low, high)


def semantic_not_put_back(low, high, attend, low_grid, high_grid, cells):
    """The cells are still entries of the batch. Put them back with from_cells."""
    fine = yoto_attention.to_cells(low, low_grid, cells)
    coarse = yoto_attention.to_cells(high, high_grid, cells)
    return attend(fine, fine, coarse)


def semantic_in_a_line(low, high, attend, low_grid, high_grid, cells):
    """Tokens that follow one another are taken for a cell. They stand row by row, so they form a
    strip; to_cells cuts squares."""
    parts = low.shape[0] * cells[0] * cells[1]
    fine = low.reshape(parts, -1, low.shape[-1])
    coarse = high.reshape(parts, -1, high.shape[-1])
    return attend(fine, fine, coarse).reshape(low.shape)


def semantic_high_asks(low, high, attend, low_grid, high_grid, cells):
    """The coarse tokens ask. The fine ones ask, and they are what the answer is added to."""
    fine = yoto_attention.to_cells(low, low_grid, cells)
    coarse = yoto_attention.to_cells(high, high_grid, cells)
    return yoto_attention.from_cells(attend(coarse, coarse, fine), high_grid, cells)


def semantic_self(low, high, attend, low_grid, high_grid, cells):
    """The fine tokens answer themselves, and nothing coarse comes in. Keys and values belong to
    high."""
    fine = yoto_attention.to_cells(low, low_grid, cells)
    return yoto_attention.from_cells(attend(fine, fine, fine), low_grid, cells)


def fine_and_coarse() -> list[tuple]:
    def attend(x, q, kv):
        return x + torch.softmax(q @ kv.mT, -1) @ kv

    draw = torch.Generator().manual_seed(0)
    low = torch.randn(2, 8 * 12, 4, generator=draw)
    high = torch.randn(2, 4 * 6, 4, generator=draw)
    return [(low, high, attend, (8, 12), (4, 6), (2, 3))]


def weighted_score(s: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """The score of each image: the mean of the places' scores s, weighted by w.

    s, w: (B, N), score and weight of each place. Returns (B,).
    """
    return (s * w).sum(1) / w.sum(1)


def weighted_score_plain(s, w):
    """This is the plain mean of s. Each place counts by its weight w."""
    return s.mean(1)


def weighted_score_not_divided(s, w):
    """The division by the sum of the weights is missing, so twice the weights would mean twice the
    score."""
    return (s * w).sum(1)


def weighted_score_by_number(s, w):
    """The sum is divided by the number of places. Divide by the sum of their weights."""
    return (s * w).mean(1)


def weighted_score_whole_batch(s, w):
    """The sums run over the whole batch. Each image has a score of its own: sum over places
    alone."""
    return (s * w).sum() / w.sum()


def task_loss(head, batch: dict, task: str, coin) -> torch.Tensor:
    """The loss of one batch: 0.1 times the squared error plus 0.9 times yoto.fidelity(scores, mos).

    head(maps, ref_maps) gives scores (B,); without a reference, ref_maps is None. batch holds
    "maps", "ref_maps" and "score", the scores that people gave. task: "fr" hands over the
    references, "nr" does not, and with "joint" a coin decides once for the whole batch: coin() is
    a number in [0, 1), and below 0.5 the references are handed over. Returns one number.
    """
    with_reference = task == "fr" or task == "joint" and coin() < 0.5
    scores = head(batch["maps"], batch["ref_maps"] if with_reference else None)
    squared_error = F.mse_loss(scores, batch["score"])
    return 0.1 * squared_error + 0.9 * yoto.fidelity(scores, batch["score"])


def task_loss_always_reference(head, batch, task, coin):
    """The references are always handed over. With "nr" they never are, with "joint" only if
    coin() < 0.5."""
    scores = head(batch["maps"], batch["ref_maps"])
    squared_error = F.mse_loss(scores, batch["score"])
    return 0.1 * squared_error + 0.9 * yoto.fidelity(scores, batch["score"])


def task_loss_coin_for_all(head, batch, task, coin):
    """The coin decides for the single tasks, too. "fr" and "nr" do not throw it."""
    scores = head(batch["maps"], batch["ref_maps"] if coin() < 0.5 else None)
    squared_error = F.mse_loss(scores, batch["score"])
    return 0.1 * squared_error + 0.9 * yoto.fidelity(scores, batch["score"])


def task_loss_both(head, batch, task, coin):
    """With "joint" both scores enter the loss of one batch. The coin chooses one of them."""
    total = 0
    for reference in {"fr": [True], "nr": [False], "joint": [True, False]}[task]:
        scores = head(batch["maps"], batch["ref_maps"] if reference else None)
        total = total + 0.1 * F.mse_loss(scores, batch["score"])
        total = total + 0.9 * yoto.fidelity(scores, batch["score"])
    return total


def task_loss_squared_error(head, batch, task, coin):
    """This is the squared error alone. Nine parts of the fidelity loss go to one part of it."""
    with_reference = task == "fr" or task == "joint" and coin() < 0.5
    scores = head(batch["maps"], batch["ref_maps"] if with_reference else None)
    return F.mse_loss(scores, batch["score"])


def task_loss_shares_swapped(head, batch, task, coin):
    """The shares are swapped: 0.1 belongs to the squared error, 0.9 to the fidelity loss."""
    with_reference = task == "fr" or task == "joint" and coin() < 0.5
    scores = head(batch["maps"], batch["ref_maps"] if with_reference else None)
    squared_error = F.mse_loss(scores, batch["score"])
    return 0.9 * squared_error + 0.1 * yoto.fidelity(scores, batch["score"])


def batches_and_coins() -> list[tuple]:
    def head(maps, ref_maps=None):
        means = maps[0].mean((1, 2, 3))
        return means if ref_maps is None else means - 0.4 * ref_maps[0].mean((1, 2, 3))

    draw = torch.Generator().manual_seed(0)
    batch = {"maps": [torch.rand(6, 2, 4, 4, generator=draw)],
             "ref_maps": [torch.rand(6, 2, 4, 4, generator=draw)],
             "score": torch.rand(6, generator=draw)}
    return [(head, batch, task, lambda thrown=thrown: thrown)
            for task, thrown in (("joint", 0.2), ("joint", 0.8), ("nr", 0.2), ("fr", 0.8))]


def pull(s: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """How far each place moves the score of its image: the score minus the score without this
    place.

    s, w: (B, N), score and weight of each place, as in section 3. Returns (B, N); below 0 = it
    pulls down.
    """
    top = (s * w).sum(1, keepdim=True)
    bottom = w.sum(1, keepdim=True)
    without = (top - s * w) / (bottom - w)
    return top / bottom - without


def pull_sign(s, w):
    """The sign is turned. With a bad place the score is lower than without it, so its pull is below
    0."""
    top = (s * w).sum(1, keepdim=True)
    bottom = w.sum(1, keepdim=True)
    return (top - s * w) / (bottom - w) - top / bottom


def pull_weight_kept(s, w):
    """The place is gone from the upper sum but not from the sum of weights. It must leave both."""
    top = (s * w).sum(1, keepdim=True)
    bottom = w.sum(1, keepdim=True)
    return top / bottom - (top - s * w) / bottom


def pull_plain_mean(s, w):
    """This leaves places out of a plain mean. Places count by their weights w."""
    top = s.sum(1, keepdim=True)
    n = s.shape[1]
    return top / n - (top - s) / (n - 1)


def pull_whole_batch(s, w):
    """The sums run over the whole batch. Each image has a score of its own: sum over places
    alone."""
    top = (s * w).sum()
    bottom = w.sum()
    return top / bottom - (top - s * w) / (bottom - w)


def heads() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    s, w = torch.rand(2, 3, 10, generator=draw)
    return [(s, w)]


def near(low_grid: tuple, high_grid: tuple, cells: tuple) -> torch.Tensor:
    """A mask: fine tokens may attend to the coarse ones of their own cell and of the (up to) eight
    cells around it.

    low_grid, high_grid, cells: (rows, columns), as in section 2. Returns (N, M), row by row; True =
    may attend.
    """
    def cell(grid):  # row and column of each token's cell, (tokens, 2)
        rows, columns = (torch.arange(n) * c // n for n, c in zip(grid, cells))
        return torch.cartesian_prod(rows, columns)

    steps = (cell(low_grid)[:, None] - cell(high_grid)).abs()  # (N, M, 2)
    return (steps <= 1).all(2)


def near_in_a_line(low_grid, high_grid, cells):
    """Cells are compared by their number in a line. There the end of a row touches the start of the
    next, and what lies above is far away. Compare rows and columns, each on its own."""
    def cell(grid):
        rows, columns = (torch.arange(n) * c // n for n, c in zip(grid, cells))
        return (rows[:, None] * cells[1] + columns).flatten()

    return (cell(low_grid)[:, None] - cell(high_grid)).abs() <= 1


def near_without_corners(low_grid, high_grid, cells):
    """Cells that meet at a corner are missing: one step down AND one step right is near as well."""
    def cell(grid):
        rows, columns = (torch.arange(n) * c // n for n, c in zip(grid, cells))
        return torch.cartesian_prod(rows, columns)

    return (cell(low_grid)[:, None] - cell(high_grid)).abs().sum(2) <= 1


def near_either(low_grid, high_grid, cells):
    """Whole rows and columns of cells are let in. Row AND column must be at most one step away, not
    one of the two."""
    def cell(grid):
        rows, columns = (torch.arange(n) * c // n for n, c in zip(grid, cells))
        return torch.cartesian_prod(rows, columns)

    return ((cell(low_grid)[:, None] - cell(high_grid)).abs() <= 1).any(2)


def near_own_cell(low_grid, high_grid, cells):
    """This is the mask of section 2, the own cell alone. Neighbours are one step away."""
    def cell(grid):
        rows, columns = (torch.arange(n) * c // n for n, c in zip(grid, cells))
        return torch.cartesian_prod(rows, columns)

    return (cell(low_grid)[:, None] == cell(high_grid)).all(2)


def near_in_tokens(low_grid, high_grid, cells):
    """Places of two grids of different fineness are compared as they are. Find the cell of each
    token first."""
    low = torch.cartesian_prod(*(torch.arange(n) for n in low_grid))
    high = torch.cartesian_prod(*(torch.arange(n) for n in high_grid))
    return ((low[:, None] - high).abs() <= 1).all(2)


def near_turned(low_grid, high_grid, cells):
    """The mask is turned: fine tokens bring the queries, so they are its rows, and coarse tokens
    its columns."""
    def cell(grid):
        rows, columns = (torch.arange(n) * c // n for n, c in zip(grid, cells))
        return torch.cartesian_prod(rows, columns)

    return ((cell(high_grid)[:, None] - cell(low_grid)).abs() <= 1).all(2)


def grids() -> list[tuple]:
    return [((8, 12), (4, 6), (4, 6)), ((12, 12), (6, 6), (3, 3))]


EXERCISES = {
    "21.1": Exercise(
        channel_attention,
        [channel_attention_without_x, channel_attention_ungated, channel_attention_between_places,
         channel_attention_scrambled],
        maps_and_layer),
    "21.2": Exercise(
        semantic,
        [semantic_not_cut, semantic_not_put_back, semantic_in_a_line, semantic_high_asks,
         semantic_self],
        fine_and_coarse),
    "21.3": Exercise(
        weighted_score,
        [weighted_score_plain, weighted_score_not_divided, weighted_score_by_number,
         weighted_score_whole_batch],
        heads),
    "21.4": Exercise(
        task_loss,
        [task_loss_always_reference, task_loss_coin_for_all, task_loss_both,
         task_loss_squared_error, task_loss_shares_swapped],
        batches_and_coins),
    "21.5": Exercise(
        pull, [pull_sign, pull_weight_kept, pull_plain_mean, pull_whole_batch], heads),
    "21.6": Exercise(
        near,
        [near_in_a_line, near_without_corners, near_either, near_own_cell, near_in_tokens,
         near_turned],
        grids),
    "21.7": Choice("b", {
        "a": "Adam divides gradient plus decay by their usual size, which is now that of the "
             "noise. How far does a decay of 0.00001 times 0.1 move the weight then?",
        "c": "One step of Adam is about the learning rate, 0.001. Even 200 steps in one direction "
             "would end at 0.3."}),
    "21.8": Choice("a", {
        "b": "Each image still gets one throw each time: with its reference or without. Nothing is "
             "computed twice.",
        "c": "The loss has no term that holds two scores of one image, and no coin adds one."}),
}
