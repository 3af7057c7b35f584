"""Where files live, and how they are written so that a killed process leaves nothing half-done."""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
import shutil
import stat
import sys
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from tqdm import tqdm

if TYPE_CHECKING:  # torch takes long to import: it is imported where tensors are read and written
    from torch import Tensor, nn

# tqdm's own lock is shared with forked processes, and even a bar that is not drawn takes it. A
# process that is killed while it holds the lock would leave all others waiting for ever. Here no
# two processes draw one bar.
tqdm.set_lock(threading.RLock())


def expand(path: str | Path) -> Path:
    """A path that a user typed: `~` at its beginning is the home folder, as in a shell."""
    return Path(os.path.expanduser(path))


def cache_dir() -> Path:
    """Folder for all that this kit makes itself: `$IQA_CACHE`, else `~/.cache/seeing-quality`.

    Where nobody knows the home folder it lies among the temporary files, and a warning says so.
    """
    chosen = os.environ.get("IQA_CACHE") or "~/.cache/seeing-quality"
    try:
        return Path(chosen).expanduser()
    except RuntimeError:  # no $HOME, and the system does not know the user either
        folder = Path(tempfile.gettempdir()) / f"seeing-quality-{os.getuid()}"
        warnings.warn(f"{chosen}: no home folder is known, so the cache lies in {folder}. Set "
                      "IQA_CACHE to choose another folder.", stacklevel=2)
        return folder


def data_root() -> Path:
    """Root of all datasets, one folder each: `$IQA_DATA`, else `data` inside the cache.

    Originals are only read.
    """
    chosen = os.environ.get("IQA_DATA")
    return expand(chosen) if chosen else cache_dir() / "data"


def watched() -> bool:
    """Is there somebody who sees a progress bar: a terminal, or a notebook that a person has open?

    Programs that run notebooks, and logs, set `IQA_PROGRESS=off`: a flood of small messages can
    make the client of a kernel lose the one that says that a cell has ended.
    """
    if os.environ.get("IQA_PROGRESS") == "off" or "CI" in os.environ:
        return False
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")  # its output is no terminal, and yet somebody may look at it


