"""Which traces are exported, as OpenTelemetry's samplers decide: all that take part in one decide alike."""

from __future__ import annotations

from typing import NamedTuple

_LOW_BITS = 2**64 - 1


class Sampling(NamedTuple):
    share: float = 1.0
    """So many of them, by their ids."""
    asks_sender: bool = True
    """One that has come with an event is exported if its sender's part of it is."""

    def takes(self, trace: int, *, is_sent: bool | None = None) -> bool:
        """Whether this trace is exported. `is_sent`: what its sender says of that, if it has one."""
        if is_sent is not None and self.asks_sender:
            return is_sent
        return trace & _LOW_BITS < round(self.share * (_LOW_BITS + 1))


EVERYTHING = Sampling()
