"""Tables that are too small for a 70/10/20 split: how they are cross-validated.

A part needs 3 images. For each seed the contents are shuffled into k = 5 folds (5 contents or
fewer: one each, the same for every seed). The images of each fold are predicted by a method that
was trained on all others with `val=None`, so its constants stay at their defaults. All n
predictions together give the row of the seed.

Predictions of several trainings cannot be pooled as they are. What is tested is missing from
training, so the mean of a training part is low where the test scores are high, and every regression
starts at that mean: with features that say nothing, the pooled SRCC of a ridge on 20 images is
about -0.2, not 0, and with leave-one-out it may fall to -1. So from each prediction the mean of the
same training's predictions for its own training images is taken away. This changes no order within
one training, and in a simulation the mean SRCC was then 0.00. The mean of SRCCs within folds, the
other remedy, needs more than the 4 images that a fold has here.

Source of the bias: Parker, Günter, Bedo, Stratification bias in low signal microarray studies
(2007).
"""

import warnings

import numpy as np
import pandas as pd

from iqa_core import data

FEWEST_IN_PART = 3  # a correlation needs three values
FEWEST_IMAGES = 8  # of a table that is cross-validated: five folds then train on six of them
FEWEST_CONTENTS = 3
MOST_FOLDS = 5


def folds_needed(dataset: data.Dataset) -> int:
    """How many folds a table needs that is too small for a 70/10/20 split; 0 for a larger one.

    What counts is the least that a part may hold, whatever the seed: the smallest contents.

    Raises:
        ValueError: an official test part of fewer than 3 images, or a table that is too small even
            to be cross-validated (8 images of 3 contents).

    >>> folds_needed(data.example(count=18, levels=3))
    0
    >>> folds_needed(data.example(count=8, levels=1))
    5
    """
    official = data.parts(dataset)
    if "test" in official:
        tested = (official == "test").sum()
        if tested < FEWEST_IN_PART:
            raise ValueError(f"{dataset.name}: the official test part has {tested} images, and "
                             f"{FEWEST_IN_PART} are the least that a correlation needs. Mark more, "
                             "or leave the column split empty.")
        return 0
    content = data.contents(dataset.table)
    sizes = content[official != "val"].value_counts().sort_values().to_numpy()
    test = sizes[: max(1, round(0.2 * len(sizes)))].sum()
    val = (official == "val").sum() or sizes[: max(1, round(0.1 * len(sizes)))].sum()
    if len(sizes) >= 3 and min(test, val) >= FEWEST_IN_PART:
        return 0
    count = content.nunique()
    if len(dataset) < FEWEST_IMAGES or count < FEWEST_CONTENTS:
        reason = "Cross-validation"
        if count == len(dataset):
            reason = (f"A 70/10/20 split would have parts of {_part_sizes(count)} images, and "
                      "cross-validation")
        raise ValueError(f"{dataset.name}: {len(dataset)} images of {count} contents are too few "
                         f"to train and test. {reason} needs {FEWEST_IMAGES} images of "
                         f"{FEWEST_CONTENTS} contents at least. Rate more.")
    return min(MOST_FOLDS, count)


def _part_sizes(n: int) -> str:
    """The parts of a 70/10/20 split of n images with a content each, as words."""
    test = max(1, round(0.2 * n))
    val = max(1, round(0.1 * n))
    return f"{max(0, n - test - val)}, {val} and {test}"


def fold_of_each(dataset: data.Dataset, folds: int, seed: int) -> np.ndarray:
    """The fold, 0 to folds - 1, of each image, (N,); a content is in one fold, drawn by the seed.

    >>> dataset = data.example(count=8, levels=1)
    >>> sorted(fold_of_each(dataset, 5, seed=0).tolist())
    [0, 0, 1, 1, 2, 2, 3, 4]
    """
    content = data.contents(dataset.table).to_numpy(dtype=object)
    order = sorted(pd.unique(content), key=str)  # so that the order of rows does not matter
    np.random.default_rng(seed).shuffle(order)
    fold_of = {name: number % folds for number, name in enumerate(order)}
    return np.array([fold_of[name] for name in content])


def with_enough_validation(dataset: data.Dataset, parts: dict) -> dict:
    """Splits by seed, as given; where an official test part leaves a validation part that is too
    small to choose anything, its images train, and it is None."""
    fewest = min(len(val) for _, val, _ in parts.values())
    if fewest >= FEWEST_IN_PART:
        return parts
    warnings.warn(f"{dataset.name}: a validation part of {fewest} images is too small to choose "
                  f"constants by ({FEWEST_IN_PART} are the least). So those images train as well, "
                  "and constants stay at their defaults.", stacklevel=3)
    content = data.contents(dataset.table)
    result = {}
    for seed, (_, _, test) in parts.items():
        tested = content.isin(data.contents(test.table))
        result[seed] = (dataset.subset((~tested).to_numpy()), None, test)
    return result


def warning_of(dataset: data.Dataset, folds: int, learns: bool) -> str:
    """The sentence that tells what a cross-validation of so few images can show."""
    n = len(dataset)
    count = data.contents(dataset.table).nunique()
    low, high = srcc_interval(0.8, n)
    if learns:
        how = (f"each seed is a {folds}-fold cross-validation by content: every image is predicted "
               "by a method that was trained on other contents, its constants at their defaults")
    else:
        how = "all of its images are tested, for every seed (nothing is trained)"
    marked = (data.parts(dataset) == "val").sum()
    unused = f" The val mark of {marked} images is not used." if marked else ""
    return (f"{dataset.name}: {n} images of {count} contents are too few for a 70/10/20 split, "
            f"whose test and validation parts need {FEWEST_IN_PART} images each (26 images of as "
            f"many contents do), so {how}.{unused} With {n} images the 95 % interval of an SRCC of "
            f"0.80 is {low:.2f} to {high:.2f} at best, however many seeds are run: rate more to "
            "tell methods apart.")


def srcc_interval(srcc: float, n: int) -> tuple[float, float]:
    """The 95 % interval of an SRCC that was measured on n images.

        z = atanh(SRCC),    se = sqrt((1 + SRCC^2 / 2) / (n - 3)),
        interval = tanh(z - 1.96 se), tanh(z + 1.96 se)

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
