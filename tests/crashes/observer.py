"""What has to be true when all is over. It knows the functions, what they did, who was answered, and the journal's tables.

It knows nothing of the engine, and does not ask it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from tests.crashes.effects import Effect, most_at_once, spans
from tests.crashes.senders import Answer
from tests.crashes.work import ITEMS

_DEATHS = 3
"""So often a worker has to die with a run alone in it before that run is given up."""

_EVENTS = "SELECT key, id, name, origin, data FROM event WHERE key > 0 ORDER BY key"
_RUNS = (
    "SELECT run.key, run.id, function, state, reason, parent, parent_step, item, event, output, data"
    " FROM run JOIN event ON event.key = run.event ORDER BY run.key"
)
_STEPS = "SELECT run.id, step.key, kind, step.state, step.ended_at FROM step JOIN run ON run.key = step.run"


class Run(NamedTuple):
    key: int
    id: str
    function: str
    state: str
    reason: str | None
    parent: int | None
    parent_step: str | None
    item: int | None
    event: int
    output: Any
    data: Any


class Event(NamedTuple):
    key: int
    id: str
    name: str
    origin: int | None
    data: Any


class Foretold(NamedTuple):
    """How runs of a function end, unless they are given up."""

    state: str
    outputs: Callable[[Any], Sequence[Any]]


def _one(value: Callable[[Any], Any]) -> Callable[[Any], Sequence[Any]]:
    return lambda data: [value(data)]


FORETOLD = {
    "app/go": {
        "plain": Foretold("completed", _one(lambda data: 3 * data["n"])),
        "tasks": Foretold("completed", _one(lambda data: 3 * data["n"])),
    },
    "app/fail": {
        "flaky": Foretold("completed", _one(lambda _: 2)),
        "broken": Foretold("failed", _one(lambda _: None)),
    },
    "app/nap": {"napper": Foretold("completed", _one(lambda _: 3))},
    "app/ask": {"asker": Foretold("completed", lambda data: ["nothing", str(data["n"])])},
    "app/please": {"answerer": Foretold("completed", _one(lambda data: data["n"]))},
    "app/answer": {},
    "app/tree": {
        "tree": Foretold("completed", _one(lambda data: [2 * data["n"], *range(0, 2 * ITEMS, 2), 2])),
    },
    "app/leaf": {"leaf": Foretold("completed", _one(lambda data: data["leaf"]))},
    "app/place": {
        "single": Foretold("completed", _one(lambda _: 1)),
        "pair": Foretold("completed", _one(lambda _: 2)),
    },
    "app/branch": {
        "gathered": Foretold("completed", _one(lambda _: [0, 1, 2])),
        "parallel": Foretold("completed", _one(lambda _: [0, 1, 2])),
    },
}
CHILD = Foretold("completed", _one(lambda data: 2 * data["n"]))
PLACES = {"single": 1, "pair": 2}
CHILDREN = {("invoke", None), *(("map", item) for item in range(ITEMS))}
RANKS = {"before": 0, "branch": 0, "one": 0, "two": 1, "twice": 1, "fail": 1, "three": 2, "after": 2}
"""Of a step, by the first word of its name: it may begin only when those with lower ones are recorded for good."""
SENT = {"asker": ("app/please", 1), "answerer": ("app/answer", 1), "tree": ("app/leaf", 2)}


def _rows(connection: apsw.Connection, query: str) -> list[tuple[Any, ...]]:
    return connection.execute(query).fetchall()


class Observer:
    """`complaints` says, one by one, what is not as it should be."""

    def __init__(self, journal: Path, effects: Sequence[Effect], killed: Collection[int]) -> None:
        self._effects = effects
        self._killed = killed
        connection = apsw.Connection(str(journal), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            self._events = [Event._make((*row, json.loads(data))) for *row, data in _rows(connection, _EVENTS)]
            self._runs = [
                Run._make((*row, json.loads(output or "null"), json.loads(data)))
                for *row, output, data in _rows(connection, _RUNS)
            ]
            self._steps = _rows(connection, _STEPS)
        finally:
            connection.close()
        self._by_id = {run.id: run for run in self._runs}

    @property
    def size(self) -> str:
        return f"{len(self._events):,} events, {len(self._runs):,} runs, {len(self._effects):,} effects"

    def complaints(self, answers: Sequence[Answer]) -> list[str]:
        looks = (self._accepted(answers), self._fan_out(), self._endings(), self._families(), self._sent())
        return [line for look in (*looks, self._executions(), self._places()) for line in look]

    def _accepted(self, answers: Sequence[Answer]) -> Iterator[str]:
        stored = {(each.data["n"], each.id) for each in self._events}
        for answer in answers:
            if answer not in stored:
                yield f"event {answer.number} was accepted as `{answer.id}`, and is not in the journal"
        sent = Counter(each.data["n"] for each in self._events if each.origin is None and "given" not in each.id)
        yield from (
            f"event {number} was sent once and stored {times} times" for number, times in sent.items() if times > 1
        )

    def _fan_out(self) -> Iterator[str]:
        """Each event has a run of each function that it starts; one that was sent again has none."""
        runs: dict[int, list[str]] = defaultdict(list)
        for run in self._runs:
            if run.parent is None:
                runs[run.event].append(run.function)
        seen: set[str] = set()
        for event in self._events:
            expected = [] if event.id in seen else sorted(FORETOLD[event.name])
            seen.add(event.id)
            if sorted(runs[event.key]) != expected:
                yield f"event `{event.id}` ({event.name}) has runs of {runs[event.key]}, not of {expected}"

    def _endings(self) -> Iterator[str]:
        names = {each.key: each.name for each in self._events}
        for run in self._runs:
            foretold = CHILD if run.parent is not None else FORETOLD[names[run.event]].get(run.function)
            if foretold is None:
                continue  # See above.
            if run.state == foretold.state and run.output in foretold.outputs(run.data):
                continue
            if run.state == "failed" and (self._has_often_died(run) or self._has_a_child_that_often_died(run)):
                continue
            yield f"run `{run.id}` of {run.function} is {run.state} ({run.reason}), with {run.output!r} of {run.data}"

    def _has_often_died(self, run: Run) -> bool:
        """Given up rightly: as many workers that it was in were killed."""
        pids = {each.pid for each in self._effects if each.run == run.id} & set(self._killed)
        return run.reason == "crashed" and len(pids) >= _DEATHS

    def _has_a_child_that_often_died(self, run: Run) -> bool:
        return any(self._has_often_died(each) for each in self._runs if each.parent == run.key)

    def _families(self) -> Iterator[str]:
        children: dict[int, list[tuple[str | None, int | None]]] = defaultdict(list)
        for run in self._runs:
            if run.parent is not None:
                children[run.parent].append((run.parent_step, run.item))
        for run in self._runs:
            found = children.pop(run.key, [])
            is_whole = run.function == "tree" and run.state == "completed"
            if len(found) != len(set(found)) or (is_whole and set(found) != CHILDREN) or not set(found) <= CHILDREN:
                yield f"run `{run.id}` of {run.function} ({run.state}) has the children {sorted(map(str, found))}"
        yield from (f"there is no run {key}, which has children" for key in children)

    def _sent(self) -> Iterator[str]:
        """What a step sends is there exactly once, if the step is."""
        sent = Counter((each.origin, each.name) for each in self._events if each.origin is not None)
        done = {run for run, _, kind, state, _ in self._steps if kind == "send" and state == "completed"}
        for run in self._runs:
            if run.function in SENT:
                name, times = SENT[run.function]
                found = sent.pop((run.key, name), 0)
                if found != (times if run.id in done else 0):
                    yield f"run `{run.id}` of {run.function} has sent {found} times {name}"
        yield from (f"run {origin} has sent {name}, {times} times" for (origin, name), times in sent.items())

    def _executions(self) -> Iterator[str]:
        """Who was recorded is never executed again, and was executed to its end."""
        began: dict[tuple[str, str], int] = {}
        ended: set[tuple[str, str]] = set()
        furthest: dict[str, int] = defaultdict(int)
        for each in self._effects:
            if each.what == "begin":
                began[each.run, each.step] = each.at_ns
                rank = RANKS.get(each.step.split()[0], 0)
                if rank < furthest[each.run]:
                    yield f"`{each.step}` of run `{each.run}` was executed after what may only follow it"
                furthest[each.run] = max(furthest[each.run], rank)
            elif each.what == "end":
                ended.add((each.run, each.step))
            if each.run not in self._by_id:
                yield f"{each.step!r} of run `{each.run}` was executed, which is not in the journal"
        for run, step, kind, state, ended_at in self._steps:
            if kind != "run" or state != "completed":
                continue
            if (run, step) not in ended:
                yield f"`{step}` of run `{run}` is completed, and was never executed to its end"
            if began.get((run, step), 0) // 1_000_000 > ended_at:
                yield f"`{step}` of run `{run}` was executed again after it was recorded"

    def _places(self) -> Iterator[str]:
        found = spans(self._effects)
        for function, limit in PLACES.items():
            keys = {run.id: run.data["key"] for run in self._runs if run.function == function}
            for key in sorted(set(keys.values())):
                most = most_at_once([span for span in found if keys.get(span.run) == key])
                if most > limit:
                    yield f"{most} runs of {function} were at work at once for `{key}`, with {limit} places"
