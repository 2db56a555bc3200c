"""What simulated functions do, and what is written down of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from typing import NamedTuple

from fanout.events import NewEvent
from fanout.model import Backoff, EventTrigger, FunctionSpec

BEGINNING = 1_800_000_000_000
FOREVER = 10**9


# What functions do.


class Fail(NamedTuple):
    """The attempt raises."""

    is_retriable: bool = True
    retry_after_ms: int | None = None


OK = None
FAIL = Fail()
FATAL = Fail(is_retriable=False)
Outcome = Fail | None


class Step(NamedTuple):
    """A step. `outcomes` has one for each attempt, the last of them for all others.

    The worker dies in it the first `deaths` times. `is_caught`: the function goes on when it has failed.
    """

    name: str
    outcomes: tuple[Outcome, ...] = (OK,)
    takes_ms: int = 1
    deaths: int = 0
    is_caught: bool = False


class Body(NamedTuple):
    """Code between steps, with an outcome for each of the run's attempts."""

    outcomes: tuple[Outcome, ...] = (OK,)
    takes_ms: int = 0
    deaths: int = 0


class Silent(NamedTuple):
    """Says nothing by itself: the test speaks for it."""


Script = tuple[Step | Body | Silent, ...]


class Function(NamedTuple):
    spec: FunctionSpec
    script: Script


def function(
    id_: str,
    *script: Step | Body | Silent,
    on: Collection[str] = ("e",),
    retries: int = 4,
    backoff: Backoff | tuple[float, ...] | None = None,
    is_async: bool = False,
) -> Function:
    spec = FunctionSpec(
        id=id_, name=id_, module="m", qualname=id_, file="m.py", line=1, is_async=is_async,
        triggers=tuple(EventTrigger(name) for name in on), retries=retries, backoff=backoff,
    )  # fmt: skip
    return Function(spec, script)


def event(
    name: str = "e",
    *,
    id: str | None = None,
    ts: int | None = None,
) -> NewEvent:
    return NewEvent(name=name, data="{}", id=id, ts=ts)


def nth(outcomes: tuple[Outcome, ...], attempt: int) -> Outcome:
    return outcomes[min(attempt, len(outcomes) - 1)]


# What has happened.


class What(StrEnum):
    START = "start"  # a worker was given a run
    BEGIN = "begin"  # the code of a step began
    ACKNOWLEDGED = "acknowledged"  # a worker was told that a step is durable
    RECORDED = "recorded"  # the journal has a completed step
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
    """Claims that the worker was executing already."""


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
