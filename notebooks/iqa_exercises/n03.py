"""Exercises of notebook 03: splits by content, the protocol, a bootstrap of contents, the
corrected test, power, four verdicts, and what they are good for."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
from scipy import stats

from data_download.made.kadid_cells import kadid_scores
from iqa_core import metrics
from iqa_exercises import Choice, Exercise, Number


def by_content(contents: np.ndarray, draw: Callable) -> np.ndarray:
    """A part for each image: 0 train, 1 validate, 2 test. All images of a content get the same
    part.

    contents: (N,), the content of each image. draw(n) gives n units their parts, an array (n,) of
    0, 1 and 2; call it once, for the contents in sorted order. Returns (N,).
    """
    names, code = np.unique(contents, return_inverse=True)  # names[code] is contents again
    return draw(len(names))[code]


def by_content_each_image(contents, draw):
    """The parts are drawn for the images, so images of one content land in different parts. Draw
    for the contents, and look up the part of each image's content."""
    return draw(len(contents))


def by_content_not_spread(contents, draw):
    """These are the parts of the contents. Each image needs the part of its content: (N,)."""
    return draw(len(np.unique(contents)))


def by_content_within(contents, draw):
    """Every content is split into three parts, so each one is trained on and tested. The other way
    round is meant: a content goes into one part as a whole."""
    part = np.zeros(len(contents), dtype=int)
    for name in np.unique(contents):
        rows = contents == name
        part[rows] = draw(rows.sum())
    return part


def contents_and_draw() -> list[tuple]:
    def draw(n: int) -> np.ndarray:
        return np.random.default_rng(n).permutation(n) % 3

    return [(np.repeat(["bird", "boat", "cat", "tree"], [3, 4, 5, 3]), draw)]


def judge(method: object, dataset: object, split: Callable, seeds: list) -> np.ndarray:
    """SRCC on the test part for every seed.

    split(dataset, seed) gives the training, validation and test part. method.fit(train, val)
    learns; method.predict(part) gives predictions (N,); part.scores holds the scores (N,). Returns
    (len(seeds),).
    """
    found = []
    for seed in seeds:
        train, val, test = split(dataset, seed)
        method.fit(train, val)
        found.append(metrics.srcc(method.predict(test), test.scores))
    return np.array(found)


def judge_on_training(method, dataset, split, seeds):
    """This is the SRCC on the images that the method was fitted to. Predict the test part."""
    found = []
    for seed in seeds:
        train, val, test = split(dataset, seed)
        method.fit(train, val)
        found.append(metrics.srcc(method.predict(train), train.scores))
    return np.array(found)


def judge_one_split(method, dataset, split, seeds):
    """Every number comes from the split of the first seed. Each seed draws a split of its own."""
    found = []
    for seed in seeds:
        train, val, test = split(dataset, seeds[0])
        method.fit(train, val)
        found.append(metrics.srcc(method.predict(test), test.scores))
    return np.array(found)


def judge_fitted_once(method, dataset, split, seeds):
    """The method is fitted on the first split only, and then meets test images that it was trained
    on. Fit it anew for every split."""
    found = []
    train, val, test = split(dataset, seeds[0])
    method.fit(train, val)
    for seed in seeds:
        train, val, test = split(dataset, seed)
        found.append(metrics.srcc(method.predict(test), test.scores))
    return np.array(found)


def judge_fitted_on_test(method, dataset, split, seeds):
    """The method is fitted on the test part. Fit it on the training part; the validation part only
    chooses its constants."""
    found = []
    for seed in seeds:
        train, val, test = split(dataset, seed)
        method.fit(test, val)
        found.append(metrics.srcc(method.predict(test), test.scores))
    return np.array(found)


class Neighbour:
    def fit(self, train, val):
        self.train = train

    def predict(self, part):
        nearest = np.abs(part.x[:, None] - self.train.x).argmin(1)
        return self.train.scores[nearest] + 0.01 * part.x


def a_small_study() -> list[tuple]:
    def split(dataset, seed):
        order = np.random.default_rng(seed).permutation(60)
        parts = order[18:], order[12:18], order[:12]
        return [SimpleNamespace(x=dataset[0][rows], scores=dataset[1][rows]) for rows in parts]

    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, 60)
    return [(Neighbour(), (x, x + rng.normal(0, 0.3, 60)), split, [4, 5, 6])]


