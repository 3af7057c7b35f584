"""`make reproduce` ends whatever a job does, reports it, and writes into its own folder only."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import data_download
from figures import compare, ledger, report, reproduce, trainings
from iqa_core import data, dri, files

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """`side_by_side` sets the threads of its processes for good; here the setting is put back."""
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))


# Jobs are functions of Python's own library, so that the processes which run them start at once.


def test_jobs_come_back_with_their_results_whatever_the_order():
    assert dict(trainings.side_by_side(abs, [-3, 1, -2], workers=2)) == {-3: 3, 1: 1, -2: 2}
    assert list(trainings.side_by_side(abs, [])) == []


def test_another_process_finds_the_functions_of_figures():
    jobs = [200.0]
    results = trainings.side_by_side(trainings.duration, jobs, fresh=False)
    assert dict(results) == {200.0: "3 min 20 s"}


@pytest.mark.parametrize("function, jobs, error, sentence", [
    (int, ["1", "two", "3"], ValueError, "invalid literal.*'two'"),
    # as the system does when memory is short
    (os._exit, [9, 9, 9], RuntimeError, "a worker process was killed")])
def test_a_job_that_fails_or_is_killed_is_reported_and_nothing_goes_on(
        function, jobs, error, sentence):
    with pytest.raises(error, match=sentence):
        list(trainings.side_by_side(function, jobs, workers=2, fresh=False))


def test_a_job_that_hangs_is_named_while_it_runs_and_given_up_in_time(monkeypatch, capsys):
    monkeypatch.setattr(trainings, "SILENCE", 2.0)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="no job has ended for .*given up: 600$"):
        list(trainings.side_by_side(time.sleep, [600, 0], workers=2, fresh=False, patience=5.0))
    assert time.monotonic() - start < 300
    assert "still running" in capsys.readouterr().out


def test_every_finished_job_prints_one_line_with_what_is_left(capsys):
    done = iter([("a", 1), ("b", 2)])
    results = trainings.announced(done, 2, lambda job, result: f"{job} gave {result}")
    assert list(results) == [("a", 1), ("b", 2)]
    first, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\[1 of 2, about \d+ s left\] a gave 1", first)
    assert last == "[2 of 2] b gave 2"


# --- what a run does -----------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A run of three baselines on few images of the offline set, one of which fails."""
    class Broken:
        name = "brisque"

        def fit(self, train, val=None):
            raise FloatingPointError("something odd")

    build = compare.build

    def built(name, *rest):
        return Broken() if name == "brisque" else build(name, *rest)

    def in_this_process(function, jobs, **_):
        return ((job, function(job)) for job in jobs)

    monkeypatch.setattr(compare, "METHODS", ("psnr", "ssim", "brisque"))
    monkeypatch.setattr(compare, "names", lambda: ["offline"])
    monkeypatch.setattr(compare, "build", built)
    monkeypatch.setattr(trainings, "side_by_side", in_this_process)
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    monkeypatch.setenv("IQA_MODE", "smoke")
    return tmp_path / "build" / "smoke"


def test_a_run_prints_the_tables_draws_the_figures_and_names_what_failed(small, capsys):
    committed = [ROOT / "figures" / "ledger.csv", ROOT / "README.md"]
    before = [path.read_bytes() for path in committed]
    assert reproduce.main([]) == 1
    shown = capsys.readouterr().out
    assert "brisque on offline, splits 0, 1 FAILED: FloatingPointError: something odd" in shown
    assert "these jobs failed:" in shown and "\r" not in shown
    line = r"\[\d of 3.*\] psnr on offline, splits 0, 1 of \d+ images: SRCC FR 0\.\d{3}"
    assert re.search(line, shown)
    for heading in ("This run, mode smoke", "The stored leaderboard", "The papers' claims",
                    "Figures of this run"):
        assert heading in shown
    assert sorted(path.name for path in small.glob("*.*")) == [
        "claims.png", "ledger.csv", "ledger.csv.lock", "results.png"]
    rows = ledger.read(small / "ledger.csv")
    assert set(rows["method"]) == {"psnr", "ssim"} and set(rows["mode"]) == {"smoke"}
    assert before == [path.read_bytes() for path in committed]


