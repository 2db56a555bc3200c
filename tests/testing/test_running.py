"""One function alone."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import fanout
from fanout import AsyncContext, Context, FanoutError, InvokeError, NonRetriableError, RetryAfterError, StepError
from fanout.model import RunState
from fanout.testing import Running, in_turn, run

NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)


def never(*_args: object) -> None:
    raise AssertionError("this step has a stub")


def refusal(**given: Any) -> tuple[str, str | None]:
    with pytest.raises(FanoutError) as raised:
        run(**given)
    return raised.value.message, raised.value.hint


@fanout.function(trigger=fanout.on("shop/order"), retries=2)
def ship(ctx: Context) -> dict[str, Any]:
    charge = ctx.step.run("charge", never, ctx.event.data["user"], 12)
    label = ctx.step.run("label", lambda: f"to {ctx.event.data['user']}")
    return {"charge": charge, "label": label}


@fanout.function(trigger=fanout.on("shop/order"), retries=2)
async def ship_async(ctx: AsyncContext) -> dict[str, Any]:
    async def label() -> str:
        await asyncio.sleep(0)
        return f"to {ctx.event.data['user']}"

    charge, made = await asyncio.gather(
        ctx.step.run("charge", never, ctx.event.data["user"], 12), ctx.step.run("label", label)
    )
    return {"charge": charge, "label": made}


@fanout.function(trigger=fanout.on("app/joined"))
def onboard(ctx: Context) -> str:
    ctx.step.sleep("rest", "2d")
    begun = ctx.step.wait_for_event("begins", event="app/begun", match="data.user", timeout="3d")
    if begun is None:
        return "late"
    ctx.step.send_event("tell", [{"name": "app/told", "data": {"n": n}} for n in (1, 2)])
    return str(begun.data["how"])


both = pytest.mark.parametrize("function", [ship, ship_async])


@both
def test_steps_have_stubs_and_others_run(function: Any) -> None:
    result = run(function, data={"user": "ada"}, steps={"charge": {"id": "ch_1"}})

    assert (result.state, result.output) == ("completed", {"charge": {"id": "ch_1"}, "label": "to ada"})
    assert {name: (step.state, step.attempts, step.output) for name, step in result.steps.items()} == {
        "charge": ("completed", 1, {"id": "ch_1"}),
        "label": ("completed", 1, "to ada"),
    }
    assert (result.function, result.event.name, result.event.data) == (
        function.__name__.replace("_", "-"), "shop/order", {"user": "ada"},
    )  # fmt: skip


@both
def test_a_stub_that_is_a_function_gets_the_arguments(function: Any) -> None:
    async def later(user: str, amount: int) -> str:
        await asyncio.sleep(0)
        return f"{user} {amount}"

    stub = later if function is ship_async else lambda user, amount: f"{user} {amount}"

    assert run(function, data={"user": "ada"}, steps={"charge": stub}).output["charge"] == "ada 12"


@both
def test_an_exception_is_retried_at_once_and_fails_in_the_end(function: Any) -> None:
    began = time.monotonic()
    result = run(function, data={"user": "ada"}, steps={"charge": ConnectionError("down")})

    assert (result.state, result.output) == (RunState.FAILED, None)
    assert result.error is not None
    assert (result.error.type, result.error.message) == ("StepError", "step `charge` failed: ConnectionError: down")
    assert (result.steps["charge"].state, result.steps["charge"].attempts) == ("failed", 3)
    assert time.monotonic() - began < 5, "the backoff has passed in simulation"


@both
def test_outcomes_in_turn(function: Any) -> None:
    result = run(function, data={"user": "ada"}, steps={"charge": in_turn(ConnectionError, TimeoutError("slow"), 7)})

    assert (result.output["charge"], result.steps["charge"].attempts) == (7, 3)


def test_an_error_that_is_hopeless_is_not_retried() -> None:
    result = run(ship, data={"user": "ada"}, steps={"charge": NonRetriableError("no such card")})

    assert result.steps["charge"].attempts == 1


def test_a_stub_for_one_occurrence_of_a_name() -> None:
    @fanout.function()
    def twice(ctx: Context) -> list[int]:
        return [ctx.step.run("count", lambda: 1), ctx.step.run("count", lambda: 2), ctx.step.run("count", lambda: 3)]

    assert run(twice, steps={"count": 0, "count#2": 9}).output == [0, 9, 0]


def test_a_stubs_value_is_made_into_what_the_step_returns() -> None:
    def when() -> datetime:
        return NOW

    @fanout.function()
    def f(ctx: Context) -> int:
        return ctx.step.run("when", when).year

    assert run(f, steps={"when": datetime(1999, 1, 1, tzinfo=UTC)}).output == 1999


def test_an_assertion_in_a_stub_is_the_tests_own() -> None:
    def check(user: str, _amount: int) -> None:
        assert user == "grace"

    with pytest.raises(AssertionError, match="ada"):
        run(ship, data={"user": "ada"}, steps={"charge": check})


@both
def test_ctrl_c_in_a_step_is_no_failure(function: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(function, data={"user": "ada"}, steps={"charge": KeyboardInterrupt})


def test_what_ends_a_test_in_a_functions_code_ends_it() -> None:
    @fanout.function()
    def f(ctx: Context) -> None:
        pytest.fail("enough")

    with pytest.raises(pytest.fail.Exception, match="enough"):
        run(f)


# Time and events.


def test_three_days_take_milliseconds() -> None:
    run(onboard)  # What is imported lazily is.
    began = time.perf_counter()
    result = run(onboard, data={"user": "ada"}, now=NOW)
    took = time.perf_counter() - began

    assert (result.output, result.event.ts) == ("late", NOW.timestamp() * 1000)
    assert took < 0.5


def test_an_awaited_event_comes_when_it_is_awaited() -> None:
    result = run(
        onboard, data={"user": "ada"}, events=[{"name": "app/begun", "data": {"user": "ada", "how": "gladly"}}]
    )

    assert result.output == "gladly"
    assert [(event.name, event.data) for event in result.events_sent] == [
        ("app/told", {"n": 1}),
        ("app/told", {"n": 2}),
    ]


def test_an_event_that_nothing_waits_for_is_a_mistake() -> None:
    assert refusal(function=onboard, data={"user": "ada"}, events=[{"name": "app/begum"}]) == (
        "`onboard` was over before it waited for `app/begum`",
        "it waited at `begins`",
    )


def test_a_run_that_is_moved_on() -> None:
    with Running(onboard, data={"user": "ada"}, now=NOW) as running:
        assert (running.result.state, running.result.waits_for) == ("waiting", ["rest"])
        running.advance("47 hours and 59 minutes")
        assert running.result.waits_for == ["rest"]
        running.advance(timedelta(minutes=1))
        assert running.result.waits_for == ["begins"]
        running.send("app/begun", {"user": "grace", "how": "for another"})
        assert running.result.state == "waiting"
        running.send({"name": "app/begun", "data": {"user": "ada", "how": "at last"}})
        assert running.is_over
        assert running.result.output == "at last"


def test_it_is_taken_to_its_end() -> None:
    with Running(onboard, data={"user": "ada"}, now=NOW) as running:
        running.advance_to(NOW + timedelta(days=4))
        assert running.result.waits_for == ["begins"]
        assert running.finish().output == "late"


def test_the_delay_that_an_error_asks_for_is_counted_in_simulated_time() -> None:
    @fanout.function()
    def f(ctx: Context) -> int:
        return ctx.step.run("ask", lambda: 1)

    later = RetryAfterError("busy", NOW + timedelta(hours=5))
    with Running(f, steps={"ask": in_turn(later, 2)}, now=NOW) as running:
        running.advance("4h59m")
        assert running.result.waits_for == ["ask"]
        running.advance("1m")
        assert running.result.output == 2


def test_waiting_until_a_time_that_has_passed_is_no_wait() -> None:
    @fanout.function()
    def f(ctx: Context) -> None:
        ctx.step.sleep_until("past", NOW - timedelta(days=1))
        ctx.step.sleep_until("soon", NOW + timedelta(days=1))

    with Running(f, now=NOW) as running:
        assert running.result.waits_for == ["soon"]


def test_an_event_that_cancels() -> None:
    @fanout.function(trigger=fanout.on("a"), cancel_on=[fanout.CancelOn("stop")])
    def f(ctx: Context) -> None:
        ctx.step.sleep("long", "9d")

    result = run(f, events=[{"name": "stop"}])

    assert (result.state, result.steps["long"].state) == ("cancelled", "cancelled")


# Crashes.


@both
def test_the_worker_dies_and_what_is_recorded_stays(function: Any) -> None:
    charged: list[str] = []
    stub = lambda user, _amount: charged.append(user)  # noqa: E731

    result = run(function, data={"user": "ada"}, steps={"charge": stub}, crash_after=["charge", "label"])

    assert (result.state, result.attempts, charged) == ("completed", 1, ["ada"])
    assert [step.attempts for step in result.steps.values()] == [1, 1]


def test_code_between_steps_runs_again_after_a_crash() -> None:
    entered: list[int] = []

    @fanout.function()
    def f(ctx: Context) -> int:
        entered.append(ctx.attempt)
        try:
            return ctx.step.run("one", lambda: 1)
        finally:
            entered.append(-1)

    assert run(f, crash_after="one").output == 1
    assert entered == [0, -1, 0, -1]


def test_a_crash_between_what_a_test_does() -> None:
    with Running(onboard, data={"user": "ada"}) as running:
        running.crash()
        running.advance("2 days")
        running.crash()
        running.send("app/begun", {"user": "ada", "how": "still"})
        assert running.result.output == "still"


def test_parallel_branches_survive_the_death_of_one() -> None:
    @fanout.function()
    def f(ctx: Context) -> tuple[int, ...]:
        return ctx.step.parallel(*(lambda n=n: ctx.step.run(f"n{n}", lambda: n) for n in range(5)))

    assert run(f, crash_after=["n3"]).output == (0, 1, 2, 3, 4)


def test_tasks_of_a_group_survive_the_death_of_some() -> None:
    @fanout.function()
    async def f(ctx: AsyncContext) -> list[int]:
        async def branch(n: int) -> int:
            first = await ctx.step.run("first", lambda: n)
            await ctx.step.sleep("rest", "1h")
            return first + await ctx.step.run("second", lambda: n)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(branch(n)) for n in range(9)]
        return [task.result() for task in tasks]

    result = run(f, crash_after=["first#5", "second#7"])

    assert result.output == [2 * n for n in range(9)]
    assert {step.attempts for step in result.steps.values()} == {1}


# Branches and children.


def test_branches_that_sleep_and_run() -> None:
    @fanout.function()
    def f(ctx: Context) -> tuple[int, int]:
        def slow() -> int:
            ctx.step.sleep("nap", "1d")
            return len(ctx.step.run("after", lambda: "1"))

        return ctx.step.parallel(slow, lambda: ctx.step.run("quick", lambda: 2))

    with Running(f) as running:
        assert running.result.waits_for == ["nap"]
        assert running.result.steps["quick"].output == 2
        running.advance("1 day")
        assert running.result.output == (1, 2)


def test_async_branches_that_sleep_and_run() -> None:
    @fanout.function()
    async def f(ctx: AsyncContext) -> tuple[int, int]:
        async def slow() -> int:
            await ctx.step.sleep("nap", "1d")
            return await ctx.step.run("after", lambda: 1)

        return await ctx.step.parallel(slow(), ctx.step.run("quick", lambda: 2))

    with Running(f) as running:
        assert running.result.waits_for == ["nap"]
        running.advance("1 day")
        assert running.result.output == (1, 2)


@fanout.function()
def double(ctx: Context) -> int:
    return int(ctx.step.run("double", lambda: ctx.event.data["item"] * 2))


@fanout.function()
def doubles(ctx: Context) -> list[Any]:
    return [
        ctx.step.invoke("one", double, {"item": 21}),
        *ctx.step.map("many", double, range(3)),
        *(str(each) for each in ctx.step.map("some", double, [1, None], on_error="collect")),
    ]


def test_what_is_invoked_is_a_function() -> None:
    result = run(doubles, functions=[double])

    assert result.output[:5] == [42, 0, 2, 4, "2"]
    assert "TypeError" in result.output[5]
    assert [child.output for child in result.invoked] == [42, 0, 2, 4, 2, None]


def test_what_is_invoked_has_a_stub() -> None:
    result = run(doubles, functions={"double": lambda data: data["item"]})

    assert result.output == [21, 0, 1, 2, "1", "None"]


def test_what_is_invoked_fails() -> None:
    @fanout.function()
    def f(ctx: Context) -> str:
        try:
            ctx.step.invoke("one", double, {"item": 1})
        except InvokeError as error:
            return f"{error.type}: {error.cause_message}"
        return ""

    assert run(f, functions={"double": ValueError("odd")}).output == "ValueError: odd"


def test_what_is_invoked_has_to_be_there() -> None:
    assert refusal(function=doubles) == (
        "step `one`: there is no function `double`",
        "give `functions=[...]` with the function, or `functions={id: what stands for it}`",
    )


def test_it_is_alone_though_it_hears_itself() -> None:
    @fanout.function(trigger=fanout.on("again"))
    def f(ctx: Context) -> None:
        ctx.step.send_event("send", {"name": "again"})

    assert [event.name for event in run(f).events_sent] == ["again"]


# How it begins.


def test_several_events_are_a_batch() -> None:
    @fanout.function(trigger=fanout.on("a"), batch=fanout.Batch(3, "1h"))
    def f(ctx: Context) -> list[int]:
        return [event.data["n"] for event in ctx.events]

    assert run(f, [{"name": "a", "data": {"n": n}} for n in range(2)]).output == [0, 1]


def test_a_schedule_ticks() -> None:
    @fanout.function(trigger=fanout.cron("0 9 * * *"))
    def f(ctx: Context) -> str:
        return str(ctx.event.data["scheduled_at"])

    assert run(f, now=NOW).output == "2026-03-01T09:00:00+00:00"


def test_what_runs_when_another_has_failed() -> None:
    def handler(ctx: Context) -> str:
        return str(ctx.event.data["error"]["message"])

    event = {"name": "fanout/function.failed", "data": {"error": {"message": "declined"}}}
    assert run(handler, event).output == "declined"


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"function": ship, "event": {"name": "shop/oder"}}, "`ship` does not listen to `shop/oder`", "did you mean `shop/order`?"),
        ({"function": ship, "event": {"data": {}}}, "the event has no name", 'write `{"name": "app/user.signup", "data": {...}}`, or give `data=` alone'),
        ({"function": ship, "event": {"name": "a"}, "data": {}}, "there are both an event and `data`", "put the data into the event"),
        ({"function": ship, "steps": {"chrage": 1}}, "`ship` has no step `chrage`", "did you mean `charge`?"),
        ({"function": ship, "steps": {"x": 1}}, "`ship` has no step `x`", "its steps are `charge`, `label`"),
        ({"function": ship, "crash_after": "lable"}, "`ship` has no step `lable`", "did you mean `label`?"),
        ({"function": 7}, "7 is no function of fanout", "give one that has `@fanout.function(...)`"),
    ],
)  # fmt: skip
def test_mistakes_are_told(given: dict[str, Any], message: str, hint: str) -> None:
    assert refusal(**given) == (message, hint)


def test_a_name_that_is_made_at_run_time_is_checked_at_the_end() -> None:
    @fanout.function()
    def f(ctx: Context) -> None:
        for name in ("first", "second"):
            ctx.step.run(f"{name}-step", lambda: None)

    assert run(f, steps={"first-step": 1, "elsewhere": 2}).state == "completed"
    assert refusal(function=f, steps={"first-stop": 1}) == (
        "`f` has come to no step `first-stop`",
        "did you mean `first-step`?",
    )


def test_an_event_for_which_a_condition_is_false() -> None:
    @fanout.function(trigger=fanout.on("a", if_="event.data.n > 1"))
    def f(ctx: Context) -> None:
        pass

    assert refusal(function=f, data={"n": 1}) == ("`f` has no run for the event `a`", "is its trigger's `if_` true?")


# What is seen of it.


def test_logs(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    @fanout.function()
    def f(ctx: Context) -> None:
        print("between")
        ctx.step.run("inside", lambda: print("in the step"))
        ctx.logger.info("done with %s", ctx.event.name)
        logging.getLogger("other").debug("not heard")

    result = run(f)

    assert [(line.source, line.step, line.text) for line in result.logs] == [
        ("stdout", None, "between"),
        ("stdout", "inside", "in the step"),
        ("info", None, "done with fanout/function.invoked"),
    ]
    assert capsys.readouterr().out == "between\nin the step\n"
    assert caplog.messages == ["done with fanout/function.invoked"]
    assert logging.getLogger().level == logging.WARNING


def test_logs_of_threads() -> None:
    def step() -> None:
        thread = threading.Thread(target=print, args=("in a thread of the step",))
        thread.start()
        thread.join()

    @fanout.function()
    def f(ctx: Context) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(logging.getLogger("other").warning, "in a pool").result()
        ctx.step.run("inside", step)

    assert [(line.source, line.step, line.text) for line in run(f).logs] == [
        ("warning", None, "in a pool"),
        ("stdout", "inside", "in a thread of the step"),
    ]


def test_nothing_is_left_of_one_test_in_the_next() -> None:
    seen: list[int] = []

    @fanout.function(trigger=fanout.on("a"))
    def f(ctx: Context) -> int:
        seen.append(len(json.dumps(ctx.event.data)))
        return ctx.step.run("one", lambda: 1)

    assert [run(f, data={"n": n}, steps={"one": n}).output for n in range(5)] == [0, 1, 2, 3, 4]
    assert run(f).output == 1
    assert run(f, crash_after="one").output == 1
    assert [len(run(f).logs), len(run(f).steps)] == [0, 1]


def test_a_rate_limit_of_one_test_is_not_the_next_ones() -> None:
    @fanout.function(trigger=fanout.on("a"), rate_limit=fanout.RateLimit(1, "1h"))
    def f(ctx: Context) -> None:
        pass

    assert [run(f).state for _ in range(3)] == ["completed"] * 3


def test_in_a_test_that_is_async() -> None:
    async def test() -> Any:
        return run(ship_async, data={"user": "ada"}, steps={"charge": 1}).output

    assert asyncio.run(test()) == {"charge": 1, "label": "to ada"}


def test_in_several_threads() -> None:
    outputs: list[Any] = []

    def test(user: str) -> None:
        outputs.extend(run(ship, data={"user": user}, steps={"charge": 1}).output["label"] for _ in range(20))

    threads = [threading.Thread(target=test, args=(name,)) for name in ("ada", "tim")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outputs) == ["to ada"] * 20 + ["to tim"] * 20


def test_a_failure_that_the_code_handles() -> None:
    @fanout.function(retries=0)
    def f(ctx: Context) -> str:
        try:
            ctx.step.run("try", never)
        except StepError as error:
            return error.type
        return ""

    assert run(f, steps={"try": OSError("x")}).output == "OSError"
