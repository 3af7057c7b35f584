"""Whole files or none, files that are found, and caches that may fail: killed writers, two writers, full disks."""

import errno
import io
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from data_download import layouts
from iqa_core import color, console, data, features, files, images
from iqa_core.store import RowStore


def test_atomic_keeps_the_old_file_when_the_writer_fails(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(RuntimeError), files.atomic(target) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["table.csv"]


def _write_slowly(target):
    with files.atomic(target) as temporary:
        temporary.write_text("half")
        temporary.with_name("started").touch()
        time.sleep(60)


def test_atomic_survives_a_kill(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    writer = multiprocessing.get_context("fork").Process(target=_write_slowly, args=(target,))
    writer.start()
    _wait_for(tmp_path / "started")
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert target.read_text() == "old"


def _fill(folder, started, seconds):
    (folder / "part1").touch()
    started.touch()
    time.sleep(seconds)
    (folder / "part2").touch()
    with (folder.parent / "log").open("a") as log:
        log.write("made\n")


def _prepare(tmp_path, seconds):
    files.prepare(tmp_path / "set", lambda folder: _fill(folder, tmp_path / "started", seconds))


def test_two_processes_prepare_once(tmp_path):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_prepare, args=(tmp_path, 0.5)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path / "log").read_text() == "made\n"
    assert sorted(os.listdir(tmp_path / "set")) == ["part1", "part2"]


def test_a_preparation_survives_another_process_that_cleans_up(tmp_path, monkeypatch):
    """The other one holds the lock, and takes the folder in which this one tries whether it may write for a leftover."""
    whole = Path.mkdir
    removed = []

    def cleaned_up_at_once(path, *how, **more):
        whole(path, *how, **more)
        if path.name.startswith(".set-") and not removed:
            path.rmdir()
            removed.append(path)

    monkeypatch.setattr(Path, "mkdir", cleaned_up_at_once)
    _prepare(tmp_path, 0)
    assert removed and sorted(os.listdir(tmp_path / "set")) == ["part1", "part2"]


def test_a_killed_preparation_leaves_no_folder_and_the_next_one_cleans_up(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_prepare, args=(tmp_path, 60))
    process.start()
    _wait_for(tmp_path / "started")
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (tmp_path / "set").exists()
    _prepare(tmp_path, 0)
    assert sorted(os.listdir(tmp_path / "set")) == ["part1", "part2"]
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".set-")]


def test_places_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("IQA_CACHE", str(tmp_path))
    monkeypatch.delenv("IQA_DATA", raising=False)
    assert files.cache_dir() == tmp_path and files.data_root() == tmp_path / "data"
    monkeypatch.setenv("IQA_DATA", str(tmp_path / "sets"))
    assert files.data_root() == tmp_path / "sets"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IQA_CACHE", "~/my cache")
    monkeypatch.setenv("IQA_DATA", "~/sets")
    assert files.cache_dir() == tmp_path / "my cache" and files.data_root() == tmp_path / "sets"
    monkeypatch.setenv("IQA_CACHE", "")
    monkeypatch.setenv("IQA_DATA", "")
    assert files.cache_dir() == tmp_path / ".cache" / "seeing-quality" and files.data_root() == files.cache_dir() / "data"


def fails(error: Exception):
    def raise_it(*_, **__):
        raise error

    return raise_it


@pytest.mark.parametrize("chosen", [None, "", "~/cache", "~nobody_of_this_name/cache"])
def test_without_a_home_the_cache_lies_among_temporary_files(chosen, tmp_path, monkeypatch):
    monkeypatch.delenv("IQA_DATA", raising=False)
    monkeypatch.delenv("IQA_CACHE", raising=False)
    if chosen is not None:
        monkeypatch.setenv("IQA_CACHE", chosen)
    monkeypatch.delenv("HOME", raising=False)
    import pwd

    monkeypatch.setattr(pwd, "getpwuid", fails(KeyError("uid not found")))
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path))
    with pytest.warns(UserWarning, match="no home folder is known, so the cache lies in"):
        assert files.data_root().is_relative_to(tmp_path)


