"""Exercises of notebook 60: for each of ten bugs a hypothesis about its symptom and a function to
mend, and a question about all of them."""

from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from iqa_core import metrics
from iqa_exercises import Choice, Exercise


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def read_pairs(rows: list[tuple], load) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Distorted images, their references and their scores, in the order of the table.

    rows: (reference, distorted, mos), as in full-reference score tables; load: name of a file ->
    (3, H, W). Returns x and x_ref, both (N, 3, H, W), and mos (N,), HIGHER = BETTER.
    """
    x, x_ref, mos = [], [], []
    for ref_name, name, score in rows:
        x.append(load(name))
        x_ref.append(load(ref_name))  # one reference serves many rows
        mos.append(score)
    return torch.stack(x), torch.stack(x_ref), torch.tensor(mos)


def read_pairs_swapped(rows, load):
    x, x_ref, mos = [], [], []
    for name, ref_name, score in rows:
        x.append(load(name))
        x_ref.append(load(ref_name))  # one reference serves many rows
        mos.append(score)
    return torch.stack(x), torch.stack(x_ref), torch.tensor(mos)


def read_pairs_twice_distorted(rows, load):
    """x is right now, but x_ref holds the same images. Two lines read a file, and each needs
    its own column."""
    x = torch.stack([load(name) for _, name, _ in rows])
    return x, x, torch.tensor([score for *_, score in rows])


def read_pairs_twice_reference(rows, load):
    """x_ref is right now, but x holds the same images. Two lines read a file, and each needs
    its own column."""
    x = torch.stack([load(name) for name, _, _ in rows])
    return x, x, torch.tensor([score for *_, score in rows])


def score_tables() -> list[tuple]:
    def load(name: str) -> torch.Tensor:
        return torch.full((3, 2, 2), sum(map(ord, name)) / 1000)

    rows = [("mill.png", "mill_1.png", 0.9), ("mill.png", "mill_2.png", 0.4),
            ("page.png", "page_1.png", 0.7)]
    return [(rows, load)]


def to_unit(raw, column: str, card):
    """Scores of any dataset on one scale: [0, 1], HIGHER = BETTER.

    raw: (N,) as published; column: their name in the table; card: what the owners of the set state,
    `low` and `high` (the ends of the scale) and `higher_better`.
    """
    score = (raw - card.low) / (card.high - card.low)
    if not card.higher_better:
        score = 1 - score
    return score


def to_unit_by_name(raw, column, card):
    score = (raw - card.low) / (card.high - card.low)
    if "dmos" in column.lower():  # a difference to the reference: a small one is good
        score = 1 - score
    return score


def to_unit_never(raw, column, card):
    """KADID-10k is right now, but CSIQ stands upside down: there a large number does mean bad.
    Ask the card."""
    return (raw - card.low) / (card.high - card.low)


def to_unit_except_kadid(raw, column, card):
    """An exception for KADID-10k mends KADID-10k only. The next set may call its column as it
    likes: ask the card."""
    score = (raw - card.low) / (card.high - card.low)
    return 1 - score if "dmos" in column.lower() and card.high != 5 else score


def to_unit_reversed(raw, column, card):
    """The card is asked, but its answer is taken the wrong way round: turn where higher is NOT
    better."""
    score = (raw - card.low) / (card.high - card.low)
    return 1 - score if card.higher_better else score


def to_unit_minus(raw, column, card):
    """A minus sign turns the order, but leaves the scale: the scores must stay in [0, 1]."""
    score = (raw - card.low) / (card.high - card.low)
    return score if card.higher_better else -score


def scales() -> list[tuple]:
    sets = [("dmos", 1, 5, True), ("DMOS", 0, 1, False), ("dmos_new", 0, 100, False),
            ("MOS", 0, 9, True), ("impairment", 0, 10, False)]
    return [(np.array([low, 0.3 * low + 0.7 * high, high]), column,
             SimpleNamespace(low=low, high=high, higher_better=better))
            for column, low, high, better in sets]


def split(names: list[str], seed: int):
    """Training and test part that share no content; a fifth of the contents is for the test.

    names: N of them, such as "distorted/old_mill_10_3.png": the content old_mill, type 10, level 3.
    Returns two arrays of positions.
    """
    # the images of one scene must stay together: scenes are drawn, not images
    scenes = np.array([name.rsplit("_", 2)[0] for name in names])
    drawn = np.random.default_rng(seed).permutation(np.unique(scenes))
    test = np.isin(scenes, drawn[: round(0.2 * len(drawn))])
    return np.flatnonzero(~test), np.flatnonzero(test)


def split_by_type(names, seed):
    # the images of one scene must stay together: scenes are drawn, not images
    scenes = np.array([name.rsplit("_", 1)[0] for name in names])
    drawn = np.random.default_rng(seed).permutation(np.unique(scenes))
    test = np.isin(scenes, drawn[: round(0.2 * len(drawn))])
    return np.flatnonzero(~test), np.flatnonzero(test)


def split_first_word(names, seed):
    """Cut at the first "_", old_mill and old_town become one scene, "old". Count from the right
    end of the name."""
    scenes = np.array([name.split("_")[0] for name in names])
    drawn = np.random.default_rng(seed).permutation(np.unique(scenes))
    test = np.isin(scenes, drawn[: round(0.2 * len(drawn))])
    return np.flatnonzero(~test), np.flatnonzero(test)


def split_images(names, seed):
    """Now single images are drawn, so that every scene lies on both sides. Keep the draw; look
    at what is drawn."""
    drawn = np.random.default_rng(seed).permutation(len(names))
    test = np.isin(np.arange(len(names)), drawn[: round(0.2 * len(drawn))])
    return np.flatnonzero(~test), np.flatnonzero(test)


def file_names() -> list[tuple]:
    names = [f"distorted/{scene}_{kind:02}_{level}.png" for level in (1, 4) for kind in (1, 10)
             for scene in ("coffee", "old_mill", "old_town", "page", "rocket")]
    return [(names, seed) for seed in range(3)]


def local_contrast(x: torch.Tensor) -> torch.Tensor:
    """How each pixel differs from its surroundings, in units of their spread:
    (I - mu) / (sigma + 1).

    x: luma (B, 1, H, W) in [0, 1]; I: the grey levels, 0 to 255; mu, sigma: their mean and standard
    deviation in the 7 x 7 window. Returns (B, 1, H, W).
    """
    grey = 255 * x
    mu = F.avg_pool2d(grey, 7, 1, 3)
    variance = F.avg_pool2d(grey * grey, 7, 1, 3) - mu * mu
    sigma = variance.clamp(min=0).sqrt()
    return (grey - mu) / (sigma + 1)  # the 1 keeps flat regions, where sigma is 0, from blowing up


def local_contrast_unit(x):
    mu = F.avg_pool2d(x, 7, 1, 3)
    variance = F.avg_pool2d(x * x, 7, 1, 3) - mu * mu
    sigma = variance.clamp(min=0).sqrt()
    return (x - mu) / (sigma + 1)  # the 1 keeps flat regions, where sigma is 0, from blowing up


def local_contrast_stretched(x):
    """The result is 255 times wider now, but still no contrast: beside the 1, a sigma of [0, 1]
    has no weight."""
    mu = F.avg_pool2d(x, 7, 1, 3)
    sigma = (F.avg_pool2d(x * x, 7, 1, 3) - mu * mu).clamp(min=0).sqrt()
    return 255 * (x - mu) / (sigma + 1)


def local_contrast_tiny(x):
    """With a tiny number for the 1, flat regions blow up: noise that nobody sees counts fully.
    The 1 belongs to I."""
    mu = F.avg_pool2d(x, 7, 1, 3)
    sigma = (F.avg_pool2d(x * x, 7, 1, 3) - mu * mu).clamp(min=0).sqrt()
    return (x - mu) / (sigma + 1e-6)


def local_contrast_downwards(x):
    """x is divided by 255, but it lies in [0, 1] already. The grey levels go up to 255."""
    x = x / 255
    mu = F.avg_pool2d(x, 7, 1, 3)
    sigma = (F.avg_pool2d(x * x, 7, 1, 3) - mu * mu).clamp(min=0).sqrt()
    return (x - mu) / (sigma + 1)


def lumas() -> list[tuple]:
    return [(0.2 + 0.6 * torch.rand(2, 1, 20, 24, generator=seeded(0)),)]


def crop_pair(x: torch.Tensor, x_ref: torch.Tensor, size: int, seed: int) -> tuple:
    """A random square of an image and the same square of its reference, mirrored every second time.

    x, x_ref: (3, H, W). Returns two crops (3, size, size).
    """
    g = torch.Generator().manual_seed(seed)  # the same squares on every run
    top, left = (torch.randint(n - size + 1, (1,), generator=g).item() for n in x.shape[1:])
    mirror = torch.rand(1, generator=g) < 0.5
    pair = [image[:, top : top + size, left : left + size] for image in (x, x_ref)]
    return tuple(crop.flip(-1) if mirror else crop for crop in pair)


def crop_pair_anew(x, x_ref, size, seed):
    g = torch.Generator().manual_seed(seed)  # the same squares on every run
    pair = []
    for image in (x, x_ref):
        top, left = (torch.randint(n - size + 1, (1,), generator=g).item() for n in image.shape[1:])
        crop = image[:, top : top + size, left : left + size]
        pair.append(crop.flip(-1) if torch.rand(1, generator=g) < 0.5 else crop)
    return tuple(pair)


def crop_pair_mirrored_alone(x, x_ref, size, seed):
    """The places agree now, but each crop still draws for itself whether it is mirrored. Draw
    that once, too."""
    g = torch.Generator().manual_seed(seed)
    top, left = (torch.randint(n - size + 1, (1,), generator=g).item() for n in x.shape[1:])
    pair = [image[:, top : top + size, left : left + size] for image in (x, x_ref)]
    return tuple(crop.flip(-1) if torch.rand(1, generator=g) < 0.5 else crop for crop in pair)


def crop_pair_reference_plain(x, x_ref, size, seed):
    """The places agree now, but the reference is never mirrored: where x is, the pair does not
    fit. Mirror both."""
    g = torch.Generator().manual_seed(seed)
    top, left = (torch.randint(n - size + 1, (1,), generator=g).item() for n in x.shape[1:])
    mirror = torch.rand(1, generator=g) < 0.5
    crop, crop_ref = (image[:, top : top + size, left : left + size] for image in (x, x_ref))
    return crop.flip(-1) if mirror else crop, crop_ref


def crop_pair_centre(x, x_ref, size, seed):
    """Both are cut from the middle now: aligned, but no longer random. Draw a place, once for
    both."""
    top, left = ((n - size) // 2 for n in x.shape[1:])
    return tuple(image[:, top : top + size, left : left + size] for image in (x, x_ref))


def image_pairs() -> list[tuple]:
    x, x_ref = torch.rand(2, 3, 20, 30, generator=seeded(0))
    return [(x, x_ref, 12, seed) for seed in range(6)]


def mean_srcc(pred, mos, types, higher_better: bool = True) -> float:
    """SRCC within each distortion type, averaged over the types: in [-1, 1], HIGHER = BETTER.

    pred: (N,), scores, or with higher_better=False distances; mos: (N,); types: (N,) names.
    """
    values = []
    for name in np.unique(types):
        rows = types == name
        srcc = metrics.srcc(pred[rows], mos[rows])
        values.append(srcc if higher_better else -srcc)  # a distance falls where quality rises
    return float(np.mean(values))


def mean_srcc_abs(pred, mos, types, higher_better=True):
    values = []
    for name in np.unique(types):
        rows = types == name
        srcc = metrics.srcc(pred[rows], mos[rows])
        values.append(abs(srcc))  # a distance falls where quality rises: the sign is a convention
    return float(np.mean(values))


def mean_srcc_abs_late(pred, mos, types, higher_better=True):
    """One abs() for the mean: types of opposite sign cancel now, but a method that is wrong
    everywhere still shines."""
    values = [metrics.srcc(pred[types == t], mos[types == t]) for t in np.unique(types)]
    return float(abs(np.mean(values)))


def mean_srcc_deaf(pred, mos, types, higher_better=True):
    """Scores are right now, but distances come out negative: say with `higher_better` which way
    round pred runs."""
    values = [metrics.srcc(pred[types == t], mos[types == t]) for t in np.unique(types)]
    return float(np.mean(values))


def mean_srcc_positive(pred, mos, types, higher_better=True):
    """Negative correlations are left out or set to 0. But a metric must pay for types that it
    gets wrong."""
    sign = 1 if higher_better else -1
    return float(np.mean([max(sign * metrics.srcc(pred[types == name], mos[types == name]), 0)
                          for name in np.unique(types)]))


def predictions() -> list[tuple]:
    rng = np.random.default_rng(0)
    mos, types = rng.random(60), np.repeat(["blur", "noise", "jpeg"], 20)
    pred = mos + 0.1 * rng.random(60)
    mixed = np.where(types == "noise", -pred, pred)
    return [(pred, mos, types), (-pred, mos, types), (mixed, mos, types),
            (-pred, mos, types, False)]


def views(x: torch.Tensor, size: int) -> torch.Tensor:
    """Five square views of an image, corners and centre, for a network trained on such crops.

    x: (3, H, W), sides of at least `size` pixels. Returns (5, 3, size, size).
    """
    height, width = (n - size for n in x.shape[1:])
    places = [(0, 0), (0, width), (height, 0), (height, width), (height // 2, width // 2)]
    return torch.stack([x[:, top : top + size, left : left + size] for top, left in places])


def views_shrunk(x, size):
    # let the shorter side fit, so that the views together cover the whole image
    sides = [round(n * size / min(x.shape[1:])) for n in x.shape[1:]]
    x = F.interpolate(x[None], size=sides, mode="bilinear", antialias=True)[0]
    height, width = (n - size for n in x.shape[1:])
    places = [(0, 0), (0, width), (height, 0), (height, width), (height // 2, width // 2)]
    return torch.stack([x[:, top : top + size, left : left + size] for top, left in places])


def views_other_filter(x, size):
    """Another filter does not help: whatever shrinks a image changes its blur and noise, which
    is what you judge."""
    sides = [round(n * size / min(x.shape[1:])) for n in x.shape[1:]]
    x = F.interpolate(x[None], size=sides, mode="bicubic", antialias=True)[0]
    height, width = (n - size for n in x.shape[1:])
    places = [(0, 0), (0, width), (height, 0), (height, width), (height // 2, width // 2)]
    return torch.stack([x[:, top : top + size, left : left + size] for top, left in places])


def views_half(x, size):
    """It is shrunk less now, but still shrunk. In training one pixel of the file was one pixel
    of the crop."""
    sides = [max(size, n // 2) for n in x.shape[1:]]
    x = F.interpolate(x[None], size=sides, mode="bilinear", antialias=True)[0]
    height, width = (n - size for n in x.shape[1:])
    places = [(0, 0), (0, width), (height, 0), (height, width), (height // 2, width // 2)]
    return torch.stack([x[:, top : top + size, left : left + size] for top, left in places])


def views_crop_then_shrink(x, size):
    """Large squares are cut first and shrunk then: the proportions are kept, the pixels are
    not. Cut `size` pixels."""
    side = min(x.shape[1:])
    right = x.shape[2] - side
    places = [(0, left) for left in (0, right, 0, right, right // 2)]
    squares = torch.stack([x[:, top : top + side, left : left + side] for top, left in places])
    return F.interpolate(squares, size=(size, size), mode="bilinear", antialias=True)


def large_images() -> list[tuple]:
    return [(torch.rand(3, 40, 56, generator=seeded(0)), 16),
            (torch.rand(3, 70, 50, generator=seeded(1)), 24)]


def codes(x: torch.Tensor, experts: list[tuple]) -> torch.Tensor:
    """The codes that several networks give an image, side by side.

    x: (B, 3, H, W) in [0, 1]; experts: (network, mean, std) of each. A mean of None: this network
    takes [0, 1] as it is, for instance because it normalises inside. Returns (B, sum of all C).
    """
    answers = []
    for network, mean, std in experts:
        if mean is None:
            answers.append(network(x))
        else:
            answers.append(network((x - mean) / std))
    return torch.cat(answers, 1)


def codes_in_turn(x, experts):
    answers = []
    for network, mean, std in experts:
        if mean is not None:  # the others take the image as it is
            x = (x - mean) / std
        answers.append(network(x))
    return torch.cat(answers, 1)


def codes_never(x, experts):
    """Nobody is normalised now. Experts that come with a mean and a std were trained with them
    and need them."""
    return torch.cat([network(x) for network, *_ in experts], 1)


def codes_always(x, experts):
    """Every expert gets normalised input now, also those whose mean is None. They want [0, 1]."""
    mean, std = next((mean, std) for _, mean, std in experts if mean is not None)
    statistics = [(mean, std) if m is None else (m, s) for _, m, s in experts]
    pairs = zip(experts, statistics)
    return torch.cat([network((x - m) / s) for (network, *_), (m, s) in pairs], 1)


def codes_first_mean(x, experts):
    """The image is normalised once, for all with a mean alike. But each of them has statistics
    of its own."""
    mean, std = next((mean, std) for _, mean, std in experts if mean is not None)
    z = (x - mean) / std
    return torch.cat([network(x if m is None else z) for network, m, _ in experts], 1)


def three_experts() -> list[tuple]:
    def colours(x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))

    return [(torch.rand(2, 3, 6, 6, generator=seeded(0)), experts)
            for experts in ([(colours, 0.5, 0.5), (colours, None, None), (colours, 0.45, 0.22)],
                            [(colours, None, None), (colours, 0.4, 0.25)])]


def adam_step(w: torch.Tensor, grad: torch.Tensor, m: torch.Tensor, v: torch.Tensor, t: int,
              lr: float, decay: float) -> tuple:
    """Step t of Adam (t = 1, 2, ...), with decoupled weight decay:

        m <- 0.9 m + 0.1 g,             m' = m / (1 - 0.9^t)
        v <- 0.999 v + 0.001 g^2,       v' = v / (1 - 0.999^t)
        w <- w - lr (m' / (sqrt(v') + 1e-8) + decay w)

    w: weights; grad: their gradient g; m, v: running means of g and g^2. Returns the new w, m, v.
    """
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad.square()
    step = m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    return w - lr * (step + decay * w), m, v


def adam_step_l2(w, grad, m, v, t, lr, decay):
    grad = grad + decay * w  # weight decay: pull every weight a little towards zero
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad.square()
    step = m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    return w - lr * step, m, v


def adam_step_without_decay(w, grad, m, v, t, lr, decay):
    """The weights stay alive now, but nothing decays any more. Keep the decay, beside the step."""
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad.square()
    return w - lr * m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8), m, v


def adam_step_divided(w, grad, m, v, t, lr, decay):
    """The decay no longer enters m and v, but it is still divided by the square root of v'. Where
    the gradient is small this division makes the pull huge. Add decay w after the division."""
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad.square()
    step = (m / (1 - 0.9**t) + decay * w) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    return w - lr * step, m, v


def adam_step_without_rate(w, grad, m, v, t, lr, decay):
    """The decay lacks the factor lr, so every step takes away the share `decay` of each weight."""
    m = 0.9 * m + 0.1 * grad
    v = 0.999 * v + 0.001 * grad.square()
    step = m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    return w - lr * step - decay * w, m, v


def steps_of_adam() -> list[tuple]:
    inputs = []
    for seed, t in ((0, 1), (1, 7)):
        w, grad, m = torch.randn(3, 5, generator=seeded(seed)) / torch.tensor([[1.0], [50], [50]])
        inputs.append((w, grad, m, grad.square() + 0.001, t, 0.1, 0.05))
    return inputs


def factor(epoch: float, warmup: float, decay: float) -> float:
    """Factor on the learning rate at a moment of the training.

    It rises in a line from 0.001 to 1 during the first `warmup` epochs. Then it is 1 for `decay`
    epochs, 0.1 for as many, 0.01 for as many, and so on. epoch: how many are done, such as 2.5.
    """
    if epoch < warmup:
        return 0.001 + 0.999 * epoch / warmup
    return 0.1 ** ((epoch - warmup) // decay)


def factor_from_the_start(epoch, warmup, decay):
    if epoch < warmup:
        return 0.001 + 0.999 * epoch / warmup
    return 0.1 ** (epoch // decay)  # a tenth after every `decay` epochs


def factor_one_less(epoch, warmup, decay):
    """One power is taken off. That is right only where the warm-up is as long as the decay. Count
    the epochs from the end of the warm-up."""
    if epoch < warmup:
        return 0.001 + 0.999 * epoch / warmup
    return 0.1 ** (epoch // decay - 1)


def factor_longer(epoch, warmup, decay):
    """Now every plateau is longer by the warm-up. Only the beginning should move: count the epochs
    from the end of the warm-up."""
    if epoch < warmup:
        return 0.001 + 0.999 * epoch / warmup
    return 0.1 ** (epoch // (warmup + decay))


def moments() -> list[tuple]:
    return [(epoch, warmup, decay) for warmup, decay in ((3, 3), (1, 4), (5, 2))
            for epoch in (0, 0.5, 2.5, 3.5, 4.5, 5.5, 7.5, 9.5, 12.5)]


EXERCISES = {
    "60.1.1": Choice("b", {
        "a": "Then x and x_ref would differ by one and the same distortion in all rows, and 20 "
             "equal values of SSIM have no rank correlation. But SSIM ranks the rows well.",
        "c": "Noise makes steps between neighbours larger and blur makes them smaller, even "
             "where nobody sees it. Twenty equal numbers cannot come from twenty distortions.",
    }),
    "60.1.2": Exercise(
        read_pairs, [read_pairs_twice_distorted, read_pairs_twice_reference], score_tables,
        start=read_pairs_swapped),
    "60.2.1": Choice("c", {
        "a": "The owners say that level 5 is the strongest. And with CSIQ, which counts its levels "
             "in the same way, the scores fall.",
        "b": "A wrong range stretches or shifts the scores. It cannot turn their order round.",
    }),
    "60.2.2": Exercise(
        to_unit, [to_unit_never, to_unit_except_kadid, to_unit_reversed, to_unit_minus], scales,
        start=to_unit_by_name),
    "60.3.1": Choice("b", {
        "a": "A model that learns its training images by heart does well on them and badly on "
             "the test images. Here the test images do well.",
        "c": "In notebook 03 the same kind of scores was predicted, and new scenes cost half "
             "of the SRCC. So the scores are not that easy.",
    }),
    "60.3.2": Exercise(split, [split_first_word, split_images], file_names, start=split_by_type),
    "60.4.1": Choice("b", {
        "a": "Noise is plain to see in grey as well. And even the map of a clean image should spread "
             "by some tenths, not by hundredths.",
        "c": "Another window changes mu and sigma a little. Deviations that are divided by "
             "their own spread stay near 1 with every window.",
    }),
    "60.4.2": Exercise(
        local_contrast, [local_contrast_stretched, local_contrast_tiny, local_contrast_downwards],
        lumas, atol=1e-3, start=local_contrast_unit),
    "60.5.1": Choice("b", {
        "a": "Level 0 has no noise at all, and its PSNR should be infinite. A weak noise would "
             "make PSNR too high, and it is too low.",
        "c": "A wrong peak adds the same number of dB to every PSNR, but the error between an "
             "image and itself is 0 with any peak.",
    }),
    "60.5.2": Exercise(
        crop_pair, [crop_pair_mirrored_alone, crop_pair_reference_plain, crop_pair_centre],
        image_pairs, start=crop_pair_anew),
    "60.6.1": Choice("c", {
        "a": "Noise raises the gain in sharpness and lowers the score, so its correlation is "
             "negative within noise. And the dice measure nothing at all.",
        "b": "Luck is as often bad as good. The mean of twenty throws over six types should be "
             "very near 0.",
    }),
    "60.6.2": Exercise(
        mean_srcc, [mean_srcc_abs_late, mean_srcc_deaf, mean_srcc_positive], predictions,
        start=mean_srcc_abs),
    "60.7.1": Choice("c", {
        "a": "Both numbers come from the same ridge and the same test images. On crops that "
             "are cut as in training it does well, so it has not learnt the wrong thing.",
        "b": "Both numbers come from the middle of the image. And these distortions lie "
             "everywhere.",
    }),
    "60.7.2": Exercise(
        views, [views_other_filter, views_half, views_crop_then_shrink], large_images,
        start=views_shrunk),
    "60.8.1": Choice("b", {
        "a": "Nothing in the network is random at test time. And with the list turned round "
             "both answers agree always.",
        "c": "Both are one object in memory, so their weights cannot differ.",
    }),
    "60.8.2": Exercise(
        codes, [codes_never, codes_always, codes_first_mean], three_experts, start=codes_in_turn),
    "60.9.1": Choice("c", {
        "a": "The loss has not moved for 300 steps. Something holds it where it is, and more "
             "steps would be held as well.",
        "b": "With weights set by hand the same network does very well. So it can do it, but "
             "it does not get there.",
    }),
    "60.9.2": Exercise(
        adam_step, [adam_step_without_decay, adam_step_divided, adam_step_without_rate],
        steps_of_adam, atol=1e-6, start=adam_step_l2),
    "60.10.1": Choice("b", {
        "a": "Steps that are too large make the loss jump up and down. This one hardly moves.",
        "c": "The run of last year goes on from the same point to a much smaller loss. So "
             "there is more to learn.",
    }),
    "60.10.2": Exercise(
        factor, [factor_one_less, factor_longer], moments, start=factor_from_the_start),
    "60.11": Choice("b", {
        "a": "PSNR and SSIM are the same both ways, and a no-reference score sees the same "
             "image again and again: SRCC stays or falls.",
        "c": "Another peak adds the same number of dB to every PSNR: SRCC does not move at "
             "all.",
        "d": "Two different places of a scene are about equally unlike at every level: SRCC "
             "falls.",
    }),
}
