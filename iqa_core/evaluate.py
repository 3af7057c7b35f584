"""How a method is judged: seeds x splits, medians with their spread, comparisons that respect the overlap.

The protocol is that of CONTRIQUE, Re-IQA and ARNIQA: 70/10/20 splits by content, ten seeds, the
median over them. An official test part is kept. Nothing that is learnt on one split reaches
another. A table that is too small for such splits is cross-validated, ten times as well.
"""

import copy
import platform
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats

from iqa_core import __version__, data, metrics
from iqa_core.files import progress

CORRELATIONS = ["srcc", "plcc", "plcc_logistic", "krcc"]
FEWEST_IN_PART = 3  # a correlation needs three values
FEWEST_IMAGES = 8  # of a table that is cross-validated: five folds then train on six of them
FEWEST_CONTENTS = 3


def predict(method, dataset: data.Dataset) -> np.ndarray:
    """Predictions of a method for every picture of a dataset.

    Args:
        method: has `predict(dataset) -> (N,)`, or else `score(x, x_ref) -> (1,)`. The latter gets one picture
            (1, 3, H, W) at a time and its reference, None where there is none.
        dataset: N pictures.

    Returns:
        (N,) float64, HIGHER = BETTER.

    Raises:
        ValueError: a prediction is NaN (the picture is named), or there are not N of them.

    >>> from types import SimpleNamespace
    >>> predict(SimpleNamespace(score=metrics.psnr), data.load("offline").subset([0, 1])).shape
    (2,)
    """
    if hasattr(method, "predict"):
        scores = np.asarray(method.predict(dataset), dtype=np.float64)
    else:
        scores = np.empty(len(dataset))
        with torch.no_grad():
            for i in progress(range(len(dataset)), "predict"):
                reference = dataset.reference(i)[None] if dataset.has_reference(i) else None
                scores[i] = method.score(dataset.image(i)[None], reference).item()
    return _checked(scores, dataset)


def _checked(scores: np.ndarray, dataset: data.Dataset) -> np.ndarray:
    if scores.shape != (len(dataset),):
        raise ValueError(f"predict gave shape {scores.shape} for {len(dataset)} pictures: return one number each.")
    bad = np.flatnonzero(np.isnan(scores))
    if len(bad):
        raise ValueError(f"The score of {dataset.table['image'].iloc[bad[0]]} is NaN ({len(bad)} of "
                         f"{len(dataset)} are): look at that picture and at the weights of the method.")
    return scores


