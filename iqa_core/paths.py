"""Names of files in tables, and the files that they mean."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from iqa_core.files import file_names


class Tree:
    """All files below a folder but hidden ones, found by the end of their path, in any case of
    letters."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.paths = file_names(folder)
        self._by_name = defaultdict(list)
        for path in sorted(self.paths, key=lambda path: path.count("/")):
            name = path.rpartition("/")[2]
            self._by_name[name.lower()].append(path)

    def find(self, tail: str) -> str:
        """The path below the folder that ends with `tail`; `tail` itself if there is none.

        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "TID/distorted_images").mkdir(parents=True)
        >>> (folder / "TID/distorted_images/I01_01_1.BMP").touch()
        >>> Tree(folder).find("distorted_images/i01_01_1.bmp")
        'TID/distorted_images/I01_01_1.BMP'
        """
        return self._match(tail) or tail

    def __contains__(self, tail: str) -> bool:
        return self._match(tail) is not None

    def _match(self, tail: str) -> str | None:
        end = "/" + tail.lower()
        name = end.rpartition("/")[2]
        same_name = self._by_name.get(name, ())
        matches = [path for path in same_name if f"/{path}".lower().endswith(end)]
        # A path in the same case comes before one in another case, an upper copy before a deeper
        # one.
        return max(matches, key=lambda path: f"/{path}".endswith("/" + tail), default=None)


def resolve(name: str, folder: Path, encoding: str = "utf-8-sig") -> str:
    """The path of a file as it is spelt below a folder; where there is no such file, the name
    without "./".

    Backslashes, `~` and the two Unicode spellings of an accent are understood. The case of letters
    has to agree.

    Args:
        name: as the table says.
        folder: where paths start from.
        encoding: of the table. Where it is not UTF-8, the bytes of the name are tried as well.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "sub").mkdir()
    >>> (folder / "sub/a.png").touch()
    >>> resolve("sub\\\\a.png", folder), resolve("./sub/a.png", folder)
    ('sub/a.png', 'sub/a.png')
    """
    if not name:
        return name
    spellings = [name, name.replace("\\", "/")]
    if name.startswith("~"):
        spellings.append(os.path.expanduser(spellings[1]))
    spellings += [unicodedata.normalize(form, spellings[1]) for form in ("NFC", "NFD")]
    if encoding in ("cp1252", "latin-1"):
        spellings.append(os.fsdecode(spellings[1].encode(encoding)))
    for spelling in spellings:
        tidy = PurePosixPath(spelling).as_posix()
        if os.path.isfile(folder / tidy):
            return tidy
    return PurePosixPath(name).as_posix()


def nearest(name: str, folder: Path, suffixes: Collection[str]) -> str:
    """The path below a folder of the one file that a table may mean by a name that is not there;
    else "".

    It lies in the place that the name says, in the folder itself, or in a folder in it, has one of
    the suffixes, and the same name but for the case of letters or the suffix.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "A.JPG").touch()
    >>> nearest("a.jpg", folder, {".jpg"})
    'A.JPG'
    """
    tidy = PurePosixPath(name.replace("\\", "/"))
    wanted = unicodedata.normalize("NFC", tidy.name).casefold()
    places = [(folder / tidy).parent, folder]
    try:
        inside = [place for place in folder.iterdir() if place.is_dir() and place.name[0] != "."]
    except OSError:
        return ""
    places += sorted(inside)
    for same in (lambda file: file.name, lambda file: file.stem):
        for place in places:
            try:
                files = sorted(file for file in place.iterdir() if file.suffix.lower() in suffixes)
            except OSError:
                continue
            for file in files:
                if unicodedata.normalize("NFC", same(file)).strip().casefold() == wanted:
                    return Path(os.path.relpath(file, folder)).as_posix()
    return ""
