"""Exercises of notebook 60: eight functions with a bug each, to be mended, and a question."""

from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from iqa_core import metrics
from iqa_exercises import Choice, Exercise

def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def read_pairs(rows: list[tuple], load) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Distorted pictures, their references and their scores, in the order of the table.

    rows: (reference, distorted, mos), as in full-reference score tables; load: name of a file -> (3, H, W).
    Returns x and x_ref, both (N, 3, H, W), and mos (N,), HIGHER = BETTER.
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
    """x is right now, but x_ref holds the same pictures. Two lines read a file, and each needs its own column."""
    x = torch.stack([load(name) for _, name, _ in rows])
    return x, x, torch.tensor([score for *_, score in rows])


def read_pairs_twice_reference(rows, load):
    """x_ref is right now, but x holds the same pictures. Two lines read a file, and each needs its own column."""
    x = torch.stack([load(name) for name, _, _ in rows])
    return x, x, torch.tensor([score for *_, score in rows])


def score_tables() -> list[tuple]:
    def load(name: str) -> torch.Tensor:
        return torch.full((3, 2, 2), sum(map(ord, name)) / 1000)

    return [([("mill.png", "mill_1.png", 0.9), ("mill.png", "mill_2.png", 0.4), ("page.png", "page_1.png", 0.7)], load)]


def to_unit(raw, column: str, card):
    """Scores of any dataset on one scale: [0, 1], HIGHER = BETTER.

    raw: (N,) as published; column: their name in the table; card: what the owners of the set state, `low`
    and `high` (the ends of the scale) and `higher_better`.
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
    """KADID-10k is right now, but CSIQ stands upside down: there a large number does mean bad. Ask the card."""
    return (raw - card.low) / (card.high - card.low)


def to_unit_except_kadid(raw, column, card):
    """An exception for KADID-10k mends KADID-10k only. The next set may call its column as it likes: ask the card."""
    score = (raw - card.low) / (card.high - card.low)
    return 1 - score if "dmos" in column.lower() and card.high != 5 else score


def to_unit_reversed(raw, column, card):
    """The card is asked, but its answer is taken the wrong way round: turn where higher is NOT better."""
    score = (raw - card.low) / (card.high - card.low)
    return 1 - score if card.higher_better else score


def to_unit_minus(raw, column, card):
    """A minus sign turns the order, but leaves the scale: the scores must stay in [0, 1]."""
    score = (raw - card.low) / (card.high - card.low)
    return score if card.higher_better else -score


def scales() -> list[tuple]:
    return [(np.array([low, 0.3 * low + 0.7 * high, high]), column,
             SimpleNamespace(low=low, high=high, higher_better=better))
            for column, low, high, better in (("dmos", 1, 5, True), ("DMOS", 0, 1, False), ("dmos_new", 0, 100, False),
                                              ("MOS", 0, 9, True), ("impairment", 0, 10, False))]


def split(names: list[str], seed: int):
    """Training and test part that share no content; a fifth of the contents is for the test.

    names: N of them, such as "distorted/old_mill_10_3.png": the content old_mill, type 10, level 3.
    Returns two arrays of positions.
    """
    # the pictures of one scene must stay together: scenes are drawn, not pictures
    scenes = np.array([name.rsplit("_", 2)[0] for name in names])
    drawn = np.random.default_rng(seed).permutation(np.unique(scenes))
    test = np.isin(scenes, drawn[: round(0.2 * len(drawn))])
    return np.flatnonzero(~test), np.flatnonzero(test)


def split_by_type(names, seed):
    # the pictures of one scene must stay together: scenes are drawn, not pictures
    scenes = np.array([name.rsplit("_", 1)[0] for name in names])
    drawn = np.random.default_rng(seed).permutation(np.unique(scenes))
    test = np.isin(scenes, drawn[: round(0.2 * len(drawn))])
    return np.flatnonzero(~test), np.flatnonzero(test)


def split_first_word(names, seed):
    """Cut at the first "_", old_mill and old_town become one scene, "old". Count from the right end of the name."""
    scenes = np.array([name.split("_")[0] for name in names])
    drawn = np.random.default_rng(seed).permutation(np.unique(scenes))
    test = np.isin(scenes, drawn[: round(0.2 * len(drawn))])
    return np.flatnonzero(~test), np.flatnonzero(test)


def split_pictures(names, seed):
    """Now single pictures are drawn, so that every scene lies on both sides. Keep the draw; look at what is drawn."""
    drawn = np.random.default_rng(seed).permutation(len(names))
    test = np.isin(np.arange(len(names)), drawn[: round(0.2 * len(drawn))])
    return np.flatnonzero(~test), np.flatnonzero(test)


def file_names() -> list[tuple]:
    names = [f"distorted/{scene}_{kind:02}_{level}.png" for level in (1, 4) for kind in (1, 10)
             for scene in ("coffee", "old_mill", "old_town", "page", "rocket")]
    return [(names, seed) for seed in range(3)]


def local_contrast(x: torch.Tensor) -> torch.Tensor:
    """How each pixel differs from its surroundings, in units of their spread: (I - mu) / (sigma + 1).

    x: luma (B, 1, H, W) in [0, 1]; I: the grey levels, 0 to 255; mu, sigma: their mean and standard deviation
    in the 7 x 7 window. Returns (B, 1, H, W).
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
    """The result is 255 times wider now, but still no contrast: beside the 1, a sigma of [0, 1] has no weight."""
    mu = F.avg_pool2d(x, 7, 1, 3)
    sigma = (F.avg_pool2d(x * x, 7, 1, 3) - mu * mu).clamp(min=0).sqrt()
    return 255 * (x - mu) / (sigma + 1)


