from __future__ import annotations

import pytest

from fanout.core.mentions import Mention, is_heard, mentions, unreached
from fanout.model import CancelRule, CronTrigger, EventTrigger, FunctionSpec

CODE = """
def f(ctx):
    ctx.step.send_event("a", {"name": "app/one", "data": {"name": "no event of ours"}})
    ctx.step.send_event("b", [{"name": "app/two"}, *({"name": f"app/user.{n}"} for n in names)])
    ctx.step.send_event("c", events=fanout.Event(name="app/three"))
    ctx.step.send_event("d", {"name": "app/yes" if ctx.attempt else "app/no"})
    ctx.step.send_event("e", {"name": name})
    ctx.step.wait_for_event("w", event="app/paid", timeout="1h")
    ctx.step.invoke("x", charge, data={})
    ctx.step.map("y", other.mail, items)
    ctx.step.invoke("z", "billing/refund")
    ctx.step.run("r", make, {"name": "app/none"})
"""


def function(id_: str, *names: str, **more: object) -> FunctionSpec:
    triggers = tuple(EventTrigger(name) for name in names)
    return FunctionSpec(
        id=id_, name=id_, module="m", qualname=id_.replace("-", "_"), file="m.py", line=1, is_async=False,
        **{"triggers": triggers, **more},  # type: ignore[arg-type]
    )  # fmt: skip


def test_what_a_module_says() -> None:
    found = mentions(CODE)
    assert [(each.name, each.is_prefix) for each in found.sent] == [
        ("app/one", False), ("no event of ours", False), ("app/two", False), ("app/user.", True), ("app/three", False),
        ("app/yes", False), ("app/no", False),
    ]  # fmt: skip
    assert found.sent[0].line == 3
    assert (found.invoked, found.awaited) == ({"charge", "mail", "billing/refund"}, {"app/paid"})


@pytest.mark.parametrize("text", ["def broken(:", "\0", ""])
def test_what_is_no_python_says_nothing(text: str) -> None:
    found = mentions(text)
    assert (found.sent, found.invoked, found.awaited) == ([], set(), set())


def test_a_function_is_reached_by_a_trigger_a_failure_or_a_mention() -> None:
    functions = [
        function("by-event", "app/a", on_failure="by-failure"),
        function("by-cron", triggers=(CronTrigger("* * * * *", "UTC"),)),
        function("by-failure"),
        function("by-name"),
        function("shop/by-id", app="shop"),
        function("lost"),
    ]
    assert [spec.id for spec in unreached(functions, {"by_name", "by-id"})] == ["lost"]


@pytest.mark.parametrize(
    ("event", "is_prefix", "heard"),
    [
        ("app/a", False, True),
        ("app/b", False, False),
        ("user/x.y", False, True),
        ("app/stop", False, True),
        ("app/paid", False, True),
        ("app/", True, True),
        ("user/x.", True, True),
        ("use", True, True),
        ("other/", True, False),
        ("app/pa", True, True),
    ],
)
def test_who_hears_an_event(event: str, is_prefix: bool, heard: bool) -> None:
    functions = [function("f", "app/a", "user/*", cancel_on=(CancelRule("app/stop"),))]
    assert is_heard(Mention(event, 1, is_prefix), functions, {"app/paid"}) is heard
