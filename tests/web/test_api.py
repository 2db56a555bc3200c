"""The JSON API over a journal in which much has happened, over none, and with an engine that does what is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from starlette.routing import Route

from fanout.config import load
from fanout.web import asking
from fanout.web.api import action_shapes, shapes
from fanout.web.api import routes as api
from tests.acceptance.conftest import FENCE_S, Project, until
from tests.outputs import story
from tests.web.conftest import client_of

if TYPE_CHECKING:
    from starlette.testclient import TestClient

SHAPES: dict[str, Any] = {call.name: call.gives for call in api.CALLS}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    root = tmp_path_factory.mktemp("shop")
    story.tell(root)
    with client_of(load(root / "fanout.toml")) as client:
        yield client


def got(client: TestClient, path: str, name: str) -> Any:
    """The answer, which is of the shape that the document says."""
    response = client.get(path)
    assert response.status_code == 200, response.text
    shape = SHAPES[name]
    msgspec.json.decode(response.content, type=shape)
    answer = response.json()
    assert set(answer) == set(shape.__annotations__) | shape.__required_keys__
    return answer


def problem(client: TestClient, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    response = client.post(path, json=body["json"]) if "json" in body else client.get(path)
    answer = msgspec.json.decode(response.content, type=dict[str, Any])
    msgspec.convert(answer, shapes.FieldProblem)
    assert answer["status"] == response.status_code
    return response.status_code, answer


def test_runs_page_by_page_are_all_runs_once(shop: TestClient) -> None:
    whole = got(shop, "/api/runs?limit=500", "listRuns")
    assert whole["before"] is None
    assert len(whole["runs"]) > 4
    pages: list[Any] = []
    before: str | None = ""
    while before is not None:
        page = got(shop, f"/api/runs?limit=2{before and f'&before={before}'}", "listRuns")
        pages += page["runs"]
        before = page["before"]
    assert pages == whole["runs"]


def test_runs_are_filtered_as_by_the_command(shop: TestClient) -> None:
    failed = got(shop, "/api/runs?state=failed&function=audit&event=app/*&since=0&error=disk", "listRuns")["runs"]
    assert {(run["state"], run["function"]) for run in failed} == {("failed", "audit")}
    assert got(shop, "/api/runs?state=failed&state=completed&until=0", "listRuns")["runs"] == []
    two = got(shop, "/api/runs?state=failed&state=completed", "listRuns")["runs"]
    assert {run["state"] for run in two} == {"failed", "completed"}


def test_all_that_there_is_can_be_looked_at(shop: TestClient) -> None:
    runs = got(shop, "/api/runs?limit=500", "listRuns")["runs"]
    for run in runs:
        whole = got(shop, f"/api/runs/{run['id']}", "showRun")
        assert {name: whole[name] for name in run} == run
        assert got(shop, f"/api/why/{run['id']}", "explainRun")["state"] == run["state"]
        assert got(shop, f"/api/runs/{run['id']}/logs", "readLogs")["run"] == run["id"]
        assert run["id"] in [each["id"] for each in got(shop, f"/api/trace/{run['id']}", "trace")["runs"]]
    events = got(shop, "/api/events?limit=500", "listEvents")["events"]
    assert {event["name"] for event in events} >= {"app/order.placed", "app/order.shipped", "app/nobody"}
    for event in events:
        assert got(shop, f"/api/events/{event['id']}", "showEvent")["name"] == event["name"]
    unheard = got(shop, "/api/events?unheard=true", "listEvents")["events"]
    assert unheard
    assert not any(event["runs"] for event in unheard)
    functions = got(shop, "/api/functions", "listFunctions")["functions"]
    assert [got(shop, f"/api/functions/{each['id']}", "showFunction") for each in functions] == functions
    assert got(shop, "/api/stats?since=all&slices=7", "statistics")["counts"]
    assert got(shop, "/api/graph", "graph")["links"]
    got(shop, "/api/cron?number=3", "listSchedules")


def test_lines_of_a_log_one_after_the_other(project: Project) -> None:
    project.write("""
    @fanout.function(trigger=fanout.on("app/talk"))
    def talk(ctx: Context) -> None:
        for number in range(5):
            print(f"line {number}")
    """)
    run = project.send("app/talk").json()["runs"][0]["id"]
    with client_of(load(project.root / "fanout.toml")) as client:
        first = got(client, f"/api/runs/{run}/logs?limit=3", "readLogs")
        rest = got(client, f"/api/runs/{run}/logs?after={first['after']}", "readLogs")
    assert [line["text"] for line in first["lines"] + rest["lines"]] == [f"line {number}" for number in range(5)]
    assert rest["is_over"]


@pytest.mark.parametrize(
    ("path", "name", "empty"),
    [
        ("/api/runs", "listRuns", {"runs": [], "before": None}),
        ("/api/events", "listEvents", {"events": []}),
        ("/api/graph", "graph", {"nodes": [], "links": [], "unreached": []}),
        ("/api/cron", "listSchedules", {"schedules": []}),
    ],
)
def test_without_a_journal_there_is_nothing(browser: TestClient, path: str, name: str, empty: dict[str, Any]) -> None:
    assert got(browser, path, name) == empty


def test_without_a_journal_nothing_can_be_found(browser: TestClient) -> None:
    for path in ("/api/runs/01ABC", "/api/stats", "/api/functions/f"):
        assert problem(browser, path)[0] == 404


@pytest.mark.parametrize(
    ("path", "field", "error"),
    [
        ("/api/runs?limit=0", "limit", "`limit` is not right: expected `int` >= 1"),
        ("/api/runs?limit=501", "limit", "`limit` is not right: expected `int` <= 500"),
        ("/api/runs?limit=many", "limit", "`limit` is not right: expected `int`, got `str`"),
        ("/api/runs?limit=1&limit=2", "limit", "`limit` is there more than once"),
        ("/api/runs?state=lost", "state", "`state` is not right: invalid enum value 'lost'"),
        ("/api/runs?status=failed", "status", "there is no parameter `status`"),
        ("/api/runs?since=soon", "since", "`since soon` is no time"),
        ("/api/runs?%1b%0a=1", r"\x1b\n", r"there is no parameter `\x1b\n`"),
    ],
)
def test_a_parameter_that_is_not_right_is_named(shop: TestClient, path: str, field: str, error: str) -> None:
    status, answer = problem(shop, path)
    assert (status, answer["field"], answer["error"]) == (400, field, error)
    assert answer["hint"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "ids"),
        ({"ids": 5}, "ids"),
        ({"state": ["failed"], "sinse": "2h"}, None),
        ({"state": ["failed"], "interval_ms": -1}, "interval_ms"),
        ({"state": ["failed"], "from_start": True, "from_step": "write"}, "from_step"),
    ],
)
def test_a_replay_that_is_not_right(shop: TestClient, body: dict[str, Any], field: str | None) -> None:
    status, answer = problem(shop, "/api/replay", json=body)
    assert (status, answer.get("field")) == (400, field)


def test_what_is_not_there_and_what_can_not_be(shop: TestClient) -> None:
    assert problem(shop, "/api/runs/nonesuch") == (
        404,
        {"status": 404, "error": "there is no run `nonesuch`", "hint": "`fanout runs` lists them"},
    )
    assert problem(shop, "/api/functions/audits")[1]["hint"] == "did you mean `audit`?"
    over = got(shop, "/api/runs?state=completed", "listRuns")["runs"][0]["id"]
    assert problem(shop, f"/api/runs/{over}/cancel", json={})[0] == 409
    assert problem(shop, "/api/cron/audit/trigger", json={})[0] == 409
    assert (
        shop.post(f"/api/runs/{over}/replay", content=b"a=1", headers={"Content-Type": "text/plain"}).status_code == 415
    )
    assert shop.delete("/api/runs").status_code == 405


def test_a_plan_is_no_replay(shop: TestClient) -> None:
    plan = shop.post("/api/replay", json={"state": ["failed"], "again": True, "dry_run": True})
    assert plan.status_code == 202
    said = msgspec.json.decode(plan.content, type=action_shapes.ReplaysShape)
    assert said["planned"] == 1
    assert said["functions"][0]["function"] == "audit"
    assert said["request"] is None


def test_without_an_engine_it_says_who_will_do_it(tmp_path: Path) -> None:
    story.tell(tmp_path)
    with client_of(load(tmp_path / "fanout.toml")) as client:
        asked = client.post("/api/functions/audit/pause").json()
    assert asked == {
        "request": asked["request"],
        "is_handled": False,
        "has_engine": False,
        "hint": "no engine is running: `fanout serve` does it, or the next `fanout send`",
        "functions": [{"id": "audit", "paused_at": None}],
    }


def test_an_engine_does_what_is_asked_for(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_PATIENCE_S", FENCE_S)
    project.write("""
    @fanout.function(trigger=[fanout.on("app/go"), fanout.cron("0 0 1 1 *")], retries=0)
    def work(ctx: Context) -> str:
        kept = ctx.step.run("first", str, "kept")
        if ctx.event.data.get("waits"):
            ctx.step.sleep("nap", "1h")
        if not (HERE / "fixed").exists():
            raise ValueError("not yet")
        return kept
    """)
    with project.serving(), client_of(load(project.root / "fanout.toml")) as client:

        def asked(path: str, **body: Any) -> dict[str, Any]:
            response = client.post(path, json=body)
            assert response.status_code == 202, response.text
            answer: dict[str, Any] = response.json()
            assert (answer["is_handled"], answer["has_engine"], answer["hint"]) == (True, True, None)
            return answer

        def reaches(id_: str, state: str) -> dict[str, Any]:
            until(lambda: client.get(f"/api/runs/{id_}").json()["state"] == state, f"{id_} is {state}")
            answer: dict[str, Any] = client.get(f"/api/runs/{id_}").json()
            return answer

        assert client.post("/api/events", json={"name": "app/go"}).status_code == 200
        until(lambda: client.get("/api/runs?state=failed").json()["runs"], "it has failed")
        failed = client.get("/api/runs?state=failed").json()["runs"][0]["id"]
        (project.root / "fixed").touch()
        (replay,) = asked(f"/api/runs/{failed}/replay")["runs"]
        assert replay["replay_of"] == failed
        assert reaches(replay["id"], "completed")["output"] == "kept"
        assert client.post(f"/api/runs/{failed}/replay").status_code == 409
        assert asked("/api/replay", ids=[failed], again=True, set={"first": {"a": 1}})["planned"] == 1

        (invoked,) = asked("/api/functions/work/invoke", data={"waits": True})["runs"]
        reaches(invoked["id"], "waiting")
        assert asked(f"/api/runs/{invoked['id']}/cancel")["runs"][0]["state"] == "cancelled"
        (paused,) = asked("/api/functions/work/pause")["functions"]
        assert paused["paused_at"] is not None
        (tick,) = asked("/api/cron/work/trigger", at=1_700_000_000_000)["runs"]
        assert client.get(f"/api/why/{tick['id']}").json()["code"] == "paused"
        again = client.post("/api/cron/work/trigger", json={"at": 1_700_000_000_000})
        assert again.status_code == 409
        assert asked("/api/functions/work/resume")["functions"] == [{"id": "work", "paused_at": None}]
        reaches(tick["id"], "completed")


def test_every_route_is_in_the_document(browser: TestClient) -> None:
    document = browser.get("/api/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    documented = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    routes = {
        (method, re.sub(r":path", "", route.path))
        for route in api.routes()
        if isinstance(route, Route)
        for method in (route.methods or ())
        if method != "HEAD"
    }
    assert routes - documented == {("GET", "/api"), ("GET", "/api/openapi.json")}
    assert documented <= routes
    page = browser.get("/api", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert all(path in page.text for path in document["paths"])
    assert "style=" not in page.text