def run(method, dataset: data.Dataset, seeds: Iterable[int] = range(10), mode: str = "",
        variant: str = "", others: Iterable[data.Dataset] = ()) -> pd.DataFrame:
    """Train and test a method on seeded splits; one row a seed, in the columns of the ledger.

    A method with `fit(train, val)` is copied, as it was handed in, before each training: nothing
    learnt on one split reaches the next. (A cache in memory that all copies may share defines
    `__deepcopy__` to return itself.) A method without `fit` predicts once. With an official test
    part the seeds vary training and validation only.

    A table that is too small for a 70/10/20 split (3 validation and 3 test images at least), and
    has no official test part, is cross-validated instead, with a warning that says what this can
    tell. For each seed the contents are shuffled into k = 5 folds (5 contents or fewer: one each,
    the same for every seed). The images of each fold are predicted by a method that was trained on
    all others with `val=None`, so its constants stay at their defaults. All n predictions together
    give the row of the seed; its `split` is "5-fold". An official test part with too small a
    validation part is kept; then the validation images train as well, and `val` is None.

    Predictions of several trainings cannot be pooled as they are. What is tested is missing from
    training, so the mean of a training part is low where the test scores are high, and every
    regression starts at that mean: with features that say nothing, the pooled SRCC of a ridge on 20
    images is about -0.2, not 0, and with leave-one-out it may fall to -1. So from each prediction
    the mean of the same training's predictions for its own training images is taken away. This
    changes no order within one training, and in a simulation the mean SRCC was then 0.00. The mean
    of SRCCs within folds, the other remedy, needs more than the 4 images that a fold has here.

    Args:
        method: has a `name` (str), `score` or `predict` (see `predict`), and maybe `fit` and
            `variant`. If it has `predictions(dataset) -> {what: (N,)}`, each of them gets a row,
            and `what` goes into its variant.
        dataset: images with scores.
        seeds: seeds of `data.splits` or of the folds, and of torch before training.
        mode: "smoke", "quick", "full", or "" outside the notebooks.
        variant: what is special about this run; default `method.variant`, if any.
        others: other sets. What was trained on a split of `dataset` is tested on the test part of
            the same seed of each as well; the variant of such a row ends with ", from " and the
            name of `dataset`.

    Returns:
        DataFrame. `images` counts the dataset, `n` the test and `n_train` the training images (0
        for a method without `fit`, the rounded mean over the folds of a cross-validation). `rmse`
        is taken after the logistic fit, on the [0, 1] scale, because PSNR and the like have scales
        of their own. `minutes` are training and prediction. `memory_mb` is a peak: of the GPU in
        this seed if it was used, else of the process so far.

    Raises:
        ValueError: no name, no seed, a dataset without scores, a split that shares content, fewer
            than 8 images of 3 contents, an official test part of fewer than 3 images, other sets
            beside a table that is cross-validated; as `predict`.

    Source of the bias: Parker, Günter, Bedo, Stratification bias in low signal microarray studies
    (2007).

    >>> from types import SimpleNamespace
    >>> oracle = SimpleNamespace(name="level", predict=lambda dataset: -dataset.table["level"])
    >>> rows = run(oracle, data.load("offline"), seeds=[0, 1])
    >>> rows[["method", "seed", "n_train"]].values.tolist()
    [['level', 0, 0], ['level', 1, 0]]
    """
    name = getattr(method, "name", None)
    if not isinstance(name, str) or not name:
        raise ValueError(f"{type(method).__name__} has no name for the tables: give it an attribute `name`.")
    if np.isnan(dataset.scores).any():
        raise ValueError(f"{dataset.name} has pictures without a score: choose a dataset with scores.")
    seeds, others = list(seeds), list(others)
    if not seeds:
        raise ValueError("There is no seed, so there is nothing to run: give seeds=[0] at least.")

    learns = hasattr(method, "fit")
    folds = _folds(dataset)
    if folds:
        if others:
            raise ValueError(f"{dataset.name} is so small that it is cross-validated, which trains "
                             f"{folds} methods a seed. Leave out `others`, or train on a larger "
                             "set.")
        warnings.warn(_small_table_sentence(dataset, folds, learns), stacklevel=2)
        if learns:
            results = _cross_validated(method, dataset, seeds, folds)
        else:
            results = _predicted(method, dataset, {seed: (None, None, dataset) for seed in seeds})
    else:
        parts = {seed: _checked_split(dataset, seed) for seed in seeds}
        if learns:
            parts = _with_enough_validation(dataset, parts)
            results = _trained(method, dataset, parts, others)
        else:
            results = _predicted(method, dataset, parts)

    base = variant or getattr(method, "variant", "")
    rows = []
    for result in results:
        origin = "" if result.where is dataset else f", from {dataset.name}"
        official = "official" if "test" in data.parts(result.where) else "random"
        row = {"method": name, "variant": ": ".join(filter(None, [base, result.kind])) + origin,
               "dataset": result.where.name, "images": len(result.where),
               "split": f"{folds}-fold" if folds else official, "seed": result.seed, "mode": mode}
        row |= _judged(result.pred, result.mos, f"{name} on {result.where.name}, seed "
                                                f"{result.seed}")
        row |= {"n": len(result.mos), "n_train": result.n_train, "minutes": result.minutes,
                "memory_mb": result.memory, "hardware": result.hardware, "version": _version(),
                "date": date.today().isoformat()}
        rows.append(row)
    return pd.DataFrame(rows)


class _Result(NamedTuple):
    """Predictions for one test part, before they are judged."""

    where: data.Dataset
    seed: int
    kind: str  # key of `predictions`, else ""
    pred: np.ndarray
    mos: np.ndarray
    n_train: int
    minutes: float
    memory: float
    hardware: str


