"""What stands under the keys of `[redact]` is in the journal, and nowhere else."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.routing import Route

import fanout
from fanout.config import load
from tests.acceptance.conftest import Project
from tests.web.conftest import client_of

SECRET = "hunter2-of-joe"
TOML = """
[app]
id = "test"
functions = ["work"]
[pool]
processes = 2
[dev]
retry_delay = 0.05
[redact]
keys = ["password", "API_key"]
"""
CODE = """
import logging

class Refused(Exception): ...

def log_in(password):
    print("log in with", {"password": password, "n": 1})
    print("in two parts: password=", end="", flush=True)
    print(password)
    logging.getLogger("login").warning("refused: api_key=%s", password)
    logging.getLogger("login").info(json.dumps({"deep": {"Password": [password]}}))
    return {"user": "joe", "Password": {"value": [password]}, "url": f"https://x/?api_key={password}&n=1"}

@fanout.function(trigger=fanout.on("app/login"), retries=1)
def login(ctx: Context):
    password = ctx.event.data["form"]["password"]
    said = ctx.step.run("log-in", log_in, password)
    ctx.step.send_event("tell", [{"name": "app/told", "data": {"api_key": password}, "user": {"password": password}}])
    ctx.step.invoke("check", check, data={"password": password})
    try:
        ctx.step.run("refuse", refuse, password)
    finally:
        print({"api_key": password})
    return said

def refuse(password):
    raise Refused(f"the server says: {{'password': '{password}'}}")

@fanout.function()
def check(ctx: Context):
    return {"password": ctx.event.data["password"], "checked": True}

@fanout.function(trigger=fanout.on("app/login"))
def wait(ctx: Context):
    password = ctx.event.data["form"]["password"]
    ctx.step.run("keep", lambda: [{"api_key": password}])
    ctx.step.wait_for_event(
        "other", event="app/other", timeout="1h", match="data.form.password", if_=f'async.data.password == "{password}"'
    )

@fanout.function(trigger=fanout.on("app/login"), concurrency=fanout.Concurrency(1, key="event.data.form.password"))
def keyed(ctx: Context):
    ctx.step.sleep("nap", "1h")
    return ctx.event.data

@fanout.function(
    trigger=fanout.on("app/login"),
    batch=fanout.Batch(max_size=5, timeout="1h", key="event.data.form.password"),
)
def collected(ctx: Context):
    return [event.data for event in ctx.events]
