"""Runs that are cancelled, by request or by an event, whatever they are at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import fanout
from tests.acceptance.both import KINDS, PARKS, notes, write
from tests.acceptance.conftest import Project, until

CODE = """
async def value(name, value):
    note(f"{name}: {value}")
    return value


async def at_gate(name):
    note(f"{name}: begun")
    while not (HERE / f"{name}-{KIND} may end").exists():
        await pause(0.005)
    note(f"{name}: ended")
    return "dropped"


async def broken():
    raise ConnectionError("again and again")


@child("app/in-flight")
async def in_flight(ctx):
    try:
        await ctx.step.run("flying", at_gate, "in-flight")
        await ctx.step.run("after", value, "in-flight", "after")
    finally:
        note("in-flight: left")


@child("app/sleeping")
async def sleeping(ctx):
    before = await ctx.step.run("before", value, "sleeping", "before")
    await ctx.step.sleep("nap", "300d")


@child("app/retrying", backoff=[3600])
async def retrying(ctx):
    await ctx.step.run("flaky", broken)


@child("app/beginning-again", backoff=[3600])
async def beginning_again(ctx):
    await broken()


@child("app/branches")
async def branches(ctx):
    async def flying():
        try:
            await ctx.step.run("flying", at_gate, "branches")
            await ctx.step.run("after", value, "branches", "after")
        finally:
            note("branches: left")
    await ctx.step.parallel(
        lambda: ctx.step.sleep("nap", "300d"),
        lambda: ctx.step.wait_for_event("event", event="app/never", timeout="300d"),
        flying,
    )


@child("app/swallowing")
async def swallowing(ctx):
    try:
        try:
            await ctx.step.run("flying", at_gate, "swallowing")
        except Exception:
            note("swallowing: swallowed an exception")
        try:
            await ctx.step.run("after", value, "swallowing", "after")
        except Exception:
            note("swallowing: swallowed an exception")
        except BaseException:
            note("swallowing: caught")
        await ctx.step.run("after", value, "swallowing", "after")
    finally:
        note("swallowing: left")
    return "nothing"


@child()
async def leaf(ctx):
    await ctx.step.sleep("nap", "300d")


@child()
async def flying_leaf(ctx):
    try:
        await ctx.step.run("flying", at_gate, "flying-leaf")
        await ctx.step.run("after", value, "flying-leaf", "after")
    finally:
        note("flying-leaf: left")


@child()
async def middle(ctx):
    await ctx.step.map("map", leaf, range(3))


@child("app/parent")
async def parent(ctx):
    await ctx.step.parallel(
        lambda: ctx.step.invoke("one", leaf),
        lambda: ctx.step.invoke("flying", flying_leaf),
        lambda: ctx.step.map("map", middle, range(2)),
        lambda: ctx.step.map("endless", leaf, iter(int, 1), max_in_flight=5),
    )


STOP = [
    fanout.CancelOn("app/stop", match="data.user"),
    fanout.CancelOn("app/stop-if", if_="async.data.least <= event.data.user"),
    fanout.CancelOn("app/too-late", timeout="1ms"),
]


@child("app/stopped-asleep", cancel_on=STOP)
async def stopped_asleep(ctx):
    await ctx.step.sleep("nap", "300d")


@child("app/stopped-if", cancel_on=STOP)
async def stopped_if(ctx):
    await ctx.step.sleep("nap", "300d")


@child("app/stopped-in-flight", cancel_on=STOP)
async def stopped_in_flight(ctx):
    try:
        await ctx.step.run("flying", at_gate, "stopped-in-flight")
        await ctx.step.run("after", value, "stopped-in-flight", "after")
    finally:
        note("stopped-in-flight: left")


@child("app/later", cancel_on=STOP)
async def later(ctx):
    note("later: begun")


@child("app/blocker")
async def blocker(ctx):
    await ctx.step.run("block", at_gate, "blocker")


@child("fanout/function.cancelled")
async def listens(ctx):
    note(f"listens: {ctx.event.data['function_id']}")
