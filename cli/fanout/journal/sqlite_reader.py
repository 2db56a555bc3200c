"""Reading the journal for people: read-only, one statement at a time, never in the way of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import apsw
import msgspec

from fanout.errors import JournalError, NotFoundError, UsageError
from fanout.journal.sqlite import MIGRATIONS
from fanout.journal.sqlite_connection import check_version, open_connection, readable_errors
from fanout.model import Failure, Run, RunState, Step, StepState

_RUN = """
  SELECT run.key, run.id, run.function, event.id, event.name, run.state, run.reason, run.attempt, run.crashes,
         run.max_attempts, run.queued_at, run.due_at, run.started_at, run.ended_at, {output}, original.id,
         failure.type, failure.message, failure.traceback
  FROM run JOIN event ON event.key = run.event
  LEFT JOIN run original ON original.key = run.replay_of
  LEFT JOIN failure ON run.state IN ('failed', 'waiting') AND failure.rowid =
    (SELECT max(rowid) FROM failure WHERE failure.run = run.key AND (run.state = 'waiting' OR failure.step = ''))"""
_STEPS = """
  SELECT step.key, step.state, step.attempts, step.started_at, step.ended_at, {output},
         failure.type, failure.message, failure.traceback
  FROM step LEFT JOIN failure ON step.state IN ('failed', 'retrying') AND failure.rowid =
    (SELECT max(rowid) FROM failure WHERE failure.run = step.run AND failure.step = step.key)
  WHERE step.run = ? ORDER BY step.started_at, step.position"""


def _run(*, outputs: bool) -> str:
    return _RUN.format(output="run.output" if outputs else "NULL")


def _steps(*, outputs: bool) -> str:
    return _STEPS.format(output="step.output" if outputs else "NULL")


class Progress(NamedTuple):
    """How far the runs that are watched are."""

    counts: dict[RunState, int]
    is_routed: bool

    @property
    def live(self) -> int:
        return sum(count for state, count in self.counts.items() if not state.is_final)

    def is_over(self) -> bool:
        return self.is_routed and not self.live


class Watched(NamedTuple):
    """What a command waits for: the runs of these events (a range of keys), or of this request's replays."""

    first_event: int = 0
    last_event: int = -1
    request: int | None = None
    replayed: tuple[int, ...] = ()
    after_run: int = 0

    def where(self) -> tuple[str, tuple[Any, ...]]:
        if self.request is None:
            return "run.event BETWEEN ? AND ?", (self.first_event, self.last_event)
        # One binding, however many: SQLite takes 32,766 of them at most.
        replayed = msgspec.json.encode(self.replayed).decode()
        return "run.replay_of IN (SELECT value FROM json_each(?)) AND run.key > ?", (replayed, self.after_run)


