"""How a method is judged: it is trained and tested on seeded splits, and every number gets a row.

The protocol is that of CONTRIQUE, Re-IQA and ARNIQA: 70/10/20 splits by content, ten seeds, the
median over them. An official test part stays. Nothing that is learnt on one split reaches
another. A table that is too small for such splits is cross-validated, ten times as well. Two
methods are compared by `comparisons`.
"""

import copy
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from iqa_core import data, metrics, small_tables
from iqa_core.comparisons import srcc_by_content
from iqa_core.files import progress
from iqa_core.identity import identity as identity_of

CORRELATIONS = ["srcc", "plcc", "plcc_logistic", "krcc"]
IDENTITY = ["method", "variant", "task", "epoch", "trained_on", "hash", "dataset", "split", "mode"]


# ---- predictions --------------------------------------------------------------------------------


def predict(method, dataset: data.Dataset) -> np.ndarray:
    """Predictions of a method for every image of a dataset.

    Args:
        method: has `predict(dataset) -> (N,)`, or else `score(x, x_ref) -> (1,)`. The latter gets
            one image (1, 3, H, W) at a time and its reference, None where there is none.
        dataset: N images.

    Returns:
        (N,) float64, HIGHER = BETTER.

    Raises:
        ValueError: a prediction is NaN (the image is named), or there are not N of them.

    >>> from types import SimpleNamespace
    >>> predict(SimpleNamespace(score=metrics.psnr), data.example()).shape
    (4,)
    """
    if hasattr(method, "predict"):
        scores = np.asarray(method.predict(dataset), dtype=np.float64)
        return _checked(scores, dataset)
    scores = np.empty(len(dataset))
    with torch.no_grad():
        for i in progress(range(len(dataset)), "predict"):
            reference = dataset.reference(i)[None] if dataset.has_reference(i) else None
            scores[i] = method.score(dataset.image(i)[None], reference).item()
    return _checked(scores, dataset)


def predictions(method, dataset: data.Dataset) -> dict[tuple[str, str], np.ndarray]:
    """Every kind of score that a method has for a dataset, by (task, epoch).

    Args:
        method: with `predictions(dataset)`, which returns such a dictionary; else `predict` gives
            its one score, whose task is the first of `method.tasks`, "NR" if it has none.
        dataset: N images.

    Returns:
        {(task, epoch): (N,)} with task "NR" (no reference) or "FR", epoch "last" or "best".

    Raises:
        ValueError: as `predict`.
    """
    if hasattr(method, "predictions"):
        return {kind: _checked(np.asarray(scores, dtype=np.float64), dataset)
                for kind, scores in method.predictions(dataset).items()}
    task = getattr(method, "tasks", ("NR",))[0]
    return {(task, "last"): predict(method, dataset)}


def _checked(scores: np.ndarray, dataset: data.Dataset) -> np.ndarray:
    if scores.shape != (len(dataset),):
        raise ValueError(f"predict gave shape {scores.shape} for {len(dataset)} images: return one "
                         "number each.")
    bad = np.flatnonzero(np.isnan(scores))
    if len(bad):
        image = dataset.table["image"].iloc[bad[0]]
        raise ValueError(f"The score of {image} is NaN ({len(bad)} of {len(dataset)} are): look at "
                         "that image and at the weights of the method.")
    return scores


# ---- identity -----------------------------------------------------------------------------------


def identity(method) -> dict[str, str]:
    """What the rows of a method say about it: its own `identity`, else one from its plain values.

    Args:
        method: any object that `run` accepts.

    Returns:
        {"method": name, "variant": what differs from its usual form, "hash": 8 hex digits}

    Raises:
        ValueError: it has neither `identity` nor a `name`.

    >>> from types import SimpleNamespace
    >>> one, other = (SimpleNamespace(name="mine", width=width) for width in (16, 32))
    >>> identity(one)["method"], identity(one)["hash"] == identity(other)["hash"]
    ('mine', False)
    """
    if hasattr(method, "identity"):
        return dict(method.identity)
    name = getattr(method, "name", None)
    if not isinstance(name, str) or not name:
        raise ValueError(f"{type(method).__name__} has no name for the tables: give it an "
                         "attribute `name`.")
    plain = {key: value for key, value in vars(method).items() if _is_plain(value)}
    return identity_of(name, getattr(method, "variant", ""), type(method).__name__, plain)