"""


class Served:
    """A project whose engine runs."""

    def __init__(self, project: Project, client: fanout.Client) -> None:
        self.project = project
        self.client = client

    def start(self, name: str, **data: object) -> dict[str, int]:
        """A run of each kind: their keys."""
        [event] = self.client.send({"name": f"app/{name}", "data": data})
        runs = f"SELECT function, key FROM run WHERE event = {event.key}"
        until(lambda: len(self.project.query(runs)) == len(KINDS), "the event is routed")
        return {function.removeprefix(f"{name}-"): key for function, key in self.project.query(runs)}

    def send(self, name: str, **data: object) -> None:
        """An event that has been routed when this returns."""
        [event] = self.client.send({"name": f"app/{name}", "data": data})
        until(lambda: self.project.query("SELECT value FROM meta") >= [(event.key,)], "the event is routed")

    def cancel(self, *runs: int) -> None:
        """The engine has decided on it when this returns."""
        request = self.client._connection.request("cancel", {"runs": runs})
        until(
            lambda: self.project.query(f"SELECT handled_at IS NOT NULL FROM request WHERE key = {request}") == [(1,)],
            "the request is handled",
        )

    def open_gates(self, name: str) -> None:
        for kind in KINDS:
            (self.project.root / f"{name}-{kind} may end").touch()

    def until_noted(self, name: str, note: str) -> None:
        for kind in KINDS:
            until(lambda kind=kind: note in notes(self.project, name, kind), f"{name} {kind}: {note}")  # type: ignore[misc]

    def until_state(self, runs: dict[str, int], state: str, step: str = "") -> None:
        """Until a run, and all of its steps but those that have completed, are in this state."""
        for run in runs.values():
            until(lambda run=run: self.states(run) == (state, {step or state}), f"run {run} is {state}")  # type: ignore[misc]

    def states(self, run: int) -> tuple[str, set[str]]:
        [(state,)] = self.project.query(f"SELECT state FROM run WHERE key = {run}")
        steps = self.project.query(f"SELECT state FROM step WHERE run = {run} AND state != 'completed'")
        return state, {step for (step,) in steps} or {state}

    def below(self, run: int) -> list[tuple[str, str, int]]:
        """(function, state, number) of all runs that it has asked for, at any depth."""
        return self.project.query(
            f"""WITH RECURSIVE below (key, function, state) AS (
                  SELECT key, function, state FROM run WHERE parent = {run}
                  UNION ALL
                  SELECT run.key, run.function, run.state FROM below JOIN run ON run.parent = below.key)
                SELECT function, state, count(*) FROM below GROUP BY 1, 2 ORDER BY 1, 2"""
        )


@pytest.fixture(scope="module", params=PARKS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    project = write(tmp_path_factory.mktemp(request.param), CODE, park=PARKS[request.param])
    with project.serving(), fanout.connect(project.root / "fanout.toml") as client:
        yield Served(project, client)


def test_a_step_in_flight_ends_and_nothing_after_it_runs(served: Served) -> None:
    for name in ("in-flight", "branches"):
        runs = served.start(name)
        served.until_noted(name, "begun")
        served.cancel(*runs.values())
        assert [served.states(run)[0] for run in runs.values()] == ["cancelled"] * 2
        served.open_gates(name)
        served.until_noted(name, "left")
        for kind, run in runs.items():
            assert notes(served.project, name, kind) == ["begun", "ended", "left"]
            outputs = served.project.query(f"SELECT key, output FROM step WHERE run = {run} AND output IS NOT NULL")
            assert outputs == []


def test_code_that_catches_everything_does_nothing_more_either(served: Served) -> None:
    runs = served.start("swallowing")
    served.until_noted("swallowing", "begun")
    served.cancel(*runs.values())
    served.open_gates("swallowing")
    served.until_noted("swallowing", "left")
    for kind, run in runs.items():
        # A task is cancelled at the end of its step: before the next one.
        said = notes(served.project, "swallowing", kind)
        assert said in (["begun", "ended", "caught", "left"], ["begun", "ended", "left"])
        assert served.project.query(f"SELECT state, output FROM run WHERE key = {run}") == [("cancelled", None)]


def test_runs_that_wait(served: Served) -> None:
    runs = {name: served.start(name) for name in ("sleeping", "retrying", "beginning-again")}
    served.until_state(runs["sleeping"], "waiting")
    served.until_state(runs["retrying"], "waiting", step="retrying")
    served.until_state(runs["beginning-again"], "waiting")
    served.cancel(*(run for each in runs.values() for run in each.values()))
    for each in runs.values():
        for run in each.values():
            assert served.states(run) == ("cancelled", {"cancelled"})
            assert served.project.query(f"SELECT due_at FROM run WHERE key = {run}") == [(None,)]
    # Twice is once.
    ended = served.project.query("SELECT key, ended_at FROM run WHERE state = 'cancelled'")
    served.cancel(*runs["sleeping"].values(), 10**9)
    assert served.project.query("SELECT key, ended_at FROM run WHERE state = 'cancelled'") == ended


def test_all_that_it_has_invoked(served: Served) -> None:
    runs = served.start("parent")
    served.until_noted("flying-leaf", "begun")
    for kind, run in runs.items():
        there = [(f"flying-leaf-{kind}", 1), (f"leaf-{kind}", 1 + 2 * 3 + 5), (f"middle-{kind}", 2)]
        until(
            lambda run=run, there=there: [(name, number) for name, _, number in served.below(run)] == there,  # type: ignore[misc]
            "all children are there",
        )
    served.cancel(*runs.values())
    for kind, run in runs.items():
        assert served.states(run) == ("cancelled", {"cancelled"})
        assert served.below(run) == [
            (f"flying-leaf-{kind}", "cancelled", 1), (f"leaf-{kind}", "cancelled", 12), (f"middle-{kind}", "cancelled", 2),
        ]  # fmt: skip
    served.open_gates("flying-leaf")
    served.until_noted("flying-leaf", "left")
    for kind in KINDS:
        assert notes(served.project, "flying-leaf", kind) == ["begun", "ended", "left"]
    assert served.project.query("SELECT * FROM map") == []


def test_an_event_that_fits_cancels_a_run_that_waits(served: Served) -> None:
    asleep, other = served.start("stopped-asleep", user=7), served.start("stopped-if", user=5)
    served.until_state(asleep, "waiting")
    served.until_state(other, "waiting")
    for name, data in (("stop", {"user": 8}), ("stop", {}), ("stop-if", {"least": 8}), ("too-late", {"user": 7})):
        served.send(name, **data)
    assert {served.states(run)[0] for run in (*asleep.values(), *other.values())} == {"waiting"}
    served.send("stop", user=7)
    assert {served.states(run)[0] for run in asleep.values()} == {"cancelled"}
    assert {served.states(run)[0] for run in other.values()} == {"waiting"}
    served.send("stop-if", least=5)
    assert {served.states(run)[0] for run in other.values()} == {"cancelled"}


def test_an_event_cancels_a_run_whose_step_is_in_flight(served: Served) -> None:
    runs = served.start("stopped-in-flight", user=70)
    served.until_noted("stopped-in-flight", "begun")
    served.send("stop", user=70)
    assert {served.states(run)[0] for run in runs.values()} == {"cancelled"}
    served.open_gates("stopped-in-flight")
    served.until_noted("stopped-in-flight", "left")
    for kind in KINDS:
        assert notes(served.project, "stopped-in-flight", kind) == ["begun", "ended", "left"]


def test_functions_that_listen_hear_of_it(served: Served) -> None:
    runs = served.start("sleeping")
    before = {kind: len(notes(served.project, "listens", kind)) for kind in KINDS}
    served.cancel(*runs.values())
    for kind in KINDS:
        until(
            lambda kind=kind: len(notes(served.project, "listens", kind)) >= before[kind] + 2,  # type: ignore[misc]
            "who listens is started",
        )
        assert {f"sleeping-{kind}" for kind in KINDS} <= set(notes(served.project, "listens", kind))


def test_nothing_of_them_is_left(served: Served) -> None:
    """All gates are open, so whatever was cancelled is out of its worker."""
    runs = served.start("sleeping")  # Of the others some may have had an engine of their own.
    served.until_state(runs, "waiting")
    served.cancel(*runs.values())
    live = "SELECT DISTINCT function FROM run WHERE ended_at IS NULL"
    until(lambda: served.project.query(live) == [], "all runs have ended")
    assert served.project.query("SELECT * FROM wait") == []
    assert served.project.query("SELECT DISTINCT state FROM step ORDER BY 1") == [("cancelled",), ("completed",)]


def test_runs_that_have_not_begun(tmp_path: Path) -> None:
    """By request and by an event; in the queue, and before their event's own time."""
    project = write(tmp_path, CODE, park="0", pool="processes = 1\nslots = 2")
    with project.serving(), fanout.connect(tmp_path / "fanout.toml") as client:
        served = Served(project, client)
        served.start("blocker")
        served.until_noted("blocker", "begun")
        by_request, by_event = served.start("later", user=1), served.start("later", user=2)
        [future] = client.send({"name": "app/later", "ts": 10**14 - 1, "data": {"user": 2}})
        until(lambda: len(project.query(f"SELECT 1 FROM run WHERE event = {future.key}")) == 2, "it is routed")
        assert {served.states(run)[0] for run in (*by_request.values(), *by_event.values())} == {"queued"}
        served.cancel(*by_request.values())
        served.send("stop", user=2)
        states = project.query("SELECT state, count(*), count(started_at) FROM run WHERE function LIKE 'later%'")
        assert states == [("cancelled", 6, 0)]
        served.open_gates("blocker")
        until(lambda: project.query("SELECT 1 FROM run WHERE ended_at IS NULL") == [], "all runs have ended")
        assert [notes(project, "later", kind) for kind in KINDS] == [[], []]
