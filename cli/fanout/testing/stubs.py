"""What stands for a step's own code in a test, or for a whole function that is invoked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from fanout.errors import UsageError
from fanout.worker.branches import inside


class InTurn:
    """Outcomes of a step's attempts, one after another; made by `in_turn`."""

    def __init__(self, outcomes: tuple[object, ...]) -> None:
        self._outcomes = list(outcomes)

    def next(self) -> object:
        return self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]


def in_turn(*outcomes: object) -> InTurn:
    """A stub that has another outcome each time: values, exceptions or functions. The last one stays.

    ```python
    result = run(charge_card, steps={"charge": in_turn(ConnectionError("down"), {"id": "ch_1"})})
    assert result.steps["charge"].attempts == 2
    ```
    """
    if not outcomes:
        raise UsageError("`in_turn` has no outcome", hint='write `in_turn(ConnectionError("down"), {"id": 1})`')
    return InTurn(outcomes)


def outcome_of(stub: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What the stub gives for these arguments; an awaitable if it is an async function.

    Raises:
        BaseException: the one that the stub is, or that its function raises.
    """
    while isinstance(stub, InTurn):
        stub = stub.next()
    if isinstance(stub, BaseException) or (isinstance(stub, type) and issubclass(stub, BaseException)):
        raise stub
    return stub(*args, **kwargs) if callable(stub) else stub


class Stubs:
    """Stubs by the names of steps. `charge` is for each step of that name, `charge#2` for the second one only."""

    def __init__(self, stubs: Mapping[str, object] | None, escape: Callable[[BaseException], None]) -> None:
        self._stubs = dict(stubs or {})
        self._escape = escape

    @property
    def names(self) -> set[str]:
        return {name.partition("#")[0] for name in self._stubs}

    def has(self, name: str) -> bool:
        """Whether there is one for a step of this name."""
        return name in self.names

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The outcome of the step that is executed here: its stub's, or else its function's."""
        here = inside.get()
        key = "" if here is None else here.key
        name = key.partition("#")[0]
        if key not in self._stubs and name not in self._stubs:
            return fn(*args, **kwargs)
        try:
            value = outcome_of(self._stubs.get(key, self._stubs.get(name)), args, kwargs)
        except AssertionError as error:
            self._escape(error)  # It is about the test, not one of the step's failures.
            raise
        return self._awaited(value) if inspect.isawaitable(value) else value

    async def _awaited(self, value: Any) -> Any:
        try:
            return await value
        except AssertionError as error:
            self._escape(error)
            raise
