"""Which of two methods is better? Intervals of paired differences on splits, on images and within
contents.

The differences of two methods on J splits, with R trainings (seeds) on each, are taken as

    d_jr = mu + split_j + seed_jr.

Splits of one dataset overlap, so their part of the error does not fall like 1/J; the seeds of
trainings are independent, so their part does. `compare` keeps both apart. Everything here works on
tables and arrays of numbers; no image is read and nothing is trained. What a comparison means for a
claim, and how large an experiment has to be, is in `verdicts`.
"""

import warnings

import numpy as np
import pandas as pd
from scipy import stats

from iqa_core import metrics

METRICS = ["srcc", "plcc", "plcc_logistic", "krcc", "srcc_within"]
IDENTITY = ["method", "variant", "task", "epoch", "trained_on", "hash", "dataset", "split"]
MARGIN = 0.01  # a difference of SRCC below this makes no difference in practice
FEWEST_DEGREES = 3  # degrees of freedom of an interval with two variance components
FEWEST_IN_CONTENT = 4  # images of a content, for an SRCC within it


# ---- two methods on the same splits ------------------------------------------------------------


def compare(a: pd.DataFrame, b: pd.DataFrame, metric: str = "srcc",
            margin: float = MARGIN) -> pd.Series:
    """Compare two methods on the same splits by the paired differences of a correlation.

        se^2 = s_split^2 (1/J + n_test / n_train) + s_seed^2 / (J R)

    The seeds' variance s_seed^2 is the pooled variance within splits; s_split^2 is what the
    variance of the J means has beyond s_seed^2 / R. Where that would be negative it is 0, and all J
    R differences give s_seed^2 (so does restricted maximum likelihood). With one training a split
    (R = 1) nothing tells the two apart, all variance counts as the splits', and this is the
    corrected resampled t-test.

    Degrees of freedom: J - 1 with R = 1, else Satterthwaite's, between 3 and J - 1; the normal
    distribution where s_split is 0. These were chosen by simulation: of 40,000 experiments with 10
    splits x 3 seeds the 95 % interval covers the truth in .93 to .97, whatever the share of the two
    components. With 5 x 3 it is .92 where they are alike.

    With an official test part all splits share one test set, and the interval tells only how much
    training varies. So do the folds of a small table ("5-fold"), each of which tests all images; a
    warning says it.

    Args:
        a, b: tables of `evaluate.run`, each of one method and variant, on the same dataset, splits
            (`seed`) and numbers of trainings a split (`repeat`).
        metric: "srcc", "plcc", "plcc_logistic", "krcc" or "srcc_within".
        margin: differences between -margin and margin make no difference; name it before the
            experiment.

    Returns:
        Series: `difference` (a - b, positive = a is better), `low`, `high` (95 % interval), `p`
        (two-sided), `wins` (splits on which a is better), `pairs` (splits, J), `repeats` (R), `se`,
        `freedom`, `s_split`, `s_seed`, `margin`, `p_equivalent` and `equivalent` (see
        `equivalence`), `overlap` (n_test / n_train) and `n` (test images).

    Raises:
        ValueError: other seeds, test parts or datasets, several methods in a table, fewer than 2
            splits, NaN, another number of trainings on each split, or two methods that were not
            trained (then only the images vary: `compare_images`).

    Source: Nadeau and Bengio, Inference for the generalization error (2003), section 4;
    Satterthwaite, An approximate distribution of estimates of variance components (1946).

    >>> a = pd.DataFrame({"method": "a", "variant": "", "dataset": "d", "split": "random",
    ...                   "seed": range(3), "n": 20, "n_train": 70, "srcc": [0.8, 0.7, 0.9]})
    >>> b = a.assign(srcc=a["srcc"] - [0.1, 0.0, 0.2])
    >>> compare(a, b)[["difference", "low", "high", "p", "wins", "pairs"]].round(3).to_dict()
    {'difference': 0.1, 'low': -0.239, 'high': 0.439, 'p': 0.332, 'wins': 2.0, 'pairs': 3.0}
    """
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r} cannot be compared; choose one of "
                         f"{', '.join(METRICS)}.")
    a = _one_method(a, "a")
    b = _one_method(b, "b")
    same = ["dataset", "split", "n"]
    if not a.index.equals(b.index) or not a[same].equals(b[same]):
        raise ValueError(f"The tables have other test images ({_described(a)}; {_described(b)}): "
                         "they cannot be paired, run both on the same dataset and seeds.")
    first = a.iloc[0]
    if first["split"].endswith("-fold"):
        warnings.warn(f"{first['dataset']}: every seed tests the same {first['n']} images, so this "
                      "interval tells how much training varies, not what other images would say. "
                      "Rate more images to tell that.", stacklevel=2)
    n_train = max(_training_images(a), _training_images(b))
    if n_train == 0:
        raise ValueError("Neither method was trained, so splits are no repetitions: use "
                         "compare_images.")
    table = (a[metric] - b[metric]).unstack("repeat")  # (J, R)
    missing = table.isna().sum().sum()
    if len(table) < 2 or missing:
        raise ValueError(f"{len(table)} pairs, {missing} of them NaN, give no interval: run 2 "
                         "seeds or more, the same number of trainings on each, and find out where "
                         "a correlation is undefined.")
    result = of_differences(table.to_numpy(), a["n"].mean() / n_train, margin)
    result["n"] = a["n"].mean()
    return result


