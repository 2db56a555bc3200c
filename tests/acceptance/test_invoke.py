"""`fanout invoke`: one function by hand."""

from __future__ import annotations

import re

import pytest

from tests.acceptance.conftest import Project, until

CODE = """
@fanout.function()
def add(ctx: Context):
    note(f"{ctx.event.name} {ctx.event.data}")
    return ctx.step.run("add", sum, ctx.event.data.get("numbers", []))

@fanout.function(retries=1)
def broken(ctx: Context):
    def fail():
        raise ValueError("it is broken")
    ctx.step.run("fail", fail)

@fanout.function()
def sums(ctx: Context):
    total = ctx.step.invoke("first", add, data={"numbers": [1, 2]})
    ctx.step.send_event("tell", {"name": "app/summed", "data": {"total": total}})
    return {"total": total}

@fanout.function(trigger=fanout.on("app/summed"))
def hear(ctx: Context):
    ctx.step.run("note", note, f"heard {ctx.event.data['total']}")

@fanout.function()
def sleepy(ctx: Context):
    ctx.step.sleep("nap", "1h")
"""


def test_what_the_function_returns_is_printed_last(project: Project) -> None:
    project.write(CODE)
    result = project.fanout("invoke", "add", "--data", '{"numbers": [1, 2]}')
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[-1] == "3"
    assert re.fullmatch(r"1 run of `add` in .*: 1 completed", lines[-2])
    assert project.notes() == ["fanout/function.invoked {'numbers': [1, 2]}"]


def test_data_may_come_from_a_file_or_stdin(project: Project) -> None:
    project.write(CODE)
    (project.root / "data.json").write_text('{"numbers": [3, 4]}')
    assert project.fanout("invoke", "add", "--data", "@data.json").out.splitlines()[-1] == "7"
    assert project.fanout("invoke", "add", "--data", "-", stdin='{"numbers": [5]}').out.splitlines()[-1] == "5"


@pytest.mark.parametrize(
    ("data", "content", "error"),
    [
        ("@", b"", "error: `--data @` names no file\nhint: as in `--data @data.json`\n"),
        ("@gone.json", b"", "error: `gone.json` can't be read: No such file or directory\n"),
        ("@data.json", b"", 'error: `data.json` is empty\nhint: write `{"user_id": 1}`, or leave it out\n'),
        ("@data.json", b"\xff", "error: `data.json` is not UTF-8 text\nhint: save it as UTF-8\n"),
        ("@data.json", b"[1]", "error: `data.json` has to be an object, not [1]\n"),
        (
            "@data.json",
            b'{\n"a": x}',
            "error: `data.json` line 2 column 6: this is not JSON: expecting value\n",
        ),
        ("-", b"5", "error: `stdin` has to be an object, not 5\n"),
    ],
)
def test_data_that_cannot_be_read_is_named_by_where_it_is(
    project: Project, data: str, content: bytes, error: str
) -> None:
    project.write(CODE)
    (project.root / "data.json").write_bytes(content)
    assert project.fanout("invoke", "add", "--data", data, stdin=content) == (2, "", error)


def test_data_may_be_left_out(project: Project) -> None:
    project.write(CODE)
    assert project.fanout("invoke", "add").out.splitlines()[-1] == "0"


def test_json_has_the_run_first_and_then_what_it_caused(project: Project) -> None:
    project.write(CODE)
    result = project.fanout("invoke", "sums", "--json")
    assert (result.code, result.err) == (0, "")
    assert list(result.json()) == ["runs"]
    runs = result.json()["runs"]
    assert [(run["function"], run["state"], run["output"]) for run in runs] == [
        ("sums", "completed", {"total": 3}), ("add", "completed", 3), ("hear", "completed", None),
    ]  # fmt: skip
    assert [run["parent"] for run in runs] == [None, runs[0]["id"], None]
    assert [(step["name"], step["kind"]) for step in runs[0]["steps"]] == [("first", "invoke"), ("tell", "send")]


def test_a_function_that_fails_ends_with_1_and_prints_no_output(project: Project) -> None:
    project.write(CODE)
    result = project.fanout("invoke", "broken")
    assert result.code == 1
    assert result.out.splitlines()[-1].endswith(": 1 failed")
    assert result.err.startswith("hint: `fanout runs show ")


