"""Exercises of notebook 21: which place pulls the score, a mask for neighbouring cells."""

import torch

from iqa_exercises import Choice, Exercise


def pull(s: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """How far each place moves the score of its image: the score minus the score without this
    place.

    s, w: (B, N), score and weight of each place, as in section 2. Returns (B, N); below 0 = it
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

    low_grid, high_grid, cells: (rows, columns), as in section 1. Returns (N, M), row by row; True =
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
    """This is the mask of section 1, the own cell alone. Neighbours are one step away."""
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
        pull, [pull_sign, pull_weight_kept, pull_plain_mean, pull_whole_batch], heads),
    "21.2": Exercise(
        near,
        [near_in_a_line, near_without_corners, near_either, near_own_cell, near_in_tokens,
         near_turned],
        grids),
    "21.3": Choice("b", {
        "a": "Adam divides gradient plus decay by their usual size, which is now that of the "
             "noise. How far does a decay of 0.00001 times 0.1 move the weight then?",
        "c": "One step of Adam is about the learning rate, 0.001. Even 200 steps in one direction "
             "would end at 0.3."}),
    "21.4": Choice("a", {
        "b": "Each image still gets one throw each time: with its reference or without. Nothing is "
             "computed twice.",
        "c": "The loss has no term that holds two scores of one image, and no coin adds one."}),
}
