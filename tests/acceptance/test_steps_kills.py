"""The engine and its workers die by SIGKILL in the middle of a large map, and around each commit of a large sending."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import apsw
import pytest

from tests.acceptance.conftest import Project, is_alive, until

KILLER = str(Path(__file__).with_name("killer.py"))
TOML = '[app]\nid = "test"\nfunctions = ["work"]\n[pool]\nprocesses = 2\nslots = 4\npark = "{park}"\n'
ITEMS = 5_000
KILLS = 20
MAP = f"""
def work(n, step):
    note(f"{{n}} {{step}} {{os.getpid()}}")
    time.sleep(0.002)  # with the few slots: the fastest machine is not done before it has been killed so often
    return n

@fanout.function()
def child(ctx: Context):
    n = ctx.step.run("one", work, ctx.event.data["n"], 0)
    ctx.step.run("two", work, n, 1)
    return {{"n": n}}

@fanout.function(trigger=fanout.on("app/go"))
def parent(ctx: Context):
    results = ctx.step.map("map", child, ({{"n": n}} for n in range({ITEMS})), max_in_flight=1500)
    ctx.step.run("after", work, -1, 2)
    return results
"""


def ended(project: Project) -> int:
    if not project.journal.exists():
        return 0
    with suppress(Exception):  # It is being made.
        return int(project.query("SELECT count(*) FROM run WHERE ended_at IS NOT NULL")[0][0])
    return 0


def kill_a_worker(project: Project, chance: random.Random) -> None:
    pids = {int(line.split()[2]) for line in project.notes()[-50:] if len(line.split()) == 3}
    for pid in chance.sample(sorted(pids), min(1, len(pids))):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_map_of_thousands_killed_at_random_on_its_way(project: Project) -> None:
    project.write(MAP, toml=TOML.format(park="0"))
    chance = random.Random(20261122)
    kills, before = 0, 0
    while kills < KILLS:
        (project.root / "fanout.toml").write_text(TOML.format(park=chance.choice(["0", "5s", "366d"])))
        process = project.start("send", "--name", "app/nothing" if kills else "app/go", "--json")
        # However slow this machine is, a little more has been done.
        furthest = before + chance.randrange(50)
        until(lambda: ended(project) > furthest or process.poll() is not None, "some items are done")  # noqa: B023
        if chance.random() < 0.25:
            kill_a_worker(project, chance)
        time.sleep(chance.uniform(0, 0.03))
        process.kill()
        process.communicate(timeout=30)
        assert process.returncode == -signal.SIGKILL, "it came to its end before it was killed"
        kills, before = kills + 1, ended(project)
    assert before < ITEMS
    project.send("app/nothing")

    [(state, output, key)] = project.query("SELECT state, output, key FROM run WHERE function = 'parent'")
    assert (state, output) == ("completed", "[" + ",".join(f'{{"n":{n}}}' for n in range(ITEMS)) + "]")
    children = (
        "SELECT count(*), count(DISTINCT item), count(DISTINCT event), count(DISTINCT json_extract(output, '$.n'))"
    )
    assert project.query(f"{children} FROM run WHERE parent = {key} AND state = 'completed'") == [(ITEMS,) * 4]
    assert project.query("SELECT count(*) FROM run") == [(ITEMS + 1,)]
    furthest_steps: dict[str, int] = {}
    for line in project.notes():
        n, step, _ = line.split()
        assert int(step) >= furthest_steps.get(n, 0), f"item {n} did a step again that was recorded"
        furthest_steps[n] = int(step)
    assert len(furthest_steps) == ITEMS + 1
    assert project.query("PRAGMA integrity_check") == [("ok",)]
    until(lambda: not any(is_alive(int(line.split()[2])) for line in project.notes()[-500:]), "the workers end")


EVENTS = 5_000
SEND = f"""
@fanout.function(trigger=fanout.on("app/go"))
def sends(ctx: Context):
    ctx.step.run("before", note, "before")
    ids = ctx.step.send_event("send", [{{"name": "app/sent", "data": {{"n": n}}}} for n in range({EVENTS})])
    ctx.step.run("after", note, "after")
    return ids[::1000]

@fanout.function(trigger=fanout.on("app/sent-last"))
def hears(ctx: Context):
    pass
"""


def killed_at(project: Project, number: int, moment: str) -> int:
    process = project.start(
        KILLER, str(number), moment, "send", "--name", "app/go", "--json", command=(sys.executable,)
    )
    process.communicate(timeout=60)
    return process.returncode


def check_sent(project: Project) -> None:
    runs = project.query("SELECT key, state, output FROM run WHERE function = 'sends'")
    sent = [int(n) for (n,) in project.query("SELECT json_extract(data, '$.n') FROM event WHERE name = 'app/sent'")]
    # Before the first commit there is no event, and so no run.
    assert sorted(sent) == list(range(EVENTS)) * len(runs)
    for key, state, output in runs:
        ids = project.query(
            f"SELECT id FROM event WHERE origin = {key} AND json_extract(data, '$.n') % 1000 = 0 ORDER BY key"
        )
        assert (state, output) == ("completed", "[" + ",".join(f'"{id_}"' for (id_,) in ids) + "]")


@pytest.mark.parametrize("moment", ["before", "inside", "after"])
def test_thousands_of_events_sent_from_a_step_killed_at_each_commit(tmp_path: Path, moment: str) -> None:
    number, sent, kills = 1, 0, 0
    # The commits of the events' own routing, that come after, change nothing of them.
    while sent < 2:
        folder = tmp_path / str(number)
        folder.mkdir()
        project = Project(folder)
        project.write(SEND, toml=TOML.format(park="0"))
        kills += killed_at(project, number, moment) == -signal.SIGKILL
        with suppress(apsw.SQLError):  # killed before there were any tables
            sent += project.query("SELECT count(*) FROM event WHERE name = 'app/sent'") == [(EVENTS,)]
        project.send("app/nothing")
        check_sent(project)
        number += 1
    assert kills >= number - 2
