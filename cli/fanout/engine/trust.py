"""What is believed of a worker. Code of the user's runs in it, so it may be broken, or say what it likes.

What has no sense at all never gets here: frames are decoded to messages, whose numbers are within their limits. This
is about sense: what no worker of ours would say, and what the journal would refuse or others could not read.
"""

from __future__ import annotations

import msgspec

from fanout.engine.roster import Active
from fanout.errors import ExpressionError
from fanout.events import name_complaint
from fanout.protocol import (
    EventWait,
    FromExecution,
    Invoke,
    Map,
    MapItems,
    Parked,
    RunCompleted,
    SentEvent,
    StepCompleted,
    StepFailed,
    StepRunning,
    StepWaits,
)

_decode = msgspec.json.Decoder().decode
_as_raw = msgspec.json.Decoder(msgspec.Raw).decode


def complaint(active: Active, message: FromExecution) -> str | None:  # noqa: C901, PLR0911, PLR0912 - one answer a message
    """Why this can't be true, as the rest of a sentence about the worker that has said it."""
    if type(message) is StepCompleted:
        if not _is_json(message.output):
            return f"gave a result of step `{message.key}` that is not JSON"
        if not (message.events or message.key in active.over or active.is_parked):
            return None  # Most are that.
    match message:
        case RunCompleted():
            return None if _is_json(message.output) else "gave a result that is not JSON"
        case StepRunning() | StepCompleted() | StepFailed() | StepWaits() if message.key in active.over:
            return f"said more of step `{message.key}`, which is over"
        case StepCompleted() | StepFailed() | StepWaits() if active.is_parked and message.key in active.waits:
            return f"has gone on with step `{message.key}`, for which it had parked a run"
        case StepWaits(awaited=Map()) if message.key in active.known:
            return f"asked twice for step `{message.key}`"
        case StepCompleted(events=events) if events:
            return next((wrong for event in events if (wrong := _wrong_event(event)) is not None), None)
        case StepWaits(awaited=Invoke(data=data)) if not _is_object(data):
            return f"gave no object as the data of step `{message.key}`"
        case StepWaits(awaited=EventWait(if_=str(condition))):
            return _wrong_condition(condition)
        case MapItems() if message.key not in active.known:
            return f"sent items for step `{message.key}`, which does not wait for any"
        case MapItems() if not all(_is_object(data) for data, _ in message.items):
            return f"sent an item of step `{message.key}` that is no object"
        case Parked(keys=()):
            return "parked a run that waits for nothing"
    return None


def _wrong_event(event: SentEvent) -> str | None:
    if name_complaint(event.name) is not None:
        return "sent an event with a name that none can have"
    if not _is_object(event.data) or not (event.user is None or _is_object(event.user)):
        return f"sent an event `{event.name}` whose data is no object"
    return None


def _wrong_condition(condition: str) -> str | None:
    from fanout.core import expressions  # lazy: CEL is slow to import, and few functions use it

    try:
        expressions.parse(condition, variables=expressions.IN_WAITS)
    except ExpressionError as error:
        return f"waits for an event by a condition that is none: {error.message}"
    return None


def _is_json(text: str) -> bool:
    """Looked through, and nothing made of it: results may be large."""
    try:
        _as_raw(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _is_object(text: str) -> bool:
    try:
        return isinstance(_decode(text), dict)
    except (msgspec.DecodeError, RecursionError):
        return False
