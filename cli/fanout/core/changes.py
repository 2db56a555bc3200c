"""What is different between the functions that the code had and those that it has now, in a few words.

It looks at settings only: where a function stands in its file, and what its steps are, is no setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from fanout.durations import duration, period
from fanout.model import Backoff, CancelRule, CronTrigger, EventTrigger, FunctionSpec, Trigger

ADDED, REMOVED, CHANGED = "+", "-", "~"
_MOST_WORDS = 60
_BESIDE = {"module", "qualname", "file", "line", "app", "id", "steps"}
"""Where its code is, and what is in it."""


class Change(NamedTuple):
    """A function that is new (`+`), gone (`-`) or has other settings (`~`): `words` as in `retries 3 to 5`."""

    kind: str
    function: str
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.function}" + (f" ({', '.join(self.words)})" if self.words else "")


def changes(before: Mapping[str, FunctionSpec], after: Mapping[str, FunctionSpec]) -> tuple[Change, ...]:
    """New ones first, then those that have other settings, then those that are gone; each by its id."""
    added = [Change(ADDED, id_) for id_ in sorted(after.keys() - before.keys())]
    removed = [Change(REMOVED, id_, tuple(_stops(before[id_]))) for id_ in sorted(before.keys() - after.keys())]
    both = [(id_, tuple(_words(before[id_], after[id_]))) for id_ in sorted(before.keys() & after.keys())]
    return (*added, *(Change(CHANGED, id_, words) for id_, words in both if words), *removed)


def _stops(gone: FunctionSpec) -> Iterator[str]:
    """What a function that is gone had been doing by itself."""
    for trigger in gone.triggers:
        if isinstance(trigger, CronTrigger):
            yield f"cron {_trigger(trigger)} stops"


def _words(before: FunctionSpec, after: FunctionSpec) -> Iterator[str]:
    yield from _triggers(before.triggers, after.triggers)
    for name in FunctionSpec.__struct_fields__:
        if name in _BESIDE or name == "triggers":
            continue
        old, new = getattr(before, name), getattr(after, name)
        if old == new:
            continue
        if name in ("timeouts", "flow"):
            for part in type(new).__struct_fields__:
                yield from _change(part, getattr(old, part), getattr(new, part))
        else:
            yield from _change(name, old, new)


def _triggers(before: tuple[Trigger, ...], after: tuple[Trigger, ...]) -> Iterator[str]:
    """What no longer starts it, and what does now; one for one is said as a change."""
    gone = [each for each in before if each not in after]
    new = [each for each in after if each not in before]
    for kind, word in ((EventTrigger, "on"), (CronTrigger, "cron")):
        old_ones = [_trigger(each) for each in gone if isinstance(each, kind)]
        new_ones = [_trigger(each) for each in new if isinstance(each, kind)]
        if len(old_ones) == len(new_ones) == 1:
            yield f"{word} {old_ones[0]} to {new_ones[0]}"
        else:
            yield from (f"no more {word} {each}" for each in old_ones)
            yield from (f"{word} {each}" for each in new_ones)


def _change(name: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    label = _LABELS.get(name, name.replace("_", " "))
    if name in ("start_ms", "finish_ms", "step_ms"):
        old, new = (None if each is None else duration(each) for each in (old, new))
    if name == "schemas":
        yield "no event schema any more" if not new else "other event schema" if old else "event schema"
    elif name == "is_async":
        yield "async now" if new else "plain now"
    elif name == "concurrency" and len(old) <= 1 and len(new) <= 1:
        yield from _difference(label, old[0] if old else None, new[0] if new else None)
    else:
        yield from _difference(label, old, new)


def _difference(label: str, old: Any, new: Any) -> Iterator[str]:
    has_old, has_new = old not in (None, ()), new not in (None, ())
    if has_old and has_new:
        yield f"{label} {_value(old)} to {_value(new)}"
    elif has_new:
        yield f"{label} {_value(new)}"
    else:
        yield f"no {label} any more"


_LABELS = {
    "start_ms": "start timeout",
    "finish_ms": "finish timeout",
    "step_ms": "step timeout",
    "cancel_on": "cancelled by",
    "catchup_limit": "catchup limit",
}


def _trigger(trigger: Trigger) -> str:
    if isinstance(trigger, EventTrigger):
        return _text(trigger.name + ("" if trigger.if_ is None else f" if {trigger.if_}"))
    late = f" up to {duration(trigger.jitter_ms)} later" if trigger.jitter_ms else ""
    zone = "" if trigger.zone == "UTC" else f" {trigger.zone}"
    return _text(f"{trigger.expression}{zone}{late}")


def _value(value: Any) -> str:
    """As people write it in `@function`, in short."""
    match value:
        case bool() | int() | float():
            return f"{value:,}"
        case CancelRule():
            return _text(value.event + ("" if value.match is None else f" with the same {value.match}"))
        case Backoff():
            return f"{_seconds(value.initial)} times {value.factor:g} up to {_seconds(value.maximum)}"
        case msgspec.Struct():
            return _rule(value)
        case tuple():
            said = [_seconds(each) if isinstance(each, float) else _value(each) for each in value]
            return _text(" and ".join(said))
        case _:
            return _text(str(value))


def _rule(rule: msgspec.Struct) -> str:
    """A rule of flow control: `5 on event.data.user`, `10/m`, `30s`."""
    fields = msgspec.structs.asdict(rule)
    limit, every = fields.pop("limit", fields.pop("max_size", None)), fields.pop("period_ms", None)
    key, said = fields.pop("key", None), []
    if limit is not None:
        said.append(f"{limit:,}" + ("" if every is None else f"/{period(every)}"))
    elif every is not None:
        said.append(duration(every))
    usual = {field.name: field.default for field in msgspec.structs.fields(type(rule))}
    for name, value in fields.items():
        if value != usual[name]:
            shown = duration(value) if name.endswith("_ms") else str(value)
            said.append(f"{_SAID.get(name, name.removesuffix('_ms'))} {shown}")
    if key is not None:
        said.append(f"on {key}")
    return _text(" ".join(said) or "1 at a time")


_SAID = {"scope": "in the", "if_": "if", "timeout_ms": "within"}


def _seconds(seconds: float) -> str:
    return duration(round(seconds * 1000))


def _text(text: str) -> str:
    """On one line, and no longer than a part of one."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= _MOST_WORDS else f"{line[: _MOST_WORDS - 3]}..."
