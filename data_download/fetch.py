"""One file from the network: resumed after a cut or a kill, checked before it replaces an older
one.

Own code on `requests`, because no library that is at hand resumes: `pooch` begins every file anew,
and `huggingface_hub` resumes from its own server only. HTTP ranges: RFC 9110, sections 13.1.5 and
14.

A part of a file is continued by the URL that began it and by no other, so two mirrors never mix. It
is continued only if a change of the file would be seen: by the server's ETag or date (If-Range), or
by a known SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from data_download.tables import DatasetError
from iqa_core import files

PATIENCE = 5  # seconds that a server has to open a connection
STALL = 30  # seconds without a byte after which a connection counts as cut
TRIES = 8  # times that one URL is asked, as long as it delivers
PAUSE = 0.5  # seconds before the second try; longer before each further one
CHUNK = 1 << 14  # bytes; a cut loses less than this
BUSY = (429, 500, 502, 503, 504)  # HTTP answers that may pass


class DownloadError(DatasetError):
    """A file cannot be had or unpacked. The message says what was tried, why it failed, and what to
    do."""


class Unavailable(DownloadError):
    """No source delivered the file; `why` lists the sources, each with its reason."""

    def __init__(self, path: Path, why: str):
        super().__init__(
            f"{path.name} could not be downloaded ({why}). Bring the file, place it as {path}, and "
            "repeat."
        )
        self.why = why


class _Again(Exception):
    """The same URL deserves another try."""


def fetch(
    urls: list[str],
    path: str | Path,
    sha256: str | None = None,
    size: int | None = None,
    verify: Callable[[Path], object] | None = None,
    progress: bool = True,
) -> Path:
    """One file, from the first URL that delivers it; a file that is there and right is not fetched
    again.

    Bytes arrive in `path.part`, which survives a cut or a kill and is continued by the next try.
    Only a part that passes every check replaces `path`. Two processes at once: the second waits and
    finds the file.

    Args:
        urls: in order of preference. What has no `://` is a file on this machine and is copied.
        path: where the file shall lie.
        sha256: of the whole file, hexadecimal. size: in bytes. None: not known.
        verify: called with the path of the part; raises if the content is wrong.
        progress: a bar with rate and time left, on stderr.

    Returns:
        `path`.

    Raises:
        Unavailable: no URL delivered the right file.
        DownloadError: the disk is full or cannot be written.

    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "scores.csv"
    >>> _ = source.write_text("image,score")
    >>> fetch([str(source)], source.with_name("copy.csv"), size=11, progress=False).read_text()
    'image,score'
    """
    path = Path(path)
    why = []
    part = path.with_name(path.name + ".part")
    try:
        with files.locked(path):
            if path.is_file():
                reason = _wrong(path, sha256, size, verify)
                if not reason:
                    return path
                why.append(f"the file that is there: {reason}")
            for url in urls:
                reason = _deliver(url, part, sha256, size, verify, progress)
                if not reason:
                    os.replace(part, path)
                    _note(part).unlink(missing_ok=True)
                    return path
                why.append(f"{url}: {reason}")
    except OSError as error:
        raise DownloadError(
            f"{part}: cannot be written ({error.strerror or error}). Make room or correct the "
            "rights, and repeat; what has arrived is kept."
        ) from error
    raise Unavailable(path, "; ".join(why) or "no source is known")


def _deliver(
    url: str,
    part: Path,
    sha256: str | None,
    size: int | None,
    verify: Callable[[Path], object] | None,
    progress: bool,
) -> str:
    """Ask one URL until `part` is whole and right; returns "" then, else why this URL is given
    up."""
    reason = ""
    for attempt in range(TRIES):
        time.sleep(PAUSE * attempt)
        try:
            continued = _transfer(url, part, sha256, size, progress)
        except _Again as error:
            reason = str(error)
            continue
        except requests.RequestException as error:
            reason = _short(error)
            if attempt and isinstance(error, (requests.ConnectionError, requests.Timeout)):
                continue  # it delivered a moment ago: the network is away, not the file
            return reason
        reason = _wrong(part, sha256, size, verify)
        if not reason:
            return ""
        _drop(part)
        if not continued:
            return reason
    return reason


def _note(part: Path) -> Path:
    """Beside a part: the URL that began it and, in the second line, the ETag or date of the file
    there."""
    return part.with_name(part.name + ".from")


def _drop(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _transfer(url: str, part: Path, sha256: str | None, size: int | None, progress: bool) -> bool:
    """Bring `part` to its full length with one request; True if it was continued, not begun.

    Raises:
        _Again: worth another try at once.
        requests.RequestException: not worth it.
        OSError: the disk.
    """
    if "://" not in url:
        source = Path(url).expanduser()
        if not source.is_file():
            raise requests.RequestException("no such file")
        _drop(part)
        shutil.copyfile(source, part)
        return False
    if not answers(url):
        raise requests.ConnectTimeout
    start, stamp = _begun(url, part, sha256)
    wanted = {"Accept-Encoding": "identity"}
    if start:
        wanted["Range"] = f"bytes={start}-"
    if stamp:
        wanted["If-Range"] = stamp
    with requests.get(url, headers=wanted, stream=True, timeout=(PATIENCE, STALL)) as answer:
        if answer.status_code in BUSY:
            raise _Again(f"HTTP {answer.status_code}")
        if start:
            if _is_whole(answer, start, stamp):
                return True
            if _is_another_file(answer, start, stamp):
                _drop(part)
                raise _Again("the file changed there")
        answer.raise_for_status()
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise requests.RequestException("a web page came instead of the file")
        continued = start > 0 and answer.status_code == 206
        if not continued:
            start = 0
        # A compressed answer counts other bytes than arrive.
        is_plain = answer.headers.get("Content-Encoding", "identity") == "identity"
        total = None
        if is_plain and "Content-Length" in answer.headers:
            total = start + int(answer.headers["Content-Length"])
        if size and total and total != size:
            raise requests.RequestException(f"{total:,} bytes instead of {size:,}")
        _expect_room(part, (total or size or 0) - start)
        if not continued:
            _drop(part)
            _note(part).write_text(f"{url}\n{_stamp(answer)}" if is_plain else "")
        _append(answer, part, start, total, size, progress)
    return continued


def _begun(url: str, part: Path, sha256: str | None) -> tuple[int, str]:
    """How many bytes of a part this URL may continue, and the stamp of the file that they are of.

    (0, "") where another URL began the part, or where nobody would see that the file has changed.
    """
    if not (part.is_file() and _note(part).is_file()):
        return 0, ""
    begun_by, _, stamp = _note(part).read_text().partition("\n")
    if begun_by != url or not (stamp or sha256):
        return 0, ""
    start = part.stat().st_size
    return start, stamp if start else ""


def _has_changed(answer: requests.Response, stamp: str) -> bool:
    """Is the file another one by now? A server may know Range and not If-Range."""
    return bool(stamp) and _stamp(answer) not in ("", stamp)


def _is_whole(answer: requests.Response, start: int, stamp: str) -> bool:
    """Is the part the whole file? So it is after a kill between the last byte and the check."""
    span = answer.headers.get("Content-Range", "")
    is_at_end = answer.status_code == 416 and span == f"bytes */{start}"
    return is_at_end and not _has_changed(answer, stamp)


def _is_another_file(answer: requests.Response, start: int, stamp: str) -> bool:
    """Does the answer not continue the part?"""
    if answer.status_code == 416:
        return True
    if answer.status_code != 206:
        return False  # the whole file comes
    span = answer.headers.get("Content-Range", "")
    return _has_changed(answer, stamp) or not span.startswith(f"bytes {start}-")


def _expect_room(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise DownloadError(
            f"{part.parent}: {part.stem} needs {readable(needed)} more, and {readable(free)} are "
            "free. Make room, or set IQA_CACHE to a folder on a larger disk."
        )


def _append(answer: requests.Response, part: Path, start: int, total: int | None,
            size: int | None, progress: bool) -> None:
    """Write what arrives behind what is there.

    Raises:
        _Again: the connection was cut.
    """
    bar = tqdm(total=total or size, initial=start, unit="B", unit_scale=True, desc=part.stem,
               disable=None if progress else True)
    with part.open("ab") as out, bar:
        try:
            for chunk in answer.iter_content(CHUNK):
                out.write(chunk)
                bar.update(len(chunk))
        except requests.RequestException as error:
            raise _Again(f"cut off after {out.tell():,} bytes") from error
        if total and out.tell() < total:  # an old urllib3 takes a cut for the end
            raise _Again(f"cut off after {out.tell():,} bytes")


def answers(url: str) -> bool:
    """True if the server of `url` opens a connection within `PATIENCE` seconds.

    A request's own limit counts for one address at a time and not for the look-up of names, so a
    machine behind a silent firewall could wait a minute. A thread that is waited for once bounds
    it.
    """
    if requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)):
        return True  # there the proxy looks names up
    parts = urlsplit(url)
    opened = threading.Event()

    def knock() -> None:
        with suppress(OSError, UnicodeError):
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname, port), PATIENCE).close()
            opened.set()

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return opened.is_set()


def _stamp(answer: requests.Response) -> str:
    """What tells one version of a file from the next: a strong ETag, else the date."""
    etag = answer.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _wrong(
    path: Path, sha256: str | None, size: int | None, verify: Callable[[Path], object] | None
) -> str:
    """Why this is not the wanted file; "" if nothing speaks against it."""
    if size and path.stat().st_size != size:
        return f"{path.stat().st_size:,} bytes instead of {size:,}"
    if sha256:
        with path.open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != sha256.lower():
                return "another SHA-256 than published"
    try:
        if verify:
            verify(path)
    except Exception as error:  # whatever a reader of the content raises means the same here
        return str(error).rstrip(".") or type(error).__name__
    return ""


def _short(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"HTTP {error.response.status_code}"
    if type(error) is requests.RequestException:  # a sentence of this file
        return str(error)
    return "no answer" if isinstance(error, requests.Timeout) else type(error).__name__


def readable(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def downloads(name: str) -> Path:
    """Where the files of a dataset lie between download and unpacking, and where a reader may place
    them."""
    return files.cache_dir() / "downloads" / name


def mirrored(name: str, file: str) -> list[str]:
    """The place of a file below `$IQA_MIRROR`; an empty list if that is not set."""
    base = os.environ.get("IQA_MIRROR")
    return [f"{base.rstrip('/')}/{name}/{file}"] if base else []
