"""Rows on disk: what is written is found again, and what is damaged is computed again."""

import json
import os

import numpy as np
import pytest

from iqa_core.store import RowStore, expect_room


def fill(path, count: int = 3) -> None:
    with RowStore(path) as store:
        for i in range(count):
            store.add(f"row {i}", np.full(4, i))


def forget(path) -> None:
    """As in a new process: the time of change tells that the file is another one."""
    os.utime(path, ns=(1, 1))


def test_rows_are_found_again_and_more_can_follow(tmp_path):
    fill(tmp_path / "a")
    with RowStore(tmp_path / "a") as store:
        assert len(store) == 3 and "row 2" in store and "row 3" not in store
        store.add("row 3", np.full(4, 3))
        assert store.rows(["row 3", "row 0"]).tolist() == [[3] * 4, [0] * 4]
    with RowStore(tmp_path / "a") as store:
        assert store.row("row 3").tolist() == [3] * 4


def test_a_name_that_is_added_again_means_its_latest_row(tmp_path):
    fill(tmp_path / "a")
    with RowStore(tmp_path / "a") as store:
        store.add("row 0", np.full(4, 9))
    with RowStore(tmp_path / "a") as store:
        assert store.row("row 0").tolist() == [9] * 4 and len(store) == 3


@pytest.mark.parametrize("left", [1, 20, 25])
def test_a_process_that_was_killed_leaves_whole_rows(left, tmp_path):
    """Whatever part of the last row or of its name was written."""
    fill(tmp_path / "a")
    names = (tmp_path / "a.names").read_text("utf-8")
    last = names.splitlines(keepends=True)[-1]
    (tmp_path / "a.names").write_text(names[:-len(last)] + last[:left - 1], "utf-8")
    forget(tmp_path / "a.rows")
    with RowStore(tmp_path / "a") as store:
        whole = left - 1 >= len(last)
        assert len(store) == (3 if whole else 2)
        store.add("new", np.full(4, 7))
    with RowStore(tmp_path / "a") as store:
        assert store.row("new").tolist() == [7] * 4 and store.row("row 1").tolist() == [1] * 4


@pytest.mark.parametrize("damage", ["numbers", "short", "names", "type", "header"])
def test_a_damaged_store_is_begun_anew_and_says_so(damage, tmp_path):
    fill(tmp_path / "a")
    numbers, names = tmp_path / "a.rows", tmp_path / "a.names"
    if damage == "numbers":
        content = bytearray(numbers.read_bytes())
        content[7] ^= 1
        numbers.write_bytes(content)
    elif damage == "short":
        numbers.write_bytes(numbers.read_bytes()[:-1])
    elif damage == "names":
        names.write_text(names.read_text("utf-8").replace("row 1", 'row "1'), "utf-8")
    elif damage == "type":
        header = json.dumps({"length": 4, "dtype": "float16"})
        names.write_text("\n".join([header, *names.read_text("utf-8").splitlines()[1:], ""]), "utf-8")
    else:
        names.write_text("no header\n", "utf-8")
    forget(numbers)
    with pytest.warns(UserWarning, match="a: what was computed before is damaged .*computed again"):
        with RowStore(tmp_path / "a") as store:
            assert len(store) == 0
            store.add("row 0", np.full(2, 5))
    with RowStore(tmp_path / "a") as store:
        assert store.row("row 0").tolist() == [5, 5]


def test_where_nothing_can_be_written_the_rows_stay_in_memory(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.warns(UserWarning, match="intermediate results are not kept .*IQA_CACHE"):
        with RowStore(tmp_path / "file" / "a") as store:
            store.add("one", np.full(4, 1))
            store.add("two", np.full(4, 2))
            assert store.rows(["two", "one"]).tolist() == [[2] * 4, [1] * 4]


def test_rows_of_another_length_are_refused(tmp_path):
    fill(tmp_path / "a")
    with RowStore(tmp_path / "a") as store, pytest.raises(ValueError, match="the row of 'x' has 5 numbers, the others have 4"):
        store.add("x", np.zeros(5))


def test_too_little_room_on_the_disk_is_said_before_anything_is_computed(tmp_path):
    with pytest.raises(OSError, match="the maps need 1000000000.0 GB, .*Make room, set IQA_CACHE"):
        expect_room(tmp_path / "not yet there", 10**18, "the maps")
    expect_room(tmp_path, 1, "the maps")
    assert list(tmp_path.iterdir()) == []
