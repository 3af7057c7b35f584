"""A health report of a dataset: counts, files that cannot be read, scores and their direction,
copies.

    python -m data_download check biq2021
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from data_download import loading, tables
from data_download.made import kodak
from iqa_core import data, images
from iqa_core.data import Dataset, Fault
from iqa_core.metrics import srcc, ssim
from iqa_core.tables import is_table

SIDE = 16  # pixels of a thumbnail; two files of one image differ there by less than `SAME`
# Root mean square of the difference of two thumbnails, in 255 steps. Among 3,000 images of BIQ2021
# the 33 copies lie below 1.1; the next nearest pair, two dark images, at 2.4.
SAME = 1.5


@dataclass(frozen=True)
class Report:
    """What `check` saw. `print` shows it; `faults` is empty for a clean set.

    `facts` are lines of (word, text). `copies` is a table `image, copy, score, score_of_copy,
    apart`: pairs of files that show the same image; `apart` says that they are two contents, so
    that a split may part them.
    """

    dataset: Dataset
    facts: dict[str, str]
    faults: list[Fault]
    copies: pd.DataFrame

    def __str__(self) -> str:
        lines = [f"{self.dataset.card.title} in {self.dataset.root}"]
        lines += [f"{word:11}{text}" for word, text in self.facts.items()]
        lines += [f"FAULT {fault.kind}: {fault.sentence}" for fault in self.faults]
        verdict = "clean, no fault found"
        if self.faults:
            verdict = f"{len(self.faults)} kinds of fault, see above"
        lines.append(f"{'health':11}{verdict}")
        return "\n".join(lines)


def check(name: str | Path, root: str | Path | None = None, progress: bool = True,
          **scale) -> Report:
    """Examine every image and score of a dataset. Nothing is changed.

    Args:
        name: a name of `data_download.cards()`, or the path of your own table, whatever the case
            of its suffix.
        root: as in `data_download.load`; for a table, the folder of its images.
        progress: a bar on stderr.
        scale: for a table: `low`, `high`, `higher_better`, `split`, as in `data.from_csv`.

    Returns:
        Report. Its faults are: name (an empty one), missing, repeated (one image in several rows),
        unreadable, size (reference of another size), no score, range, constant (all scores are
        equal), level (a word), direction (scores run the wrong way), changed (scores differ from
        the published ones), copies (the same image in two contents), split word (no known part),
        split (parts that share content), wrong image (Kodak).

    Raises:
        DatasetError: the set or its score table is not there, so there is nothing to examine.

    >>> print(check("offline", progress=False).facts["direction"])
    +0.61 is the SRCC of the scores with SSIM of 100 images
    """
    if is_own_table(name):
        dataset, faults = data.inspect_csv(name, root, **scale)
    else:
        dataset, faults = loading.inspect(str(name), root)
    seen = _look(dataset, progress)
    faults += _image_faults(dataset, seen)
    facts = {"images": _count(dataset, seen), **_parts(dataset)}
    if dataset.card.low is not None:
        facts["scores"] = _histogram(dataset)
        faults += _constant_scores(dataset)
        facts["direction"], direction_faults = _direction(dataset, seen)
        faults += direction_faults
    copies = _copies(dataset, seen)
    facts["copies"], copy_faults = _copy_faults(copies)
    faults += copy_faults
    faults += _split_faults(dataset)
    return Report(dataset, facts, faults, copies)


def is_own_table(name: str | Path) -> bool:
    """Does a name mean a table of the reader's own, and no dataset? By its suffix, or because it is
    a file.

    >>> is_own_table("Mine.CSV"), is_own_table("kadid10k")
    (True, False)
    """
    return is_table(name) or Path(name).expanduser().is_file()


def _look(dataset: Dataset, progress: bool) -> pd.DataFrame:
    """Decode every file once: a row a file with its error, height, width and thumbnail.

    Threads do it: Pillow decodes outside Python's lock.
    """
    names = pd.unique(dataset.table[["image", "reference"]].to_numpy().ravel())
    present = [name for name in names if name and (dataset.root / name).is_file()]

    def look(name: str) -> dict:
        try:
            x = images.load(dataset.root / name)  # (3, H, W)
        except images.ImageError as error:
            return {"error": str(error), "height": 0, "width": 0, "thumbnail": None}
        thumbnail = torch.nn.functional.adaptive_avg_pool2d(x, SIDE).flatten().numpy()
        return {"error": "", "height": x.shape[1], "width": x.shape[2], "thumbnail": thumbnail}

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looked_at = pool.map(look, present)
        rows = list(tqdm(looked_at, "reading", len(present), unit="image",
                         disable=None if progress else True))
    return pd.DataFrame(rows, index=present, columns=["error", "height", "width", "thumbnail"])


def _image_faults(dataset: Dataset, seen: pd.DataFrame) -> list[Fault]:
    faults = []
    broken = seen[seen["error"] != ""]
    if len(broken):
        names = ", ".join(broken.index[:5])
        if len(broken) > 5:
            names += " ..."
        faults.append(Fault("unreadable", f"{broken['error'].iloc[0]} ({len(broken)} of "
                                          f"{len(seen)} files: {names})"))
    pairs, same = _pairs(dataset.table, seen)
    if not same.all():
        faults.append(Fault("size", f"{pairs['image'][~same].iloc[0]}: its size differs from its "
                                    f"reference's ({(~same).sum()} such images). Replace the image "
                                    "or remove the row."))
    if dataset.name == "kodak":  # the one set whose every pixel is known
        for number in range(1, 25):
            if f"kodim{number:02d}.png" in broken.index:
                continue
            try:
                kodak.read(dataset.root, number)
            except kodak.KodakUnavailable as error:
                faults.append(Fault("wrong image", str(error)))
    return faults


def _pairs(table: pd.DataFrame, seen: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows whose image and reference can both be read, and whether the two have one size."""
    size = seen.loc[seen["error"] == "", ["height", "width"]]
    pairs = table[table["image"].isin(size.index) & table["reference"].isin(size.index)]
    of_image = size.loc[pairs["image"]].to_numpy()
    of_reference = size.loc[pairs["reference"]].to_numpy()
    return pairs, (of_image == of_reference).all(axis=1)


