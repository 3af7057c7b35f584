"""Exercises of notebook 50: tables that can be trusted, paired differences, Holm, transfer, cost."""

import numpy as np
import pandas as pd

from iqa_exercises import Choice, Exercise


# --- 50.1 a cell of a table ----------------------------------------------------------------------

def cell(srcc: list, splits: int) -> str:
    """The text of one cell of a table: the median with three decimals.

    srcc: one value a split, in any order; splits: how many splits the table asks for. Where there
    are fewer, their number stands in brackets behind the median, as in "0.812 (3)". Without any
    value the cell is empty, "".
    """
    if len(srcc) == 0:
        return ""
    text = f"{np.median(srcc):.3f}"
    return text if len(srcc) >= splits else f"{text} ({len(srcc)})"


def cell_of_the_mean(srcc, splits):
    """That is the mean. One unlucky split pulls it down; the median stays where most splits are."""
    if len(srcc) == 0:
        return ""
    text = f"{np.mean(srcc):.3f}"
    return text if len(srcc) >= splits else f"{text} ({len(srcc)})"


def cell_of_the_best(srcc, splits):
    """That is the best split. It is the luckiest one, and it grows with the number of splits."""
    if len(srcc) == 0:
        return ""
    text = f"{np.max(srcc):.3f}"
    return text if len(srcc) >= splits else f"{text} ({len(srcc)})"


def cell_without_a_mark(srcc, splits):
    """A median of few splits looks like one of all splits. Write the number of splits behind it."""
    return f"{np.median(srcc):.3f}" if len(srcc) else ""


def some_cells() -> list[tuple]:
    return [([0.9, 0.1, 0.8, 0.85, 0.7], 5), ([0.6, 0.2, 0.5], 5), ([], 5), ([0.31, 0.33], 2)]


# --- 50.2 differences on the same splits ---------------------------------------------------------

def paired(a: pd.Series, b: pd.Series) -> np.ndarray:
    """The differences a - b on the splits that both methods have, by ascending number of the split.

    a, b: SRCC of two methods; the index holds the numbers of the splits, in any order, each once.
    Returns an array with one difference a common split.
    """
    both = sorted(set(a.index) & set(b.index))
    return (a.loc[both] - b.loc[both]).to_numpy()


def paired_by_position(a, b):
    """You paired the first with the first. Rows may stand in any order: pair by the number of the
    split."""
    few = min(len(a), len(b))
    return a.to_numpy()[:few] - b.to_numpy()[:few]


def paired_with_the_mean(a, b):
    """You took the mean of b from each a. Then the luck of a split, which both share, stays in the
    differences."""
    both = sorted(set(a.index) & set(b.index))
    return (a.loc[both] - b.loc[both].mean()).to_numpy()


def paired_with_zeros(a, b):
    """A split that only one method has became a difference against zero. Leave such splits out."""
    every = sorted(set(a.index) | set(b.index))
    return (a.reindex(every, fill_value=0.0) - b.reindex(every, fill_value=0.0)).to_numpy()


def two_methods() -> list[tuple]:
    a = pd.Series([0.8, 0.6, 0.7, 0.9], index=[2, 0, 1, 3])
    b = pd.Series([0.5, 0.65, 0.85], index=[0, 1, 3])
    return [(a, b), (b, a), (a, a - 0.1)]


# --- 50.3 many tests at once ---------------------------------------------------------------------

def holm(p: np.ndarray) -> np.ndarray:
    """Holm's corrected p-values, in the order of p.

    The smallest of m p-values is multiplied by m, the next one by m - 1, and so on down to 1. A
    corrected value is never below that of a smaller p, and never above 1. p: (m,). Returns (m,).
    """
    order = np.argsort(p)
    tests_left = len(p) - np.arange(len(p))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(tests_left * p[order]))
    return corrected


def holm_all_by_m(p):
    """You multiplied every p-value by m. That is Bonferroni's correction: it is right, and it finds
    less. After the smallest p, m - 1 tests are left."""
    return np.minimum(1, len(p) * np.asarray(p))


def holm_not_rising(p):
    """A larger p must not get a smaller corrected value than the one before it. Carry the largest
    value along."""
    order = np.argsort(p)
    tests_left = len(p) - np.arange(len(p))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, tests_left * p[order])
    return corrected


def holm_wrong_way(p):
    """The largest p got the largest factor. The smallest one needs it: it had m chances to be so
    small."""
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate((1 + np.arange(len(p))) * p[order]))
    return corrected


def holm_sorted(p):
    """The values are right, but they stand in the order of their size. Put each back to its own
    place."""
    ascending = np.sort(p)
    tests_left = len(p) - np.arange(len(p))
    return np.minimum(1, np.maximum.accumulate(tests_left * ascending))


