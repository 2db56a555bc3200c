"""Whether what a worker says of its functions can be worked with.

Declarations have checked all of it where somebody wrote it, but what speaks our protocol need not be our worker. What
numbers may be is said by their types, and asked where messages are decoded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import msgspec

from fanout.errors import CronError, ExpressionError
from fanout.model import CronTrigger, EventTrigger, FunctionSpec


def complaint(functions: Sequence[FunctionSpec]) -> str | None:
    """What is wrong with the first that can't be worked with, as a sentence; None if all can."""
    if not functions:
        return "it has no function"
    (id_, times), *_ = Counter(spec.id for spec in functions).most_common(1)
    if times > 1:
        return f"two functions have the id `{id_}`"
    for spec in functions:
        wrong = next(_wrong(spec), None)
        if wrong is not None:
            return f"function `{spec.id}`: {wrong}"
    return None


def _wrong(spec: FunctionSpec) -> Iterator[str]:
    if not spec.local_id or not spec.id.isprintable() or set(spec.local_id) & set(" /*"):
        yield f"the id is {spec.id!r}"
    for trigger in spec.triggers:
        if isinstance(trigger, CronTrigger):
            yield from _wrong_cron(trigger, spec.id)
    yield from _wrong_expressions(spec)
    for each in spec.schemas:
        try:
            msgspec.json.decode(each.schema)
        except (msgspec.DecodeError, RecursionError):
            yield "an event's schema is not JSON"


def _wrong_cron(trigger: CronTrigger, seed: str) -> Iterator[str]:
    from fanout.core import cron  # lazy: only a function with a schedule needs it

    try:
        cron.parse(trigger.expression, trigger.zone, seed)
    except CronError as error:
        yield error.message


def _wrong_expressions(spec: FunctionSpec) -> Iterator[str]:
    rules = spec.flow
    keyed = (*rules.concurrency, rules.throttle, rules.rate_limit, rules.debounce, rules.batch, rules.singleton)
    of_events = [
        *(each.if_ for each in spec.triggers if isinstance(each, EventTrigger)),
        *(rule.key for rule in keyed if rule is not None),
        None if rules.batch is None else rules.batch.if_,
        rules.priority,
        rules.idempotency,
    ]
    of_waits = [rule.if_ for rule in spec.cancel_on]
    if not any(each is not None for each in (*of_events, *of_waits)):
        return
    from fanout.core import expressions  # lazy: CEL is slow to import, and few functions use it

    parse_of_waits = partial(expressions.parse, variables=expressions.IN_WAITS)
    for sources, parse in ((of_events, expressions.parse), (of_waits, parse_of_waits)):
        for source in sources:
            try:
                if source is not None:
                    parse(source)
            except ExpressionError as error:
                yield error.message
