"""A worker that says what it likes: the engine goes on, what others do is not harmed, and every run ends.

The bytes decide which messages come, under which claims, with which numbers, and what of them is garbled.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from fanout.journal.sqlite import SqliteJournal
from fanout.model import Failure, StepKind
from fanout.protocol import (
    HEADER,
    Awaited,
    Described,
    EventWait,
    Invoke,
    LoadFailed,
    Map,
    MapItems,
    Parked,
    RunCompleted,
    RunEvicted,
    RunFailed,
    SentEvent,
    Sleep,
    StepCompleted,
    StepFailed,
    StepRunning,
    StepWaits,
    ToEngine,
    Unpark,
    frame,
)
from tests.fuzz.hostile import RESULT, SPECS, Scene, Worker

SEEDS = tuple(
    bytes([(number * 37 + place * 11 + place * place * number) % 256 for place in range(240)]) for number in range(24)
)
_MOST_FRAMES = 12
_KEYS = ("a", "b", "honest", "map", "", "x#2", "\0\n\U0001f600")
_TEXTS = (
    "{}",
    '{"n": 1}',
    "null",
    '"x"',
    "[1, 2]",
    "",
    "{",
    "nul",
    "1e999",
    '{"a":' * 300 + "1" + "}" * 300,
    "9" * 5000,
    "\0",
)
_NAMES = ("go", "sent", "sent/x", "fanout/function.failed", "fanout/x", "", "*", "\n", "n" * 300)
_FUNCTIONS = ("one", "child", "test/child", "", "nobody", "\0")
_CONDITIONS = (None, "async.data.n == 1", "event.x == async.x", "1 +", "", "nope.x", "((" * 200)
_NUMBERS = (0, 1, 2, 5, -1, 100, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1)
_TIMES = (
    1_800_000_000_000,
    1_800_000_000_001,
    1_800_000_001_000,
    1_800_000_060_000,
    0,
    1,
    -1,
    253_402_300_799_999,
    2**63,
    -(2**63),
)
_FAILURE = Failure("Broken", "by the worker", "trace")
_TEMPLATE: list[bytes] = []
T = TypeVar("T")


class Choices:
    """Bytes as choices; when they are used up, the first of everything."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def is_empty(self) -> bool:
        return self._place >= len(self._data)

    def below(self, most: int) -> int:
        if self.is_empty:
            return 0
        self._place += 1
        return self._data[self._place - 1] % most

    def one(self, values: tuple[T, ...]) -> T:
        return values[self.below(len(values))]

    def mostly(self, usual: T, values: tuple[T, ...]) -> T:
        """The usual one, but for one time in fifty."""
        return self.one(values) if self.below(50) == 49 else usual


def check(data: bytes) -> None:
    choices = Choices(data)
    with TemporaryDirectory(dir=_shared()) as folder:
        path = Path(folder, "journal.db")
        path.write_bytes(_empty())
        scene = Scene(path)
        try:
            play(scene, choices)
            _look(scene)
        finally:
            scene.journal.close()


def play(scene: Scene, choices: Choices) -> None:
    for _ in range(_MOST_FRAMES):
        if choices.is_empty:
            break
        for worker in scene.hostile():
            messages = [_message(worker, choices) for _ in range(1 + choices.below(4))]
            try:
                body = bytearray(frame(messages)[HEADER:])
            except OverflowError:
                continue  # Beyond what the format has: nobody can say it.
            for _ in range(choices.mostly(0, (1, 2, 8))):
                body[choices.below(256) % len(body)] ^= 1 + choices.below(255)
            scene.pool.speak(worker.number, bytes(body))
        scene.tick(choices.one((0, 1, 1, 1, 300, 2_500, 60_000)))
    scene.settle()


def _look(scene: Scene) -> None:
    states = dict(scene.rows("SELECT id, state FROM run"))
    assert all(state in {"completed", "failed", "skipped"} for state in states.values()), states
    for run, output in scene.rows("SELECT id, output FROM run WHERE output IS NOT NULL"):
        json.loads(output, parse_int=str, parse_float=str)
        assert run in scene.pool.touched or output == RESULT, (run, output)
    for (data,) in scene.rows("SELECT data FROM event"):
        assert isinstance(json.loads(data, parse_int=str, parse_float=str), dict)
    assert scene.rows("PRAGMA integrity_check") == [("ok",)]


