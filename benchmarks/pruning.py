"""W13: an engine removes what is old while events go on coming: how long its ticks take, and how late runs are.

The engine is in this process, so that its ticks can be timed; a thread sends. The past is made by SQL, without an
engine: what an engine leaves of W1, 40 days ago.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import apsw

import fanout
from benchmarks import engine
from benchmarks.engine import Project
from benchmarks.fan_out import FUNCTIONS, PLAIN
from benchmarks.measure import BenchmarkError, Deadline, figure, percentile
from benchmarks.project.fan_out_plain import PAYLOAD_BYTES
from benchmarks.sending import EVENT
from benchmarks.settings import Options, Result, settings_of
from fanout import config
from fanout.engine.local import LocalEngine
from fanout.journal.sqlite import SqliteJournal

MAX_TICK_MS = 50
_RUNS = 100_000
_EVENTS_PER_S = 50
_BEFORE_S = 0.9
"""So long after its start an engine has not begun to prune."""
_AGE_MS = 40 * 24 * 3600 * 1000
_LOOK_EVERY_S = 0.25
_ID = "'01J' || substr('00000000000000000000000' || {key}, -23)"


@dataclass
class Ticks:
    """How long ticks took without their waiting, in milliseconds."""

    took_ms: list[float] = field(default_factory=list)
    longest_ms: float = 0.0


def run(options: Options) -> Result:
    """One round: more would be the same again. `quiet` is before the engine has begun to prune.

    Raises:
        BenchmarkError: a tick took longer than it may, or something is left.
    """
    deadline = Deadline.after(options.timeout_s)
    events = -(-options.scaled(_RUNS) // FUNCTIONS)
    with engine.project(PLAIN, options.processes) as place:
        journal = config.load(place.config).journal
        began = time.monotonic()
        _make(journal, events)
        prepare_s = time.monotonic() - began
        journal_bytes = journal.stat().st_size
        quiet, pruning, wall_s = _prune(place, journal, events, deadline)
        late_ms = _late_ms(journal, events)
        with fanout.connect(place.config) as client:
            settings = settings_of(
                place,
                client,
                old_runs=events * FUNCTIONS,
                events_per_s=_EVENTS_PER_S,
                payload_bytes=PAYLOAD_BYTES,
            )
    figures = {
        "tick_p50_ms": figure(percentile(pruning.took_ms, 50)),
        "tick_p99_ms": figure(percentile(pruning.took_ms, 99)),
        "tick_max_ms": figure(max(pruning.took_ms)),
        "quiet_tick_p99_ms": figure(percentile(quiet.took_ms, 99)),
        "late_p50_ms": figure(percentile(late_ms, 50)),
        "late_p99_ms": figure(percentile(late_ms, 99)),
        "late_max_ms": figure(max(late_ms)),
        "runs_per_s": figure(events * FUNCTIONS / wall_s),
        "wall_s": figure(wall_s),
        "prepare_s": figure(prepare_s),
        "journal_mb": figure(journal_bytes / 2**20),
    }
    if figures["tick_max_ms"].highest >= MAX_TICK_MS and options.scale >= 1:
        raise BenchmarkError(f"a tick took {figures['tick_max_ms'].highest:.0f} ms, it has to be below {MAX_TICK_MS}")
    return Result(figures, settings)


def _prune(place: Project, journal: Path, events: int, deadline: Deadline) -> tuple[Ticks, Ticks, float]:
    """The ticks before the engine prunes and while it does, and how many seconds that took."""
    quiet, pruning = Ticks(), Ticks()
    stop = threading.Event()
    with LocalEngine(config.load(place.config)) as own:
        running = own.open(is_development=False)
        own.load()
        began = time.monotonic()
        sender = threading.Thread(target=_trickle, args=(place.config, stop))
        sender.start()
        waited_ms = _timed_waits(own)
        ended = 0.0
        try:
            with closing(apsw.Connection(str(journal), flags=apsw.SQLITE_OPEN_READONLY)) as reader:
                next_look = 0.0
                while not ended:
                    deadline.remaining_s()
                    at = time.perf_counter()
                    waited_ms[0] = 0.0
                    running.tick()
                    took_ms = (time.perf_counter() - at) * 1000 - waited_ms[0]
                    (quiet if time.monotonic() < began + _BEFORE_S else pruning).took_ms.append(took_ms)
                    if time.monotonic() > next_look:
                        next_look = time.monotonic() + _LOOK_EVERY_S
                        if not _is_old_left(reader, events):
                            ended = time.monotonic()
        finally:
            stop.set()
            sender.join()
        own.run(own.has_nothing_soon, timeout_s=deadline.remaining_s())
    return quiet, pruning, ended - began - _BEFORE_S


def _timed_waits(own: LocalEngine) -> list[float]:
    """Milliseconds that its last tick has waited for something to do."""
    waited_ms = [0.0]
    wait: Callable[[float], object] = own.pool.wait

    def timed(seconds: float) -> object:
        at = time.perf_counter()
        arrivals = wait(seconds)
        waited_ms[0] += (time.perf_counter() - at) * 1000
        return arrivals

    own.pool.wait = timed  # type: ignore[method-assign, assignment]
    return waited_ms


def _trickle(path: Path, stop: threading.Event) -> None:
    with fanout.connect(path) as client:
        while not stop.wait(1 / _EVENTS_PER_S):
            client.send({"name": EVENT, "data": {}})


def _is_old_left(reader: apsw.Connection, events: int) -> bool:
    return bool(
        reader.execute("SELECT EXISTS (SELECT 1 FROM run WHERE key <= ?)", (events * FUNCTIONS,)).fetchall()[0][0]
        or reader.execute("SELECT EXISTS (SELECT 1 FROM event WHERE key BETWEEN 1 AND ?)", (events,)).fetchall()[0][0]
    )


def _late_ms(journal: Path, events: int) -> list[float]:
    """From an event's being stored to the end of each of its runs, of those that came meanwhile."""
    with closing(apsw.Connection(str(journal), flags=apsw.SQLITE_OPEN_READONLY)) as reader:
        rows = reader.execute(
            """SELECT run.ended_at - event.received_at FROM run JOIN event ON event.key = run.event
               WHERE event.key > ? AND run.state = 'completed'""",
            (events,),
        ).fetchall()
    return [float(str(late)) for (late,) in rows]


