"""What keeps a run waiting and whom it has to do with, read from the SQLite journal."""

from __future__ import annotations

from fanout.journal.awaited import Awaited, AwaitedEvent, Children, Relatives
from fanout.journal.sqlite_rows import Query
from fanout.model import RunState, StepKind

_WAITS = "SELECT event, path, value, condition, expires_at FROM wait WHERE run = ? AND step = ? ORDER BY number"


def awaited(query: Query, run: int) -> list[Awaited]:
    """What the waiting steps of this run wait for, in the order in which they were reached."""
    steps = query("SELECT key, kind, due_at FROM step WHERE run = ? AND state = 'waiting' ORDER BY position", (run,))
    found = []
    for key, kind, due_at in steps:
        events = query(_WAITS, (run, key))
        of_map = query("SELECT is_exhausted FROM map WHERE run = ? AND step = ?", (run, key))
        found.append(
            Awaited(
                step=key,
                kind=StepKind(kind),
                due_at=due_at,
                event=AwaitedEvent(*events[0]) if events else None,
                children=next(iter(children(query, run, key)), None),
                has_more=bool(of_map) and not of_map[0][0],
            )
        )
    return found


def cancelling_events(query: Query, run: int) -> list[AwaitedEvent]:
    """The events that would cancel this run."""
    return [AwaitedEvent(*row) for row in query(_WAITS, (run, ""))]


def children(query: Query, run: int, step: str | None = None) -> list[Children]:
    """The runs that a run's steps have invoked, or that one step of it has."""
    rows = query(
        """SELECT parent_step, function, state, count(*), min(key) FROM run
           WHERE parent = ?1 AND (?2 IS NULL OR parent_step = ?2)
           GROUP BY parent_step, function, state ORDER BY min(key)""",
        (run, step),
    )
    first: dict[tuple[str, str], int] = {}
    counts: dict[tuple[str, str], dict[RunState, int]] = {}
    for parent_step, function, state, number, key in rows:
        first.setdefault((parent_step, function), key)
        counts.setdefault((parent_step, function), {})[RunState(state)] = number
    return [
        Children(*group, query("SELECT id FROM run WHERE key = ?", (key,))[0][0], counts[group])
        for group, key in first.items()
    ]


def cancelled_children(query: Query, run: int, since: int) -> int:
    """How many runs that this one has invoked, at any depth, were cancelled since then."""
    return int(
        query(
            """WITH RECURSIVE below (key, state, ended_at) AS (
                 SELECT key, state, ended_at FROM run WHERE parent = ?1
                 UNION ALL
                 SELECT run.key, run.state, run.ended_at FROM below JOIN run ON run.parent = below.key)
               SELECT count(*) FROM below WHERE state = 'cancelled' AND ended_at >= ?2""",
            (run, since),
        )[0][0]
    )


def relatives(query: Query, run: int) -> Relatives:
    sent_by, parent_step, item, item_key = query(
        """SELECT sender.id, run.parent_step, run.item, run.item_key FROM run JOIN event ON event.key = run.event
           LEFT JOIN run sender ON sender.key = event.origin AND run.parent IS NULL WHERE run.key = ?""",
        (run,),
    )[0]
    # The bare `id` comes from the row with the smallest key: so SQLite defines it for min().
    sent = query(
        """SELECT name, count(*), id, min(abs(key)) FROM event
           WHERE origin = ? AND NOT EXISTS (SELECT 1 FROM run WHERE run.event = event.key AND run.parent IS NOT NULL)
           GROUP BY name ORDER BY min(abs(key))""",
        (run,),
    )
    replays = query("SELECT id, state FROM run WHERE replay_of = ? ORDER BY key", (run,))
    return Relatives(
        sent_by=sent_by,
        parent_step=parent_step,
        item=item,
        item_key=item_key,
        children=tuple(children(query, run)),
        sent=tuple((name, number, id_) for name, number, id_, _ in sent),
        replays=tuple((id_, RunState(state)) for id_, state in replays),
    )
