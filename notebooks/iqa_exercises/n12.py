"""Exercises of notebook 12: two experts at two scales, all levels, one ridge and its alpha, contents
left out, differences from the reference, voices in a score."""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.linear_model import Ridge

from iqa_core import metrics
from iqa_exercises import Choice, Exercise


def phi(x: torch.Tensor, quality: Callable, content: Callable, normalise: Callable, halve: Callable
        ) -> torch.Tensor:
    """What two experts say about images: [q(x), q(x/2), c(norm x), c(norm x/2)].

    x: (B, 3, H, W) in [0, 1]; quality and content: (B, 3, h, w) -> (B, D); normalise: the input
    that the content expert was trained with; halve: (B, 3, H, W) -> (B, 3, H/2, W/2).
    Returns (B, 4 D).
    """
    half = halve(x)
    looks = [quality(x), quality(half), content(normalise(x)), content(normalise(half))]
    return torch.cat(looks, 1)


def phi_both_normalised(x, quality, content, normalise, halve):
    """The quality expert got normalised images as well. It was trained on images in [0, 1]: only
    the content expert's input is normalised."""
    full, half = normalise(x), normalise(halve(x))
    return torch.cat([quality(full), quality(half), content(full), content(half)], 1)


def phi_not_normalised(x, quality, content, normalise, halve):
    """Nobody's input is normalised. The content expert was trained on normalised images: give it
    normalise(x) and normalise(halve(x))."""
    half = halve(x)
    return torch.cat([quality(x), quality(half), content(x), content(half)], 1)


def phi_mixed_up(x, quality, content, normalise, halve):
    """You normalised the input of the wrong expert. The content expert needs it, the quality expert
    must not have it."""
    half = halve(x)
    return torch.cat([quality(normalise(x)), quality(normalise(half)), content(x), content(half)], 1)


def phi_half_forgotten(x, quality, content, normalise, halve):
    """At half size the content expert's input is not normalised. Both of its looks need it."""
    half = halve(x)
    return torch.cat([quality(x), quality(half), content(normalise(x)), content(half)], 1)


def phi_content_first(x, quality, content, normalise, halve):
    """The numbers are right, their order is not: the quality expert comes first."""
    half = halve(x)
    return torch.cat([content(normalise(x)), content(normalise(half)), quality(x), quality(half)], 1)


def phi_by_scale(x, quality, content, normalise, halve):
    """The numbers are right, their order is not: first both looks of the quality expert, then both
    of the content expert."""
    half = halve(x)
    return torch.cat([quality(x), content(normalise(x)), quality(half), content(normalise(half))], 1)


def phi_one_scale(x, quality, content, normalise, halve):
    """Both looks are at full size. The second look of each expert is at halve(x)."""
    return torch.cat([quality(x), quality(x), content(normalise(x)), content(normalise(x))], 1)


def experts() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    w_quality, w_content = torch.randn(2, 3, 4, generator=draw)

    def quality(x):
        return x.square().mean((2, 3)) @ w_quality

    def content(x):
        return x.square().mean((2, 3)) @ w_content

    def normalise(x):
        return (x - 0.5) / 0.5

    def halve(x):
        return torch.nn.functional.avg_pool2d(x, 2)

    return [(torch.rand(2, 3, 8, 12, generator=draw), quality, content, normalise, halve)]


def pyramid(maps: list[torch.Tensor]) -> torch.Tensor:
    """Mean and standard deviation, over the places, of each channel of each map.

    maps: tensors (B, C_i, h_i, w_i). Returns (B, 2 (C_1 + C_2 + ...)): the means of the first map,
    its standard deviations, then those of the second, and so on. The standard deviation divides by
    the number of places, h w.
    """
    parts = []
    for m in maps:
        parts += [m.mean((2, 3)), m.std((2, 3), correction=0)]
    return torch.cat(parts, 1)


def pyramid_means_only(maps):
    """The standard deviations are missing: for each map the means, then the standard
    deviations."""
    return torch.cat([m.mean((2, 3)) for m in maps], 1)


def pyramid_less_one(maps):
    """torch divides by h w - 1, unless you write std(..., correction=0)."""
    parts = []
    for m in maps:
        parts += [m.mean((2, 3)), m.std((2, 3))]
    return torch.cat(parts, 1)


def pyramid_variances(maps):
    """These are variances. Take their square roots."""
    parts = []
    for m in maps:
        parts += [m.mean((2, 3)), m.var((2, 3), correction=0)]
    return torch.cat(parts, 1)


def pyramid_means_first(maps):
    """The order is another one: the means and the standard deviations of a map stand together, map
    by map."""
    means = [m.mean((2, 3)) for m in maps]
    return torch.cat(means + [m.std((2, 3), correction=0) for m in maps], 1)


