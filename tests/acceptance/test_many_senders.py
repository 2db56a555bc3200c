"""Many processes send at once while an engine runs."""

from __future__ import annotations

import subprocess
import sys

from tests.acceptance.conftest import Project

SENDERS = 8
EVENTS = 1_000

SENDER = f"""
import fanout
with fanout.connect() as client:
    for number in range({EVENTS}):
        client.send({{"name": "app/go", "data": {{"n": number}}}})
"""


def test_eight_senders_lose_nothing_double_nothing_and_meet_no_lock(project: Project) -> None:
    project.write(
        "@fanout.function(trigger=fanout.on('app/go'))\ndef f(ctx): return ctx.step.run('n', int, ctx.event.data['n'])\n"
    )
    with project.serving():
        senders = [
            subprocess.Popen(
                [sys.executable, "-c", SENDER], cwd=project.root, env=project.environment(), text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            for _ in range(SENDERS)
        ]  # fmt: skip
        for sender in senders:
            _, err = sender.communicate(timeout=120)
            assert (sender.returncode, err) == (0, "")
        # The last to be sent is routed last: when it is over, all have been routed.
        assert project.send("app/go", {"n": -1}).code == 0
    project.send("app/nothing")
    assert project.query("SELECT count(*) FROM event WHERE name = 'app/go'") == [(SENDERS * EVENTS + 1,)]
    assert project.query("SELECT state, count(*), count(DISTINCT event) FROM run GROUP BY 1") == [
        ("completed", SENDERS * EVENTS + 1, SENDERS * EVENTS + 1)
    ]
    sums = project.query(
        "SELECT sum(json_extract(data, '$.n') = output), count(*) FROM run JOIN event ON event.key = event"
    )
    assert sums == [(SENDERS * EVENTS + 1, SENDERS * EVENTS + 1)]


def test_a_program_can_wait_for_what_it_sent(project: Project) -> None:
    project.write(
        "@fanout.function(trigger=fanout.on('app/go'))\ndef f(ctx): return ctx.step.run('n', int, ctx.event.data['n'])\n"
    )
    code = """
import fanout
with fanout.connect() as client:
    assert client.wait(client.send()) == []
    runs = client.wait(client.send({"name": "app/go", "data": {"n": 7}}, {"name": "app/go", "data": {"n": 8}}))
    print([(run.state.value, bytes(run.output)) for run in runs])
    try:
        client.send({"name": "app/go"}, {"nmae": "app/go"})
    except fanout.FanoutError as error:
        print(error)
"""
    with project.serving():
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=project.root, env=project.environment(), text=True,
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "[('completed', b'7'), ('completed', b'8')]",
        "`the events` event 2: field `nmae` is not one that an event has",
    ]
    assert project.query("SELECT count(*) FROM event") == [(2,)]
