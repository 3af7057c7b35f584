"""Checks must fail when they should, and say the same line in every mode when they hold."""

import pandas as pd
import pytest
import torch

from lesson import check, modes


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
            assert plan.mode == mode and plan.minutes > 0 and plan.expect and str(plan).startswith(f"mode {mode}")
