"""Places in the SQLite journal by time, without an index of times: keys grow as time goes on.

Where the clock was set back, what was written meanwhile may be left out or taken in; a statement that has to be exact
there compares the times as well.
"""

from __future__ import annotations

from fanout.journal.sqlite_rows import Query

_NEXT = {
    "run": "SELECT key, queued_at FROM run WHERE key >= ? ORDER BY key LIMIT 1",
    "event": "SELECT key, received_at FROM event WHERE key >= ? AND key > 0 ORDER BY key LIMIT 1",
    # The engine's own, whose keys grow downwards.
    "own event": "SELECT -key, received_at FROM event WHERE key <= -? AND key < 0 ORDER BY key DESC LIMIT 1",
    "failure": "SELECT rowid, at FROM failure WHERE rowid >= ? ORDER BY rowid LIMIT 1",
}
_LAST = {
    "run": "SELECT max(key) FROM run",
    "event": "SELECT max(key) FROM event",
    "own event": "SELECT -min(key) FROM event",
    "failure": "SELECT max(rowid) FROM failure",
}


def first_key(query: Query, table: str, since: int) -> int:
    """The key of the first row that is not from before `since`, or one beyond the last; of the engine's own events,
    the key without its sign. It is found in some twenty look-ups.
    """
    low, high = 1, max(query(_LAST[table], ())[0][0] or 0, 0) + 1
    while low < high:
        middle = (low + high) // 2
        rows = query(_NEXT[table], (middle,))
        if not rows or rows[0][1] >= since:
            high = middle
        else:
            low = rows[0][0] + 1
    return low