def _folds(dataset: data.Dataset) -> int:
    """Into how many folds a table is cut that is too small for a 70/10/20 split; 0 if it is not.

    What counts is the least that a part may hold, whatever the seed: the smallest contents.
    """
    official = data.parts(dataset)
    if "test" in official:
        if (official == "test").sum() < FEWEST_IN_PART:
            raise ValueError(f"{dataset.name}: the official test part has "
                             f"{(official == 'test').sum()} images, and {FEWEST_IN_PART} are the "
                             "least that a correlation needs. Mark more, or leave the column split "
                             "empty.")
        return 0
    content = data.contents(dataset.table)
    sizes = content[official != "val"].value_counts().sort_values().to_numpy()
    test = sizes[: max(1, round(0.2 * len(sizes)))].sum()
    val = (official == "val").sum() or sizes[: max(1, round(0.1 * len(sizes)))].sum()
    if len(sizes) >= 3 and min(test, val) >= FEWEST_IN_PART:
        return 0
    count = content.nunique()
    if len(dataset) < FEWEST_IMAGES or count < FEWEST_CONTENTS:
        parts = "Cross-validation"
        if count == len(dataset):
            parts = (f"A 70/10/20 split would have parts of {_part_sizes(count)} images, and "
                     "cross-validation")
        raise ValueError(f"{dataset.name}: {len(dataset)} images of {count} contents are too few "
                         "to "
                         f"train and test. {parts} needs {FEWEST_IMAGES} images of "
                         f"{FEWEST_CONTENTS} contents at least. Rate more.")
    return min(5, count)


def _part_sizes(n: int) -> str:
    """The parts of a 70/10/20 split of n images with a content each, as words."""
    test, val = max(1, round(0.2 * n)), max(1, round(0.1 * n))
    return f"{max(0, n - test - val)}, {val} and {test}"


def _small_table_sentence(dataset: data.Dataset, folds: int, learns: bool) -> str:
    n = len(dataset)
    count = data.contents(dataset.table).nunique()
    low, high = srcc_interval(0.8, n)
    how = (f"each seed is a {folds}-fold cross-validation by content: every image is predicted by "
           "a method that was trained on other contents, its constants at their "
           "defaults") if learns else \
        "all of its images are tested, for every seed (nothing is trained)"
    marked = (data.parts(dataset) == "val").sum()
    unused = f" The val mark of {marked} images is not used." if marked else ""
    return (f"{dataset.name}: {n} images of {count} contents are too few for a 70/10/20 split, "
            f"whose test and validation parts need {FEWEST_IN_PART} images each (26 images of as "
            f"many contents do), so {how}.{unused} With {n} images the 95 % interval of an SRCC of "
            f"0.80 is {low:.2f} to {high:.2f} at best, however many seeds are run: rate more to "
            "tell methods apart.")


def srcc_interval(srcc: float, n: int) -> tuple[float, float]:
    """The 95 % interval of an SRCC that was measured on n images.

        z = atanh(SRCC),    se = sqrt((1 + SRCC^2 / 2) / (n - 3)),    interval = tanh(z - 1.96 se),
        tanh(z + 1.96 se)

    It holds for images that say different things; versions of a few contents tell less than their
    number.

    Args:
        srcc: in (-1, 1).
        n: number of images, 4 or more.

    Returns:
        Its lower and upper end.

    Source: Bonett and Wright, Sample size requirements for estimating Pearson, Kendall and Spearman
    correlations (2000), equation for Spearman's.

    >>> [round(end, 2) for end in srcc_interval(0.8, 20)]
    [0.5, 0.93]
    """
    error = np.sqrt((1 + srcc**2 / 2) / (n - 3))
    z = np.arctanh(srcc)
    return float(np.tanh(z - 1.96 * error)), float(np.tanh(z + 1.96 * error))


def _checked_split(dataset: data.Dataset, seed: int) -> tuple[data.Dataset, ...]:
    """A split whose test part shares no content with the others."""
    train, val, test = data.splits(dataset, seed)
    shared = set(test.table["content"]) & {*train.table["content"], *val.table["content"]}
    if shared:
        raise ValueError(f"{dataset.name}, seed {seed}: content {min(shared, key=str)!r} is "
                         "trained and tested on, so the result would be flattered. Correct the "
                         "content column.")
    return train, val, test


