"""What an async function is called with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanout.model import DataT_co, FunctionSpec
from fanout.worker.async_step import AsyncSteps
from fanout.worker.context import BaseContext

if TYPE_CHECKING:
    import asyncio

    from fanout.worker.execution import Execution


class AsyncContext(BaseContext[DataT_co]):
    """What an `async def` function gets. `AsyncContext[Order]` is one whose event has an `Order` as its data."""

    def __init__(self, execution: Execution, spec: FunctionSpec, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(execution, spec)
        self.step: AsyncSteps = AsyncSteps(execution, loop)
        """What is done once, and remembered; each call is awaited."""