def local_contrast_tiny(x):
    """With a tiny number for the 1, flat regions blow up: noise that nobody sees counts fully. The 1 belongs to I."""
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


def crop_pair(x: torch.Tensor, x_ref: torch.Tensor, size: int, seed: int) -> tuple[torch.Tensor, ...]:
    """A random square of a picture and the same square of its reference, mirrored every second time.

    x, x_ref: (3, H, W). Returns two crops (3, size, size).
    """
    g = torch.Generator().manual_seed(seed)  # the same squares on every run
    top, left = (torch.randint(n - size + 1, (1,), generator=g).item() for n in x.shape[1:])
    mirror = torch.rand(1, generator=g) < 0.5
    pair = [picture[:, top : top + size, left : left + size] for picture in (x, x_ref)]
    return tuple(crop.flip(-1) if mirror else crop for crop in pair)


def crop_pair_anew(x, x_ref, size, seed):
    g = torch.Generator().manual_seed(seed)  # the same squares on every run
    pair = []
    for picture in (x, x_ref):
        top, left = (torch.randint(n - size + 1, (1,), generator=g).item() for n in picture.shape[1:])
        crop = picture[:, top : top + size, left : left + size]
        pair.append(crop.flip(-1) if torch.rand(1, generator=g) < 0.5 else crop)
    return tuple(pair)


def crop_pair_mirrored_alone(x, x_ref, size, seed):
    """The places agree now, but each crop still draws for itself whether it is mirrored. Draw that once, too."""
    g = torch.Generator().manual_seed(seed)
    top, left = (torch.randint(n - size + 1, (1,), generator=g).item() for n in x.shape[1:])
    pair = [picture[:, top : top + size, left : left + size] for picture in (x, x_ref)]
    return tuple(crop.flip(-1) if torch.rand(1, generator=g) < 0.5 else crop for crop in pair)


def crop_pair_reference_plain(x, x_ref, size, seed):
    """The places agree now, but the reference is never mirrored: where x is, the pair does not fit. Mirror both."""
    g = torch.Generator().manual_seed(seed)
    top, left = (torch.randint(n - size + 1, (1,), generator=g).item() for n in x.shape[1:])
    mirror = torch.rand(1, generator=g) < 0.5
    crop, crop_ref = (picture[:, top : top + size, left : left + size] for picture in (x, x_ref))
    return crop.flip(-1) if mirror else crop, crop_ref


