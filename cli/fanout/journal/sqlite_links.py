"""What runs have been seen to do that leads on: events sent and awaited, functions invoked. From the SQLite journal."""

from __future__ import annotations

from collections import Counter

from fanout.core.graph import LinkKind, Seen
from fanout.journal.family import FUNCTION_INVOKED
from fanout.journal.sqlite_rows import Query
from fanout.model import RESERVED_PREFIX

MOST_EVENTS = 100_000
MOST_RUNS = 20_000
_SENT = """
  SELECT sender.function, event.name, count(*)
  FROM (SELECT key, name, origin FROM event WHERE key > 0 AND origin IS NOT NULL ORDER BY key DESC LIMIT ?) event
  CROSS JOIN run sender ON sender.key = event.origin GROUP BY 1, 2"""
_INVOKED = """
  SELECT parent.function, child.function, count(*)
  FROM (SELECT key, origin FROM event WHERE key < 0 AND name = ? AND origin IS NOT NULL ORDER BY key LIMIT ?) event
  CROSS JOIN run child ON child.event = event.key AND child.parent = event.origin
  CROSS JOIN run parent ON parent.key = event.origin GROUP BY 1, 2"""
_WAITING = """
  SELECT run.function, wait.event, count(*) FROM (SELECT run, event FROM wait WHERE step <> '' LIMIT ?) wait
  CROSS JOIN run ON run.key = wait.run GROUP BY 1, 2"""
# A wait that is over has the event that ended it as its step's output; null if none came in time.
_WOKEN = """
  SELECT run.function, json_extract(step.output, '$.name') AS name, count(*)
  FROM step CROSS JOIN run ON run.key = step.run
  WHERE step.run > (SELECT max(key) FROM run) - ? AND step.kind = 'wait' AND step.state = 'completed'
  GROUP BY 1, 2 HAVING name IS NOT NULL"""


def links(query: Query) -> list[Seen]:
    """Of the newest events and runs, bounded in number."""
    found: Counter[tuple[str, LinkKind, str]] = Counter()
    for function, name, number in query(_SENT, (MOST_EVENTS,)):
        found[function, LinkKind.SENDS, name] += number
    for parent, child, number in query(_INVOKED, (FUNCTION_INVOKED, MOST_EVENTS)):
        found[parent, LinkKind.INVOKES, child] += number
    for sql, most in ((_WAITING, MOST_EVENTS), (_WOKEN, MOST_RUNS)):
        for function, name, number in query(sql, (most,)):
            if not name.startswith(RESERVED_PREFIX):
                found[function, LinkKind.WAKES, name] += number
    return [Seen(*link, number) for link, number in sorted(found.items())]
