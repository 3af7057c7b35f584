"""Rows of numbers that took long to compute, on disk: memory-mapped, found again by a name."""

import json
import os
import shutil
import warnings
import zlib
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import numpy as np
from filelock import Timeout

from iqa_core.files import locked, stamp

# Files whose checksums this process has looked at, and their size and time of change then.
_checked: dict[Path, str] = {}


class RowStore:
    """A table of rows of equal length that is only ever appended to.

    `NAME.rows` holds the numbers, `NAME.names` a line for each row: its name and its checksum. A
    row is written before its name: so a process that is killed leaves no row that is half there. A
    name that is added again means its latest row. Rows are read through a memory map, so a store may
    be larger than the memory. One process at a time writes. Where nothing can be written (no such
    folder, no permission, a full disk) one warning says so, and the rows stay in memory. Losing a
    store costs time, never a result: a damaged one is begun anew. Checksums are compared when a
    process opens a store for the first time.

    Args:
        path: of both files, without their suffixes.
        dtype: of the numbers.
        wait: for another process that writes; False: go on, and write nothing.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/squares"
    >>> with RowStore(path) as store:
    ...     store.add("three", np.array([3.0, 9.0]))
    >>> with RowStore(path) as store:
    ...     print("three" in store, store.rows(["three"]))
    True [[3. 9.]]
    """

    def __init__(self, path: str | Path, dtype: str = "float32", wait: bool = True):
        self.path = Path(path)
        self.wait = wait
        self.dtype = np.dtype(dtype)
        self.length: int | None = None  # numbers in a row
        self.place: dict[str, int] = {}  # name -> number of its row
        self.memory: list[np.ndarray] = []  # rows that could not be written
        self.lost = ""  # why nothing is written
        self._numbers = self.path.with_name(self.path.name + ".rows")
        self._names = self.path.with_name(self.path.name + ".names")
        self._written = 0  # rows in the file
        self._open = ExitStack()
        self._map: np.ndarray | None = None

    def __enter__(self) -> Self:
        try:
            self._open.enter_context(locked(self.path, self.wait))
        except Timeout:
            self.lost = "another process is at the same work"
        except OSError as error:
            self.lost = error.strerror or str(error)
        self._read_names()
        return self

    def __exit__(self, *_) -> None:
        if not self.lost and self._written:
            _checked[self._numbers] = stamp(self._numbers)
        self._open.close()

    def __contains__(self, name: str) -> bool:
        return name in self.place

    def __len__(self) -> int:
        return len(self.place)

    def add(self, name: str, row: np.ndarray) -> None:
        """Append a row, on disk at once. All rows have the length of the first one."""
        row = np.ascontiguousarray(row, dtype=self.dtype).ravel()
        if self.length is None:
            self.length = len(row)
        if len(row) != self.length:
            raise ValueError(f"{self.path.name}: the row of {name!r} has {len(row)} numbers, the "
                             f"others have {self.length}.")
        if not self.lost:
            try:
                self._append(name, row)
            except OSError as error:
                self.lost = error.strerror or str(error)
        if self.lost:
            if not self.memory:
                warnings.warn(f"{self.path}: intermediate results are not kept ({self.lost}); the "
                              "work goes on without them. IQA_CACHE names another folder for them.",
                              stacklevel=2)
            self.place[name] = self._written + len(self.memory)
            self.memory.append(row)

    def rows(self, names: list[str]) -> np.ndarray:
        """The rows of these names, (N, length), as a copy in memory."""
        return np.stack([self.row(name) for name in names])

    def row(self, name: str) -> np.ndarray:
        """One row, (length,); of what is on disk only the pages of this row are read."""
        place = self.place[name]
        if place >= self._written:
            return self.memory[place - self._written]
        if self._map is None or place >= len(self._map):
            shape = (self._written, self.length)
            self._map = np.memmap(self._numbers, self.dtype, "r", shape=shape)
        return self._map[place]

    def remove(self) -> None:
        """Delete the files: nobody needs them any more."""
        if self.lost:
            return
        self._map = None
        for file in (self._numbers, self._names, self.path.with_name(self.path.name + ".lock")):
            with suppress(OSError):
                file.unlink(missing_ok=True)

    def _append(self, name: str, row: np.ndarray) -> None:
        if not self.place:
            header = json.dumps({"length": self.length, "dtype": self.dtype.name})
            self._names.write_text(header + "\n", "utf-8")
        content = row.tobytes()
        with open(self._numbers, "ab") as file:
            file.write(content)
        with open(self._names, "a", encoding="utf-8") as file:
            file.write(json.dumps([name, zlib.crc32(content)]) + "\n")
        self.place[name] = self._written
        self._written += 1

    def _read_names(self) -> None:
        """What is there; a row without a name, or a name without its end, is cut off."""
        if not os.path.isfile(self._names):
            self._start_anew()
            return
        try:
            text = self._names.read_text("utf-8")
            lines = text[:text.rfind("\n") + 1].splitlines()
            header = json.loads(lines[0])
            if header["dtype"] != self.dtype.name:
                raise ValueError("another type of numbers")
            rows = [json.loads(line) for line in lines[1:]]
            bytes_each = header["length"] * self.dtype.itemsize
            size = self._numbers.stat().st_size
            if size < len(rows) * bytes_each:
                raise ValueError("rows are missing")
            unnamed = size > len(rows) * bytes_each
            if _checked.get(self._numbers) != stamp(self._numbers):
                self._compare_checksums([checksum for _, checksum in rows], bytes_each)
            if not self.lost and (unnamed or not text.endswith("\n")):
                os.truncate(self._numbers, len(rows) * bytes_each)
                self._names.write_text("".join(line + "\n" for line in lines), "utf-8")
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            warnings.warn(f"{self.path}: what was computed before is damaged ({error}); it is "
                          "computed again.", stacklevel=3)
            self._start_anew()
            return
        self.length = header["length"]
        self.place = {name: number for number, (name, _) in enumerate(rows)}
        self._written = len(rows)

    def _compare_checksums(self, checksums: list[int], bytes_each: int) -> None:
        with open(self._numbers, "rb") as file:
            for checksum in checksums:
                if zlib.crc32(file.read(bytes_each)) != checksum:
                    raise ValueError("a checksum is wrong")

    def _start_anew(self) -> None:
        if not self.lost:
            self._numbers.unlink(missing_ok=True)
            self._names.unlink(missing_ok=True)


def expect_room(folder: Path, needed: int, what: str) -> None:
    """OSError, in one sentence, if a folder's disk has not so many bytes left.

    >>> expect_room(Path("."), 10**18, "the maps")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    OSError: the maps need 1000000000.0 GB, and the disk of . has ...
    """
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise OSError(f"{what} need {needed / 1e9:.1f} GB, and the disk of {folder} has "
                      f"{free / 1e9:.1f}. Make room, set IQA_CACHE to a folder on another disk, or "
                      "take fewer images or crops.")
