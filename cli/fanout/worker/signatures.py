"""Functions and branches as the calls of steps take them. Only type checkers know these: none is there at run time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from fanout.worker.async_context import AsyncContext
    from fanout.worker.context import Context

    OutputT = TypeVar("OutputT", default=Any)
    GivenT = TypeVar("GivenT", default=Any)

    Function = Callable[[AsyncContext[GivenT]], Awaitable[OutputT]] | Callable[[Context[GivenT]], OutputT]
    """A function whose event has a `GivenT` as its data, and that returns an `OutputT`."""

    Branch = Callable[[], OutputT]
    AsyncBranch = Callable[[], Awaitable[OutputT]] | Awaitable[OutputT]