def _count(dataset: Dataset, seen: pd.DataFrame) -> str:
    whole = dataset.card.images
    count = str(len(dataset))
    if whole and whole != len(dataset):
        count += f" of {whole}"
    readable = seen[seen["error"] == ""]
    sizes = readable.groupby(["width", "height"]).size().sort_values(ascending=False)
    shown = ", ".join(f"{n} of {w} x {h}" for (w, h), n in sizes.head(3).items())
    if len(sizes) > 3:
        shown += f" and {len(sizes) - 3} more sizes"
    return f"{count}; files: {shown}"


def _parts(dataset: Dataset) -> dict[str, str]:
    table = dataset.table
    facts = {"contents": str(table["content"].nunique())}
    references = table.loc[table["reference"] != "", "reference"]
    if len(references):
        facts["references"] = str(references.nunique())
    if (table["split"] != "").any():
        counts = table["split"].value_counts()
        facts["parts"] = ", ".join(f"{part} {count}" for part, count in counts.items())
    return facts


def _histogram(dataset: Dataset, bins: int = 20) -> str:
    raw = dataset.table["raw_score"]
    card = dataset.card
    counts, _ = np.histogram(raw.dropna(), bins, (card.low, card.high))
    heights = np.ceil(8 * counts / max(1, counts.max())).astype(int)
    bars = "".join(" ▁▂▃▄▅▆▇█"[height] for height in heights)
    better = "higher" if card.higher_better else "lower"
    return (f"{raw.min():.3g} to {raw.max():.3g}, mean {raw.mean():.3g}; {card.low:g} |{bars}| "
            f"{card.high:g}, {better} is better")


def _constant_scores(dataset: Dataset) -> list[Fault]:
    values = dataset.table["raw_score"].dropna()
    if len(values) < 2 or values.nunique() > 1:
        return []
    return [Fault("constant", f"{dataset.card.title}: all {len(values)} scores are "
                              f"{values.iloc[0]:g}, so nothing can be learnt from them or judged "
                              "by them. Check the column.")]


