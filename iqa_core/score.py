"""Scores for image files: what `python -m iqa_core score` does, as one function.

The fitted methods that come with this kit lie in `weights`; their cards, and on what they were
trained, in `weights/README.md`. They were trained on images of 512 to 768 pixels.
"""

import difflib
import hashlib
import json
import math
import os
import re
import unicodedata
import warnings
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from iqa_core import baselines, dri, images, qfm, reiqa, yoto
from iqa_core.files import Kept, cache_dir, code_hash, expand, find_files, printable, progress, stamp

FULL_REFERENCE = ("psnr", "ssim", "ms_ssim")
CLASSES = {
    kind.name: kind
    for kind in (
        baselines.Brisque,
        baselines.FrozenRidge,
        reiqa.ReIQA,
        yoto.YOTO,
        qfm.QFMIQM,
        dri.DRIIQA,
    )
}
METHODS = (*FULL_REFERENCE, *CLASSES)

# --- methods ------------------------------------------------------------------------------------


def _letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def method_name(name: str) -> str:
    """The name of `METHODS` that is meant, in any case, with hyphens, underscores or spaces.

    Raises:
        ValueError: there is none; the message lists all, and the nearest.

    >>> method_name("Re_IQA"), method_name("frozen-ridge"), method_name("MS-SSIM")
    ('re-iqa', 'frozen ridge', 'ms_ssim')
    """
    by_letters = {_letters(known): known for known in METHODS}
    if _letters(name) in by_letters:
        return by_letters[_letters(name)]
    nearest = difflib.get_close_matches(_letters(name), by_letters, n=1)
    hint = f" The nearest is {by_letters[nearest[0]]}." if nearest else ""
    raise ValueError(f"{name!r} is no method; choose one of {', '.join(METHODS)}.{hint}")


def load_method(name: str, weights: str | Path | None = None):
    """A method that is ready to score.

    Args:
        name: one of `METHODS`, in any case.
        weights: file that the method's `save` wrote; default: the one that comes with this kit.

    Raises:
        ValueError: an unknown name, no such file, a file of another method, or weights for a
            method that has none.

    >>> import torch
    >>> load_method("Re-IQA").score(torch.rand(1, 3, 64, 64)).shape
    torch.Size([1])
    """
    name = method_name(name)
    if name in FULL_REFERENCE:
        if weights is not None:
            raise ValueError(_no_weights(name, weights))
        return baselines.FullReference(name)
    path = _weights_file(name, weights)
    if not path.is_file():
        raise ValueError(f"{path}: no trained {name} here. Train one, as `python figures/compare.py` "
                         "does: method.fit(train, val).save(path); then name that file as weights.")
    return CLASSES[name].load(path)


def _weights_file(name: str, weights: str | Path | None) -> Path:
    if weights is not None:
        return expand(weights)
    return Path(__file__).with_name("weights") / f"{name.replace(' ', '-')}.weights"


class _Unavailable:
    """A method that could not be loaded: it scores nothing and says why."""

    def __init__(self, name: str, error: ValueError):
        self.name = name
        self.error = error

    def score(self, x: Tensor, x_ref: Tensor | None = None) -> Tensor:
        raise self.error


def _chosen(method, with_reference: bool) -> list:
    """The methods that are asked for, each once: their names, and objects as they are.

    Raises:
        ValueError: an unknown name, or no method at all.
    """
    chosen = []
    for item in method if isinstance(method, (list, tuple)) else [method]:
        if isinstance(item, str) and _letters(item) == "all":
            chosen += [name for name in METHODS if with_reference or name not in FULL_REFERENCE]
        elif isinstance(item, str):
            chosen.append(method_name(item))
        elif hasattr(item, "score") and isinstance(getattr(item, "name", None), str):
            chosen.append(item)
        else:
            raise ValueError(f"{item!r} is no method: give a name, or an object with a `name` and "
                             "a function `score`.")
    if not chosen:
        raise ValueError(f"No method is named; choose one of {', '.join(METHODS)}.")
    once = []
    for item in chosen:
        if not isinstance(item, str) or item not in [other for other in once if isinstance(other, str)]:
            once.append(item)
    return once


