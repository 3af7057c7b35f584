"""Full mode of the notebooks: its cost is measured, and its trainings can be interrupted."""

import dataclasses
import itertools

import pandas as pd
import pytest
import torch

import data_download
from iqa_core import data, evaluate, reiqa_pairs, train, yoto
from lesson import full

SMALL = data.example(count=15, levels=2)
TINY = dataclasses.replace(yoto.SMOKE, encoder="test_efficientnet", weights="random", width=8, crop=32, epochs=3, batch=4)
EXPERT = dataclasses.replace(reiqa_pairs.SMOKE, backbone="test_resnet", weights="random", crop=32, types_per_image=2,
                             queue=24, batch=4, epochs=2)


class Interrupted(Exception):
    pass


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    """Two small sets are here, and nothing of these tests stays."""
    sets = {"small": SMALL, "photographs": data.example(count=6, levels=1)}
    monkeypatch.setenv("IQA_CACHE", str(tmp_path))
    monkeypatch.setattr(data_download, "load", lambda name: sets[name] if name in sets else absent(name))


def absent(name):
    raise data.DatasetError(f"{name}: no such folder")


@pytest.fixture
def as_if_on_a_gpu(monkeypatch):
    monkeypatch.setattr(full, "gpu", lambda: True)


def test_the_first_set_that_is_here_is_taken(capsys):
    assert full.first_here(["absent", "small", "photographs"]) is SMALL
    assert capsys.readouterr().out == "absent is left out: absent: no such folder\n"
    with pytest.raises(data.DatasetError, match="None of absent, gone is here.*get absent"):
        full.first_here(["absent", "gone"])


def test_the_clock_counts_all_steps_but_not_the_warm_up(monkeypatch):
    net = torch.nn.Linear(1, 1)
    batches = lambda step: iter([torch.ones(2, 1)] * (1000 - step))  # noqa: E731
    stage = train.Stage("line", net, lambda x: {"loss": net(x).square().mean()}, batches, 1000, 100,
                        torch.optim.SGD(net.parameters(), lr=0.1), lambda step: 1.0, checkpoint="never.ckpt")
    monkeypatch.setattr(full.time, "perf_counter", itertools.count(0, 2.0).__next__)  # 2 s a step
    monkeypatch.setitem(full.TIMED, train.accelerator().device.type, 8)
    clock = full.Clock(stage)
    assert len(train.fit(stage)) == 8 and stage.checkpoint is None
    assert clock.seconds() == pytest.approx(1000 * 2.0)


def test_a_method_is_measured_and_not_trained_without_a_gpu(capsys, monkeypatch):
    monkeypatch.setattr(full, "gpu", lambda: False)
    assert full.train_method(yoto.YOTO, TINY, sets=["small"]) is None
    said = capsys.readouterr().out
    assert "yoto at the paper's settings, on Dataset('example', 30 images" in said
    assert "whole training will take about" in said and "no GPU here, so nothing is trained" in said
    assert not list(full.folder().iterdir())


def test_a_training_goes_on_and_gives_the_rows_of_the_ledger(as_if_on_a_gpu, monkeypatch):
    wanted = evaluate.run(yoto.YOTO(TINY), SMALL, [0], "full")
    validate = yoto.YOTO._validate
    calls = []

    def interrupted(self, val):
        calls.append(val)
        if len(calls) == 2:
            raise Interrupted
        return validate(self, val)

    with monkeypatch.context() as patch:
        patch.setattr(yoto.YOTO, "_validate", interrupted)
        with pytest.raises(Interrupted):
            full.train_method(yoto.YOTO, TINY, sets=["small"])
    assert [path.suffix for path in full.folder().iterdir()] == [".ckpt"]
    rows = full.train_method(yoto.YOTO, TINY, sets=["small"])
    pd.testing.assert_frame_equal(rows.drop(columns="minutes"), wanted.drop(columns="minutes"))
    [written] = full.folder().glob("*.csv")
    assert list(pd.read_csv(written)["srcc"]) == pytest.approx(list(wanted["srcc"]))
    again = yoto.YOTO.load(next(full.folder().glob("*.weights")))
    assert again.predict(SMALL).shape == (len(SMALL),)


def test_the_expert_adds_up_the_gradients_of_small_batches(as_if_on_a_gpu, monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    with pytest.raises(ValueError, match="at_once=3 does not divide batch=4"):
        full.train_expert(EXPERT, 3, sets=["photographs"])
    path = full.train_expert(EXPERT, 2, sets=["photographs"])
    assert train.run_settings()["accumulation"] == 2
    assert path.is_file() and path.with_suffix(".ckpt").is_file()
