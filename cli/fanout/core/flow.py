"""Flow control as decisions: who may start when, which runs share a limit, which event of several counts.

It knows the rules, times and keys that it is given: no clock, no journal, no queue.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from fanout.model import BatchRule, DebounceRule, RateLimitRule, ThrottleRule

MAX_KEY_CHARS = 200
MAX_PRIORITY_S = 600

# A kept arrival time is milliseconds, and below them the numerator of a fraction whose denominator is the limit, of
# which none is over a million. That keeps sevenths exact, fits SQLite's 64 bits until the year 2248, and means the same
# milliseconds when somebody has changed the limit since.
_FRACTION_BITS = 20
_FRACTION = (1 << _FRACTION_BITS) - 1

_encode = msgspec.json.encode
_SEQUENCE = "sequence:"
_BEGUN = "begun:"


class Verdict(NamedTuple):
    """May it start now? `tat` is to be kept for the next question; `allowed_at` is when to ask again, or `now`."""

    is_allowed: bool
    tat: int
    allowed_at: int


def gcra(tat: int | None, now: int, *, limit: int, period_ms: int, burst: int) -> Verdict:
    """Whether something may happen `now`, `limit` times in `period_ms`, up to `burst` times at once after a pause.

    The generic cell rate algorithm, as the virtual scheduling of ITU-T Recommendation I.371 has it: `tat` is the
    theoretical arrival time of the next one, which may come (burst - 1) intervals early. None is a first time.
    `tat` is opaque, and has to be kept when it is a new one, after a refusal too.

    Times are whole milliseconds, the interval (`period_ms` / `limit`) need not be: what starts in the first millisecond
    in which it may counts as in time, so 7 a second are 7 in every second. Any `w` whole milliseconds have fewer than
    burst + w / interval of them.

    A clock that has stepped back makes nobody wait for longer than an interval: no `tat` is believed that is further
    ahead than a whole burst reaches.
    """
    # All in parts of 1 / limit milliseconds: an interval has `period_ms` of them.
    arrival = now * limit
    tolerance = (burst - 1) * period_ms
    expected = arrival if tat is None else min(_parts(tat, limit), arrival + tolerance + period_ms)
    if expected > arrival + tolerance:
        return Verdict(is_allowed=False, tat=_kept(expected, limit), allowed_at=-((tolerance - expected) // limit))
    is_in_time = expected > arrival - limit
    return Verdict(is_allowed=True, tat=_kept((expected if is_in_time else arrival) + period_ms, limit), allowed_at=now)


def throttle(tat: int | None, now: int, rule: ThrottleRule) -> Verdict:
    """Whether a run may start now. With a burst of 1, starts are one interval apart."""
    return gcra(tat, now, limit=rule.limit, period_ms=rule.period_ms, burst=rule.burst)


def throttled_until(tat: int | None, now: int, rule: ThrottleRule, ahead: int) -> int:
    """When a run may start that so many others start before, each as early as it may: `now`, or later."""
    arrival, tolerance = now * rule.limit, (rule.burst - 1) * rule.period_ms
    expected = (
        arrival if tat is None else min(max(_parts(tat, rule.limit), arrival), arrival + tolerance + rule.period_ms)
    )
    return max(now, -((tolerance - expected - ahead * rule.period_ms) // rule.limit))


def rate_limit(tat: int | None, now: int, rule: RateLimitRule) -> Verdict:
    """Whether an event gets its run. The whole limit may come at once, and each interval gives back one."""
    return gcra(tat, now, limit=rule.limit, period_ms=rule.period_ms, burst=rule.limit)


def spent_tat(now: int) -> int:
    """A `tat` up to this one is as good as none, and need not be kept."""
    return now << _FRACTION_BITS


def _parts(tat: int, limit: int) -> int:
    return (tat >> _FRACTION_BITS) * limit + min(tat & _FRACTION, limit - 1)


def _kept(parts: int, limit: int) -> int:
    milliseconds, fraction = divmod(parts, limit)
    return milliseconds << _FRACTION_BITS | fraction


def key_text(value: Any) -> str:
    """The text of what a key's expression gives: equal for what CEL calls equal, at most 200 characters.

    1 and 1.0 are equal, "1" is another key. A missing path and null are one key of their own, `null`. What would be
    longer is its SHA-256.
    """
    text = _canonical(value)
    if len(text) <= MAX_KEY_CHARS:
        return text
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _canonical(value: Any) -> str:
    """JSON's own text where JSON has such a value; what it has not begins like nothing in JSON."""
    match value:
        case None | bool() | str():
            text = _encode(value).decode()
        case int():
            text = str(value)
        case float():
            text = str(int(value)) if value.is_integer() else repr(value)
        case list() | tuple():
            text = f"[{','.join(map(_canonical, value))}]"
        case dict():
            pairs = sorted((_canonical(name), _canonical(each)) for name, each in value.items())
            text = f"{{{','.join(f'{name}:{each}' for name, each in pairs)}}}"
        case datetime():
            text = f"timestamp({value.astimezone(UTC).isoformat()})"
        case timedelta():
            text = f"duration({value // timedelta(microseconds=1)}us)"
        case bytes() | bytearray():
            text = f"bytes({value.hex()})"
        case _:
            text = f"{type(value).__name__}({value})"
    return text


