"""Links of the documents lead somewhere, and pictures tell in words what they show."""

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORGE = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]
COLAB = FORGE.replace("https://github.com", "https://colab.research.google.com/github")
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "notebooks").rglob("*.md"),
                    *(ROOT / "iqa_core").rglob("*.md"), *(ROOT / "figures").rglob("*.md")])


def markdown(path):
    """The Markdown of a document, without blocks of code."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def text_of(path):
    return re.sub(r"`[^`\n]*`", "`code`", markdown(path))


def anchors(path):
    """What can stand after the # of a link to a document: GitHub's form, and for a notebook also Jupyter's."""
    found = []
    for heading in re.findall(r"^#{1,6} +(.+?) *$", markdown(path), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", heading)
        form = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.append(form if form not in found else f"{form}-{sum(re.sub(r'-[0-9]+$', '', f) == form for f in found)}")
        found += [plain.replace(" ", "-")] * (path.suffix == ".ipynb")
    return found


def links(text):
    return re.findall(r"\]\(<?([^()\s>]+(?:\([^()\s]*\))?)>?(?: +\"[^\"]*\")?\)", text) + re.findall(
        r"(?:href|src)=[\"']([^\"']+)[\"']", text)


def broken(path, root=ROOT):
    """The links of a document that lead to nothing in the tree. Addresses of other places are not looked at."""
    found = []
    for link in links(text_of(path)):
        target, _, anchor = link.partition("#")
        file = path.parent / target if target else path
        if own := re.match(rf"(?:{re.escape(FORGE)}|{re.escape(COLAB)})/(?:blob|tree)/main/(.+)", target):
            file = root / own[1]
        elif re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        if not file.exists() or anchor and file.suffix in (".md", ".ipynb") and anchor not in anchors(file):
            found.append(link)
    return found


def mute(text):
    """Pictures without a sentence that says what they show. Badges of other places may be short."""
    shown = re.findall(r"!\[([^\]]*)\]\(([^)\s]+)", text)
    shown += [("".join(re.findall(r"alt=[\"'](.*?)[\"']", tag)), "img") for tag in re.findall(r"<img\b[^>]*>", text)]
    return [source for alt, source in shown if len(alt.strip()) < 15 and not source.startswith("http")]


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def path(request):
    return request.param


def test_links_resolve(path):
    assert broken(path) == []


def test_pictures_have_alt_text(path):
    assert mute(text_of(path)) == []


def test_the_documents_are_looked_at():
    found = [link for path in DOCUMENTS for link in links(text_of(path))]
    badges = {link for link in found if link.startswith(f"{COLAB}/blob/main/notebooks/")}
    assert len(badges) >= len([*(ROOT / "notebooks").glob("*.ipynb")])
    assert "figures/RESULTS.md" in found and "../../figures/ledger.csv" in found
    assert re.search(r"!\[[^\]]{15,}\]\(figures/", text_of(ROOT / "README.md"))


@pytest.mark.parametrize("text, wrong", [
    ("[a](there.md) [b](there.md#two-words-and-code) [c](#here) [d](https://example.org/x) [e](.)", []),
    ("[a](gone.md)", ["gone.md"]), ("[a](there.md#three)", ["there.md#three"]), ("[a](#gone)", ["#gone"]),
    ("[![a picture of it](gone.png)](there.md)", ["gone.png"]), ('<img src="gone.png">', ["gone.png"]),
    (f"[a]({COLAB}/blob/main/there.md) [b]({COLAB}/blob/main/gone.ipynb)", [f"{COLAB}/blob/main/gone.ipynb"]),
    (f"[a]({FORGE}/blob/main/there.md#again-1) [b]({FORGE}/tree/main/gone)", [f"{FORGE}/tree/main/gone"]),
    ("`[a](gone.md)`\n```\n[b](gone.md)\n```\n", [])])
def test_a_broken_link_is_noticed(text, wrong, tmp_path):
    (tmp_path / "there.md").write_text("# There\n\n## Two words, and `code`\n\n## Again\n\n## Again\n", "utf-8")
    (tmp_path / "page.md").write_text(f"# Here\n\n{text}\n", "utf-8")
    assert broken(tmp_path / "page.md", tmp_path) == wrong


def test_a_picture_without_words_is_noticed():
    assert mute("![](figures/a.png) ![short](figures/b.png) ![A sentence about it](figures/c.png)") == [
        "figures/a.png", "figures/b.png"]
    assert mute('<img src="a.png"> <img alt="A sentence about it" src="b.png">') == ["img"]
    assert mute("![Open in Colab](https://example.org/badge.svg)") == []
