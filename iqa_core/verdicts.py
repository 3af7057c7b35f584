"""What a comparison means for a claim, and how large an experiment must be to tell.

A claim gets one of four verdicts. Its margin and its direction are written down before the
experiment, and so is the line of `power_line`. Each paper has one primary claim; its other claims
are corrected together by `holm`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from iqa_core.comparisons import MARGIN, degrees_of_freedom, standard_error

MOST_SPLITS = 1000  # `splits_needed` looks no further

VERDICTS = ("holds", "reversed", "makes no difference here", "not decided")


def verdict(comparison: pd.Series, direction: int = 1, level: float = 0.05) -> str:
    """One of four verdicts about a claim.

    - "makes no difference here": the true difference lies within the margin
      (`comparisons.equivalence`), and zero is not excluded;
    - "holds" or "reversed": zero is excluded, and the difference has the claimed sign or the other
      one;
    - "not decided": neither; `splits_needed` says how many splits would decide.

    An effect can be significant and small at once. The margin was named in advance as the least
    effect that matters, so a significant effect makes no difference if its whole 95 % interval lies
    within the margin; if the interval reaches beyond the margin, the claim holds or is reversed.

    Args:
        comparison: of `comparisons.compare` or `comparisons.of_differences`, or a row with
            `difference`, `low`, `high`, `p`, `p_equivalent` and `margin`. Put corrected p-values
            (`holm`) in place of `p` and `p_equivalent` where several claims are tested together.
        direction: +1 if a positive difference is claimed, -1 if a negative one.
        level: of significance.

    >>> from iqa_core.comparisons import of_differences
    >>> clear = of_differences([0.03, 0.02, 0.04, 0.03])
    >>> verdict(clear), verdict(clear, direction=-1), verdict(of_differences([0.05, -0.03]))
    ('holds', 'reversed', 'not decided')
    >>> verdict(of_differences([0.001, -0.001, 0.0, 0.001]))
    'makes no difference here'
    """
    inside = -comparison["margin"] < comparison["low"] and comparison["high"] < comparison["margin"]
    significant = comparison["p"] < level
    equivalent = comparison["p_equivalent"] < level
    if equivalent and (inside or not significant):
        return "makes no difference here"
    if significant:
        return "holds" if comparison["difference"] * direction > 0 else "reversed"
    return "not decided"


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's corrected p-values: below 0.05 they keep the risk of any false finding at 5 %.

        p'_(i) = max over k <= i of min(1, (m - k + 1) p_(k)),   p_(1) <= ... <= p_(m)

    Args:
        p_values: (m,) of tests that are read together, such as the secondary claims of one paper.

    Returns:
        (m,) in the same order, in [0, 1].

    Source: Holm, A simple sequentially rejective multiple test procedure (1979).

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    tests_left = len(p) - np.arange(len(p))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(tests_left * p[order]))
    return corrected


# ---- before an experiment ----------------------------------------------------------------------


def power(s_split: float, s_seed: float, splits: int, repeats: int, n_test: float, n_train: float,
          level: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that an experiment finds significant with the given probability.

        effect = (t_(1 - level/2) + t_power) se,     se as in `comparisons.compare`

    With one training a split all variance counts as the splits', as `comparisons.compare` does
    then.

    Args:
        s_split, s_seed: standard deviations of a difference between splits and between trainings on
            one split, from an earlier `comparisons.compare`.
        splits, repeats: J and R.
        n_test, n_train: images of a test and of a training part.
        level: of significance (two-sided).
        power: probability of finding it.

    Returns:
        In the units of s_split and s_seed.

    >>> round(power(0.0152, 0.0, 20, 1, 299, 1050), 3)
    0.026
    """
    se, freedom = _planned(s_split, s_seed, splits, repeats, n_test / n_train)
    return float((stats.t.ppf(1 - level / 2, freedom) + stats.t.ppf(power, freedom)) * se)


def power_line(s_split: float, s_seed: float, splits: int, repeats: int, n_test: float,
               n_train: float) -> str:
    """The sentence that stands before an experiment; arguments as those of `power`.

    >>> power_line(0.01, 0.01, 20, 3, 300, 1050)
    'with 20 splits and 3 trainings each an effect of .018 can be seen (80 %)'
    """
    effect = f"{power(s_split, s_seed, splits, repeats, n_test, n_train):.3f}".removeprefix("0")
    trainings = "1 training" if repeats == 1 else f"{repeats} trainings"
    return f"with {splits} splits and {trainings} each an effect of {effect} can be seen (80 %)"


def splits_needed(difference: float, s_split: float, s_seed: float, repeats: int, n_test: float,
                  n_train: float, margin: float = MARGIN, level: float = 0.05) -> float:
    """How many splits would decide, with a probability of 80 %, if the true difference is the given
    one.

    To decide is to find the difference significant, or, where it lies within the margin, to find
    equivalence. Splits overlap, so there are differences that no number of splits can decide: then
    only more images help.

    Args:
        difference: supposed to be true, such as the measured one.
        s_split, s_seed, repeats, n_test, n_train: as `power`.
        margin: see `comparisons.compare`.
        level: of significance; 0.05 / m for one of m claims that are corrected together.

    Returns:
        J, 2 or more; infinity if 1000 are not enough.

    >>> [splits_needed(d, 0.0152, 0.0, 1, 299, 1050) for d in (0.03, 0.013)]
    [10, inf]
    """

    def decides(splits: int) -> bool:
        seen = power(s_split, s_seed, splits, repeats, n_test, n_train, level)
        if seen <= abs(difference):
            return True
        se, freedom = _planned(s_split, s_seed, splits, repeats, n_test / n_train)
        needed = stats.t.ppf(1 - level, freedom)
        # chances of the two one-sided tests
        below = stats.t.cdf((margin - difference) / se - needed, freedom)
        above = stats.t.cdf((margin + difference) / se - needed, freedom)
        return below + above - 1 >= 0.8

    if not decides(MOST_SPLITS):
        return np.inf
    return next(splits for splits in range(2, MOST_SPLITS + 1) if decides(splits))


def _planned(s_split: float, s_seed: float, splits: int, repeats: int,
             overlap: float) -> tuple[float, float]:
    """Standard error and degrees of freedom that are to be expected."""
    if repeats == 1:
        s_split = np.hypot(s_split, s_seed)
        s_seed = 0.0
    se = standard_error(s_split, s_seed, splits, repeats, overlap)
    return se, degrees_of_freedom(s_split, s_seed, splits, repeats, overlap)
