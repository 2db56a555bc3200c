"""What functions are called with in a test: the real contexts, but that steps may have stubs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from fanout.model import FunctionSpec
from fanout.testing.stubs import Stubs
from fanout.worker.context import Context
from fanout.worker.execution import Execution
from fanout.worker.step import Steps

if TYPE_CHECKING:
    import asyncio

    from fanout.worker.async_context import AsyncContext

P = ParamSpec("P")
T = TypeVar("T")

MakeContext = Callable[[Execution, FunctionSpec], Context]
MakeAsyncContext = Callable[[Execution, FunctionSpec, "asyncio.AbstractEventLoop"], "AsyncContext"]


class _Stubbed:
    """Called as a step's function; returns what that one is annotated to return."""

    def __init__(self, stubs: Stubs, fn: Callable[..., Any]) -> None:
        self._stubs = stubs
        self.__wrapped__ = fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._stubs.call(self.__wrapped__, args, kwargs)


class _Steps(Steps):
    def __init__(self, execution: Execution, stubs: Stubs | None) -> None:
        super().__init__(execution)
        self._stubs = stubs

    def run(self, name: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        if self._stubs is not None and self._stubs.has(name):
            stubbed: Callable[P, T] = _Stubbed(self._stubs, fn)
            return super().run(name, stubbed, *args, **kwargs)
        return super().run(name, fn, *args, **kwargs)

    def _settle(self) -> None:
        self._execution.desk.link.flush()  # Nobody else does: what is waited for has come when this returns.
        super()._settle()


def plain(stubs: Stubs | None) -> MakeContext:
    """Contexts of plain functions, with these stubs."""

    def make(execution: Execution, spec: FunctionSpec) -> Context:
        context = Context(execution, spec)
        context.step = _Steps(execution, stubs)
        return context

    return make


def tasks(stubs: Stubs) -> MakeAsyncContext:
    """Contexts of async functions, with these stubs."""
    from fanout.worker.async_context import AsyncContext  # lazy: asyncio, which most tests do without
    from fanout.worker.async_step import AsyncSteps

    class StubbedSteps(AsyncSteps):
        async def run(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            return await super().run(name, _async_stub(stubs, fn) if stubs.has(name) else fn, *args, **kwargs)

    def make(execution: Execution, spec: FunctionSpec, loop: asyncio.AbstractEventLoop) -> AsyncContext:
        context = AsyncContext(execution, spec, loop)
        context.step = StubbedSteps(execution, loop)
        return context

    return make


def _async_stub(stubs: Stubs, fn: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    @wraps(fn)
    async def stubbed(*args: Any, **kwargs: Any) -> Any:
        value = stubs.call(fn, args, kwargs)
        return await value if isinstance(value, Awaitable) else value

    return stubbed
