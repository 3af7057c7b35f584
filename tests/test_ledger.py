"""The ledger: rows are replaced by key, two writers lose nothing, tables are rendered from it."""

import multiprocessing
import os

import numpy as np
import pandas as pd
import pytest

from figures import ledger, report
from iqa_core import data, evaluate
from iqa_core.comparisons import of_differences


def rows(method="PSNR", seeds=range(3), **values):
    row = {"variant": "", "task": "FR", "epoch": "last", "trained_on": "", "hash": "", "repeat": 0,
           "dataset": "kodak", "images": 720, "split": "random", "mode": "quick", "srcc": 0.5,
           "plcc": 0.4, "plcc_logistic": 0.45, "krcc": 0.3, "srcc_within": np.nan, "rmse": 0.2,
           "n": 144, "n_train": 0, "n_part": 0, "minutes": 0.123456, "memory_mb": 100.0,
           "hardware": "CPU, 2 threads", "version": "0.1.0", "date": "2025-01-01"} | values
    return pd.DataFrame([row | {"method": method, "seed": seed} for seed in seeds])[ledger.COLUMNS]


@pytest.fixture
def dataset():
    """20 contents of 4 images."""
    return data.example(count=20, levels=4)


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


@pytest.mark.parametrize("column, value", [
    ("task", "NR"), ("epoch", "best"), ("trained_on", "biq2021"), ("hash", "0badcafe"),
    ("repeat", 1), ("variant", "width=32"), ("images", 100)])
def test_what_differs_in_identity_overwrites_nothing(path, column, value):
    ledger.append(rows(), path)
    ledger.append(rows(srcc=0.9, **{column: value}), path)
    both = ledger.read(path)
    assert len(both) == 6 and (both["srcc"] == 0.5).sum() == 3


def test_rows_of_a_run_are_described_as_they_are_filed(path, dataset):
    class Oracle:
        name = "oracle"

        def predict(self, dataset):
            return dataset.scores + 0.01 * np.arange(len(dataset))

    made = evaluate.run(Oracle(), dataset, seeds=[0, 1], mode="smoke")
    filed = ledger.read(ledger.append(made, path))
    assert filed["hash"].tolist() == made["hash"].tolist()
    assert (filed["memory_mb"] > 10).all() and filed["hardware"].str.contains("threads").all()
    assert filed["version"].str.startswith("0.").all() and (filed["date"] >= "2025-01-01").all()
    assert filed["srcc_within"].between(0.5, 1).all()


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


def test_leaderboard_leaves_out_the_best_epoch_other_sets_and_shares_of_the_labels(path):
    learnt = {"trained_on": "kodak", "n_train": 500, "n_part": 500}
    ledger.append(pd.concat([
        rows(**learnt), rows(variant="best epochs", **learnt), rows(epoch="best", **learnt),
        rows(variant="few", **learnt | {"n_train": 50}),
        rows(variant="elsewhere", **learnt | {"trained_on": "biq2021"})]), path)
    assert ledger.leaderboard(path)["variant"].tolist() == ["", "best epochs"]


def test_leaderboard_keeps_tasks_apart(path):
    ledger.append(pd.concat([rows(task="NR", srcc=0.4), rows(task="FR")]), path)
    assert ledger.leaderboard(path)["task"].tolist() == ["FR", "NR"]


def test_leaderboard_takes_the_size_with_most_seeds_then_the_largest(path):
    ledger.append(pd.concat([rows(images=100, srcc=0.9), rows(), rows(seeds=[0], images=1800)]),
                  path)
    assert len(ledger.read(path)) == 7
    assert ledger.leaderboard(path)["SRCC"].tolist() == ["0.500 [0.500, 0.500]"]


def test_leaderboard_takes_the_latest_of_several_settings_of_one_name(path):
    ledger.append(pd.concat([rows(hash="new", srcc=0.6, date="2025-02-01"), rows(hash="old")]), path)
    assert ledger.leaderboard(path)["SRCC"].tolist() == ["0.600 [0.600, 0.600]"]


