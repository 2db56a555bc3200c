"""Steps in parallel branches: whose value is whose, what fails, what is abandoned, and how the run comes back."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest

from tests.acceptance.both import KINDS, PARKS, Suite

MANY = 1_000
CODE = '''
MANY = 1_000


async def value(name, value):
    note(f"{name}: {value}")
    return value


async def fails(message):
    raise fanout.NonRetriableError(message)


async def flaky(name, what):
    note(f"{name}: {what}")
    fail_once(f"{name} {what}")
    return what


@go()
async def names(ctx):
    looped = [await ctx.step.run("n", value, "names", f"loop {k}") for k in range(3)]
    async def branch(k):
        return [await ctx.step.run("n", value, "names", f"branch {k}.{i}") for i in range(3)]
    branches = await ctx.step.parallel(*[partial(branch, k) for k in range(3)])
    await ctx.step.sleep("n", 0.02)
    fail_once("names")
    last = await ctx.step.run("n", value, "names", "last")
    return [looped, branches, last]


@go()
async def order(ctx):
    """At first the branches take their turns one way round, whenever it comes back the other way round."""
    turns = range(4) if is_first("order") else range(3, -1, -1)
    gates = {}
    for turn in turns:
        gates[turn] = [Gate(), Gate()]
    async def branch(k):
        found = []
        for i in range(2):
            before = [each for each in gates if list(gates).index(each) < list(gates).index(k)]
            for each in before:
                await gates[each][i].wait()
            found.append(await ctx.step.run("same", value, "order", f"{k}.{i}"))
            gates[k][i].set()
        await ctx.step.sleep("same nap", 0.01)
        found.append(await ctx.step.run("same", value, "order", f"{k}.2"))
        return found
    found = await ctx.step.parallel(*[partial(branch, k) for k in range(4)])
    fail_once("order")
    again = await ctx.step.parallel(*[lambda: ctx.step.run("same", value, "order", "again")] * 2)
    return found + again


@go()
async def errors(ctx):
    async def own_error():
        await ctx.step.run("before", value, "errors", "before")
        raise LookupError("of the branch's own code")
    async def goes_on():
        await ctx.step.sleep("nap", 0.02)
        return await ctx.step.run("after", value, "errors", "after")
    said = []
    for branches in (
        [lambda: ctx.step.run("bad", fails, "first"), goes_on, lambda: ctx.step.run("bad", fails, "second")],
        [own_error, lambda: ctx.step.run("bad", fails, "third")],
        [lambda: ctx.step.run("good", value, "errors", "good"), own_error],
    ):
        try:
            await ctx.step.parallel(*branches)
        except (fanout.StepError, LookupError) as error:
            said.append(str(error))
    return said


@go(retries=0)
async def uncaught(ctx):
    await ctx.step.parallel(
        lambda: ctx.step.run("bad", fails, "uncaught"), lambda: ctx.step.run("good", value, "uncaught", "good")
    )


@go()
async def nested(ctx):
    """Some of it waits for an hour, and is no hindrance to what is deeper in branches."""
    async def leaf(name):
        await ctx.step.sleep(f"nap {name}", 0.01)
        first = await ctx.step.run("leaf", value, "nested", name)
        return first + await ctx.step.run("leaf", value, "nested", name)
    async def inner(name):
        return await ctx.step.parallel(*[partial(leaf, f"{name}{k}") for k in "xy"])
    async def outer(name):
        return await ctx.step.parallel(*[partial(inner, f"{name}{k}") for k in "pq"])
    async def patient():
        event = await ctx.step.wait_for_event("done", event=f"app/nested-{KIND}", timeout="300d")
        return event.name
    async def impatient():
        found = await ctx.step.parallel(*[partial(outer, k) for k in "ab"])
        await ctx.step.send_event("done", {"name": f"app/nested-{KIND}"})
        return found
    return await ctx.step.parallel(patient, impatient)


@go()
async def middle(ctx):
    """It has to leave, if it has to, while one branch sleeps, one waits for its next attempt, and one for an event."""
    async def sleeping():
        before = await ctx.step.run("before sleep", value, "middle", "before sleep")
        await ctx.step.sleep("sleep", 0.3)
        return [before, await ctx.step.run("after sleep", value, "middle", "after sleep")]
    async def retrying():
        before = await ctx.step.run("before retry", value, "middle", "before retry")
        return [before, await ctx.step.run("flaky", flaky, "middle", "flaky")]
    async def waiting():
        event = await ctx.step.wait_for_event("event", event=f"app/middle-{KIND}", timeout="50s", match="data.user")
        return [event.data, await ctx.step.run("after event", value, "middle", "after event")]
    async def sending():
        await ctx.step.sleep("before sending", 0.1)
        for user in (8, 7):
            await ctx.step.send_event("send", {"name": f"app/middle-{KIND}", "data": {"user": user}})
    try:
        return await ctx.step.parallel(sleeping, retrying, waiting, sending)
    except Exception as error:
        return repr(error)


@go()
async def many(ctx):
    async def square(n):
        note(f"many: {n}")
        if n % 3 == 0:
            fail_once(f"many {n}")
        return n * n
    results = await ctx.step.parallel(*[partial(ctx.step.run, "square", square, n) for n in range(MANY)])
    return [*results, await ctx.step.run("sum", lambda: sum(results))]


if KIND == "tasks":

    @go()
    async def gathered(ctx):
        async def square(n):
            note(f"gathered: {n}")
            if n % 3 == 0:
                fail_once(f"gathered {n}")
            return n * n
        results = await asyncio.gather(*[ctx.step.run(f"square-{n}", square, n) for n in range(MANY)])
        return results + [await ctx.step.run("sum", lambda: sum(results))]

    @go()
    async def groups(ctx):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.step.run("flaky", flaky, "groups", str(n))) for n in range(5)]
            naps = [group.create_task(ctx.step.sleep("nap", 0.02)) for _ in range(3)]
        said = []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.step.sleep("cut short", "1h"))
                group.create_task(ctx.step.run("bad", fails, "of a group"))
        except* fanout.StepError as errors:
            said += [str(error) for error in errors.exceptions]
        return [[task.result() for task in tasks], said]

    @go(retries=0)
    async def group_uncaught(ctx):
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step.sleep("cut short", "1h"))
            group.create_task(ctx.step.run("bad", fails, "of a group"))

    @go()
    async def first(ctx):
        """The slow ones are abandoned, one after the other, and the run goes on without them."""
        async def quick(n):
            return await ctx.step.run("quick", value, "first", n)
        winners = []
        for n in range(3):
            race = [asyncio.create_task(ctx.step.sleep("slow", "1h")), asyncio.create_task(quick(n))]
            done, _ = await asyncio.wait(race, return_when=asyncio.FIRST_COMPLETED)
            winners += [task.result() for task in done]
            await ctx.step.sleep("nap", 0.02)
        return winners

    @go()
    async def hurried(ctx):
        said = []
        for _ in range(2):
            try:
                await asyncio.wait_for(ctx.step.wait_for_event("never", event="app/never", timeout="1h"), 0.05)
            except TimeoutError:
                said.append("late")
        return [*said, await ctx.step.run("after", value, "hurried", "after")]

    @go()
    async def code_between(ctx):
        """What is between steps goes on while all else waits for a long time, and is not cut off."""
        async def busy():
            found = []
            for n in range(3):
                await asyncio.sleep(0.02)
                await asyncio.to_thread(time.sleep, 0.02)
                found.append(await ctx.step.run("busy", value, "code between", n))
            await ctx.step.send_event("done", {"name": "app/between"})
            return found
        async def patient():
            event = await ctx.step.wait_for_event("event", event="app/between", timeout="300d")
            return event.name
        return await asyncio.gather(patient(), busy())
'''


@pytest.fixture(scope="module", params=PARKS)
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return Suite(tmp_path_factory.mktemp(request.param), CODE, park=PARKS[request.param], data={"user": 7})


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def test_repeated_names_count_up_in_loops_and_in_branches(suite: Suite, kind: str) -> None:
    loop, branches = [f"loop {k}" for k in range(3)], [[f"branch {k}.{i}" for i in range(3)] for k in range(3)]
    assert suite.output("names", kind) == [loop, branches, "last"]
    keys = ["n", *(f"n#{number}" for number in range(2, 15))]
    assert suite.steps("names", kind) == dict.fromkeys(keys, ("completed", 1))
    assert sorted(suite.notes("names", kind)) == sorted([*loop, *chain(*branches), "last"])


def test_branches_keep_their_own_values_in_whatever_order_they_come_back(suite: Suite, kind: str) -> None:
    assert suite.output("order", kind) == [*([f"{k}.{i}" for i in range(3)] for k in range(4)), "again", "again"]
    assert Counter(suite.notes("order", kind)) == Counter(
        {**{f"{k}.{i}": 1 for k in range(4) for i in range(3)}, "again": 2}
    )


def test_the_first_branch_that_raised_speaks_for_all_when_all_have_ended(suite: Suite, kind: str) -> None:
    assert suite.output("errors", kind) == [
        "step `bad` failed: NonRetriableError: first", "of the branch's own code", "of the branch's own code",
    ]  # fmt: skip
    assert sorted(suite.notes("errors", kind)) == ["after", "before", "before", "good"]
    assert Counter(suite.steps("errors", kind).values()) == {("failed", 1): 3, ("completed", 1): 5}


def test_a_branch_that_nobody_catches_fails_the_run(suite: Suite, kind: str) -> None:
    run = suite.run("uncaught", kind)
    assert (run["state"], run["error"]["type"]) == ("failed", "StepError")
    assert suite.steps("uncaught", kind) == {"bad": ("failed", 1), "good": ("completed", 1)}


def test_branches_in_branches_get_on_while_others_wait_for_long(suite: Suite, kind: str) -> None:
    leaves = [[[f"{a}{p}{x}" * 2 for x in "xy"] for p in "pq"] for a in "ab"]
    assert suite.output("nested", kind) == [f"app/nested-{kind}", leaves]
    assert Counter(suite.notes("nested", kind)) == Counter({f"{a}{p}{x}": 2 for a in "ab" for p in "pq" for x in "xy"})


def test_a_run_comes_back_in_the_middle_of_its_branches(suite: Suite, kind: str) -> None:
    assert suite.output("middle", kind) == [
        ["before sleep", "after sleep"], ["before retry", "flaky"], [{"user": 7}, "after event"], None,
    ]  # fmt: skip
    once = ["after event", "after sleep", "before retry", "before sleep", "flaky", "flaky"]
    assert sorted(suite.notes("middle", kind)) == once


def test_a_thousand_branches_of_which_a_third_fails_at_first(suite: Suite, kind: str) -> None:
    check_squares(suite, "many", kind)


def test_a_thousand_steps_gathered_of_which_a_third_fails_at_first(suite: Suite) -> None:
    check_squares(suite, "gathered", "tasks")


def check_squares(suite: Suite, name: str, kind: str) -> None:
    squares = [n * n for n in range(MANY)]
    assert suite.output(name, kind) == [*squares, sum(squares)]
    # Each is executed until it is recorded and never after.
    executed = Counter(suite.notes(name, kind))
    assert executed == {str(n): 2 if n % 3 == 0 else 1 for n in range(MANY)}
    attempts = Counter(suite.steps(name, kind).values())
    assert attempts == {("completed", 2): len(range(0, MANY, 3)), ("completed", 1): MANY - len(range(0, MANY, 3)) + 1}


def test_task_groups(suite: Suite) -> None:
    flaky = ["0", "1", "2", "3", "4"]
    assert suite.output("groups", "tasks") == [flaky, ["step `bad` failed: NonRetriableError: of a group"]]
    assert sorted(suite.notes("groups", "tasks")) == sorted(flaky * 2)
    assert suite.steps("groups", "tasks")["cut short"] == ("cancelled", 1)


def test_a_task_group_that_nobody_catches_fails_the_run(suite: Suite) -> None:
    run = suite.run("group-uncaught", "tasks")
    assert (run["state"], run["error"]["type"], run["attempts"]) == ("failed", "ExceptionGroup", 1)
    assert suite.steps("group-uncaught", "tasks") == {"cut short": ("cancelled", 1), "bad": ("failed", 1)}


def test_a_sleep_that_lost_a_race_is_cancelled_when_the_run_ends(suite: Suite) -> None:
    assert suite.output("first", "tasks") == [0, 1, 2]
    slow = [state for name, state in suite.steps("first", "tasks").items() if name.startswith("slow")]
    assert slow == [("cancelled", 1)] * 3
    assert suite.notes("first", "tasks") == ["0", "1", "2"]


def test_a_wait_that_its_own_code_cuts_short(suite: Suite) -> None:
    assert suite.output("hurried", "tasks") == ["late", "late", "after"]
    assert suite.steps("hurried", "tasks") == {
        "never": ("cancelled", 1), "never#2": ("cancelled", 1), "after": ("completed", 1),
    }  # fmt: skip


def test_code_between_steps_goes_on_while_other_branches_wait(suite: Suite) -> None:
    assert suite.output("code-between", "tasks") == ["app/between", [0, 1, 2]]


def test_nothing_is_left_waiting(suite: Suite) -> None:
    assert suite.project.query("SELECT state, count(*) FROM run GROUP BY 1 ORDER BY 1") == [
        ("completed", 2 * 6 + 5), ("failed", 3),
    ]  # fmt: skip
    assert suite.project.query("SELECT * FROM wait") == []
    assert suite.project.query("SELECT count(*) FROM step WHERE state NOT IN ('completed', 'failed', 'cancelled')") == [
        (0,)
    ]
