"""Whole files or none: a killed writer, two writers at once."""

import multiprocessing
import os
import signal
import time

import pytest

from iqa_core import files


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


def _wait_for(path):
    deadline = time.time() + 20
    while not path.exists():
        assert time.time() < deadline
        time.sleep(0.01)