def partition(concurrency_keys: Sequence[str], throttle_key: str | None, *, is_sequence: bool = False) -> str:
    """What `run.partition` has of a run: equal for the runs of a function that share every limit. "" is no keys.

    `is_sequence`: they also begin one after the other, each when the one before has ended.
    """
    keys = _encode([*concurrency_keys, throttle_key]).decode() if concurrency_keys or throttle_key is not None else ""
    return _SEQUENCE + keys if is_sequence else keys


def is_sequence(partition: str) -> bool:
    return partition.startswith(_SEQUENCE)


def begun(of: str) -> str:
    """The partition of runs of this one that have begun: only concurrency holds them up."""
    return _BEGUN + partition(keys_of(of)[0], None)


def is_begun(partition: str) -> bool:
    return partition.startswith(_BEGUN)


def keys_of(partition: str) -> tuple[tuple[str, ...], str | None]:
    """The concurrency keys and the throttle key that `partition` was made of."""
    keys = partition.removeprefix(_SEQUENCE).removeprefix(_BEGUN)
    if not keys:
        return (), None
    *concurrency_keys, throttle_key = msgspec.json.decode(keys, type=list[str | None])
    return tuple(key for key in concurrency_keys if key is not None), throttle_key


def rank(now: int, priority_s: Any) -> int:
    """The place in the queue: as if queued `priority_s` seconds earlier, -600 to 600. What is no number is 0."""
    if isinstance(priority_s, bool) or not isinstance(priority_s, int | float):
        return now
    seconds: float = min(max(priority_s, -MAX_PRIORITY_S), MAX_PRIORITY_S)
    return now if math.isnan(seconds) else now - round(seconds * 1000)


def debounced(first_at: int, now: int, rule: DebounceRule) -> int:
    """When the run of a debounced event is due: the wait begins anew with each, up to a bound from the first one."""
    due_at = now + rule.period_ms
    return due_at if rule.timeout_ms is None else min(due_at, first_at + rule.timeout_ms)


def replaces(old_ts: int, new_ts: int) -> bool:
    """Whether an event that has just come is the newest so far; of two that are as new it is the later arrival."""
    return new_ts >= old_ts


def is_full(size: int, rule: BatchRule) -> bool:
    """Whether a batch starts now, whatever time it has left."""
    return size >= rule.max_size


def batch_due(first_at: int, rule: BatchRule) -> int:
    """When a batch starts that is not full: its time runs from its first event and is not extended."""
    return first_at + rule.timeout_ms
