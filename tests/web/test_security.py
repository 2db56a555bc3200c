"""Who may ask for what. Every route has to hold this, those that come later too: the routes are taken as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from fanout.config import Config
from fanout.web.access import access
from fanout.web.app import application
from fanout.web.security import MOST_BODY_BYTES
from tests.web.conftest import client_of

HOST = "127.0.0.1:8288"
TOKEN = "a-token-of-enough-length"
EVENT_KEY = "a-key-of-enough-length"
STRANGE_ORIGINS = (
    "https://evil.example", "null", "http://127.0.0.1:8289", "http://127.0.0.1", f"http://{HOST}.evil.example",
    f"http://evil.example/{HOST}", f"http://{HOST}/", f"http://x@{HOST}", f"file://{HOST}", "http://[", "", "%",
)  # fmt: skip


def paths() -> list[tuple[str, str]]:
    """(method, path) of every route, and of one that is not there."""
    app = application(config_in_memory()).app
    assert isinstance(app, Starlette)
    found = [("GET", "/no/such/page"), ("POST", "/no/such/page")]
    for route in app.routes:
        assert isinstance(route, Route), f"{route} has to be looked at here"
        path = re.sub(r"{[^}]*}", "x", route.path)
        found += [(method, path) for method in sorted(route.methods or ()) if method != "HEAD"]
    return found


def config_in_memory() -> Config:
    return Config(path=Path("/nowhere"), root=Path("/nowhere"), apps=(), journal=Path("/nowhere/j.db"), processes=1)


EVERY = pytest.mark.parametrize(("method", "path"), paths())


@EVERY
def test_no_route_answers_to_a_strange_name(browser: TestClient, method: str, path: str) -> None:
    for host in ("evil.example", "evil.example:8288", f"{HOST}.evil.example", "127.0.0.1:80", "127.0.0.1", "", "[::1"):
        response = browser.request(method, path, headers={"host": host})
        assert (response.status_code, response.headers.get("set-cookie")) == (421, None), host
    response = browser.request(method, path, headers=[("host", HOST), ("host", "evil.example")])
    assert response.status_code == 421


@EVERY
def test_no_route_does_anything_for_another_sites_page(browser: TestClient, method: str, path: str) -> None:
    for origin in STRANGE_ORIGINS:
        assert browser.request(method, path, headers={"origin": origin}).status_code == 403, origin
    for site in ("cross-site", "same-site", "whatever"):
        headers = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
        assert browser.request(method, path, headers=headers).status_code == 403, site
    response = browser.options(
        path, headers={"origin": "https://evil.example", "access-control-request-method": method}
    )
    assert response.status_code == 403


@pytest.mark.parametrize("path", sorted({path for _, path in paths()}))
def test_another_sites_page_may_lead_to_ours_and_no_more(browser: TestClient, path: str) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert browser.post(path, headers=headers).status_code == 403
    assert browser.get(path, headers={**headers, "sec-fetch-dest": "iframe"}).status_code == 403
    if path != "/live":
        assert browser.get(path, headers={**headers, "sec-fetch-dest": "document"}).status_code != 403


@EVERY
def test_every_answer_has_the_headers_that_browsers_obey(config: Config, method: str, path: str) -> None:
    with client_of(config) as anybody, client_of(config, token=TOKEN) as unknown:
        answers = [
            anybody.request(method, path, headers={"host": "evil.example"}),
            anybody.request(method, path, headers={"origin": "null"}),
            anybody.request("PUT", path),
            unknown.request(method, path),
        ]
        if path != "/live":
            answers.append(anybody.request(method, path))
    for answer in answers:
        check_headers(answer.headers)


def check_headers(headers: object) -> None:
    given = dict(headers)  # type: ignore[call-overload]
    policy = given["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert given["x-content-type-options"] == "nosniff"
    assert given["x-frame-options"] == "DENY"
    assert given["cross-origin-opener-policy"] == given["cross-origin-resource-policy"] == "same-origin"
    assert given["cache-control"]
    assert not [name for name in given if name.startswith("access-control") or name == "server"]


@EVERY
def test_with_a_token_nothing_is_to_be_had_without_it(config: Config, method: str, path: str) -> None:
    with client_of(config, token=TOKEN) as client:
        for headers in (
            {},
            {"authorization": f"Bearer {TOKEN}x"},
            {"authorization": f"Basic {TOKEN}"},
            {"authorization": TOKEN},
            {"cookie": f"fanout-8288={TOKEN}"},  # a cookie is not the token
            {"cookie": "fanout-8288=\\351; =;"},
        ):
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == (401 if path != "/health" else answer.status_code), headers
            assert TOKEN not in answer.text
        assert client.request(method, f"{path}?token={TOKEN[:-1]}").status_code == 401 or path == "/health"
        if path != "/live":
            known = client.request(method, path, headers={"authorization": f"bearer {TOKEN}"})
            assert known.status_code != 401


def test_the_token_in_an_address_becomes_a_cookie_and_goes(config: Config) -> None:
    with client_of(config, token=TOKEN) as client:
        answer = client.get(f"/no/such%20page?a=1&token={TOKEN}&b=%26")
        assert (answer.status_code, answer.headers["location"]) == (303, "/no/such%20page?a=1&b=%26")
        [cookie] = answer.headers.get_list("set-cookie")
        assert re.fullmatch(r"fanout-8288=[0-9a-f]{64}; HttpOnly; Max-Age=7776000; Path=/; SameSite=strict", cookie), (
            cookie
        )
        # The client keeps it, as browsers do.
        assert client.get("/no/such page").status_code == 404
        again = client.get(f"/?token={TOKEN}", headers={"x-forwarded-proto": "https"})
        assert "; Secure" in again.headers["set-cookie"]
        # A form never carries it in its address.
        client.cookies.clear()
        assert client.post(f"/no/such?token={TOKEN}").status_code == 401


def test_cookies_of_other_sites_on_this_machine_are_not_in_the_way(config: Config) -> None:
    # Cookies don't tell ports apart: what another program of this machine has set comes here too.
    cookie = access({"FANOUT_TOKEN": TOKEN}, "127.0.0.1", 8288).cookie
    with client_of(config, token=TOKEN) as client:
        for others in ('a={"x":1}; ', "a; ", 'b="; ', "c[d]=1,2; =; ;; ", "fanout-8288=old; "):
            for cookies in (f"{others}fanout-8288={cookie}", f"fanout-8288={cookie}; {others}"):
                assert client.get("/no", headers={"cookie": cookies}).status_code == 404, cookies
            assert client.get("/no", headers={"cookie": f"{others}x=fanout-8288={cookie}"}).status_code == 401


@pytest.mark.parametrize("path", ["//evil.example", "/%2f/evil.example", "/\\evil.example", "/%5Cevil.example/"])
def test_the_way_back_from_the_token_leads_nowhere_else(config: Config, path: str) -> None:
    with client_of(config, token=TOKEN) as client:
        answer = client.get(f"http://{HOST}{path}?token={TOKEN}")
    assert answer.status_code == 303
    assert re.match(r"/[^/\\]", answer.headers["location"])


def test_a_link_that_is_followed_from_another_site_comes_again_with_its_cookie(config: Config) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    with client_of(config, token=TOKEN) as client:
        answer = client.get("/runs/x?a=1", headers=link)
        assert (answer.status_code, answer.headers["refresh"]) == (401, "0; url=/runs/x?a=1")
        assert "refresh" not in client.get("/runs/x", headers={**link, "sec-fetch-site": "same-origin"}).headers


def test_the_event_key_sends_events_and_nothing_else(config: Config) -> None:
    event = {"name": "app/hello"}
    with client_of(config, token=TOKEN, event_key=EVENT_KEY) as client:
        assert client.post(f"/e/{EVENT_KEY}", json=event).status_code == 200
        for path in ("/e/", "/e", f"/e/{EVENT_KEY}x", f"/e/{EVENT_KEY[:-1]}", f"/e/x/{EVENT_KEY}"):
            assert client.post(path, json=event).status_code == 401, path
        assert client.get(f"/e/{EVENT_KEY}").status_code == 401
        assert client.get("/runs", headers={"authorization": f"Bearer {EVENT_KEY}"}).status_code == 401
        assert client.post("/e/any", json=event, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    with client_of(config, event_key=EVENT_KEY) as client:
        assert client.post(f"/e/{EVENT_KEY}", json=event).status_code == 200
        refused = client.post("/e/other", json=event)
        assert refused.json()["error"] == "the event key is missing or wrong"
        assert client.get("/no/such/page").status_code == 404
    with client_of(config) as client:
        assert client.post("/e/other", json=event).status_code == 200


def test_what_is_no_browser_needs_no_origin_and_our_own_pages_have_ours(browser: TestClient) -> None:
    event = {"name": "app/hello"}
    assert browser.post("/e/k", json=event).status_code == 200
    for host in (HOST, "localhost:8288", "LOCALHOST:8288", "[::1]:8288"):
        headers = {"host": host, "origin": f"http://{host.lower()}", "sec-fetch-site": "same-origin"}
        assert browser.post("/e/k", json=event, headers=headers).status_code == 200, host


@pytest.fixture
def behind_a_name(config: Config) -> Iterator[TestClient]:
    """It listens at every address, and has a name that a proxy passes on."""
    allowed = access({"FANOUT_TOKEN": TOKEN, "FANOUT_HOSTS": "fanout.example.com, box:9000"}, "0.0.0.0", 8288)
    with TestClient(application(config, allowed), base_url="http://fanout.example.com") as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        yield client


def test_names_and_addresses_of_a_site_that_others_reach(behind_a_name: TestClient) -> None:
    def status(host: str, origin: str) -> int:
        answer: int = behind_a_name.get("/no", headers={"host": host, "origin": origin}).status_code
        return answer

    assert status("fanout.example.com", "https://fanout.example.com") == 404
    assert status("box:9000", "http://box:9000") == 404
    assert status("192.168.1.7:8288", "http://192.168.1.7:8288") == 404
    assert status("[fe80::1]:80", "http://[fe80::1]:80") == 404
    assert status("box", "http://box") == 421
    assert status("evil.example", "http://evil.example") == 421
    assert status("fanout.example.com", "http://evil.example") == 403


def test_at_the_port_that_browsers_leave_out_it_has_its_name_too() -> None:
    allowed = access({}, "127.0.0.1", 80)
    assert all(allowed.has_name(host) for host in ("localhost", "127.0.0.1", "[::1]", "localhost:80"))
    assert not any(allowed.has_name(host) for host in ("localhost:8080", "evil.example", "evil.example:80"))


def test_what_looks_like_an_address_and_is_none() -> None:
    allowed = access({"FANOUT_TOKEN": TOKEN}, "0.0.0.0", 8288)
    good = ("1.2.3.4", "1.2.3.4:80", "[fe80::1]", "[::1]:65535", "LOCALHOST:1")
    assert [host for host in good if not allowed.has_name(host)] == []
    bad = (
        "[1.2.3.4]", "[1.2.3.4]:80", "1.2.3.4:\xb2", "1.2.3.4.", "0x7f.1", "2130706433", "127.1", "::1", "fe80::1%x",
        "[fe80::1%evil]", "[::1", "[::1]x", "[]", "x@1.2.3.4", "1.2.3.4:80:80", "1.2.3.4/x", "\u0661.2.3.4",
    )  # fmt: skip
    assert [host for host in bad if allowed.has_name(host)] == []


@pytest.mark.parametrize("declared", [str(MOST_BODY_BYTES + 1), "9" * 5000, "-1", "+1", "0x1", "1_0", "²"])
def test_a_body_that_is_declared_too_large_is_not_read(browser: TestClient, declared: str) -> None:
    answer = browser.post("/e/k", content=b"{}", headers={"content-length": declared.encode()})
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")


def test_a_body_that_does_not_end_is_not_kept(browser: TestClient) -> None:
    pieces = (b" " * 65536 for _ in range(MOST_BODY_BYTES // 65536 + 1))
    answer = browser.post("/e/k", content=pieces)
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")
    assert answer.json()["error"] == "the request has more than 16 MiB"


def test_bodies_have_a_bound_together(browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fanout.web.security.MOST_HELD_BYTES", 100)
    assert browser.post("/e/k", content=b" " * 101).status_code == 503
    # What has been answered does not count any more.
    assert browser.post("/e/k", json={"name": "app/hello"}).status_code == 200


def test_a_person_gets_a_page_with_the_words_escaped_and_a_program_gets_json(browser: TestClient) -> None:
    assert browser.post("/e/k", json={"name": "app/hello"}).status_code == 200
    page = browser.get("/%3Cscript%3Ealert(1)%3C/script%3E", headers={"accept": "text/html"})
    assert page.status_code == 404
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "<script>" not in page.text
    assert browser.get("/nothing").json() == {
        "status": 404,
        "error": "there is nothing at `/nothing`",
        "hint": "events are sent to `/e/KEY` with any key; `/api` says what else there is",
    }
    answer = browser.put("/live")
    assert (answer.status_code, answer.json()["hint"]) == (405, "it takes GET, HEAD")


def test_a_defect_of_ours_is_not_told_to_strangers(
    browser: TestClient, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fanout.web.event_api.parse", lambda *_: 1 // 0)
    answer = browser.post("/e/k", json={})
    assert answer.status_code == 500
    assert "division" not in answer.text
    check_headers(answer.headers)
    assert "ZeroDivisionError" in capfd.readouterr().err