def _check(chosen: list, weights: str | Path | None, with_reference: bool) -> None:
    """ValueError where weights or references do not go with the methods that are asked for."""
    if weights is not None:
        _check_weights(weights, chosen)
    for item in chosen:
        name = item if isinstance(item, str) else item.name
        if name in FULL_REFERENCE and not with_reference:
            raise ValueError(f"{name} compares with a reference: say where they are, or choose "
                             "another method.")


def _check_weights(weights: str | Path, chosen: list) -> None:
    if len(chosen) > 1:
        raise ValueError(f"{weights} holds one method; name that method alone.")
    if not isinstance(chosen[0], str):
        raise ValueError(f"{weights}: {chosen[0].name} is an object that is fitted already. Leave "
                         "the weights out, or give its name.")
    if str(weights) == "":
        raise ValueError("The name of the file of weights is empty. Name what a method's save() wrote.")
    if chosen[0] in FULL_REFERENCE:
        raise ValueError(_no_weights(chosen[0], weights))


def _no_weights(name: str, weights: str | Path) -> str:
    return (f"{weights}: {name} has no weights to load. Leave them out, or name a method that was "
            f"trained: {', '.join(CLASSES)}.")


def _loaded(chosen: list, weights: str | Path | None) -> list:
    """The methods themselves. One of several that cannot be loaded does not stop the others."""
    methods = []
    for item in chosen:
        if not isinstance(item, str):
            methods.append(item)
            continue
        try:
            methods.append(load_method(item, weights))
        except ValueError as error:
            if len(chosen) == 1:
                raise
            methods.append(_Unavailable(item, error))
    return methods


def _columns(methods: list) -> list[str]:
    """A name for the column of each method; a second one of the same name gets a number."""
    columns = []
    for method in methods:
        name, number = method.name, 2
        while name in columns or name in ("image", "error"):
            name = f"{method.name} {number}"
            number += 1
        columns.append(name)
    return columns


def _compares(method) -> bool:
    """Does a method look at the reference if there is one? A method of somebody's own may."""
    if isinstance(method, reiqa.ReIQA):
        return method.config.full_reference
    if isinstance(method, baselines.FeatureMethod):
        return False
    return "FR" in getattr(method, "tasks", ["FR"])


# --- images -------------------------------------------------------------------------------------


@dataclass
class _Search:
    """What was found where a user said that images are."""

    files: list[Path] = field(default_factory=list)
    passed_over: dict[str, list[str]] = field(default_factory=dict)  # of each kind, the names
    empty: list[Path] = field(default_factory=list)  # folders without images


def _search(paths: str | Path | Iterable[str | Path]) -> _Search:
    """Look for images. The same file, whatever names lead to it, is taken once.

    Raises:
        ValueError: there is nothing to score.
    """
    search = _Search()
    suffixes = images.readable_suffixes()
    by_place: dict[str, Path] = {}  # the real place of each file, and the name that it goes by

    def take(path: Path) -> None:
        place = os.path.realpath(path)
        known = by_place.setdefault(place, path)
        if os.path.islink(known) and not os.path.islink(path):
            by_place[place] = path  # its own name comes before that of a link

    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        if str(path) == "":
            raise ValueError("The name of a file or folder is empty. Name what is to be scored.")
        path = expand(path)
        if not os.path.isdir(path):
            take(path)
            continue
        any_image = False
        for file in find_files(path):
            if file.suffix.lower() in suffixes:
                any_image = True
                take(file)
            else:
                broken = not os.path.exists(file)
                kind = "link that leads nowhere" if broken else file.suffix.lower() or "without a suffix"
                search.passed_over.setdefault(kind, []).append(str(file))
        if not any_image:
            search.empty.append(path)
    search.files = list(by_place.values())
    if not search.files:
        where = ", ".join(map(str, search.empty)) or "No file is named"
        more = about_passed_over(search.passed_over)
        raise ValueError(f"{where}: no images here. Name another folder." + (f" {more}" if more else ""))
    return search


# Formats of images that an installed Pillow may not read. Who has some wants to know, even in a notebook;
# a table or a text beside the images is no surprise.
_OTHER_IMAGES = frozenset(
    ".heic .heif .hif .avif .webp .jxl .jp2 .svg .exr .hdr .xcf .psb "
    ".dng .raw .cr2 .cr3 .nef .arw .orf .raf .rw2 .pef .srw".split()
)


class PassedOver(UserWarning):
    """Images of a kind that the installed Pillow does not read were left out."""


