"""Which waits an event may end, and which it has ended, in the SQLite journal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from fanout.core.paths import value_at
from fanout.events import NewEvent
from fanout.journal.appender import AcceptedEvent
from fanout.journal.heard import MOST_HEARERS, Heard, Hearer, as_dict, places
from fanout.journal.rows import StoredEvent
from fanout.journal.sqlite_rows import Query
from fanout.model import RunState

# `asked` are [place in the request, value] as JSON; each is one look-up in wait_event, as in the engine.
_HEARERS = """
  SELECT asked.value ->> 0, wait.run, wait.step, wait.condition, wait.expires_at
  FROM json_each(?1) asked
  CROSS JOIN wait ON wait.event = ?2 AND wait.path = ?3 AND wait.value = asked.value ->> 1 LIMIT ?4"""
# `asked` are [run, step, id of the event]: what a step has got is that event, or it is another one's doing.
_WOKEN = """
  SELECT run.key, run.id, run.function, run.state, step.key, asked.value ->> 2
  FROM json_each(?) asked CROSS JOIN step ON step.run = asked.value ->> 0 AND step.key = asked.value ->> 1
  CROSS JOIN run ON run.key = step.run
  WHERE step.kind = 'wait' AND step.state = 'completed' AND step.output ->> '$.id' = asked.value ->> 2"""
_CANCELLED = """
  SELECT key, id, function, state, event FROM run
  WHERE key IN (SELECT value FROM json_each(?)) AND state = 'cancelled'"""
_EVENT = "SELECT key, id, is_id_given, name, ts, data, user, v, received_at FROM event WHERE key = ?"


def hearers(query: Query, events: Sequence[NewEvent]) -> set[Hearer]:
    """The waits that these events may end, if they are sent now."""
    found: set[Hearer] = set()
    for name, where in places(events).items():
        said: dict[int, dict[str, Any]] = {}
        for path in _paths(query, name):
            if path and not said:
                said = {place: as_dict(events[place]) for place in where}
            asked = [
                (place, value) for place in where if (value := value_at(said[place], path) if path else "") is not None
            ]
            room = MOST_HEARERS - len(found)
            found.update(Hearer(*row) for row in query(_HEARERS, (_json(asked), name, path, room)))
    return found


def _paths(query: Query, name: str) -> Iterator[str]:
    # A skip-scan: one look-up for each path, however many wait.
    path = query("SELECT min(path) FROM wait WHERE event = ?", (name,))[0][0]
    while path is not None:
        yield path
        path = query("SELECT min(path) FROM wait WHERE event = ? AND path > ?", (name, path))[0][0]


def heard(query: Query, hearers: Iterable[Hearer], accepted: Sequence[AcceptedEvent]) -> list[Heard]:
    """What these events have woken or cancelled, of those that may have heard them; in the order of the runs."""
    # By place, run and step: conditions may be missing, and can't be compared then.
    hearers = sorted(hearers, key=lambda each: each[:3])
    steps = [(each.run, each.step, accepted[each.event].id) for each in hearers if each.step]
    woken = (
        Heard(key, id_, function, RunState(state), step, event)
        for key, id_, function, state, step, event in query(_WOKEN, (_json(steps),))
    )
    return sorted({*woken, *_cancelled(query, [each for each in hearers if not each.step], accepted)})


def _cancelled(query: Query, hearers: Sequence[Hearer], accepted: Sequence[AcceptedEvent]) -> Iterator[Heard]:
    """A run that had such a wait and has been cancelled since: by the first event that it was about."""
    rows = query(_CANCELLED, (_json([each.run for each in hearers]),))
    ended = {key: (id_, function, RunState(state), event) for key, id_, function, state, event in rows}
    for hearer in hearers:
        if hearer.run not in ended:
            continue
        id_, function, state, started_by = ended[hearer.run]
        event = _event(query, accepted[hearer.event].key)
        in_time = hearer.expires_at is None or event.received_at <= hearer.expires_at
        if in_time and (hearer.condition is None or _holds(hearer.condition, _event(query, started_by), event)):
            del ended[hearer.run]
            yield Heard(hearer.run, id_, function, state, "", event.id)


def _event(query: Query, key: int) -> StoredEvent:
    return StoredEvent._make(query(_EVENT, (key,))[0])


def _holds(condition: str, started_by: StoredEvent, event: StoredEvent) -> bool:
    from fanout.core import expressions  # lazy: CEL is slow to import, and few functions use it

    expression = expressions.parse(condition, variables=expressions.IN_WAITS)
    return expression.is_true(**{"event": started_by.as_dict(), "async": event.as_dict()})


def awaiting(query: Query, name: str) -> int:
    """How many runs wait for an event of this name, or would be cancelled by one."""
    number: int = query("SELECT count(DISTINCT run) FROM wait WHERE event = ?", (name,))[0][0]
    return number


def awaited_names(query: Query) -> Iterator[str]:
    """The names of all events that runs wait for."""
    name = query("SELECT min(event) FROM wait", ())[0][0]
    while name is not None:
        yield name
        name = query("SELECT min(event) FROM wait WHERE event > ?", (name,))[0][0]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
