"""How a script has to end if every attempt is counted once. It knows scripts alone: no engine, no worker, no journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from tests.engine.scripts import (
    FOREVER,
    Await,
    Body,
    Fail,
    Function,
    Hang,
    Invoke,
    Item,
    Map,
    Obey,
    Parallel,
    Part,
    Script,
    Send,
    Sleep,
    Step,
    nth,
)

Where = tuple[str, str]
"""A step's parallel branch, and its name."""
Told = tuple[str, int]
"""A step's state, and its attempts."""


class Foretold(NamedTuple):
    state: str
    reason: str | None
    steps: dict[Where, list[Told]]
    body_failures: int


class _FailedError(Exception):
    def __init__(self, fail: Fail) -> None:
        super().__init__()
        self.fail = fail


class _CrashedError(Exception):
    pass


FATAL = Fail(is_retriable=False)


def foretell(made: Function, item: Item | None, invoked: Callable[[Where, int], str]) -> Foretold:
    """`item` is what its event says. `invoked` is what has become of its n-th invoke or map of that name."""
    teller = _Teller(made, item, invoked)
    most = made.spec.retries + 1
    for attempt in range(most):
        try:
            teller.execute(attempt)
        except _CrashedError:
            return Foretold("failed", "crashed", teller.steps, attempt)
        except _FailedError as failed:
            if not failed.fail.is_retriable or attempt + 1 == most:
                return Foretold("failed", None, teller.steps, attempt + 1)
        else:
            return Foretold("completed", None, teller.steps, attempt)
    raise AssertionError(made)


class _Teller:
    def __init__(self, made: Function, item: Item | None, invoked: Callable[[Where, int], str]) -> None:
        self.steps: dict[Where, list[Told]] = {}
        self._made = made
        self._item = item
        self._invoked = invoked
        self._attempt = 0
        self._seen: Counter[Where] = Counter()
        self._forks: Counter[str] = Counter()

    def execute(self, attempt: int) -> None:
        self._attempt = attempt
        self._seen.clear()
        self._forks.clear()
        self._script(self._made.script, "")

    def _script(self, script: Script, path: str) -> None:
        for part in script:
            match part:
                case Step():
                    state = self._reach(path, part.name, partial(self._step, part))
                    self._raise_unless(state == "completed" or part.is_caught)
                case Body():
                    self._body(part)
                case Obey():
                    self._raise_unless(self._item is None or not self._item.is_failing)
                case Sleep() | Await() | Send():
                    self._reach(path, part.name, lambda _number: ("completed", 1))
                case Invoke() | Map():
                    state = self._reach(path, part.name, partial(self._child, (path, part.name)))
                    self._raise_unless(state == "completed" or part.is_caught)
                case Parallel():
                    self._parallel(part, path)
                case _:
                    raise AssertionError(part)

    def _reach(self, path: str, name: str, tell: Callable[[int], Told]) -> str:
        """The state of the step that a call is: told once, then remembered."""
        where, known = (path, name), self.steps.get((path, name), [])
        self._seen[where] += 1
        if self._seen[where] > len(known):
            self.steps[where] = known = [*known, tell(len(known))]
        return known[self._seen[where] - 1][0]

    def _raise_unless(self, is_fine: bool) -> None:
        if not is_fine:
            raise _FailedError(FATAL)

    def _child(self, where: Where, number: int) -> Told:
        return self._invoked(where, number), 1

    def _step(self, step: Step, _number: int) -> Told:
        if step.deaths == FOREVER:
            raise _CrashedError
        most = self._made.spec.retries + 1
        for attempt in range(most):
            outcome = nth(step.outcomes, attempt)
            if outcome is None:
                return "completed", attempt + 1
            if isinstance(outcome, Fail) and not outcome.is_retriable:
                return "failed", attempt + 1
        return "failed", most

    def _body(self, body: Body) -> None:
        if body.deaths == FOREVER:
            raise _CrashedError
        outcome = nth(body.outcomes, self._attempt)
        assert not isinstance(outcome, Hang)
        if outcome is not None:
            raise _FailedError(outcome)

    def _parallel(self, part: Parallel, path: str) -> None:
        """All branches come to their end; then the first failure counts."""
        failures = []
        if self._made.spec.is_async or not part.branches:
            below = [self._fork(path) for _ in part.branches]
        else:
            group = self._fork(path)
            below = [self._fork(group) for _ in part.branches]
        for script, branch in zip(part.branches, below, strict=True):
            try:
                self._script(script, branch)
            except _FailedError as failed:
                failures.append(failed)
        for failure in failures:
            raise failure

    def _fork(self, path: str) -> str:
        self._forks[path] += 1
        return f"{path}.{self._forks[path]}" if path else str(self._forks[path])


def parts_of(script: Script, made: Function, path: str = "") -> Iterator[tuple[str, Part]]:
    """All parts with their branches, but for the parallels themselves."""
    forks: Counter[str] = Counter()

    def fork(path: str) -> str:
        forks[path] += 1
        return f"{path}.{forks[path]}" if path else str(forks[path])

    for part in script:
        if not isinstance(part, Parallel):
            yield path, part
            continue
        group = path if made.spec.is_async or not part.branches else fork(path)
        for branch in part.branches:
            yield from parts_of(branch, made, fork(group))