def _shared() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _empty() -> bytes:
    """To make a journal takes longer than all the rest."""
    if not _TEMPLATE:
        with TemporaryDirectory(dir=_shared()) as folder:
            SqliteJournal(Path(folder, "journal.db")).close()
            _TEMPLATE.append(Path(folder, "journal.db").read_bytes())
    return _TEMPLATE[0]


# What it says.


def _message(worker: Worker, choices: Choices) -> ToEngine:
    claims = tuple(worker.claims) or (1,)
    claim = choices.mostly(choices.one(claims), (1, 2, 3, 4, 5, 6, 7, 8, *_NUMBERS))
    return choices.one(_SAID)(claim, choices)


def _number(choices: Choices, usual: int = 1) -> int:
    return choices.mostly(usual, _NUMBERS)


def _time(choices: Choices) -> int:
    return choices.mostly(choices.one(_TIMES[:4]), _TIMES)


def _text(choices: Choices) -> str:
    return choices.mostly("{}", _TEXTS)


def _key(choices: Choices) -> str:
    return choices.one(_KEYS)


def _completed(claim: int, choices: Choices) -> ToEngine:
    return StepCompleted(
        claim, _number(choices), _key(choices), "", _number(choices), _number(choices), _text(choices), _time(choices),
        _time(choices), choices.one(tuple(StepKind)), tuple(_sent(choices) for _ in range(choices.mostly(0, (1, 2, 3)))),
    )  # fmt: skip


def _sent(choices: Choices) -> SentEvent:
    given = choices.below(2) == 1
    ts = choices.mostly(None, (*_TIMES, None))
    return SentEvent(
        choices.one(("i", "j", "")),
        given,
        choices.one(_NAMES),
        ts,
        _text(choices),
        choices.mostly(None, (*_TEXTS, None)),
        None,
    )


def _failed(claim: int, choices: Choices) -> ToEngine:
    retry = choices.mostly(None, (*_NUMBERS, None))
    return StepFailed(
        claim, _key(choices), "", _number(choices), _number(choices), _FAILURE, _time(choices), _time(choices),
        choices.below(2) == 1, retry, choices.one(tuple(StepKind)),
    )  # fmt: skip


def _waits(claim: int, choices: Choices) -> ToEngine:
    match = choices.one((None, ("data.n", "1"), ("", ""), ("a..b", "{")))
    awaited: tuple[Awaited, ...] = (
        Sleep(_time(choices)),
        EventWait(choices.one(_NAMES), _time(choices), match, choices.one(_CONDITIONS)),
        Invoke(choices.one(_FUNCTIONS), _text(choices), choices.mostly(None, (*_TIMES, None))),
        Map(choices.one(_FUNCTIONS), _number(choices), choices.below(2) == 1),
    )
    return StepWaits(claim, _key(choices), "", _number(choices), _time(choices), choices.one(awaited))


def _items(claim: int, choices: Choices) -> ToEngine:
    items = tuple((_text(choices), choices.one((None, "k", "l", ""))) for _ in range(choices.below(4)))
    return MapItems(claim, _key(choices), _number(choices, 0), items, choices.below(2) == 1)


def _parked(claim: int, choices: Choices) -> ToEngine:
    return Parked(claim, tuple(_key(choices) for _ in range(choices.below(3))))


def _ended(claim: int, choices: Choices) -> ToEngine:
    return RunCompleted(claim, _text(choices), tuple(_key(choices) for _ in range(choices.below(3))))


def _broken(claim: int, choices: Choices) -> ToEngine:
    return RunFailed(claim, _FAILURE, choices.below(2) == 1, choices.mostly(None, (*_NUMBERS, None)))


def _of_loading(_claim: int, choices: Choices) -> ToEngine:
    said: tuple[ToEngine, ...] = (Described(SPECS, "0"), Described((), ""), LoadFailed("x", None))
    return choices.one(said)


_SAID: tuple[Callable[[int, Choices], ToEngine], ...] = (
    _completed, _completed, _failed, _waits, _waits, _items, _parked, _ended, _broken,
    lambda claim, choices: StepRunning(claim, _key(choices), "", _number(choices), _time(choices)),
    lambda claim, _: Unpark(claim),
    lambda claim, _: RunEvicted(claim),
    _of_loading,
)  # fmt: skip
