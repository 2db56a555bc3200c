"""What simulated functions do, and what is written down of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from typing import Any, NamedTuple

from fanout.events import NewEvent
from fanout.model import (
    NO_LIMITS,
    NO_RULES,
    Backoff,
    CancelRule,
    Catchup,
    CronTrigger,
    EventTrigger,
    FlowRules,
    FunctionSpec,
    Overlap,
    TimeLimits,
)

BEGINNING = 1_800_000_000_000
FOREVER = 10**9


# What functions do.


class Fail(NamedTuple):
    """The attempt raises."""

    is_retriable: bool = True
    retry_after_ms: int | None = None


class Hang(NamedTuple):
    """The attempt never ends by itself."""


OK = None
FAIL = Fail()
FATAL = Fail(is_retriable=False)
HANG = Hang()
Outcome = Fail | Hang | None


class Step(NamedTuple):
    """A step. `outcomes` has one for each attempt, the last of them for all others.

    The worker dies in it the first `deaths` times. `is_caught`: the function goes on when it has failed.
    `is_stubborn`: in a task it can't be cancelled, as in a thread.
    """

    name: str
    outcomes: tuple[Outcome, ...] = (OK,)
    takes_ms: int = 1
    deaths: int = 0
    is_caught: bool = False
    is_stubborn: bool = False


class Body(NamedTuple):
    """Code between steps, with an outcome for each of the run's attempts.

    `is_hidden`: a task waits for something of which nobody can know, no timer and no thread.
    """

    outcomes: tuple[Outcome, ...] = (OK,)
    takes_ms: int = 0
    deaths: int = 0
    is_hidden: bool = False


class Silent(NamedTuple):
    """Says nothing by itself: the test speaks for it."""


class Obey(NamedTuple):
    """Does what the data of its event say: takes so long, and fails. What a map's items are for."""


class Sleep(NamedTuple):
    ms: int
    name: str = "sleep"


class Await(NamedTuple):
    """`match`: a path at which the event has to equal the one that started the run."""

    event: str
    timeout_ms: int
    match: str | None = None
    if_: str | None = None
    name: str = "await"


class Send(NamedTuple):
    events: tuple[NewEvent, ...]
    name: str = "send"


class Invoke(NamedTuple):
    function: str
    data: str = "{}"
    timeout_ms: int | None = None
    is_caught: bool = False
    name: str = "invoke"


class Item(NamedTuple):
    """An item of a map, and what the function that gets it does."""

    number: int
    takes_ms: int = 0
    is_failing: bool = False

    def as_data(self) -> dict[str, Any]:
        return {"item": self.number, "takes_ms": self.takes_ms, "is_failing": self.is_failing}


class Map(NamedTuple):
    """`has_keys`: an item is known by its number, however many came before it. An item takes `item_ms` to make."""

    function: str
    items: tuple[Item, ...]
    max_in_flight: int = 1_000
    is_collecting: bool = False
    has_keys: bool = False
    is_caught: bool = False
    item_ms: int = 0
    name: str = "map"


class Parallel(NamedTuple):
    branches: tuple[Script, ...]


Waiting = Sleep | Await | Send | Invoke | Map
Part = Step | Body | Silent | Obey | Waiting | Parallel
Script = tuple[Part, ...]


def parallel(*branches: Part | Script) -> Parallel:
    """Branches of several parts are tuples; one part need not be."""
    return Parallel(tuple((each,) if isinstance(each, Part) else each for each in branches))


def items(*failing: int, of: int, takes_ms: int = 0) -> tuple[Item, ...]:
    """So many items, some of which fail."""
    return tuple(Item(number, takes_ms, number in failing) for number in range(of))


class Function(NamedTuple):
    spec: FunctionSpec
    script: Script

    def returns(self, data: str) -> str:
        """What it returns for an event with this data: JSON text."""
        item = json.loads(data).get("item")
        return json.dumps(f"{self.spec.id} is done" + ("" if item is None else f" with {item}"))


def function(
    id_: str,
    *script: Part,
    on: Collection[str] = ("e",),
    retries: int = 4,
    backoff: Backoff | tuple[float, ...] | None = None,
    is_async: bool = False,
    cancel_on: tuple[CancelRule, ...] = (),
    timeouts: TimeLimits = NO_LIMITS,
    on_failure: str | None = None,
    flow: FlowRules = NO_RULES,
    cron: Iterable[CronTrigger] = (),
    catchup: Catchup = Catchup.LATEST,
    catchup_limit: int = 100,
    overlap: Overlap = Overlap.SKIP,
) -> Function:
    spec = FunctionSpec(
        id=id_, name=id_, module="m", qualname=id_, file="m.py", line=1, is_async=is_async,
        triggers=(*(EventTrigger(name) for name in on), *cron), retries=retries, backoff=backoff, cancel_on=cancel_on,
        timeouts=timeouts, on_failure=on_failure, flow=flow, catchup=catchup, catchup_limit=catchup_limit,
        overlap=overlap,
    )  # fmt: skip
    return Function(spec, script)


def event(name: str = "e", *, id: str | None = None, ts: int | None = None, **data: object) -> NewEvent:
    return NewEvent(name=name, data=json.dumps(data, separators=(",", ":")), id=id, ts=ts)


def nth(outcomes: tuple[Outcome, ...], attempt: int) -> Outcome:
    return outcomes[min(attempt, len(outcomes) - 1)]


# What has happened.


class What(StrEnum):
    START = "start"  # a worker was given a run
    BEGIN = "begin"  # the code of a step began
    ACKNOWLEDGED = "acknowledged"  # a worker was told that a step is durable
    RECORDED = "recorded"  # the journal has a completed step
    WAITS = "waits"  # the journal has a step that waits
    ACCEPTED = "accepted"  # the journal has an event
    LEFT = "left"  # an execution left without a result
    KILLED = "killed"  # the engine killed a worker
    DEATH = "death"  # a worker died of this run
    CRASH = "crash"  # the engine died


class Entry(NamedTuple):
    what: What
    at: int
    run: str = ""
    step: str = ""
    attempt: int = 0
    output: str = ""
    worker: int = 0
    claim: int = 0
    companions: tuple[int, ...] = ()
    """Claims that the worker had already, parked ones as well."""
    event: int = 0


class Clock:
    """Milliseconds; it moves only when told."""

    def __init__(self) -> None:
        self.now = BEGINNING

    def __call__(self) -> int:
        return self.now

    def advance(self, ms: int) -> None:
        self.now += ms


class Crash(BaseException):
    """The engine dies. Nothing may catch it on its way out."""


class Faults:
    """Where the engine crashes: before or after its n-th commit, before its n-th sending, counted from 1."""

    def __init__(
        self, *, before: Iterable[int] = (), after: Iterable[int] = (), sending: Iterable[int] = (), linger: bool = True
    ) -> None:
        self.before = frozenset(before)
        self.after = frozenset(after)
        self.sending = frozenset(sending)
        self.linger = linger
        """Workers go on with what has reached them, until they see that the engine is gone."""
        self.commits = 0
        self.sends = 0

    @classmethod
    def at(cls, where: str, number: int, *, linger: bool = True) -> Faults:
        """One crash: `before` or `after` this commit, or at this `sending`."""
        places = {name: [number] if name == where else [] for name in ("before", "after", "sending")}
        return cls(**places, linger=linger)

    def commit(self, do: Callable[[], None]) -> None:
        self.commits += 1
        number = self.commits
        if number in self.before:
            raise Crash
        do()
        if number in self.after:
            raise Crash

    def send(self) -> None:
        self.sends += 1
        if self.sends in self.sending:
            raise Crash
