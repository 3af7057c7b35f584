"""Unpacking archives from the network: what is broken, cut off or meant to do harm is refused.

The members are written by `zipfile` and by `tarfile` with its filter "data". What these two let
pass is checked here first: `zipfile` drops ".." and a drive without a word and writes links as
files, `tarfile` drops a leading slash, takes a broken header for the end of the archive and does
not read the check sum after the last member, and neither of them knows a limit to what it unpacks.
"""

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
from pathlib import Path, PureWindowsPath

from data_download.fetch import DownloadError, readable
from iqa_core import files

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
BY_HAND = (".rar", ".7z")  # archives that this kit knows and cannot unpack

# An archive that unpacks to more is taken for a bomb.
RATIO = 100  # times its own size, or
SLACK = 100_000_000  # bytes, if that is more
MEMBERS = 2_000_000

BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError,
          EOFError, ValueError)


def is_archive(path: str | Path) -> bool:
    """Is a file an archive, by its name?

    >>> is_archive("LIVE.ZIP"), is_archive("scores.csv")
    (True, False)
    """
    return str(path).lower().endswith(SUFFIXES + BY_HAND)


def unpack(archive: str | Path, folder: str | Path, password: str | None = None,
           progress: bool = True) -> Path:
    """Unpack a zip or tar archive into an existing folder, and nothing outside of it.

    Files and folders are written; no link, device or owner of an archive reaches the disk. What
    was written before an error stays: give a temporary folder, as `files.prepare` does.

    Args:
        archive: `.zip`, `.tar` or a compressed tar.
        folder: where the members go.
        password: of an encrypted zip. None: `$IQA_PASSWORD`, else asked at the terminal.
        progress: a bar that counts files, on stderr.

    Returns:
        `folder`.

    Raises:
        DownloadError: broken, cut off, wrong password, unknown kind, too large, or a member that
            is neither file nor folder or that points out of `folder`. The message names the
            archive and the remedy.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with zipfile.ZipFile(folder / "set.zip", "w") as opened:
    ...     opened.writestr("images/a.txt", "an image")
    >>> (unpack(folder / "set.zip", folder, progress=False) / "images/a.txt").read_text()
    'an image'
    """
    archive = Path(archive)
    folder = Path(folder)
    name = archive.name.lower()
    try:
        if name.endswith(".zip"):
            _unpack_zip(archive, folder, password, progress)
        elif name.endswith(SUFFIXES):
            _unpack_tar(archive, folder, progress)
        else:
            raise NotImplementedError
    except DownloadError:
        raise
    except NotImplementedError as error:  # zipfile's word for a compression that it does not know
        raise DownloadError(f"{archive}: an archive of this kind cannot be unpacked by this kit. "
                            f"Unpack it by hand into {folder}, for example with 7-Zip or "
                            "unar.") from error
    except RuntimeError as error:  # zipfile's word for a password that does not fit
        raise DownloadError(f"{archive}: the password does not fit. Give the one from the "
                            "dataset's form as $IQA_PASSWORD.") from error
    except BROKEN as error:
        raise DownloadError(f"{archive}: broken or cut off ({error}). Remove it, and repeat to get "
                            "it anew.") from error
    except OSError as error:
        raise DownloadError(f"{folder}: {archive.name} cannot be unpacked there "
                            f"({error.strerror}). Make room or correct the rights, and "
                            "repeat.") from error
    return folder


class _Check:
    """Refuses an archive at its first member that may not be written."""

    def __init__(self, archive: Path, folder: Path):
        self.archive = archive
        self.folder = folder
        self.limit = max(SLACK, RATIO * archive.stat().st_size)
        self.free = shutil.disk_usage(folder).free
        self.total = 0  # bytes so far
        self.count = 0  # members so far

    def member(self, name: str, size: int, is_plain: bool) -> None:
        """Raises DownloadError; `is_plain`: the member is a file or a folder."""
        self.total += size
        self.count += 1
        place = PureWindowsPath(name)  # knows both kinds of slash, and drives
        if place.anchor or ".." in place.parts:
            self._refuse(f"its member {name!r} points out of the folder")
        if not is_plain:
            self._refuse(f"its member {name!r} is a link or device")
        if self.total > self.limit:
            self._refuse(f"it unpacks to more than {readable(self.limit)}")
        if self.count > MEMBERS:
            self._refuse(f"it holds more than {MEMBERS:,} files")
        if self.total > self.free:
            raise DownloadError(f"{self.folder}: {self.archive.name} unpacks to more than the "
                                f"{readable(self.free)} that are free. Make room, or set IQA_DATA "
                                "to a folder on a larger disk.")

    def _refuse(self, why: str) -> None:
        raise DownloadError(f"{self.archive}: refused, because {why}. Get the archive from the "
                            "official page.")


def _unpack_zip(archive: Path, folder: Path, password: str | None, progress: bool) -> None:
    check = _Check(archive, folder)
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        for info in members:
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where no Unix system wrote the archive
            is_plain = info.is_dir() or kind in (0, stat.S_IFREG)
            check.member(info.filename, info.file_size, is_plain)
        if any(info.flag_bits & 1 for info in members):
            password = password or _password(archive)
        secret = password.encode() if password else None
        for info in files.progress(members, archive.name, progress, unit=" files"):
            info.filename = info.filename.replace("\\", "/")  # as old programs for Windows write it
            opened.extract(info, folder, secret)


def _password(archive: Path) -> str:
    password = os.environ.get("IQA_PASSWORD")
    if not password and sys.stdin.isatty():
        password = getpass.getpass(f"Password of {archive.name}: ")
    if not password:
        raise DownloadError(f"{archive}: encrypted. Give the password from the dataset's form as "
                            "$IQA_PASSWORD.")
    return password


def _unpack_tar(archive: Path, folder: Path, progress: bool) -> None:
    if not hasattr(tarfile, "data_filter"):  # Python before 3.11.4
        raise NotImplementedError
    check = _Check(archive, folder)

    def checked(member: tarfile.TarInfo, place: str) -> tarfile.TarInfo:
        check.member(member.name, member.size, member.isreg() or member.isdir())
        # No time of change, because a damaged one may not be a time at all.
        member = member.replace(name=member.name.replace("\\", "/"), mtime=None, deep=False)
        return tarfile.data_filter(member, place)

    with tarfile.open(archive) as opened:
        members = files.progress(opened, archive.name, progress, unit=" files")
        opened.extractall(folder, members, filter=checked)
        # tarfile takes a cut or a broken header for the end, which is zeros.
        opened.fileobj.seek(opened.offset)
        if opened.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("its end is missing")
        while opened.fileobj.read(1 << 20):  # to the check sum of the compression
            pass
