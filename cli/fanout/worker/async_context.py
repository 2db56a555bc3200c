"""What an async function is called with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanout.model import FunctionSpec
from fanout.worker.async_step import AsyncSteps
from fanout.worker.context import BaseContext

if TYPE_CHECKING:
    import asyncio

    from fanout.worker.execution import Execution


class AsyncContext(BaseContext):
    """What an `async def` function gets."""

    def __init__(self, execution: Execution, spec: FunctionSpec, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(execution, spec)
        self.step = AsyncSteps(execution, loop)