def p_values() -> list[tuple]:
    return [(np.array([0.03, 0.01, 0.026, 0.6]),), (np.array([0.2, 0.02]),), (np.array([0.5]),)]


# --- 50.4 trained here, tested there -------------------------------------------------------------

def loss_abroad(square: np.ndarray) -> np.ndarray:
    """What a method loses on a test set when it was trained on another one, for every test set.

    square[i, j]: SRCC when it was trained on set i and tested on set j. For each test set j, take
    the mean over the OTHER training sets from the value at home, square[j, j]. A missing value is
    NaN and does not count. Returns (number of sets,); positive = it loses.
    """
    at_home = np.diag(square)
    abroad = np.where(np.eye(len(square), dtype=bool), np.nan, square)
    return at_home - np.nanmean(abroad, axis=0)


def loss_with_home(square):
    """The value at home stands in your mean as well, so the loss comes out too small. Leave the
    diagonal out."""
    return np.diag(square) - np.nanmean(square, axis=0)


def loss_by_rows(square):
    """You went along a row: there the test set changes too, and some sets are easier than others.
    Compare on the same test set, down a column."""
    abroad = np.where(np.eye(len(square), dtype=bool), np.nan, square)
    return np.diag(square) - np.nanmean(abroad, axis=1)


def loss_turned_round(square):
    """The sign is turned round: home minus abroad is positive where the method loses."""
    abroad = np.where(np.eye(len(square), dtype=bool), np.nan, square)
    return np.nanmean(abroad, axis=0) - np.diag(square)


def squares() -> list[tuple]:
    return [(np.array([[0.9, 0.3, 0.5], [0.4, 0.8, 0.2], [0.6, 0.1, 0.7]]),),
            (np.array([[0.9, 0.3, np.nan], [0.4, 0.8, 0.2], [0.6, 0.1, 0.7]]),)]


# --- 50.5 accuracy has a price -------------------------------------------------------------------

def on_the_front(ms: np.ndarray, srcc: np.ndarray) -> np.ndarray:
    """Which methods are worth their time: no other one is better at the same price or cheaper.

    A method is beaten if another one needs at most as much time AND has at least as high an SRCC,
    and is strictly better in one of the two. ms, srcc: (M,). Returns (M,) of True and False.
    """
    front = np.ones(len(ms), dtype=bool)
    for i in range(len(ms)):
        as_good = (ms <= ms[i]) & (srcc >= srcc[i])
        strictly = (ms < ms[i]) | (srcc > srcc[i])
        front[i] = not (as_good & strictly).any()
    return front


def front_of_the_best(ms, srcc):
    """You kept only the most accurate method. A faster one is worth having although it is less
    accurate."""
    return srcc == srcc.max()


def front_of_or(ms, srcc):
    """A method is not beaten by one that is only faster, or only more accurate. Both must hold at
    once."""
    return np.array([not ((ms < m) | (srcc > s)).any() for m, s in zip(ms, srcc)])


def front_without_ties(ms, srcc):
    """Of two methods that take equally long, the less accurate one is beaten. You asked for both to
    be strictly better."""
    return np.array([not ((ms < m) & (srcc > s)).any() for m, s in zip(ms, srcc)])


def prices() -> list[tuple]:
    return [(np.array([1.0, 5.0, 5.0, 20.0, 30.0]), np.array([0.5, 0.7, 0.6, 0.65, 0.8])),
            (np.array([2.0, 2.0]), np.array([0.4, 0.4]))]


EXERCISES = {
    "50.1": Exercise(cell, [cell_of_the_mean, cell_of_the_best, cell_without_a_mark], some_cells),
    "50.2": Exercise(paired, [paired_by_position, paired_with_the_mean, paired_with_zeros],
                     two_methods),
    "50.3": Exercise(holm, [holm_all_by_m, holm_not_rising, holm_wrong_way, holm_sorted],
                     p_values),
    "50.4": Exercise(loss_abroad, [loss_with_home, loss_by_rows, loss_turned_round], squares),
    "50.5": Exercise(on_the_front, [front_of_the_best, front_of_or, front_without_ties], prices),
    "50.6": Choice("b", {
        "a": "Twenty variants were tried, and one is shown. The best of twenty equal methods looks "
             "good by luck; section 7 of notebook 03 shows by how much.",
        "c": "More decimals do not make a number more certain. The interval does, and it is missing.",
        "d": "One set cannot tell whether the method learnt quality or the set; section 4 shows how "
             "much is lost elsewhere."}),
    "50.7": Choice("c", {
        "a": "Not decided is not the same as equal. For that the whole interval must lie within the "
             "margin.",
        "b": "An interval that contains zero does not refute the claim. It says that these splits "
             "cannot tell.",
        "d": "Choosing the splits after a look at the result is how luck becomes a finding. The "
             "number of splits is fixed before."}),
}