def of_differences(differences, overlap: float = 0.0, margin: float = MARGIN) -> pd.Series:
    """Judge paired differences whose pairing is already made; see `compare` for the equations.

    Args:
        differences: (J,) or (J, R), positive = as hoped. The J rows are splits, or contents, or
            subjects.
        overlap: n_test / n_train of overlapping splits; 0 where the rows are independent of one
            another, so that (J,) differences give the usual paired t-test.
        margin: see `compare`.

    Returns:
        What `compare` returns; `n` is NaN.

    Raises:
        ValueError: fewer than 2 rows, or NaN.

    >>> of_differences([0.03, 0.01, 0.02])[["difference", "low", "high"]].round(4).tolist()
    [0.02, -0.0048, 0.0448]
    """
    d = np.asarray(differences, dtype=np.float64)
    d = d.reshape(len(d), -1)  # (J, R)
    splits, repeats = d.shape
    if splits < 2 or np.isnan(d).any():
        raise ValueError(f"{splits} pairs, {np.isnan(d).sum()} of them NaN, give no interval: 2 "
                         "are the least.")
    s_split, s_seed = components(d)
    se = standard_error(s_split, s_seed, splits, repeats, overlap)
    freedom = degrees_of_freedom(s_split, s_seed, splits, repeats, overlap)
    mean = d.mean()
    reach = stats.t.ppf(0.975, freedom) * se
    p_equivalent = equivalence(mean, se, freedom, margin)
    return pd.Series({
        "difference": mean, "low": mean - reach, "high": mean + reach,
        "p": 2 * _tail(abs(mean), se, freedom) if mean else 1.0,
        "wins": (d.mean(axis=1) > 0).sum(), "pairs": splits, "repeats": repeats,
        "se": se, "freedom": freedom, "s_split": s_split, "s_seed": s_seed, "margin": margin,
        "p_equivalent": p_equivalent, "equivalent": p_equivalent < 0.05,
        "overlap": overlap, "n": np.nan}, dtype=float)


def components(d: np.ndarray) -> tuple[float, float]:
    """Standard deviations of differences between splits and between the trainings on one split.

    Args:
        d: (J, R) differences.

    Returns:
        s_split, s_seed; s_seed is 0 with R = 1, see `compare`.

    >>> [round(s, 3) for s in components(np.array([[0.0, 0.2], [1.0, 1.2], [2.0, 2.2]]))]
    [0.995, 0.141]
    """
    repeats = d.shape[1]
    of_means = d.mean(axis=1).var(ddof=1)
    if repeats == 1:
        return float(np.sqrt(of_means)), 0.0
    within = d.var(axis=1, ddof=1).mean()
    between = of_means - within / repeats
    if between <= 0:
        return 0.0, float(d.std(ddof=1))
    return float(np.sqrt(between)), float(np.sqrt(within))