def about_passed_over(passed_over: dict[str, list[str]]) -> str:
    """What was not taken for an image, in one or two sentences; "" if there is nothing.

    >>> about_passed_over({".heic": ["a.heic", "b.heic"], ".txt": ["notes.txt"]}).split(" (")[0]
    '3 files passed over: 2 .heic, 1 .txt'
    """
    if not passed_over:
        return ""
    most_first = sorted(passed_over.items(), key=lambda item: (-len(item[1]), item[0]))
    count = sum(map(len, passed_over.values()))
    kinds = ", ".join(f"{len(names)} {kind}" for kind, names in most_first)
    some = [name for _, names in most_first for name in names[:20]]
    rest = f" and {count - len(some)} more" if count > len(some) else ""
    sentence = f"{count} {'file' if count == 1 else 'files'} passed over: {kinds} ({', '.join(some)}{rest})."
    if {".heic", ".heif", ".hif"} & passed_over.keys():
        sentence += " The package pillow-heif reads .heic and .heif: pip install pillow-heif."
    return sentence


def _warn(search: _Search) -> None:
    """Say what is not scored."""
    for folder in search.empty:
        warnings.warn(f"{folder}: no images here.", stacklevel=3)
    likely = {kind: names for kind, names in search.passed_over.items() if kind in _OTHER_IMAGES}
    if likely:
        warnings.warn(about_passed_over(likely), PassedOver, stacklevel=3)


