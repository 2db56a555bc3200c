"""What throttles and rate limits are compared with: the rule as the recommendation has it, in other words than ours."""

from __future__ import annotations

from fanout.model import RateLimitRule, ThrottleRule


class Gcra:
    """The virtual scheduling of ITU-T I.371, for intervals of whole milliseconds and a clock that may step back."""

    def __init__(self, interval_ms: int, burst: int) -> None:
        self.interval_ms = interval_ms
        self.tolerance_ms = (burst - 1) * interval_ms
        self.expected = 0

    def allows(self, now: int) -> bool:
        self.expected = min(self.expected, now + self.tolerance_ms + self.interval_ms)
        if now < self.expected - self.tolerance_ms:
            return False
        self.expected = max(now, self.expected) + self.interval_ms
        return True

    @classmethod
    def of(cls, rule: RateLimitRule | ThrottleRule) -> Gcra:
        burst = rule.burst if isinstance(rule, ThrottleRule) else rule.limit
        return cls(rule.period_ms // rule.limit, burst)
