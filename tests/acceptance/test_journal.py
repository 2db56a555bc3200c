"""`fanout journal` beside engines that work, that are killed, or that are not there."""

from __future__ import annotations

import json
import signal
import time
from contextlib import closing, nullcontext
from pathlib import Path

import apsw
import pytest

from tests.acceptance.conftest import Project, until

CODE = """
def page():
    return "x" * 100

@fanout.function(trigger=fanout.on("app/go"))
def work(ctx: Context):
    ctx.step.run("one", page)

@fanout.function(trigger=fanout.on("app/wait"))
def waits(ctx: Context):
    ctx.step.sleep("long", "300d")
"""
TOML = """
[app]
id = "test"
functions = ["work"]
[pool]
processes = 1
[journal]
keep_completed = "never"
keep_failed = "never"
"""
DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def old(project: Project) -> Project:
    """A project with a run that waits, and a past, of which 40 days ago 3,000 runs ended."""
    project.write(CODE, toml=TOML)
    assert project.send("app/wait").code == 0
    add_past(project, 3_000)
    return project


def add_past(project: Project, runs: int) -> None:
    at = time.time_ns() // 1_000_000 - 40 * DAY_MS
    connection = apsw.Connection(str(project.journal))
    with closing(connection), connection:
        numbers = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)"
        for sql in (
            f"""{numbers} INSERT INTO event (id, is_id_given, name, ts, data, received_at)
                SELECT 'OLD' || n, 0, 'app/go', ?2, '{{}}', ?2 FROM n""",
            f"""{numbers} INSERT INTO run (key, id, function, event, event_name, rank, state, max_attempts, queued_at,
                  started_at, ended_at)
                SELECT n + 1, 'OLD' || n, 'work', n + 1, 'app/go', ?2, 'completed', 5, ?2, ?2, ?2 FROM n""",
            f"""{numbers} INSERT INTO step (run, key, kind, branch, state, position, attempts, output, started_at,
                  ended_at)
                SELECT n + 1, 'one', 'run', '', 'completed', 1, 1, '1', ?2, ?2 FROM n""",
        ):
            connection.execute(sql, (runs, at))
        connection.execute("UPDATE meta SET value = (SELECT max(key) FROM event) WHERE name = 'routed_to'")


def counts(project: Project) -> tuple[int, int]:
    """(old runs, live runs)"""
    return project.query(
        "SELECT count(*) FILTER (WHERE id LIKE 'OLD%'), count(*) FILTER (WHERE ended_at IS NULL) FROM run"
    )[0]


def is_whole(project: Project) -> None:
    result = project.fanout("journal", "verify")
    assert (result.code, result.out) == (0, ""), result.out


def test_prune_by_itself_removes_what_was_foretold(old: Project) -> None:
    foretold = old.fanout("journal", "prune", "--completed", "7d", "--dry-run", "--json").json()
    assert (foretold["runs"], foretold["is_dry_run"]) == (2_999, True)
    assert counts(old) == (3_000, 1)
    result = old.fanout("journal", "prune", "--completed", "7d")
    assert (result.code, result.out, result.err) == (0, "2,999 runs, 2,999 steps and 2,999 events removed\n", "")
    # The newest run keeps its number.
    assert counts(old) == (1, 1)
    assert old.fanout("journal", "prune", "--completed", "7d").out == "nothing removed\n"
    is_whole(old)


def test_prune_beside_an_engine_that_works(old: Project) -> None:
    with old.serving():
        for number in range(5):
            assert old.fanout("send", "--name", "app/go", "--no-wait").code == 0, number
        result = old.fanout("journal", "prune", "--completed", "7d", "--json")
        assert result.code == 0, result.err
        assert result.json()["runs"] == 3_000
        done = old.send("app/go").json()["runs"]
        assert [each["state"] for each in done] == ["completed"]
    assert counts(old) == (0, 1)
    is_whole(old)


def test_an_engine_prunes_by_itself(old: Project) -> None:
    old.write(CODE, toml=TOML.replace('"never"', '"7d"'))
    with old.serving():
        until(lambda: counts(old) == (1, 1), "the engine prunes what is old")
    is_whole(old)


def test_killed_again_and_again_it_goes_on_where_it_was(old: Project) -> None:
    kills = 0
    for _ in range(6):
        left = counts(old)[0]
        process = old.start("journal", "prune", "--completed", "7d")
        until(lambda left=left, process=process: counts(old)[0] < left or process.poll() is not None, "it begins")  # type: ignore[misc]
        process.kill()
        process.communicate(timeout=30)
        kills += process.returncode == -signal.SIGKILL
        is_whole(old)
    assert kills > 2
    assert old.fanout("journal", "prune", "--completed", "7d").code == 0
    assert counts(old) == (1, 1)


def test_an_engine_that_is_killed_leaves_the_rest_to_who_has_asked(old: Project) -> None:
    with old.serving() as serve:
        # It gets no turn any more: the request stays open.
        serve.send_signal(signal.SIGSTOP)
        prune = old.start("journal", "prune", "--completed", "7d")
        until(lambda: bool(old.query("SELECT 1 FROM request WHERE kind = 'prune'")), "it is asked for")
        serve.kill()
        out, err = prune.communicate(timeout=60)
    assert (prune.returncode, out, err) == (0, "2,999 runs, 2,999 steps and 2,999 events removed\n", "")
    assert old.query("SELECT handled_at IS NOT NULL FROM request WHERE kind = 'prune'") == [(1,)]