def drawn_contents(contents: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How often each image is in one resample of whole contents, drawn with replacement.

    Of K contents, draw K: rng.integers(K, size=K) gives their numbers, in sorted order of their
    names. contents: (N,). Returns (N,): 0, 1, 2, ..., the same for all images of a content.
    """
    names, code = np.unique(contents, return_inverse=True)
    drawn = rng.integers(len(names), size=len(names))
    return np.bincount(drawn, minlength=len(names))[code]


def drawn_images(contents, rng):
    """Single images are drawn. Images of one content succeed or fail together, so the contents are
    the units."""
    n = len(contents)
    return np.bincount(rng.integers(n, size=n), minlength=n)


def drawn_once(contents, rng):
    """A content that was drawn twice must count twice. Here it counts once."""
    names, code = np.unique(contents, return_inverse=True)
    drawn = rng.integers(len(names), size=len(names))
    return np.isin(code, drawn).astype(int)


def drawn_without_replacement(contents, rng):
    """Drawn without replacement, every content comes once, and no resample differs from the data.
    """
    return np.ones(len(contents), dtype=int)


def drawn_not_spread(contents, rng):
    """This counts the contents. Every image needs the count of its content: (N,)."""
    names = np.unique(contents)
    drawn = rng.integers(len(names), size=len(names))
    return np.bincount(drawn, minlength=len(names))


def contents_and_rng() -> list[tuple]:
    return [(np.repeat(["a", "b", "c", "d", "e"], [2, 3, 2, 4, 2]), np.random.default_rng(0))]


def p_value(d: np.ndarray, rho: float) -> np.ndarray:
    """Two-sided p of paired differences: how often would equal methods differ as much?

    t = mean(d) / sqrt((1/J + rho) var(d)), and p = 2 P(T > |t|) with J - 1 degrees of freedom.
    d: (..., J), one difference a split; the variance divides by J - 1. rho: 0 for the naive test,
    n_test / n_train for the corrected one. Returns (...).
    """
    J = d.shape[-1]
    t = d.mean(-1) / np.sqrt((1 / J + rho) * d.var(-1, ddof=1))
    return 2 * stats.t.sf(abs(t), J - 1)


def p_value_population(d, rho):
    """The variance divides by J. With so few differences that is too small: ddof=1."""
    J = d.shape[-1]
    t = d.mean(-1) / np.sqrt((1 / J + rho) * d.var(-1))
    return 2 * stats.t.sf(abs(t), J - 1)


def p_value_one_sided(d, rho):
    """This is the one-sided p. Equal methods can differ to both sides: twice as often."""
    J = d.shape[-1]
    t = d.mean(-1) / np.sqrt((1 / J + rho) * d.var(-1, ddof=1))
    return stats.t.sf(abs(t), J - 1)


def p_value_naive(d, rho):
    """rho has no effect. It belongs beside 1/J, under the root."""
    J = d.shape[-1]
    t = d.mean(-1) / np.sqrt(d.var(-1, ddof=1) / J)
    return 2 * stats.t.sf(abs(t), J - 1)


def p_value_normal(d, rho):
    """This takes the normal distribution. With J differences it is the t distribution with J - 1
    degrees of freedom, whose tails are heavier."""
    J = d.shape[-1]
    t = d.mean(-1) / np.sqrt((1 / J + rho) * d.var(-1, ddof=1))
    return 2 * stats.norm.sf(abs(t))


def p_value_without_root(d, rho):
    """The root is missing: the mean is divided by a variance, not by a standard error."""
    J = d.shape[-1]
    t = d.mean(-1) / ((1 / J + rho) * d.var(-1, ddof=1))
    return 2 * stats.t.sf(abs(t), J - 1)


def differences() -> list[tuple]:
    rng = np.random.default_rng(0)
    return [(rng.normal(0.01, 0.02, (3, 8)), 0.3), (rng.normal(0.01, 0.02, (2, 5)), 0.0)]


def visible(s: float, J: int, rho: float) -> float:
    """The smallest true difference that the corrected test finds in 80 of 100 studies.

    (t_.975 + t_.8) s sqrt(1/J + rho), where t_q = stats.t.ppf(q, J - 1) is the q-quantile of the t
    distribution with J - 1 degrees of freedom. s: standard deviation of the differences; J: number
    of splits; rho: n_test / n_train.
    """
    quantiles = stats.t.ppf(0.975, J - 1) + stats.t.ppf(0.8, J - 1)
    return quantiles * s * np.sqrt(1 / J + rho)


def visible_significant_only(s, J, rho):
    """t_.8 is missing. A true difference of this size is found in half of the studies only."""
    return stats.t.ppf(0.975, J - 1) * s * np.sqrt(1 / J + rho)


def visible_naive(s, J, rho):
    """rho is missing, so many splits seem to show any difference, however small."""
    return (stats.t.ppf(0.975, J - 1) + stats.t.ppf(0.8, J - 1)) * s / np.sqrt(J)


def visible_one_sided(s, J, rho):
    """The first quantile is that of a one-sided test. The test has two sides: t_.975."""
    return (stats.t.ppf(0.95, J - 1) + stats.t.ppf(0.8, J - 1)) * s * np.sqrt(1 / J + rho)


def visible_normal(s, J, rho):
    """These are quantiles of the normal distribution. Take the t distribution with J - 1 degrees
    of freedom."""
    return (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * s * np.sqrt(1 / J + rho)


def plans() -> list[tuple]:
    return [(0.02, 10, 0.3), (0.02, 4, 0.0), (0.05, 40, 0.25)]


def verdict(wide: tuple, narrow: tuple, margin: float) -> str:
    """One of "holds", "reversed", "makes no difference here", "not decided".

    wide, narrow: (low, high), the 95 % and the 90 % interval of a difference that is claimed to be
    positive. It makes no difference here if the narrow interval lies inside -margin to margin, and
    the wide one lies inside as well or contains zero. Otherwise the claim holds if the wide
    interval lies above zero, and is reversed if it lies below.
    """
    inside = -margin < narrow[0] and narrow[1] < margin
    all_inside = -margin < wide[0] and wide[1] < margin
    contains_zero = wide[0] <= 0 <= wide[1]
    if inside and (all_inside or contains_zero):
        return "makes no difference here"
    if contains_zero:
        return "not decided"
    return "holds" if wide[0] > 0 else "reversed"


def verdict_zero_is_equal(wide, narrow, margin):
    """An interval that contains zero is called equal here. It says only that these images cannot
    tell: the difference may be large. That is "not decided"."""
    if wide[0] <= 0 <= wide[1]:
        return "makes no difference here"
    return "holds" if wide[0] > 0 else "reversed"


def verdict_significance_first(wide, narrow, margin):
    """A difference that lies above zero, but wholly inside the margin, is too small to matter. Ask
    about the margin first."""
    if wide[0] > 0:
        return "holds"
    if wide[1] < 0:
        return "reversed"
    return (
        "makes no difference here" if -margin < narrow[0] and narrow[1] < margin else "not decided"
    )


def verdict_two_verdicts(wide, narrow, margin):
    """Nothing makes no difference here: the margin is not used."""
    if wide[0] <= 0 <= wide[1]:
        return "not decided"
    return "holds" if wide[0] > 0 else "reversed"


def verdict_by_its_middle(wide, narrow, margin):
    """This looks at the middle of the interval. The whole interval has to lie inside the margin.
    """
    if abs(wide[0] + wide[1]) / 2 < margin:
        return "makes no difference here"
    if wide[0] <= 0 <= wide[1]:
        return "not decided"
    return "holds" if wide[0] > 0 else "reversed"


def intervals() -> list[tuple]:
    middles_and_reaches = [
        (0.03, 0.01),
        (-0.03, 0.01),
        (0.001, 0.005),
        (0.0, 0.03),
        (0.006, 0.003),
        (-0.012, 0.006),
        (0.004, 0.007),
    ]
    return [((m - r, m + r), (m - 0.8 * r, m + 0.8 * r), 0.01) for m, r in middles_and_reaches]


def by_type(types: np.ndarray, draw: Callable) -> np.ndarray:
    """A part for each image, 0 train, 1 validate, 2 test, so that the types of distortion in the
    test part are new.

    types: (N,), the distortion of each image. draw(n): as in exercise 03.1, for the types in
    sorted order. Returns (N,).
    """
    names, code = np.unique(types, return_inverse=True)
    return draw(len(names))[code]


def by_type_each_image(types, draw):
    """The parts are drawn for the images, so the test part holds types that were trained on."""
    return draw(len(types))


def by_type_not_spread(types, draw):
    """These are the parts of the types. Each image needs the part of its type: (N,)."""
    return draw(len(np.unique(types)))


def without_zero_point(features: np.ndarray, contents: np.ndarray) -> np.ndarray:
    """Features minus the mean features of all images of the same content.

    features: (N, D); contents: (N,). Returns (N, D).
    """
    centred = features.copy()
    for content in np.unique(contents):
        centred[contents == content] -= features[contents == content].mean(0)
    return centred


def zero_point_of_all(features, contents):
    """The mean of all images is subtracted. Every content has a zero point of its own."""
    return features - features.mean(0)


def zero_point_of_each_image(features, contents):
    """The mean runs over the features of an image. It should run over the images of a content:
    axis 0."""
    return features - features.mean(1, keepdims=True)


def zero_point_itself(features, contents):
    """These are the means. Subtract them from the features."""
    means = np.empty_like(features)
    for content in np.unique(contents):
        means[contents == content] = features[contents == content].mean(0)
    return means


def features_and_contents() -> list[tuple]:
    return [(np.random.default_rng(0).normal(size=(7, 3)), np.array([*"aabbbcc"]))]


def cells_and_scores() -> tuple[np.ndarray, np.ndarray]:
    """The mean of the other 80 images of its cell, and the MOS, of each image of KADID-10k."""
    kadid = kadid_scores()
    cell = kadid.groupby(["type", "level"])["score"].transform("mean")
    return ((81 * cell - kadid["score"]) / 80).to_numpy(), kadid["score"].to_numpy()


def srcc_of_good_images() -> float:
    others, mos = cells_and_scores()
    return metrics.srcc(others[others > 4], mos[others > 4])


def srcc_of_all_images() -> float:
    """This is the SRCC over all images. Keep only those whose prediction is above 4."""
    return metrics.srcc(*cells_and_scores())


def srcc_of_worse_images() -> float:
    """These are the images whose prediction is below 4. Keep those above."""
    others, mos = cells_and_scores()
    return metrics.srcc(others[others < 4], mos[others < 4])


EXERCISES = {
    "03.1": Exercise(
        by_content,
        [by_content_each_image, by_content_not_spread, by_content_within],
        contents_and_draw,
    ),
    "03.2": Exercise(
        judge,
        [judge_on_training, judge_one_split, judge_fitted_once, judge_fitted_on_test],
        a_small_study,
    ),
    "03.3": Exercise(
        drawn_contents,
        [drawn_images, drawn_once, drawn_without_replacement, drawn_not_spread],
        contents_and_rng,
    ),
    "03.4": Exercise(
        p_value,
        [
            p_value_population,
            p_value_one_sided,
            p_value_naive,
            p_value_normal,
            p_value_without_root,
        ],
        differences,
    ),
    "03.5": Exercise(
        visible,
        [visible_significant_only, visible_naive, visible_one_sided, visible_normal],
        plans,
    ),
    "03.6": Exercise(
        verdict,
        [
            verdict_zero_is_equal,
            verdict_significance_first,
            verdict_two_verdicts,
            verdict_by_its_middle,
        ],
        intervals,
    ),
    "03.7": Exercise(by_type, [by_type_each_image, by_type_not_spread], contents_and_draw),
    "03.8": Exercise(
        without_zero_point,
        [zero_point_of_all, zero_point_of_each_image, zero_point_itself],
        features_and_contents,
    ),
    "03.9": Number(srcc_of_good_images, 0.005, [srcc_of_all_images, srcc_of_worse_images]),
    "03.10": Choice(
        "b",
        {
            "a": "Images of all three subsets would still lie on both sides, and a model that "
            "recognises the subset would still gain.",
            "c": "More images of the same three subsets do not make a new subset.",
        },
    ),
}