def standard_error(s_split: float, s_seed: float, splits: int, repeats: int,
                   overlap: float) -> float:
    """Standard error of a mean difference: the equation of `compare`."""
    variance = s_split**2 * (1 / splits + overlap) + s_seed**2 / (splits * repeats)
    return float(np.sqrt(variance))


def degrees_of_freedom(s_split: float, s_seed: float, splits: int, repeats: int,
                       overlap: float) -> float:
    """Degrees of freedom of the standard error: see `compare`."""
    if repeats == 1:
        return splits - 1
    if s_split == 0:
        return np.inf
    of_means = s_split**2 + s_seed**2 / repeats
    gained = (1 / splits + overlap) * of_means
    taken = overlap * s_seed**2 / repeats
    spread = gained**2 / (splits - 1) + taken**2 / (splits * (repeats - 1))
    satterthwaite = (gained - taken) ** 2 / spread
    return float(min(splits - 1, max(FEWEST_DEGREES, satterthwaite)))


def _tail(distance: float, se: float, freedom: float) -> float:
    """P(t > distance / se); with no error at all it is 0 beyond zero and 1 below."""
    if se == 0:
        return 0.0 if distance > 0 else 1.0
    return float(stats.t.sf(distance / se, freedom))


def _one_method(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table of one method by split and training; without `repeat` there is one training."""
    if "repeat" not in table:
        table = table.assign(repeat=0)
    kinds = table[[column for column in IDENTITY if column in table]].drop_duplicates()
    if len(kinds) != 1 or table[["seed", "repeat"]].duplicated().any():
        differing = [column for column in kinds if kinds[column].nunique() > 1]
        columns = ", ".join(differing) or "nothing but the numbers"
        raise ValueError(f"Table {name} has {len(table)} rows of {len(kinds)} sorts (they differ "
                         f"in {columns}): give one method on one dataset, one row a seed and "
                         "training.")
    return table.set_index(["seed", "repeat"]).sort_index()


def _described(table: pd.DataFrame) -> str:
    seeds = [*table.index.unique("seed")]
    return f"{table['dataset'].iloc[0]}, {table['split'].iloc[0]} split, seeds {seeds}"


def _training_images(table: pd.DataFrame) -> float:
    """Images of the training part; with few of its labels, test parts overlap no more."""
    return table["n_part" if "n_part" in table else "n_train"].mean()


# ---- equivalence -------------------------------------------------------------------------------


def equivalence(difference: float, se: float, freedom: float, margin: float = MARGIN) -> float:
    """p-value of two one-sided t-tests (TOST): is the true difference between -margin and margin?

    Below 0.05 it is, which is the same as the 90 % interval lying inside the margin. No significant
    difference is not yet equivalence: the experiment may be too small for either.

    Args:
        difference, se, freedom: a mean, its standard error and degrees of freedom.
        margin: above 0, in the units of the difference.

    Returns:
        The larger p-value of the two tests, in [0, 1].

    Raises:
        ValueError: a margin of 0 or less.

    Source: Schuirmann, A comparison of the two one-sided tests procedure and the power approach
    (1987).

    >>> round(equivalence(0.0, 0.002, 9), 4), round(equivalence(0.0, 0.02, 9), 2)
    (0.0004, 0.31)
    """
    if not margin > 0:
        raise ValueError(f"margin={margin} leaves no room for equivalence: give the least "
                         "difference that matters.")
    return _tail(margin - abs(difference), se, freedom)


# ---- the same images ---------------------------------------------------------------------------


def compare_images(pred_a, pred_b, mos, groups=None, n: int = 1000, seed: int = 0) -> pd.Series:
    """Compare two metrics that are not trained on the same images: a paired bootstrap of their SRCC
    difference.

    Both are judged on the same resampled images (contents, with `groups`), so what is hard for both
    cancels out.

    Args:
        pred_a, pred_b: (N,) predictions of the two metrics, HIGHER = BETTER.
        mos: (N,) scores of the same images.
        groups, n, seed: see `metrics.bootstrap`.

    Returns:
        Series: `difference` (SRCC of a - SRCC of b, positive = a is better), `low`, `high` (95 %
            interval).

    Raises:
        ValueError: see `metrics.bootstrap`.

    >>> mos = np.arange(40.0)
    >>> compare_images(mos, mos, mos, n=100).to_dict()
    {'difference': 0.0, 'low': 0.0, 'high': 0.0}
    """
    a, mos = metrics.pair(pred_a, mos)
    b, _ = metrics.pair(pred_b, mos)

    def difference(rows: np.ndarray, mos: np.ndarray) -> float:
        rows = rows.astype(int)
        return metrics.srcc(a[rows], mos) - metrics.srcc(b[rows], mos)

    everything = np.arange(len(mos))  # row numbers are resampled: the same images for both
    low, high = metrics.bootstrap(everything, mos, difference, n, seed, groups)
    return pd.Series({"difference": difference(everything, mos), "low": low, "high": high})


def srcc_by_content(pred, mos, contents) -> pd.Series:
    """SRCC within each content that has 4 images or more, of which two differ in their score.

    The pooled SRCC also counts whether different contents are put into order; this one asks only
    whether the versions of one content are.

    Args:
        pred, mos: (N,), as `metrics.srcc`.
        contents: (N,) name of each image's content.

    Returns:
        Series by content, HIGHER = BETTER, in [-1, 1]; empty if no content has enough images; NaN
        where a prediction is the same for all images of a content.

    >>> srcc_by_content([1, 2, 3, 4, 9, 8], [1, 2, 3, 4, 5, 6], ["a"] * 4 + ["b"] * 2).to_dict()
    {'a': 1.0}
    """
    table = pd.DataFrame({"pred": np.asarray(pred), "mos": np.asarray(mos),
                          "content": np.asarray(contents)})
    values = {}
    for content, part in table.groupby("content"):
        if len(part) >= FEWEST_IN_CONTENT and part["mos"].nunique() > 1:
            constant = part["pred"].nunique() == 1
            values[content] = np.nan if constant else metrics.srcc(part["pred"], part["mos"])
    return pd.Series(values, dtype=float)


def srcc_within(pred, mos, contents, n: int = 1000, seed: int = 0) -> pd.Series:
    """Mean SRCC within contents, with its 95 % interval from a bootstrap over the contents.

    Args:
        pred, mos, contents: see `srcc_by_content`.
        n, seed: number of resamples and their seed.

    Returns:
        Series: `srcc` (mean), `low`, `high`, `contents` (their number).

    Raises:
        ValueError: fewer than 3 contents with enough images, or a content whose predictions are all
            equal.

    >>> contents = np.repeat(np.arange(5), 6)
    >>> level = np.tile(np.arange(6), 5)
    >>> srcc_within(level, level + 10 * contents, contents).to_dict()
    {'srcc': 1.0, 'low': 1.0, 'high': 1.0, 'contents': 5.0}
    """
    values = srcc_by_content(pred, mos, contents)
    if len(values) < 3 or values.isna().any():
        raise ValueError(f"{len(values)} contents have {FEWEST_IN_CONTENT} images or more, and in "
                         f"{values.isna().sum()} of them all predictions are equal: an interval "
                         "needs 3 contents that the method puts into some order.")
    resampled = np.random.default_rng(seed).choice(values.to_numpy(), (n, len(values))).mean(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return pd.Series({"srcc": values.mean(), "low": low, "high": high, "contents": len(values)},
                     dtype=float)
