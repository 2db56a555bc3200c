"""What is read from the journal as people may see it: without the values of hidden keys. No SQL.

The journal itself keeps all of it: runs need it. Ids and names are shown as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import msgspec

from fanout.core.redaction import HIDDEN, Redaction, redaction_of
from fanout.journal.awaited import Awaited, AwaitedEvent, Relatives
from fanout.journal.family import Family, FamilyRun
from fanout.journal.received import FullEvent
from fanout.journal.statistics import Statistics
from fanout.model import FailedAttempt, Failure, Run, Step

_HIDDEN_JSON = f'"{HIDDEN}"'

Found = TypeVar("Found")
WithItemKey = TypeVar("WithItemKey", FamilyRun, Relatives)


def shown(keys: tuple[str, ...], found: Found) -> Found:
    """The same thing, or list of things, without what stands under these keys."""
    return cast("Found", _shown(redaction_of(keys), found))


def json_text(keys: tuple[str, ...], text: str) -> str:
    return redaction_of(keys).json_text(text)


def is_hidden(keys: tuple[str, ...], expression: str) -> bool:
    """Whether what this path or expression comes to is not to be told."""
    return redaction_of(keys).is_about(expression)


def _shown(hide: Redaction, found: Any) -> Any:
    return None if found is None else _WAYS[type(found)](hide, found)


def _list(hide: Redaction, found: list[Any]) -> list[Any]:
    return [_shown(hide, each) for each in found]


def _run_or_step(hide: Redaction, found: Run | Step) -> Run | Step:
    if isinstance(found, Run) and found.steps:
        found = msgspec.structs.replace(found, steps=tuple(_run_or_step(hide, step) for step in found.steps))
    if found.output is None and found.error is None:
        return found
    output = None if found.output is None else msgspec.Raw(hide.json_text(bytes(found.output).decode()).encode())
    return msgspec.structs.replace(found, output=output, error=_shown(hide, found.error))


def _failure(hide: Redaction, found: Failure) -> Failure:
    return Failure(found.type, hide.text(found.message), hide.text(found.traceback))


def _failed_attempt(hide: Redaction, found: FailedAttempt) -> FailedAttempt:
    return msgspec.structs.replace(found, failure=_failure(hide, found.failure))


def _event(hide: Redaction, found: FullEvent) -> FullEvent:
    runs = tuple(each._replace(run=_with_item_key(hide, each.run)) for each in found.runs)
    user = None if found.user is None else hide.json_text(found.user)
    return found._replace(data=hide.json_text(found.data), user=user, runs=runs)


def _awaited(hide: Redaction, found: Awaited) -> Awaited:
    return found._replace(event=_shown(hide, found.event))


def _awaited_event(hide: Redaction, found: AwaitedEvent) -> AwaitedEvent:
    value = _HIDDEN_JSON if found.path and hide.is_about(found.path) else hide.json_text(found.value)
    return found._replace(value=value, condition=None if found.condition is None else hide.text(found.condition))


def _with_item_key(hide: Redaction, found: WithItemKey) -> WithItemKey:
    return found if found.item_key is None else found._replace(item_key=hide.text(found.item_key))


def _family(hide: Redaction, found: Family) -> Family:
    found.replace_runs(lambda run: _with_item_key(hide, run))
    return found


def _statistics(hide: Redaction, found: Statistics) -> Statistics:
    return found._replace(errors=tuple(each._replace(message=hide.text(each.message)) for each in found.errors))


_WAYS: dict[type, Callable[[Redaction, Any], Any]] = {
    list: _list,
    Run: _run_or_step,
    Step: _run_or_step,
    Failure: _failure,
    FailedAttempt: _failed_attempt,
    FullEvent: _event,
    Awaited: _awaited,
    AwaitedEvent: _awaited_event,
    Relatives: _with_item_key,
    Family: _family,
    Statistics: _statistics,
}
