"""A dataset by its name: question, download, unpacking, and a folder that is whole or absent."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from data_download import loading, registry
from data_download.archives import is_archive, unpack
from data_download.fetch import DownloadError, Unavailable, downloads, fetch, mirrored, readable
from data_download.made import kodak
from iqa_core import files
from iqa_core.data import Card

# One way to get a set: where each of its files shall lie, and its entry in the card.
Choice = list[tuple[Path, dict]]


def get(name: str, yes: bool = False, progress: bool = True) -> Path:
    """The folder of a dataset; if it is not there, it is downloaded and unpacked after a question.

    Files that lie in `downloads/NAME` of the cache are used instead of downloading; so a set with
    a form or a password works too. `$IQA_MIRROR`, an address or a folder that holds NAME/FILE, is
    tried before every source. The dataset appears whole or not at all. Afterwards the downloaded
    files are deleted.

    Args:
        name: a name of `data_download.cards()`.
        yes: do not ask. Needed where nobody sits at a terminal.
        progress: bars on stderr.

    Returns:
        The folder of the set, below `files.data_root()`.

    Raises:
        DownloadError: unknown name, answer no, no source, no room, or an archive that is refused.

    >>> get("offline").is_dir()
    True
    """
    cards = registry.cards()
    if name not in cards:
        raise DownloadError(f"{name!r} is not a known dataset; choose one of {', '.join(cards)}.")
    card = cards[name]
    if card.made:
        return loading.load(name).root
    if name == "kodak":
        return kodak.fetch_kodak(progress)
    folder = files.data_root() / card.folder
    if folder.is_dir():
        return folder
    place = downloads(name)
    choices = _choices(card, place)
    if not choices:
        by_hand = f" {card.by_hand}" if card.by_hand else ""
        raise DownloadError(f"{card.title} cannot be downloaded by a program.{by_hand} Official "
                            f"page: {card.source}. Place the file in {place} and repeat, or unpack "
                            f"it into {folder}.")
    _ask(card, folder, choices[0], yes)

    def make(temporary: Path) -> None:
        for path in _collect(card, choices, progress):
            try:
                if is_archive(path):
                    unpack(path, temporary, progress=progress)
                else:
                    shutil.copy(path, temporary)
            except DownloadError as error:
                # The reader knows the folder of the set, not the temporary one.
                message = str(error).replace(str(temporary), str(folder))
                raise DownloadError(message) from error

    try:
        files.prepare(folder, make)
    except OSError as error:
        raise DownloadError(f"{folder}: cannot be made ({error.strerror or error}). Make room or "
                            "correct the rights, and repeat.") from error
    if card.download:  # else the reader brought the files: they stay
        shutil.rmtree(place, ignore_errors=True)
    return folder


def _choices(card: Card, place: Path) -> list[Choice]:
    """The ways to get a set, those first whose files lie there already."""
    if card.download:
        choices = []
        for entries in card.download:
            choices.append([(place / _name(entry), entry) for entry in entries])
        choices.sort(key=lambda choice: not all(path.is_file() for path, _ in choice))
        return choices
    brought = [path for path in sorted(place.glob("[!.]*"))
               if path.is_file() and path.suffix not in (".part", ".from", ".lock")]
    return [[(path, {}) for path in brought]] if brought else []


def _name(entry: dict) -> str:
    """The name of a file of a card."""
    return PurePosixPath(unquote(urlsplit(entry["url"]).path)).name


def _ask(card: Card, folder: Path, choice: Choice, yes: bool) -> None:
    """Show what is about to happen and what it obliges to; raise unless the answer is yes."""
    sizes = [path.stat().st_size if path.is_file() else entry.get("bytes")
             for path, entry in choice]
    size = readable(sum(sizes)) if all(sizes) else card.size or "not stated"
    print(f"{card.title}\n  size       {size}\n  licence    {card.licence}\n"
          f"  cite       {card.citation}\n  place      {folder}")
    if yes:
        return
    if not sys.stdin.isatty():
        raise DownloadError(f"{card.title}: nobody is at a terminal to agree to its terms. Repeat "
                            f"with --yes, or get({card.name!r}, yes=True).")
    print("Get it? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise DownloadError(f"{card.title}: not downloaded, as you answered. Answer y to get it.")


def _collect(card: Card, choices: list[Choice], progress: bool) -> list[Path]:
    """The files of the first choice that is here or can be had."""
    reasons = []
    for choice in choices:
        paths = []
        try:
            for path, entry in choice:
                sources = mirrored(card.name, path.name)
                if entry:
                    sources.append(entry["url"])
                paths.append(fetch(sources, path, entry.get("sha256"), entry.get("bytes"),
                                   progress=progress))
        except Unavailable as error:
            reasons.append(str(error))
        else:
            return paths
    raise DownloadError(f"{' Or: '.join(reasons)} Official page of {card.title}: {card.source}.")
