"""What an engine may be told, besides what is in its journal."""

from __future__ import annotations

import msgspec

from fanout.core.retention import Keep
from fanout.core.sampling import Sampling

DEFAULT_PARK_MS = 5_000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`has_prefixes`: the ids of functions begin with their app's."""

    processes: int
    slots: int
    has_prefixes: bool = False
    retry_delay_ms: int | None = None
    """Replaces every backoff, in development."""
    park_ms: int = DEFAULT_PARK_MS
    """How long executions whose branches all wait are kept in their worker."""
    keep: Keep | None = None
    """How long what is over is kept in the journal; None is for ever."""
    has_schedules: bool = True
    """Cron triggers tick, which would keep an engine that is there for one command from ending."""
    sampling: Sampling | None = None
    """With traces: events of the engine's own say which span they come from."""
    has_reloads: bool = False
    """Code that can't be loaded is waited for, as somebody is about to mend it, and newer code is adopted."""
