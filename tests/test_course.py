"""The course pack: complete, of readable length, and in agreement with notebooks, methods and the registry."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest

import data_download
from iqa_core import score

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
COURSE = NOTEBOOKS / "course"
spec = importlib.util.spec_from_file_location("cards", COURSE / "cards.py")
cards = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cards)

SESSIONS = [COURSE / f"session_{n:02}.md" for n in range(1, 11)]
HEADINGS = ["Goal", "Notebooks", "Timetable", "Afterwards students can say", "Questions to discuss",
            "What tends to go wrong", "At home"]
FIELDS = ["name", "what it is", "input", "score", "preprocessing", "trained on", "licence", "known failures", "cost", "notebook"]


def sections(text):
    """Heading of the second level -> what stands below it."""
    return dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", text, re.M))


def main_notebooks(text):
    """File names of the notebooks that a session page, or a row of the index, names as its material."""
    return re.findall(r"\]\(\.\./(\d\d_\w+\.ipynb)\)", text)


def fields(card):
    """Field -> text of a card's table."""
    return dict(re.findall(r"^\| ([^|-][^|]*?) \| (.+) \|$", card, re.M))


def faults(text):
    """What is wrong with a session page, in words; an empty list for a good one."""
    found, parts = [], sections(text)
    if list(parts) != HEADINGS:
        return [f"headings {list(parts)}"]
    words = [word for word in re.sub(r"\]\([^)]*\)", "]", text).split() if re.search(r"\w", word)]
    if not 250 <= len(words) <= 500:
        found.append(f"{len(words)} words")
    minutes = sum(map(int, re.findall(r"^\| (\d+) \|", parts["Timetable"], re.M)))
    if minutes != 90:
        found.append(f"{minutes} minutes")
    if not main_notebooks(parts["Notebooks"]):
        found.append("no notebook")
    if len(re.findall(r"^- ", parts["Afterwards students can say"], re.M)) != 3:
        found.append("not three things to say")
    questions = re.split(r"^\d\. ", parts["Questions to discuss"], flags=re.M)[1:]
    if not 4 <= len(questions) <= 6 or not all("?" in q and "*Hint:" in q for q in questions):
        found.append("not 4 to 6 questions, each with a hint")
    return found


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
def test_session_page(path):
    text = path.read_text("utf-8")
    assert text.startswith(f"# Session {int(path.stem[-2:])}: ")
    assert faults(text) == []


@pytest.mark.parametrize("old, new, fault", [
    ("## At home", "## Homework", "headings"), ("| 20 | discussion |", "| 25 | discussion |", "95 minutes"),
    ("*Hint:", "*Answer:", "questions"), ("](../0", "](0", "no notebook"), ("\n- A MOS", "\nA MOS", "three things"),
    ("## At home\n", "## At home\n" + 200 * "more ", "words")])
def test_a_broken_page_is_noticed(old, new, fault):
    text = SESSIONS[0].read_text("utf-8")
    assert old in text
    assert any(fault in found for found in faults(text.replace(old, new)))


def test_every_notebook_is_the_main_material_of_one_session_and_stands_in_the_index():
    of_session = {path: main_notebooks(sections(path.read_text("utf-8"))["Notebooks"]) for path in SESSIONS}
    named = [name for names in of_session.values() for name in names]
    assert len(named) == len(set(named)) and sorted(COURSE.glob("session_*")) == SESSIONS
    assert {path.name for path in NOTEBOOKS.glob("*.ipynb")} <= set(named)
    index = sections((COURSE / "README.md").read_text("utf-8"))["Sessions"]
    rows = dict(re.findall(r"^\| \[\d+\]\((session_\d\d\.md)\) \|(.+)$", index, re.M))
    assert {path.name: names for path, names in of_session.items()} == {n: main_notebooks(row) for n, row in rows.items()}


def test_every_method_has_a_card_that_leaves_no_field_out():
    of_method = {fields(card)["name"].strip("`"): card
                 for card in sections((COURSE / "methods.md").read_text("utf-8")).values()}
    assert list(of_method) == list(score.METHODS)
    assert all(list(fields(card)) == FIELDS for card in of_method.values())
    assert all(re.search(r"\bhigher\b", fields(card)["score"]) for card in of_method.values())


@pytest.mark.parametrize("name", ["yoto", "qfm-iqm", "dri-iqa"])
def test_a_card_names_the_crops_of_the_shipped_method(name):
    config = score.load_method(name).config
    assert config.positions == "five"
    text = (COURSE / "methods.md").read_text("utf-8")
    of_method = {fields(card)["name"].strip("`"): card for card in sections(text).values()}
    assert f"five crops of {config.crop} pixels" in of_method[name]


def test_every_dataset_has_a_card_as_the_registry_says():
    text = (COURSE / "datasets.md").read_text("utf-8")
    assert text == cards.render(), "run: python notebooks/course/cards.py"
    of_set = {fields(card)["name"].strip("`"): fields(card) for card in sections(text).values()}
    assert list(of_set) == list(data_download.cards())
    for name, card in data_download.cards().items():
        assert ("LOWER" in of_set[name]["range, direction"]) == (not card.higher_better)
        assert of_set[name]["split"] == card.split and of_set[name]["how to get"]
    assert set(cards.TRAPS) <= set(of_set)


def test_a_changed_registry_is_noticed(monkeypatch):
    changed = {name: dataclasses.replace(card, licence=f"{card.licence} (new)") for name, card in data_download.cards().items()}
    monkeypatch.setattr(data_download, "cards", lambda: changed)
    assert cards.render() != (COURSE / "datasets.md").read_text("utf-8")
