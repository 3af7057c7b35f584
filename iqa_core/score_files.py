"""The image files that are to be scored, and their references."""

import os
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from iqa_core import images
from iqa_core.files import expand, find_files


@dataclass
class Search:
    """The images in files and folders, and what was not taken for an image."""

    files: list[Path] = field(default_factory=list)
    passed_over: dict[str, list[str]] = field(default_factory=dict)  # of each kind, the names
    empty: list[Path] = field(default_factory=list)  # folders without images


def search_images(paths: str | Path | Iterable[str | Path]) -> Search:
    """Files as they are, and of each folder all images in it and below, by name; each file once.

    An image of a folder is what has a suffix that the installed Pillow reads. Hidden files are left
    out, and symbolic links are followed.

    Raises:
        ValueError: there is nothing to score.
    """
    search = Search()
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
                kind = file.suffix.lower() or "without a suffix"
                if broken:
                    kind = "link that leads nowhere"
                search.passed_over.setdefault(kind, []).append(str(file))
        if not any_image:
            search.empty.append(path)
    search.files = list(by_place.values())
    if not search.files:
        where = ", ".join(map(str, search.empty)) or "No file is named"
        more = about_passed_over(search.passed_over)
        raise ValueError(f"{where}: no images here. Name another folder. {more}".rstrip())
    return search


# Formats of images that an installed Pillow may not read. A warning names them; a table or a text
# beside the images needs none.
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
    noun = "file" if count == 1 else "files"
    sentence = f"{count} {noun} passed over: {kinds} ({', '.join(some)}{rest})."
    if {".heic", ".heif", ".hif"} & passed_over.keys():
        sentence += " The package pillow-heif reads .heic and .heif: pip install pillow-heif."
    return sentence


def warn_of_the_rest(search: Search) -> None:
    """Warn of folders without images, and of images that the installed Pillow does not read."""
    for folder in search.empty:
        warnings.warn(f"{folder}: no images here.", stacklevel=3)
    likely = {kind: names for kind, names in search.passed_over.items() if kind in _OTHER_IMAGES}
    if likely:
        warnings.warn(about_passed_over(likely), PassedOver, stacklevel=3)


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
            raise ValueError(f"{self.place}: no images here that could be references. Name the "
                             "folder that holds them.")

    def of(self, path: str | Path) -> Path:
        """The reference of an image: the one file, or in a folder the one whose name fits best.

        That is the longest name with which the name of the image begins. So `img_blur_3.png` finds
        `img.png`: after the name of the reference comes nothing, or a character that is neither
        letter nor digit; upper and lower case are the same. Folders below are searched too: that
        of the same name as the image's comes first. An image is never its own reference.

        Raises:
            ImageError: there is none, or more than one.

        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("i1.png", "i10.bmp"):
        ...     (folder / name).touch()
        >>> References(folder).of("i10_01_05.png").name
        'i10.bmp'
        """
        path = Path(path)
        if self.image is not None:
            if _same_file(path, self.place):
                raise images.ImageError(f"{path}: is the reference itself, and is not compared "
                                        "with itself.")
            return self.place
        fits = []
        for stem in _beginnings(path.stem):
            for candidate in self.by_stem.get(stem, ()):
                rank = self._nearness(path, candidate)
                if rank is not None and not _same_file(path, candidate):
                    fits.append(((rank, len(stem)), candidate))
        if not fits:
            raise images.ImageError(f"{path}: no reference in {self.place}. Name the reference as "
                                    "the image, or as the beginning of its name before a character "
                                    "that is no letter or digit.")
        best = max(order for order, _ in fits)
        first, *others = [candidate for order, candidate in fits if order == best]
        for other in others:
            if not _same_file(first, other):
                raise images.ImageError(f"{path}: two references fit, {first} and {other}. Remove "
                                        "or rename one of them.")
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
