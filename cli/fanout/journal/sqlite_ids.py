"""Runs and events by a part of their ids, in the SQLite journal."""

from __future__ import annotations

from fanout.journal.sqlite_rows import Query

_LAST = "\U0010ffff"
"""Comes after any character: what begins with `x` is from `x` to `x` and this."""


def runs_like(query: Query, id_part: str) -> list[int]:
    """Keys of the runs whose ids begin so, or else end so; of two at most."""
    part = id_part.upper()
    rows = query("SELECT key FROM run WHERE id >= ? AND id < ? LIMIT 2", (part, part + _LAST)) or query(
        "SELECT key FROM run WHERE substr(id, -length(?1)) = ?1 LIMIT 2", (part,)
    )
    return [key for (key,) in rows]


def events_like(query: Query, id_part: str) -> list[int]:
    """The same for events. Their ids may be their senders' own, and then be there several times."""
    same = query(
        """SELECT key FROM event WHERE id = ?
           ORDER BY EXISTS (SELECT 1 FROM run WHERE run.event = event.key) DESC, key DESC LIMIT 1""",
        (id_part,),
    )
    parts = (id_part, id_part.upper())
    rows = (
        same
        or query(
            "SELECT max(key) FROM event WHERE (id >= ?1 AND id < ?2) OR (id >= ?3 AND id < ?4) GROUP BY id LIMIT 2",
            (parts[0], parts[0] + _LAST, parts[1], parts[1] + _LAST),
        )
        or query("SELECT max(key) FROM event WHERE substr(id, -length(?1)) IN (?1, ?2) GROUP BY id LIMIT 2", parts)
    )
    return [key for (key,) in rows]
