"""Scores for image files: what `python -m iqa_core score` does, as one function."""

import hashlib
import json
import math
import os
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

from iqa_core import images
from iqa_core.console import printable
from iqa_core.files import cache_dir, code_hash, progress, stamp
from iqa_core.score_files import References, search_images, warn_of_the_rest
# METHODS and load_method are for those who import this file.
from iqa_core.score_methods import (
    CLASSES, DEFAULT, FULL_REFERENCE, METHODS, choose, load_chosen, load_method, weights_file)
from iqa_core.store import RowStore


def score_paths(
    paths: str | Path | Iterable[str | Path],
    reference: str | Path | None = None,
    method=DEFAULT,
    weights: str | Path | None = None,
    longest: int = 1024,
) -> pd.DataFrame:
    """Score image files, those of one size together. Memory does not grow with their number.

    Until the work is done the scores are kept in the cache folder: the same call goes on where one
    was killed. With a method object of your own it starts again, since nobody can know whether the
    object is the same. Where the cache cannot be written, a warning says so.

    Args:
        paths: a file, a folder (all images in it and below, by name), or several of either.
        reference: folder of the references (see `References.of`), or one file that is the reference
            of all. Methods that know both use it; without it full-reference methods do not apply.
        method: name of a method, in any case, a fitted method, or a list of these; "all": every one
            that applies.
        weights: a file of your own, for one method that is named.
        longest: images with a longer side are made smaller first, except for PSNR, SSIM and
            MS-SSIM: the trained methods have seen no larger ones, and memory grows with size. 0 =
            never.

    Returns:
        DataFrame, a row a file: `image`, a column a method (HIGHER = BETTER), `error`. What cannot
        be scored is NaN and has one sentence; it does not stop the other images or methods.
        `table.attrs["passed_over"]` names the files, by suffix, that were not taken for images.

        PSNR is in dB, 100 for identical images; SSIM and MS-SSIM are at most 1. The trained methods
        estimate the scores of their training set, in [0, 1], and may lie outside: nothing is
        clamped. YOTO is at least 0; BRISQUE, frozen ridge, frozen MLP, Re-IQA, QFM-IQM and
        DRI-IQA have no bounds.

    Raises:
        ValueError: as `load_method`, `search_images` and `References`; a full-reference method
            without a reference; weights for several methods; a negative `longest`.
        Stopped: a KeyboardInterrupt that holds the rows scored so far.

    >>> import tempfile
    >>> images.save(tempfile.gettempdir() + "/grey.png", torch.full((3, 48, 64), 0.5))
    >>> table = score_paths(tempfile.gettempdir() + "/grey.png", method=["brisque", "re-iqa"])
    >>> [*table], table["re-iqa"].notna().all()
    (['image', 'brisque', 're-iqa', 'error'], np.True_)
    """
    if longest < 0:
        raise ValueError(f"longest={longest}: give the number of pixels of the longer side, or 0 "
                         "for any size.")
    chosen = choose(method, weights, with_reference=reference is not None)
    references = References(reference) if reference is not None else None
    search = search_images(paths)
    warn_of_the_rest(search)
    methods = load_chosen(chosen, weights)
    if not any(_compares(m) for m in methods):
        references = None

    jobs = [_job(path, references) for path in search.files]
    by_name = all(isinstance(item, str) for item in chosen)
    store = None
    if by_name:
        store = RowStore(_cache_file(chosen, weights, longest), "float64", wait=False)
    rows: dict[str, list[float]] = {}  # of each image that was reached
    errors: dict[str, str] = {}
    stopped = False
    storing = store if by_name else nullcontext()
    with storing, ThreadPoolExecutor() as pool, torch.no_grad():
        try:
            todo = []
            for job in jobs:
                job.scores = [math.nan] * len(methods)
                if store is not None and job.key in store:
                    job.scores = store.row(job.key).tolist()
                if any(map(math.isnan, job.scores)):
                    todo.append(job)
                else:
                    rows[job.key] = job.scores
            started = progress(_batches(todo), "score")
            for batch, futures in _read_ahead(started, references, pool):
                contents = [future.result() for future in futures]
                scores = [job.scores for job in batch]
                compare = references is not None
                complaints = _score_batch(methods, contents, scores, compare, longest)
                for job, complaint in zip(batch, complaints):
                    rows[job.key] = job.scores
                    errors[job.key] = f"{job.path}: {complaint}" if complaint else ""
                    if store is not None:
                        store.add(job.key, job.scores)
            if store is not None:
                store.remove()
        except KeyboardInterrupt:
            stopped = True
            pool.shutdown(wait=False, cancel_futures=True)

    table = _table(jobs, _columns(methods), rows, errors)
    table.attrs["passed_over"] = search.passed_over
    if stopped:
        raise Stopped(table, len(jobs), kept=store is not None and not store.lost)
    return table


def _columns(methods: list) -> list[str]:
    """A name for the column of each method; a second one of the same name gets a number."""
    columns = []
    for method in methods:
        name = method.name
        number = 2
        while name in columns or name in ("image", "error"):
            name = f"{method.name} {number}"
            number += 1
        columns.append(name)
    return columns


def _compares(method) -> bool:
    """Does a method look at the reference if there is one? A method of somebody's own may."""
    return "FR" in getattr(method, "tasks", ("FR",))


@dataclass
class _Job:
    """One image file: what is known before it is read."""

    path: Path
    reference: Path | None = None
    problem: str = ""  # why it has no reference
    key: str = ""  # by which its scores are found again
    scores: list[float] = field(default_factory=list)  # a method each, NaN where there is none yet


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
        content.problem = (f"has {_size(content.image)} pixels, but its reference {job.reference} "
                           f"has {_size(reference)}. Give a reference of the same size.")
    return content


def _size(x: Tensor) -> str:
    return f"{x.shape[-1]} x {x.shape[-2]}"


def _batches(jobs: list[_Job]) -> list[list[_Job]]:
    """Images whose headers say the same size go together, as many as fit into memory easily."""
    sizes = {job.key: images.size(job.path) if os.path.isfile(job.path) else (0, 0) for job in jobs}
    pixels = 2**23 if torch.cuda.is_available() else 2**17
    batches = []
    by_size = sorted(jobs, key=lambda job: sizes[job.key])
    for (width, height), group in groupby(by_size, lambda job: sizes[job.key]):
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


def _score(
    method, x: list[Tensor], x_ref: list[Tensor] | None, longest: int
) -> list[tuple[float, str]]:
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
    except (ValueError, RuntimeError, MemoryError, ArithmeticError) as error:
        if len(x) > 1:  # perhaps memory is short: one by one
            results = []
            for i in range(len(x)):
                one_ref = [x_ref[i]] if x_ref is not None else None
                results += _score(method, [x[i]], one_ref, longest)
            return results
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return [(math.nan, f"{method.name}: {reason.removeprefix(method.name + ': ')}")]
    no_number = f"{method.name}: gives no number"
    return [(score, no_number if math.isnan(score) else "") for score in scores]


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
            # as read: a rotated image has not the size of its header
            by_shape[content.image.shape].append(i)
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
        file = weights_file(name, weights)
        content = file.read_bytes() if name in CLASSES and file.is_file() else b""
        made_of["methods"][name] = hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
    return cache_dir() / "scores" / digest[:16]


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