def find_pictures(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Files as they are, and of each folder all images in it and below, by name; each file once.

    An image of a folder is what has a suffix that the installed Pillow reads. Hidden files are left
    out, symbolic links are followed, and a warning counts the images that Pillow does not read.

    Raises:
        ValueError: no images at all.
    """
    search = _search(paths)
    _warn(search)
    return search.files


# --- references ---------------------------------------------------------------------------------


def _folded(stem: str) -> str:
    """A name in which upper and lower case, and the two ways to write an accent, are the same."""
    return unicodedata.normalize("NFC", stem).casefold()


def _beginnings(stem: str) -> list[str]:
    """A stem, and its beginnings that a character follows which is neither letter nor digit.

    >>> _beginnings("i10_blur_3")
    ['i10_blur_3', 'i10_blur', 'i10']
    """
    stem = _folded(stem)
    ends = [end for end in range(1, len(stem)) if not stem[end].isalnum()]
    return [stem, *(stem[:end] for end in reversed(ends))]


def _same_file(a: str | Path, b: str | Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):
        return False


class References:
    """Where the references are: one file that is the reference of all, or a folder, listed once.

    Args:
        place: that file or folder.

    Raises:
        ValueError: no such file or folder, or no image in it.
    """

    def __init__(self, place: str | Path):
        if str(place) == "":
            raise ValueError("The name of the folder of references is empty. Name that folder.")
        self.place = expand(place)
        self.image: Tensor | None = None  # the one reference of all
        self.by_stem: dict[str, list[Path]] = defaultdict(list)
        if os.path.isfile(self.place):
            self.image = images.load(self.place)
            return
        if not os.path.isdir(self.place):
            raise ValueError(f"{self.place}: no such folder or file of references. Check its name.")
        suffixes = images.readable_suffixes()
        for path in find_files(self.place):
            if path.suffix.lower() in suffixes:
                self.by_stem[_folded(path.stem)].append(path)
        if not self.by_stem:
            raise ValueError(f"{self.place}: no images here that could be references. Name the folder that holds "
                             "them.")

    def of(self, path: str | Path) -> Path:
        """The reference of an image, as `find_reference` says.

        Raises:
            ImageError: there is none, or more than one.
        """
        path = Path(path)
        if self.image is not None:
            if _same_file(path, self.place):
                raise images.ImageError(f"{path}: is the reference itself, and is not compared with itself.")
            return self.place
        fits = []
        for stem in _beginnings(path.stem):
            for candidate in self.by_stem.get(stem, ()):
                rank = self._nearness(path, candidate)
                if rank is not None and not _same_file(path, candidate):
                    fits.append(((rank, len(stem)), candidate))
        if not fits:
            raise images.ImageError(f"{path}: no reference in {self.place}. Name the reference as the image, or as the "
                                    "beginning of its name before a character that is no letter or digit.")
        best = max(order for order, _ in fits)
        first, *others = [candidate for order, candidate in fits if order == best]
        for other in others:
            if not _same_file(first, other):
                raise images.ImageError(f"{path}: two references fit, {first} and {other}. Remove or rename one of them.")
        return first

    def _nearness(self, path: Path, candidate: Path) -> int | None:
        """How well the sub-folder of a candidate fits that of an image: the larger the better.

        The same sub-folder fits best, then the folder itself, then one that only the references
        have. None: a sub-folder that the images have too belongs to the images in it.
        """
        inside = candidate.parent.relative_to(self.place).parts
        folder = Path(os.path.abspath(path)).parent
        if not inside:
            return 0
        if folder.parts[-len(inside):] == inside:
            return len(inside)
        for above in [folder, *folder.parents][:len(inside) + 1]:
            if above.joinpath(*inside).is_dir():
                return None
        return -1


def find_reference(path: Path, reference: str | Path) -> Path:
    """The reference of an image: the file itself, or in a folder the one with the longest name that the image's begins with.

    So `img_blur_3.png` finds `img.png`: after the name of the reference comes nothing, or a character
    that is neither letter nor digit; upper and lower case are the same. Folders below are searched
    too: that of the same name as the image's comes first. An image is never its own reference.

    Raises:
        ImageError: there is none, or two fit.
        ValueError: no such folder, or one without images.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("i1.png", "i10.bmp"):
    ...     (folder / name).touch()
    >>> find_reference(Path("i10_01_05.png"), folder).name
    'i10.bmp'
    """
    return References(reference).of(path)


# --- scoring ------------------------------------------------------------------------------------


@dataclass
class _Job:
    """One image file: what is known before it is read."""

    path: Path
    reference: Path | None = None
    problem: str = ""  # why it has no reference
    key: str = ""  # by which its scores are found again


@dataclass
class _Content:
    """One image file: what was read."""

    image: Tensor | None = None
    reference: Tensor | None = None
    problem: str = ""  # why one of the two is missing


class Stopped(KeyboardInterrupt):
    """The work was stopped by the user. `table` holds the rows that were scored."""

    def __init__(self, table: pd.DataFrame, count: int, kept: bool):
        self.table = table
        going_on = "the same call goes on from there" if kept else "the same call starts again"
        super().__init__(f"Stopped after {len(table)} of {count} images; {going_on}.")


def _job(path: Path, references: References | None) -> _Job:
    """Find the reference, and what tells that image and reference are the same as before."""
    job = _Job(path)
    if references is not None:
        try:
            job.reference = references.of(path)
        except images.ImageError as error:
            job.problem = _without(path, error)
    job.key = f"{os.path.abspath(path)} {stamp(path)}"
    if job.reference is not None:
        job.key += f" {os.path.abspath(job.reference)} {stamp(job.reference)}"
    return job


def _without(path: Path, error: Exception) -> str:
    """A complaint without the name that it begins with, which is added where it is shown."""
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror}). Check its name."
    return str(error).removeprefix(f"{path}: ").removeprefix(f"{printable(str(path))}: ")


def _read(job: _Job, references: References | None) -> _Content:
    """Read an image and its reference, and check that they are of one size."""
    content = _Content(problem=job.problem)
    try:
        content.image = images.load(job.path)
    except (images.ImageError, OSError) as error:
        content.problem = _without(job.path, error)
        return content
    if job.reference is None:
        return content
    try:
        reference = references.image if references.image is not None else images.load(job.reference)
    except (images.ImageError, OSError) as error:
        content.problem = f"its reference {job.reference}: {_without(job.reference, error)}"
        return content
    if reference.shape == content.image.shape:
        content.reference = reference
    else:
        content.problem = (f"has {_size(content.image)} pixels, but its reference {job.reference} has "
                           f"{_size(reference)}. Give a reference of the same size.")
    return content


def _size(x: Tensor) -> str:
    return f"{x.shape[-1]} x {x.shape[-2]}"


def _batches(jobs: list[_Job]) -> list[list[_Job]]:
    """Images whose headers say the same size go together, as many as fit into memory easily."""
    sizes = {job.key: images.size(job.path) if os.path.isfile(job.path) else (0, 0) for job in jobs}
    pixels = 2**23 if torch.cuda.is_available() else 2**17
    batches = []
    for (width, height), group in groupby(sorted(jobs, key=lambda job: sizes[job.key]), lambda job: sizes[job.key]):
        same = list(group)
        count = max(1, pixels // max(1, width * height))
        batches += [same[start : start + count] for start in range(0, len(same), count)]
    return batches


def _read_ahead(
    batches: Iterable[list[_Job]], references: References | None, pool: ThreadPoolExecutor
) -> Iterator[tuple[list[_Job], list[Future]]]:
    """Each batch with what will be read of it; the next one is read while this one is scored."""
    waiting = deque()
    for batch in batches:
        waiting.append((batch, [pool.submit(_read, job, references) for job in batch]))
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting


def _score(method, x: list[Tensor], x_ref: list[Tensor] | None, longest: int) -> list[tuple[float, str]]:
    """Score and complaint of each of several images of one size; of all at once, if that works."""
    try:
        inputs = [torch.stack(x)]
        if x_ref is not None:
            inputs.append(torch.stack(x_ref))
        if method.name not in FULL_REFERENCE:
            inputs = [images.shrink(batch, longest) for batch in inputs]
        scores = torch.as_tensor(method.score(*inputs)).flatten().tolist()
        if len(scores) != len(x):
            raise ValueError(f"returned {len(scores)} scores for {len(x)} images")
    except (ValueError, RuntimeError, MemoryError, ArithmeticError) as error:  # perhaps memory is short
        if len(x) > 1:
            return [
                _score(method, [x[i]], [x_ref[i]] if x_ref is not None else None, longest)[0]
                for i in range(len(x))
            ]
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return [(math.nan, f"{method.name}: {reason.removeprefix(method.name + ': ')}")]
    return [(score, f"{method.name}: gives no number" if math.isnan(score) else "") for score in scores]


def _score_batch(
    methods: list, contents: list[_Content], rows: list[list[float]], compare: bool, longest: int
) -> list[str]:
    """Fill in the scores that rows lack.

    Args:
        methods: each scores those images that it can.
        contents: what was read.
        rows: a list of scores an image, NaN where there is none yet.
        compare: are references given?
        longest: as in `score_paths`.

    Returns:
        For each image, why something is missing; "" if nothing is.
    """
    complaints = [[] for _ in contents]
    by_shape = defaultdict(list)
    for i, content in enumerate(contents):
        if content.image is None:
            complaints[i].append(content.problem)
        else:
            by_shape[content.image.shape].append(i)  # a rotated image has not the size of its header
    for column, method in enumerate(methods):
        pairs = compare and _compares(method)
        for same in by_shape.values():
            todo = []
            for i in same:
                if not math.isnan(rows[i][column]):
                    continue
                if pairs and contents[i].reference is None:
                    if contents[i].problem not in complaints[i]:
                        complaints[i].append(contents[i].problem)
                    continue
                todo.append(i)
            if not todo:
                continue
            x = [contents[i].image for i in todo]
            x_ref = [contents[i].reference for i in todo] if pairs else None
            for i, (score, complaint) in zip(todo, _score(method, x, x_ref, longest)):
                rows[i][column] = score
                if complaint:
                    complaints[i].append(complaint)
    return ["; ".join(complaint) for complaint in complaints]


def _cache_file(chosen: list, weights: str | Path | None, longest: int) -> Path:
    """A file named by all that scores depend on, but the images: methods, weights, code."""
    made_of = {"methods": {}, "longest": longest, "code": code_hash(Path(__file__).parent)}
    for name in chosen:
        file = _weights_file(name, weights)
        content = file.read_bytes() if name in CLASSES and file.is_file() else b""
        made_of["methods"][name] = hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
    return cache_dir() / "scores" / f"{digest[:16]}.pt"


def _table(
    jobs: list[_Job], columns: list[str], rows: dict[str, list[float]], errors: dict[str, str]
) -> pd.DataFrame:
    """A row an image, of those that have one."""
    reached = [job for job in jobs if job.key in rows]
    table = pd.DataFrame({"image": pd.Series([str(job.path) for job in reached], dtype=object)})
    for i, name in enumerate(columns):
        table[name] = pd.Series([float(rows[job.key][i]) for job in reached], dtype=float)
    table["error"] = pd.Series([errors.get(job.key, "") for job in reached], dtype=object)
    return table


def score_paths(
    paths: str | Path | Iterable[str | Path],
    reference: str | Path | None = None,
    method="re-iqa",
    weights: str | Path | None = None,
    longest: int = 1024,
) -> pd.DataFrame:
    """Score image files, those of one size together. Memory does not grow with their number.

    Every minute the scores go into the cache folder until the work is done: the same call goes on
    where one was killed, but with a method object of your own, of which it cannot know whether it is
    the same. Where the cache cannot be written, a warning says so.

    Args:
        paths: a file, a folder (all images in it and below, by name), or several of either.
        reference: folder of the references (see `find_reference`), or one file that is the reference
            of all. Methods that know both use it; without it full-reference methods do not apply.
        method: name of a method, in any case, a fitted method, or a list of these; "all": every one
            that applies.
        weights: a file of your own, for one method that is named.
        longest: images with a longer side are made smaller first, except for PSNR, SSIM and MS-SSIM:
            the trained methods have seen no larger ones, and memory grows with size. 0 = never.

    Returns:
        DataFrame, a row a file: `image`, a column a method (HIGHER = BETTER), `error`. What cannot be
        scored is NaN and has one sentence; it does not stop the other images or the other methods.
        `table.attrs["passed_over"]` names the files, by suffix, that were not taken for images.

        PSNR is in dB, 100 for identical images; SSIM and MS-SSIM are at most 1. The trained methods
        estimate the scores of their training set, in [0, 1], and may lie outside: nothing is clamped.
        YOTO is at least 0; BRISQUE, frozen ridge, Re-IQA, QFM-IQM and DRI-IQA have no bounds.

    Raises:
        ValueError: as `load_method`, `find_pictures` and `References`; a full-reference method without
            a reference; weights for several methods; a negative `longest`.
        Stopped: a KeyboardInterrupt that holds the rows scored so far.

    >>> import tempfile
    >>> images.save(tempfile.gettempdir() + "/grey.png", torch.full((3, 48, 64), 0.5))
    >>> table = score_paths(tempfile.gettempdir() + "/grey.png", method=["brisque", "re-iqa"])
    >>> [*table], table["re-iqa"].notna().all()
    (['image', 'brisque', 're-iqa', 'error'], np.True_)
    """
    if longest < 0:
        raise ValueError(f"longest={longest}: give the number of pixels of the longer side, or 0 for any size.")
    chosen = _chosen(method, with_reference=reference is not None)
    _check(chosen, weights, with_reference=reference is not None)
    references = References(reference) if reference is not None else None
    search = _search(paths)
    _warn(search)
    methods = _loaded(chosen, weights)
    if not any(_compares(m) for m in methods):
        references = None

    jobs = [_job(path, references) for path in search.files]
    by_name = all(isinstance(item, str) for item in chosen)
    cache = Kept(_cache_file(chosen, weights, longest), wait=False) if by_name else nullcontext({})
    rows: dict[str, list[float]] = {}  # of each image that was reached
    errors: dict[str, str] = {}
    stopped = False
    with cache as known, ThreadPoolExecutor() as pool, torch.no_grad():
        try:
            todo = []
            for job in jobs:
                row = list(map(float, known.get(job.key, [math.nan] * len(methods))))
                if any(map(math.isnan, row)):
                    todo.append(job)
                else:
                    rows[job.key] = row
            started = progress(_batches(todo), "score")
            for batch, futures in _read_ahead(started, references, pool):
                contents = [future.result() for future in futures]
                batch_rows = [
                    list(map(float, known.get(job.key, [math.nan] * len(methods)))) for job in batch
                ]
                complaints = _score_batch(methods, contents, batch_rows, references is not None, longest)
                for job, row, complaint in zip(batch, batch_rows, complaints):
                    rows[job.key] = row
                    errors[job.key] = f"{job.path}: {complaint}" if complaint else ""
                    # a list: many small tensors between large images would tear memory up
                    known[job.key] = row
            if by_name:
                known.remove()
        except KeyboardInterrupt:
            stopped = True
            pool.shutdown(wait=False, cancel_futures=True)

    table = _table(jobs, _columns(methods), rows, errors)
    table.attrs["passed_over"] = search.passed_over
    if stopped:
        raise Stopped(table, len(jobs), kept=by_name and not known.lost)
    return table
