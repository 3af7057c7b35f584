"""Full mode in small: every code path of a paper's training, killed and resumed, in processes of its own.

YOTO and QFM-IQM go the way of DRI-IQA's last stage; `python -m figures.rehearse --small` takes all four.
"""

import pytest

from figures import rehearse


@pytest.mark.parametrize("method", ["re-iqa", "dri-iqa"])
def test_a_rehearsal_goes_through_and_resumes_to_the_same_losses(method, tmp_path):
    said = []
    line = rehearse.rehearse(method, True, tmp_path, said.append)
    stages = 3 if method == "dri-iqa" else 1
    assert said[0] == f"{method}: whole, {stages} stages"
    assert len([text for text in said if text.endswith("came back with the same losses")]) == stages
    assert said[-1] == f"{method}: two processes"
    assert line["whole training, PFLOP"] > 0 and line["memory here, GB"] > 0.1


def test_other_losses_after_a_kill_are_noticed(tmp_path, monkeypatch):
    whole = {"stages": [{"name": "a stage", "losses": [3.0, 2.0]}]}
    back = iter([whole, {}, {"stages": [{"losses": [2.5]}]}])
    monkeypatch.setattr(rehearse, "started", lambda *_, **__: next(back))
    monkeypatch.setattr(rehearse, "imitate", lambda *_: None)
    with pytest.raises(RuntimeError, match=r"yoto: killed in a stage, it came back with other losses: \[2.5\], not"):
        rehearse.rehearse("yoto", True, tmp_path, print)


def test_a_run_that_was_not_killed_is_noticed(tmp_path, monkeypatch):
    whole = {"stages": [{"name": "a stage", "losses": [3.0, 2.0]}]}
    back = iter([whole, whole, {"stages": [{"losses": [2.0]}]}])
    monkeypatch.setattr(rehearse, "started", lambda *_, **__: next(back))
    monkeypatch.setattr(rehearse, "imitate", lambda *_: None)
    with pytest.raises(RuntimeError, match="yoto: killed in a stage"):
        rehearse.rehearse("yoto", True, tmp_path, print)
