"""Every kind of step, through the real command: what it gives at first, and when it is remembered."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.both import KINDS, PARKS, Suite

CODE = '''
import decimal, enum, uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, NewType, Optional, TypedDict
import msgspec, pydantic


async def double(n):
    return n * 2


@child()
async def doubled(ctx):
    return ctx.event.data["n"] * 2


@child("app/asked")
async def answers(ctx):
    """Goes on until everybody says to have had the answer: it counts only after the wait is recorded."""
    for _ in range(200):
        answers = [{"user": user, "n": n} for n in (1, 9) for user in (8, 7)]
        await ctx.step.send_event("answer", [{"name": f"app/answer-{KIND}", "data": each} for each in answers])
        await ctx.step.sleep("a while", 0.05)
        if (HERE / f"{KIND} every kind has its answer").exists() and (HERE / f"{KIND} waits has its answer").exists():
            break


@go()
async def every_kind(ctx):
    said = {}
    said["run"] = await ctx.step.run("run", double, 21)
    said["sleep"] = await ctx.step.sleep("sleep", 0.02)
    said["until"] = await ctx.step.sleep_until("until", datetime.now(UTC) + timedelta(milliseconds=20))
    ids = await ctx.step.send_event("send", {"name": "app/asked"})
    said["sent"] = len(ids)
    event = await ctx.step.wait_for_event("wait", event=f"app/answer-{KIND}", timeout="50s")
    said["event"] = [event.name, event.data["n"], type(event).__name__]
    is_first("every kind has its answer")
    said["invoke"] = await ctx.step.invoke("invoke", doubled, {"n": 4})
    said["map"] = await ctx.step.map("map", doubled, [{"n": 1}, {"n": 2}])
    said["parallel"] = await ctx.step.parallel(
        lambda: ctx.step.run("left", double, 1), lambda: ctx.step.run("right", double, 2)
    )
    return said


@go()
async def waits(ctx):
    name = f"app/answer-{KIND}"
    found = await ctx.step.parallel(
        lambda: ctx.step.wait_for_event("match", event=name, timeout="50s", match="data.user"),
        lambda: ctx.step.wait_for_event("if", event=name, timeout="50s", if_="async.data.n > event.data.n"),
        lambda: ctx.step.wait_for_event(
            "both", event=name, timeout="50s", match="data.user", if_="async.data.n > event.data.n"
        ),
        lambda: ctx.step.wait_for_event("nowhere", event=name, timeout=0.3, match="data.nowhere"),
        lambda: ctx.step.wait_for_event("never", event="app/never", timeout=0.1),
        lambda: ctx.step.wait_for_event("not at all", event=name, timeout=0),
    )
    is_first("waits has its answer")
    return [event and [event.data["user"], event.data["n"]] for event in found]


@go()
async def past(ctx):
    for when in ("2001-01-01T00:00:00Z", datetime(2001, 1, 1), datetime.now(UTC) - timedelta(days=400)):
        await ctx.step.sleep_until("past", when)
    await ctx.step.sleep("nothing", 0)
    note("past: was here")
    return "on"


@go()
async def sends(ctx):
    one = await ctx.step.send_event("one", {"name": "app/sent", "id": f"given-{KIND}", "data": {"n": 1}})
    many = await ctx.step.send_event("many", [{"name": "app/sent", "data": {"n": n, "by": KIND}} for n in range(3)])
    none = await ctx.step.send_event("none", [])
    refused = []
    for events in ({"nmae": "app/sent"}, {"name": "fanout/sent"}, [{"name": "app/sent"}, {"name": ""}]):
        try:
            await ctx.step.send_event("refused", events)
        except fanout.FanoutError as error:
            refused.append(str(error))
    fail_once("sends")
    return [one, many, none, refused]


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float


class Shape(msgspec.Struct):
    name: str
    points: list[Point]


class Row(TypedDict):
    at: datetime
    note: Optional[str]


class Model(pydantic.BaseModel):
    colour: Colour
    price: decimal.Decimal
    alias: int = pydantic.Field(alias="other")


class Pair(NamedTuple):
    left: int
    right: str


Key = NewType("Key", str)
WHEN = datetime(2026, 7, 1, 12, 30, 0, 5, tzinfo=UTC)
MODEL = Model(colour=Colour.RED, price=decimal.Decimal("1.10"), other=7)
VALUES = [
    (Point(1, 2.0), Point),
    (Shape("s", [Point(3, 4.5)]), Shape),
    ({"at": WHEN, "note": None}, Row),
    (MODEL, Model),
    ([MODEL, MODEL], list[Model]),
    ([Point(1, 1.0), Point(2, 2.0)], Sequence[Point]),
    ({"a": [Shape("t", [])]}, dict[str, list[Shape]]),
    ({uuid.UUID(int=5): Point(0, 0.0)}, dict[uuid.UUID, Point]),
    (None, Optional[Point]),
    (Point(5, 5.0), Point | None),
    (Pair(1, "one"), Pair),
    ((1, "two", 3.0), tuple[int, str, float]),
    ({1, 2}, set[int]),
    (frozenset({Colour.RED}), frozenset[Colour]),
    (Colour.RED, Colour),
    (WHEN, datetime),
    (timedelta(seconds=90), timedelta),
    (uuid.UUID(int=9), uuid.UUID),
    (decimal.Decimal("0.30"), decimal.Decimal),
    (b"bytes", bytes),
    ("k", Key),
    ("a", Literal["a", "b"]),
    (3, Annotated[int, "a note"]),
    (2.0, float),
    ([1, 2], list),
]


def maker(value, kind):
    async def make() -> kind:
        return value
    return make


@child()
async def makes_a_point(ctx) -> Point:
    return Point(ctx.event.data["n"], 0.5)


@go()
async def typed(ctx):
    values = [await ctx.step.run(str(kind), maker(value, kind)) for value, kind in VALUES]
    values.append(await ctx.step.invoke("by object", makes_a_point, {"n": 1}))
    values.append(await ctx.step.invoke("by id", f"makes-a-point-{KIND}", {"n": 1}))
    values.append(await ctx.step.map("map", makes_a_point, [{"n": 2}]))
    expected = [value for value, _ in VALUES] + [Point(1, 0.5), {"x": 1, "y": 0.5}, [Point(2, 0.5)]]
    note(f"typed: {[(value, type(value)) for value in values]!r}")
    fail_once("typed")
    return [repr((value, want)) for value, want in zip(values, expected) if repr((value, type(value))) != repr((want, type(want)))]


INSIDE = {
    "run": lambda step: step.run("inner", double, 1),
    "sleep": lambda step: step.sleep("inner", 1),
    "sleep_until": lambda step: step.sleep_until("inner", WHEN),
    "wait_for_event": lambda step: step.wait_for_event("inner", event="e", timeout=1),
    "send_event": lambda step: step.send_event("inner", {"name": "app/sent"}),
    "invoke": lambda step: step.invoke("inner", doubled),
    "map": lambda step: step.map("inner", doubled, [1]),
    "parallel": lambda step: step.parallel(lambda: step.run("inner", double, 1)),
}


@go()
async def inside(ctx):
    said = {}
    for kind, call in INSIDE.items():
        async def outer():
            return await call(ctx.step)
        try:
            await ctx.step.run(kind, outer)
        except fanout.StepError as error:
            said[kind] = error.cause_message
    return said


BAD = {
    "run": lambda step: step.run("bad", lambda: {"x": [1, object()]}),
    "nan": lambda step: step.run("bad", lambda: {"x": float("nan")}),
    "send_event": lambda step: step.send_event("bad", {"name": "app/sent", "data": {"x": object()}}),
    "invoke": lambda step: step.invoke("bad", doubled, {"x": [object()]}),
    "no object": lambda step: step.invoke("bad", doubled, [1]),
    "item": lambda step: step.map("bad", doubled, [{"n": 1}, {"n": {1: object}}]),
    "no function": lambda step: step.map("bad", double, []),
    "no target": lambda step: step.invoke("bad", "gone"),
    "wait": lambda step: step.wait_for_event("bad", event="app/*", timeout=1),
    "expression": lambda step: step.wait_for_event("bad", event="e", timeout=1, if_="async.data.("),
    "duration": lambda step: step.sleep("bad", "1 fortnight"),
    "too long": lambda step: step.sleep("bad", "367d"),
    "too late": lambda step: step.sleep_until("bad", datetime.now(UTC) + timedelta(days=367)),
    "no time": lambda step: step.sleep_until("bad", "tomorrow"),
}


@go()
async def bad(ctx):
    said = {}
    for kind, call in BAD.items():
        try:
            await call(ctx.step)
        except fanout.FanoutError as error:
            said[kind] = f"{type(error).__name__}: {error}"
    return said
'''


@pytest.fixture(scope="module", params=PARKS)
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return Suite(tmp_path_factory.mktemp(request.param), CODE, park=PARKS[request.param], data={"user": 7, "n": 5})


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def test_every_kind_of_step(suite: Suite, kind: str) -> None:
    assert suite.output("every-kind", kind) == {
        "run": 42, "sleep": None, "until": None, "sent": 1, "event": [f"app/answer-{kind}", 1, "Event"],
        "invoke": 8, "map": [2, 4], "parallel": [2, 4],
    }  # fmt: skip
    kinds = [(step["name"], step["kind"]) for step in suite.run("every-kind", kind)["steps"]]
    assert sorted(kinds) == [
        ("invoke", "invoke"), ("left", "run"), ("map", "map"), ("right", "run"), ("run", "run"), ("send", "send"),
        ("sleep", "sleep"), ("until", "sleep"), ("wait", "wait"),
    ]  # fmt: skip
    assert {*suite.steps("every-kind", kind).values()} == {("completed", 1)}


def test_which_events_end_a_wait(suite: Suite, kind: str) -> None:
    assert suite.output("waits", kind) == [[7, 1], [8, 9], [7, 9], None, None, None]


def test_a_time_that_has_passed_is_no_wait(suite: Suite, kind: str) -> None:
    assert suite.output("past", kind) == "on"
    assert suite.steps("past", kind) == dict.fromkeys(("past", "past#2", "past#3", "nothing"), ("completed", 1))
    assert suite.notes("past", kind) == ["was here"]


def test_the_ids_of_sent_events(suite: Suite, kind: str) -> None:
    one, many, none, refused = suite.output("sends", kind)
    assert (one, none) == ([f"given-{kind}"], [])
    by = f"name = 'app/sent' AND json_extract(data, '$.by') = '{kind}'"
    assert suite.project.query(f"SELECT id FROM event WHERE {by} ORDER BY key") == [(id_,) for id_ in many]
    run = suite.run("sends", kind)["id"]
    count = f"SELECT count(*) FROM event JOIN run ON run.key = origin WHERE run.id = '{run}'"
    assert suite.project.query(count) == [(4,)]
    assert refused == [
        "`step refused` event 1: field `nmae` is not one that an event has",
        "`step refused#2` event 1: field `name` begins with `fanout/`, as only fanout's own events do",
        "`step refused#3` event 2: field `name` is empty",
    ]


def test_a_value_has_its_type_at_first_and_when_it_is_remembered(suite: Suite, kind: str) -> None:
    assert suite.output("typed", kind) == []
    notes = suite.notes("typed", kind)
    assert len(notes) >= 2
    assert len(set(notes)) == 1


def test_a_step_inside_a_step_is_refused_whatever_it_is(suite: Suite, kind: str) -> None:
    said = suite.output("inside", kind)
    assert said == {
        outer: f"`parallel` is inside step `{outer}`"
        if outer == "parallel"
        else f"step `inner` is inside step `{outer}`"
        for outer in ("run", "sleep", "sleep_until", "wait_for_event", "send_event", "invoke", "map", "parallel")
    }
    assert {*suite.steps("inside", kind).values()} == {("failed", 1)}


def test_what_cannot_be_is_said_with_the_step_and_the_place(suite: Suite, kind: str) -> None:
    said: dict[str, Any] = suite.output("bad", kind)
    late = said.pop("too late")
    assert late.startswith("UsageError: step `bad#13`: the time is ")
    assert late.endswith(", more than 366 days from now")
    function = said.pop("no function")
    assert function.startswith("UsageError: step `bad#7`: <function double at ")
    assert said == {
        "run": "StepError: step `bad` failed: OutputError: step `bad` returned a `object` at `$.x[1]`, which can't be recorded as JSON",
        "nan": "StepError: step `bad#2` failed: OutputError: step `bad#2` returned nan at `$.x`, which JSON does not have",
        "send_event": "OutputError: step `bad#3` sends a `object` at `$[0].data.x`, which can't be recorded as JSON",
        "invoke": "OutputError: the data of step `bad#4` has a `object` at `$.x[0]`, which can't be recorded as JSON",
        "no object": "UsageError: step `bad#5`: `data` has to be an object, not `[1]`",
        "item": "OutputError: item 1 of step `bad#6` has a `type` at `$.n.1`, which can't be recorded as JSON",
        "no target": "InvokeError: step `bad#8` failed: LookupError: there is no function `gone`",
        "wait": "UsageError: step `bad#9`: `event` has to be the name of an event, not 'app/*'",
        "expression": "ExpressionError: `async.data.(` is not a CEL expression: unexpected `.(` (column 12)",
        "duration": 'UsageError: step `bad#11`: the duration: "1 fortnight" is not a duration: write it like `500ms`, `30s` or `1h30m`',
        "too long": "UsageError: step `bad#12`: the duration is 31,708,800 s, and has to be from 0 to 366 days",
        "no time": "UsageError: step `bad#14`: the time is 'tomorrow', not a time such as `2027-01-31T09:00:00+01:00`",
    }


def test_nothing_failed_and_nothing_is_left_waiting(suite: Suite) -> None:
    assert suite.result.code == 0
    assert suite.project.query("SELECT DISTINCT state FROM run") == [("completed",)]
    assert suite.project.query("SELECT * FROM wait") == []
    assert suite.project.query("SELECT * FROM map") == []
