"""Runs that a filter means, found in the SQLite journal without reading those that it does not.

The index `run_ended` has runs by function, event and state, in the order of their keys. There are few of these groups,
so each is asked for its newest runs; those that have not ended are looked through. When they were queued is found by
bisection, since keys only grow.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from fanout.core.replays import RecordedSteps
from fanout.journal.filters import RunFilter
from fanout.journal.sqlite_rows import Query
from fanout.model import RunState

_MOST_GROUPS = 2_000
"""Of more, one look at all of the index is faster: an event's name may well have an id in it."""
_ALL = 1 << 62
_NEXT_GROUP = tuple(
    f"""SELECT function, event_name, state FROM run INDEXED BY run_ended
        WHERE ended_at IS NOT NULL AND {beyond} ORDER BY function, event_name, state LIMIT 1"""
    for beyond in (
        "function = ?1 AND event_name = ?2 AND state > ?3",
        "function = ?1 AND event_name > ?2 AND ?3 IS NOT NULL",
        "function > ?1 AND ?2 IS NOT NULL AND ?3 IS NOT NULL",
    )
)
"""The next state, or else the next event, or else the next function: each is one look-up."""
_OF_GROUP = """
  SELECT key FROM run INDEXED BY run_ended
  WHERE ended_at IS NOT NULL AND function = ? AND event_name = ? AND state = ? AND key BETWEEN ? AND ?"""
_OF_LIVE = {
    RunState.QUEUED: "INDEXED BY run_queued WHERE state = 'queued'",
    RunState.RUNNING: "INDEXED BY run_running WHERE state = 'running'",
    RunState.WAITING: "INDEXED BY run_waiting WHERE state = 'waiting'",
}
_FAILED_WITH = """
  SELECT DISTINCT run FROM failure INDEXED BY failure_run
  WHERE (type || ': ' || message) LIKE ? ESCAPE '\\' AND run BETWEEN ? AND ?"""
_IS_REPLAYED = """
  EXISTS (SELECT 1 FROM run replay WHERE replay.replay_of = run.key AND replay.state NOT IN ('cancelled', 'skipped'))"""


class _Group(NamedTuple):
    function: str
    event: str
    state: str


class _Wanted(NamedTuple):
    """How many runs, from which end, and of which keys. `only` is a condition on each of them, as SQL."""

    limit: int
    is_oldest_first: bool
    first: int
    last: int
    only: str

    @property
    def tail(self) -> str:
        only = f" AND {self.only}" if self.only else ""
        return f"{only} ORDER BY key {'ASC' if self.is_oldest_first else 'DESC'} LIMIT {self.limit}"


def keys(
    query: Query, meant: RunFilter, limit: int, *, before: int | None = None, after: int | None = None
) -> list[int]:
    """The newest so many of the runs that are meant, the newest first; of those before a key, if one is given.

    With `after` it is the oldest so many of those behind that key, the oldest first.
    """
    first, last = _range(query, meant)
    first = first if after is None else max(first, after + 1)
    last = last if before is None else min(last, before - 1)
    return _keys(query, meant, _Wanted(limit, after is not None, first, last, only=""))


def live_counts(query: Query, most: int) -> dict[RunState, int]:
    """How many runs there are in each of the states that are not final, up to `most` of each."""
    return {
        state: query(f"SELECT count(*) FROM (SELECT 1 FROM run {source} LIMIT ?)", (most,))[0][0]
        for state, source in _OF_LIVE.items()
    }


def keys_to_replay(query: Query, meant: RunFilter, limit: int | None, *, again: bool) -> list[int]:
    """Those that have ended, the oldest first; without those replayed already, unless `again`."""
    only = "" if again else f"NOT {_IS_REPLAYED}"
    ended = frozenset(state for state in meant.states or RunState if state.is_final)
    if not ended:
        return []
    wanted = _Wanted(_ALL if limit is None else limit, True, *_range(query, meant), only=only)
    return _keys(query, meant._replace(states=ended), wanted)


def live_keys(query: Query, meant: RunFilter) -> list[int]:
    """Those that have not ended, whatever states are meant."""
    live = frozenset(state for state in RunState if not state.is_final)
    return _keys(query, meant._replace(states=live), _Wanted(_ALL, True, *_range(query, meant), only=""))


def states_since(query: Query, after: int, known: Iterable[int], meant: RunFilter) -> dict[int, RunState]:
    """The states of those that are known, and of newer ones than `after`, in whatever state they are."""
    conditions, bindings = _conditions(meant._replace(states=frozenset()))
    rows = query(f"SELECT key, state FROM run WHERE key > ? AND {conditions}", (after, *bindings))
    rows += query(
        "SELECT key, state FROM run WHERE key IN (SELECT value FROM json_each(?))",
        (msgspec.json.encode(list(known)).decode(),),
    )
    return {key: RunState(state) for key, state in sorted(rows)}


def recorded_steps(query: Query, keys: Sequence[int], from_step: str | None) -> list[RecordedSteps]:
    """By function and step: how many of these runs have it, and of how many a replay would keep it."""
    chosen = msgspec.json.encode(keys).decode()
    runs = query(
        """SELECT function, count(*) FROM json_each(?) chosen CROSS JOIN run ON run.key = chosen.value
           GROUP BY function ORDER BY count(*) DESC, function""",
        (chosen,),
    )
    steps = query(
        """SELECT function, step.key, count(*), sum(step.state = 'completed' AND (?2 IS NULL OR position <
             coalesce((SELECT position FROM step first WHERE first.run = run.key AND first.key = ?2), position + 1)))
           FROM json_each(?1) chosen CROSS JOIN run ON run.key = chosen.value CROSS JOIN step ON step.run = run.key
           GROUP BY function, step.key ORDER BY min(position), min(step.started_at)""",
        (chosen, from_step),
    )
    found = {function: RecordedSteps(function, number, {}, {}) for function, number in runs}
    for function, key, number, kept in steps:
        found[function].kept[key] = kept
        found[function].others[key] = number - kept
    return list(found.values())