def _is_plain(value) -> bool:
    """Is it a number, a text, None, or a list or tuple of these?"""
    if isinstance(value, list | tuple):
        return all(_is_plain(part) for part in value)
    return value is None or isinstance(value, bool | int | float | str)


# ---- a run --------------------------------------------------------------------------------------


def run(method, dataset: data.Dataset, seeds: Iterable[int] = range(10), mode: str = "",
        others: Iterable[data.Dataset] = (), repeats: int | Iterable[int] = 1) -> pd.DataFrame:
    """Train and test a method on seeded splits; one row a split, training and kind of score.

    A method with `fit(train, val)` is copied, as it was handed in, before each training: nothing
    learnt on one split reaches the next. (A cache in memory that all copies may share defines
    `__deepcopy__` to return itself.) A method without `fit` predicts once. With an official test
    part the seeds vary training and validation only.

    A table that is too small for a 70/10/20 split, and has no official test part, is
    cross-validated instead, with a warning: see `small_tables`. Its `split` is "5-fold".

    Args:
        method: has `identity` or a `name` (see `identity`), `score` or `predict` or `predictions`
            (see `predictions`), and maybe `fit`; and maybe after `fit` `labels_used`, the number of
            training images whose scores it used.
        dataset: images with scores.
        seeds: seeds of `data.splits` or of the folds.
        mode: "smoke", "quick", "full", or "" outside the notebooks.
        others: other sets. What was trained on a split of `dataset` is tested on the test part of
            the same seed of each as well; `trained_on` of such a row is the name of `dataset`.
        repeats: how many trainings on each split, with torch seeds of their own (`training_seed`);
            or the numbers of those that are wanted, such as [1, 2] where 0 is done.

    Returns:
        DataFrame with the columns

        - `method`, `variant`, `hash`: see `identity`; `task`, `epoch`: see `predictions`;
        - `trained_on`: name of the training set, "" if nothing is trained;
        - `dataset`, `images` (in the whole set), `split`, `seed`, `repeat`, `mode`;
        - `srcc`, `plcc`, `plcc_logistic`, `krcc`, and `rmse` after the logistic fit, on the [0, 1]
          scale, because PSNR and the like have scales of their own;
        - `srcc_within`: mean SRCC within contents, NaN where no content has 4 images;
        - `n`: test images; `n_part`: images of the training part; `n_train`: those whose scores
          were used (0 for a method without `fit`, means over the folds of a cross-validation);
        - `minutes` of training and prediction.

    Raises:
        ValueError: no name, no seed, a dataset without scores, a split that shares content, fewer
            than 8 images of 3 contents, an official test part of fewer than 3 images, other sets
            beside a table that is cross-validated; as `predict`.

    >>> from types import SimpleNamespace
    >>> oracle = SimpleNamespace(name="level", predict=lambda dataset: -dataset.table["level"])
    >>> rows = run(oracle, data.example(count=18, levels=3), seeds=[0, 1])
    >>> rows[["method", "task", "seed", "n_train"]].values.tolist()
    [['level', 'NR', 0, 0], ['level', 'NR', 1, 0]]
    """
    known = identity(method)
    if np.isnan(dataset.scores).any():
        raise ValueError(f"{dataset.name} has images without a score: choose a dataset with "
                         "scores.")
    seeds = list(seeds)
    others = list(others)
    if not seeds:
        raise ValueError("There is no seed, so there is nothing to run: give seeds=[0] at least.")
    numbers = range(repeats) if isinstance(repeats, int) else list(repeats)
    trainings = [(seed, repeat) for seed in seeds for repeat in numbers]
    learns = hasattr(method, "fit")
    folds = small_tables.folds_needed(dataset)
    if folds:
        if others:
            raise ValueError(f"{dataset.name} is so small that it is cross-validated, which trains "
                             f"{folds} methods a seed. Leave out `others`, or train on a larger "
                             "set.")
        warnings.warn(small_tables.warning_of(dataset, folds, learns), stacklevel=2)
    if folds and learns:
        results = _cross_validated(method, dataset, trainings, folds)
    elif folds:
        results = _predicted(method, dataset, trainings, {seed: dataset for seed in seeds})
    else:
        parts = {seed: _checked_split(dataset, seed) for seed in seeds}
        if learns:
            parts = small_tables.with_enough_validation(dataset, parts)
            results = _trained(method, dataset, trainings, parts, others)
        else:
            tests = {seed: test for seed, (_, _, test) in parts.items()}
            results = _predicted(method, dataset, trainings, tests)
    rows = []
    for result in results:
        where = result.where
        split = "official" if "test" in data.parts(where) else "random"
        row = {"method": known["method"], "variant": known["variant"], "task": result.kind[0],
               "epoch": result.kind[1], "trained_on": dataset.name if learns else "",
               "hash": known["hash"], "dataset": where.name, "images": len(where),
               "split": f"{folds}-fold" if folds else split, "seed": result.seed,
               "repeat": result.repeat, "mode": mode}
        row |= _judged(result.scores, result.test,
                       f"{known['method']} on {where.name}, seed {result.seed}")
        row |= {"n": len(result.test), "n_train": result.n_train, "n_part": result.n_part,
                "minutes": result.minutes}
        rows.append(row)
    return pd.DataFrame(rows)