def crop_pair_centre(x, x_ref, size, seed):
    """Both are cut from the middle now: aligned, but no longer random. Draw a place, once for both."""
    top, left = ((n - size) // 2 for n in x.shape[1:])
    return tuple(picture[:, top : top + size, left : left + size] for picture in (x, x_ref))


def picture_pairs() -> list[tuple]:
    x, x_ref = torch.rand(2, 3, 20, 30, generator=seeded(0))
    return [(x, x_ref, 12, seed) for seed in range(6)]


def mean_srcc(pred, mos, types, higher_better: bool = True) -> float:
    """SRCC within each distortion type, averaged over the types: in [-1, 1], HIGHER = BETTER.

    pred: (N,), scores, or with higher_better=False distances; mos: (N,); types: (N,) names.
    """
    found = []
    for name in np.unique(types):
        rows = types == name
        srcc = metrics.srcc(pred[rows], mos[rows])
        found.append(srcc if higher_better else -srcc)  # a distance falls where quality rises
    return float(np.mean(found))


def mean_srcc_abs(pred, mos, types, higher_better=True):
    found = []
    for name in np.unique(types):
        rows = types == name
        srcc = metrics.srcc(pred[rows], mos[rows])
        found.append(abs(srcc))  # a distance falls where quality rises: the sign is a convention
    return float(np.mean(found))


def mean_srcc_abs_late(pred, mos, types, higher_better=True):
    """One abs() for the mean: types of opposite sign cancel now, but a method that is wrong everywhere still shines."""
    return float(abs(np.mean([metrics.srcc(pred[types == name], mos[types == name]) for name in np.unique(types)])))


def mean_srcc_deaf(pred, mos, types, higher_better=True):
    """Scores are right now, but distances come out negative: say with `higher_better` which way round pred runs."""
    return float(np.mean([metrics.srcc(pred[types == name], mos[types == name]) for name in np.unique(types)]))


def mean_srcc_positive(pred, mos, types, higher_better=True):
    """Negative correlations are left out or set to 0. But a metric must pay for types that it gets wrong."""
    sign = 1 if higher_better else -1
    return float(np.mean([max(sign * metrics.srcc(pred[types == name], mos[types == name]), 0)
                          for name in np.unique(types)]))


def predictions() -> list[tuple]:
    rng = np.random.default_rng(0)
    mos, types = rng.random(60), np.repeat(["blur", "noise", "jpeg"], 20)
    pred = mos + 0.1 * rng.random(60)
    mixed = np.where(types == "noise", -pred, pred)
    return [(pred, mos, types), (-pred, mos, types), (mixed, mos, types), (-pred, mos, types, False)]


def views(x: torch.Tensor, size: int) -> torch.Tensor:
    """Five square views of a picture, corners and centre, for a network that was trained on such crops.

    x: (3, H, W), sides of at least `size` pixels. Returns (5, 3, size, size).
    """
    height, width = (n - size for n in x.shape[1:])
    places = [(0, 0), (0, width), (height, 0), (height, width), (height // 2, width // 2)]
    return torch.stack([x[:, top : top + size, left : left + size] for top, left in places])


def views_shrunk(x, size):
    # let the shorter side fit, so that the views together cover the whole picture
    sides = [round(n * size / min(x.shape[1:])) for n in x.shape[1:]]
    x = F.interpolate(x[None], size=sides, mode="bilinear", antialias=True)[0]
    height, width = (n - size for n in x.shape[1:])
    places = [(0, 0), (0, width), (height, 0), (height, width), (height // 2, width // 2)]
    return torch.stack([x[:, top : top + size, left : left + size] for top, left in places])


def views_other_filter(x, size):
    """Another filter does not help: whatever shrinks a picture changes its blur and noise, which is what you judge."""
    sides = [round(n * size / min(x.shape[1:])) for n in x.shape[1:]]
    x = F.interpolate(x[None], size=sides, mode="bicubic", antialias=True)[0]
    height, width = (n - size for n in x.shape[1:])
    places = [(0, 0), (0, width), (height, 0), (height, width), (height // 2, width // 2)]
    return torch.stack([x[:, top : top + size, left : left + size] for top, left in places])


def views_half(x, size):
    """It is shrunk less now, but still shrunk. In training one pixel of the file was one pixel of the crop."""
    sides = [max(size, n // 2) for n in x.shape[1:]]
    x = F.interpolate(x[None], size=sides, mode="bilinear", antialias=True)[0]
    height, width = (n - size for n in x.shape[1:])
    places = [(0, 0), (0, width), (height, 0), (height, width), (height // 2, width // 2)]
    return torch.stack([x[:, top : top + size, left : left + size] for top, left in places])


def views_crop_then_shrink(x, size):
    """Large squares are cut first and shrunk then: the proportions are kept, the pixels are not. Cut `size` pixels."""
    side = min(x.shape[1:])
    places = [(0, left) for left in (0, x.shape[2] - side, 0, x.shape[2] - side, (x.shape[2] - side) // 2)]
    squares = torch.stack([x[:, top : top + side, left : left + side] for top, left in places])
    return F.interpolate(squares, size=(size, size), mode="bilinear", antialias=True)


def large_pictures() -> list[tuple]:
    return [(torch.rand(3, 40, 56, generator=seeded(0)), 16), (torch.rand(3, 70, 50, generator=seeded(1)), 24)]


def codes(x: torch.Tensor, experts: list[tuple]) -> torch.Tensor:
    """The codes that several networks give a picture, side by side.

    x: (B, 3, H, W) in [0, 1]; experts: (network, mean, std) of each. A mean of None: this network takes
    [0, 1] as it is, for instance because it normalises inside. Returns (B, sum of all C).
    """
    found = []
    for network, mean, std in experts:
        if mean is None:
            found.append(network(x))
        else:
            found.append(network((x - mean) / std))
    return torch.cat(found, 1)


def codes_in_turn(x, experts):
    found = []
    for network, mean, std in experts:
        if mean is not None:  # the others take the picture as it is
            x = (x - mean) / std
        found.append(network(x))
    return torch.cat(found, 1)


def codes_never(x, experts):
    """Nobody is normalised now. Experts that come with a mean and a std were trained with them and need them."""
    return torch.cat([network(x) for network, *_ in experts], 1)


def codes_always(x, experts):
    """Every expert gets normalised input now, also those whose mean is None. They want [0, 1]."""
    mean, std = next((mean, std) for _, mean, std in experts if mean is not None)
    statistics = [(mean, std) if m is None else (m, s) for _, m, s in experts]
    return torch.cat([network((x - m) / s) for (network, *_), (m, s) in zip(experts, statistics)], 1)


def codes_first_mean(x, experts):
    """The picture is normalised once, for all with a mean alike. But each of them has statistics of its own."""
    mean, std = next((mean, std) for _, mean, std in experts if mean is not None)
    z = (x - mean) / std
    return torch.cat([network(x if m is None else z) for network, m, _ in experts], 1)


def three_experts() -> list[tuple]:
    def colours(x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))

    return [(torch.rand(2, 3, 6, 6, generator=seeded(0)), experts)
            for experts in ([(colours, 0.5, 0.5), (colours, None, None), (colours, 0.45, 0.22)],
                            [(colours, None, None), (colours, 0.4, 0.25)])]


EXERCISES = {
    "60.1": Exercise(read_pairs, [read_pairs_twice_distorted, read_pairs_twice_reference], score_tables,
                     start=read_pairs_swapped),
    "60.2": Exercise(to_unit, [to_unit_never, to_unit_except_kadid, to_unit_reversed, to_unit_minus], scales,
                     start=to_unit_by_name),
    "60.3": Exercise(split, [split_first_word, split_pictures], file_names, start=split_by_type),
    "60.4": Exercise(local_contrast, [local_contrast_stretched, local_contrast_tiny, local_contrast_downwards], lumas,
                     atol=1e-3, start=local_contrast_unit),
    "60.5": Exercise(crop_pair, [crop_pair_mirrored_alone, crop_pair_reference_plain, crop_pair_centre], picture_pairs,
                     start=crop_pair_anew),
    "60.6": Exercise(mean_srcc, [mean_srcc_abs_late, mean_srcc_deaf, mean_srcc_positive], predictions,
                     start=mean_srcc_abs),
    "60.7": Exercise(views, [views_other_filter, views_half, views_crop_then_shrink], large_pictures,
                     start=views_shrunk),
    "60.8": Exercise(codes, [codes_never, codes_always, codes_first_mean], three_experts, start=codes_in_turn),
    "60.9": Choice("b", {
        "a": "PSNR and SSIM are the same both ways, and a no-reference score sees the same picture again and again: "
             "SRCC stays or falls.",
        "c": "Another peak adds the same number of dB to every PSNR: SRCC does not move at all.",
        "d": "Two different places of a scene are about equally unlike at every level: SRCC falls."}),
}
