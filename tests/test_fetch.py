"""Downloads that are cut, changed, refused or wrong, against a real server on the loopback."""

from __future__ import annotations

import io
import os
import socket
import sys
import time

import pytest

from data_download import fetch
from data_download.fetch import DownloadError, Unavailable
from loopback import BODY, SHA, K, Page, site  # noqa: F401, the fixture `site` is used by name


def one(site, page, path, **checks):
    """Fetch one page into `path`."""
    site.pages["/set.zip"] = page
    return fetch.fetch([site.url + "/set.zip"], path, progress=False, **checks)


# One file

def test_a_transfer_cut_three_times_is_resumed(site, tmp_path):
    path = one(site, Page(cuts=[6 * K, 9 * K, 2 * K]), tmp_path / "a.zip", sha256=SHA, size=len(BODY))
    assert path.read_bytes() == BODY
    assert [entry["range"] for entry in site.log] == [None] + [f"bytes={n * K}-" for n in (6, 15, 17)]
    assert sum(entry["sent"] for entry in site.log) == len(BODY)  # no byte twice
    assert sorted(os.listdir(tmp_path)) == ["a.zip", "a.zip.lock"]


def test_a_cut_within_a_chunk_loses_less_than_a_chunk(site, tmp_path):
    assert one(site, Page(cuts=[100_000, 150_001]), tmp_path / "a.zip").read_bytes() == BODY
    assert len(site.log) == 3 and 0 < sum(entry["sent"] for entry in site.log) - len(BODY) < 2 * K


@pytest.mark.parametrize("etag, checks, resumed", [('"1"', {}, True), ("", {"sha256": SHA}, True), ("", {}, False),
                                                   ('W/"1"', {}, False)])
def test_a_part_is_continued_only_where_a_change_would_be_seen(site, tmp_path, etag, checks, resumed):
    assert one(site, Page(etag=etag, cuts=[K]), tmp_path / "a.zip", **checks).read_bytes() == BODY
    assert [entry["range"] for entry in site.log] == [None, f"bytes={K}-" if resumed else None]


def leave_a_part(site, path, page):
    """Give up after one cut, as a killed process does."""
    site.pages["/set.zip"] = page
    with pytest.raises(fetch._Again):
        fetch._transfer(site.url + "/set.zip", path.with_name(path.name + ".part"), None, None, progress=False)
    site.log.clear()


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_on_the_server_starts_anew(site, tmp_path, if_range):
    leave_a_part(site, tmp_path / "a.zip", Page(body=BODY[::-1], cuts=[3 * K]))
    assert one(site, Page(etag='"2"', if_range=if_range), tmp_path / "a.zip").read_bytes() == BODY
    assert site.log[0]["range"] == f"bytes={3 * K}-" and site.log[-1]["sent"] == len(BODY)
    assert len(site.log) == (1 if if_range else 2)  # If-Range saves a request


def test_a_wrong_mixture_that_only_the_checksum_sees_starts_anew(site, tmp_path):
    leave_a_part(site, tmp_path / "a.zip", Page(body=BODY[::-1], etag="", cuts=[3 * K]))
    assert one(site, Page(etag=""), tmp_path / "a.zip", sha256=SHA).read_bytes() == BODY
    assert [entry["range"] for entry in site.log] == [f"bytes={3 * K}-", None]


def test_a_server_without_ranges_starts_anew(site, tmp_path):
    page = Page(ranges=False, cuts=[300_000])
    assert one(site, page, tmp_path / "a.zip", sha256=SHA).read_bytes() == BODY
    assert [entry["sent"] for entry in site.log] == [300_000, len(BODY)]


@pytest.mark.parametrize("body", [BODY, BODY[:200_000]])
def test_a_part_as_long_as_the_file_is_taken_and_a_longer_one_starts_anew(site, tmp_path, body):
    leave_a_part(site, tmp_path / "a.zip", Page(length=len(BODY) + 1))
    assert one(site, Page(body=body), tmp_path / "a.zip").read_bytes() == body
    assert sum(entry["sent"] for entry in site.log) == (0 if body is BODY else len(body))


def test_one_mirror_never_continues_the_part_of_another(site, tmp_path):
    leave_a_part(site, tmp_path / "a.zip", Page(body=BODY[::-1], cuts=[3 * K]))
    site.pages = {"/mirror/set.zip": Page()}
    urls = [site.url + "/set.zip", site.url + "/mirror/set.zip"]
    assert fetch.fetch(urls, tmp_path / "a.zip", progress=False).read_bytes() == BODY
    assert site.log[-1] == {"path": "/mirror/set.zip", "range": None, "sent": len(BODY)}


