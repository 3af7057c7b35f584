"""Archives that are evil, and datasets that appear whole or not at all: killed, starved of disk, two at once."""

from __future__ import annotations

import base64
import hashlib
import io
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tarfile
import time
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from data_download import loading, registry
from data_download.archives import unpack
from data_download.fetch import DownloadError
from data_download.get import get
from data_download.made import kodak
from iqa_core import data, files
from loopback import BODY, K, Page, site  # noqa: F401, the fixture `site` is used by name

processes = multiprocessing.get_context("forkserver")  # children start in milliseconds, without this one's threads
processes.set_forkserver_preload(["data_download.get", __name__])

# Archives

def zipped(*members, **options) -> bytes:
    """A zip of (name, content) pairs; a name may be a ZipInfo."""
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", **options) as opened:
        for name, content in members:
            opened.writestr(name, content)
    return buffer.getvalue()


def tarred(*members, mode="w") -> bytes:
    """A tar of (name, content) pairs; content may be a dict of TarInfo fields."""
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode=mode) as opened:
        for name, content in members:
            info = tarfile.TarInfo(name)
            special = content if isinstance(content, dict) else {"size": len(content)}
            for key, value in special.items():
                setattr(info, key, value)
            opened.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else io.BytesIO(bytes(info.size)))
    return buffer.getvalue()