def test_a_set_that_is_half_there_is_left_out_with_a_sentence(small, monkeypatch, tmp_path, capsys):
    (tmp_path / "kadid10k").mkdir()
    monkeypatch.setenv("IQA_DATA", str(tmp_path))
    monkeypatch.setattr(compare, "names", lambda: ["kadid10k", "offline"])
    assert list(reproduce.prepare("smoke")) == ["offline"]
    assert "kadid10k is left out: " in capsys.readouterr().out


def test_where_there_are_no_pristine_images_dri_iqa_learns_from_sets_with_references(monkeypatch):
    dataset = data_download.load("offline")
    card = dataclasses.replace(dataset.card, name="x", reference=False)
    photographs = dataclasses.replace(dataset, card=card)
    datasets = {"offline": dataset, "x": photographs}
    monkeypatch.setattr(compare.data_download, "available", lambda: [])
    assert compare.trained(datasets, "dri-iqa", "quick") == [dataset, photographs]
    config = dataclasses.replace(dri.QUICK, parts="")  # trains its own extractor and restorer
    monkeypatch.setitem(compare.DRI_CONFIGS, "quick", config)
    assert compare.trained(datasets, "dri-iqa", "quick") == [dataset]
    monkeypatch.setattr(compare.data_download, "available", lambda: ["cid22"])
    assert compare.trained(datasets, "dri-iqa", "quick") == [dataset, photographs]


def test_a_quick_run_goes_on_from_its_own_ledger(small, monkeypatch):
    monkeypatch.setattr(compare, "METHODS", ("psnr",))
    monkeypatch.setitem(compare.IMAGES, "offline", 40)
    path = small / "own.csv"
    datasets = compare.sets("quick")
    [job] = compare.plan("quick", datasets, path)
    assert job.seeds == [0, 1, 2, 3, 4] and len(datasets["offline"]) == 40
    compare.train(job._replace(seeds=[0, 1]))
    [job] = compare.plan("quick", datasets, path)
    assert job.seeds == [2, 3, 4]
    compare.train(job)
    assert compare.plan("quick", datasets, path) == []


def test_full_mode_without_a_gpu_leaves_the_large_trainings_out(monkeypatch):
    datasets = {"offline": data_download.load("offline")}
    monkeypatch.setattr(compare.torch.cuda, "is_available", lambda: False)
    assert compare.trained(datasets, "yoto", "full") == []
    assert compare.trained(datasets, "brisque", "full")
    monkeypatch.setattr(compare.torch.cuda, "is_available", lambda: True)
    assert len(compare.trained(datasets, "yoto", "full")) == 1


