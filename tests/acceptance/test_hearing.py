"""What `send` says of events that start no function: runs that they wake or cancel, and those that nobody hears."""

from __future__ import annotations

import re

import pytest

from tests.acceptance.conftest import Project

CODE = """
@fanout.function(
    trigger=fanout.on("app/joined"),
    cancel_on=[fanout.CancelOn("app/deleted", match="data.user", if_="async.data.sure")],
)
def onboard(ctx: Context):
    event = ctx.step.wait_for_event("activation", event="app/activated", match="data.user", timeout="3d")
    return event and event.data["by"]

@fanout.function(trigger=fanout.on("app/activated"), retries=0)
def audit(ctx: Context):
    raise ValueError("no")
"""


@pytest.fixture
def waiting(project: Project) -> Project:
    """With runs of users 1, 2 and 3 that wait."""
    project.write(CODE)
    lines = [f'{{"name": "app/joined", "data": {{"user": {user}}}}}\n' for user in (1, 2, 3)]
    assert project.fanout("send", "-", stdin="".join(lines)).code == 0
    return project


def masked(text: str) -> str:
    text = re.sub(r"\b01[0-9A-Z]{24}\b", "<id>", text)
    text = re.sub(r"\b[0-9A-Z]{10}\b", "<short id>", text)
    return re.sub(r" +\b\d+(\.\d)? m?s\b", " <took>", text)


def short_id(project: Project, user: int) -> str:
    [(id_,)] = project.query(
        f"SELECT run.id FROM run JOIN event ON event.key = event WHERE event.data = '{{\"user\":{user}}}'"
    )
    return str(id_)[-10:]


def test_runs_that_an_event_wakes_or_cancels_are_named(waiting: Project) -> None:
    events = (
        '{"name": "app/activated", "data": {"user": 1, "by": "mail"}}\n'
        '{"name": "app/deleted", "data": {"user": 2, "sure": true}}'
    )
    result = waiting.fanout("send", "-", stdin=events)
    assert result.code == 1
    assert masked(result.out) == (
        "app/activated  <id>\n"
        "└── ✗ audit <took>\n"
        "      ValueError: no\n"
        "app/deleted  <id>\n"
        "woke ✓ onboard  <short id>  activation\n"
        "cancelled ⊘ onboard  <short id>\n"
        "1 run of 2 events in <took>: 1 failed; 1 woken, 1 cancelled\n"
    )
    assert re.findall("onboard  ([0-9A-Z]{10})", result.out) == [short_id(waiting, 1), short_id(waiting, 2)]
    assert [line[:18] for line in result.err.splitlines()] == ["hint: `fanout runs"]
    assert waiting.query("SELECT state, output FROM run WHERE function = 'onboard' ORDER BY key") == [
        ("completed", '"mail"'), ("cancelled", None), ("waiting", None),
    ]  # fmt: skip


def test_json_has_them_with_what_woke_them(waiting: Project) -> None:
    value = waiting.send("app/activated", {"user": 3, "by": "phone"}).json()
    [event] = value["events"]
    [(id_, *_)] = waiting.query("SELECT id FROM run WHERE output = '\"phone\"'")
    assert (value["woken"], value["cancelled"]) == (
        [{"id": id_, "function": "onboard", "state": "completed", "event_id": event["id"], "step": "activation"}],
        [],
    )


def test_an_engine_that_runs_already_is_asked_as_well(waiting: Project) -> None:
    with waiting.serving():
        value = waiting.send("app/activated", {"user": 1, "by": "mail"}).json()
        assert [(run["function"], run["step"]) for run in value["woken"]] == [("onboard", "activation")]
        result = waiting.fanout("send", "--name", "app/deleted", "--data", '{"user": 2, "sure": true}')
        assert masked(result.out) == (
            "app/deleted  <id>\ncancelled ⊘ onboard  <short id>\n0 runs of 1 event in <took>; 1 cancelled\n"
        )
        assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize(
    ("name", "data", "hint"),
    [
        ("app/deleted", '{"user": 1}', "no function listens to `app/deleted`; 3 runs wait for one, but not for this one"),
        ("app/deleted", '{"user": 9}', "no function listens to `app/deleted`; 3 runs wait for one, but not for this one"),
        ("app/delete", "{}", "no function listens to `app/delete`, and no run waits for it; did you mean `app/deleted`?"),
    ],
)  # fmt: skip
def test_nobody_is_said_to_listen_only_if_nobody_does(waiting: Project, name: str, data: str, hint: str) -> None:
    result = waiting.fanout("send", "--name", name, "--data", data)
    assert (result.code, result.err) == (0, f"hint: {hint}\n")
    assert re.fullmatch("0 runs of 1 event in .* m?s", result.out.splitlines()[-1])
    assert waiting.query("SELECT DISTINCT state FROM run") == [("waiting",)]


def test_an_event_that_only_cancels_is_known_also_when_there_is_nothing_to_cancel(project: Project) -> None:
    project.write(CODE)
    result = project.fanout("send", "--name", "app/deleted")
    assert (result.code, result.err) == (
        0,
        "hint: no function listens to `app/deleted`: it cancels runs of `onboard`, and there is none for it\n",
    )