def _wait_for(path):
    deadline = time.time() + 20
    while not path.exists():
        assert time.time() < deadline
        time.sleep(0.01)


# --- files that are found -------------------------------------------------------------------------


def place(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_hidden_files_and_what_systems_leave_are_left_out(tmp_path):
    place(tmp_path / ".cache", "b/c.png", "a.txt", "z.png", "b/.c.png", "._z.png", ".thumbs/t.png", "__MACOSX/z.png",
          "Thumbs.db", "b/@eaDir/c.png", "desktop.ini", ".DS_Store", "B.png")
    expected = ["B.png", "a.txt", "b/c.png", "z.png"]
    assert files.file_names(tmp_path / ".cache") == expected  # the folder itself may be hidden
    assert files.find_files(tmp_path / ".cache") == [tmp_path / ".cache" / name for name in expected]
    assert layouts.Tree(tmp_path / ".cache").paths == expected
    assert files.find_files(tmp_path / "nowhere") == [] == files.file_names(tmp_path / ".cache" / "z.png")


def test_links_are_followed_and_loops_are_not(tmp_path):
    place(tmp_path, "sets/a/x.png", "sets/b/y.png", "elsewhere/deep/z.png", "outside.png")
    sets = tmp_path / "sets"
    for name, target in {"link": tmp_path / "elsewhere", "file.png": tmp_path / "outside.png", "up": tmp_path, "self": sets,
                         "a/over": sets / "b", "b/over": sets / "a", "root": "/", "gone": "nowhere"}.items():
        (sets / name).symlink_to(target)
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "same").symlink_to(sets)
    expected = ["a/over/y.png", "a/x.png", "b/over/x.png", "b/y.png", "file.png", "gone", "link/deep/z.png"]
    assert files.file_names(sets) == files.file_names(tmp_path / "same") == expected
    assert files.file_names(str(sets) + "/") == layouts.Tree(sets).paths == expected


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    place(tmp_path, "a/x.png", "locked/y.png")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.warns(UserWarning, match="locked: this folder cannot be read .Permission denied."):
        assert files.file_names(tmp_path) == ["a/x.png"]


def test_pristine_sets_hold_every_image_that_pillow_reads(tmp_path):
    place(tmp_path, "a.png", "b.WEBP", "c.tiff", "notes.txt", "below/d.png", "._a.png")
    assert layouts.pristine(tmp_path)["image"].tolist() == ["a.png", "b.WEBP", "c.tiff"]


# --- caches ---------------------------------------------------------------------------------------


def test_code_hash_follows_the_code(tmp_path, monkeypatch):
    for name, text in (("a.py", "x = 1"), ("b.py", "x = 2"), ("c.txt", "x")):
        (tmp_path / name).write_text(text)

    def fresh(*items):
        files._code_hash.cache_clear()  # as in another process
        return files.code_hash(*items)

    before = fresh(tmp_path)
    assert len(before) == 12 and before == fresh(tmp_path / "a.py", tmp_path / "b.py") != fresh(tmp_path / "a.py")
    (tmp_path / "c.txt").write_text("y")
    assert fresh(tmp_path) == before
    (tmp_path / "b.py").write_text("x = 3")
    assert fresh(tmp_path) != before
    assert fresh(color) == fresh(color.__file__) != fresh(images)


