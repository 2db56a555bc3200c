"""When a failed attempt is made again. Randomness is an argument."""

from __future__ import annotations

from fanout.model import Backoff

# The table of Inngest's SDKs, in seconds; from the tenth retry on it stays at two hours.
TABLE = (15, 30, 60, 120, 300, 600, 1200, 2400, 3600, 7200)
TABLE_JITTER = 30.0


def delay_ms(attempt: int, policy: Backoff | tuple[float, ...] | None, random: float) -> int:
    """The wait in milliseconds after the failure of `attempt` (0-based).

    `policy` is a Backoff, a list of delays in seconds whose last one repeats, or None for the table.
    `random`, from 0 to 1, places the wait within the jitter.
    """
    match policy:
        case None:
            seconds = TABLE[min(attempt, len(TABLE) - 1)] + TABLE_JITTER * random
        case Backoff():
            # A float overflows long after any maximum is reached.
            exponent = min(attempt, 64)
            seconds = min(policy.initial * policy.factor**exponent, policy.maximum) + policy.jitter * random
        case delays:
            seconds = delays[min(attempt, len(delays) - 1)]
    return round(seconds * 1000)


def next_try(  # the whole question in one place: it is asked for steps and for the code between them
    attempt: int,
    max_attempts: int,
    *,
    is_retriable: bool,
    retry_after_ms: int | None,
    policy: Backoff | tuple[float, ...] | None,
    override_ms: int | None,
    now: int,
    random: float,
) -> int | None:
    """When to try again after the failure of `attempt` (0-based), or None if that was the last.

    A wait that the code asked for rules; then `override_ms`, which development sets; then the policy.
    """
    if not is_retriable or attempt + 1 >= max_attempts:
        return None
    if retry_after_ms is not None:
        return now + retry_after_ms
    if override_ms is not None:
        return now + override_ms
    return now + delay_ms(attempt, policy, random)