def _with_enough_validation(dataset: data.Dataset, parts: dict) -> dict:
    """The splits; where a validation part is too small to choose anything, its images train, and it
    is None."""
    small = {seed: len(val) for seed, (_, val, _) in parts.items() if len(val) < FEWEST_IN_PART}
    if not small:
        return parts
    fewest = min(small.values())
    warnings.warn(f"{dataset.name}: a validation part of {fewest} images is too small to choose "
                  f"constants by ({FEWEST_IN_PART} are the least). So those images train as well, "
                  "and constants stay at their defaults.", stacklevel=3)
    result = {}
    for seed, (_, _, test) in parts.items():
        tested = set(_names(test))
        result[seed] = (dataset.subset((~_names(dataset).isin(tested)).to_numpy()), None, test)
    return result


def _trained(method, dataset: data.Dataset, parts: dict,
             others: list[data.Dataset]) -> Iterator[_Result]:
    """A training a split, and its predictions for the test parts of this set and of others."""
    for seed, (train, val, test) in parts.items():
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        torch.manual_seed(seed)
        start = time.perf_counter()
        fitted = copy.deepcopy(method).fit(train, val)
        tested = [(dataset, test)]
        for other in others:
            tested.append((other, data.splits(other, seed)[2]))
        found = []
        for where, part in tested:
            for kind, pred in _predictions(fitted, part).items():
                found.append((where, kind, pred, part.scores))
        minutes = (time.perf_counter() - start) / 60
        for where, kind, pred, mos in found:
            yield _Result(where, seed, kind, pred, mos, len(train), minutes, *machine())


def _cross_validated(method, dataset: data.Dataset, seeds: list[int],
                     folds: int) -> Iterator[_Result]:
    """A training a fold; the predictions of all folds together."""
    content = data.contents(dataset.table).to_numpy(dtype=object)
    for seed in seeds:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        order = sorted(pd.unique(content), key=str)  # so that the order of rows does not matter
        np.random.default_rng(seed).shuffle(order)
        fold_of = {name: number % folds for number, name in enumerate(order)}
        fold = np.array([fold_of[name] for name in content])
        pooled, n_train = {}, []
        for number in range(folds):
            tested = fold == number
            torch.manual_seed(seed)
            fitted = copy.deepcopy(method).fit(dataset.subset(~tested), None)
            n_train.append((~tested).sum())
            for kind, pred in _predictions(fitted, dataset).items():
                values = pooled.setdefault(kind, np.full(len(dataset), np.nan))
                values[tested] = (pred - pred[~tested].mean())[tested]
        minutes = (time.perf_counter() - start) / 60
        for kind, pred in pooled.items():
            pred = _checked(pred, dataset)
            yield _Result(dataset, seed, kind, pred, dataset.scores, round(np.mean(n_train)), minutes,
                          *machine())


def _predicted(method, dataset: data.Dataset, parts: dict) -> Iterator[_Result]:
    """A method that is not trained: one prediction an image serves all splits."""
    wanted = pd.concat([_names(test) for _, _, test in parts.values()])
    tested = dataset.subset(_names(dataset).isin(wanted).to_numpy())
    start = time.perf_counter()
    known = dict(zip(_names(tested), predict(method, tested)))
    minutes_each = (time.perf_counter() - start) / 60 / len(tested)
    for seed, (_, _, test) in parts.items():
        pred = _names(test).map(known).to_numpy(dtype=np.float64)
        yield _Result(dataset, seed, "", pred, test.scores, 0, minutes_each * len(test), *machine())


def _predictions(fitted, test: data.Dataset) -> dict[str, np.ndarray]:
    """Every kind of score that a method has for a test part."""
    found = fitted.predictions(test) if hasattr(fitted, "predictions") else {"": predict(fitted, test)}
    return {key: _checked(pred, test) for key, pred in found.items()}


