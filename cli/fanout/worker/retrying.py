"""Whether what has failed is worth another attempt."""

from __future__ import annotations

from datetime import UTC, datetime

from fanout.errors import (
    EventError,
    ExpressionError,
    NonRetriableError,
    OutputError,
    RetryAfterError,
    StepError,
    UsageError,
)

_HOPELESS = (NonRetriableError, OutputError, UsageError, EventError, ExpressionError, StepError)
"""Another attempt would end in the same way."""


def is_retriable(error: BaseException, now: int | None = None) -> tuple[bool, int | None]:
    """Whether another attempt makes sense, and the wait that the code asked for, in milliseconds."""
    if isinstance(error, BaseExceptionGroup):
        answers = [is_retriable(each, now) for each in error.exceptions]
        waits = [wait for _, wait in answers if wait is not None]
        return any(can for can, _ in answers), max(waits, default=None)
    if isinstance(error, RetryAfterError):
        try:
            return True, error.delay_ms(None if now is None else datetime.fromtimestamp(now / 1000, UTC))
        except Exception:  # noqa: BLE001 - boundary: whatever the user gave as a time
            return True, None
    return not isinstance(error, _HOPELESS), None
