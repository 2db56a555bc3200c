"""`fanout replay`: failed runs again, without doing what was done."""

from __future__ import annotations

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


def test_a_bulk_replay_killed_on_the_way_loses_none_and_doubles_none(project: Project) -> None:
    project.write(MENDABLE)
    (project.root / "events.ndjson").write_text(
        "".join(f'{{"name": "app/go", "data": {{"n": {number}}}}}\n' for number in range(300))
    )
    assert project.fanout("send", "events.ndjson").code == 1
    (project.root / "mended").touch()
    process = project.start("replay", "--failed", "--json")
    until(lambda: any(line.startswith("ship") for line in project.notes()), "the replay is on its way")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    # The request was made once; whoever comes next goes on with it, and a second one finds nothing left.
    project.send("app/nothing")
    assert project.fanout("replay", "--failed").err == "there is nothing to replay\n"
    assert project.query("SELECT count(*), count(DISTINCT replay_of) FROM run WHERE replay_of IS NOT NULL") == [
        (300, 300)
    ]
    assert project.query("SELECT DISTINCT state FROM run WHERE replay_of IS NOT NULL") == [("completed",)]
    assert project.query("SELECT count(*) FROM step WHERE key = 'ship' AND state = 'completed'") == [(300,)]


def test_dry_run_only_counts(project: Project) -> None:
    project.write(MENDABLE)
    project.send("app/go", {"n": 1})
    assert project.fanout("replay", "--failed", "--dry-run") == (0, "", "1 run to replay\n")
    assert project.fanout("replay", "--failed", "--function", "fine", "--dry-run").err == "0 runs to replay\n"
    assert project.fanout("replay", "--failed", "--dry-run", "--json").json() == {"runs": [], "planned": 1}


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
