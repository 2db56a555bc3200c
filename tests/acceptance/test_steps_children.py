"""Runs that steps ask for: one by `invoke`, one for each item by `map`."""

from __future__ import annotations

import pytest

from tests.acceptance.both import KINDS, PARKS, Suite

ITEMS = 2_000
CODE = '''
import sqlite3
from contextlib import closing

ITEMS = 2_000


async def value(name, value):
    note(f"{name}: {value}")
    return value


@child()
async def triple(ctx):
    return ctx.event.data["item"] * 3


def has_waited(run_id):
    """Whether the run that has asked for this one has nothing more to do than to wait; then it has, for good."""
    if not (HERE / f"{KIND} has waited").exists():
        with closing(sqlite3.connect(f"file:{HERE}/.fanout/journal.db?mode=ro", uri=True)) as journal:
            parent = "SELECT parent.state FROM run JOIN run AS parent ON parent.key = run.parent WHERE run.id = ?"
            if journal.execute(parent, (run_id,)).fetchone() != ("waiting",):
                return False
        (HERE / f"{KIND} has waited").touch()
    return True


@child()
async def patient(ctx):
    """It does not end before no more of them may be in flight."""
    while not has_waited(ctx.run_id):
        await pause(0.05)
    return ctx.event.data["item"] * 3


@child()
async def careful(ctx):
    """With steps of its own, one of which fails at first."""
    n = ctx.event.data["n"]
    async def work():
        note(f"careful: {n}")
        fail_once(f"careful {n}")
        return n
    await ctx.step.sleep("nap", 0.01)
    return {"n": await ctx.step.run("work", work), "by": ctx.event.name}


@child(retries=0)
async def picky(ctx):
    n = ctx.event.data["item"]
    if n % 5 == 3:
        raise ValueError(f"{n} is not to be had")
    return n


@child(retries=0)
async def stubborn(ctx):
    if ctx.event.data["item"] == 3:
        raise ValueError("3 is not to be had")
    await ctx.step.wait_for_event("never", event="app/never", timeout="300d")


@child(retries=1)
async def always_fails(ctx):
    raise RuntimeError("as always")


@child()
async def slow(ctx):
    await ctx.step.sleep("nap", 0.5)
    note("slow: ended")
    return "late"


@child()
async def delegates(ctx):
    if ctx.event.data["depth"] == 0:
        return 1
    return 1 + await ctx.step.invoke("deeper", f"delegates-{KIND}", {"depth": ctx.event.data["depth"] - 1})


@go()
async def maps(ctx):
    def items():
        for n in range(ITEMS):
            note("maps: an item is taken")
            yield n
    results = await ctx.step.map("map", patient, items())
    fail_once("maps")
    return results == [n * 3 for n in range(ITEMS)]


@go()
async def few_in_flight(ctx):
    return await ctx.step.map("map", careful, ({"n": n} for n in range(20)), max_in_flight=3)


@go()
async def with_keys(ctx):
    """Whenever it comes back there are other items before those it had, and those it had are known by their keys."""
    new = [] if is_first("with keys") else [{"item": 70}, {"item": 80}]
    items = new + [{"item": n} for n in range(30)]
    results = await ctx.step.map("map", triple, items, key=lambda item: item["item"], max_in_flight=10)
    return sorted(results)


@go()
async def twice_the_same_key(ctx):
    try:
        await ctx.step.map("map", triple, [{"item": 1}, {"item": 2}, {"item": 1}], key=lambda item: item["item"])
    except fanout.FanoutError as error:
        return str(error)


@go()
async def collects(ctx):
    results = await ctx.step.map("map", picky, range(12), on_error="collect")
    fail_once("collects")
    return [
        [result.name, result.type, result.cause_message] if isinstance(result, fanout.InvokeError) else result
        for result in results
    ]


@go()
async def stops(ctx):
    try:
        await ctx.step.map("map", stubborn, range(6))
    except fanout.InvokeError as error:
        said = [error.name, error.type, error.cause_message, "not to be had" in error.traceback]
        return [*said, await ctx.step.run("after", value, "stops", "after")]


@go()
async def empty(ctx):
    return await ctx.step.map("map", triple, [])


@go()
async def side_by_side(ctx):
    """Maps, sleeps and invocations in branches of one run."""
    return await ctx.step.parallel(
        lambda: ctx.step.map("map", triple, range(5)),
        lambda: ctx.step.map("map", triple, range(5, 9), max_in_flight=1),
        lambda: ctx.step.sleep("nap", 0.05),
        lambda: ctx.step.invoke("one", careful, {"n": 100}),
        lambda: ctx.step.invoke("one", careful, {"n": 101}),
    )


@go()
async def invokes(ctx):
    said = []
    said.append(await ctx.step.invoke("by object", careful, {"n": 200}))
    said.append(await ctx.step.invoke("by id", f"careful-{KIND}", {"n": 201}))
    said.append(await ctx.step.invoke("with the app", f"test/careful-{KIND}", {"n": 202}))
    said.append(await ctx.step.invoke("deep", delegates, {"depth": 5}))
    for function, options in ((always_fails, {}), (slow, {"timeout": 0.05}), ("gone", {})):
        try:
            await ctx.step.invoke("bad", function, **options)
        except fanout.InvokeError as error:
            said.append([error.name, error.type, error.cause_message])
    fail_once("invokes")
    return said
'''