def test_ctrl_c_stops_between_two_transactions(old: Project) -> None:
    add = old.start("journal", "prune", "--completed", "7d")
    until(lambda: counts(old)[0] < 3_000 or add.poll() is not None, "it begins")
    add.send_signal(signal.SIGINT)
    _, err = add.communicate(timeout=30)
    if add.returncode != 0:
        assert add.returncode == 130
        assert err.startswith("stopped: ")
    is_whole(old)


def test_a_backup_while_an_engine_works_opens_as_a_journal(old: Project, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with old.serving():
        sender = old.start("send", "--name", "app/go", "--no-wait")
        result = old.fanout("journal", "backup", str(copy), "--json")
        assert (result.code, result.json()["path"]) == (0, str(copy)), result.err
        sender.communicate(timeout=30)
        again = old.fanout("journal", "backup", str(copy))
        assert (again.code, again.out) == (2, "")
        assert again.err == f"error: `{copy}` is there already\nhint: `--force` replaces it\n"
    other = tmp_path / "other"
    other.mkdir()
    restored = Project(other)
    restored.write(CODE, toml=TOML + f'path = "{copy}"\n')
    assert restored.fanout("journal", "verify").code == 0
    assert restored.send("app/go").json()["runs"][0]["state"] == "completed"


def test_verify_finds_damage_and_says_which(old: Project) -> None:
    with closing(apsw.Connection(str(old.journal))) as connection:
        connection.execute("UPDATE run SET event = 999999 WHERE key = 2")
        connection.execute("DELETE FROM step WHERE run = 1")
    result = old.fanout("journal", "verify")
    assert result.code == 1
    assert [line.split(":")[0] for line in result.out.splitlines()] == [
        "broken  references", "broken  run-event", "broken  routed-runs", "broken  waiting-runs",
    ]  # fmt: skip
    assert result.err.startswith("4 checks of ")
    found = old.fanout("journal", "verify", "--json")
    assert (found.code, found.json()["is_whole"]) == (1, False)


def test_info_says_how_much_and_who_works(old: Project) -> None:
    found = old.fanout("journal", "info", "--json").json()
    assert (found["runs"], found["engine"]) == ({"completed": 3_000, "waiting": 1}, None)
    assert found["prunable"]["runs"] == 0
    with old.serving() as serve:
        assert old.fanout("journal", "info", "--json").json()["engine"] == {"pid": serve.pid}
    out = old.fanout("journal", "info").out
    assert "3,000 completed, 1 waiting" in out
    assert "runs are kept for ever; nothing would be removed now" in out


def test_export_is_a_stream_of_lines(old: Project) -> None:
    result = old.fanout("journal", "export")
    kinds = [json.loads(line)["kind"] for line in result.out.splitlines()]
    assert {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)} == {"event": 3_001, "run": 3_001, "step": 3_001}
    process = old.start("journal", "export")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert (process.wait(timeout=30), process.stderr.read()) == (0, "")


@pytest.mark.parametrize("command", ["info", "verify", "prune", "export"])
def test_without_a_journal_there_is_nothing_to_see_to(project: Project, command: str) -> None:
    project.write(CODE, toml=TOML)
    result = project.fanout("journal", command)
    assert (result.code, result.out) == (3, "")
    assert not project.journal.exists()


@pytest.mark.parametrize("kept", ["5m", "9999999999999999d"])
def test_what_can_not_be_is_refused(old: Project, kept: str) -> None:
    result = old.fanout("journal", "prune", "--completed", kept)
    assert result.code == 2
    assert result.err == f"error: `--completed {kept}` can't be\nhint: write `7d`, one hour to 100 years, or `never`\n"
    old.write(CODE, toml=TOML.replace('"never"', f'"{kept}"', 1))
    result = old.fanout("journal", "info")
    assert result.code == 2
    assert f'has to be text like "7d", one hour to 100 years, or "never", not "{kept}"' in result.err


@pytest.mark.parametrize("is_serving", [False, True], ids=["alone", "beside an engine"])
def test_what_runs_have_printed_goes_with_them(project: Project, is_serving: bool) -> None:
    project.write(
        """
        @fanout.function(trigger=fanout.on("app/say"))
        def says(ctx: Context):
            print("hello")
        """,
        toml=TOML,
    )
    first, second = (project.send("app/say").json()["runs"][0]["id"] for _ in range(2))
    assert [project.fanout("logs", run, "--json").json()["text"] for run in (first, second)] == ["hello", "hello"]
    with closing(apsw.Connection(str(project.journal))) as connection:
        connection.execute(
            "UPDATE run SET queued_at = queued_at - ?1, ended_at = ended_at - ?1 WHERE id = ?2", (40 * DAY_MS, first)
        )
    with project.serving() if is_serving else nullcontext():
        assert project.fanout("journal", "prune", "--completed", "30d").code == 0
    with closing(apsw.Connection(str(project.journal.with_name("journal.logs.db")))) as logs:
        assert logs.execute("SELECT run.id, text FROM line JOIN run ON run.key = line.run").fetchall() == [
            (second, "hello")
        ]
