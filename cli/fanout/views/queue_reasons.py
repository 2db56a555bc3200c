"""Why a queued run has not begun: limits, throttles, and those before it, as the journal has them."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fanout.core import flow
from fanout.core.places import THROTTLE, TICKS, Place, places_of
from fanout.core.redaction import HIDDEN
from fanout.journal.functions import Queued
from fanout.journal.sqlite_functions import MOST_AHEAD
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import ConcurrencyRule, FunctionSpec, Run, ThrottleRule
from fanout.views import words

TICK_BEFORE = "tick-before"
_MOST_NAMED = 3


class Reason(NamedTuple):
    """`words` go on after the function's name, as in "waits for ...". `code` is the same for ever.

    `until`: when that ends, or may. `held_by`: the runs that are in the way. `ahead`: how many are before it.
    """

    code: str
    words: str
    until: int | None = None
    held_by: tuple[str, ...] = ()
    ahead: int | None = None
    hint: str | None = None


def reason(reader: JournalReader, run: Run, spec: FunctionSpec | None, now: int) -> Reason:
    """What stands in the way of a queued run that an engine would start; the function is unknown to old journals."""
    queued = reader.queued(run.key)
    found = None
    if spec is not None:
        found = _behind(reader, spec, queued) or _full(reader, spec, queued)
        if found is None and spec.flow.throttle is not None and not queued.has_begun:
            found = _throttled(reader, spec, spec.flow.throttle, queued, now)
    return found or _in_line(queued)


def _behind(reader: JournalReader, spec: FunctionSpec, queued: Queued) -> Reason | None:
    """Of a tick's run: the run of the tick before, until that is over."""
    if queued.has_begun or not flow.is_sequence(queued.partition):
        return None
    going = tuple(reader.going(spec.id, TICKS))
    if not going:
        return None
    sentence = f"waits for the end of the tick before: {_named(going)}"
    return Reason(TICK_BEFORE, sentence, held_by=going, ahead=queued.ahead)


def _full(reader: JournalReader, spec: FunctionSpec, queued: Queued) -> Reason | None:
    """The first of the places that it needs which others have all of."""
    places = list(places_of(spec, queued.partition))
    holders = _holders(reader) if places else {}
    for (place, limit), rule in zip(places, spec.flow.concurrency, strict=False):
        held_by = tuple(holders.get(place, ()))
        if len(held_by) < limit:
            continue
        slots = "the only slot" if limit == 1 else f"1 of {limit:,} slots"
        sentence = f"waits for {slots} of {_owner(spec, rule)}{key_in_words(reader, rule.key, place.key)}"
        return Reason("concurrency", f"{sentence}: held by {_named(held_by)}", held_by=held_by, ahead=queued.ahead)
    return None


def _holders(reader: JournalReader) -> dict[Place, list[str]]:
    """The runs that execute, by the places that they hold. One that began a moment ago is not known yet."""
    specs: dict[str, FunctionSpec | None] = {}
    found: dict[Place, list[str]] = {}
    for run in reader.executing():
        if run.function not in specs:
            known = reader.function(run.function)
            specs[run.function] = None if known is None else known.spec
        spec = specs[run.function]
        if spec is not None:
            for place, _ in places_of(spec, run.partition):
                found.setdefault(place, []).append(run.id)
    return found


def _owner(spec: FunctionSpec, rule: ConcurrencyRule) -> str:
    return f"app `{words.printable(spec.app)}`" if rule.scope == "app" else f"`{words.printable(spec.id)}`"


def key_in_words(reader: JournalReader, expression: str | None, key: str) -> str:
    """` with key acct_7`, or nothing where there is no such expression. Keys are JSON text."""
    if expression is None:
        return ""
    if reader.hides(expression):
        return f" with key `{HIDDEN}`"
    try:
        value = msgspec.json.decode(key)
    except msgspec.DecodeError:
        value = key  # of what JSON has not, or too long to be kept whole
    return f" with key `{words.first_line(value if isinstance(value, str) else key, 60)}`"


def _named(ids: tuple[str, ...]) -> str:
    named = [words.short_id(id_) for id_ in ids[:_MOST_NAMED]]
    if len(ids) > _MOST_NAMED:
        return f"{', '.join(named)} and {len(ids) - _MOST_NAMED:,} more"
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


def _throttled(
    reader: JournalReader, spec: FunctionSpec, rule: ThrottleRule, queued: Queued, now: int
) -> Reason | None:
    keys, key = flow.keys_of(queued.partition)
    until = flow.throttled_until(reader.limit_value(spec.id, THROTTLE, key or ""), now, rule, queued.ahead)
    if until <= now:
        return None
    # Others may share the throttle, and what is before it may be held up by something else.
    about = "about " if queued.ahead or any(keys) else ""
    behind = f", behind {_runs(queued.ahead)}" if queued.ahead else ""
    sentence = f"is throttled until {about}{words.clock(until)}{key_in_words(reader, rule.key, key or '')}{behind}"
    return Reason("throttle", sentence, until=until, ahead=queued.ahead)


def _in_line(queued: Queued) -> Reason:
    if queued.ahead:
        return Reason("queue", f"is queued behind {_runs(queued.ahead)}", ahead=queued.ahead)
    if queued.is_alone:
        return Reason("alone", "is next: a worker died that it was in, so it waits for one of its own", ahead=0)
    goes_on = "goes on" if queued.has_begun else "begins"
    return Reason("slot", f"is next: it {goes_on} as soon as a worker has a free slot", ahead=0)


def _runs(number: int) -> str:
    return f"{MOST_AHEAD:,} runs or more" if number >= MOST_AHEAD else words.count(number, "run")