def training_seed(seed: int, repeat: int) -> int:
    """Torch's seed for a training: the seed of the split, and for repeats one drawn from both.

    >>> training_seed(3, 0), training_seed(3, 1) == training_seed(3, 2)
    (3, False)
    """
    if repeat == 0:
        return seed
    return int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])


@dataclass
class _Result:
    """Scores for one test part, before they are judged."""

    where: data.Dataset  # the whole set
    test: data.Dataset
    seed: int
    repeat: int
    kind: tuple[str, str]  # task and epoch
    scores: np.ndarray  # (N,)
    n_train: int
    n_part: int
    minutes: float


def _checked_split(dataset: data.Dataset, seed: int) -> tuple[data.Dataset, ...]:
    """A split whose test part shares no content with the others."""
    train, val, test = data.splits(dataset, seed)
    shared = set(test.table["content"]) & {*train.table["content"], *val.table["content"]}
    if shared:
        raise ValueError(f"{dataset.name}, seed {seed}: content {min(shared, key=str)!r} is "
                         "trained and tested on, so the result would be flattered. Correct the "
                         "content column.")
    return train, val, test


def _trained(method, dataset: data.Dataset, trainings: list[tuple[int, int]], parts: dict,
             others: list[data.Dataset]) -> Iterator[_Result]:
    """The trainings on every split, and their scores for the test parts of this set and others."""
    for seed, repeat in trainings:
        train, val, test = parts[seed]
        torch.manual_seed(training_seed(seed, repeat))
        start = time.perf_counter()
        fitted = copy.deepcopy(method).fit(train, val)
        n_train = getattr(fitted, "labels_used", len(train))
        tests = [(dataset, test)] + [(other, data.splits(other, seed)[2]) for other in others]
        results = [(where, part, predictions(fitted, part)) for where, part in tests]
        minutes = (time.perf_counter() - start) / 60
        for where, part, kinds in results:
            for kind, scores in kinds.items():
                yield _Result(where, part, seed, repeat, kind, scores, n_train, len(train), minutes)


