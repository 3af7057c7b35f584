"""A health report of a dataset: counts, files that cannot be read, scores and their direction, copies.

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
# Root mean square of the difference of two thumbnails, in 255 steps. Among 3,000 images of BIQ2021 the 33 copies
# lie below 1.1; the next nearest pair, two dark images, at 2.4.
SAME = 1.5


@dataclass(frozen=True)
class Report:
    """What `check` found. `print` shows it; `faults` is empty for a clean set.

    `facts` are lines of (word, text). `copies` is a table `image, copy, score, score_of_copy, apart`: pairs of files
    that show the same image; `apart` says that they are two contents, so that a split may part them.
    """

    dataset: Dataset
    facts: dict[str, str]
    faults: list[Fault]
    copies: pd.DataFrame

    def __str__(self) -> str:
        lines = [f"{word:11}{text}" for word, text in self.facts.items()]
        lines += [f"FAULT {fault.kind}: {fault.sentence}" for fault in self.faults]
        verdict = "clean, no fault found" if not self.faults else f"{len(self.faults)} kinds of fault, see above"
        return "\n".join([f"{self.dataset.card.title} in {self.dataset.root}", *lines, f"{'health':11}{verdict}"])


def check(name: str | Path, root: str | Path | None = None, progress: bool = True, **scale) -> Report:
    """Examine every image and score of a dataset. Nothing is changed.

    Args:
        name: a name of `data_download.cards()`, or the path of your own table, whatever the case of its
            suffix.
        root: as in `data_download.load`; for a table, the folder of its images.
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
    faults += _picture_faults(dataset, seen)
    copies = _copies(dataset, seen)
    facts = {"images": _count(dataset, seen), **_parts(dataset)}
    if dataset.card.low is not None:
        facts["scores"] = _histogram(dataset)
        values = dataset.table["raw_score"].dropna()
        if len(values) > 1 and values.nunique() == 1:
            faults.append(Fault("constant", f"{dataset.card.title}: all {len(values)} scores are "
                                            f"{values.iloc[0]:g}, so nothing can be learnt from "
                                            "them or judged by them. Check the column."))
        fact, found = _direction(dataset, seen)
        facts["direction"], faults = fact, faults + found
    facts["copies"] = "none" if copies.empty else f"{len(copies)} pairs of files show the same image"
    if not copies.empty:
        apart = copies[copies["apart"]]
        if apart.empty:
            facts["copies"] += "; each pair is one content, so no split parts it"
        else:
            first = apart.iloc[0]
            faults.append(Fault("copies", f"{first['image']} and {first['copy']} show the same image ({len(apart)} such "
                                "pairs), but they are two contents, so one may train and the other test. Give each pair "
                                "one value in a column `content`, or remove one file."))
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
    """Decode every file once: a row a file with its error, height, width and thumbnail. Threads do: Pillow decodes
    outside Python's lock."""
    files = [file for file in pd.unique(dataset.table[["image", "reference"]].to_numpy().ravel())
             if file and (dataset.root / file).is_file()]

    def look(file: str) -> tuple:
        try:
            x = images.load(dataset.root / file)
        except images.ImageError as error:
            return str(error), 0, 0, None
        return "", *x.shape[1:], torch.nn.functional.adaptive_avg_pool2d(x, SIDE).flatten().numpy()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(tqdm(pool.map(look, files), "reading", len(files), unit="image", disable=None if progress else True))
    return pd.DataFrame(rows, index=files, columns=["error", "height", "width", "thumbnail"])


def _picture_faults(dataset: Dataset, seen: pd.DataFrame) -> list[Fault]:
    faults = []
    broken = seen[seen["error"] != ""]
    if len(broken):
        names = ", ".join(broken.index[:5]) + (" ..." if len(broken) > 5 else "")
        faults.append(Fault("unreadable", f"{broken['error'].iloc[0]} ({len(broken)} of {len(seen)} files: {names})"))
    pairs, same = _pairs(dataset.table, seen)
    if not same.all():
        faults.append(Fault("size", f"{pairs['image'][~same].iloc[0]}: its size differs from its reference's "
                            f"({(~same).sum()} such images). Replace the image or remove the row."))
    if dataset.name == "kodak":  # the one set whose every pixel is known
        for number in range(1, 25):
            try:
                kodak.read(dataset.root, number)
            except kodak.KodakUnavailable as error:
                if f"kodim{number:02d}.png" not in broken.index:
                    faults.append(Fault("wrong image", str(error)))
    return faults


