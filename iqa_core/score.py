"""Scores for picture files: what `python -m iqa_core score` does, as one function.

The fitted methods that come with this kit lie in `weights`; their cards, and on what they were trained, in
`weights/README.md`. They were trained on pictures of 512 to 768 pixels.
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from secrets import token_hex

import numpy as np
import pandas as pd
import torch

from iqa_core import baselines, dri, images, qfm, reiqa, yoto
from iqa_core.files import Kept, cache_dir, progress, stamp

FULL_REFERENCE = ("psnr", "ssim", "ms_ssim")
CLASSES = {kind.name: kind for kind in (baselines.Brisque, baselines.FrozenRidge, reiqa.ReIQA, yoto.YOTO, qfm.QFMIQM,
                                        dri.DRIIQA)}
METHODS = (*FULL_REFERENCE, *CLASSES)


def load_method(name: str, weights: str | Path | None = None):
    """A method that is ready to score.

    Args:
        name: one of `METHODS`.
        weights: file that the method's `save` wrote; default: the one that comes with this kit.

    Raises:
        ValueError: an unknown name, no such file, or a file of another method.

    >>> import torch
    >>> load_method("re-iqa").score(torch.rand(1, 3, 64, 64)).shape
    torch.Size([1])
    """
    if name in FULL_REFERENCE:
        return baselines.FullReference(name)
    if name not in CLASSES:
        raise ValueError(f"{name!r} is no method; choose one of {', '.join(METHODS)}.")
    path = Path(weights or Path(__file__).with_name("weights") / f"{name.replace(' ', '-')}.weights")
    if not path.is_file():
        raise ValueError(f"{path}: no trained {name} here. Train one, as `python figures/compare.py` does: "
                         f"method.fit(train, val).save(path); then name that file as weights.")
    return CLASSES[name].load(path)


def find_pictures(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Files as they are, and of each folder all pictures in it and below, by name; each once.

    Raises:
        ValueError: a folder without pictures.
    """
    found = []
    for path in map(Path, [paths] if isinstance(paths, (str, Path)) else paths):
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in images.SUFFIXES) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"{path}: no pictures here ({', '.join(images.SUFFIXES)}). Name another folder.")
        found += inside
    return [*dict.fromkeys(found)]


def find_reference(path: Path, reference: str | Path) -> Path:
    """The reference of a picture: the file itself, or in a folder the one with the longest name that the picture's begins with.

    So `img_blur_3.png` finds `img.png`. ImageError: there is none.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("i1.png", "i10.bmp"):
    ...     (folder / name).touch()
    >>> find_reference(Path("i10_01_05.png"), folder).name
    'i10.bmp'
    """
    if Path(reference).is_file():
        return Path(reference)
    fits = [p for p in sorted(Path(reference).glob("*")) if p.suffix.lower() in images.SUFFIXES
            and path.stem.lower().startswith(p.stem.lower())]
    if not fits:
        raise images.ImageError(f"{path}: no reference in {reference}. Name it as the picture, or as the beginning of its name.")
    return max(fits, key=lambda p: len(p.stem))


def _read(path: Path, reference: str | Path | None) -> tuple[list[torch.Tensor], str]:
    """A picture and, if there are references, its reference; or nothing, and one sentence on what is wrong."""
    try:
        return [images.load(p) for p in (path, *([find_reference(path, reference)] if reference else []))], ""
    except images.ImageError as error:
        return [], str(error)


def _score(method, x: list[list[torch.Tensor]], longest: int) -> list[tuple[float, str]]:
    """Score and complaint of each picture; of all at once, if they go together."""
    try:
        size = 0 if method.name in FULL_REFERENCE else longest
        return [(value, "") for value in method.score(*(images.shrink(torch.stack(p), size) for p in zip(*x))).tolist()]
    except (ValueError, RuntimeError) as error:  # rotated, of another size than its reference, or memory is short
        if len(x) > 1:
            return [_score(method, [one], longest)[0] for one in x]
        return [(float("nan"), f"{method.name}: {error}")]


