"""Checks must fail when they should, and say the same line in every mode when they hold."""

import numpy as np
import pandas as pd
import pytest
import torch

from iqa_core import data
from lesson import check, modes, plot


def test_a_wrong_value_fails_and_a_right_one_prints_no_number(capsys):
    check.close(torch.tensor([1.0, 2.0]), [1.0, 2.0 + 1e-9], "equal")
    assert capsys.readouterr().out == "✓ equal\n"
    with pytest.raises(check.CheckFailed, match="largest gap is 1"):
        check.close([1.0, 2.0], [1.0, 3.0], "equal")
    with pytest.raises(check.CheckFailed, match="shapes are"):
        check.close([1.0], [1.0, 1.0], "equal")
    with pytest.raises(check.CheckFailed, match="It is 0.400, the floor is 0.500"):
        check.at_least(0.4, 0.5, "SRCC")
    with pytest.raises(check.CheckFailed, match="It is nan"):
        check.at_least(float("nan"), 0.5, "SRCC")


def test_same_as_gives_modules_equal_weights_and_sees_a_wrong_one(capsys):
    check.same_as(torch.nn.Linear(3, 2), torch.nn.Linear(3, 2), torch.ones(1, 3))
    assert "Linear gives the same as iqa_core's Linear" in capsys.readouterr().out
    with pytest.raises(check.CheckFailed, match="The largest gap is 1, allowed is 1e-06. Run both"):
        check.same_as(lambda x: x + 1, torch.abs, torch.ones(2))
    with pytest.raises(check.CheckFailed, match="2 outputs against 1"):
        check.same_as(lambda x: (x, x), lambda x: (x,), torch.ones(2))


@pytest.mark.parametrize("expected", ["B 3 H W", "2 3 8 8", "B C H H"])
def test_shapes_that_fit(expected, capsys):
    check.shape(torch.zeros(2, 3, 8, 8), expected)
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize("expected", ["B 1 H W", "B 3 H", "B B H H"])
def test_shapes_that_do_not(expected):
    with pytest.raises(check.CheckFailed, match="It is"):
        check.shape(torch.zeros(2, 3, 8, 8), expected)


def test_an_unknown_mode_is_named(monkeypatch):
    monkeypatch.setenv("IQA_MODE", "fast")
    with pytest.raises(ValueError, match="IQA_MODE='fast' is no mode; set it to one of smoke, quick, full"):
        modes.mode()


def test_every_notebook_has_a_plan_in_every_mode(monkeypatch):
    for mode in modes.MODES:
        monkeypatch.setenv("IQA_MODE", mode)
        for notebook in pd.read_csv(modes.PLANS, dtype=str)["notebook"].unique():
            plan = modes.plan(notebook)
            assert plan.mode == mode and plan.minutes > 0 and str(plan).startswith(f"mode {mode}")
            assert "SRCC" not in str(plan) and "expect" not in str(plan), "a plan says how long it takes, never the result"


def test_the_plans_dataset_is_the_first_that_is_here(monkeypatch, capsys):
    sets = {"b": data.example(count=6), "offline": data.example(count=5)}

    def load(name):
        if name not in sets:
            raise data.DatasetError(f"{name} is missing")
        return sets[name]

    monkeypatch.setattr(modes.data_download, "load", load)
    plan = modes.Plan("quick", ("a", "b"), images=4, seeds=1, minutes=1, memory_gb=1)
    assert len(plan.dataset()) == 4 and capsys.readouterr().out == "a is not here\n"
    del sets["b"]
    assert len(plan.dataset()) == 4
    assert "the offline set, with proxy scores, stands in" in capsys.readouterr().out


def test_pixels_are_shown_as_they_are():
    first, second = torch.rand(2, 3, 5, 7)
    shown = np.asarray(plot.pixels([first, second], columns=1, scale=3))
    eight_bits = (first * 255).round().byte().permute(1, 2, 0).numpy()
    assert shown.shape[1] == 7 * 3
    places = [top for top in range(len(shown) - 14)
              if (shown[top:top + 15] == eight_bits.repeat(3, 0).repeat(3, 1)).all()]
    assert len(places) == 1, "each pixel is a square of 3 x 3, and nothing is smoothed"