@pytest.mark.parametrize("page, checks, reason", [
    (None, {}, "HTTP 404"), (Page(wait=1), {}, "no answer"), (Page(kind="text/html"), {}, "a web page"),
    (Page(length=10**15), {"size": len(BODY)}, "1,000,000,000,000,000 bytes instead of 409,600"),
    (Page(body=BODY[1:], cuts=[25 * K], length=25 * K), {"size": len(BODY)}, "cut off"),
    (Page(body=BODY[::-1]), {"sha256": SHA}, "another SHA-256"), (Page(busy=99), {}, "HTTP 503"),
    (Page(cuts=[K] * 99), {}, "cut off after 131,072 bytes")])
def test_the_next_source_helps_and_the_old_file_stays_until_then(site, tmp_path, page, checks, reason):
    target, bad, good = tmp_path / "a.zip", site.url + "/bad.zip", site.url + "/good.zip"
    site.pages = {"/good.zip": Page()} | ({"/bad.zip": page} if page else {})
    if checks:
        target.write_bytes(b"old and wrong")
    with pytest.raises(Unavailable, match=rf"a\.zip could not .*/bad\.zip: {reason}.*place it as {target}"):
        fetch.fetch([bad], target, progress=False, **checks)
    assert (target.read_bytes() == b"old and wrong") if checks else not target.exists()
    if "SHA" in reason:
        assert not list(tmp_path.glob("*.part"))
    assert fetch.fetch([bad, good], target, progress=False, **checks).read_bytes() == BODY


def test_a_busy_server_is_asked_again(site, tmp_path):
    assert one(site, Page(busy=2), tmp_path / "a.zip").read_bytes() == BODY
    assert len(site.log) == 3


def test_a_network_that_is_away_for_a_moment_is_waited_for(site, tmp_path, monkeypatch):
    opens = iter([True, False, False, True])
    monkeypatch.setattr(fetch, "answers", lambda url: next(opens))
    assert one(site, Page(cuts=[K]), tmp_path / "a.zip").read_bytes() == BODY
    assert [entry["range"] for entry in site.log] == [None, f"bytes={K}-"]


def test_what_is_there_and_right_is_not_fetched_again(site, tmp_path):
    (tmp_path / "a.zip").write_bytes(BODY)
    assert one(site, Page(), tmp_path / "a.zip", sha256=SHA, size=len(BODY)).read_bytes() == BODY
    assert site.log == []


@pytest.mark.parametrize("error, reason", [(ValueError("noise."), r"noise\)"), (KeyError(), r"KeyError\)")])
def test_content_is_verified_before_it_is_in_place(site, tmp_path, error, reason):
    def verify(path):
        assert path.read_bytes() == BODY and not (tmp_path / "a.zip").exists()
        raise error

    with pytest.raises(Unavailable, match=reason):
        one(site, Page(), tmp_path / "a.zip", verify=verify)
    assert not list(tmp_path.glob("a.zip*[!k]"))


def test_progress_is_shown_on_a_terminal(site, tmp_path, monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    site.pages["/set.zip"] = Page(rate=2e6)
    fetch.fetch([site.url + "/set.zip"], tmp_path / "a.zip")
    assert "a.zip" in screen.getvalue() and "410k/410k" in screen.getvalue() and "B/s" in screen.getvalue()


def test_a_file_that_does_not_fit_the_disk_is_not_begun(site, tmp_path):
    with pytest.raises(DownloadError, match=r"a\.zip needs 1000000000\.0 GB more, and .* are free. Make room"):
        one(site, Page(length=10**18), tmp_path / "a.zip")
    assert not (tmp_path / "a.zip.part").exists()


def hangs(*_):
    """A look-up of names behind a silent firewall."""
    time.sleep(1.5)
    raise OSError


def test_nobody_answers(tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.zip"  # bound, and nobody listens
        with pytest.raises(Unavailable, match=rf"^a\.zip could.*{url}: no answer.*place it as .*/a\.zip, and repeat"):
            fetch.fetch([url], tmp_path / "a.zip")
    monkeypatch.setattr(fetch, "PATIENCE", 0.2)
    monkeypatch.setattr(socket, "create_connection", hangs)
    start = time.monotonic()
    assert not fetch.answers("https://example.org/") and time.monotonic() - start < 1