def score_paths(paths: str | Path | Iterable[str | Path], reference: str | Path | None = None, method="re-iqa",
                weights: str | Path | None = None, longest: int = 1024) -> pd.DataFrame:
    """Score picture files, those of one size together. Memory does not grow with their number.

    Every minute the scores go into the cache folder until the work is done: the same call goes on where one was killed,
    but with a method of your own, of which it cannot know whether it is the same.

    Args:
        paths: a file, a folder (all pictures in it and below, by name), or several of either.
        reference: folder of the references (see `find_reference`), or one file that is the reference of all.
            Methods that know both use it; without it full-reference methods do not apply.
        method: name of a method, a fitted method, or a list of these; "all": every one that applies.
        weights: a file of your own, for one method that is named.
        longest: pictures with a longer side are made smaller first, except for PSNR, SSIM and MS-SSIM: the trained methods
            have seen no larger ones, and memory grows with size. 0 = never.

    Returns:
        DataFrame, a row a file: `image`, a column a method (HIGHER = BETTER; PSNR in dB), `error`. What cannot be scored
        is NaN and has one sentence; it does not stop the others.

    Raises:
        ValueError: as `load_method` and `find_pictures`; a full-reference method without a reference; weights for several.

    >>> import tempfile
    >>> images.save(tempfile.gettempdir() + "/grey.png", torch.full((3, 48, 64), 0.5))
    >>> table = score_paths(tempfile.gettempdir() + "/grey.png", method=["brisque", "re-iqa"])
    >>> [*table], table["re-iqa"].notna().all()
    (['image', 'brisque', 're-iqa', 'error'], np.True_)
    """
    files, methods = find_pictures(paths), [*method] if isinstance(method, (list, tuple)) else [method]
    if methods == ["all"]:
        methods = [name for name in METHODS if reference or name not in FULL_REFERENCE]
    if weights and len(methods) > 1:
        raise ValueError(f"{weights} holds one method; name that method alone.")
    made_of = repr([*(m if isinstance(m, str) else token_hex() for m in methods), stamp(weights or ""), str(reference), longest])
    methods = [load_method(m, weights) if isinstance(m, str) else m for m in methods]
    lost = [m.name for m in methods if m.name in FULL_REFERENCE]
    if lost and reference is None:
        raise ValueError(f"{lost[0]} compares with a reference: say where they are, or choose another method.")
    path = cache_dir() / "scores" / f"{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.pt"
    keys, errors = [f"{file} {stamp(file)}" for file in files], [""] * len(files)
    with Kept(path) as known, ThreadPoolExecutor() as pool:
        todo = [i for i, key in enumerate(keys) if np.isnan(known.get(key, np.nan)).any()]
        sizes, most, batches = {i: images.size(files[i]) for i in todo}, 2**23 if torch.cuda.is_available() else 2**17, []
        for size, group in groupby(sorted(todo, key=sizes.get), sizes.get):
            group, count = [*group], max(1, most // max(1, size[0] * size[1]))
            batches += [group[k:k + count] for k in range(0, len(group), count)]
        waiting = ([pool.submit(_read, files[i], reference) for i in where] for where in [*batches, []])
        coming = next(waiting)
        for where in progress(batches, "score"):
            now, coming = coming, next(waiting)  # the next ones are read while these are scored
            for i, future in zip(where, now):  # lists: many small tensors between large pictures would tear memory up
                known[keys[i]], errors[i] = [np.nan] * len(methods), future.result()[1]
            good = {i: future.result()[0] for i, future in zip(where, now) if not errors[i]}
            for j, m in enumerate(methods if good else ()):
                for i, (value, error) in zip(good, _score(m, [*good.values()], longest)):
                    known[keys[i]][j], errors[i] = value, f"{files[i]}: {error}" if error else errors[i]
    path.unlink(missing_ok=True)
    rows = [[str(file), *map(float, known[key]), error] for file, key, error in zip(files, keys, errors)]
    return pd.DataFrame(rows, columns=["image", *(m.name for m in methods), "error"])