def test_leaderboard_keeps_all_splits_of_a_training_that_took_two_days(path):
    ledger.append(pd.concat([rows(seeds=[0, 1], srcc=0.4), rows(seeds=[2], srcc=0.6, date="2025-02-01")]), path)
    found = ledger.leaderboard(path)
    assert found["seeds"].tolist() == [3] and found["SRCC"].tolist() == ["0.400 [0.400, 0.500]"]


def test_leaderboard_counts_splits_and_shows_the_correlation_within_contents(path):
    ledger.append(pd.concat([rows(repeat=repeat) for repeat in range(2)]), path)
    assert "SRCC within" not in ledger.leaderboard(path)
    ledger.append(rows("SSIM", srcc_within=0.25), path)
    board = ledger.leaderboard(path).set_index("method")
    assert board.loc["SSIM", "SRCC within"] == 0.25 and board.loc["PSNR", "seeds"] == 3


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


# ---- claims -------------------------------------------------------------------------------------


def claim(path, name, d, dataset="kodak", paper="YOTO"):
    return report.claim(name, paper, "text", dataset, "SRCC", of_differences(d), "why", path)


CLEAR = [0.02, 0.03, 0.04, 0.03]  # p = 0.005
WEAK = [0.01, 0.05, 0.02, 0.03]  # p = 0.04


@pytest.mark.parametrize("d, verdict", [
    (CLEAR, "holds"), ([-x for x in CLEAR], "reversed"), ([0.05, -0.04, 0.02], "not decided"),
    ([0.001, -0.002, 0.001, 0.0], "makes no difference here")])
def test_the_verdict_of_a_claim_follows_from_its_interval(tmp_path, d, verdict):
    path = tmp_path / "claims.csv"
    assert [claim(path, "a", d, dataset) for dataset in ("one", "two", "one")] == [verdict] * 3
    filed = ledger.read_claims(path)  # the third has replaced the first
    assert filed["dataset"].tolist() == ["one", "two"] and list(filed) == ledger.CLAIM_COLUMNS
    assert filed["verdict"].tolist() == [verdict] * 2 and filed["splits"].tolist() == [len(d)] * 2
    assert filed["effect"].tolist() == pytest.approx([np.mean(d)] * 2, abs=1e-4)
    assert filed["splits_needed"].isna().all() == (verdict != "not decided")
    shown = ledger.claims(path)
    assert shown["verdict"].str.startswith(verdict).all()
    assert shown["effect"].str.startswith(f"{np.mean(d):+.3f} [").all()


def test_secondary_claims_of_a_paper_are_corrected_together_and_the_primary_one_is_not(tmp_path):
    path = tmp_path / "claims.csv"
    name, dataset = report.PRIMARY["YOTO"]
    assert claim(path, name, WEAK, dataset) == "holds"
    assert claim(path, "b", WEAK) == "holds"  # alone, nothing is corrected
    assert claim(path, "c", WEAK) == "not decided"
    assert claim(path, "c", WEAK, paper="other") == "holds"  # replaces c: b stands alone again
    filed = ledger.read_claims(path).set_index("claim")
    assert filed.loc["b", "verdict"] == filed.loc[name, "verdict"] == "holds"
    assert filed["primary"].to_dict() == {"b": "secondary", "c": "secondary", name: "primary"}


def test_a_claim_that_is_not_decided_says_what_it_would_take(tmp_path):
    path = tmp_path / "claims.csv"
    claim(path, "a", [0.05, -0.01, 0.02, 0.0])
    assert ledger.read_claims(path)["splits_needed"].item() > 4
    assert "repetitions would decide it" in ledger.claims(path)["verdict"].item()
    overlapping = of_differences([0.05, -0.04, 0.03, -0.01], overlap=0.3)
    report.claim("a", "YOTO", "text", "kodak", "SRCC", overlapping, path=path)
    assert "more repetitions on these images would not" in ledger.claims(path)["verdict"].item()


def test_the_claims_of_the_kit_are_what_their_numbers_say():
    filed = ledger.read_claims(ledger.default_path().with_name("claims.csv"))
    again = report.judge(filed)
    assert filed["verdict"].tolist() == again["verdict"].tolist()
    primary = filed[filed["primary"] == "primary"].set_index("paper")
    chosen = zip(primary["claim"], primary["dataset"])
    assert dict(zip(primary.index, chosen)) == report.PRIMARY
