"""Functions, their data and branches, as the calls of steps take them.

Only type checkers know these: none is there at run time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from datetime import date
    from decimal import Decimal
    from uuid import UUID

    import msgspec
    from typing_extensions import TypeVar

    from fanout.worker.async_context import AsyncContext
    from fanout.worker.context import Context

    OutputT = TypeVar("OutputT", default=Any)
    GivenT = TypeVar("GivenT", default=Any)
    KeysT = TypeVar("KeysT", bound=Mapping[str, object])
    """Of a TypedDict: mypy takes a dict's literal for one only where it is declared as one."""

    Function = Callable[[AsyncContext[GivenT]], Awaitable[OutputT]] | Callable[[Context[GivenT]], OutputT]
    """A function whose event has a `GivenT` as its data, and that returns an `OutputT`."""

    class _Dataclass(Protocol):
        __dataclass_fields__: ClassVar[dict[str, Any]]

    class _PydanticModel(Protocol):
        def model_dump_json(self) -> str: ...

    Shape = Mapping[str, Any] | _Dataclass | msgspec.Struct | _PydanticModel
    """What is an object in JSON, and so can be the data of an event."""

    Loose = dict[str, Any] | Sequence[Any] | float | Decimal | date | UUID | None
    """An item of a map that is no event's data yet: it is in one as `item`, or is a dict."""
    LooseT = TypeVar("LooseT", bound=Loose)

    Branch = Callable[[], OutputT]
    AsyncBranch = Callable[[], Awaitable[OutputT]] | Awaitable[OutputT]
