"""The ledger: rows are replaced by key, crashes and two writers lose nothing, and tables are rendered from it."""

import multiprocessing
import os

import pandas as pd
import pytest
import report

from figures import ledger


def rows(method="PSNR", seeds=range(3), **values):
    row = {"variant": "", "dataset": "kodak", "images": 720, "split": "random", "mode": "quick", "srcc": 0.5,
           "plcc": 0.4, "plcc_logistic": 0.45, "krcc": 0.3, "rmse": 0.2, "n": 144, "n_train": 0, "minutes": 0.123456,
           "memory_mb": 100.0, "hardware": "CPU, 2 threads", "version": "0.1.0", "date": "2025-01-01"} | values
    return pd.DataFrame([row | {"method": method, "seed": seed} for seed in seeds])[ledger.COLUMNS]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "figures" / "ledger.csv"


def test_append_and_read_return_what_was_given(path):
    given = rows(variant="NA", srcc=float("nan"), hardware='a "b", c')
    assert ledger.append(given, path) == path
    pd.testing.assert_frame_equal(ledger.read(path), given.assign(minutes=0.1235))


def test_same_key_replaces_and_everything_else_stays(path):
    ledger.append(pd.concat([rows(), rows("SSIM"), rows(mode="smoke"), rows(variant="luma")]), path)
    ledger.append(rows(seeds=[1], srcc=0.75, hardware="GPU"), path)
    found = ledger.read(path)
    assert len(found) == 12 and not found.duplicated(ledger.KEY).any()
    changed = found[found["hardware"] == "GPU"]
    assert changed[["method", "variant", "mode", "seed", "srcc"]].values.tolist() == [["PSNR", "", "quick", 1, 0.75]]


def test_the_file_does_not_depend_on_the_order_of_writing(path, tmp_path):
    parts = [rows("SSIM"), rows("PSNR"), rows(dataset="biq2021")]
    for part in parts:
        ledger.append(part, path)
    for part in reversed(parts):
        ledger.append(part, tmp_path / "other.csv")
    assert path.read_bytes() == (tmp_path / "other.csv").read_bytes()
    before = path.read_bytes()
    ledger.append(parts[0], path)
    assert path.read_bytes() == before


def test_decimals_are_few(path):
    ledger.append(rows(srcc=1 / 3, seeds=[0]), path)
    assert "0.3333," in path.read_text() and "0.33333" not in path.read_text()


@pytest.mark.parametrize("bad, sentence", [
    (rows().drop(columns=["srcc", "n"]), "append: .*missing columns: srcc, n; unknown: none"),
    (rows().assign(SROCC=1), "missing columns: none; unknown: SROCC"),
    (rows().assign(srcc="good"), "column srcc holds something that is no number"),
    (rows().assign(seed=""), "column seed holds something that is no number"),
])
def test_append_refuses_foreign_rows_and_leaves_the_file(path, bad, sentence):
    ledger.append(rows(), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=sentence):
        ledger.append(bad, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage, sentence", [
    (lambda text: text[:-1], "line 4 is cut short"),
    (lambda text: text[:-30] + "\n", "line 4 is cut short"),
    (lambda text: text + "<<<<<<< HEAD\n", "line 5 is cut short"),
    (lambda text: "", "is cut short"),
    (lambda text: "image,score\na.png,1\n", "missing columns: method, .*unknown: image, score"),
    (lambda text: text.replace("0.5,", "O.5,"), "column srcc holds something that is no number"),
])
def test_a_damaged_file_is_refused_and_left_alone(path, damage, sentence):
    ledger.append(rows(), path)
    path.write_text(damage(path.read_text()))
    before = path.read_bytes()
    for use in (lambda: ledger.read(path), lambda: ledger.append(rows("SSIM"), path)):
        with pytest.raises(ValueError, match=sentence) as error:
            use()
        assert str(path) in str(error.value)
    assert path.read_bytes() == before


def test_no_ledger_yet_is_said(path):
    with pytest.raises(FileNotFoundError, match="no ledger yet"):
        ledger.read(path)


def test_default_path_is_the_checkouts(tmp_path, monkeypatch):
    for folder in ("figures", "iqa_core", "notebooks"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert ledger.default_path() == tmp_path / "figures" / "ledger.csv"
    assert ledger.append(rows()) == tmp_path / "figures" / "ledger.csv" and len(ledger.read()) == 3


# ---- Crashes and two writers -------------------------------------------------------------------------------------


def _write_many(path, method):
    for seed in range(8):
        ledger.append(rows(method, seeds=[seed]), path)


def _die_while_writing(path):
    def half_a_file(self, target, **kwargs):
        target.write_text("method,variant\nPS")
        os._exit(9)

    pd.DataFrame.to_csv = half_a_file
    ledger.append(rows("SSIM"), path)


def _run(function, *argument_lists):
    context = multiprocessing.get_context("fork")  # a spawned process would import torch again
    processes = [context.Process(target=function, args=arguments) for arguments in argument_lists]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


needs_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(),
                                reason="this system cannot fork")


@needs_fork
def test_two_writers_at_once_lose_nothing(path):
    assert _run(_write_many, (path, "PSNR"), (path, "SSIM")) == [0, 0]
    assert ledger.read(path).groupby("method").size().to_dict() == {"PSNR": 8, "SSIM": 8}


@needs_fork
def test_a_process_killed_while_it_writes_leaves_the_old_ledger(path):
    ledger.append(rows(), path)
    before = path.read_bytes()
    assert _run(_die_while_writing, (path,)) == [9]
    assert path.read_bytes() == before
    ledger.append(rows("SSIM"), path)  # and it has not kept the lock
    assert len(ledger.read(path)) == 6