def pyramid_of_batch(maps):
    """The standard deviation goes over the images of the batch as well. Each image has its own: use
    the axes 2 and 3 only."""
    parts = []
    for m in maps:
        std = m.std((0, 2, 3), correction=0).expand(len(m), -1)
        parts += [m.mean((2, 3)), std]
    return torch.cat(parts, 1)


def maps_of_two() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    return [([torch.randn(2, 3, 6, 8, generator=draw) + 1, torch.randn(2, 5, 3, 4, generator=draw)],)]


def ridges(z: np.ndarray, y: np.ndarray, alphas: np.ndarray) -> np.ndarray:
    """The weights of one ridge regression for each alpha, from a single decomposition.

        w = Z' (Z Z' + alpha I)^-1 y,    Z Z' = V diag(values) V'

    z: features (N, D), centred; y: scores (N,), centred; alphas: (A,). np.linalg.eigh(z @ z.T)
    gives values (N,) and V (N, N). Returns (A, D).
    """
    values, vectors = np.linalg.eigh(z @ z.T)
    right = vectors.T @ y  # (N,)
    solutions = (right / (values + alphas[:, None])) @ vectors.T  # (A, N)
    return solutions @ z


def ridges_without_alpha(z, y, alphas):
    """alpha has no say here. Add it to the values before you divide by them."""
    w = z.T @ np.linalg.pinv(z @ z.T) @ y
    return np.tile(w, (len(alphas), 1))


def ridges_of_mean(z, y, alphas):
    """Your alpha is N times as strong: this penalises the mean of the squared errors, where the
    formula has their sum."""
    values, vectors = np.linalg.eigh(z @ z.T)
    right = vectors.T @ y
    return (right / (values + len(z) * alphas[:, None])) @ vectors.T @ z


def ridges_squared(z, y, alphas):
    """The values of Z Z' are squares already, and alpha is added to them as it is."""
    values, vectors = np.linalg.eigh(z @ z.T)
    right = vectors.T @ y
    return (right / (values + alphas[:, None] ** 2)) @ vectors.T @ z


def ridges_transposed(z, y, alphas):
    """V and its transpose are mixed up. The inverse is V diag(1 / (values + alpha)) V': first V'
    y, then V."""
    values, vectors = np.linalg.eigh(z @ z.T)
    right = vectors @ y
    return (right / (values + alphas[:, None])) @ vectors @ z


def ridges_multiplied(z, y, alphas):
    """You multiply where the inverse divides: right / (values + alpha)."""
    values, vectors = np.linalg.eigh(z @ z.T)
    right = vectors.T @ y
    return (right * (values + alphas[:, None])) @ vectors.T @ z


def regressions() -> list[tuple]:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(12, 30))
    y = rng.normal(size=12)
    return [(z - z.mean(0), y - y.mean(), np.array([0.5, 5.0, 50.0]))]


def choose(f: np.ndarray, mos: np.ndarray, f_val: np.ndarray, mos_val: np.ndarray,
           alphas: np.ndarray, ridges: Callable, srcc: Callable) -> tuple:
    """Fit a ridge for each alpha on the training part, and keep the best by SRCC on the validation
    part.

    Features are standardised by mean and standard deviation (at least 1e-6) of the training part,
    scores are centred by the training mean. f: (N, D), f_val: (M, D), as they are; mos, mos_val:
    (N,), (M,); ridges(z, y, alphas) gives weights (A, D) for standardised features; srcc(pred,
    mos) gives one number. Returns alpha, w (D,) and b, for features as they are: score = f @ w + b.
    """
    mean = f.mean(0)
    std = np.maximum(f.std(0), 1e-6)
    weights = ridges((f - mean) / std, mos - mos.mean(), alphas)
    found = [srcc((f_val - mean) / std @ w, mos_val) for w in weights]
    best = int(np.argmax(found))
    w = weights[best] / std
    return alphas[best], w, mos.mean() - mean @ w


def choose_on_training(f, mos, f_val, mos_val, alphas, ridges, srcc):
    """alpha was chosen on the training part, which the weakest penalty always knows best. Choose on
    the validation part."""
    mean = f.mean(0)
    std = np.maximum(f.std(0), 1e-6)
    weights = ridges((f - mean) / std, mos - mos.mean(), alphas)
    best = int(np.argmax([srcc((f - mean) / std @ w, mos) for w in weights]))
    w = weights[best] / std
    return alphas[best], w, mos.mean() - mean @ w


def choose_statistics_of_all(f, mos, f_val, mos_val, alphas, ridges, srcc):
    """Mean and standard deviation come from both parts. The validation part must have no say in
    what is fitted: take those of the training part."""
    both = np.vstack([f, f_val])
    mean = both.mean(0)
    std = np.maximum(both.std(0), 1e-6)
    weights = ridges((f - mean) / std, mos - mos.mean(), alphas)
    best = int(np.argmax([srcc((f_val - mean) / std @ w, mos_val) for w in weights]))
    w = weights[best] / std
    return alphas[best], w, mos.mean() - mean @ w


