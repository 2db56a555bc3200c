"""`fanout replay`: failed runs again, without doing what was done."""

from __future__ import annotations

import os
import signal

from tests.acceptance.conftest import Project, until

MENDABLE = """
@fanout.function(trigger=fanout.on("app/go"), retries=0)
def mendable(ctx: Context):
    ctx.step.run("charge", note, f"charge {ctx.event.data['n']}")
    def ship():
        if not (HERE / "mended").exists():
            raise ConnectionError("the carrier is away")
        note(f"ship {ctx.event.data['n']}")
        return "shipped"
    return ctx.step.run("ship", ship)

@fanout.function(trigger=fanout.on("app/go"))
def fine(ctx: Context):
    ctx.step.run("fine", note, f"fine {ctx.event.data['n']}")
"""


def test_completed_steps_are_carried_over_and_the_old_run_stays(project: Project) -> None:
    project.write(MENDABLE)
    assert project.send("app/go", {"n": 1}).code == 1
    before = project.query("SELECT * FROM run ORDER BY key"), project.query("SELECT * FROM step ORDER BY run, key")
    (project.root / "mended").touch()
    result = project.fanout("replay", "--failed", "--json")
    assert result.code == 0
    [run] = result.json()["runs"]
    assert (run["function"], run["state"], run["output"]) == ("mendable", "completed", "shipped")
    assert run["replay_of"] == project.query("SELECT id FROM run WHERE state = 'failed'")[0][0]
    assert [(step["name"], step["state"]) for step in run["steps"]] == [("charge", "completed"), ("ship", "completed")]
    assert sorted(project.notes()) == ["charge 1", "fine 1", "ship 1"]
    after = project.query("SELECT * FROM run ORDER BY key"), project.query("SELECT * FROM step ORDER BY run, key")
    assert after[0][:2] == before[0]
    assert [step for step in after[1] if step[0] <= 2] == before[1]


def test_replaying_twice_does_not_double(project: Project) -> None:
    project.write(MENDABLE)
    project.send("app/go", {"n": 1})
    (project.root / "mended").touch()
    assert project.fanout("replay", "--failed").code == 0
    assert project.fanout("replay", "--failed") == (0, "", "there is nothing to replay\n")
    failed = project.query("SELECT id FROM run WHERE state = 'failed'")[0][0]
    assert project.fanout("replay", failed) == (
        3, "", f"error: the run `{failed}` was replayed already\nhint: `--again` replays it once more\n",
    )  # fmt: skip
    assert project.fanout("replay", failed, "--again").code == 0
    assert project.notes().count("ship 1") == 2
    assert project.notes().count("charge 1") == 1


def test_a_replay_that_fails_again_stands_for_the_whole_chain(project: Project) -> None:
    project.write(MENDABLE)
    project.send("app/go", {"n": 1})
    assert project.fanout("replay", "--failed").code == 1
    (project.root / "mended").touch()
    result = project.fanout("replay", "--failed", "--json")
    assert [run["state"] for run in result.json()["runs"]] == ["completed"]
    assert project.notes().count("ship 1") == 1


def test_a_running_engine_does_the_replay(project: Project) -> None:
    project.write(MENDABLE)
    project.send("app/go", {"n": 1})
    (project.root / "mended").touch()
    with project.serving():
        result = project.fanout("replay", "--failed", "--json")
        assert [run["state"] for run in result.json()["runs"]] == ["completed"]


BULK = int(os.environ.get("FANOUT_TEST_BULK", "2000"))
"""10,000 take half a minute."""