def test_a_function_that_is_not_there_is_named_with_the_nearest(project: Project) -> None:
    project.write(CODE)
    assert project.fanout("invoke", "sum") == (
        3, "", "error: there is no function `sum`\nhint: did you mean `sums`?\n",
    )  # fmt: skip
    assert project.fanout("invoke", "x/y/z") == (3, "", "error: there is no function `x/y/z`\n")
    assert project.query("SELECT count(*) FROM run") == [(0,)]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("[1]", "error: `--data` has to be an object, not [1]\n"),
        ("", 'error: `--data` is empty\nhint: write `{"user_id": 1}`, or leave it out\n'),
        ("{", None),
    ],
)  # fmt: skip
def test_data_that_is_no_object_stores_nothing(project: Project, data: str, error: str | None) -> None:
    project.write(CODE)
    result = project.fanout("invoke", "add", "--data", data)
    assert (result.code, result.out) == (2, "")
    assert error is None or result.err == error
    assert not project.journal.exists() or project.query("SELECT count(*) FROM request") == [(0,)]


def test_with_an_engine_running_it_follows_that_one(project: Project) -> None:
    project.write(CODE)
    with project.serving():
        result = project.fanout("invoke", "add", "--data", '{"numbers": [4]}')
        assert (result.code, result.out.splitlines()[-1]) == (0, "4")
        assert project.fanout("invoke", "gone") == (3, "", "error: there is no function `gone`\n")
        asked = project.fanout("invoke", "add", "--no-wait")
        assert (asked.code, asked.err) == (0, "")
        id_ = asked.out.strip()
        until(lambda: project.query(f"SELECT state FROM run WHERE id = '{id_}'") == [("completed",)], "it runs")


def test_without_an_engine_it_can_be_stored_for_the_next(project: Project) -> None:
    project.write(CODE)
    assert project.fanout("invoke", "add", "--no-wait") == (
        0, "", "hint: no engine is running; `fanout serve` runs what was asked for, or the next `fanout send`\n",
    )  # fmt: skip
    assert project.notes() == []
    assert project.send("app/nothing").err == "1 request from before goes on as well\n"
    assert project.notes() == ["fanout/function.invoked {}"]


def test_a_long_wait_is_said_and_not_sat_out(project: Project) -> None:
    project.write(CODE)
    result = project.fanout("invoke", "sleepy")
    assert result.code == 0
    assert re.fullmatch(
        r"hint: `sleepy` sleeps until [-0-9: ]+\nhint: `fanout serve` carries that on, or the next `fanout send`\n",
        result.err,
    )
    assert result.out.splitlines()[-1].endswith(": 1 waiting")


CHILDREN = """
@fanout.function(retries=0)
def ship(ctx: Context):
    def carry():
        if ctx.event.data["n"] == 2:
            raise ConnectionError("the carrier is away")
    ctx.step.run("carry", carry)

@fanout.function()
def catches(ctx: Context):
    said = []
    for call in (
        lambda: ctx.step.invoke("one", ship, {"n": 2}),
        lambda: ctx.step.map("all", ship, [{"n": n} for n in range(4)]),
    ):
        try:
            call()
        except fanout.InvokeError as error:
            said.append([str(error), error.type, error.item])
    [_, _, error, _] = ctx.step.map("each", ship, [{"n": n} for n in range(4)], on_error="collect")
    return [*said, [str(error), error.type, error.item]]

@fanout.function()
def outer(ctx: Context):
    ctx.step.invoke("middle", middle)

@fanout.function()
def middle(ctx: Context):
    ctx.step.map("inner", ship, [{"n": n} for n in range(4)])
"""


def test_the_error_of_what_was_invoked_is_that_of_the_step_that_failed(project: Project) -> None:
    project.write(CHILDREN)
    result = project.fanout("invoke", "catches", "--json")
    assert result.json()["runs"][0]["output"] == [
        ["step `one` failed: ConnectionError: the carrier is away", "ConnectionError", None],
        ["step `all` failed: ConnectionError: item 2: the carrier is away", "ConnectionError", 2],
        ["step `each` failed: ConnectionError: item 2: the carrier is away", "ConnectionError", 2],
    ]


def test_however_deep_it_was_the_error_is_no_longer(project: Project) -> None:
    project.write(CHILDREN)
    runs = {run["function"]: run["error"] for run in project.fanout("invoke", "outer", "--json").json()["runs"][:2]}
    assert {name: (error["type"], error["message"]) for name, error in runs.items()} == {
        "outer": ("InvokeError", "step `middle` failed: ConnectionError: item 2: the carrier is away"),
        "middle": ("InvokeError", "step `inner` failed: ConnectionError: item 2: the carrier is away"),
    }


def test_a_step_may_send_more_events_than_a_request_may_have(project: Project) -> None:
    project.write(
        """
        @fanout.function()
        def sends(ctx: Context):
            return len(ctx.step.send_event("many", [{"name": "app/sent", "data": {"n": n}} for n in range(6_000)]))
        """
    )
    assert project.fanout("invoke", "sends").out.splitlines()[-1] == "6000"
    assert project.query("SELECT count(*) FROM event WHERE name = 'app/sent'") == [(6_000,)]
