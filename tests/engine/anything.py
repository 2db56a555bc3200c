"""Any functions, any events, any crashes: from one source of chance, so that a seed tells all."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from fanout.engine.settings import DEFAULT_PARK_MS
from fanout.events import NewEvent
from fanout.model import CancelRule, EventTrigger, TimeLimits
from tests.engine.scripts import (
    FAIL,
    FATAL,
    FOREVER,
    HANG,
    OK,
    Await,
    Body,
    Fail,
    Faults,
    Function,
    Invoke,
    Item,
    Map,
    Obey,
    Outcome,
    Parallel,
    Part,
    Script,
    Send,
    Sleep,
    Step,
    event,
    function,
)

STEP_LIMIT_MS = 1_000
CHILDREN = 3


class Author:
    """Writes functions. Those that are invoked are numbered, and invoke only others with a higher number."""

    def __init__(self, rng: random.Random, *, has_deaths: bool = True) -> None:
        self._rng = rng
        self._has_deaths = has_deaths
        self._names = 0

    def functions(self, count: int, *, is_limited: bool = False) -> list[Function]:
        """`is_limited`: by events that cancel, and by time."""
        rng = self._rng
        made = [self._function(f"f{number}", rng.choice([["e"], ["f"], ["e", "f"]]), 0) for number in range(count)]
        made += [self._function(f"c{number}", [], number + 1) for number in range(CHILDREN)]
        made.append(function("x", Step("x", takes_ms=3), on=["x"]))
        made.append(function("rescue", Step("r"), on=rng.choice([[], [], ["fanout/function.failed"]])))
        if rng.random() < 0.3:
            made.append(function("listener", Step("l"), on=[rng.choice(["fanout/*", "fanout/function.finished"])]))
        return [self._limited(each) for each in made] if is_limited else made

    def _function(self, name: str, on: list[str], depth: int) -> Function:
        rng = self._rng
        parts = [*self._parts(depth, is_inside=False)]
        if not on:
            parts.insert(0, Obey())
        script = self._with_death(tuple(parts)) if self._has_deaths else tuple(parts)
        return function(
            name,
            *script,
            on=on,
            retries=rng.randint(0, 3),
            backoff=rng.choice([(0.0,), (0.01, 0.3), (2.0,), (0.05, 6.0), None]),
            is_async=rng.random() < 0.5,
            timeouts=TimeLimits(step_ms=STEP_LIMIT_MS) if _hangs(script) else TimeLimits(),
            on_failure="rescue" if rng.random() < 0.2 else None,
        )

    def _limited(self, made: Function) -> Function:
        rng = self._rng
        rules = (CancelRule("stop", match="data.user"), CancelRule("halt", timeout_ms=rng.choice([None, 100, 2_000])))
        limits = TimeLimits(
            rng.choice([None, None, 50, 5_000]), rng.choice([None, None, 400, 8_000]), made.spec.timeouts.step_ms
        )
        return function(
            made.spec.id, *made.script, on=[each.name for each in made.spec.triggers if isinstance(each, EventTrigger)], retries=made.spec.retries,
            backoff=made.spec.backoff, is_async=made.spec.is_async, timeouts=limits, on_failure=made.spec.on_failure,
            cancel_on=rules[: rng.randint(0, 2)],
        )  # fmt: skip

    # Parts.

    def _parts(self, depth: int, *, is_inside: bool) -> Iterator[Part]:
        rng = self._rng
        for _ in range(rng.randint(0, 3 if is_inside else 5)):
            chosen = rng.random()
            if chosen < 0.4:
                yield self._step()
            elif chosen < 0.5:
                yield Body(self._outcomes(0.2), rng.choice([0, 0, 5, 60]), is_hidden=rng.random() < 0.3)
            elif chosen < 0.85:
                yield self._waiting(depth)
            elif not is_inside or rng.random() < 0.3:
                yield Parallel(
                    tuple(tuple(self._parts(depth, is_inside=True)) for _ in range(rng.choice([1, 2, 2, 3, 4])))
                )

    def _step(self) -> Step:
        rng = self._rng
        outcomes = self._outcomes(0.3)
        if rng.random() < 0.05:
            outcomes = (HANG, *outcomes)
        takes_ms = rng.choice([0, 0, 1, 3, 40, 700])
        return Step(rng.choice("stuv"), outcomes, takes_ms, 0, rng.random() < 0.5, rng.random() < 0.5)

    def _outcomes(self, failing: float) -> tuple[Outcome, ...]:
        rng = self._rng
        if rng.random() > failing:
            return (OK,)
        others = [FAIL, FATAL, Fail(retry_after_ms=rng.choice([0, 30, 5_000]))]
        return tuple(rng.choices([OK, *others], [6, 6, 1, 1])[0] for _ in range(rng.randint(1, 4)))

    def _waiting(self, depth: int) -> Part:
        rng = self._rng
        match rng.randint(0, 5):
            case 0 | 1:
                return Sleep(rng.choice([0, 1, 20, 300, 4_000, 20_000]))
            case 2:
                match_, if_ = rng.choice([(None, None), ("data.user", None), (None, "async.data.user > 0")])
                return Await(rng.choice(["w", "v", "x"]), rng.choice([1, 50, 400, 7_000]), match_, if_)
            case 3:
                return Send(
                    tuple(event(rng.choice(["x", "w"]), user=rng.randint(0, 2)) for _ in range(rng.randint(0, 2)))
                )
            case 4 if depth < CHILDREN:
                timeout_ms = rng.choice([None, None, None, 30, 3_000])
                child = rng.choice(
                    [*(f"c{number}" for number in range(depth, CHILDREN)), *["nothing"][: rng.random() < 0.1]]
                )
                return Invoke(child, '{"item":%d}' % rng.randint(0, 9), timeout_ms, rng.random() < 0.7)  # noqa: UP031
            case _ if depth < CHILDREN:
                return self._map(depth)
            case _:
                return Sleep(2)

    def _map(self, depth: int) -> Map:
        rng = self._rng
        self._names += 1
        is_failing = rng.choice([0.0, 0.0, 0.2])
        given = tuple(
            Item(number, rng.choice([0, 1, 10, 100]), rng.random() < is_failing) for number in range(rng.randint(0, 6))
        )
        return Map(
            f"c{rng.randint(depth, CHILDREN - 1)}", given, rng.choice([1, 2, 3, 1_000]), rng.random() < 0.5,
            rng.random() < 0.4, rng.random() < 0.7, rng.choice([0, 0, 5]), f"map{self._names}",
        )  # fmt: skip

    def _with_death(self, script: Script) -> Script:
        """One part at most kills its worker: three deaths are too many, wherever they come."""
        rng = self._rng
        places = [
            number for number, part in enumerate(script) if isinstance(part, Step | Body) and HANG not in part.outcomes
        ]
        if not places or rng.random() > 0.12:
            return script
        place = rng.choice(places)
        part = script[place]
        assert isinstance(part, Step | Body)
        return (*script[:place], part._replace(deaths=rng.choice([1, 2, FOREVER])), *script[place + 1 :])

    # Other code.

    def changed(self, made: Function) -> Function:
        """The function as somebody may have edited it."""
        rng = self._rng
        parts = [*made.script]
        for _ in range(rng.randint(0, 3)):
            match rng.randint(0, 3):
                case 0 if parts:
                    del parts[rng.randrange(len(parts))]
                case 1:
                    parts.insert(rng.randint(0, len(parts)), rng.choice([Step(rng.choice("stuvw")), Sleep(30)]))
                case 2:
                    rng.shuffle(parts)
                case _ if parts:
                    place = rng.randrange(len(parts))
                    parts[place] = Parallel(((parts[place],), (Step("beside"),)))
                case _:
                    pass
        return made._replace(script=tuple(parts))


def _hangs(script: Script) -> bool:
    for part in script:
        if isinstance(part, Step) and HANG in part.outcomes:
            return True
        if isinstance(part, Parallel) and any(_hangs(branch) for branch in part.branches):
            return True
    return False


def any_faults(rng: random.Random) -> Faults:
    crashes = rng.choice([0, 1, 3, 10])
    return Faults(
        before=rng.sample(range(1, 80), crashes),
        after=rng.sample(range(1, 80), crashes),
        sending=rng.sample(range(1, 120), crashes),
        linger=rng.random() < 0.5,
    )


def any_park_ms(rng: random.Random) -> int:
    return rng.choice([0, 10, 500, DEFAULT_PARK_MS, 10**7])


def any_lag(rng: random.Random) -> Callable[[], int]:
    """How long messages are on their way: mostly not at all."""
    if rng.random() < 0.5:
        return lambda: 0
    own = random.Random(rng.random())
    return lambda: own.choice([0, 0, 0, 1, 2, 7])


def any_events(rng: random.Random, now: int, names: list[str]) -> list[NewEvent]:
    return [
        event(rng.choice(names), ts=now + rng.choice([-5, 0, 0, 20, 9_000]), user=rng.randint(0, 2))
        for _ in range(rng.randint(1, 6))
    ]
