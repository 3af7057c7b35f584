"""A dataset by its name: question, download, safe unpacking, and a folder that is whole or absent."""

from __future__ import annotations

import getpass
import gzip
import lzma
import os
import shutil
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from data_download.made import kodak
from data_download.fetch import DownloadError, Unavailable, downloads, fetch, readable, mirrored
from iqa_core import data, files

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".rar", ".7z")
RATIO, SLACK, MEMBERS = 100, 100_000_000, 2_000_000  # an archive that unpacks to more is taken for a bomb


def unpack(archive: str | Path, folder: str | Path, password: str | None = None, progress: bool = True) -> Path:
    """Unpack a zip or tar archive into an existing folder, and nothing outside of it.

    Members are written here as plain files and folders. So no link, device, owner or mode of an archive reaches
    the disk; that is stricter than tarfile's filter "data", and Python before 3.11.4 has no filter. What was
    written before an error stays: give a temporary folder, as `files.prepare` does.

    Args:
        archive: `.zip`, `.tar` or a compressed tar.
        folder: where the members go.
        password: of an encrypted zip. None: `$IQA_PASSWORD`, else asked at the terminal.
        progress: a bar that counts files, on stderr.

    Returns:
        `folder`.

    Raises:
        DownloadError: broken, cut off, wrong password, unknown kind, too large, or a member that is neither file
            nor folder or that points out of `folder`. The message names the archive and the remedy.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with zipfile.ZipFile(folder / "set.zip", "w") as opened:
    ...     opened.writestr("images/a.txt", "a picture")
    >>> (unpack(folder / "set.zip", folder, progress=False) / "images/a.txt").read_text()
    'a picture'
    """
    archive, folder = Path(archive), Path(folder)
    lower = archive.name.lower()
    if not lower.endswith(ARCHIVES) or lower.endswith((".rar", ".7z")):
        raise _by_hand(archive, folder)
    members = _zipped(archive, password) if lower.endswith(".zip") else _tarred(archive)
    total, count = 0, 0
    try:
        limit, free = max(SLACK, RATIO * archive.stat().st_size), shutil.disk_usage(folder).free
        for name, size, kind, read in tqdm(members, archive.name, unit=" files", disable=None if progress else True):
            place = PureWindowsPath(name)  # knows both kinds of slash, and drives
            total, count = total + size, count + 1
            evil = (f"its member {name!r} points out of the folder" if place.anchor or ".." in place.parts else
                    f"its member {name!r} is a {kind}" if kind not in ("file", "folder") else
                    f"it unpacks to more than {readable(limit)}" if total > limit else
                    f"it holds more than {MEMBERS:,} files" if count > MEMBERS else "")
            if evil:
                raise DownloadError(f"{archive}: refused, because {evil}. Get the archive from the official page.")
            if total > free:
                raise DownloadError(f"{folder}: {archive.name} unpacks to more than the {readable(free)} that are "
                                    "free. Make room, or set IQA_DATA to a folder on a larger disk.")
            target = folder.joinpath(*place.parts)
            (target if kind == "folder" else target.parent).mkdir(parents=True, exist_ok=True)
            if kind == "file":
                with read() as source, target.open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
    except DownloadError:
        raise
    except NotImplementedError as error:
        raise _by_hand(archive, folder) from error
    except RuntimeError as error:  # zipfile's word for a password that does not fit
        raise DownloadError(f"{archive}: the password does not fit. Give the one from the dataset's form as "
                            "$IQA_PASSWORD.") from error
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError,
            ValueError) as error:
        raise DownloadError(f"{archive}: broken or cut off ({error}). Remove it, and repeat to get it anew.") from error
    except OSError as error:
        raise DownloadError(f"{folder}: {archive.name} cannot be unpacked there ({error.strerror}). Make room or "
                            "correct the rights, and repeat.") from error
    return folder


def _zipped(archive: Path, password: str | None) -> Iterator[tuple[str, int, str, Callable]]:
    """Name, unpacked size, kind ("file", "folder", else refused) and opener of every member."""
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if info.flag_bits & 1 and not password:
                password = _password(archive)
            mode = stat.S_IFMT(info.external_attr >> 16)
            kind = "folder" if info.is_dir() else "file" if mode in (0, stat.S_IFREG) else "link or device"
            yield info.filename, info.file_size, kind, partial(opened.open, info, pwd=(password or "").encode())


def _password(archive: Path) -> str:
    password = os.environ.get("IQA_PASSWORD")
    if not password and sys.stdin.isatty():
        password = getpass.getpass(f"Password of {archive.name}: ")
    if not password:
        raise DownloadError(f"{archive}: encrypted. Give the password from the dataset's form as $IQA_PASSWORD.")
    return password


