"""`fanout why`: what a run waits for, in one sentence."""

from __future__ import annotations

import re

from tests.acceptance.conftest import Project, until

CODE = """
@fanout.function(trigger=fanout.on("app/slow"), concurrency=fanout.Concurrency(1, key="event.data.account"))
def slow(ctx: Context):
    def wait():
        note("begins")
        while not (HERE / "go").exists():
            time.sleep(0.01)
    ctx.step.run("wait", wait)

@fanout.function(trigger=fanout.on("app/paid"), throttle=fanout.Throttle(1, "1h"))
def bill(ctx: Context): ...

@fanout.function(trigger=fanout.on("app/hit"), batch=fanout.Batch(10, "1h"))
def collect(ctx: Context): ...

@fanout.function(trigger=fanout.on("app/typed"), debounce=fanout.Debounce("1h"))
def save(ctx: Context): ...

@fanout.function(trigger=fanout.on("app/many"), rate_limit=fanout.RateLimit(1, "1h", key="event.data.user"))
def mail(ctx: Context): ...

@fanout.function(trigger=fanout.on("app/order"))
def order(ctx: Context):
    ctx.step.wait_for_event("pay", event="app/order.paid", match="data.id", timeout="1h")
"""


def ids(project: Project, function: str) -> list[str]:
    return [id_ for (id_,) in project.query(f"SELECT id FROM run WHERE function = '{function}' ORDER BY key")]


def why(project: Project, id_: str) -> str:
    """Its sentence, without times and ids."""
    result = project.fanout("why", id_)
    assert result.code == 0
    text = re.sub(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d", "<time>", result.out.rstrip("\n"))
    return re.sub(r"\b[0-9A-Z]{10}\b", "<id>", re.sub(r"\d+(\.\d)? m?s\b", "<took>", text))


def test_a_run_that_waits_for_another_with_its_key(project: Project) -> None:
    project.write(CODE)
    with project.serving():
        for _ in range(2):
            project.fanout("send", "--no-wait", "--name", "app/slow", "--data", '{"account": "acct_7"}')
        until(lambda: len(ids(project, "slow")) == 2, "both are there")
        until(lambda: project.query("SELECT 1 FROM run WHERE state = 'running'") != [], "one is seen to run")
        first, second = ids(project, "slow")
        sentence = "waits for the only slot of `slow` with key `acct_7`: held by <id>"
        assert why(project, second[-10:]) == f"`slow` {sentence}"
        said = project.fanout("why", second, "--json").json()
        assert (said["run"], said["state"], said["code"], said["held_by"]) == (second, "queued", "concurrency", [first])
        assert project.fanout("runs", "show", second).out.splitlines()[3] == (
            f"why      it {sentence}".replace("<id>", first[-10:])
        )
        until(lambda: "in step" in why(project, first), "its step is seen to run")
        assert why(project, first) == "`slow` is running since <time>, in step `wait` since <time>"
        (project.root / "go").touch()
        until(lambda: "completed" in why(project, second), "it ends")
    assert why(project, first) == "`slow` completed at <time>, after <took>"


def test_runs_that_wait_for_their_time(project: Project) -> None:
    project.write(CODE)
    with project.serving():
        for name in ("paid", "paid", "paid", "hit", "hit", "typed", "many", "many"):
            project.fanout("send", "--no-wait", "--name", f"app/{name}", "--data", '{"user": "ada"}')
        project.fanout("send", "--name", "app/order", "--data", '{"id": 42}')
        bills = ids(project, "bill")
        until(lambda: "completed" in why(project, bills[0]), "the first is let through")
        assert why(project, bills[1]) == "`bill` is throttled until <time>"
        assert why(project, bills[2]) == "`bill` is throttled until about <time>, behind 1 run"
        assert why(project, ids(project, "collect")[0]) == "`collect` collects events until <time> (2 of 10 so far)"
        assert why(project, ids(project, "save")[0]) == (
            "`save` is debounced until <time>: each event begins the wait anew"
        )
        assert why(project, ids(project, "mail")[1]) == (
            '`mail` was skipped at <time>: rate limit 1/h on `event.data.user` "ada"'
        )
        assert why(project, ids(project, "order")[0]) == (
            "`order` waits until <time> for the event `app/order.paid` with data.id = 42"
        )
    waits = project.fanout("why", ids(project, "order")[0])
    assert waits.err == "hint: no engine is running: `fanout serve` carries it on, or the next `fanout send`\n"
    assert why(project, bills[1]) == "`bill` waits for an engine: none is running"


def test_a_run_of_a_function_that_is_gone(project: Project) -> None:
    project.write(CODE)
    project.fanout("functions", "pause", "order")
    project.send("app/order")
    [id_] = ids(project, "order")
    assert why(project, id_) == "`order` waits: its function is paused since <time>"
    project.write(CODE.replace("def order", "def renamed"))
    project.fanout("functions")
    assert project.fanout("why", id_) == (
        0,
        "`order` waits: the code has no function `order` any more\n",
        "hint: it goes on when the code has it again; `fanout cancel` ends it\n",
    )


def test_no_such_run(project: Project) -> None:
    project.write(CODE)
    project.send("app/nothing")
    assert project.fanout("why", "nothing") == (
        3, "", "error: there is no run `nothing`\nhint: `fanout runs` lists them\n",
    )  # fmt: skip
