"""Each rule of a journal, broken on purpose: its check finds it, and says what is not as it should be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from fanout.journal.care import Finding
from fanout.journal.sqlite_care import CareReader
from fanout.journal.sqlite_checks import CHECKS, RULES
from tests.unit.filled import NOW, Filled, event_id, filled, run_id

Break = Callable[[Filled], None]


def whole(made: Filled) -> None:
    """A journal with something of everything, in which all is well."""
    made.event(1)
    made.run(1, "plain", 1)
    made.step(1, "s")
    made.run(2, "broken", 1, "failed")
    made.step(2, "s", "failed")
    made.failure(2, "s", "ValueError", "no")
    made.run(3, "again", 1, "completed")
    made.run(4, "again", 1, "queued", replay_of=3)
    made.run(5, "mapping", 1, "waiting")
    made.step(5, "map", "waiting", kind="map")
    made.insert("map", run=5, step="map", function="item", taken=2, ended=1, is_exhausted=0, max_in_flight=9,
                is_collecting=0)  # fmt: skip
    made.child(6, "item", 5, "map", "completed", item=0)
    made.child(7, "item", 5, "map", "running", item=1)
    made.run(8, "awaiting", 1, "waiting")
    made.step(8, "paid", "waiting", kind="wait")
    made.insert("wait", run=8, step="paid", number=0, event="app/paid", path="", value="")
    made.insert("wait", run=8, step="", number=0, event="app/stop", path="", value="")
    made.run(9, "sleeping", 1, "waiting", due_at=NOW, hold="debounce:null")
    made.insert("run_event", run=9, position=1, event=1)
    made.event(2, "app/other")
    made.insert("run_event", run=9, position=2, event=2)
    made.run(10, "ticking", 2, singleton="cron")
    made.insert("tick", function="ticking", scheduled_at=NOW, run=10)
    made.run(11, "single", 1, "running", singleton="a")
    made.run(12, "single", 2, "completed", singleton="a")
    made.run(13, "single", 2, "queued", singleton="a", replay_of=12)


def run(key: int) -> str:
    return f"run {run_id(key)}"


def sql(statement: str, *bindings: object) -> Break:
    def apply(made: Filled) -> None:
        made.execute("PRAGMA ignore_check_constraints = on")
        made.execute(statement, *bindings)

    return apply


def together(*breaks: Break) -> Break:
    def apply(made: Filled) -> None:
        for each in breaks:
            each(made)

    return apply


BROKEN: dict[str, tuple[Break, str]] = {
    "schema": (sql("DROP INDEX run_due"), "index run_due"),
    "references": (sql("INSERT INTO failure VALUES (99, 's', 0, 'E', 'm', '', 1, 1)"), "failure 2 to run"),
    "run-event": (sql("UPDATE run SET event = 2000000 WHERE key = 1"), run(1)),
    "fan-out": (
        together(sql("DROP INDEX run_once"), sql("UPDATE run SET function = 'plain' WHERE key = 2")),
        f"event {event_id(1)} and function plain",
    ),
    "routed-to": (sql("UPDATE meta SET value = 3 WHERE name = 'routed_to'"), "routed to 3 of 2"),
    "routed-runs": (sql("UPDATE meta SET value = 1 WHERE name = 'routed_to'"), run(12)),
    "event-keys": (sql("UPDATE event SET name = 'fanout/forged' WHERE key = 2"), f"event {event_id(2)}"),
    "ended-at": (sql("UPDATE run SET ended_at = NULL WHERE key = 1"), run(1)),
    "final-times": (sql("UPDATE run SET deadline_at = 1 WHERE key = 1"), run(1)),
    "final-waits": (sql("UPDATE wait SET run = 1 WHERE step = ''"), f"{run(1)} for app/stop"),
    "final-steps": (
        sql("UPDATE step SET state = 'retrying', output = NULL WHERE run = 1"), f"step s of {run(1)}"
    ),
    "waiting-runs": (sql("UPDATE run SET due_at = NULL, hold = NULL WHERE key = 9"), run(9)),
    "due-runs": (sql("UPDATE run SET due_at = 1 WHERE key = 7"), run(7)),
    "holds": (sql("UPDATE run SET hold = 'debounce:null' WHERE key = 7"), run(7)),
    "singletons": (
        sql("UPDATE run SET state = 'running', ended_at = NULL, output = NULL WHERE key = 12"), "single on a"
    ),
    "step-outputs": (sql("UPDATE step SET output = NULL WHERE run = 1"), f"step s of {run(1)}"),
    "step-times": (sql("UPDATE step SET ended_at = NULL WHERE run = 1"), f"step s of {run(1)}"),
    "awaited-steps": (
        sql("UPDATE wait SET step = 'gone' WHERE step = 'paid'"), f"step gone of {run(8)}"
    ),
    "maps": (sql("DELETE FROM map"), f"step map of {run(5)}"),
    "map-counts": (sql("UPDATE map SET taken = 3"), f"step map of {run(5)}"),
    "children": (sql("UPDATE run SET parent_step = 'gone' WHERE key = 7"), run(7)),
    "replays": (sql("UPDATE run SET replay_of = 5 WHERE key = 4"), run(4)),
    "ticks": (sql("UPDATE tick SET function = 'other'"), f"tick of other at {NOW}"),
    "batches": (sql("UPDATE run_event SET position = 3 WHERE position = 2"), run(9)),
}  # fmt: skip


def findings(path: Path) -> dict[str, Finding]:
    with CareReader(path) as reader:
        return {each.check: each for each in reader.findings()}


def test_a_whole_journal_passes_all_of_them(tmp_path: Path) -> None:
    with filled(tmp_path) as made:
        whole(made)
        found = findings(made.path)
    assert [each for each in found.values() if each.number] == []
    assert list(found) == list(RULES)


def test_there_is_a_way_to_break_each() -> None:
    assert {*BROKEN, "database"} == set(RULES)
    assert len(RULES) == len(CHECKS) + 3


@pytest.mark.parametrize("name", list(BROKEN))
def test_what_breaks_a_rule_is_found(tmp_path: Path, name: str) -> None:
    broken, sample = BROKEN[name]
    with filled(tmp_path) as made:
        whole(made)
        broken(made)
        found = findings(made.path)[name]
    assert found.number == len(found.samples)
    assert (found.samples[0], found.rule) == (sample, RULES[name])


def test_a_damaged_page_is_found_and_the_other_checks_go_on(tmp_path: Path) -> None:
    with filled(tmp_path) as made:
        whole(made)
        for key in range(100, 200):
            made.event(key, data='"' + "x" * 3_000 + '"')
        made.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path = made.path
    content = bytearray(path.read_bytes())
    middle = content.rindex(b"x" * 2_000) // 4096 * 4096
    content[middle : middle + 8] = b"\xff" * 8
    path.write_bytes(content)
    found = findings(path)
    assert found["database"].number > 0
    assert list(found) == list(RULES)


def test_a_missing_table_is_found(tmp_path: Path) -> None:
    with filled(tmp_path) as made:
        made.execute("DROP TABLE wait")
        found = findings(made.path)
    assert found["schema"].samples[0] == "index wait_event"
    assert found["final-waits"].samples == ("no such table: wait",)


def test_a_writer_is_not_held_up(tmp_path: Path) -> None:
    with filled(tmp_path) as made:
        whole(made)
        with CareReader(made.path) as reader:
            for number, _ in enumerate(reader.findings()):
                # Between any two checks, and with no patience.
                writer = apsw.Connection(str(made.path))
                writer.execute("INSERT INTO pause VALUES (?, 1)", (f"f{number}",))
                writer.close()