def progress(items: Iterable | None = None, what: str = "", show: bool = True, **options) -> tqdm:
    """A progress bar over items, where somebody is watching and it takes more than two seconds.

    Args:
        items: what to go through; None for a bar that is moved by hand (`total=`, then
            `bar.update(n)`).
        what: a word or two in front of the bar.
        show: False draws nothing in any case.
        options: tqdm's own, such as `total` and `unit`.

    >>> sum(progress([1, 2, 3], "adding"))
    6
    """
    return tqdm(items, what, delay=2, mininterval=0.5, disable=not (show and watched()), **options)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Write a whole file or nothing.

    Yields a temporary path in the same folder. It is renamed onto `path` when the block ends well,
    and removed when the block raises. A reader sees the old file or the new one, never a part.

    >>> import tempfile, pathlib
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "note.txt"
    >>> with atomic(target) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept, because many writers choose the format by it.
    temporary = path.with_name(f".{path.stem[:40]}-{secrets.token_hex(8)}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: str | Path, wait: bool = True) -> Iterator[None]:
    """A context in which one process at a time works on `path`.

    The lock is the file `path.lock`; the system frees it if a process dies. Whoever waits for more
    than two seconds says so.

    Args:
        path: what is worked on.
        wait: False does not wait for another process.

    Raises:
        OSError: the lock cannot be made here; `filelock.Timeout`, which is one too: another process
            has it, and `wait` is False.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(path.name + ".lock")
    open(name, "ab").close()  # raises at once where FileLock would try again and again
    lock = FileLock(name, is_singleton=True)  # so that a process never waits for itself
    try:
        lock.acquire(timeout=2 if wait else 0)
    except Timeout:
        if not wait:
            raise
        warnings.warn(f"{path}: another process works on it; waiting until that one is done.",
                      stacklevel=3)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def prepare(folder: str | Path, make: Callable[[Path], object]) -> Path:
    """Return `folder`; if it does not exist, let `make(temporary_folder)` fill it first.

    Two processes may ask at once: the second waits and finds the folder. A killed process leaves
    only a temporary folder, which the next call removes. So a folder that exists is complete.

    Raises:
        ValueError: nothing can be written there.
    """
    folder = Path(folder)
    if folder.is_dir():
        return folder
    temporary = folder.with_name(f".{folder.name}-{secrets.token_hex(8)}")
    try:
        temporary.mkdir(parents=True)
        # another process, which holds the lock, may have removed it as a leftover
        shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise ValueError(f"{folder}: cannot be made ({error.strerror}). Set IQA_CACHE or IQA_DATA "
                         "to a folder that can be written.") from error
    with locked(folder):
        if not folder.is_dir():
            for leftover in folder.parent.glob(f".{folder.name}-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            temporary.mkdir()
            try:
                make(temporary)
                os.replace(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return folder


# What systems leave beside the images of a folder, in lower case. Names that begin with a dot are
# hidden anyway.
_NOT_THE_USERS = {"__macosx", "@eadir", "$recycle.bin", "thumbs.db", "ehthumbs.db", "desktop.ini"}


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _NOT_THE_USERS


def _identity(folder: str) -> tuple[int, int]:
    """What tells a folder from all others, whatever path leads to it."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def file_names(folder: str | Path) -> list[str]:
    """The paths of all files in a folder and below it, from that folder on, with slashes; sorted.

    Hidden files and folders are left out, and what systems leave behind (`._x.jpg`, `__MACOSX`,
    `Thumbs.db`). Folders that are symbolic links are followed, unless they lead back to where the
    search came from. A folder that cannot be read is named in a warning.

    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("b.png", "a/c.txt", ".hidden.png", "__MACOSX/b.png"):
    ...     (folder / name).parent.mkdir(exist_ok=True)
    ...     (folder / name).touch()
    >>> (folder / "a" / "back").symlink_to(folder)
    >>> file_names(folder)
    ['a/c.txt', 'b.png']
    """

    def warn(error: OSError) -> None:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            warnings.warn(f"{error.filename}: this folder cannot be read ({error.strerror}), and "
                          "what it holds is left out.", stacklevel=4)

    top = os.fspath(folder)
    real = Path(os.path.realpath(top))
    # of each folder: itself and all folders that led to it
    on_the_way = {top: {_identity(str(place)) for place in (real, *real.parents) if place.exists()}}
    paths = []
    for place, folders, names in os.walk(top, onerror=warn, followlinks=True):
        came_from = on_the_way.pop(place)
        entered = []
        for name in folders:
            if _is_hidden(name):
                continue
            inside = os.path.join(place, name)
            try:
                identity = _identity(inside)
            except OSError as error:
                warn(error)
                continue
            if identity not in came_from:
                on_the_way[inside] = came_from | {identity}
                entered.append(name)
        folders[:] = entered
        prefix = os.path.relpath(place, top).replace(os.sep, "/") + "/" if place != top else ""
        paths += [prefix + name for name in names if not _is_hidden(name)]
    return sorted(paths, key=lambda path: path.split("/"))


def find_files(folder: str | Path) -> list[Path]:
    """All files in a folder and below it, as `file_names` finds them."""
    return [Path(folder) / name for name in file_names(folder)]


def read_tensors(path: str | Path, method: str = "") -> dict:
    """A file of tensors, plain numbers and texts, without pickled code.

    Args:
        path: the file.
        method: the name of the method that must have saved it; "" for any.

    Raises:
        ValueError: damaged, or anything else.
    """
    import torch

    try:
        if zipfile.is_zipfile(path):  # torch reads changed numbers without a look at their checksum
            with zipfile.ZipFile(path) as archive:
                if archive.testzip():
                    raise ValueError("a checksum is wrong")
        saved = dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # the readers raise many kinds, which all mean the same here
        raise ValueError(f"{path}: cannot be read as weights ({error}). Give a file that holds "
                         "tensors only; copy or make it again.") from error
    if method and saved.get("method") != method:
        content = saved.get("method", "something else")
        raise ValueError(f"{path}: holds no fitted {method} but {content!r}.")
    return saved


def write_tensors(path: str | Path, content: dict) -> None:
    """Write tensors, plain numbers and texts as one file, all of it or nothing.

    Equal contents give equal bytes.
    """
    import torch

    with atomic(path) as temporary:
        with open(temporary, "wb") as file:  # given a name, torch would write it into the file
            torch.save(content, file)


def code_hash(*modules_or_paths: ModuleType | str | Path) -> str:
    """The source code of modules as 12 hex digits, to name what is computed with it.

    Args:
        modules_or_paths: modules, files, or folders of which all `.py` files count.

    >>> from iqa_core import color, images
    >>> len(code_hash(color, images)), code_hash(color) == code_hash(color.__file__)
    (12, True)
    """
    return _code_hash(*(str(getattr(item, "__file__", item)) for item in modules_or_paths))


@functools.cache  # a process computes with the code that it has read once
def _code_hash(*places: str) -> str:
    digest = hashlib.sha256()
    for place in map(Path, places):
        for path in sorted(place.glob("*.py")) if place.is_dir() else [place]:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def stamp(path: str | Path) -> str:
    """Size and time of change of a file, which tell that it was replaced; "" if there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{status.st_size} {status.st_mtime_ns}" if stat.S_ISREG(status.st_mode) else ""


def half(module: nn.Module) -> dict[str, Tensor]:
    """A module's state at half precision, for a small file."""
    return {
        key: value.half() if value.is_floating_point() else value
        for key, value in module.state_dict().items()
    }
