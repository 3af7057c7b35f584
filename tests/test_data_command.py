"""The command line of the datasets: names in any spelling, tables of any kind, and sentences instead of tracebacks."""

import os
import subprocess
import sys

import pytest
import torch

from data_download import __main__ as command
from data_download import loading
from iqa_core import images


@pytest.fixture
def folder(tmp_path):
    """Eight images that look unlike, with a table."""
    for i in range(8):
        generator = torch.Generator().manual_seed(i)
        images.save(tmp_path / f"p{i}.png", torch.rand(3, 16, 16, generator=generator))
    (tmp_path / "Mine.CSV").write_text("image,score\n" + "".join(f"p{i}.png,{1 + i / 2}\n" for i in range(8)))
    return tmp_path


@pytest.mark.parametrize("name", ["KADID10K", "KADID-10k", "kadid 10k", "kadid_10k", "kadid10k"])
def test_info_takes_every_spelling(name, capsys):
    assert command.main(["info", name]) == 0
    assert capsys.readouterr().out.startswith("KADID-10k: 81 references")


@pytest.mark.parametrize("arguments", [["info", "kadid"], ["check", "kadid"], ["get", "kadid"], ["make", "kadid"]])
def test_an_unknown_name_gets_the_nearest_in_every_command(arguments, capsys):
    assert command.main(arguments) == 2
    seen = capsys.readouterr()
    assert seen.out == "" and "'kadid' is not a known dataset. Did you mean kadid10k?" in seen.err


def test_without_arguments_and_with_help_examples_are_shown(capsys):
    assert command.main([]) == 2
    assert "python -m data_download check scores.csv --low 1 --high 5" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    assert "python -m data_download get kadid10k" in capsys.readouterr().out


def test_a_table_is_checked_whatever_its_suffix(folder, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    for name in (folder / "Mine.CSV", "~/Mine.CSV"):
        assert command.main(["check", str(name), "--low", "1", "--high", "5"]) == 0
        assert "clean, no fault found" in capsys.readouterr().out
    (folder / "table").write_text((folder / "Mine.CSV").read_text())
    assert command.main(["check", str(folder / "table")]) == 0


def test_the_scale_reaches_the_report(folder, capsys):
    assert command.main(["check", str(folder / "Mine.CSV"), "--low", "0", "--high", "9", "--lower-better"]) == 0
    seen = capsys.readouterr().out
    assert "0 |" in seen and "| 9, lower is better" in seen


@pytest.mark.parametrize("arguments, sentence", [
    (["check", "offline", "--low", "1"], "offline: its card says the scale of its scores. --low"),
    (["check", "{folder}/absent.tsv"], "absent.tsv: no such file"),
    (["check", "{folder}"], "is no table and no name of a dataset"),
    (["make", "kadid10k"], "KADID-10k is not made here; what is made: offline, tid2013-kodak"),
    (["get", "own"], "own: this card describes tables of your own"),
    (["check", "own"], "own: this card describes tables of your own"),
    (["check", "{folder}/Mine.CSV", "--low", "5", "--high", "1"], "low=5 is not below high=1"),
])
def test_what_cannot_be_done_is_one_sentence(folder, capsys, arguments, sentence):
    assert command.main([argument.format(folder=folder) for argument in arguments]) == 2
    seen = capsys.readouterr()
    assert seen.out == "" and sentence in seen.err and len(seen.err.splitlines()) == 1


def test_a_faulty_table_ends_with_1_and_every_fault(folder, capsys):
    text = (folder / "Mine.CSV").read_text()
    lines = [line + ("\r\n" if not i else ",Test,high\n") for i, line in enumerate(text.splitlines())]
    lines[0] = "image,score,split,level\n"
    lines[3] = lines[3].replace("Test", "tets")
    (folder / "bad.csv").write_text("".join(lines) + ",3,,\np0.png,2,,\np1.png,x,,\n")
    assert command.main(["check", str(folder / "bad.csv")]) == 1
    seen = capsys.readouterr().out
    for kind in ("split word", "level", "name", "no score", "repeated"):
        assert f"FAULT {kind}: bad.csv" in seen


def test_a_console_that_shows_little_and_a_reader_who_stops(folder):
    run = [sys.executable, "-m", "data_download"]
    environment = {"PYTHONIOENCODING": "ascii", "CI": "1"}
    checked = subprocess.run([*run, "check", folder / "Mine.CSV"], capture_output=True, text=True,
                             env={**os.environ, **environment})
    assert checked.returncode == 0 and "\\u2588" in checked.stdout and "Traceback" not in checked.stderr
    listed = subprocess.Popen([*run, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    listed.stdout.close()
    assert listed.stderr.read() == b"" and listed.wait() == 0


def test_warnings_are_sentences_without_a_place_in_the_code(folder, capsys):
    (folder / "t.csv").write_text("image,score,split\n" + "".join(f"p{i}.png,{i},{i % 2}\n" for i in range(8)))
    command.main(["check", str(folder / "t.csv")])
    seen = capsys.readouterr().err
    assert seen.startswith("t.csv: column 'split' holds 1, but no 2") and "UserWarning" not in seen


def test_stopping_is_a_sentence(monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt
    monkeypatch.setattr(loading, "inspect", stop)
    assert command.main(["check", "offline"]) == 130
    assert capsys.readouterr().err.strip() == "Stopped. The same command starts again."
