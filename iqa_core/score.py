"""Scores for picture files: what `python -m iqa_core score` does, as one function.

The fitted methods that come with this kit lie in `weights`; their cards, and on what they were trained, in
`weights/README.md`. They were trained on pictures of 512 to 768 pixels.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from iqa_core import baselines, dri, images, qfm, reiqa, yoto
from iqa_core.files import progress

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
    """Files as they are, and of each folder all pictures in it and below, by name.

    Raises:
        ValueError: a folder without pictures.
    """
    found = []
    for path in map(Path, [paths] if isinstance(paths, (str, Path)) else paths):
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in images.SUFFIXES) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"{path}: no pictures here ({', '.join(images.SUFFIXES)}). Name another folder.")
        found += inside
    return found


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


def score_paths(paths: str | Path | Iterable[str | Path], reference: str | Path | None = None, method="re-iqa",
                weights: str | Path | None = None, longest: int = 1024) -> pd.DataFrame:
    """Score picture files.

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

    >>> import tempfile, torch
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
    methods = [load_method(m, weights) if isinstance(m, str) else m for m in methods]
    lost = [m.name for m in methods if m.name in FULL_REFERENCE]
    if lost and reference is None:
        raise ValueError(f"{lost[0]} compares with a reference: say where they are, or choose another method.")
    rows = []
    for path in progress(files, "score"):
        row = {"image": str(path), **{m.name: float("nan") for m in methods}, "error": ""}
        try:
            x = [images.load(p)[None] for p in (path, *([find_reference(path, reference)] if reference else []))]
        except images.ImageError as error:
            x, row["error"] = [], str(error)
        for m in methods if x else []:
            try:
                row[m.name] = m.score(*(images.shrink(p, 0 if m.name in FULL_REFERENCE else longest) for p in x)).item()
            except ValueError as error:
                row["error"] = f"{path}: {m.name}: {error}"
        rows.append(row)
    return pd.DataFrame(rows)