"""
EVENT = {"form": {"user": "joe", "password": SECRET}, "note": f"password: {SECRET}", "kept": "seen"}


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[str]]:
    """A project that has been given a secret in every way, and what the commands said that gave it."""
    project = Project(tmp_path_factory.mktemp("redaction"))
    project.write(CODE, toml=TOML)
    (project.root / "work.py").write_text("import json\n" + (project.root / "work.py").read_text())
    done = [
        project.fanout("send", "--name", "app/login", "--data", json.dumps(EVENT)),
        project.fanout("send", "--name", "app/login", "--data", json.dumps(EVENT), "--json"),
        project.fanout("invoke", "check", "--data", json.dumps({"password": SECRET})),
        project.fanout("invoke", "check", "--data", json.dumps({"password": SECRET}), "--json"),
        project.fanout("replay", "--failed", "--dry-run"),
        project.fanout("replay", "--failed", "--dry-run", "--json"),
        project.fanout("replay", "--failed"),
        project.fanout("send", "--name", "app/login", "--data", f'{{"password": "{SECRET}"'),
    ]
    assert [each.code for each in done] == [1, 1, 0, 0, 0, 0, 1, 2], done
    return project, [each.out + each.err for each in done]


def ids(project: Project, table: str) -> list[str]:
    return [id_ for (id_,) in project.query(f"SELECT id FROM {table} WHERE key > 0")]


def test_commands_that_run_things_tell_no_secret(used: tuple[Project, list[str]]) -> None:
    _, said = used
    assert [text for text in said if SECRET in text] == []
    assert "Refused" in said[0]
    assert json.loads(said[3].splitlines()[0])["runs"][0]["output"] == {"password": "[redacted]", "checked": True}


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_commands_that_look_tell_no_secret(used: tuple[Project, list[str]], form: list[str]) -> None:
    project, _ = used
    calls = [["runs"], ["events"], ["stats"], ["functions"], ["graph"], ["journal", "info"], ["check"]]
    some = [id_ for (id_,) in project.query("SELECT max(id) FROM run GROUP BY function")]
    calls += [[*command.split(), id_] for command in ("runs show", "logs", "why", "trace") for id_ in some]
    calls += [["events", "show", id_] for id_ in ids(project, "event")[:4]]
    said = []
    for call in calls:
        result = project.fanout(*call, *form)
        assert result.code == 0, (call, result)
        said.append(result.out + result.err)
    assert [text for text in said if SECRET in text] == []
    assert "[redacted]" in "".join(said)
    assert "Refused" in "".join(said)
    assert "seen" in "".join(said)


def test_the_logs_on_disk_hold_no_secret_and_the_journal_does(used: tuple[Project, list[str]]) -> None:
    project, _ = used
    folder = project.journal.parent
    logs = b"".join(path.read_bytes() for path in folder.glob("journal.logs.db*"))
    assert b"log in with {'password': '[redacted]', 'n': 1}" in logs
    assert b"in two parts: password=[redacted]" in logs
    assert SECRET.encode() not in logs
    # Runs need what they were given: the journal, its copies and exports have it.
    assert project.query("SELECT count(*) > 0 FROM event WHERE data LIKE '%hunter2-of-joe%'") == [(1,)]
    assert SECRET in project.fanout("journal", "export").out


def test_what_was_logged_before_is_hidden_when_it_is_read(project: Project) -> None:
    project.write(CODE)
    (project.root / "work.py").write_text("import json\n" + (project.root / "work.py").read_text())
    assert project.fanout("send", "--name", "app/login", "--data", json.dumps(EVENT)).code == 1
    run = project.query("SELECT id FROM run WHERE function = 'login'")[0][0]
    assert SECRET in project.fanout("logs", run).out
    (project.root / "fanout.toml").write_text(TOML)
    shown = project.fanout("logs", run).out
    assert SECRET not in shown
    assert "password=[redacted]" in shown


def test_the_site_tells_no_secret(used: tuple[Project, list[str]]) -> None:
    project, _ = used
    examples = {"runs": ids(project, "run"), "events": ids(project, "event"), "trace": ids(project, "event")}
    functions = ["login", "wait", "keyed", "collected", "check"]
    with client_of(load(project.root / "fanout.toml")) as client:
        site = client.app.app  # type: ignore[attr-defined] # behind its guard
        seen = {}
        for path in addresses(site.routes, examples | {"functions": functions}):
            seen[path] = client.get(path)
    assert [path for path, answer in seen.items() if answer.status_code >= 500] == []
    assert [path for path, answer in seen.items() if SECRET in answer.text] == []
    for page in (f"/runs/{examples['runs'][0]}", f"/events/{examples['events'][0]}"):
        assert seen[page].status_code == 200
        assert "[redacted]" in seen[page].text


def addresses(routes: list[object], examples: dict[str, list[str]]) -> Iterator[str]:
    """All that can be asked for, with examples in the place of what varies."""
    for route in routes:
        if not isinstance(route, Route) or "GET" not in (route.methods or ()) or route.path == "/live":
            continue
        head, brace, rest = route.path.partition("{")
        if not brace:
            yield route.path
            continue
        noun = head.strip("/").rpartition("/")[2]
        for example in examples.get(noun, []):
            yield head + example + rest.partition("}")[2]


def test_whoever_reads_for_people_says_what_to_hide() -> None:
    """Of all who open a journal or its logs, only a program's client is told all there is.

    Spans are hidden from where they are made, which has tests of its own; for live updates only the version is read.
    """
    root, found = Path(fanout.__file__).parent, []
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) not in (
                "JournalReader",
                "LogReader",
                "FollowingReader",
            ):
                continue
            if "redact" not in {keyword.arg for keyword in node.keywords}:
                found.append(f"{path.relative_to(root)}: {ast.unparse(node)}")
    assert found == [
        "client.py: JournalReader(journal)",
        "tracing/__main__.py: JournalReader(self._config.journal)",
        "web/live.py: FollowingReader(self._path)",
    ]
