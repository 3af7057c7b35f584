"""A server on the loopback that cuts, hangs, lies and changes its files, for the tests of downloads."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

from data_download import fetch

K = fetch.CHUNK
BODY = random.Random(0).randbytes(25 * K)
SHA = hashlib.sha256(BODY).hexdigest()


@dataclass
class Page:
    """A file on the server, and how the server misbehaves with it."""

    body: bytes = BODY
    etag: str = '"1"'
    ranges: bool = True  # False: Range is ignored
    if_range: bool = True  # False: If-Range is ignored
    cuts: list[int] = field(default_factory=list)  # the next answers break off after so many bytes
    busy: int = 0  # so many answers are 503 first
    wait: float = 0  # seconds before the answer
    rate: float = 1e12  # bytes a second
    kind: str = "application/zip"
    length: int = 0  # of the whole file, if the server lies about it


class Site(BaseHTTPRequestHandler):
    def do_GET(self):
        page, asked = self.server.pages.get(unquote(self.path)), self.headers.get("Range")
        entry = {"path": self.path, "range": asked, "sent": 0}
        self.server.log.append(entry)
        if page is None or page.busy:
            page and setattr(page, "busy", page.busy - 1)
            self.send_error(503 if page else 404)
            return
        time.sleep(page.wait)
        fresh = not page.if_range or self.headers.get("If-Range", page.etag) == page.etag
        start = int(asked[6:-1]) if asked and page.ranges and fresh else 0
        length = page.length or len(page.body)
        self.send_response(200 if not start else 206 if start < length else 416)
        self.send_header("Content-Type", page.kind)
        self.send_header("Content-Length", max(0, length - start))
        if page.etag:
            self.send_header("ETag", page.etag)
        if start:
            span = f"{start}-{length - 1}" if start < length else "*"
            self.send_header("Content-Range", f"bytes {span}/{length}")
        self.end_headers()
        end = start + page.cuts.pop(0) if page.cuts else length
        for at in range(start, min(end, len(page.body)), 8192):
            chunk = page.body[at:min(at + 8192, end)]
            entry["sent"] += len(chunk)
            self.wfile.write(chunk)
            time.sleep(len(chunk) / page.rate)

    def log_message(self, *_):
        return None


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The server; places and patience for it."""
    monkeypatch.setenv("IQA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IQA_DATA", str(tmp_path / "data"))
    for name in ("IQA_MIRROR", "IQA_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetch, "PAUSE", 0.01)
    monkeypatch.setattr(fetch, "STALL", 0.5)
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as http:
        http.pages, http.log, http.url = {}, [], f"http://127.0.0.1:{http.server_port}"
        http.handle_error = lambda *_: None  # a client that is killed is no news
        http.daemon_threads = True
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        yield http
        http.shutdown()