class JournalReader:
    """A journal open for reading; use it in a `with`."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            NotFoundError: there is no journal yet.
            JournalError: it can't be read, or was written by a newer fanout.
        """
        if not path.exists():
            raise NotFoundError(f"there is no journal at `{path}` yet", hint="send an event first: `fanout send FILE`")
        self._path = path
        self._connection = open_connection(path, apsw.SQLITE_OPEN_READONLY)
        try:
            self._check_version()
        except BaseException:
            self._connection.close()
            raise

    def _check_version(self) -> None:
        version = self._all("PRAGMA user_version")[0][0]
        check_version(self._path, version, len(MIGRATIONS))
        if version < len(MIGRATIONS):
            raise JournalError(
                f"the journal `{self._path}` is from an older fanout", hint="any `fanout send` brings it up to date"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _all(self, sql: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with readable_errors(self._path):
            return self._connection.execute(sql, tuple(bindings)).fetchall()

    def progress(self, watched: Watched) -> Progress:
        where, bindings = watched.where()
        is_routed = (
            self._all("SELECT value >= ? FROM meta WHERE name = 'routed_to'", (watched.last_event,))
            if watched.request is None
            else self._all("SELECT handled_at IS NOT NULL FROM request WHERE key = ?", (watched.request,))
        )[0][0]
        rows = self._all(f"SELECT state, count(*) FROM run WHERE {where} GROUP BY state", bindings)
        return Progress({RunState(state): n for state, n in rows}, bool(is_routed))

    def watched_runs(self, watched: Watched, *, outputs: bool = True) -> list[Run]:
        """The runs that are waited for, with their steps, in the order in which they were made.

        Outputs may be large: without them, what people are shown costs the same for any.
        """
        where, bindings = watched.where()
        rows = self._all(f"{_run(outputs=outputs)} WHERE {where} ORDER BY run.key", bindings)
        return [self._made(row, _steps(outputs=outputs)) for row in rows]

    def runs(
        self, *, states: Iterable[RunState] = (), function: str | None = None, limit: int = -1, ids: Sequence[str] = ()
    ) -> list[Run]:
        """The newest runs first, without their steps."""
        conditions, bindings = ["1"], []
        if states := list(states):
            conditions.append(f"run.state IN ({', '.join('?' * len(states))})")
            bindings += [str(state) for state in states]
        if function is not None:
            conditions.append("run.function = ?")
            bindings.append(function)
        if ids:
            conditions.append(f"run.id IN ({', '.join('?' * len(ids))})")
            bindings += ids
        rows = self._all(
            f"{_run(outputs=True)} WHERE {' AND '.join(conditions)} ORDER BY run.key DESC LIMIT ?", (*bindings, limit)
        )
        return [self._made(row, None) for row in rows]

    def run(self, id_part: str) -> Run:
        """The run with this id, or the only one whose id begins or ends so; with its steps.

        Raises:
            NotFoundError: there is none.
            UsageError: there are several.
        """
        part = id_part.upper()
        select = _run(outputs=True)
        rows = self._all(f"{select} WHERE run.id >= ? AND run.id < ? LIMIT 2", (part, part + "~")) or self._all(
            f"{select} WHERE substr(run.id, -length(?)) = ? LIMIT 2", (part, part)
        )
        if not rows:
            raise NotFoundError(f"there is no run `{id_part}`", hint="`fanout runs` lists them")
        if len(rows) > 1:
            raise UsageError(f"several runs have ids that begin or end with `{id_part}`", hint="give more of it")
        return self._made(rows[0], _steps(outputs=True))

    def event_data(self, run: int) -> str:
        """The data of the run's event, as JSON text."""
        data: str = self._all("SELECT data FROM event JOIN run ON run.event = event.key WHERE run.key = ?", (run,))[0][
            0
        ]
        return data

    def replays(self, run: int) -> list[tuple[str, RunState]]:
        """The runs that replay this one."""
        rows = self._all("SELECT id, state FROM run WHERE replay_of = ? ORDER BY key", (run,))
        return [(run_id, RunState(state)) for run_id, state in rows]

    def failures(self, run: int) -> list[tuple[str, int, int, Failure]]:
        """(step, attempt, at, failure) in order; the step is empty for the code between steps."""
        rows = self._all(
            "SELECT step, attempt, at, type, message, traceback FROM failure WHERE run = ? ORDER BY rowid", (run,)
        )
        return [(step, attempt, at, Failure(*rest)) for step, attempt, at, *rest in rows]

    def waiting_for_code(self, functions: Iterable[str]) -> dict[str, int]:
        """How many runs wait for each of these functions."""
        return {
            name: self._all("SELECT count(*) FROM run WHERE function = ? AND state = 'queued'", (name,))[0][0]
            for name in functions
        }

    def last_run_key(self) -> int:
        return self._all("SELECT max(key) FROM run")[0][0] or 0

    def to_replay(self, states: Iterable[RunState], function: str | None, *, again: bool) -> list[int]:
        """Keys of ended runs in these states; without those replayed already, unless `again`."""
        names = [str(state) for state in states]
        rows = self._all(
            f"""SELECT key FROM run WHERE state IN ({", ".join("?" * len(names))}) AND (? IS NULL OR function = ?)
                AND (? OR NOT EXISTS (SELECT 1 FROM run replay WHERE replay.replay_of = run.key
                                      AND replay.state NOT IN ('cancelled', 'skipped')))
                ORDER BY key""",
            (*names, function, function, again),
        )
        return [key for (key,) in rows]

    def _made(self, row: tuple[Any, ...], steps: str | None) -> Run:
        (
            key, id_, function, event_id, event_name, state, reason, attempt, crashes, max_attempts, queued_at, due_at,
            started_at, ended_at, output, replay_of, error_type, message, traceback,
        ) = row  # fmt: skip
        return Run(
            key=key, id=id_, function=function, event_id=event_id, event_name=event_name, state=RunState(state),
            reason=reason, attempts=_attempts(state, reason, attempt, crashes, started_at), max_attempts=max_attempts,
            queued_at=queued_at,
            due_at=due_at, started_at=started_at, ended_at=ended_at, output=_raw(output), replay_of=replay_of,
            error=None if error_type is None else Failure(error_type, message, traceback),
            steps=tuple(_step(each, ended_at) for each in self._all(steps, (key,))) if steps else (),
        )  # fmt: skip


def _attempts(state: str, reason: str | None, attempt: int, crashes: int, started_at: int | None) -> int:
    """Executions so far, the present one included: failures and crashes that were charged, and one that was not."""
    charged = attempt + crashes
    if state == RunState.WAITING:
        return max(charged, 0 if started_at is None else 1)
    return charged if started_at is None or reason == "crashed" else charged + 1


def _step(row: tuple[Any, ...], run_ended_at: int | None) -> Step:
    name, state, attempts, started_at, ended_at, output, error_type, message, traceback = row
    if state == StepState.RUNNING and run_ended_at is not None:
        # Cut off: its worker died, or its run was cancelled. Nothing will ever report its end.
        state, attempts, ended_at = StepState.FAILED, attempts + 1, run_ended_at
    return Step(
        name=name,
        state=StepState(state),
        attempts=attempts,
        started_at=started_at,
        ended_at=ended_at,
        output=_raw(output),
        error=None if error_type is None else Failure(error_type, message, traceback),
    )


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())