def choose_not_standardised(f, mos, f_val, mos_val, alphas, ridges, srcc):
    """The features are centred only. Divide them by their standard deviation, too: else a feature
    of large numbers escapes the penalty."""
    mean = f.mean(0)
    weights = ridges(f - mean, mos - mos.mean(), alphas)
    best = int(np.argmax([srcc((f_val - mean) @ w, mos_val) for w in weights]))
    return alphas[best], weights[best], mos.mean() - mean @ weights[best]


def choose_worst(f, mos, f_val, mos_val, alphas, ridges, srcc):
    """This is the alpha with the LOWEST SRCC. Higher is better: argmax."""
    mean = f.mean(0)
    std = np.maximum(f.std(0), 1e-6)
    weights = ridges((f - mean) / std, mos - mos.mean(), alphas)
    best = int(np.argmin([srcc((f_val - mean) / std @ w, mos_val) for w in weights]))
    w = weights[best] / std
    return alphas[best], w, mos.mean() - mean @ w


def choose_standardised_weights(f, mos, f_val, mos_val, alphas, ridges, srcc):
    """These weights are for standardised features. For features as they are divide w by std, and
    take mean @ w from b."""
    mean = f.mean(0)
    std = np.maximum(f.std(0), 1e-6)
    weights = ridges((f - mean) / std, mos - mos.mean(), alphas)
    best = int(np.argmax([srcc((f_val - mean) / std @ w, mos_val) for w in weights]))
    return alphas[best], weights[best], mos.mean()


def choose_offset(f, mos, f_val, mos_val, alphas, ridges, srcc):
    """w is right, b is not: the features were centred, so b = mos.mean() - mean @ w."""
    mean = f.mean(0)
    std = np.maximum(f.std(0), 1e-6)
    weights = ridges((f - mean) / std, mos - mos.mean(), alphas)
    best = int(np.argmax([srcc((f_val - mean) / std @ w, mos_val) for w in weights]))
    return alphas[best], weights[best] / std, mos.mean()


def parts() -> list[tuple]:
    rng = np.random.default_rng(9)
    scale = rng.uniform(0.2, 5, 40)
    truth = np.zeros(40)
    truth[:6] = 0.3

    def some(count):
        f = rng.normal(size=(count, 40))
        return f * scale + 1, f @ truth + 0.6 * rng.normal(size=count)

    def closed_form(z, y, alphas):
        product = z @ z.T
        return np.stack([z.T @ np.linalg.solve(product + a * np.eye(len(z)), y) for a in alphas])

    return [(*some(25), *some(15), np.geomspace(0.1, 1e4, 9), closed_form, metrics.srcc)]


def leave_content_out(f: np.ndarray, mos: np.ndarray, content: np.ndarray, fit: Callable
                      ) -> np.ndarray:
    """Scores for all images of a dataset, each by a regression that has seen no image of its
    content.

    f: features (N, D); mos: (N,), HIGHER = BETTER; content: (N,), what an image shows; fit(f, mos)
    gives w (D,) and b. Returns scores (N,).
    """
    scores = np.empty(len(mos))
    for one in np.unique(content):
        out = content == one
        w, b = fit(f[~out], mos[~out])
        scores[out] = f[out] @ w + b
    return scores


def leave_nothing_out(f, mos, content, fit):
    """This regression has seen the images that it scores. Fit one for each content, on the images
    of all OTHER contents."""
    w, b = fit(f, mos)
    return f @ w + b


def leave_image_out(f, mos, content, fit):
    """You leave out one image. Others of its content stay in the training part and betray it: leave
    out all of them."""
    scores = np.empty(len(mos))
    for i in range(len(mos)):
        out = np.arange(len(mos)) == i
        w, b = fit(f[~out], mos[~out])
        scores[i] = f[i] @ w + b
    return scores


def leave_others_out(f, mos, content, fit):
    """You train on the content itself. It is the one to be left out: fit on `content != one`."""
    scores = np.empty(len(mos))
    for one in np.unique(content):
        inside = content == one
        w, b = fit(f[inside], mos[inside])
        scores[inside] = f[inside] @ w + b
    return scores


def leave_out_without_offset(f, mos, content, fit):
    """b is missing. Each regression has its own, so the contents end up at different heights."""
    scores = np.empty(len(mos))
    for one in np.unique(content):
        out = content == one
        scores[out] = f[out] @ fit(f[~out], mos[~out])[0]
    return scores