@pytest.fixture(scope="module", params=PARKS)
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return Suite(tmp_path_factory.mktemp(request.param), CODE, park=PARKS[request.param])


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def children(suite: Suite, name: str, kind: str) -> list[tuple[str, int]]:
    """How many runs this one has asked for, by state."""
    id_ = suite.run(name, kind)["id"]
    return suite.project.query(
        f"""SELECT child.state, count(*) FROM run JOIN run child ON child.parent = run.key
            WHERE run.id = '{id_}' GROUP BY 1 ORDER BY 1"""
    )


def test_a_map_over_a_generator_returns_in_the_order_of_its_items(suite: Suite, kind: str) -> None:
    assert suite.output("maps", kind) is True
    assert children(suite, "maps", kind) == [("completed", ITEMS)]
    taken = len(suite.notes("maps", kind))
    # Those that have become runs are passed over whenever the code is entered with the map going on; not after it.
    assert taken == ITEMS if suite.is_parking else ITEMS < taken < 5 * ITEMS
    assert suite.steps("maps", kind) == {"map": ("completed", 1)}


def test_no_more_items_are_in_flight_than_may_be(suite: Suite, kind: str) -> None:
    name = "fanout/function.invoked"
    assert suite.output("few-in-flight", kind) == [{"n": n, "by": name} for n in range(20)]
    assert sorted(suite.notes("careful", kind)).count("7") == 2
    id_ = suite.run("few-in-flight", kind)["id"]
    # Each begins in the transaction after the end of one before it, or in one further on.
    most = suite.project.query(
        f"""WITH child AS (SELECT child.* FROM run JOIN run child ON child.parent = run.key WHERE run.id = '{id_}')
            SELECT max((SELECT count(*) FROM child other
                        WHERE other.queued_at < child.queued_at AND other.ended_at > child.queued_at))
            FROM child"""
    )
    assert most[0][0] <= 2


def test_keys_tell_items_apart_that_have_moved(suite: Suite, kind: str) -> None:
    results = suite.output("with-keys", kind)
    assert [each for each in results if each < 200] == [n * 3 for n in range(30)]
    assert set(results) - {n * 3 for n in range(30)} <= {210, 240}


def test_two_items_with_one_key_are_refused(suite: Suite, kind: str) -> None:
    assert suite.output("twice-the-same-key", kind) == "step `map`: item 2 has the key `1`, like one before it"


def test_what_failed_can_be_collected(suite: Suite, kind: str) -> None:
    assert suite.output("collects", kind) == [
        ["map", "ValueError", f"item {n}: {n} is not to be had"] if n % 5 == 3 else n for n in range(12)
    ]
    assert children(suite, "collects", kind) == [("completed", 10), ("failed", 2)]


def test_the_first_failure_stops_the_others(suite: Suite, kind: str) -> None:
    assert suite.output("stops", kind) == ["map", "ValueError", "item 3: 3 is not to be had", True, "after"]
    assert children(suite, "stops", kind) == [("cancelled", 5), ("failed", 1)]
    assert suite.steps("stops", kind) == {"map": ("failed", 1), "after": ("completed", 1)}


def test_a_map_over_nothing(suite: Suite, kind: str) -> None:
    assert suite.output("empty", kind) == []


def test_maps_and_invocations_side_by_side(suite: Suite, kind: str) -> None:
    invoked = [{"n": n, "by": "fanout/function.invoked"} for n in (100, 101)]
    assert suite.output("side-by-side", kind) == [
        [n * 3 for n in range(5)], [n * 3 for n in range(5, 9)], None, *invoked,
    ]  # fmt: skip


def test_invoke_by_object_and_by_id_and_what_can_go_wrong(suite: Suite, kind: str) -> None:
    assert suite.output("invokes", kind) == [
        *({"n": n, "by": "fanout/function.invoked"} for n in (200, 201, 202)), 6,
        ["bad", "RuntimeError", "as always"],
        ["bad#2", "TimeoutError", "the function did not end in time"],
        ["bad#3", "LookupError", "there is no function `gone`"],
    ]  # fmt: skip
    # Whoever is waited for no longer goes on all the same.
    assert suite.notes("slow", kind) == ["ended"]


def test_no_step_is_executed_after_it_was_recorded(suite: Suite, kind: str) -> None:
    """Each of these fails once."""
    numbers = [*range(20), 100, 101, 200, 201, 202]
    assert sorted(suite.notes("careful", kind)) == sorted([str(n) for n in numbers] * 2)


def test_nothing_is_left_waiting(suite: Suite) -> None:
    assert suite.project.query("SELECT count(*) FROM run WHERE ended_at IS NULL") == [(0,)]
    assert suite.project.query("SELECT * FROM wait") == []
    assert suite.project.query("SELECT * FROM map") == []
