"""Reading the journal for people: read-only, one statement at a time, never in the way of the engine."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fanout.errors import NotFoundError, UsageError
from fanout.journal import sqlite_ids
from fanout.journal.filters import EVERY_RUN, RunFilter
from fanout.journal.sqlite_connection import damaged
from fanout.journal.sqlite_read_only import ReadOnlyJournal
from fanout.journal.sqlite_rows import made_run, select_runs, with_steps
from fanout.model import FailedAttempt, Failure, Run, RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fanout.core.graph import Seen
    from fanout.core.replays import RecordedSteps
    from fanout.events import NewEvent
    from fanout.journal import (
        redacted,
        sqlite_awaited,
        sqlite_family,
        sqlite_filters,
        sqlite_functions,
        sqlite_heard,
        sqlite_links,
        sqlite_metrics,
        sqlite_received,
        sqlite_statistics,
        sqlite_traced,
    )
    from fanout.journal.appender import AcceptedEvent
    from fanout.journal.awaited import Awaited, AwaitedEvent, Relatives
    from fanout.journal.family import Family, LeftOver, Progress, Watched
    from fanout.journal.functions import Collected, CronTick, Executing, KnownFunction, Queued, RunCounts
    from fanout.journal.heard import Heard, Hearer
    from fanout.journal.metrics import Metrics
    from fanout.journal.received import EventFilter, FullEvent, ListedEvent
    from fanout.journal.statistics import Activity, FunctionFigures, Statistics
    from fanout.journal.traced import TracedRun
else:

    class _Lazily:
        """A part of the reader that is imported when it is first asked: most commands need one or two of them."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> Any:
            return getattr(import_module(f"fanout.journal.{self._name}"), name)

    redacted, sqlite_awaited, sqlite_family, sqlite_filters, sqlite_functions = map(
        _Lazily, ("redacted", "sqlite_awaited", "sqlite_family", "sqlite_filters", "sqlite_functions")
    )
    sqlite_heard, sqlite_links, sqlite_metrics, sqlite_received = map(
        _Lazily, ("sqlite_heard", "sqlite_links", "sqlite_metrics", "sqlite_received")
    )
    sqlite_statistics, sqlite_traced = map(_Lazily, ("sqlite_statistics", "sqlite_traced"))

_Found = TypeVar("_Found")

_MOST_LEVELS_ABOVE = 12


