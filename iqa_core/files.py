"""Where files live, and how they are written so that a killed process leaves nothing half-done."""

import functools
import hashlib
import os
import pickle
import secrets
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from time import monotonic
from types import ModuleType

import torch
from filelock import FileLock
from torch import nn
from tqdm import tqdm


def cache_dir() -> Path:
    """Folder for everything that this kit makes itself: `$IQA_CACHE`, else `~/.cache/seeing-quality`."""
    return Path(os.environ.get("IQA_CACHE") or Path.home() / ".cache" / "seeing-quality")


def data_root() -> Path:
    """Root of all datasets, one folder each: `$IQA_DATA`, else `data` inside the cache. Originals are only read."""
    return Path(os.environ.get("IQA_DATA") or cache_dir() / "data")


def watched() -> bool:
    """Is there somebody who sees a progress bar: a terminal, or a notebook that a person has open?

    Programs that run notebooks, and logs, set `IQA_PROGRESS=off`: a flood of small messages can make the client of a
    kernel lose the one that says that a cell has ended.
    """
    if os.environ.get("IQA_PROGRESS") == "off" or "CI" in os.environ:
        return False
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")  # a kernel's output is no terminal, and yet somebody may look at it


def progress(items: Iterable | None = None, what: str = "", show: bool = True, **options) -> tqdm:
    """A progress bar over items, where somebody is watching and it takes more than two seconds.

    Args:
        items: what to go through; None for a bar that is moved by hand (`total=`, then `bar.update(n)`).
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

    Yields a temporary path in the same folder. It is renamed onto `path` when the block ends well, and removed
    when the block raises. A reader sees the old file or the new one, never a part.

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


def locked(path: str | Path) -> FileLock:
    """A context in which one process at a time works on `path`.

    The lock is `path.lock`; the system frees it if a process dies.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(path.name + ".lock"))


def prepare(folder: str | Path, make: Callable[[Path], object]) -> Path:
    """Return `folder`; if it does not exist, let `make(temporary_folder)` fill it first.

    Two processes may ask at once: the second waits and finds the folder. A killed process leaves only a
    temporary folder, which the next call removes. So a folder that exists is complete.
    """
    folder = Path(folder)
    if folder.is_dir():
        return folder
    with locked(folder):
        if not folder.is_dir():
            for leftover in folder.parent.glob(f".{folder.name}-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            temporary = folder.with_name(f".{folder.name}-{secrets.token_hex(8)}")
            temporary.mkdir()
            try:
                make(temporary)
                os.replace(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return folder


def read_tensors(path: str | Path, method: str = "") -> dict:
    """A file of tensors, plain numbers and texts, without pickled code; what `method` saved, if it is named.

    Raises:
        ValueError: damaged, or anything else.
    """
    try:
        saved = dict(torch.load(path, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as weights ({error}). Give a file that holds tensors only; copy "
                         "or make it again.") from error
    if method and saved.get("method") != method:
        raise ValueError(f"{path}: holds no fitted {method} but {saved.get('method', 'something else')!r}.")
    return saved


def write_tensors(path: str | Path, content: dict) -> None:
    """Write tensors, plain numbers and texts as one file, all of it or nothing. Equal contents give equal bytes."""
    with atomic(path) as temporary, open(temporary, "wb") as file:  # given a name, torch would write it into the file
        torch.save(content, file)


def code_hash(*modules_or_paths: ModuleType | str | Path) -> str:
    """The source code of modules as 12 hex digits: another code gives another name to what it computes.

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
    return f"{os.path.getsize(path)} {os.stat(path).st_mtime_ns}" if os.path.isfile(path) else ""


class Kept(dict, AbstractContextManager):
    """A dict of names and rows (tensors or lists, all of one length) that fills a file, every minute and at the end.

    So what took long to compute is there when a process was killed. A damaged file counts as empty, with one sentence.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/rows.pt"
    >>> with Kept(path) as rows:
    ...     rows["a"] = torch.ones(2)
    >>> Kept(path)
    {'a': tensor([1., 1.])}
    """

    def __init__(self, path: str | Path):
        self.path, self.due = path, monotonic() + 60
        try:
            saved = read_tensors(path) if os.path.isfile(path) else {"names": [], "rows": []}
            super().__init__(zip(saved["names"], saved["rows"], strict=True))
        except (ValueError, KeyError) as error:
            warnings.warn(f"{path}: what was computed before is damaged ({error}); it is computed again.", stacklevel=3)

    def __setitem__(self, name: str, row: torch.Tensor) -> None:
        super().__setitem__(name, row)
        if monotonic() > self.due:
            self.__exit__()
            self.due = monotonic() + 60

    def __exit__(self, *_) -> None:
        if self:
            write_tensors(self.path, {"names": [*self], "rows": torch.stack([*map(torch.as_tensor, self.values())])})


def half(module: nn.Module) -> dict[str, torch.Tensor]:
    """A module's state at half precision, for a small file."""
    return {key: value.half() if value.is_floating_point() else value for key, value in module.state_dict().items()}