def _judged(pred: np.ndarray, mos: np.ndarray, where: str) -> dict[str, float]:
    """Correlations and RMSE. What is wrong with constant predictions is said once, and where."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        values = {metric: getattr(metrics, metric)(pred, mos) for metric in CORRELATIONS}
    for text in {str(warning.message) for warning in caught}:
        warnings.warn(f"{where}: {text}", stacklevel=3)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No logistic")  # a negative SRCC in the table says it, too
        return values | {"rmse": metrics.rmse(metrics.logistic_fit(pred, mos)(pred), mos)}


def _names(dataset: data.Dataset) -> pd.Series:
    """What tells pictures apart: the file, and the reference that it is compared with."""
    return dataset.table["image"] + "|" + dataset.table["reference"].fillna("")


def machine() -> tuple[float, str]:
    """Peak memory in MB and the hardware: of the GPU if this process has used one, else of the CPU."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20, torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text("utf-8")) if info.is_file() else None
    hardware = f"{found[1] if found else platform.processor()}, {torch.get_num_threads()} threads"
    try:
        import resource  # Windows has no such module
    except ImportError:
        return float("nan"), hardware
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, hardware


@cache
def _version() -> str:
    """Version of the package and, in a git checkout, the last commit that touched it."""
    try:
        commit = subprocess.run(["git", "log", "-1", "--format=%h", "--", "."], cwd=Path(__file__).parent,
                                capture_output=True, text=True).stdout.strip()
    except OSError:  # no git on this machine
        commit = ""
    return f"{__version__}+{commit}" if commit else __version__


def compare(a: pd.DataFrame, b: pd.DataFrame, metric: str = "srcc") -> pd.Series:
    """Is method a better than method b? The corrected resampled t-test over the same splits.

        t = mean(d) / sqrt((1/J + n_test/n_train) var(d)),    d_j = metric of a - metric of b on split j of J

    Random splits overlap: two of them share most of their training pictures. So the d_j are not independent,
    and the usual factor 1/J makes the interval too narrow and p too small. Nadeau and Bengio's n_test/n_train
    makes up for it: more seeds cannot make a small difference certain. With an official test part all splits
    share one test set, and the interval tells only how much training varies. So do the folds of a
    small table ("5-fold"), each of which tests all images; a warning says it.

    Args:
        a, b: tables of `run`, each of one method and variant, on the same dataset and seeds.
        metric: "srcc", "plcc", "plcc_logistic" or "krcc".

    Returns:
        Series: `difference` (a - b, positive = a is better), `low`, `high` (95 % interval), `p` (two-sided),
        `wins` (splits on which a is better), `pairs`.

    Raises:
        ValueError: other seeds, test parts or datasets, several methods in a table, fewer than 2 pairs, NaN,
            or two methods that were not trained (then only the pictures vary: `compare_pictures`).

    Source: Nadeau and Bengio, Inference for the generalization error (2003), section 4.

    >>> a = pd.DataFrame({"method": "a", "variant": "", "dataset": "d", "split": "random", "seed": range(3),
    ...                   "n": 20, "n_train": 70, "srcc": [0.8, 0.7, 0.9]})
    >>> compare(a, a.assign(srcc=a["srcc"] - [0.1, 0.0, 0.2])).round(3).to_dict()
    {'difference': 0.1, 'low': -0.239, 'high': 0.439, 'p': 0.332, 'wins': 2.0, 'pairs': 3.0}
    """
    if metric not in CORRELATIONS:
        raise ValueError(f"metric={metric!r} cannot be compared; choose one of {', '.join(CORRELATIONS)}.")
    for name, table in (("a", a), ("b", b)):
        kinds = table[["method", "variant", "dataset", "split"]].drop_duplicates()
        if len(kinds) != 1 or table["seed"].duplicated().any():
            raise ValueError(f"Table {name} has {len(table)} rows of {len(kinds)} sorts (method, variant, "
                             "dataset, split): give one method on one dataset, one row a seed.")
    a, b = (table.set_index("seed").sort_index() for table in (a, b))
    same = ["dataset", "split", "n"]
    if not a.index.equals(b.index) or not a[same].equals(b[same]):
        found = [f"{t['dataset'].iloc[0]}, {t['split'].iloc[0]} split, seeds {[*t.index]}" for t in (a, b)]
        raise ValueError(f"The tables have other test pictures ({found[0]}; {found[1]}): they cannot be paired, "
                         "run both on the same dataset and seeds.")
    if a["split"].iloc[0].endswith("-fold"):
        warnings.warn(f"{a['dataset'].iloc[0]}: every seed tests the same {a['n'].iloc[0]} images, "
                      "so this interval tells how much training varies, not what other images "
                      "would say. Rate more images to tell that.",
                      stacklevel=2)
    d = (a[metric] - b[metric]).to_numpy()
    n_train = max(a["n_train"].mean(), b["n_train"].mean())
    if len(d) < 2 or np.isnan(d).any():
        raise ValueError(f"{len(d)} pairs, {np.isnan(d).sum()} of them NaN, give no interval: run 2 seeds or "
                         "more, and find out where a correlation is undefined.")
    if n_train == 0:
        raise ValueError("Neither method was trained, so splits are no repetitions: use compare_pictures.")
    error = np.sqrt((1 / len(d) + a["n"].mean() / n_train) * d.var(ddof=1))
    reach = stats.t.ppf(0.975, len(d) - 1) * error
    with np.errstate(divide="ignore"):  # the same difference on every split: p = 0
        p = 2 * stats.t.sf(abs(d.mean()) / error, len(d) - 1) if d.any() else 1.0
    return pd.Series({"difference": d.mean(), "low": d.mean() - reach, "high": d.mean() + reach, "p": p,
                      "wins": (d > 0).sum(), "pairs": len(d)}, dtype=float)


