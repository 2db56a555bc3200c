"""What people are told about a journal as a whole: how large it is, and whether it is whole. No SQL."""

from __future__ import annotations

from typing import NamedTuple

from fanout.journal.pruning import Pruned
from fanout.model import RunState


class Information(NamedTuple):
    """Sizes are bytes, times milliseconds UTC. `oldest_run` and `newest_run` are (id, queued_at)."""

    schema_version: int
    file_bytes: int
    log_bytes: int
    free_bytes: int
    is_shrinkable: bool
    rows: dict[str, int]
    runs: dict[RunState, int]
    oldest_run: tuple[str, int] | None
    newest_run: tuple[str, int] | None
    prunable: Pruned


class Finding(NamedTuple):
    """What a check has found. `samples` are a few of the `number` things that are not as `rule` says."""

    check: str
    rule: str
    number: int
    samples: tuple[str, ...]