def test_a_bulk_replay_killed_on_the_way_loses_none_and_doubles_none(project: Project) -> None:
    project.write(MENDABLE)
    for first in range(0, BULK, 2_000):
        numbers = range(first, min(first + 2_000, BULK))
        events = "".join(f'{{"name": "app/go", "data": {{"n": {number}}}}}\n' for number in numbers)
        assert project.fanout("send", "-", stdin=events).code == 1
    (project.root / "mended").touch()
    # Killed between two slices, then while runs execute.
    for made in (1, BULK // 2, BULK):
        process = project.start("replay", "--failed", "--json")
        until(lambda made=made: number_of(project, "replay_of > 0") >= made, "the replay is on its way")  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.communicate()
    # The requests are in the journal: whoever comes next goes on with them, and asking again adds nothing.
    project.send("app/nothing")
    assert project.fanout("replay", "--failed").err == "there is nothing to replay\n"
    assert project.query("SELECT count(*), count(DISTINCT replay_of) FROM run WHERE replay_of > 0") == [(BULK, BULK)]
    assert project.query("SELECT DISTINCT state FROM run WHERE replay_of IS NOT NULL") == [("completed",)]
    assert number_of(project, "key = 'ship' AND state = 'completed'", "step") == BULK


def number_of(project: Project, condition: str, table: str = "run") -> int:
    number: int = project.query(f"SELECT count(*) FROM {table} WHERE {condition}")[0][0]
    return number


def test_a_dry_run_says_what_becomes_of_each_step_and_does_nothing(project: Project) -> None:
    project.write(MENDABLE)
    project.send("app/go", {"n": 1})
    planned = "1 run to replay\nmendable  1 run\n  reuse  charge\n  run    ship\n"
    assert project.fanout("replay", "--failed", "--dry-run") == (0, planned, "")
    nothing = project.fanout("replay", "--failed", "--function", "fine", "--dry-run")
    assert nothing == (0, "", "there is nothing to replay\n")
    assert project.fanout("replay", "--failed", "--from-step", "charge", "--dry-run", "--json").json() == {
        "runs": [], "planned": 1, "functions": [
            {"function": "mendable", "runs": 1, "reused": {}, "given": [], "again": {"charge": 1, "ship": 1},
             "new": [], "gone": {}},
        ],
    }  # fmt: skip
    # The journal only has what an engine last saw of the code: a later one sees the edit.
    project.write(
        MENDABLE.replace('"charge"', '"bill"').replace("return ctx.step", "ctx.step.sleep('rest', 0); return ctx.step")
    )
    project.send("app/nothing")
    assert project.fanout("replay", "--failed", "--dry-run").out == (
        "1 run to replay\nmendable  1 run\n  run    ship\n  new    bill, rest\n  gone   charge\n"
        "         recorded, but today's code has no such step\n"
    )
    assert project.query("SELECT count(*) FROM run") == [(2,)]
    assert project.query("SELECT count(*) FROM request") == [(0,)]


def test_a_step_is_given_its_result_and_those_from_a_step_on_are_forgotten(project: Project) -> None:
    project.write(MENDABLE)
    project.send("app/go", {"n": 1})
    result = project.fanout("replay", "--failed", "--set", 'ship={"by":"hand"}', "--json")
    [run] = result.json()["runs"]
    assert (run["state"], run["output"]) == ("completed", {"by": "hand"})
    assert [(step["name"], step["attempts"]) for step in run["steps"]] == [("charge", 1), ("ship", 0)]
    assert "  ✓ ship " in (page := project.fanout("runs", "show", run["id"]).out)
    assert page.count("   given  ") == 1
    assert page.count("  reused  ") == 1
    (project.root / "mended").touch()
    assert project.fanout("replay", run["id"], "--from-step", "ship", "--json").json()["runs"][0]["output"] == "shipped"
    assert project.notes().count("charge 1") == 1
    assert project.fanout("replay", run["id"], "--from-start", "--again").code == 0
    assert (project.notes().count("charge 1"), project.notes().count("ship 1")) == (2, 2)
    assert project.fanout("replay", run["id"], "--again", "--from-step", "chrge") == (
        3, "", "error: none of the runs has a step `chrge`\nhint: did you mean `charge`?\n",
    )  # fmt: skip
    assert project.fanout("replay", run["id"], "--again", "--set", "shp=1").code == 3


def test_a_batch_is_replayed_with_all_its_events(project: Project) -> None:
    project.write(
        """
        @fanout.function(trigger=fanout.on("app/go"), batch=fanout.Batch(3, "1h"), retries=0)
        def batched(ctx: Context):
            if not (HERE / "mended").exists():
                raise ConnectionError
            return [event.data["n"] for event in ctx.events]
        """
    )
    events = "".join(f'{{"name": "app/go", "data": {{"n": {number}}}}}\n' for number in range(3))
    assert project.fanout("send", "-", stdin=events).code == 1
    (project.root / "mended").touch()
    [run] = project.fanout("replay", "--failed", "--json").json()["runs"]
    assert run["output"] == [0, 1, 2]


def test_a_rate_spreads_the_starts(project: Project) -> None:
    project.write(MENDABLE)
    (project.root / "events.ndjson").write_text('{"name": "app/go", "data": {"n": 1}}\n' * 5)
    project.fanout("send", "events.ndjson")
    (project.root / "mended").touch()
    assert project.fanout("replay", "--failed", "--rate", "600/m").code == 0
    starts = [at for (at,) in project.query("SELECT started_at FROM run WHERE replay_of > 0 ORDER BY started_at")]
    [(asked_at,)] = project.query("SELECT made_at FROM request WHERE kind = 'replay'")
    # One may begin late, and the next in time.
    assert all(start - asked_at >= 100 * number for number, start in enumerate(starts)), (asked_at, starts)
    assert project.fanout("replay", "--failed", "--rate", "ten").code == 2


def test_links_between_a_run_and_its_replay_are_shown_everywhere(project: Project) -> None:
    project.write(MENDABLE)
    project.send("app/go", {"n": 1})
    project.fanout("replay", "--failed")
    new, *_, old = [run["id"] for run in project.fanout("runs", "--function", "mendable", "--json").json()["runs"]]
    assert [" ".join(line.split()[-3:]) for line in project.fanout("runs").out.splitlines()[1::2]] == [
        f"replay of {old[-10:]}", f"replayed by {new[-10:]}",
    ]  # fmt: skip
    assert f"replay of {old}\n" in project.fanout("runs", "show", new).out
    assert new in project.fanout("runs", "show", old).out
    assert project.fanout("runs", "show", old, "--json").json()["replayed_by"] == new
    traced = project.fanout("trace", old).out
    assert f"replay of {old[-10:]}" in traced
    assert f"replayed by {new[-10:]}" in traced


def test_calls_that_cannot_work(project: Project) -> None:
    project.write(MENDABLE)
    assert project.fanout("replay", "--failed").code == 3
    assert project.fanout("replay") == (
        2, "", "error: there is nothing to replay\nhint: say `--failed`, or give the ids of runs\n",
    )  # fmt: skip
    project.send("app/go", {"n": 1})
    assert project.fanout("replay", "01XX") == (
        3, "", "error: there is no run `01XX`\nhint: `fanout runs` lists them\n",
    )  # fmt: skip