def _make(journal: Path, events: int) -> None:
    """So many events with their runs, each with its steps, all long over."""
    SqliteJournal(journal).close()
    at = time.time_ns() // 1_000_000 - _AGE_MS
    page = '"' + "x" * (PAYLOAD_BYTES - 2) + '"'
    with closing(apsw.Connection(str(journal))) as connection:
        connection.execute("PRAGMA synchronous = off")
        connection.execute("BEGIN")
        connection.execute("CREATE TEMP TABLE number (n INTEGER PRIMARY KEY)")
        connection.execute(
            """INSERT INTO number WITH RECURSIVE up (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < ?)
               SELECT n FROM up""",
            (events * FUNCTIONS,),
        )
        connection.execute(
            f"""INSERT INTO event (key, id, is_id_given, name, ts, data, received_at)
                SELECT n, {_ID.format(key="n")}, 0, ?, ?, '{{}}', ? FROM number WHERE n <= ?""",
            (EVENT, at, at, events),
        )
        connection.execute(
            f"""INSERT INTO run (key, id, function, event, event_name, rank, state, max_attempts, queued_at, started_at,
                  ended_at)
                SELECT n, {_ID.format(key="n")}, CASE n % 3 WHEN 0 THEN 'first' WHEN 1 THEN 'second' ELSE 'third' END,
                  (n + 2) / 3, ?1, ?2, 'completed', 5, ?2, ?2, ?2 FROM number""",
            (EVENT, at),
        )
        connection.execute(
            """INSERT INTO step (run, key, kind, branch, state, position, attempts, output, started_at, ended_at)
               SELECT n, step.key, 'run', '', 'completed', step.position, 1, ?1, ?2, ?2
               FROM number CROSS JOIN (SELECT 'one' AS key, 1 AS position UNION ALL SELECT 'two', 2) step""",
            (page, at),
        )
        connection.execute("UPDATE meta SET value = ? WHERE name = 'routed_to'", (events,))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    # Or the engine's first checkpoint would have to wait for all of it to be on the disk.
    os.sync()
