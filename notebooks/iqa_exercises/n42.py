"""Exercises of notebook 42: what a ridge sees, one scale, a part that starts silent, a control, the
RS loss, a ratio with bounds, what an oracle tells, zeros."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from iqa_exercises import Choice, Exercise


def with_change(maps: list, change: list) -> torch.Tensor:
    """What a ridge regression sees: the mean of every channel of the maps, then the mean SIZE of
    every channel of the change, over crops and places.

    maps, change: lists of (crops, C_i, h_i, w_i). Returns (sum of C_i of both,).
    """
    means = [m.mean((0, 2, 3)) for m in maps]
    sizes = [m.abs().mean((0, 2, 3)) for m in change]
    return torch.cat(means + sizes)


def with_change_signed(maps, change):
    """The size of the change is missing: where it goes up at one place and down at another, its
    mean is 0. Take abs() before the mean."""
    return torch.cat([m.mean((0, 2, 3)) for m in [*maps, *change]])


def with_change_of_means(maps, change):
    """The mean of the change is taken before its size. First abs(), then the mean."""
    means = [m.mean((0, 2, 3)) for m in maps]
    return torch.cat(means + [m.mean((0, 2, 3)).abs() for m in change])


def with_change_all_sizes(maps, change):
    """The maps keep their sign: only of the change the size is asked for."""
    return torch.cat([m.abs().mean((0, 2, 3)) for m in [*maps, *change]])


def with_change_first(maps, change):
    """The change comes first here. First the maps, then the change."""
    sizes = [m.abs().mean((0, 2, 3)) for m in change]
    return torch.cat(sizes + [m.mean((0, 2, 3)) for m in maps])


def lists_of_maps() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    one = [torch.randn(2, c, 3, 4, generator=draw) for c in (2, 3)]
    return [(one, [torch.randn(m.shape, generator=draw) for m in one])]


def one_scale(x: torch.Tensor, train: torch.Tensor) -> torch.Tensor:
    """Every channel at mean 0 and standard deviation 1, by the statistics of the TRAINING images.

    x: (B, C, h, w), train: (N, C, h, w). Standard deviation over images and places, dividing by
    their number. Returns (B, C, h, w).
    """
    mean = train.mean((0, 2, 3), keepdim=True)
    std = (train - mean).square().mean((0, 2, 3), keepdim=True).sqrt()
    return (x - mean) / std


def one_scale_by_itself(x, train):
    """These are the statistics of x. An image that is tested must not decide how it is measured:
    take those of the training images."""
    mean = x.mean((0, 2, 3), keepdim=True)
    std = (x - mean).square().mean((0, 2, 3), keepdim=True).sqrt()
    return (x - mean) / std


def one_scale_for_all(x, train):
    """One mean and one standard deviation serve all channels. A channel of small numbers stays
    small: take them channel by channel."""
    mean = train.mean()
    return (x - mean) / (train - mean).square().mean().sqrt()


def one_scale_by_place(x, train):
    """Each place has statistics of its own here. They belong to a channel: mean over images and
    places."""
    mean = train.mean(0, keepdim=True)
    return (x - mean) / (train - mean).square().mean(0, keepdim=True).sqrt()


def one_scale_variance(x, train):
    """The division is by the variance. Take its root."""
    mean = train.mean((0, 2, 3), keepdim=True)
    return (x - mean) / (train - mean).square().mean((0, 2, 3), keepdim=True)


def channels_of_two_sizes() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    size = torch.tensor([0.02, 1.0, 5.0]).view(1, 3, 1, 1)
    x, train = torch.randn(4, 3, 2, 2, generator=draw), torch.randn(9, 3, 2, 2, generator=draw)
    return [(size * x + 1, size * train + 2)]


def other_rows(contents: np.ndarray, seed: int) -> np.ndarray:
    """For each image the row of another one, drawn from those with ANOTHER content.

    contents: (N,). For row i draw np.random.default_rng([seed, i]).integers(n) among the n rows
    with another content, in their order. Returns (N,) whole numbers.
    """
    drawn = []
    for row, content in enumerate(contents):
        others = np.flatnonzero(contents != content)
        drawn.append(others[np.random.default_rng([seed, row]).integers(len(others))])
    return np.array(drawn)


def other_rows_same_content(contents, seed):
    """Other rows of the same content may be drawn here. They show the same place and may have a
    like degradation: leave the content out."""
    drawn = []
    for row in range(len(contents)):
        others = np.flatnonzero(np.arange(len(contents)) != row)
        drawn.append(others[np.random.default_rng([seed, row]).integers(len(others))])
    return np.array(drawn)


def other_rows_number(contents, seed):
    """This is the number among the others, not the row of the image that it stands for. Index the
    others with it."""
    drawn = []
    for row, content in enumerate(contents):
        count = (contents != content).sum()
        drawn.append(np.random.default_rng([seed, row]).integers(count))
    return np.array(drawn)


def other_rows_one_generator(contents, seed):
    """One generator serves all rows, so what a row gets depends on the rows before it. Make one for
    each row, from [seed, row]."""
    rng = np.random.default_rng(seed)
    drawn = []
    for content in contents:
        others = np.flatnonzero(contents != content)
        drawn.append(others[rng.integers(len(others))])
    return np.array(drawn)


def rows_of_contents() -> list[tuple]:
    return [(np.array([0, 0, 1, 1, 2, 2, 2, 3]), 3)]


def log_ratio(restored: tuple, reference: tuple, degraded: tuple) -> torch.Tensor:
    """The RS loss "ratio": the mean over images, and over q and g, of

        log(1 + |r(x_res) - r(x_ref)| / (|r(x) - r(x_ref)| + 0.001))

    |...| is the mean of the absolute values of a vector. restored, reference, degraded: (q, g) of
    each, (B, n). Only `restored` gets a gradient: detach() the rest. Returns a number.
    """
    parts = []
    for r, ref, x in zip(restored, reference, degraded):
        ref = ref.detach()
        left = (r - ref).abs().mean(1)
        whole = (x.detach() - ref).abs().mean(1)
        parts.append((left / (whole + 0.001)).log1p().mean())
    return sum(parts) / len(parts)


def log_ratio_from_the_degraded(restored, reference, degraded):
    """The division is by the distance of x_res from x. That is 0 as long as nothing is restored.
    Divide by the distance of x from x_ref."""
    parts = []
    for r, ref, x in zip(restored, reference, degraded):
        left = (r - ref).abs().mean(1)
        parts.append((left / ((r - x).abs().mean(1) + 0.001)).log1p().mean())
    return sum(parts) / len(parts)


def log_ratio_without_log(restored, reference, degraded):
    """The logarithm is missing, so a few images with large ratios decide. torch.log1p(z) is
    log(1 + z)."""
    parts = []
    for r, ref, x in zip(restored, reference, degraded):
        whole = (x - ref).abs().mean(1)
        parts.append(((r - ref).abs().mean(1) / (whole + 0.001)).mean())
    return sum(parts) / len(parts)


def log_ratio_of_the_batch(restored, reference, degraded):
    """The distances are means over all images before they are divided. Divide image by image."""
    parts = []
    for r, ref, x in zip(restored, reference, degraded):
        parts.append(((r - ref).abs().mean() / ((x - ref).abs().mean() + 0.001)).log1p())
    return sum(parts) / len(parts)


def log_ratio_summed(restored, reference, degraded):
    """This is the sum over q and g. The mean of both is asked for."""
    parts = []
    for r, ref, x in zip(restored, reference, degraded):
        whole = (x - ref).abs().mean(1)
        parts.append(((r - ref).abs().mean(1) / (whole + 0.001)).log1p().mean())
    return sum(parts)


def bounded_ratio(restored: tuple, reference: tuple, degraded: tuple) -> torch.Tensor:
    """A ratio with bounds: 0 = at the reference, 1 = nothing was changed.

    An image's share: near / (near + far), means over n of |r(x_res) - r(x_ref)| and |r(x_res) -
    r(x)|. restored, reference, degraded: (q, g) of each, (B, n). Returns the mean over images
    and q, g: a number.
    """
    shares = []
    for r, ref, x in zip(restored, reference, degraded):
        near, far = (r - ref).abs().mean(1), (r - x).abs().mean(1)
        shares.append((near / (near + far)).mean())
    return sum(shares) / len(shares)


def bounded_ratio_of_the_batch(restored, reference, degraded):
    """The batch is summed before the division, so images with large distances decide. Divide
    image by image."""
    shares = []
    for r, ref, x in zip(restored, reference, degraded):
        near, far = (r - ref).abs().mean(), (r - x).abs().mean()
        shares.append(near / (near + far))
    return sum(shares) / len(shares)


def bounded_ratio_upside_down(restored, reference, degraded):
    """It rewards doing nothing: 0 where nothing was changed. Over the fraction stands the
    distance to the reference."""
    shares = []
    for r, ref, x in zip(restored, reference, degraded):
        near, far = (r - ref).abs().mean(1), (r - x).abs().mean(1)
        shares.append((far / (near + far)).mean())
    return sum(shares) / len(shares)


def bounded_ratio_of_the_whole_way(restored, reference, degraded):
    """Below stands the distance from x to x_ref: whoever errs sideways gets more than 1. Divide
    by near + far."""
    shares = []
    for r, ref, x in zip(restored, reference, degraded):
        shares.append(((r - ref).abs().mean(1) / (x - ref).abs().mean(1)).mean())
    return sum(shares) / len(shares)


def bounded_ratio_summed(restored, reference, degraded):
    """This is the sum over q and g, up to 2. The mean of both is asked for."""
    shares = []
    for r, ref, x in zip(restored, reference, degraded):
        near, far = (r - ref).abs().mean(1), (r - x).abs().mean(1)
        shares.append((near / (near + far)).mean())
    return sum(shares)


def triples() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    restored, reference, degraded = (
        [torch.randn(5, n, generator=draw) for n in (8, 8)] for _ in range(3))
    for i in range(2):
        restored[i][1], restored[i][2] = reference[i][1], degraded[i][2]
        degraded[i][3] *= 9
    return [(restored, reference, degraded)]


def added(x: torch.Tensor, signal: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    """x plus what a layer makes of a normalised signal: x + layer(LN(signal)).

    LN(s) = (s - mean) / sqrt(variance + 1e-6) over the channels of a place (the variance divides by
    C). x: (B, C, H, W), signal: (B, S, H, W), layer: (B, S, H, W) -> (B, C, H, W).
    """
    mean = signal.mean(1, keepdim=True)
    variance = (signal - mean).square().mean(1, keepdim=True)
    return x + layer((signal - mean) / (variance + 1e-6).sqrt())


def added_raw(x, signal, layer):
    """The signal is not normalised, so a small one has hardly any effect. layer(LN(signal)) is asked
    for."""
    return x + layer(signal)


def added_after(x, signal, layer):
    """The normalisation stands behind the layer. There it would blow up a layer that starts at
    zero: normalise the signal before it."""
    y = layer(signal)
    mean = y.mean(1, keepdim=True)
    variance = (y - mean).square().mean(1, keepdim=True)
    return x + (y - mean) / (variance + 1e-6).sqrt()


def added_replaced(x, signal, layer):
    """x is missing: the signal is to be added to it."""
    mean = signal.mean(1, keepdim=True)
    variance = (signal - mean).square().mean(1, keepdim=True)
    return layer((signal - mean) / (variance + 1e-6).sqrt())


def signals_and_a_layer() -> list[tuple]:
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 4, 1, 1, generator=draw)
    x, signal = torch.randn(2, 3, 5, 5, generator=draw), torch.randn(2, 4, 5, 5, generator=draw)
    return [(x, 0.025 * signal + 0.3, lambda s: F.conv2d(s, weight))]


EXERCISES = {
    "42.1": Exercise(with_change, [with_change_signed, with_change_of_means, with_change_all_sizes,
                                   with_change_first], lists_of_maps),
    "42.2": Exercise(one_scale, [one_scale_by_itself, one_scale_for_all, one_scale_by_place,
                                 one_scale_variance], channels_of_two_sizes, atol=1e-4),
    "42.3": Exercise(added, [added_raw, added_after, added_replaced], signals_and_a_layer,
                     atol=1e-4),
    "42.4": Exercise(other_rows, [other_rows_same_content, other_rows_number,
                                  other_rows_one_generator], rows_of_contents),
    "42.5": Exercise(log_ratio, [log_ratio_from_the_degraded, log_ratio_without_log,
                                 log_ratio_of_the_batch, log_ratio_summed], triples),
    "42.6": Exercise(bounded_ratio, [bounded_ratio_of_the_batch, bounded_ratio_upside_down,
                                     bounded_ratio_of_the_whole_way, bounded_ratio_summed],
                     triples),
    "42.7": Choice("b", {
        "a": "The oracle's change is made with the reference, which no restorer sees. It is a "
             "bound, not a method.",
        "c": "A ridge could use any of its columns. Ask what the change of a perfect restorer "
             "contains: x_ref - x."}),
    "42.8": Choice("c", {
        "a": "It has the same blocks and the same numbers of weights as the full method, and what "
             "comes in has the same distribution.",
        "b": "Its own maps are those of the image that is judged. Only the assistance is "
             "another's."}),
}