def _tarred(archive: Path) -> Iterator[tuple[str, int, str, Callable]]:
    with tarfile.open(archive) as opened:
        for member in opened:
            kind = "folder" if member.isdir() else "file" if member.isreg() else "link or device"
            yield member.name, member.size, kind, partial(opened.extractfile, member)
        opened.fileobj.seek(opened.offset)  # tarfile takes a cut or a broken header for the end, which is zeros
        if opened.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("its end is missing")
        while opened.fileobj.read(1 << 20):  # to the check sum of the compression
            pass


def _by_hand(archive: Path, folder: Path) -> DownloadError:
    return DownloadError(f"{archive}: an archive of this kind cannot be unpacked by this kit. Unpack it by hand into "
                         f"{folder}, for example with 7-Zip or unar.")


def get(name: str, yes: bool = False, progress: bool = True) -> Path:
    """The folder of a dataset; if it is not there, it is downloaded and unpacked after a question.

    Files that lie in `downloads/NAME` of the cache are used instead of downloading; so a set with a form or a
    password works too. `$IQA_MIRROR`, an address or a folder that holds NAME/FILE, is tried before every source.
    The dataset appears whole or not at all. Afterwards the downloaded files are deleted.

    Args:
        name: a name of `data.cards()`.
        yes: do not ask. Needed where nobody sits at a terminal.
        progress: bars on stderr.

    Returns:
        The folder of the set, below `files.data_root()`.

    Raises:
        DownloadError: unknown name, answer no, no source, no room, or an archive that is refused.

    >>> get("offline").is_dir()
    True
    """
    if name not in data.cards():
        raise DownloadError(f"{name!r} is not a known dataset; choose one of {', '.join(data.cards())}.")
    card, folder = data.cards()[name], files.data_root() / data.cards()[name].folder
    if card.made:
        return data.load(name).root
    if name == "kodak":
        return kodak.fetch_kodak(progress)
    if folder.is_dir():
        return folder
    place = downloads(name)
    choices = [[(place / _name(file), file) for file in choice] for choice in card.download]
    choices.sort(key=lambda choice: not all(path.is_file() for path, _ in choice))  # stable: what is here comes first
    if not choices:
        choices = [[(path, {}) for path in sorted(place.glob("[!.]*"))
                    if path.is_file() and path.suffix not in (".part", ".from", ".lock")]]
    if not choices[0]:
        raise DownloadError(f"{card.title} cannot be downloaded by a program. {card.by_hand}".rstrip() +
                            f" Official page: {card.source}. Place the file in {place} and repeat, or unpack it "
                            f"into {folder}.")
    _ask(card, folder, choices[0], yes)

    def make(temporary: Path) -> None:
        for path in _collect(card, choices, progress):
            try:
                if path.name.lower().endswith(ARCHIVES):
                    unpack(path, temporary, progress=progress)
                else:
                    shutil.copy(path, temporary)
            except DownloadError as error:  # the reader knows the folder of the set, not the temporary one
                raise DownloadError(str(error).replace(str(temporary), str(folder))) from error

    try:
        files.prepare(folder, make)
    except OSError as error:
        raise DownloadError(f"{folder}: cannot be made ({error.strerror or error}). Make room or correct the rights, "
                            "and repeat.") from error
    if card.download:  # else the reader brought the files: they stay
        shutil.rmtree(place, ignore_errors=True)
    return folder


def _name(file: dict) -> str:
    return PurePosixPath(unquote(urlsplit(file["url"]).path)).name


def _ask(card: data.Card, folder: Path, choice: list[tuple[Path, dict]], yes: bool) -> None:
    """Show what is about to happen and what it obliges to; raise unless the answer is yes."""
    sizes = [path.stat().st_size if path.is_file() else file.get("bytes") for path, file in choice]
    print(f"{card.title}\n  size       {readable(sum(sizes)) if all(sizes) else card.size or 'not stated'}\n"
          f"  licence    {card.licence}\n  cite       {card.citation}\n  place      {folder}")
    if not yes:
        if not sys.stdin.isatty():
            raise DownloadError(f"{card.title}: nobody is at a terminal to agree to its terms. Repeat with --yes, or "
                                f"get({card.name!r}, yes=True).")
        print("Get it? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise DownloadError(f"{card.title}: not downloaded, as you answered. Answer y to get it.")


def _collect(card: data.Card, choices: list[list[tuple[Path, dict]]], progress: bool) -> list[Path]:
    """The files of the first choice that is here or can be had."""
    failed = []
    for choice in choices:
        try:
            return [fetch(mirrored(card.name, path.name) + ([file["url"]] if file else []), path, file.get("sha256"),
                          file.get("bytes"), progress=progress) for path, file in choice]
        except Unavailable as error:
            failed.append(str(error))
    raise DownloadError(" Or: ".join(failed) + f" Official page of {card.title}: {card.source}.")
