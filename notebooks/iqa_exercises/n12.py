"""Exercises of notebook 12: scenes left out, voices in a score, learning by heart, two sets."""

import numpy as np
from sklearn.linear_model import Ridge

from iqa_exercises import Choice, Exercise


def leave_scene_out(f, mos, scene, alpha):
    """Scores for all pictures of a set, each by a ridge that has seen no picture of its scene.

    f: features (N, D); mos: (N,), HIGHER = BETTER; scene: (N,), what a picture shows; alpha: the brake of
    every ridge, a number. Returns scores (N,).
    """
    scores = np.empty(len(mos))
    for one in np.unique(scene):
        out = scene == one
        scores[out] = Ridge(alpha=alpha).fit(f[~out], mos[~out]).predict(f[out])
    return scores


def leave_scene_out_nothing(f, mos, scene, alpha):
    """This ridge has seen the pictures that it scores. Fit one for each scene, on the pictures
    of all OTHER scenes."""
    return Ridge(alpha=alpha).fit(f, mos).predict(f)


def leave_scene_out_picture(f, mos, scene, alpha):
    """You leave out one picture. Others of its scene stay in the training part and betray it:
    leave out all."""
    each = np.eye(len(mos), dtype=bool)
    return np.array([Ridge(alpha=alpha).fit(f[~out], mos[~out]).predict(f[out])[0] for out in each])


def leave_scene_out_reversed(f, mos, scene, alpha):
    """You train on the scene itself. It is the one to be left out: fit on `scene != one`."""
    scores = np.empty(len(mos))
    for one in np.unique(scene):
        inside = scene == one
        scores[inside] = Ridge(alpha=alpha).fit(f[inside], mos[inside]).predict(f[inside])
    return scores


def leave_scene_out_centred_on_all(f, mos, scene, alpha):
    """Centred by means over ALL pictures: the scene that is left out has had a say. Take means
    of the training part."""
    scores = np.empty(len(mos))
    z = f - f.mean(0)
    y = mos - mos.mean()
    for one in np.unique(scene):
        out = scene == one
        fitted = Ridge(alpha=alpha, fit_intercept=False).fit(z[~out], y[~out])
        scores[out] = fitted.predict(z[out]) + mos.mean()
    return scores


def scenes() -> list[tuple]:
    rng = np.random.default_rng(0)
    scene = np.repeat([3, 1, 2], [4, 5, 6])
    f = rng.normal(size=(3, 8))[scene - 1] + rng.normal(size=(15, 8))
    return [(f, f[:, 0] + rng.normal(size=15) + scene, scene, alpha) for alpha in (0.5, 5.0)]


def voices(f, w, sizes):
    """Who speaks in a score f @ w: the share of each group of features in the differences between pictures.

    f: features (N, D); w: weights (D,); sizes: columns of each group, from left to right, of sum D. Returns
    (len(sizes),) of sum 1: the covariance of a group's part with the score, over the score's variance.
    """
    parts = np.add.reduceat((f - f.mean(0)) * w, [0, *np.cumsum(sizes)[:-1]], axis=1)  # (N, groups)
    whole = parts.sum(1)
    return parts.T @ whole / (whole @ whole)


def voices_not_centred(f, w, sizes):
    """Covariance is about differences between pictures: subtract each column's mean over the
    pictures first."""
    parts = np.add.reduceat(f * w, [0, *np.cumsum(sizes)[:-1]], axis=1)
    whole = parts.sum(1)
    return parts.T @ whole / (whole @ whole)


def voices_of_variances(f, w, sizes):
    """These are VARIANCES of the parts. Their sum is not 1, for parts may agree or contradict:
    take covariances."""
    parts = np.add.reduceat(f * w, [0, *np.cumsum(sizes)[:-1]], axis=1)
    return parts.var(0) / parts.sum(1).var()


def voices_variances_to_one(f, w, sizes):
    """Variances, divided by their sum, ignore that parts may agree or contradict. Use
    covariances with the whole."""
    parts = np.add.reduceat(f * w, [0, *np.cumsum(sizes)[:-1]], axis=1)
    return parts.var(0) / parts.var(0).sum()


def voices_of_weights(f, w, sizes):
    """You compare weights alone. A large weight on a feature that hardly varies says nothing:
    multiply by f."""
    lengths = np.add.reduceat(w**2, [0, *np.cumsum(sizes)[:-1]])
    return lengths / lengths.sum()


def speakers() -> list[tuple]:
    rng = np.random.default_rng(0)
    f = rng.normal(size=(20, 9)) * rng.uniform(0.2, 2, 9) + rng.normal(size=9)
    return [(f, rng.normal(size=9), sizes) for sizes in ([3, 3, 3], [2, 6, 1])]


EXERCISES = {
    "12.1": Exercise(
        leave_scene_out,
        [leave_scene_out_nothing, leave_scene_out_picture, leave_scene_out_reversed,
         leave_scene_out_centred_on_all],
        scenes),
    "12.2": Exercise(
        voices,
        [voices_not_centred, voices_of_variances, voices_variances_to_one, voices_of_weights],
        speakers),
    "12.3": Choice("b", {
        "a": "How many features has a picture, and how many pictures are trained on? Print both "
             "numbers.",
        "c": "Only the scores could have told the ridge what quality is. Take the mean over the "
             "shuffles."}),
    "12.4": Choice("c", {
        "a": "In quick mode both sets are thinned to the same number of pictures, and the gap is "
             "there.",
        "b": "The splits part contents: no scene stands on both sides, in neither set."}),
}