def test_results_are_rendered_by_an_explicit_command(monkeypatch, tmp_path, capsys):
    for name in ("README.md", "figures/RESULTS.md", "figures/ledger.csv", "figures/claims.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    monkeypatch.setattr(reproduce, "FOLDER", tmp_path / "figures")
    monkeypatch.setattr(reproduce, "README", tmp_path / "README.md")
    monkeypatch.setattr(reproduce, "RESULTS", tmp_path / "figures" / "RESULTS.md")
    rows = ledger.read(ROOT / "figures" / "ledger.csv")
    quick = rows[(rows["mode"] == "quick") & (rows["method"] == "psnr")]
    new = quick.tail(1).assign(method="new method")
    ledger.append(new, reproduce.built("quick") / "ledger.csv")
    assert reproduce.main(["results"]) == 0
    written = ledger.read(tmp_path / "figures" / "ledger.csv")
    assert len(written) == len(rows) + 1 and "new method" in set(written["method"])
    assert " new method " in (tmp_path / "figures" / "RESULTS.md").read_text("utf-8")
    assert "1 rows of" in capsys.readouterr().out


def test_the_committed_documents_are_what_the_command_renders(tmp_path):
    tables = [("README.md", "claims", reproduce.main_claims()),
              ("figures/RESULTS.md", "comparison", reproduce.comparison()),
              ("figures/RESULTS.md", "ledger", ledger.leaderboard(ROOT / "figures" / "ledger.csv")),
              ("figures/RESULTS.md", "claims", ledger.claims(ROOT / "figures" / "claims.csv"))]
    for document, name, table in tables:
        copy = tmp_path / "copy.md"
        shutil.copy(ROOT / document, copy)
        report.stamp(copy, name, table)
        committed = (ROOT / document).read_text("utf-8")
        assert copy.read_text("utf-8") == committed, f"{document}, {name}: run make results"


# --- modes and progress --------------------------------------------------------------------------


@pytest.mark.parametrize("target, environment, mode", [
    ("lab", {}, "quick"), ("lab", {"IQA_MODE": "smoke"}, "smoke"),
    ("lab", {"MODE": "full"}, "full"), ("reproduce", {}, "smoke"),
    ("reproduce", {"IQA_MODE": "quick"}, "quick"), ("reproduce", {"MODE": "quick"}, "quick"),
    ("test", {"IQA_MODE": "full", "MODE": "full"}, "smoke")])
def test_the_mode_that_a_command_gives_to_its_programs(target, environment, mode):
    """A reader of a notebook gets what its text describes; a run-through and tests stay small."""
    unwanted = ("IQA_MODE", "MODE", "MAKEFLAGS", "MAKELEVEL")
    clean = {key: value for key, value in os.environ.items() if key not in unwanted}
    database = subprocess.run(["make", "-pn", target], cwd=ROOT, env=clean | environment,
                              capture_output=True, text=True)
    assert re.findall(rf"^{target}: IQA_MODE := (\w+)$", database.stdout, re.M) == [mode]


def test_no_progress_is_drawn_where_nobody_watches(monkeypatch, capsys):
    class Terminal:
        def __init__(self, terminal):
            self.isatty = lambda: terminal
            self.write = len
            self.flush = lambda: None

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("IQA_PROGRESS", raising=False)
    monkeypatch.setattr(sys, "stderr", Terminal(True))
    assert files.watched() and not files.progress([1], "x").disable
    assert files.progress([1], "x", show=False).disable
    monkeypatch.setattr(sys, "stderr", Terminal(False))
    assert not files.watched() and files.progress([1], "x").disable
    monkeypatch.setattr(sys, "stderr", None)  # a program without a console
    assert not files.watched()
    monkeypatch.setattr(sys, "stderr", Terminal(True))
    for name, value in (("IQA_PROGRESS", "off"), ("CI", "true")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert not files.watched()


def test_kernels_of_the_notebook_tests_draw_no_progress():
    text = (ROOT / "notebooks" / "conftest.py").read_text("utf-8")
    assert 'os.environ["IQA_PROGRESS"] = "off"' in text
    assert "--nbval-cell-timeout=300" in (ROOT / "Makefile").read_text("utf-8")


def test_a_table_of_a_run_shows_its_own_rows_only(tmp_path):
    rows = ledger.read(ROOT / "figures" / "ledger.csv")
    quick = rows[(rows["mode"] == "quick") & (rows["dataset"] == "offline")]
    some = quick[quick["method"] == "psnr"].head(2)
    ledger.append(some.assign(mode="smoke", srcc=[0.25, 0.75], images=7), tmp_path / "ledger.csv")
    table = reproduce.comparison(tmp_path / "ledger.csv", "smoke")
    shown = {"SRCC": "PSNR", "offline": "0.500 [0.375, 0.625], 2 splits"}
    assert table.to_dict("records") == [shown]


def test_what_was_trained_on_another_set_is_no_training_on_this_one(monkeypatch):
    rows = ledger.read(ROOT / "figures" / "ledger.csv")
    one = rows[(rows["method"] == "qfm-iqm") & (rows["dataset"] == "biq2021")].head(1)
    other = one.assign(trained_on="tid2013-kodak")
    both = pd.concat([one, other]).assign(images=4, mode="quick")
    monkeypatch.setattr(ledger, "read", lambda: both)
    monkeypatch.setattr(data_download, "load", lambda name: data.example(count=4))
    assert trainings.rows_on("biq2021", 4, "quick")["trained_on"].tolist() == ["biq2021"]