def _pairs(table: pd.DataFrame, seen: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows whose image and reference can both be read, and whether the two have one size."""
    size = seen.loc[seen["error"] == "", ["height", "width"]]
    pairs = table[table["image"].isin(size.index) & table["reference"].isin(size.index)]
    return pairs, (size.loc[pairs["image"]].to_numpy() == size.loc[pairs["reference"]].to_numpy()).all(axis=1)


def _count(dataset: Dataset, seen: pd.DataFrame) -> str:
    whole = dataset.card.images
    sizes = seen[seen["error"] == ""].groupby(["width", "height"]).size().sort_values(ascending=False)
    shown = ", ".join(f"{count} of {w} x {h}" for (w, h), count in sizes.head(3).items())
    more = f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else ""
    return f"{len(dataset)}{f' of {whole}' if whole and whole != len(dataset) else ''}; files: {shown}{more}"


def _parts(dataset: Dataset) -> dict[str, str]:
    table = dataset.table
    facts = {"contents": str(table["content"].nunique())}
    if (table["reference"] != "").any():
        facts["references"] = str(table.loc[table["reference"] != "", "reference"].nunique())
    if (table["split"] != "").any():
        facts["parts"] = ", ".join(f"{part} {count}" for part, count in table["split"].value_counts().items())
    return facts


def _histogram(dataset: Dataset, bins: int = 20) -> str:
    raw, card = dataset.table["raw_score"], dataset.card
    counts, _ = np.histogram(raw.dropna(), bins, (card.low, card.high))
    bars = "".join(" ▁▂▃▄▅▆▇█"[int(np.ceil(8 * count / max(1, counts.max())))] for count in counts)
    better = "higher" if card.higher_better else "lower"
    return (f"{raw.min():.3g} to {raw.max():.3g}, mean {raw.mean():.3g}; {card.low:g} |{bars}| {card.high:g}, "
            f"{better} is better")


def _direction(dataset: Dataset, seen: pd.DataFrame) -> tuple[str, list[Fault]]:
    """Do the scores run the right way? The best witness at hand answers: published scores, levels, or SSIM."""
    card = dataset.card
    table = dataset.table[dataset.table["raw_score"].between(card.low, card.high)]
    if table["raw_score"].nunique() < 2:
        return "not testable here: there are no two different scores", []
    wrong = Fault("direction", f"{card.title}: the scores run the wrong way (SRCC {{:+.2f}} with {{}}). Turn "
                  "higher_better, or restore the score column.")

    def verdict(value: float, witness: str, bad: bool) -> tuple[str, list[Fault]]:
        return (f"{value:+.2f} is the SRCC of the scores with {witness}",
                [wrong._replace(sentence=wrong.sentence.format(value, witness))] if bad else [])

    if card.table:
        published = _published(dataset).reindex(table.index)
        known = published.notna()
        if known.sum() >= 3:
            raw = table["raw_score"][known]
            agreement = srcc(raw, published[known])
            fact, faults = verdict(agreement, f"those published for {known.sum()} of these images", agreement < 0)
            changed = (raw - published[known]).abs() > 0.002 * (card.high - card.low)
            if agreement >= 0 and changed.any():
                first = changed.idxmax()
                faults.append(Fault("changed", f"{table['image'][first]}: its score {raw[first]:g} is published as "
                                    f"{published[first]:g} ({changed.sum()} such rows). Restore the score file."))
            return fact, faults
    graded = [group for _, group in table[table["level"] > 0].groupby(["content", "distortion"])
              if group["level"].nunique() > 2 and group["score"].nunique() > 1]
    if graded:
        middle = float(np.median([srcc(-group["level"], group["score"]) for group in graded]))
        return verdict(middle, "minus the level within a type (median)", middle < 0)
    pairs, same = _pairs(table, seen)
    if same.sum() >= 10:
        rows = pairs.index[same][:: max(1, same.sum() // 100)]
        alike = [ssim(dataset.image(row)[None], dataset.reference(row)[None]).item() for row in rows]
        value = srcc(alike, table["score"][rows])
        return verdict(value, f"SSIM of {len(rows)} images", value < -0.2)
    return "not testable here: no published scores, no levels, no references", []


def _published(dataset: Dataset) -> pd.Series:
    """The published raw score of each row, found by the file's name (with its folder where names repeat)."""
    published = tables.published(dataset.card.table)
    names = published["image"].str.lower().str.rsplit("/", n=1).str[-1]
    parts = 1 if names.is_unique else 2

    def tail(images: pd.Series) -> pd.Series:
        return images.str.lower().str.split("/").str[-parts:].str.join("/")

    return tail(dataset.table["image"]).map(dict(zip(tail(published["image"]), published["raw_score"]))).astype(float)


def _copies(dataset: Dataset, seen: pd.DataFrame) -> pd.DataFrame:
    """Pairs of rows whose images are the same, found by their thumbnails."""
    table = dataset.table[dataset.table["image"].map(seen["error"]).eq("")]
    # Distorted versions of one reference may look alike and do no harm: only authentic images and references count.
    column = table["reference"].where(table["reference"].map(seen["error"]).eq(""), table["image"])
    table = table[~column.duplicated()]
    column = column[table.index]
    thumbnails = torch.from_numpy(np.stack(seen["thumbnail"][column].to_list())) if len(table) else torch.empty(0, 1)
    radius = SAME / 255 * thumbnails.shape[1] ** 0.5
    found = []
    for start in range(0, len(thumbnails), 2048):  # in blocks, so that 100,000 images fit into memory
        block = torch.cdist(thumbnails[start : start + 2048], thumbnails[start:])
        found += [(start + i, start + j) for i, j in (block < radius).nonzero().tolist() if i < j]
    first, second = (table.iloc[list(rows)].reset_index(drop=True) for rows in (zip(*found) if found else ((), ())))
    return pd.DataFrame({
        "image": column.iloc[[i for i, _ in found]].to_numpy(), "copy": column.iloc[[j for _, j in found]].to_numpy(),
        "score": first["raw_score"], "score_of_copy": second["raw_score"],
        "apart": first["content"].ne(second["content"])})


def _split_faults(dataset: Dataset) -> list[Fault]:
    if (dataset.table["split"] == "").all():
        return []
    try:
        data.splits(dataset, seed=0)
    except data.DatasetError as error:
        return [Fault("split", str(error))]
    return []
