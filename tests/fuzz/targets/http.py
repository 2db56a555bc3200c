"""The site's own server, given raw bytes: it answers in HTTP and never with a 500, or it ends the connection.

`@` in the host's place is its address. What comes after a 0 byte is sent a moment later, in a piece of its own.
"""

from __future__ import annotations

import atexit
import re
import shutil
import socket
import threading
from pathlib import Path
from tempfile import mkdtemp

from fanout.config import load
from fanout.journal.sqlite_appender import SqliteAppender
from fanout.web import asking
from fanout.web.access import access
from fanout.web.app import application
from fanout.web.process import listening_socket
from fanout.web.server import Server
from tests.fuzz.targets.journal import _EVENT, _JOURNAL, _RUN

_PAGES = (
    "/", "/runs?status=failed&since=1h", f"/runs/{_RUN}", f"/runs/{_RUN}/replay", "/events", f"/events/{_EVENT}", f"/trace/{_EVENT}",
    "/functions", "/functions/one", "/graph", "/stats?since=1d", "/send", "/replay?status=failed", "/health", "/metrics", "/api",
    "/api/openapi.json", f"/api/runs/{_RUN}", "/api/runs?limit=2&before=9", f"/api/runs/{_RUN}/logs?after=1", "/api/events",
    f"/api/events/{_EVENT}/trace", "/api/functions", "/api/cron?next=3", "/api/stats?since=1d&until=1h", "/static/fanout.css",
    "/static/../app.py", "/%00", "/runs?since=%FF", "//", "*",
)  # fmt: skip
_POSTS = (
    ("/e/x", "application/json", '{"name": "a", "data": {}}'), ("/e", "application/x-ndjson", '{"name": "a"}\n{"name": "b"}'),
    ("/api/events", "application/cloudevents+json", '{"specversion": "1.0", "type": "a", "source": "s", "id": "1"}'),
    (f"/api/runs/{_RUN}/replay", "application/json", '{"from_start": true}'), (f"/api/runs/{_RUN}/cancel", "application/json", ""),
    ("/api/replay", "application/json", '{"states": ["failed"], "dry_run": true}'),
    ("/api/functions/one/invoke", "application/json", '{"data": {"n": 1e400}}'),
    ("/send", "application/x-www-form-urlencoded", "name=a&data=%7B%7D&id=&delay=1h"),
    ("/functions/one", "application/x-www-form-urlencoded", "action=pause"), ("/replay", "application/x-www-form-urlencoded", "status=failed"),
)  # fmt: skip
SEEDS = (
    *(f"GET {path} HTTP/1.1\r\nhost: @\r\naccept: text/html\r\n\r\n".encode() for path in _PAGES),
    *(
        f"POST {path} HTTP/1.1\r\nhost: @\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        for path, kind, body in _POSTS
    ),
    b"POST /e HTTP/1.1\r\nhost: @\r\nce-specversion: 1.0\r\nce-type: \xff\r\nce-id: 1\r\nce-source: s\r\ncontent-length: 2\r\n\r\n{}",
    b'POST /e HTTP/1.1\r\nhost: @\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"nam\0\r\nffffffffff\r\n',
    b"GET / HTTP/1.1\r\nhost: @\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nGET /health HTTP/1.1\r\nhost: @\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nhost: @\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: @\r\nhost: evil\r\ncookie: " + b"a=b;" * 50 + b"\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n",
)  # fmt: skip
_SILENT_S = 10.0
_NOTHING_S = 0.5
_NOTHING_MORE_S = 0.02
_STATUS = re.compile(rb"^HTTP/1\.[01] (\d{3}) ", re.MULTILINE)


class _Site:
    """Begun with the first use; ends with the process."""

    def __init__(self) -> None:
        folder = Path(mkdtemp(prefix="fanout-fuzz-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        (folder / "fanout.toml").write_text('[app]\nid = "test"\nfunctions = ["work"]\n')
        config = load(folder / "fanout.toml")
        SqliteAppender(config.journal).close()
        config.journal.write_bytes(_JOURNAL)
        asking._PATIENCE_S = 0.0  # There is no engine that would answer.
        listener = listening_socket("127.0.0.1", 0)
        self.port = int(listener.getsockname()[1])
        server = Server(application(config, access({}, "127.0.0.1", self.port)))
        threading.Thread(target=server.run, args=([listener],), daemon=True).start()

    def ask(self, data: bytes, patience_s: float = _NOTHING_S) -> bytes:
        """What is answered until nothing more comes; a request without an end is not waited for."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self.port), _SILENT_S) as connection:
            try:
                for piece in data.split(b"\0")[:4]:
                    connection.sendall(piece)
                connection.settimeout(patience_s)
                while read := connection.recv(65536):
                    answer += read
                    connection.settimeout(_NOTHING_MORE_S)
            except (ConnectionError, TimeoutError):
                pass
        return answer


_site: list[_Site] = []


def check(data: bytes) -> None:
    if not _site:
        _site.append(_Site())
    site = _site[0]
    answer = site.ask(data.replace(b"@", b"127.0.0.1:%d" % site.port))
    assert not answer or answer.startswith(b"HTTP/1."), answer[:100]
    assert b"500" not in _STATUS.findall(answer), (data, answer)
    assert b"Traceback" not in answer
    health = site.ask(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nconnection: close\r\n\r\n" % site.port, _SILENT_S)
    assert b"200" in _STATUS.findall(health), health