def _cross_validated(method, dataset: data.Dataset, trainings: list[tuple[int, int]],
                     folds: int) -> Iterator[_Result]:
    """A training a fold; the scores of all folds together."""
    for seed, repeat in trainings:
        start = time.perf_counter()
        fold = small_tables.fold_of_each(dataset, folds, seed)
        pooled = {}
        n_train = []
        n_part = []
        for number in range(folds):
            tested = fold == number
            torch.manual_seed(training_seed(seed, repeat))
            fitted = copy.deepcopy(method).fit(dataset.subset(~tested), None)
            n_part.append((~tested).sum())
            n_train.append(getattr(fitted, "labels_used", n_part[-1]))
            for kind, scores in predictions(fitted, dataset).items():
                values = pooled.setdefault(kind, np.full(len(dataset), np.nan))
                values[tested] = (scores - scores[~tested].mean())[tested]
        minutes = (time.perf_counter() - start) / 60
        for kind, scores in pooled.items():
            yield _Result(dataset, dataset, seed, repeat, kind, _checked(scores, dataset),
                          round(np.mean(n_train)), round(np.mean(n_part)), minutes)


def _predicted(method, dataset: data.Dataset, trainings: list[tuple[int, int]],
               tests: dict[int, data.Dataset]) -> Iterator[_Result]:
    """A method that is not trained: one prediction an image serves all splits and repeats."""
    wanted = pd.concat([_names(test) for test in tests.values()])
    tested = dataset.subset(_names(dataset).isin(wanted).to_numpy())
    start = time.perf_counter()
    kinds = predictions(method, tested)
    minutes_each = (time.perf_counter() - start) / 60 / len(tested)
    for seed, repeat in trainings:
        test = tests[seed]
        for kind, values in kinds.items():
            scores = _names(test).map(dict(zip(_names(tested), values))).to_numpy(dtype=np.float64)
            yield _Result(dataset, test, seed, repeat, kind, scores, 0, 0,
                          minutes_each * len(test))


def _judged(scores: np.ndarray, test: data.Dataset, where: str) -> dict[str, float]:
    """Correlations and RMSE. One warning tells where scores are constant."""
    mos = test.scores
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        values = {metric: getattr(metrics, metric)(scores, mos) for metric in CORRELATIONS}
    for text in {str(warning.message) for warning in caught}:
        warnings.warn(f"{where}: {text}", stacklevel=3)
    within = srcc_by_content(scores, mos, data.contents(test.table))
    values["srcc_within"] = within.mean(skipna=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No logistic")  # the SRCC in the table shows it, too
        values["rmse"] = metrics.rmse(metrics.logistic_fit(scores, mos)(scores), mos)
    return values


def _names(dataset: data.Dataset) -> pd.Series:
    """What tells images apart: the file, and the reference that it is compared with."""
    return dataset.table["image"] + "|" + dataset.table["reference"].fillna("")


# ---- a table of many runs -----------------------------------------------------------------------


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Median and quartiles over splits and trainings, one line for each kind of row.

    Args:
        rows: tables of `run`, concatenated, or the ledger.

    Returns:
        DataFrame: the columns that say what a row is about; for each of srcc, plcc, plcc_logistic,
        krcc the median, and beside it the quartiles (`_25`, `_75`); the number of `seeds`; the
        medians of `n`, `minutes` and `srcc_within`. Sorted by dataset, then median SRCC.

    >>> rows = pd.DataFrame({"method": "a", "variant": "", "dataset": "d", "split": "random",
    ...                      "mode": "", "n": 20, "minutes": 1.0, "plcc": 0.5, "krcc": 0.1,
    ...                      "plcc_logistic": 0.5, "srcc": [0.1, 0.2, 0.6], "seed": [0, 1, 2]})
    >>> summary(rows)[["method", "seeds", "srcc", "srcc_25", "srcc_75"]].round(3).values.tolist()
    [['a', 3, 0.2, 0.15, 0.4]]
    """
    groups = rows.groupby([column for column in IDENTITY if column in rows])
    more = ["srcc_within"] if "srcc_within" in rows else []
    table = groups[[*CORRELATIONS, *more, "n", "minutes"]].median()
    for metric in CORRELATIONS:
        for share in (75, 25):
            quartile = groups[metric].quantile(share / 100)
            table.insert(table.columns.get_loc(metric) + 1, f"{metric}_{share}", quartile)
    table.insert(0, "seeds", groups["seed"].nunique())
    table = table.reset_index()
    return table.sort_values(["dataset", "srcc"], ascending=[True, False], kind="stable",
                             ignore_index=True)