def test_a_write_that_fails_leaves_the_old_ledger_and_no_rubbish(path, monkeypatch):
    ledger.append(rows(), path)
    before = sorted(path.parent.iterdir()), path.read_bytes()
    monkeypatch.setattr(pd.DataFrame, "to_csv", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        ledger.append(rows("SSIM"), path)
    assert (sorted(path.parent.iterdir()), path.read_bytes()) == before


# ---- Rendering ---------------------------------------------------------------------------------------------------


def test_leaderboard_takes_the_most_thorough_mode_and_sorts(path):
    ledger.append(pd.concat([
        rows("PSNR", mode="smoke", srcc=0.99), rows("PSNR", mode="quick", srcc=0.5), rows(dataset="biq2021"),
        rows("SSIM", mode="full", srcc=0.6), rows("SSIM", mode="quick", srcc=0.7),
        rows("VIF", mode="smoke", seeds=[0], srcc=0.55)]), path)
    found = ledger.leaderboard(path)
    assert found[["dataset", "method", "mode", "SRCC"]].values.tolist() == [
        ["biq2021", "PSNR", "quick", "0.500 [0.500, 0.500]"], ["kodak", "SSIM", "full", "0.600 [0.600, 0.600]"],
        ["kodak", "VIF", "smoke", "0.550"], ["kodak", "PSNR", "quick", "0.500 [0.500, 0.500]"]]


def test_leaderboard_leaves_out_the_best_epoch_and_shares_of_the_scores(path):
    variants = ["joint: NR", "joint: NR, best epoch", "baseline, 10% of the scores: NR", "best epochs"]
    ledger.append(pd.concat([rows(variant=variant) for variant in variants]), path)
    assert ledger.leaderboard(path)["variant"].tolist() == ["best epochs", "joint: NR"]


def test_leaderboard_takes_the_size_with_most_seeds_then_the_largest_and_no_row_from_another_set(path):
    ledger.append(pd.concat([rows(images=100, srcc=0.9), rows(), rows(seeds=[0], images=1800), rows(variant="NR, from biq2021")]),
                  path)
    assert len(ledger.read(path)) == 10  # the size belongs to the key
    assert ledger.leaderboard(path)[["variant", "SRCC"]].values.tolist() == [["", "0.500 [0.500, 0.500]"]]


def test_leaderboard_shows_the_spread(path):
    ledger.append(pd.concat([rows(seeds=[s], srcc=v) for s, v in enumerate([0.1, 0.2, 0.3, 0.4, 0.9])]), path)
    row = ledger.leaderboard(path).iloc[0]
    assert (row["SRCC"], row["seeds"], row["n"]) == ("0.300 [0.200, 0.400]", 5, 144)


def test_stamp_replaces_only_what_stands_between_the_marks(path, tmp_path):
    ledger.append(rows(), path)
    readme = tmp_path / "README.md"
    readme.write_text("Über\n<!-- ledger:start -->\nold\n<!-- ledger:end -->\nafter\n", "utf-8")
    report.stamp(readme, "ledger", ledger.leaderboard(path))
    table = report.markdown(ledger.leaderboard(path))
    assert readme.read_text("utf-8") == f"Über\n<!-- ledger:start -->\n{table}\n<!-- ledger:end -->\nafter\n"
    assert "| kodak | random | PSNR |" in table and "old" not in readme.read_text("utf-8")
    report.stamp(readme, "ledger", ledger.leaderboard(path))
    assert readme.read_text("utf-8").count(table) == 1


@pytest.mark.parametrize("text", ["no marks", "<!-- ledger:start --> only", "<!-- ledger:end --><!-- ledger:start -->",
                                  "<!-- ledger:start --><!-- ledger:end --><!-- ledger:end -->"])
def test_stamp_says_when_marks_are_missing(path, tmp_path, text):
    ledger.append(rows(), path)
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(ValueError, match="README.md: <!-- ledger:start --> and <!-- ledger:end --> must stand there"):
        report.stamp(tmp_path / "README.md", "ledger", ledger.leaderboard(path))
    assert (tmp_path / "README.md").read_text() == text


def test_markdown_keeps_its_cells_apart():
    frame = pd.DataFrame({"a|b": ["x|y", "two\nlines"], "value": [1 / 3, None], "count": [1, 2]})
    assert report.markdown(frame).splitlines() == [
        "| a\\|b | value | count |", "| --- | ---: | ---: |", "| x\\|y | 0.333 | 1 |", "| two lines |  | 2 |"]


@pytest.mark.parametrize("low, high, margin, verdict", [
    (0.01, 0.03, 0, "holds"), (-0.03, -0.01, 0, "does not hold"), (-0.01, 0.03, 0, "not decided"),
    (-0.01, 0.03, 0.02, "holds"), (-0.03, -0.01, 0.005, "does not hold")])
def test_the_verdict_of_a_claim_follows_from_its_interval(tmp_path, low, high, margin, verdict):
    effect = pd.Series({"difference": (low + high) / 2, "low": low, "high": high, "pairs": 10.0})
    told = [report.claim("a", "X", "text", dataset, "SRCC", effect, "why", margin, tmp_path / "claims.csv")
            for dataset in ("one", "two", "one")]  # the third replaces the first
    assert told == [verdict] * 3
    rows = pd.read_csv(tmp_path / "claims.csv")
    assert rows["dataset"].tolist() == ["one", "two"] and list(rows) == ledger.CLAIM_COLUMNS
    assert rows["verdict"].tolist() == [verdict] * 2 and rows["pairs"].tolist() == [10, 10]
    shown = ledger.claims(tmp_path / "claims.csv")
    assert shown["effect"].tolist() == [f"{(low + high) / 2:+.3f} [{low:+.3f}, {high:+.3f}]"] * 2
