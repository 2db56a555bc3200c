"""Connections as no well-behaved client makes them: raw bytes to a real server."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack

import pytest

from fanout.config import Config
from tests.acceptance.conftest import until
from tests.web.conftest import Served, rest_of

EVENT = b'{"name":"app/hello"}'
SLOW = (b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX-Y", b"P", b"")


def request(served: Served, line: str, *headers: str, body: bytes = b"", is_last: bool = True) -> bytes:
    lines = [f"{line} HTTP/1.1", f"Host: {served.host}", *headers, *(["Connection: close"] if is_last else [])]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/../../config.py", "/static/%2e%2e/app.py", "/static/%2e%2e%2fapp.py",
        "/static/..%2f..%2fconfig.py", "/static/..%5capp.py", "/static/..\\app.py", "/static//etc/passwd",
        "/static/%2fetc%2fpasswd", "/static/./../app.py", "/static/%252e%252e/app.py", "/static/x%00.css",
        "/static/", "/static", "/static/.", "/../app.py", "/%2e%2e/app.py", "//static/../app.py", "/static/vendor",
        "/static/\xe9", "*", "http://127.0.0.1/static/../app.py", "static/../app.py",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_files_that_there_are(served: Served, path: str) -> None:
    for method in ("GET", "POST", "HEAD"):
        said = served.said(request(served, f"{method} {path}"))
        assert int(said.split()[1]) in (400, 404, 405, 307), said
        assert b"from __future__" not in said
        assert b"root:" not in said


def test_files_that_there_are_come_with_an_address_of_their_own(served: Served) -> None:
    first = served.said(request(served, "GET /static/fanout.css"))
    assert first.startswith(b"HTTP/1.1 200")
    assert b"content-type: text/css" in first
    assert b"cache-control: no-cache" in first
    etag = next(line.split()[1] for line in first.split(b"\r\n") if line.startswith(b"etag:")).decode()
    again = served.said(request(served, "GET /static/fanout.css", f"If-None-Match: {etag}"))
    assert again.startswith(b"HTTP/1.1 304")
    version = etag.strip('"')
    for_ever = served.said(request(served, f"GET /static/fanout.css?v={version}"))
    assert b"cache-control: public, max-age=31536000, immutable" in for_ever


@pytest.mark.parametrize("begun", SLOW)
def test_a_request_that_does_not_go_on_is_ended(
    config: Config, monkeypatch: pytest.MonkeyPatch, begun: bytes, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr("fanout.web.server.HEADER_PATIENCE_S", 0.2)
    served: Served = request.getfixturevalue("served")
    assert served.said(begun) == b""


def test_a_second_request_has_no_longer_than_the_first(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr("fanout.web.server.HEADER_PATIENCE_S", 0.2)
    served: Served = request.getfixturevalue("served")
    with served.connected() as connection:
        connection.sendall(f"GET /nothing HTTP/1.1\r\nHost: {served.host}\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 404")
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert rest_of(connection) == b""


def test_headers_without_an_end_are_not_read_on(served: Served) -> None:
    headers = b"GET / HTTP/1.1\r\n" + (b"X-More: " + b"x" * 1000 + b"\r\n") * 100_000
    with served.connected() as connection, pytest.raises((ConnectionResetError, BrokenPipeError)):
        connection.sendall(headers)


def test_a_body_that_does_not_come_is_answered(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setattr("fanout.web.security.BODY_PATIENCE_S", 0.2)
    for length in ("Content-Length: 10", "Transfer-Encoding: chunked"):
        said = served.said(request(served, "POST /e/k", length, is_last=False))
        assert said.startswith(b"HTTP/1.1 408"), said
        assert b"the request took more than 0.2 s to come" in said
        assert b"connection: close" in said
        assert b"content-security-policy" in said


def test_a_body_that_nobody_reads_has_an_end_too(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setattr("fanout.web.server._BODY_PATIENCE_S", 0.2)
    said = served.said(request(served, "POST /nothing", "Content-Length: 10", is_last=False))
    assert said.startswith(b"HTTP/1.1 404"), said


def test_a_body_beyond_the_bound_is_refused_while_it_comes(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setattr("fanout.web.security.MOST_BODY_BYTES", 1000)
    head = request(served, "POST /e/k", "Transfer-Encoding: chunked", is_last=False)
    said = served.said(head + b"400\r\n" + b" " * 1024 + b"\r\n")
    assert said.startswith(b"HTTP/1.1 413"), said
    said = served.said(request(served, "POST /e/k", "Content-Length: 1001", is_last=False))
    assert said.startswith(b"HTTP/1.1 413"), said


def test_connections_have_a_bound_and_ended_ones_do_not_count(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setattr("fanout.web.server.MOST_CONNECTIONS", 1)

    def is_answered() -> bool:
        return served.said(request(served, "GET /nothing")).startswith(b"HTTP/1.1 404")

    until(is_answered, "the first is alone")
    with served.connected() as first:
        first.sendall(request(served, "POST /e/k", "Content-Length: 10", is_last=False))
        until(lambda: len(served.server.server_state.tasks) == 1, "the first is being answered")
        assert served.said(request(served, "GET /nothing")) == b""
    until(is_answered, "the first has gone")


def test_those_that_ask_nothing_make_room_for_who_does(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setattr("fanout.web.server.MOST_CONNECTIONS", 20)
    with ExitStack() as stack:
        for number in range(60):
            waiting = stack.enter_context(served.connected())
            match number % 3:
                case 0:
                    waiting.sendall(b"GET /noth")
                case 1:
                    waiting.sendall(request(served, "GET /nothing", is_last=False))
                    assert waiting.recv(65536).startswith(b"HTTP/1.1 404")
        with served.connected() as streaming:
            streaming.sendall(request(served, "GET /live", is_last=False))
            assert streaming.recv(65536).startswith(b"HTTP/1.1 200")
            for _ in range(30):
                stack.enter_context(served.connected())
                assert served.said(request(served, "GET /nothing")).startswith(b"HTTP/1.1 404")
            assert len(served.server.server_state.connections) <= 20
            # Of those that wait the oldest have gone; who is being answered stays.
            until(lambda: len(served.server._site.news._listeners) == 1, "the stream is there")


def test_what_comes_behind_a_body_is_no_header(served: Served) -> None:
    head = request(served, "POST /e/k", "Transfer-Encoding: chunked")
    body = b'b\r\n{"name":"a"\r\n1\r\n}\r\n0\r\n'
    said = served.said(head + body + b"Content-Type: text/html\r\nce-specversion: 1.0\r\nce-type: b\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200"), said


@pytest.mark.parametrize("piece", [b"X-More: " + b"x" * 1000 + b"\r\n", b"x" * 1000])
@pytest.mark.parametrize("begun", [b"0\r\nX: x", b"1;x=x", b"b\r\n" + b'{"name":"a"' + b"\r\n0\r\nX:x"])
def test_what_comes_around_a_body_has_an_end(served: Served, begun: bytes, piece: bytes) -> None:
    for path in ("/e/k", "/nothing"):
        head = request(served, f"POST {path}", "Transfer-Encoding: chunked", is_last=False)
        with served.connected() as connection, pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(head + begun + 50_000 * piece)


def test_a_body_in_the_smallest_pieces_is_taken(served: Served) -> None:
    text = json.dumps({"name": "a", "data": {"x": "y" * 100_000}}).encode()
    head = request(served, "POST /e/k", "Transfer-Encoding: chunked")
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in text)
    assert served.said(head + pieces + b"0\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "said",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nA B\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_request_is_refused_quietly(served: Served, said: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    assert served.said(said).startswith(b"HTTP/1.1 400")
    assert capfd.readouterr().err == ""


def test_who_leaves_before_the_end_is_no_defect(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        with served.connected() as connection:
            connection.sendall(request(served, "POST /e/k", "Content-Length: 10", is_last=False))
            until(lambda: len(served.server.server_state.tasks) == 1, "it is being read")
        until(lambda: not served.server.server_state.tasks, "it is over")
    assert capfd.readouterr().err == ""


def test_an_upgrade_is_not_made(served: Served) -> None:
    with served.connected() as connection:
        connection.sendall(request(served, "GET /live", "Connection: Upgrade", "Upgrade: websocket", is_last=False))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("length", [f"Content-Length: {len(EVENT)}", "Transfer-Encoding: chunked"])
def test_who_would_rather_speak_another_protocol_is_answered_in_this(served: Served, length: str) -> None:
    """As Java's client asks, with each of its requests: `Upgrade: h2c`."""
    body = EVENT if "Length" in length else b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT)
    asked = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA", length)
    whole = request(served, "POST /e/k?x=%20y", *asked, body=body, is_last=False)
    with served.connected() as connection:
        for sent in (whole, whole + whole, whole[:-20], whole[-20:], *(bytes([byte]) for byte in whole)):
            connection.sendall(sent)
        connection.sendall(request(served, "GET /nothing"))
        said = rest_of(connection)
    assert said.count(b"HTTP/1.1 200 OK") == 5, said
    assert said.count(b'{"ids":["') == 5
    assert said.count(b"HTTP/1.1 404") == 1


def test_it_is_no_tunnel(served: Served) -> None:
    for target in (served.host, "/", "*"):
        assert served.said(request(served, f"CONNECT {target}", is_last=False)).startswith(b"HTTP/1.1 400")
        said = served.said(request(served, f"CONNECT {target}", "Connection: Upgrade", "Upgrade: x", is_last=False))
        assert said.startswith(b"HTTP/1.1 400")


def test_a_name_without_an_end_costs_nothing(served: Served) -> None:
    began = time.monotonic()
    said = served.said(b"GET / HTTP/1.1\r\nConnection: close\r\nHost: " + b"[" * 60_000 + b"\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 421")
    assert time.monotonic() - began < 10