class JournalReader(ReadOnlyJournal):
    """A journal open for reading; use it in a `with`."""

    def _shown(self, found: _Found) -> _Found:
        return redacted.shown(self.redact, found) if self.redact else found

    def hides(self, expression: str) -> bool:
        """Whether what this path or expression comes to is not to be told."""
        return bool(self.redact) and redacted.is_hidden(self.redact, expression)

    # What a command waits for, and who caused what.

    def progress(self, watched: Watched) -> Progress:
        """How far they are: as much as it takes to know whether all is over."""
        return sqlite_family.progress(self._all, watched)

    def following(self, watched: Watched) -> Callable[[], Progress]:
        """As `progress`, for whoever looks again and again: what is over is not counted every time."""
        return sqlite_family.Following(self._all, watched).look

    def counts(self, watched: Watched) -> dict[RunState, int]:
        """How many runs are in each state, all that they cause included."""
        return sqlite_family.counts(self._all, watched)

    def watched_runs(self, watched: Watched, *, outputs: bool = True) -> list[Run]:
        """All runs that are waited for, with their steps, in the order in which they were made.

        Outputs may be large: without them, what people are shown costs the same for any.
        """
        return self._shown(sqlite_family.runs(self._all, watched, outputs=outputs))

    def family(self, watched: Watched, *, limit: int) -> Family:
        """Who caused whom, of so many members at most."""
        return self._shown(sqlite_family.family(self._all, watched, limit))

    def trace(self, event: int, run: int | None, *, limit: int) -> tuple[Family, int]:
        """The whole family of an event or run, and how many levels above its first event had to be left out."""
        family, above = sqlite_family.trace(self._all, event, run, levels=_MOST_LEVELS_ABOVE, limit=limit)
        return self._shown(family), above

    def waiting(self, watched: Watched, *, limit: int) -> tuple[int, list[Run]]:
        """How many of the runs wait for something other than each other; the first to go on, with their steps."""
        number, keys = sqlite_family.waiting(self._all, watched, limit)
        found = self.runs_with_steps(keys)
        return number, [found[key] for key in keys]

    def goes_on_at(self, watched: Watched) -> int | None:
        """When the first of the runs that are live does something: 0 is now, None is not by itself."""
        return sqlite_family.goes_on_at(self._all, watched)

    def request_answer(self, request: int) -> tuple[bool, int | None]:
        """Whether the engine has handled it, and the key of the run that it has made for it."""
        (handled_at, run) = self._all("SELECT handled_at, run FROM request WHERE key = ?", (request,))[0]
        return handled_at is not None, run

    def left_over(self, until: int) -> LeftOver:
        """What an engine finds that begins now, of which nothing has been started or that is due by then."""
        return sqlite_family.left_over(self._all, until)

    # Whom events concern that they don't start.

    def hearers(self, events: Sequence[NewEvent]) -> set[Hearer]:
        """The waits that these events may end, if they are sent now."""
        return sqlite_heard.hearers(self._all, events)

    def heard(self, hearers: Iterable[Hearer], accepted: Sequence[AcceptedEvent]) -> list[Heard]:
        """What these events have woken or cancelled, of those that may have heard them."""
        return sqlite_heard.heard(self._all, hearers, accepted)

    def awaiting(self, name: str) -> int:
        """How many runs wait for an event of this name, or would be cancelled by one."""
        return sqlite_heard.awaiting(self._all, name)

    def awaited_names(self) -> list[str]:
        return list(sqlite_heard.awaited_names(self._all))

    # Runs.

    def runs(
        self,
        meant: RunFilter = EVERY_RUN,
        *,
        limit: int,
        outputs: bool = True,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Run]:
        """The newest so many of the runs that are meant, the newest first, without their steps.

        Of those before a key, if one is given; or the nearest so many after one.
        """
        keys = sqlite_filters.keys(self._all, meant, limit, before=before, after=after)
        return self.runs_by_key(keys, outputs=outputs)[::-1]

    def live_counts(self, most: int) -> dict[RunState, int]:
        """How many runs are in each of the states that are not final, up to `most` of each."""
        return sqlite_filters.live_counts(self._all, most)

    def runs_by_key(self, keys: Sequence[int], *, outputs: bool = False) -> list[Run]:
        """These runs in the order of their keys, without their steps."""
        sql = f"{select_runs(outputs=outputs)} WHERE run.key IN (SELECT value FROM json_each(?)) ORDER BY run.key"
        return self._shown([made_run(row) for row in self._all(sql, (msgspec.json.encode(keys).decode(),))])

    def live_keys(self, meant: RunFilter) -> list[int]:
        """Of the runs that are meant, in whatever state, those that have not ended."""
        return sqlite_filters.live_keys(self._all, meant)

    def states_since(self, after: int, known: Iterable[int], meant: RunFilter) -> dict[int, RunState]:
        """The states of these runs, and of those beyond that key that are meant, in whatever state, by key."""
        return sqlite_filters.states_since(self._all, after, known, meant)

    def data_version(self) -> int:
        """A number that changes when anybody has written to the journal; asking costs next to nothing."""
        return int(self._all("PRAGMA data_version")[0][0])

    def runs_with_steps(self, keys: Sequence[int], *, outputs: bool = False) -> dict[int, Run]:
        """These runs with their steps, by key."""
        rows = self._all(
            f"{select_runs(outputs=outputs)} WHERE run.key IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode(keys).decode(),),
        )
        return {row[0]: self._shown(with_steps(self._all, row, outputs=outputs)) for row in rows}

    def run(self, id_part: str) -> Run:
        """The run with this id, or the only one whose id begins or ends so, with steps; raises as `event_or_run`."""
        keys = sqlite_ids.runs_like(self._all, id_part)
        if not keys:
            raise NotFoundError(f"there is no run `{id_part}`", hint="`fanout runs` lists them")
        if len(keys) > 1:
            raise UsageError(f"several runs have ids that begin or end with `{id_part}`", hint="give more of it")
        found = self.runs_with_steps(keys, outputs=True)
        if keys[0] not in found:
            raise damaged(self.path, f"the run `{id_part}` is in an index, and not in its table")
        return found[keys[0]]

    def event_or_run(self, id_part: str) -> tuple[int, int | None]:
        """(event, run or None), as keys: of the run or the event with this id, or of the only one so far alike.

        Of several events with the same id, of which only one has started something: that one, or the newest.

        Raises:
            NotFoundError: there is none.
            UsageError: there are several.
        """
        runs, events = sqlite_ids.runs_like(self._all, id_part), sqlite_ids.events_like(self._all, id_part)
        if not runs and not events:
            raise NotFoundError(f"there is no event or run `{id_part}`", hint="`fanout runs` lists runs")
        if len(runs) + len(events) > 1:
            raise UsageError(
                f"several events or runs have ids that begin or end with `{id_part}`", hint="give more of it"
            )
        if events:
            return events[0], None
        return self._all("SELECT event FROM run WHERE key = ?", runs)[0][0], runs[0]

    def awaited(self, run: int) -> list[Awaited]:
        """What the waiting steps of this run wait for."""
        return self._shown(sqlite_awaited.awaited(self._all, run))

    def cancelling_events(self, run: int) -> list[AwaitedEvent]:
        return self._shown(sqlite_awaited.cancelling_events(self._all, run))

    def cancelled_children(self, run: int, since: int) -> int:
        """How many runs that this one has invoked, at any depth, were cancelled since then."""
        return sqlite_awaited.cancelled_children(self._all, run, since)

    def relatives(self, run: int) -> Relatives:
        """Whom the run comes from and what it has caused."""
        return self._shown(sqlite_awaited.relatives(self._all, run))

    def event_data(self, run: int) -> str:
        """The data of the run's event, as JSON text."""
        sql = "SELECT data FROM event JOIN run ON run.event = event.key WHERE run.key = ?"
        data: str = self._all(sql, (run,))[0][0]
        return redacted.json_text(self.redact, data) if self.redact else data

    def failures(self, run: int) -> list[FailedAttempt]:
        """The run's failed attempts, in order."""
        rows = self._all(
            "SELECT step, attempt, began_at, at, type, message, traceback FROM failure WHERE run = ? ORDER BY rowid",
            (run,),
        )
        found = [FailedAttempt(step, number, began, at, Failure(*rest)) for step, number, began, at, *rest in rows]
        return self._shown(found)

    def traced_runs(self, keys: Sequence[int]) -> list[TracedRun]:
        return sqlite_traced.traced(self._all, keys)

    def waiting_for_code(self, functions: Iterable[str]) -> dict[str, int]:
        """How many runs wait for each of these functions."""
        return {
            name: self._all("SELECT count(*) FROM run WHERE function = ? AND state = 'queued'", (name,))[0][0]
            for name in functions
        }

    def last_run_key(self) -> int:
        return self._all("SELECT max(key) FROM run")[0][0] or 0

    def to_replay(self, meant: RunFilter, *, again: bool, limit: int | None = None) -> list[int]:
        """Keys of ended runs, the oldest first; without those replayed already, unless `again`."""
        return sqlite_filters.keys_to_replay(self._all, meant, limit, again=again)

    def recorded_steps(self, keys: Sequence[int], from_step: str | None) -> list[RecordedSteps]:
        """What steps these runs have, by function, and which of them are before `from_step`."""
        return sqlite_filters.recorded_steps(self._all, keys, from_step)

    # Functions, their schedules and their queues: see sqlite_functions.py.

    def functions(self) -> list[KnownFunction]:
        """What the code has, or had, as an engine last saw it."""
        return sqlite_functions.functions(self._all)

    def function(self, id_: str) -> KnownFunction | None:
        return sqlite_functions.function(self._all, id_)

    def has_held_up(self) -> bool:
        return sqlite_functions.has_held_up(self._all)

    def run_counts(self, most: int) -> RunCounts:
        return sqlite_functions.run_counts(self._all, most)

    def ticks(self, function: str, until: int, limit: int) -> list[CronTick]:
        return sqlite_functions.ticks(self._all, function, until, limit)

    def tick_at(self, function: str, scheduled_at: int) -> CronTick | None:
        return sqlite_functions.tick_at(self._all, function, scheduled_at)

    def last_event_key(self) -> int:
        return sqlite_functions.last_event_key(self._all)

    def ticks_since(self, event_key: int) -> tuple[int, list[CronTick]]:
        return sqlite_functions.ticks_since(self._all, event_key)

    def queued(self, run: int) -> Queued:
        return sqlite_functions.queued(self._all, run)

    def executing(self) -> list[Executing]:
        return sqlite_functions.executing(self._all)

    def going(self, function: str, singleton: str) -> list[str]:
        return sqlite_functions.going(self._all, function, singleton)

    def limit_value(self, function: str, kind: str, key: str) -> int | None:
        return sqlite_functions.limit_value(self._all, function, kind, key)

    def collected(self, run: int) -> Collected | None:
        return sqlite_functions.collected(self._all, run)

    # Events, and what all of it comes to.

    def events(self, wanted: EventFilter, limit: int) -> list[ListedEvent]:
        """The newest first."""
        return sqlite_received.events(self._all, wanted, limit)

    def events_by_key(self, keys: Sequence[int]) -> list[ListedEvent]:
        """These events, the newest first."""
        return sqlite_received.by_key(self._all, keys)

    def event(self, id_part: str) -> FullEvent:
        """The event with this id, or the only one whose id begins or ends so; with its runs.

        Raises:
            NotFoundError: there is none.
            UsageError: there are several.
        """
        keys = sqlite_ids.events_like(self._all, id_part)
        if not keys:
            raise NotFoundError(f"there is no event `{id_part}`", hint="`fanout events` lists them")
        if len(keys) > 1:
            raise UsageError(f"several events have ids that begin or end with `{id_part}`", hint="give more of it")
        return self._shown(sqlite_received.event(self._all, keys[0]))

    def statistics(self, since: int | None, until: int, function: str | None, *, most_slices: int) -> Statistics:
        """Of the runs that were queued since then, or of all; their time divided into so many slices at most."""
        found = sqlite_statistics.statistics(self._all, self._each, since, until, function, most_slices)
        return self._shown(found)

    def function_figures(self, most: int) -> tuple[FunctionFigures, ...]:
        """What the newest `most` runs come to, by function."""
        return sqlite_statistics.function_figures(self._all, self._each, most)

    def function_figures_since(self, since: int) -> tuple[FunctionFigures, ...]:
        return sqlite_statistics.function_figures_since(self._all, self._each, since)

    def activity(self, since: int, slice_ms: int, number: int) -> dict[str, Activity]:
        return sqlite_statistics.activity(self._all, since, slice_ms, number)

    def metrics(self, now: int, since: int) -> Metrics:
        """What it comes to now; what needs a stretch of time goes back to `since`."""
        return sqlite_metrics.metrics(self._all, now, since)

    def links(self) -> list[Seen]:
        """What runs have been seen to send, await and invoke."""
        return sqlite_links.links(self._all)
