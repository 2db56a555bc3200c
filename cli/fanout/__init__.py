"""One event in, many functions out: `function` declares one, `on` and `cron` start it, `Context` is what it gets.

What the author of a function imports is here, and `fanout.testing` is for tests. Names load on first use, so that
`fanout --version` pays for none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fanout.client import Client, connect
    from fanout.declare import CancelOn, Timeouts, cron, function, on
    from fanout.errors import FanoutError, InvokeError, NonRetriableError, RetryAfterError, StepError
    from fanout.flow import Batch, Concurrency, Debounce, Priority, RateLimit, Singleton, Throttle
    from fanout.model import Backoff, Event
    from fanout.worker.async_context import AsyncContext
    from fanout.worker.context import Context

__all__ = [
    "AsyncContext",
    "Backoff",
    "Batch",
    "CancelOn",
    "Client",
    "Concurrency",
    "Context",
    "Debounce",
    "Event",
    "FanoutError",
    "InvokeError",
    "NonRetriableError",
    "Priority",
    "RateLimit",
    "RetryAfterError",
    "Singleton",
    "StepError",
    "Throttle",
    "Timeouts",
    "connect",
    "cron",
    "function",
    "on",
]

_HOMES = {
    "AsyncContext": "fanout.worker.async_context",
    "Backoff": "fanout.model",
    "Batch": "fanout.flow",
    "CancelOn": "fanout.declare",
    "Client": "fanout.client",
    "Concurrency": "fanout.flow",
    "Context": "fanout.worker.context",
    "Debounce": "fanout.flow",
    "Event": "fanout.model",
    "FanoutError": "fanout.errors",
    "InvokeError": "fanout.errors",
    "NonRetriableError": "fanout.errors",
    "Priority": "fanout.flow",
    "RateLimit": "fanout.flow",
    "RetryAfterError": "fanout.errors",
    "Singleton": "fanout.flow",
    "StepError": "fanout.errors",
    "Throttle": "fanout.flow",
    "Timeouts": "fanout.declare",
    "connect": "fanout.client",
    "cron": "fanout.declare",
    "function": "fanout.declare",
    "on": "fanout.declare",
}


if not TYPE_CHECKING:  # or else a type checker takes any name for one of ours

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'fanout' has no attribute {name!r}")
        from importlib import import_module  # lazy: see the module's docstring

        value = getattr(import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