def _direction(dataset: Dataset, seen: pd.DataFrame) -> tuple[str, list[Fault]]:
    """Do the scores run the right way? The best witness at hand answers: published scores, levels,
    or SSIM."""
    card = dataset.card
    table = dataset.table[dataset.table["raw_score"].between(card.low, card.high)]
    if table["raw_score"].nunique() < 2:
        return "not testable here: there are no two different scores", []

    def verdict(value: float, witness: str, is_wrong: bool) -> tuple[str, list[Fault]]:
        fact = f"{value:+.2f} is the SRCC of the scores with {witness}"
        if not is_wrong:
            return fact, []
        return fact, [Fault("direction", f"{card.title}: the scores run the wrong way (SRCC "
                                         f"{value:+.2f} with {witness}). Turn higher_better, or "
                                         "restore the score column.")]

    published = _published(dataset).reindex(table.index) if card.table else pd.Series(dtype=float)
    known = published.notna()
    if known.sum() >= 3:
        raw = table["raw_score"][known]
        agreement = srcc(raw, published[known])
        witness = f"those published for {known.sum()} of these images"
        fact, faults = verdict(agreement, witness, agreement < 0)
        changed = (raw - published[known]).abs() > 0.002 * (card.high - card.low)
        if agreement >= 0 and changed.any():
            first = changed.idxmax()
            faults.append(Fault("changed", f"{table['image'][first]}: its score {raw[first]:g} is "
                                           f"published as {published[first]:g} ({changed.sum()} "
                                           "such rows). Restore the score file."))
        return fact, faults

    by_level = []
    for _, group in table[table["level"] > 0].groupby(["content", "distortion"]):
        if group["level"].nunique() > 2 and group["score"].nunique() > 1:
            by_level.append(srcc(-group["level"], group["score"]))
    if by_level:
        middle = float(np.median(by_level))
        return verdict(middle, "minus the level within a type (median)", middle < 0)

    pairs, same = _pairs(table, seen)
    if same.sum() >= 10:
        rows = pairs.index[same][:: max(1, same.sum() // 100)]
        alike = [ssim(dataset.image(row)[None], dataset.reference(row)[None]).item()
                 for row in rows]
        value = srcc(alike, table["score"][rows])
        return verdict(value, f"SSIM of {len(rows)} images", value < -0.2)
    return "not testable here: no published scores, no levels, no references", []


def _published(dataset: Dataset) -> pd.Series:
    """The published raw score of each row, by the file's name (with its folder where names
    repeat)."""
    published = tables.published(dataset.card.table)
    names = published["image"].str.lower().str.rsplit("/", n=1).str[-1]
    parts = 1 if names.is_unique else 2

    def tail(paths: pd.Series) -> pd.Series:
        return paths.str.lower().str.split("/").str[-parts:].str.join("/")

    scores = dict(zip(tail(published["image"]), published["raw_score"]))
    return tail(dataset.table["image"]).map(scores).astype(float)


def _copies(dataset: Dataset, seen: pd.DataFrame) -> pd.DataFrame:
    """Pairs of rows whose images are the same, by their thumbnails."""
    table = dataset.table[dataset.table["image"].map(seen["error"]).eq("")]
    # Distorted versions of one reference may look alike and do no harm: only authentic images and
    # references count.
    has_reference = table["reference"].map(seen["error"]).eq("")
    shown = table["reference"].where(has_reference, table["image"])
    table = table[~shown.duplicated()]
    shown = shown[table.index]

    pairs = _same(seen["thumbnail"][shown].to_list())
    first = [one for one, _ in pairs]
    second = [other for _, other in pairs]
    content = table["content"]
    return pd.DataFrame({
        "image": shown.iloc[first].to_numpy(),
        "copy": shown.iloc[second].to_numpy(),
        "score": table["raw_score"].iloc[first].to_numpy(),
        "score_of_copy": table["raw_score"].iloc[second].to_numpy(),
        "apart": [content.iloc[one] != content.iloc[other] for one, other in pairs],
    }).astype({"apart": bool})


def _same(thumbnails: list[np.ndarray]) -> list[tuple[int, int]]:
    """The positions of pairs of equal thumbnails."""
    if not thumbnails:
        return []
    stack = torch.from_numpy(np.stack(thumbnails))  # (N, 3 * SIDE * SIDE)
    radius = SAME / 255 * stack.shape[1] ** 0.5
    pairs = []
    for start in range(0, len(stack), 2048):  # in blocks, so that 100,000 images fit into memory
        distance = torch.cdist(stack[start : start + 2048], stack[start:])
        near = (distance < radius).nonzero().tolist()
        pairs += [(start + i, start + j) for i, j in near if i < j]
    return pairs


def _copy_faults(copies: pd.DataFrame) -> tuple[str, list[Fault]]:
    """What is said of the copies, and the fault that some of them may train and others test."""
    if copies.empty:
        return "none", []
    fact = f"{len(copies)} pairs of files show the same image"
    apart = copies[copies["apart"]]
    if apart.empty:
        return f"{fact}; each pair is one content, so no split parts it", []
    first = apart.iloc[0]
    return fact, [Fault("copies", f"{first['image']} and {first['copy']} show the same image "
                                  f"({len(apart)} such pairs), but they are two contents, so one "
                                  "may train and the other test. Give each pair one value in a "
                                  "column `content`, or remove one file.")]


def _split_faults(dataset: Dataset) -> list[Fault]:
    if (dataset.table["split"] == "").all():
        return []
    try:
        data.splits(dataset, seed=0)
    except data.DatasetError as error:
        return [Fault("split", str(error))]
    return []