def _keys(query: Query, meant: RunFilter, wanted: _Wanted) -> list[int]:
    if meant.keys is not None or meant.error is not None:
        return _of_few(query, meant, wanted)
    if not meant.states and meant.function is None and meant.event is None:
        sql = "SELECT key FROM run WHERE key BETWEEN ? AND ?"
        return [key for (key,) in query(sql + wanted.tail, (wanted.first, wanted.last))]
    found = itertools.chain(_of_ended(query, meant, wanted), _of_live(query, meant, wanted))
    if wanted.limit == _ALL:
        return sorted(found, reverse=not wanted.is_oldest_first)
    choose: Callable[[int, Iterator[int]], list[int]] = heapq.nsmallest if wanted.is_oldest_first else heapq.nlargest
    return choose(wanted.limit, found)


def _of_ended(query: Query, meant: RunFilter, wanted: _Wanted) -> Iterator[int]:
    if meant.states and not any(state.is_final for state in meant.states):
        return
    groups = _groups(query, meant)
    if groups is None:
        yield from _of_index(query, meant, wanted)
    for group in groups or ():
        yield from (key for (key,) in query(_OF_GROUP + wanted.tail, (*group, wanted.first, wanted.last)))


def _of_live(query: Query, meant: RunFilter, wanted: _Wanted) -> Iterator[int]:
    conditions, bindings = _conditions(meant._replace(states=frozenset()))
    for state, source in _OF_LIVE.items():
        if not meant.states or state in meant.states:
            sql = f"SELECT key FROM run {source} AND key BETWEEN ? AND ? AND {conditions}{wanted.tail}"
            yield from (key for (key,) in query(sql, (wanted.first, wanted.last, *bindings)))


def _groups(query: Query, meant: RunFilter) -> list[_Group] | None:
    """The groups of runs that are meant; None if there are too many groups to look at each."""
    found: list[_Group] = []
    here = _Group(_beginning(meant.function), "", "")
    for _ in range(_MOST_GROUPS):
        row = next((row for sql in _NEXT_GROUP for row in query(sql, here)), None)
        if row is None or not row[0].startswith(_beginning(meant.function)):
            return found
        here = _Group(*row)
        if meant.has_group(here.function, here.event, RunState(here.state)):
            found.append(here)
    return None


def _beginning(name: str | None) -> str:
    return "" if name is None else name.removesuffix("*")


def _of_index(query: Query, meant: RunFilter, wanted: _Wanted) -> list[int]:
    """One look at all of the index, which is all that it reads."""
    conditions, bindings = _conditions(meant)
    source = "run INDEXED BY run_ended WHERE ended_at IS NOT NULL"
    sql = f"SELECT key FROM {source} AND key BETWEEN ? AND ? AND {conditions}{wanted.tail}"
    return [key for (key,) in query(sql, (wanted.first, wanted.last, *bindings))]


def _of_few(query: Query, meant: RunFilter, wanted: _Wanted) -> list[int]:
    """Of those whose keys are known, or of which a failure says the right thing."""
    conditions, bindings = _conditions(meant)
    sources: list[tuple[str, tuple[Any, ...]]] = []
    if meant.keys is not None:
        sources.append(("SELECT value AS run FROM json_each(?)", (msgspec.json.encode(meant.keys).decode(),)))
    if meant.error is not None:
        text = meant.error.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        sources.append((_FAILED_WITH, (f"%{text}%", wanted.first, wanted.last)))
    found = " INTERSECT ".join(sql for sql, _ in sources)
    rows = query(
        f"""SELECT key FROM ({found}) found CROSS JOIN run ON run.key = found.run
            WHERE key BETWEEN ? AND ? AND {conditions}{wanted.tail}""",
        (*(each for _, given in sources for each in given), wanted.first, wanted.last, *bindings),
    )
    return [key for (key,) in rows]


def _conditions(meant: RunFilter) -> tuple[str, list[str]]:
    """What columns of a run have to be, as SQL."""
    conditions: list[str] = ["1"]
    bindings: list[str] = []
    if meant.states:
        conditions.append(f"state IN ({', '.join('?' * len(meant.states))})")
        bindings += sorted(meant.states)
    for column, name in (("function", meant.function), ("event_name", meant.event)):
        if name is not None:
            is_open = name.endswith("*")
            conditions.append(f"(substr({column}, 1, length(?)) = ?)" if is_open else f"({column} = ?)")
            bindings += [name[:-1], name[:-1]] if is_open else [name]
    return " AND ".join(conditions), bindings


def _range(query: Query, meant: RunFilter) -> tuple[int, int]:
    """The first and last key of runs that were queued in that time."""
    first = 0 if meant.since is None else _first_since(query, meant.since)
    return first, _ALL if meant.until is None else _first_since(query, meant.until) - 1


def _first_since(query: Query, moment: int) -> int:
    """The smallest key of a run that was queued then or later; beyond all keys if there is none."""
    low, high = 0, (query("SELECT max(key) FROM run", ())[0][0] or 0) + 1
    while low < high:
        middle = (low + high) // 2
        rows = query("SELECT key, queued_at FROM run WHERE key >= ? ORDER BY key LIMIT 1", (middle,))
        if rows and rows[0][1] < moment:
            low = rows[0][0] + 1
        else:
            high = middle
    return low
