"""`fanout trace`, and what `send` and `replay` show of and wait for in a family."""

# ruff: noqa: RUF001 - the multiplication sign is what people see

from __future__ import annotations

import json
import re

import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.test_runs import on_a_terminal

CODE = """
@fanout.function(trigger=fanout.on("app/order"))
def order(ctx: Context):
    ctx.step.run("reserve", int)
    ctx.step.invoke("ship", ship, data={"n": 1})
    ctx.step.map("mails", mail, [{"n": n} for n in range(ctx.event.data.get("mails", 0))], on_error="collect")
    return "done"

@fanout.function(trigger=fanout.on("app/order"), retries=0)
def audit(ctx: Context):
    if not (HERE / "mended").exists():
        raise ValueError("no")
    ctx.step.invoke("ship", ship, data={"n": 1})

@fanout.function()
def ship(ctx: Context):
    return ctx.step.send_event("tell", {"name": "app/shipped", "data": {}})

@fanout.function(retries=0)
def mail(ctx: Context):
    if ctx.event.data["n"] == 7:
        raise ConnectionError("the server is away")

@fanout.function(trigger=fanout.on("app/shipped"))
def tell(ctx: Context):
    ctx.step.run("note", note, "told")
"""


def masked(text: str) -> str:
    text = re.sub(r"\b01[0-9A-Z]{24}\b", "<id>", text)
    text = re.sub(r"\b[0-9A-Z]{10}\b", "<short id>", text)
    text = re.sub(r"\d\d:\d\d:\d\d", "<time>", text)
    text = re.sub(r" +\+\d+(\.\d)? m?s\b", "  <at>", text)
    text = re.sub(r" +\b\d+(\.\d)? m?s\b", "  <took>", text)
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


@pytest.fixture
def orders(project: Project) -> Project:
    project.write(CODE)
    assert project.send("app/order", {"mails": 30}).code == 1
    return project


TREE = (
    "app/order  <id>  <time>\n"
    "├── ✓ order  <at>  <took>  <short id>  ✓ reserve  ✓ ship  ✓ mails\n"
    "│   ├── ✓ ship  <at>  <took>  <short id>  ✓ tell\n"
    "│   │   └── app/shipped  <id>  <at>\n"
    "│   │       └── {mark}✓ tell  <at>  <took>  <short id>  ✓ note\n"
    "│   └── mail ×30  29 completed, 1 failed  <at>  <took>\n"
    "│       └── ✗ mail[7]  <at>  <took>  <short id>\n"
    "│             ConnectionError: the server is away\n"
    "└── ✗ audit  <at>  <took>  <short id>\n"
    "      ValueError: no\n"
    "34 runs of `app/order` in  <took>: 32 completed, 2 failed\n"
)


def test_any_run_or_event_shows_the_whole_family_and_where_it_is_in_it(orders: Project) -> None:
    [(told, shipped)] = orders.query(
        "SELECT run.id, event.id FROM run JOIN event ON event.key = event WHERE function = 'tell'"
    )
    result = orders.fanout("trace", told)
    assert (result.code, result.err) == (0, "")
    assert masked(result.out) == TREE.format(mark="→ ")
    assert masked(orders.fanout("trace", told[-8:]).out) == TREE.format(mark="→ ")
    marked = masked(orders.fanout("trace", shipped).out)
    assert marked == TREE.format(mark="").replace("app/shipped", "→ app/shipped")


def test_json_is_flat_and_linked(orders: Project) -> None:
    [(told, shipped)] = orders.query(
        "SELECT run.id, event.id FROM run JOIN event ON event.key = event WHERE function = 'tell'"
    )
    result = orders.fanout("trace", told, "--json")
    assert (result.code, result.err) == (0, "")
    value = result.json()
    assert list(value) == ["id", "root", "events", "runs"]
    events = {event["id"]: event for event in value["events"]}
    runs = {run["id"]: run for run in value["runs"]}
    assert (value["id"], events[value["root"]]["name"]) == (told, "app/order")
    assert (len(events), len(runs)) == (33, 34)
    shipper = runs[events[shipped]["origin"]]
    assert (shipper["function"], shipper["parent_step"], runs[shipper["parent"]]["function"]) == (
        "ship",
        "ship",
        "order",
    )
    assert list(events[shipped]) == ["id", "name", "received_at", "origin", "duplicate"]
    assert [run["item"] for run in runs.values() if run["function"] == "mail"] == list(range(30))


def test_an_event_is_found_by_its_senders_id(project: Project) -> None:
    project.write(CODE)
    event = json.dumps({"name": "app/shipped", "id": "order-7"})
    project.fanout("send", "-", stdin=event)
    assert project.fanout("trace", "order-7").out.startswith("→ app/shipped  order-7  ")
    assert project.fanout("trace", "order-8") == (
        3, "", "error: there is no event or run `order-8`\nhint: `fanout runs` lists runs\n",
    )  # fmt: skip


