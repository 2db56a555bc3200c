"""What must be true of a journal, whatever died when: each rule as a statement that finds what breaks it.

Each statement sees one moment of the journal, its own, and is in nobody's way. Only while it runs, the write-ahead log
can't be begun anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import apsw

from fanout.journal.care import Finding
from fanout.journal.sqlite_file import MIGRATIONS
from fanout.journal.sqlite_rows import Query

_SAMPLES = 3
_IS_FINAL = "run.state IN ('completed', 'failed', 'cancelled', 'skipped')"


class Check(NamedTuple):
    """`rule` is a sentence about what is as it should be; `broken` selects in words what is not."""

    name: str
    rule: str
    broken: str


def _runs(where: str, source: str = "run") -> str:
    return f"SELECT 'run ' || run.id FROM {source} WHERE {where}"


def _steps(where: str, source: str = "step JOIN run ON run.key = step.run") -> str:
    return f"SELECT 'step ' || step.key || ' of run ' || run.id FROM {source} WHERE {where}"


CHECKS = (
    Check("run-event", "Every run has the event that it is for.",
          _runs("NOT EXISTS (SELECT 1 FROM event WHERE event.key = run.event)")),
    Check("fan-out", "A function has one run for an event, replays aside.",
          """SELECT 'event ' || coalesce(event.id, run.event) || ' and function ' || run.function
             FROM run LEFT JOIN event ON event.key = run.event
             WHERE run.replay_of IS NULL GROUP BY run.event, run.function HAVING count(*) > 1"""),
    Check("routed-to", "The mark of routing is not beyond the last event.",
          """SELECT 'routed to ' || value || ' of ' || last FROM meta,
               (SELECT coalesce(max(seq), 0) AS last FROM sqlite_sequence WHERE name = 'event')
             WHERE meta.name = 'routed_to' AND (typeof(value) <> 'integer' OR value > last)
             UNION ALL SELECT 'there is no mark' WHERE NOT EXISTS (SELECT 1 FROM meta WHERE name = 'routed_to')"""),
    Check("routed-runs", "No run is for an event that has not been routed yet.",
          _runs("run.event > (SELECT value FROM meta WHERE name = 'routed_to')")),
    Check("event-keys", "No event is numbered beyond the last number given; only the engine's own are below 0.",
          """SELECT 'event ' || id FROM event
             WHERE key > (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'event')
                OR (key < 0) <> (name GLOB 'fanout/*')"""),
    Check("ended-at", "Runs that are over have the time of their end, and live ones have none.",
          _runs(f"({_IS_FINAL}) <> (run.ended_at IS NOT NULL)")),
    Check("final-times", "Runs that are over are due at no time and held for nothing.",
          _runs(f"{_IS_FINAL} AND (run.due_at IS NOT NULL OR run.deadline_at IS NOT NULL OR run.hold IS NOT NULL)")),
    Check("final-waits", "Runs that are over wait for no event.",
          f"""SELECT 'run ' || run.id || ' for ' || wait.event
              FROM wait JOIN run ON run.key = wait.run WHERE {_IS_FINAL}"""),
    Check("final-steps", "Runs that are over have no step that waits or is to be tried again.",
          _steps(f"{_IS_FINAL} AND step.state IN ('waiting', 'retrying')")),
    Check("waiting-runs", "A waiting run has a time at which it goes on, or a step that waits.",
          _runs("""run.state = 'waiting' AND run.due_at IS NULL AND NOT EXISTS (
                     SELECT 1 FROM step WHERE step.run = run.key AND step.state IN ('waiting', 'retrying'))""")),
    Check("due-runs", "Only waiting runs have a time of their own at which they go on.",
          _runs("run.due_at IS NOT NULL AND run.state <> 'waiting'")),
    Check("holds", "Only waiting runs are held, and of a function one by each name.",
          _runs("""run.hold IS NOT NULL AND (run.state <> 'waiting' OR EXISTS (
                     SELECT 1 FROM run other WHERE other.function = run.function AND other.hold = run.hold
                       AND other.hold IS NOT NULL AND other.key <> run.key))""")),
    # Replays, and what the engine's own events start, were asked for by name: they are live beside it.
    Check("singletons", "Of a singleton one run is live, but for those that somebody asked for.",
          """SELECT function || ' on ' || singleton FROM run
             WHERE singleton IS NOT NULL AND ended_at IS NULL AND singleton <> 'cron'
               AND replay_of IS NULL AND event > 0
             GROUP BY function, singleton HAVING count(*) > 1"""),
    Check("step-outputs", "Completed steps have a result, and no others have.",
          _steps("(step.state = 'completed') <> (step.output IS NOT NULL)")),
    Check("step-times", "Steps that are over have the time of their end; only those that wait have a time to go on at.",
          _steps("""(step.state IN ('running', 'waiting')) <> (step.ended_at IS NULL)
                    OR (step.due_at IS NOT NULL AND step.state NOT IN ('waiting', 'retrying'))""")),
    Check("awaited-steps", "What waits for an event is a run, or a step of it that waits.",
          """SELECT 'step ' || wait.step || ' of run ' || coalesce(run.id, wait.run)
             FROM wait LEFT JOIN run ON run.key = wait.run
             WHERE run.key IS NULL OR (wait.step <> '' AND NOT EXISTS (
               SELECT 1 FROM step WHERE step.run = wait.run AND step.key = wait.step AND step.state = 'waiting'))"""),
    Check("maps", "A map that goes on belongs to a step that waits, and each step that waits for a map has one.",
          """SELECT 'step ' || map.step || ' of run ' || coalesce(run.id, map.run)
             FROM map LEFT JOIN run ON run.key = map.run
             WHERE NOT EXISTS (SELECT 1 FROM step WHERE step.run = map.run AND step.key = map.step
                                 AND step.kind = 'map' AND step.state = 'waiting')
             UNION ALL """
          + _steps("""step.kind = 'map' AND step.state = 'waiting'
                      AND NOT EXISTS (SELECT 1 FROM map WHERE map.run = step.run AND map.step = step.key)""")),
    Check("map-counts", "A map that goes on counts the runs of its items, and those of them that are over.",
          """SELECT 'step ' || map.step || ' of run ' || coalesce(run.id, map.run)
             FROM map LEFT JOIN run ON run.key = map.run
             WHERE (map.taken, map.ended) <> (
               SELECT count(*), count(item.ended_at) FROM run item
               WHERE item.parent = map.run AND item.parent_step = map.step)"""),
    Check("children", "The run and the step that have asked for a run are there, and older than it.",
          _runs("""run.parent IS NOT NULL AND (run.parent >= run.key OR NOT EXISTS (
                     SELECT 1 FROM step WHERE step.run = run.parent AND step.key = run.parent_step))""")),
    Check("replays", "The run that a replay comes from is there, and older than it.",
          _runs("""run.replay_of IS NOT NULL AND (run.replay_of >= run.key OR NOT EXISTS (
                     SELECT 1 FROM run original WHERE original.key = run.replay_of))""")),
    Check("ticks", "A tick has a run of its function, and no two have the same.",
          """SELECT 'tick of ' || tick.function || ' at ' || tick.scheduled_at
             FROM tick LEFT JOIN run ON run.key = tick.run
             WHERE run.key IS NULL OR run.function <> tick.function OR EXISTS (
               SELECT 1 FROM tick other WHERE other.run = tick.run AND other.scheduled_at <> tick.scheduled_at)"""),
    Check("batches", "The events of a run that has several are numbered without a gap.",
          """SELECT 'run ' || coalesce(run.id, run_event.run) FROM run_event LEFT JOIN run ON run.key = run_event.run
             GROUP BY run_event.run HAVING count(*) <> max(run_event.position) OR min(run_event.position) <> 1"""),
)  # fmt: skip
_FILE = "database"
_REFERENCES = "references"
_SCHEMA = "schema"
RULES = {
    _FILE: "The file is a whole SQLite database.",
    _SCHEMA: "All tables and indices are there, those that this version of fanout makes.",
    _REFERENCES: "What a row refers to is there.",
    **{check.name: check.rule for check in CHECKS},
}


def findings(query: Query) -> Iterator[Finding]:
    """What each check has found, in order."""
    yield _finding(query, _FILE, "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'")
    missing = tuple(_missing(query))
    yield Finding(_SCHEMA, RULES[_SCHEMA], len(missing), missing[:_SAMPLES])
    yield _finding(
        query,
        _REFERENCES,
        """SELECT "table" || coalesce(' ' || rowid, '') || ' to ' || parent FROM pragma_foreign_key_check""",
    )
    for check in CHECKS:
        yield _finding(query, check.name, check.broken)


def _finding(query: Query, name: str, broken: str) -> Finding:
    try:
        # An empty part in front names the column.
        found = f"SELECT NULL AS what WHERE 0 UNION ALL {broken}"
        rows = query(f"SELECT what, count(*) OVER () FROM (SELECT * FROM ({found})) LIMIT {_SAMPLES}", ())
    except (apsw.CorruptError, apsw.SQLError) as error:
        # A damaged page, or a table that is not there.
        return Finding(name, RULES[name], 1, (str(error),))
    return Finding(name, RULES[name], rows[0][1] if rows else 0, tuple(str(what) for what, _ in rows))


def _missing(query: Query) -> Iterator[str]:
    fresh = apsw.Connection(":memory:")
    for script in MIGRATIONS:
        fresh.execute(script).fetchall()
    sql = "SELECT type || ' ' || name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%' ORDER BY 1"
    there = {name for (name,) in query(sql, ())}
    for (name,) in fresh.execute(sql):
        if name not in there:
            yield str(name)
    fresh.close()