def test_rows_come_back_and_a_damaged_store_counts_as_empty(tmp_path):
    path = tmp_path / "rows"
    name = os.fsdecode(b"caf\xe9 \xe2\x98\x83\n")
    with RowStore(path, "float64") as store:
        store.add(name, [0.1, float("nan")])
        store.add("b", [1, 2])
        store.add("b", [3, 4])  # the latest row of a name counts
    with RowStore(path, "float64") as store:
        assert store.row(name)[0] == 0.1 and np.isnan(store.row(name)[1])
        assert store.rows(["b"]).tolist() == [[3, 4]] and len(store) == 2
        with pytest.raises(ValueError, match="the row of 'c' has 3 numbers, the others have 2"):
            store.add("c", [1, 2, 3])
    numbers, names = path.with_name("rows.rows"), path.with_name("rows.names")
    whole = numbers.read_bytes()
    text = names.read_bytes()
    flipped = bytearray(whole)
    flipped[20] ^= 255
    for damaged_numbers in (b"", whole[:-1], bytes(flipped)):
        numbers.write_bytes(damaged_numbers)
        names.write_bytes(text)
        with pytest.warns(UserWarning, match="rows: what was computed before is damaged"):
            with RowStore(path, "float64") as store:
                assert len(store) == 0
    for damaged_names in (b"", b"text\n", b"[]\n", text.replace(b"float64", b"float32")):
        numbers.write_bytes(whole)
        names.write_bytes(damaged_names)
        with pytest.warns(UserWarning, match="damaged"):
            with RowStore(path, "float64") as store:
                assert len(store) == 0


def test_what_a_killed_process_began_to_write_is_cut_off(tmp_path):
    path = tmp_path / "rows"
    with RowStore(path) as store:
        store.add("a", [1, 2])
    with open(tmp_path / "rows.rows", "ab") as file:
        file.write(b"half")
    with open(tmp_path / "rows.names", "a") as file:
        file.write('["b", 1')
    with RowStore(path) as store:
        assert "b" not in store
        store.add("c", [3, 4])
    with RowStore(path) as store:
        assert store.rows(["a", "c"]).tolist() == [[1, 2], [3, 4]]
        store.remove()
    assert os.listdir(tmp_path) == []


def read_only(patch, path):
    patch.setattr(files.Path, "mkdir", fails(PermissionError(errno.EROFS, "Read-only")))
    return path


def no_lock(patch, path):
    patch.setattr(files.FileLock, "acquire", fails(OSError(errno.ENOLCK, "No locks")))
    return path


def full_disk(patch, path):
    patch.setattr(RowStore, "_append", fails(OSError(errno.ENOSPC, "No space")))
    return path


def a_file(patch, path):
    path.parent.touch()
    return path


BROKEN = {
    "no folder": lambda patch, path: Path("/proc/cache/rows"),
    "a file": a_file,
    "read-only": read_only,
    "lock": no_lock,
    "full": full_disk,
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_cache_that_cannot_be_written_gets_one_warning(how, tmp_path, monkeypatch):
    path = BROKEN[how](monkeypatch, tmp_path / "folder" / "rows")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with RowStore(path) as store:
            for i in range(5):
                store.add(str(i), [i, i])
        assert store.rows(["4", "0"]).tolist() == [[4, 4], [0, 0]]
    assert len(caught) == 1 and "intermediate results are not kept" in str(caught[0].message)
    assert "\n" not in str(caught[0].message)


def test_a_read_only_cache_is_still_read(tmp_path, monkeypatch):
    with RowStore(tmp_path / "rows") as store:
        store.add("a", [1, 1])
    no_lock(monkeypatch, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with RowStore(tmp_path / "rows") as store:
            assert store.row("a").tolist() == [1, 1]  # nothing is new, so nothing is lost
            store.remove()  # nor does it remove what is not its own
    assert (tmp_path / "rows.rows").exists()


@pytest.mark.parametrize("how", ["no folder", "full"])
def test_features_are_computed_without_a_cache(how, tmp_path, monkeypatch):
    for i in range(4):
        images.save(tmp_path / f"{i}.png", torch.full((3, 16, 16), i / 4))
    pd.DataFrame({"image": [f"{i}.png" for i in range(4)], "score": [1, 2, 3, 4]}).to_csv(tmp_path / "own.csv")
    dataset = data.from_csv(tmp_path / "own.csv", low=1, high=5)
    path = BROKEN[how](monkeypatch, tmp_path / "cache" / "rows")
    monkeypatch.setenv("IQA_CACHE", str(path.parent))
    with pytest.warns(UserWarning, match="intermediate results are not kept"):
        found = features.pooled(dataset, lambda x: x.mean((2, 3)), "mean")
    assert found[:, 0].tolist() == pytest.approx([0, 0.25, 0.5, 0.75], abs=0.01)


def test_a_set_that_cannot_be_made_is_said(tmp_path):
    with pytest.raises(ValueError, match="/proc/cache/set: cannot be made .*Set IQA_CACHE"):
        files.prepare("/proc/cache/set", lambda folder: None)


def hold(path: Path, seconds: float) -> None:
    with files.locked(path):
        path.with_name("started").touch()
        time.sleep(seconds)


def test_who_waits_for_another_process_says_so_or_does_not_wait(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path / "rows", 5))
    process.start()
    _wait_for(tmp_path / "started")
    with pytest.warns(UserWarning, match="another process is at the same work"):
        with RowStore(tmp_path / "rows", wait=False) as store:
            store.add("a", [1, 1])
    assert not (tmp_path / "rows.rows").exists() and process.is_alive()
    with pytest.warns(UserWarning, match="rows: another process works on it; waiting"):
        with RowStore(tmp_path / "rows") as store:
            store.add("b", [1, 1])
    assert (tmp_path / "rows.rows").exists()
    process.join()


def test_a_lock_does_not_wait_for_itself_nor_for_a_dead_process(tmp_path):
    with files.locked(tmp_path / "a"), files.locked(tmp_path / "a"):
        pass
    process = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path / "a", 60))
    process.start()
    _wait_for(tmp_path / "started")
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with files.locked(tmp_path / "a", wait=False):
        refused = []
        other = threading.Thread(target=lambda: refused.append(is_refused(tmp_path / "a")))
        other.start()
        other.join()
        assert refused == [True]  # another thread of this process waits too


