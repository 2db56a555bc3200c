"""The exception tree. Every error a person can cause carries a message and, where there is one, a hint.

FanoutError
├── ConfigError        fanout.toml can't be used
├── LoadError          a module of functions can't be loaded
├── ExpressionError    an expression is not CEL
├── CronError          a cron expression can't be used
├── EventError         an event is refused; nothing of its request was stored
├── UsageError         a command was called in a way that can't work
├── NotFoundError      no such run, event or function
├── JournalError       the journal can't be used
│   └── JournalBusyError   another engine holds it
├── OutputError        a value can't be recorded as JSON
├── NonRetriableError  raised by functions: fail now, without another attempt
├── RetryAfterError    raised by functions: the next attempt not before a time of their choice
└── StepError          a step is out of attempts
    └── InvokeError        what a step has invoked failed, was cancelled, or took too long
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import ClassVar

from fanout.durations import parse_duration


class FanoutError(Exception):
    """What happened, to what; `hint` says what to do."""

    exit_code: ClassVar[int] = 2
    """What a command ends with."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        """What happened, to what."""
        self.hint = hint
        """What to do, if there is something."""

    def __str__(self) -> str:
        return self.message


class ConfigError(FanoutError):
    """`fanout.toml` can't be used: the message names file, line, table and key."""


class LoadError(FanoutError):
    """A module of functions can't be loaded: the message names file and line."""


class ExpressionError(FanoutError):
    """An expression is not CEL: the message says what is wrong with it, and where."""


class CronError(FanoutError):
    """A cron expression can't be used: the message names the field, and the hint is mostly what to write instead."""


class EventError(FanoutError):
    """An event is refused. All events of a request are stored, or none."""


class UsageError(FanoutError):
    """A command was called in a way that can't work."""


class NotFoundError(FanoutError):
    """No such run, event or function."""

    exit_code: ClassVar[int] = 3


class JournalError(FanoutError):
    """The journal can't be used."""

    exit_code: ClassVar[int] = 4

    def without(self, place: object) -> str:
        """The message for those who need not know where the journal is."""
        return self.message.replace(f" `{place}`", "").replace(f"`{place}`", "it")


class JournalBusyError(JournalError):
    """Another engine holds this journal."""


class OutputError(FanoutError):
    """A value can't be recorded: the message names the step and the path in the value."""


class NonRetriableError(FanoutError):
    """Raise it in a step or a function to fail at once: another attempt would not help."""


class RetryAfterError(FanoutError):
    """Raise it in a step or a function to choose when the next attempt comes. It counts as an attempt.

    `retry_after` is seconds, a timedelta, text such as `5m`, or an aware datetime; kept between 1 second and 24 hours.
    """

    def __init__(self, message: str, retry_after: float | str | timedelta | datetime) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds, a timedelta, text such as `5m`, or a datetime."""

    def delay_ms(self, now: datetime | None = None) -> int:
        """The wait from `now` in milliseconds, within its limits."""
        match self.retry_after:
            case datetime() as moment:
                if moment.tzinfo is None:
                    moment = moment.astimezone()
                seconds = (moment - (now or datetime.now(UTC))).total_seconds()
            case timedelta() as span:
                seconds = span.total_seconds()
            case str() as text:
                seconds = parse_duration(text)
            case number:
                seconds = float(number)
        return round(min(max(seconds, 1.0), 24 * 3600.0) * 1000)


class StepError(FanoutError):
    """A step is out of attempts: `name`, and the cause's `type` and `traceback`, as they were recorded.

    Catch it around the step's call to compensate; uncaught, it fails the run.
    """

    def __init__(self, name: str, message: str, *, type: str, traceback: str = "") -> None:  # noqa: A002 - the field's name
        super().__init__(f"step `{name}` failed: {type}: {message}" if message else f"step `{name}` failed: {type}")
        self.name = name
        """The step's; the second `charge` is `charge#2`."""
        self.type = type
        """The name of the exception's type, such as `ConnectionError`."""
        self.cause_message = message
        """What the exception said."""
        self.traceback = traceback
        """The exception's traceback, as text."""


class InvokeError(StepError):
    """What a step has invoked failed, was cancelled, or took too long: `type` is `TimeoutError` then.

    If what was invoked failed of a step of its own, `type` and the message are that step's. For `map` it is about one
    item, by default the first that failed: `item` is its number, which the message names.
    """

    def __init__(self, name: str, message: str, *, type: str, traceback: str = "", item: int | None = None) -> None:  # noqa: A002 - as above
        super().__init__(name, message, type=type, traceback=traceback)
        self.item = item
        """The number of the item of a map, from 0; None for `invoke`."""