def test_an_event_that_started_nothing(project: Project) -> None:
    project.write(CODE)
    stored = project.fanout("send", "--name", "app/nobody", "--no-wait").out.strip()
    result = project.fanout("trace", stored)
    assert (result.code, masked(result.out)) == (0, "→ app/nobody  <id>  <time>\n0 runs of `app/nobody` in  <took>\n")
    assert result.err == "hint: no function has been started by it\n"


def test_a_narrow_terminal_is_respected(orders: Project) -> None:
    [(told,)] = orders.query("SELECT id FROM run WHERE function = 'tell'")
    shown = [
        re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip()
        for line in on_a_terminal(orders, "trace", told, columns=40).splitlines()
    ]
    tree = [line for line in shown if not re.match("[0-9]+ runs", line)]
    assert max(map(len, tree)) <= 40
    assert any(re.fullmatch("[│ ]+└ → ✓ tell  .*", line) for line in tree)


# What `send` and `replay` show and wait for.


def test_send_shows_children_under_their_parent_and_events_under_their_sender(project: Project) -> None:
    project.write(CODE)
    (project.root / "mended").touch()
    result = project.fanout("send", "--name", "app/order", "--data", '{"mails": 2}')
    assert (result.code, result.err) == (0, "")
    assert masked(result.out) == (
        "app/order  <id>\n"
        "├── ✓ order  <took>  ✓ reserve  ✓ ship  ✓ mails\n"
        "│   ├── ✓ ship  <took>  ✓ tell\n"
        "│   │   └── app/shipped  <id>\n"
        "│   │       └── ✓ tell  <took>  ✓ note\n"
        "│   ├── ✓ mail[0]  <took>\n"
        "│   └── ✓ mail[1]  <took>\n"
        "└── ✓ audit  <took>  ✓ ship\n"
        "    └── ✓ ship  <took>  ✓ tell\n"
        "        └── app/shipped  <id>\n"
        "            └── ✓ tell  <took>  ✓ note\n"
        "8 runs of 1 event in  <took>: 8 completed\n"
    )


def test_replay_waits_for_what_the_replays_cause_and_only_for_that(orders: Project) -> None:
    (orders.root / "mended").touch()
    result = orders.fanout("replay", orders.query("SELECT id FROM run WHERE function = 'audit'")[0][0], "--json")
    assert result.code == 0
    assert [(run["function"], run["state"]) for run in result.json()["runs"]] == [
        ("audit", "completed"), ("ship", "completed"), ("tell", "completed"),
    ]  # fmt: skip


WAITING = """
@fanout.function(trigger=fanout.on("app/go"))
def sleepy(ctx: Context):
    ctx.step.sleep("nap", "1h")

@fanout.function(trigger=fanout.on("app/go"))
def hopeful(ctx: Context):
    return ctx.step.invoke("ask", asking, data=ctx.event.data)

@fanout.function()
def asking(ctx: Context):
    paid = ctx.step.wait_for_event("payment", event="app/paid", timeout="2h", match="data.id")
    return paid and paid.data["sum"]
"""


def test_what_waits_for_long_is_said_with_what_carries_it_on(project: Project) -> None:
    project.write(WAITING)
    result = project.fanout("send", "--name", "app/go", "--data", '{"id": "x"}')
    assert result.code == 0
    assert result.out.splitlines()[-1].endswith(": 3 waiting")
    assert re.sub("[0-9]{4}-[0-9-]+ |[0-9:]{8}", "T", result.err).replace("TT", "T") == (
        "hint: `sleepy` sleeps until T\n"
        'hint: `asking` waits until T for the event `app/paid` with data.id = "x"\n'
        "hint: `fanout serve` carries that on, or the next `fanout send`\n"
    )
    project.fanout("send", "--name", "app/paid", "--data", '{"id": "x", "sum": 5}')
    assert project.query("SELECT state, output FROM run WHERE function = 'hopeful'") == [("completed", "5")]


def test_one_run_says_what_it_waits_for_and_whom_it_has_to_do_with(project: Project) -> None:
    project.write(WAITING)
    project.send("app/go", {"id": "x"})
    ids = dict(project.query("SELECT function, id FROM run"))
    shown = project.fanout("runs", "show", ids["asking"]).out
    assert f"invoked by {ids['hopeful']}, step `ask`\n" in shown
    assert re.search(r'  ↻ payment .* m?s  waits until [-0-9: ]+ for the event `app/paid` with data\.id = "x"\n', shown)
    assert re.search(r"goes on    [-0-9: ]+ at the latest, in (1 h 59|2 h 0) m\n", shown)
    parent = project.fanout("runs", "show", ids["hopeful"]).out
    assert re.search(rf"  ↻ ask .* m?s  waits for `asking` {ids['asking']}, waiting\n", parent)
    value = project.fanout("runs", "show", ids["asking"], "--json").json()
    [wait] = value["waits"]
    assert wait["event"] == {"name": "app/paid", "path": "data.id", "value": "x", "if": None, "expires_at": None}
    assert (value["parent"], value["parent_step"]) == (ids["hopeful"], "ask")
    listed = project.fanout("runs", "--function", "sleepy").out
    assert re.search(r"↻ waiting +sleepy +app/go +[0-9:]+ +until ", listed)