def is_refused(path: Path) -> bool:
    """Is the lock refused?"""
    try:
        with files.locked(path, wait=False):
            return False
    except files.Timeout:
        return True


def test_a_lock_that_cannot_be_made_raises_at_once():
    with pytest.raises(OSError):
        with files.locked("/proc/scores.csv"):
            pass


# --- the console ----------------------------------------------------------------------------------


def test_what_cannot_be_shown_becomes_an_escape(monkeypatch):
    assert console.printable(os.fsdecode(b"caf\xe9\x1b[31m\r\n ")) == "caf\\udce9\\x1b[31m\\r\\n "
    assert console.printable("naïve ☃\u3000") == "naïve ☃\u3000"
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    console.plain_console()
    assert console.show("naïve", os.fsdecode(b"\xe9"))
    assert stream.buffer.getvalue() == b"na\\xefve\n\\udce9\n"


@pytest.mark.parametrize("target, fine", [("pipe", True), ("/dev/full", False)])
def test_printing_goes_on_where_nobody_reads(target, fine, monkeypatch, capsys):
    if target == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
        stream = os.fdopen(writer, "w")
    else:
        stream = open(target, "w")
    monkeypatch.setattr(sys, "stdout", stream)
    assert console.show("a") is fine
    assert console.show("b") is True  # into nothing
    stream.close()
    assert ("cannot be written" in capsys.readouterr().err) is not fine


# --- progress -----------------------------------------------------------------------------------


def _hold_the_lock_of_progress(started):
    files.progress([1]).get_lock().acquire()
    started.touch()
    time.sleep(60)


def _go_through(done):
    for _ in files.progress([1], "counting"):
        done.touch()


def test_a_process_killed_while_it_draws_does_not_hang_the_others(tmp_path):
    list(files.progress([1]))  # the lock is made by the first bar, and processes that are forked later inherit it
    context = multiprocessing.get_context("fork")
    holder = context.Process(target=_hold_the_lock_of_progress, args=(tmp_path / "started",))
    holder.start()
    _wait_for(tmp_path / "started")
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    other = context.Process(target=_go_through, args=(tmp_path / "done",))
    other.start()
    other.join(30)
    hung = other.is_alive()
    other.kill()
    assert not hung and (tmp_path / "done").exists()