def contents() -> list[tuple]:
    rng = np.random.default_rng(0)
    content = np.repeat([3, 1, 2], [4, 5, 6])
    f = rng.normal(size=(3, 8))[content - 1] + rng.normal(size=(15, 8))

    def fit(f, mos):
        model = Ridge(alpha=0.5).fit(f, mos)
        return model.coef_, model.intercept_

    return [(f, f[:, 0] + rng.normal(size=15) + content, content, fit)]


def difference(phi: np.ndarray, phi_ref: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Full-reference features: how far each feature of an image lies from its reference's.

        |phi_ref - phi|

    phi: (N, D), of the images; phi_ref: (R, D), of the references; reference: (N,), the row of
    each image's reference in phi_ref. Returns (N, D).
    """
    return np.abs(phi_ref[reference] - phi)


def difference_signed(phi, phi_ref, reference):
    """Without the absolute value more and less of a feature mean opposite things, and a ridge
    cannot say that both are bad."""
    return phi_ref[reference] - phi


def difference_squared(phi, phi_ref, reference):
    """These are squares. The absolute value is asked for."""
    return (phi_ref[reference] - phi) ** 2


def difference_of_rows(phi, phi_ref, reference):
    """Image i was compared with reference i. The row of its reference is reference[i]."""
    return np.abs(phi_ref[np.arange(len(phi)) % len(phi_ref)] - phi)


def difference_relative(phi, phi_ref, reference):
    """You divided by the reference's feature. The difference itself is asked for; standardising
    comes later."""
    return np.abs(phi_ref[reference] - phi) / np.abs(phi_ref[reference])


def referred() -> list[tuple]:
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(7, 4)), rng.normal(size=(3, 4)), np.array([2, 2, 0, 1, 0, 1, 2]))]


def voices(f: np.ndarray, w: np.ndarray, sizes: list) -> np.ndarray:
    """Who speaks in a score f @ w: the share of each group of features in the differences between
    images.

    f: features (N, D); w: weights (D,); sizes: columns of each group, from left to right, of sum D.
    Returns (len(sizes),) of sum 1: the covariance of a group's part with the score, over the
    score's variance.
    """
    starts = [0, *np.cumsum(sizes)[:-1]]
    groups = np.add.reduceat((f - f.mean(0)) * w, starts, axis=1)  # (N, groups)
    whole = groups.sum(1)
    return groups.T @ whole / (whole @ whole)


def voices_not_centred(f, w, sizes):
    """Covariance is about differences between images: subtract each column's mean over the images
    first."""
    groups = np.add.reduceat(f * w, [0, *np.cumsum(sizes)[:-1]], axis=1)
    whole = groups.sum(1)
    return groups.T @ whole / (whole @ whole)


def voices_of_variances(f, w, sizes):
    """These are VARIANCES of the parts. Their sum is not 1, for parts may agree or contradict: take
    covariances."""
    groups = np.add.reduceat(f * w, [0, *np.cumsum(sizes)[:-1]], axis=1)
    return groups.var(0) / groups.sum(1).var()


def voices_variances_to_one(f, w, sizes):
    """Variances, divided by their sum, ignore that parts may agree or contradict. Use covariances
    with the whole."""
    groups = np.add.reduceat(f * w, [0, *np.cumsum(sizes)[:-1]], axis=1)
    return groups.var(0) / groups.var(0).sum()


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
    "12.1": Exercise(phi, [phi_both_normalised, phi_not_normalised, phi_mixed_up,
                           phi_half_forgotten, phi_content_first, phi_by_scale, phi_one_scale],
                     experts),
    "12.2": Exercise(pyramid, [pyramid_means_only, pyramid_less_one, pyramid_variances,
                               pyramid_means_first, pyramid_of_batch], maps_of_two),
    "12.3": Exercise(ridges, [ridges_without_alpha, ridges_of_mean, ridges_squared,
                              ridges_transposed, ridges_multiplied], regressions),
    "12.4": Exercise(choose, [choose_on_training, choose_statistics_of_all,
                              choose_not_standardised, choose_worst, choose_standardised_weights,
                              choose_offset], parts),
    "12.5": Exercise(leave_content_out, [leave_nothing_out, leave_image_out, leave_others_out,
                                         leave_out_without_offset], contents),
    "12.6": Exercise(difference, [difference_signed, difference_squared, difference_of_rows,
                                  difference_relative], referred),
    "12.7": Exercise(voices, [voices_not_centred, voices_of_variances, voices_variances_to_one,
                              voices_of_weights], speakers),
    "12.8": Choice("b", {
        "a": "How many features has an image, and how many images are trained on? Print both "
             "numbers.",
        "c": "Only the scores could have told the ridge what quality is. Take the mean over the "
             "shuffles."}),
    "12.9": Choice("c", {
        "a": "Both sets are thinned to the same number of images, and the gap is there.",
        "b": "The splits part contents: no content stands on both sides, in neither set."}),
}
