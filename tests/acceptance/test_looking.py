"""`fanout events`, `stats`, `graph` and `functions show`, after real runs."""

# ruff: noqa: RUF001 - the multiplication sign is what people see

from __future__ import annotations

import json
import re

import pytest

from tests.acceptance.conftest import Project

CODE = """
@fanout.function(trigger=fanout.on("app/order"), retries=0)
def order(ctx: Context):
    if ctx.event.data.get("is_bad"):
        raise ValueError("[red]no\\x1b[2J")
    ctx.step.send_event("tell", {"name": "app/shipped", "data": {"\\x1b[31m": "[bold]"}})
    return ctx.step.invoke("pack", pack)

@fanout.function()
def excuse(ctx: Context):
    pass

@fanout.function()
def pack(ctx: Context):
    ctx.step.run("box", int)

@fanout.function(trigger=fanout.on("app/shipped"))
def tell(ctx: Context):
    pass

@fanout.function()
def lonely(ctx: Context):
    pass
"""


def masked(text: str) -> str:
    text = re.sub(r"\b01[0-9A-Z]{24}\b", "<id>", text)
    text = re.sub(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d", "<time>", text)
    text = re.sub(r" *\b\d+(\.\d)? m?s\b", " <took>", text)
    return "".join(re.sub(r"  +", "  ", line).rstrip() + "\n" for line in text.splitlines())


@pytest.fixture
def shop(project: Project) -> Project:
    project.write(CODE)
    assert project.send("app/order").code == 0
    assert project.send("app/order", {"is_bad": True}).code == 1
    assert project.send("[red]\x1b[2J").code in (0, 2)
    project.fanout("send", "-", stdin=json.dumps({"name": "app/nobody", "id": "given-1"}))
    return project


def test_events_with_where_they_came_from_and_what_became_of_them(shop: Project) -> None:
    result = shop.fanout("events")
    assert (result.code, result.err) == (0, "")
    assert "\x1b" not in result.out
    assert [line for line in masked(result.out).splitlines() if "red" not in line] == [
        "event  name  came  from  runs",
        "given-1  app/nobody  <time>  sent  nobody listens",
        "<id>  app/order  <time>  sent  1 failed",
        "<id>  app/shipped  <time>  a step of order <id>  1 completed",
        "<id>  app/order  <time>  sent  1 completed",
    ]
    unheard = shop.fanout("events", "--unheard", "--name", "app/*", "--since", "1h", "--json").json()
    [event] = unheard["events"]
    assert (event["id"], event["source"], event["is_unheard"], event["runs"]) == ("given-1", "sent", True, {})
    assert shop.fanout("events", "--until", "1h") == (0, "", "no such events\n")
    assert shop.fanout("events", "--since", "soon").code == 2


def test_one_event_with_its_data_and_its_runs(shop: Project) -> None:
    [shipped] = shop.fanout("events", "--name", "app/shipped", "--json").json()["events"]
    result = shop.fanout("events", "show", shipped["id"][-8:])
    assert masked(result.out) == (
        "event  <id>\n"
        "name  app/shipped\n"
        "from  a step of order <id>\n"
        "came  <time>\n"
        "data  {\n"
        '  "\\u001b[31m": "[bold]"\n'
        "  }\n"
        "runs\n"
        "  state  function  run  took  caused\n"
        "  ✓ completed  tell  <id> <took>\n"
    )
    assert (result.code, masked(result.err)) == (0, "hint: `fanout trace <id>` shows all that it has caused\n")
    order = shop.fanout("events", "--name", "app/order", "--json").json()["events"][1]["id"]
    page = shop.fanout("events", "show", order)
    assert "  sent app/shipped, invoked pack\n" in page.out
    value = shop.fanout("events", "show", order, "--json").json()
    assert (value["data"], value["run_counts"], value["runs"][0]["sent"]) == ({}, {"completed": 1}, {"app/shipped": 1})
    assert shop.fanout("events", "show", "nothing") == (
        3, "", "error: there is no event `nothing`\nhint: `fanout events` lists them\n",
    )  # fmt: skip


def test_statistics(shop: Project) -> None:
    result = shop.fanout("stats")
    assert (result.code, result.err) == (0, "")
    assert "\x1b" not in result.out
    shown = masked(result.out).splitlines()
    assert shown[0].startswith("4 runs since ")
    assert shown[1] == "✓ 3 completed  ✗ 1 failed"
    assert "order  2  50.0% <took> <took> <took>" in shown
    assert [line for line in shown if line.startswith("ValueError")] == [
        "ValueError: [red]no\\x1b[2J  1  <time>  order  " + shop.query("SELECT substr(id, -10) FROM run WHERE state = 'failed'")[0][0]
    ]  # fmt: skip
    assert shop.fanout("stats", "--function", "tell", "--since", "all", "--json").json()["counts"] == {"completed": 1}
    assert shop.fanout("stats", "--function", "tel") == (
        3, "", "error: there is no function `tel`\nhint: did you mean `tell`?\n",
    )  # fmt: skip


GRAPH = """\
app/order
└── order
    ├── sends app/shipped ×1
    │   └── tell
    └── invokes pack ×1

started by nothing that is known here, but by hand:
excuse

lonely
"""


def test_the_graph(shop: Project) -> None:
    result = shop.fanout("graph")
    assert (result.code, result.out) == (0, GRAPH)
    assert result.err == "hint: what functions send, await and invoke is what their newest runs have been seen to do\n"
    assert shop.fanout("graph", "--json").json()["unreached"] == ["excuse", "lonely"]
    assert shop.fanout("graph", "--mermaid").out.startswith('flowchart LR\n  n0(["app/order"])\n')
    assert shop.fanout("graph", "--dot").out.startswith("digraph fanout {\n")
    assert shop.fanout("graph", "--dot", "--json").code == 2


def test_one_function(shop: Project) -> None:
    # Nobody's code is loaded for this: the journal knows it.
    (shop.root / "work.py").write_text("raise SystemExit\n")
    result = shop.fanout("functions", "show", "order")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("function      order\ncode          def order in work.py line ")
    assert "runs          1 completed\n              1 failed\n" in result.out
    assert "retries       0\n" in result.out
    value = shop.fanout("functions", "show", "order", "--json").json()
    assert (value["id"], value["runs"], value["last_run"]["state"]) == (
        "order",
        {"completed": 1, "failed": 1},
        "failed",
    )