def compare_pictures(pred_a, pred_b, mos, groups=None, n: int = 1000, seed: int = 0) -> pd.Series:
    """Is metric a better than metric b on these pictures? A paired bootstrap of their SRCC difference.

    For metrics that are not trained. Both are judged on the same resampled pictures (contents, with
    `groups`), so what is hard for both cancels out.

    Args:
        pred_a, pred_b: (N,) predictions of the two metrics, HIGHER = BETTER.
        mos: (N,) scores of the same pictures.
        groups, n, seed: see `metrics.bootstrap`.

    Returns:
        Series: `difference` (SRCC of a - SRCC of b, positive = a is better), `low`, `high` (95 % interval).

    Raises:
        ValueError: see `metrics.bootstrap`.

    >>> mos = np.arange(40.0)
    >>> compare_pictures(mos, mos, mos, n=100).to_dict()
    {'difference': 0.0, 'low': 0.0, 'high': 0.0}
    """
    (a, mos), (b, _) = metrics.pair(pred_a, mos), metrics.pair(pred_b, mos)

    def difference(rows: np.ndarray, mos: np.ndarray) -> float:
        rows = rows.astype(int)
        return metrics.srcc(a[rows], mos) - metrics.srcc(b[rows], mos)

    everything = np.arange(len(mos))  # row numbers are resampled, so that both metrics get the same pictures
    low, high = metrics.bootstrap(everything, mos, difference, n, seed, groups)
    return pd.Series({"difference": difference(everything, mos), "low": low, "high": high})


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Median and quartiles over the seeds, one line a (method, variant, dataset, split, mode).

    Args:
        rows: tables of `run`, concatenated, or the ledger.

    Returns:
        DataFrame: for each of srcc, plcc, plcc_logistic, krcc the median, and beside it the quartiles (`_25`,
        `_75`); the number of `seeds`; the medians of `n` and `minutes`. Sorted by dataset, then median SRCC.

    >>> rows = pd.DataFrame({"method": "a", "variant": "", "dataset": "d", "split": "random", "mode": "",
    ...                      "n": 20, "minutes": 1.0, "plcc": 0.5, "plcc_logistic": 0.5, "krcc": 0.1,
    ...                      "srcc": [0.1, 0.2, 0.6]})
    >>> summary(rows)[["method", "seeds", "srcc", "srcc_25", "srcc_75"]].round(3).values.tolist()
    [['a', 3, 0.2, 0.15, 0.4]]
    """
    groups = rows.groupby(["method", "variant", "dataset", "split", "mode"])
    table = groups[[*CORRELATIONS, "n", "minutes"]].median()
    for metric in CORRELATIONS:
        for share in (75, 25):
            quartile = groups[metric].quantile(share / 100)
            table.insert(table.columns.get_loc(metric) + 1, f"{metric}_{share}", quartile)
    table.insert(0, "seeds", groups.size())
    return table.reset_index().sort_values(["dataset", "srcc"], ascending=[True, False], kind="stable", ignore_index=True)