def linked(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


GOOD = ("images/a.txt", b"a picture")
PLAIN = tarred(GOOD, ("b.txt", BODY[:3000]))
EVIL = {
    "climbs.zip": (zipped(GOOD, ("../evil.txt", b"x")), "points out"),
    "climbs.tar": (tarred(GOOD, ("images/../../evil.txt", b"x")), "points out"),
    "root.zip": (zipped(GOOD, ("/evil.txt", b"x")), "points out"),
    "root.tar": (tarred(GOOD, ("/evil.txt", b"x")), "points out"),
    "drive.zip": (zipped(GOOD, ("C:\\evil.txt", b"x")), "points out"),
    "slash.zip": (zipped(GOOD, ("..\\evil.txt", b"x")), "points out"),
    "link.zip": (zipped(GOOD, (linked("way"), b"/etc")), "is a link"),
    "link.tar": (tarred(GOOD, ("way", {"type": tarfile.SYMTYPE, "linkname": "/etc"})), "is a link"),
    "hard.tgz": (tarred(GOOD, ("way", {"type": tarfile.LNKTYPE, "linkname": GOOD[0]}), mode="w:gz"), "is a link"),
    "device.tar": (tarred(GOOD, ("null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})), "device"),
    "bomb.zip": (zipped(GOOD, ("zeros", bytes(2_000_000)), compression=zipfile.ZIP_DEFLATED), "unpacks to more than 1"),
    "bomb.tar.gz": (tarred(GOOD, ("zeros", {"size": 2_000_000}), mode="w:gz"), "unpacks to more than 1"),
    "many.zip": (zipped(*((f"{i}.txt", b"") for i in range(100))), "more than 50 files"),
    "cut.zip": (zipped(GOOD, ("b.txt", BODY))[:-30], "broken or cut"),
    "cut.tgz": (tarred(GOOD, ("b.txt", BODY), mode="w:gz")[:-9000], "broken or cut"),
    "cut.tar": (PLAIN[:1024 + 512 + 2000], "broken or cut"),
    "between.tar": (PLAIN[:1024], "broken or cut"),  # exactly between two members: tarfile sees no fault
    "header.tar": (PLAIN[:1024] + b"?" + PLAIN[1025:], "broken or cut"),
    "sum.tgz": (tarred(GOOD, mode="w:gz")[:-8] + bytes(8), "broken or cut"),  # the check sum at its end
    "noise.zip": (BODY, "broken or cut"), "noise.tar": (BODY, "broken or cut"),
    "empty.zip": (b"", "broken or cut"), "empty.tar.gz": (b"", "broken or cut"),
    "other.rar": (b"Rar!", "cannot be unpacked by this kit. Unpack it by hand into"),
}


@pytest.mark.parametrize("name", EVIL)
def test_an_evil_archive_is_refused_and_nothing_is_left(tmp_path, monkeypatch, name):
    monkeypatch.setattr("data_download.archives.SLACK", 1_000_000)
    monkeypatch.setattr("data_download.archives.MEMBERS", 50)
    content, word = EVIL[name]
    archive = tmp_path / name
    archive.write_bytes(content)
    with pytest.raises(DownloadError, match=f"{name}: .*{word}"):
        files.prepare(tmp_path / "deep/data/set", partial(unpack, archive, progress=False))
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == sorted([name, "set.lock"]) and not Path("/evil.txt").exists()


@pytest.mark.parametrize("name, content", [
    ("a.zip", zipped(("images/", b""), GOOD)), ("a.tar", tarred(GOOD)), ("A.TGZ", tarred(GOOD, mode="w:gz")),
    ("a.tar.xz", tarred(GOOD, mode="w:xz"))])
def test_a_good_archive_is_unpacked(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    folder = files.prepare(tmp_path / "set", partial(unpack, tmp_path / name, progress=False))
    assert contents(folder) == {"images/a.txt": b"a picture"}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_noise_in_an_archive_never_raises_anything_but_the_sentence(tmp_path):
    rng, refused = random.Random(0), 0
    samples = {"a.zip": zipped(GOOD, ("b.txt", bytes(900)), compression=zipfile.ZIP_DEFLATED),
               "a.tar": PLAIN, "a.tar.gz": tarred(GOOD, mode="w:gz"), "a.tar.xz": tarred(GOOD, mode="w:xz")}
    for round_ in range(400):
        name = list(samples)[round_ % 4]
        noisy = bytearray(samples[name])
        for _ in range(rng.randint(1, 4)):
            noisy[rng.randrange(min(len(noisy), 1600))] = rng.randrange(256)
        (tmp_path / name).write_bytes(noisy)
        folder = tmp_path / f"deep/{round_}"
        folder.mkdir(parents=True)
        try:
            unpack(tmp_path / name, folder, progress=False)
        except DownloadError:
            refused += 1
    assert 100 < refused < 400
    assert {path.name for path in tmp_path.iterdir()} == {"deep", *samples}


LOCKED = base64.b64decode(  # a.txt, "a picture", password "secret"
    "UEsDBAoACQAAABsldl3oc9DfFQAAAAkAAAAFABwAYS50eHRVVAkAA1VyAmtVcgJrdXgLAAEEAAAAAAQAAAAAH7/zK9bjuGnHIRnH"
    "yNZw0Y5e/fsGUEsHCOhz0N8VAAAACQAAAFBLAQIeAwoACQAAABsldl3oc9DfFQAAAAkAAAAFABgAAAAAAAEAAACkgQAAAABhLnR4"
    "dFVUBQADVXICa3V4CwABBAAAAAAEAAAAAFBLBQYAAAAAAQABAEsAAABkAAAAAAA=")


def test_an_encrypted_zip_needs_its_password(tmp_path, monkeypatch):
    archive = tmp_path / "set.zip"
    archive.write_bytes(LOCKED)
    monkeypatch.delenv("IQA_PASSWORD", raising=False)
    with pytest.raises(DownloadError, match=r"set\.zip: encrypted.*IQA_PASSWORD"):
        unpack(archive, tmp_path)
    with pytest.raises(DownloadError, match=r"set\.zip: the password does not fit"):
        unpack(archive, tmp_path, password="guess")
    monkeypatch.setenv("IQA_PASSWORD", "secret")
    assert (unpack(archive, tmp_path) / "a.txt").read_bytes() == b"a picture"


# A dataset

MANY = zipped(*((f"images/{i}.txt", BODY[600 * i:600 * i + 600]) for i in range(600)))
TOY = {f"images/{i}.txt": BODY[600 * i:600 * i + 600] for i in range(600)} | {"scores (all).csv": b"image,score"}


@pytest.fixture
def card(site, monkeypatch) -> data.Card:
    """A dataset of one archive and one table on the server, known to `get` as "toy"."""
    site.pages = {"/main/toy.zip": Page(MANY), "/main/scores (all).csv": Page(b"image,score")}
    download = [[{"url": site.url + "/main/toy.zip", "sha256": hashlib.sha256(MANY).hexdigest(), "bytes": len(MANY)},
                 {"url": site.url + "/main/scores%20(all).csv", "bytes": 11}]]
    card = data.Card("toy", "Toy set", folder="toy", licence="CC0", citation="Nobody, 2026", by_hand="Ask for it.",
                     source="https://example.org/toy", download=download)
    monkeypatch.setattr(registry, "cards", lambda: {"toy": card})
    return card


def change(card, monkeypatch, **fields):
    monkeypatch.setattr(registry, "cards", lambda: {"toy": replace(card, **fields)})


def test_get_shows_the_terms_and_brings_the_whole_set(site, card, tmp_path, capsys):
    folder = get("toy", yes=True)
    assert folder == tmp_path / "data/toy" and contents(folder) == TOY
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("Toy set", "0.4 MB", "CC0", "Nobody, 2026", str(folder)))
    assert os.listdir(tmp_path / "cache/downloads") == []
    assert get("toy") == folder and len(site.log) == 2  # no second download, no question


@pytest.mark.parametrize("typed, goes_on", [("n", False), ("", False), ("y", True)])
def test_get_asks_at_a_terminal(card, monkeypatch, typed, goes_on):
    keyboard, terminal = os.openpty()
    monkeypatch.setattr(sys, "stdin", os.fdopen(terminal))
    os.write(keyboard, typed.encode() + b"\n")
    if goes_on:
        assert contents(get("toy")) == TOY
    else:
        with pytest.raises(DownloadError, match="Toy set: not downloaded"):
            get("toy")


def test_get_without_a_terminal_or_a_known_name_says_so(site, card):
    with pytest.raises(DownloadError, match="nobody is at a terminal.*--yes"):
        get("toy")
    with pytest.raises(DownloadError, match="'tyo' is not a known dataset; choose one of toy"):
        get("tyo")
    assert site.log == []


def test_the_next_alternative_is_taken_where_the_first_is_not_complete(site, card, monkeypatch):
    other = [{"url": site.url + "/other.tgz"}]
    site.pages["/other.tgz"] = Page(tarred(GOOD, mode="w:gz"))
    change(card, monkeypatch, download=[[*card.download[0], {"url": site.url + "/gone.csv"}], other])
    assert contents(get("toy", yes=True)) == {"images/a.txt": b"a picture"}
    del site.pages["/other.tgz"]
    shutil.rmtree(files.data_root() / "toy")
    with pytest.raises(DownloadError, match=r"gone\.csv could not.* Or: other\.tgz could not.*example\.org/toy\.$"):
        get("toy", yes=True)
    assert not (files.data_root() / "toy").exists()


def test_a_set_behind_a_form_says_where_its_file_belongs_and_takes_it_there(site, card, tmp_path, monkeypatch):
    change(card, monkeypatch, download=[])
    place = tmp_path / "cache/downloads/toy"
    with pytest.raises(DownloadError, match=rf"Ask for it\. .*example\.org/toy.*{place} and .*{tmp_path}/data/toy"):
        get("toy", yes=True)
    place.mkdir(parents=True)
    (place / "toy.zip").write_bytes(LOCKED)
    with pytest.raises(DownloadError, match="encrypted"):
        get("toy", yes=True)
    monkeypatch.setenv("IQA_PASSWORD", "secret")
    assert contents(get("toy", yes=True)) == {"a.txt": b"a picture"}
    assert (place / "toy.zip").read_bytes() == LOCKED and site.log == []  # the reader's own file stays


def test_an_archive_that_this_kit_cannot_unpack_names_the_final_folder(card, tmp_path, monkeypatch):
    change(card, monkeypatch, download=[])
    (tmp_path / "cache/downloads/toy").mkdir(parents=True)
    (tmp_path / "cache/downloads/toy/toy.rar").write_bytes(b"Rar!")
    with pytest.raises(DownloadError, match=rf"toy\.rar: .*by hand into {tmp_path}/data/toy,"):
        get("toy", yes=True)


def test_files_placed_by_hand_are_used_without_a_network(site, card, tmp_path, monkeypatch):
    place = tmp_path / "cache/downloads/toy"
    place.mkdir(parents=True)
    (place / "other.tar").write_bytes(tarred(GOOD))
    change(card, monkeypatch, download=[*card.download, [{"url": site.url + "/other.tar"}]])
    assert contents(get("toy", yes=True)) == {"images/a.txt": b"a picture"}
    assert site.log == []


@pytest.mark.parametrize("kind", ["address", "folder"])
def test_a_mirror_of_ones_own_is_tried_first(site, card, tmp_path, monkeypatch, kind):
    stick = tmp_path / "stick/toy"
    stick.mkdir(parents=True)
    (stick / "toy.zip").write_bytes(MANY)
    site.pages["/stick/toy/toy.zip"] = Page(MANY)
    monkeypatch.setenv("IQA_MIRROR", site.url + "/stick/" if kind == "address" else str(tmp_path / "stick"))
    assert contents(get("toy", yes=True)) == TOY
    asked = [entry["path"] for entry in site.log]
    assert "/main/toy.zip" not in asked and "/main/scores%20(all).csv" in asked  # only the table is not on the mirror
    assert ("/stick/toy/toy.zip" in asked) == (kind == "address")


def test_a_wrong_file_on_the_mirror_does_no_harm(card, tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/toy.zip").write_bytes(MANY[::-1])
    monkeypatch.setenv("IQA_MIRROR", str(tmp_path))
    assert contents(get("toy", yes=True)) == TOY


def test_made_sets_and_kodak_have_their_own_makers(card, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "cards", lambda: {"toy": replace(card, made=True), "kodak": card})
    monkeypatch.setattr(loading, "load", lambda name: data.Dataset(name, None, tmp_path / name, card))
    monkeypatch.setattr(kodak, "fetch_kodak", lambda progress: tmp_path / "photographs")
    assert get("toy") == tmp_path / "toy" and get("kodak") == tmp_path / "photographs"


# Processes

def child(card, environment, limit, outcome):
    """In another process: get the set, and write "whole" or the sentence into `outcome`."""
    outcome.with_suffix(".begun").touch()
    os.environ.update(environment)
    registry.cards = lambda: {"toy": card}
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        get("toy", yes=True)
        text = "whole"
    except DownloadError as error:
        text = str(error)
    outcome.write_text(text)


@pytest.fixture
def start(card, tmp_path):
    """Starts a process that gets the set."""
    def run(number=0, limit=0):
        environment = {name: os.environ[name] for name in ("IQA_CACHE", "IQA_DATA")}
        process = processes.Process(target=child, args=(card, environment, limit, tmp_path / f"outcome{number}"))
        process.start()
        return process

    return run


def test_a_full_disk_during_the_download_keeps_what_arrived(site, start, tmp_path):
    start(limit=20 * K).join(30)
    sentence = (tmp_path / "outcome0").read_text()
    assert "toy.zip.part: cannot be written (File too large)" in sentence and "is kept" in sentence
    start().join(30)  # after room was made
    assert contents(tmp_path / "data/toy") == TOY and site.log[1]["range"] == f"bytes={20 * K}-"


def test_a_full_disk_during_unpacking_leaves_no_set(site, card, start, tmp_path):
    content = zipped(GOOD, ("zeros", bytes(1_000_000)), compression=zipfile.ZIP_DEFLATED)
    site.pages["/main/toy.zip"].body = content
    card.download[:] = [[{"url": site.url + "/main/toy.zip"}]]
    start(limit=500_000).join(30)
    assert "data/toy: toy.zip cannot be unpacked there (File too large)" in (tmp_path / "outcome0").read_text()
    assert os.listdir(tmp_path / "data") == ["toy.lock"]
    start().join(30)
    assert len(contents(tmp_path / "data/toy")["zeros"]) == 1_000_000


def test_two_processes_download_once(site, start, tmp_path):
    site.pages["/main/toy.zip"].rate = 1e6
    both = [start(number) for number in range(2)]
    for process in both:
        process.join(30)
    assert [(tmp_path / f"outcome{number}").read_text() for number in range(2)] == ["whole", "whole"]
    assert sorted(entry["path"] for entry in site.log) == ["/main/scores%20(all).csv", "/main/toy.zip"]
    assert contents(tmp_path / "data/toy") == TOY


def test_twenty_kills_never_leave_half_a_set(site, start, tmp_path):
    site.pages["/main/toy.zip"].rate = 1.2e6
    rng, folder, begun, states = random.Random(0), tmp_path / "data/toy", tmp_path / "outcome0.begun", []
    for number in range(20):
        process = start()
        while not (begun.exists() if number else any(entry["sent"] > 6 * K for entry in site.log)):
            assert process.is_alive()
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.6) if number else 0)  # the first one dies for certain during the download
        process.kill()
        process.join()
        begun.unlink()
        states.append("whole" if folder.is_dir() else
                      "loading" if list(tmp_path.glob("cache/downloads/toy/toy.zip.part")) else
                      "unpacking" if list(tmp_path.glob("data/.toy-*/images")) else "between")
        if folder.is_dir():
            assert contents(folder) == TOY
            shutil.rmtree(folder)
    assert states[0] == "loading" and len(set(states)) > 1
    start().join(30)
    assert (tmp_path / "outcome0").read_text() == "whole" and contents(folder) == TOY
    assert sorted(os.listdir(tmp_path / "data")) == ["toy", "toy.lock"]
    assert any(entry["range"] for entry in site.log)
