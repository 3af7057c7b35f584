"""The cards of the datasets, rendered from data_download/registry.toml.

    python notebooks/course/cards.py      writes datasets.md beside this file; a test compares both
"""

from pathlib import Path

import data_download
from iqa_core import data

PATH = Path(__file__).with_name("datasets.md")

HEAD = """# Cards of the datasets

Rendered from `data_download/registry.toml` by `python notebooks/course/cards.py`; nobody edits this file by hand.

Range and direction are those of the published score. Loading turns every score into [0, 1], higher = better, and keeps
the raw one beside it ([notebook 02](../02_distortions_and_data.ipynb), section 4). "Seeded" splits are drawn by
`iqa_core.data.splits`: 70 % train, 10 % validate, 20 % test, and no content lies in two parts. `python -m data_download
list` says which sets are here; the folder that holds them is named by `IQA_DATA`, and all of them lie below it.

What a set needs: *nothing*, it is made on your machine; *download*, `python -m data_download get NAME` does it; *form*, the
owner wants to know you first, and `get` then says which file to place where; *by hand*, the card says where it is.
`IQA_MIRROR` names another place to download from: a server of your own, or a folder on a stick. The scores of most rated
sets come with the kit, so there are lessons without an image: `data_download.load("kadid10k", images=False)`.
"""

# What no field of the registry says and has misled people.
TRAPS = {
    "offline": "No human saw these images. All images of one type and level have the same score, whatever they show, "
               "and few contents are left for a test part. Its numbers are for practice.",
    "tid2013-kodak": "Only the column `exact` marks the rated images themselves; the others follow the same law with "
                     "other random numbers or another encoder. Types are missing, so its numbers must not be set beside "
                     "those of the whole set. Levels of `contrast_change` alternate: two of them raise contrast, and "
                     "people like that.",
    "kodak": "TID2013's references are crops of these photographs. Who trains on them must not test on TID2013 and call "
             "its contents unseen.",
    "cid22": "Only the undistorted files of the archive belong into the folder; compressed ones would count as pristine.",
    "biq2021": "Three subsets, told by the first letters of the file name, differ in their mean score, so a method gains "
               "by recognising the subset. Some images lie there twice, under two names and with two scores. One name "
               "differs in case between table and disk. Where only training images are here, results must not be set "
               "beside those of the official test part.",
    "kadid10k": "The column is called `dmos`, yet higher is better: the most common mistake with this set. "
                "`mean_shift` and `contrast_change` run to both sides, and four of the 125 cells change nothing.",
    "tid2013": "File names vary in case (i01, I01; i25.bmp), which breaks on Linux. Levels of `contrast_change` alternate: "
               "two of them raise contrast, and people like that.",
    "csiq": "Lower is better: turn it before it meets another set. Copies differ in the case and number of folders.",
    "live": "Lower is better. `dmos.mat` holds the scores before the realignment, on scales of five experiments; take "
            "`dmos_realigned.mat`. File names are not stored: rows follow the order of the five folders.",
    "clive": "The first seven rows are images that trained the raters. The score table that comes with this kit lacks "
             "one of the images.",
    "koniq10k": "Two scales circulate, 1 to 5 and 1 to 100, and two sizes of the images. Some papers resize to a "
                "square. Say which of each you used.",
    "spaq": "Copies at full size and at 512 pixels circulate, and some papers shrink the images first. A resize "
            "changes what is judged; say which you used.",
    "flive": "Patches are parts of the images: both in one split is a leak. Some copies are padded to a square. Some "
             "images are smaller than the crops of common methods.",
    "pipal": "An Elo rating, no mean of grades: its range means nothing by itself. Only the training part is here. "
             "The number after the reference in a file name is a group of distortions, not confirmed which.",
    "agiqa3k": "Two scores an image: quality, and agreement with the prompt. Images of one prompt belong together in "
               "a split.",
    "kadis700k": "The scores that come with the archive are those of full-reference metrics, not of people.",
    "own": "Without `low` and `high` the smallest and largest score of the table become the ends of the scale. Versions "
           "of one scene need one value in the column `content`, or they leak.",
    "meta-info": "Scores keep the direction of their set: for LIVE and CSIQ give `higher_better=False`.",
}


def get(card: data.Card) -> str:
    """How to get it, in one line."""
    own = card.needs == "your files"
    command = "" if own else f"`python -m data_download {'make' if card.made else 'get'} {card.name}`. "
    table = f" Scores without an image: `data_download.load(\"{card.name}\", images=False)`." if card.table else ""
    return f"{command}{'By hand: ' * bool(card.by_hand and not own)}{card.by_hand}".strip() + table


def card_table(card: data.Card, scores: str) -> str:
    """One card as Markdown; fields that a set does not have are left out."""
    own = card.needs == "your files"
    source = f"<{card.source}>" if card.source.startswith("http") else card.source
    rows = {"name": f"`{card.name}`", "what": card.what, "range, direction": scores, "how it was rated": card.score,
            "images": "" if own else f"{card.images:,}" if card.images else "not stated",
            "references": "" if own else "yes" if card.reference else "no", "split": card.split, "licence": card.licence,
            "citation": card.citation, "source": source, "needs": card.needs, "size": card.size,
            "how to get": get(card), "known traps": TRAPS.get(card.name, "")}
    lines = [f"| {field} | {value.replace('|', chr(92) + '|')} |" for field, value in rows.items() if value]
    return "\n".join([f"## {card.title}", "", "| | |", "|---|---|", *lines])


def render() -> str:
    """The text of datasets.md."""
    overview = data_download.overview()
    scores = overview["scores"]
    rows = overview.reset_index().astype(str)
    lines = [list(rows.columns), ["---"] * len(rows.columns), *rows.values.tolist()]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return "\n\n".join([HEAD.strip(), table, *(card_table(card, scores[name]) for name, card in data_download.cards().items())]) + "\n"


if __name__ == "__main__":
    PATH.write_text(render(), "utf-8")
    print(f"{PATH.name}: {len(data_download.cards())} cards")
