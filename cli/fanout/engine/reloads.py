"""What a save means for an engine that runs: which apps it concerns, what takes effect now, and what came of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from fanout.config import Config
from fanout.core.changes import CHANGED, Change
from fanout.durations import duration
from fanout.errors import ConfigError, LoadError

SETTINGS = "fanout.toml"


class Reloaded(NamedTuple):
    """What came of a reload. Settings that belong to no app have an empty `app`, and no changes if they are as before.

    With an `error` what was there before goes on, until the next save. No changes: other code with the same settings.
    `hint` says what has to be done for the rest to take effect.
    """

    app: str
    error: LoadError | ConfigError | None = None
    changes: tuple[Change, ...] = ()
    took_ms: int = 0
    hint: str | None = None


def concerned(before: Config, after: Config, changed: Collection[Path]) -> set[str]:
    """The apps whose code has to be loaded again: other files under their root, or other settings of their own."""
    known = {app.id: app for app in before.apps}
    return {
        app.id
        for app in after.apps
        if known.get(app.id) != app
        or before.has_prefixes != after.has_prefixes
        or any(path.suffix == ".py" and path.is_relative_to(app.root) for path in changed)
    }


def settings_changed(before: Config, after: Config) -> Reloaded | None:
    """What the settings that belong to no app say now; None if they are what they were."""
    words = tuple(_words(before, after))
    later = [name for name, old, new in _later(before, after) if old != new]
    hint = f"{' and '.join(later)} take{'s' if len(later) == 1 else ''} effect at the next start" if later else None
    if not words and hint is None:
        return None
    return Reloaded("", changes=(Change(CHANGED, SETTINGS, words),) if words else (), hint=hint)


def with_what_stays(before: Config, after: Config) -> Config:
    """The settings from now on: what can't change while an engine runs stays as it was."""
    import msgspec  # lazy: where it is needed, it is there already

    return msgspec.structs.replace(after, journal=before.journal, otel=before.otel)


def _later(before: Config, after: Config) -> Iterator[tuple[str, object, object]]:
    yield "`[journal] path`", before.journal, after.journal
    yield "`[otel] enabled`", before.otel, after.otel


def _words(before: Config, after: Config) -> Iterator[str]:
    for name, old, new in (
        ("processes", f"{before.processes}", f"{after.processes}"),
        ("slots", f"{before.slots}", f"{after.slots}"),
        ("park", _seconds(before.park), _seconds(after.park)),
        ("keep_completed", _seconds(before.keep_completed), _seconds(after.keep_completed)),
        ("keep_failed", _seconds(before.keep_failed), _seconds(after.keep_failed)),
        ("host", before.host, after.host),
        ("port", f"{before.port}", f"{after.port}"),
    ):
        if old != new:
            yield f"{name} {old} to {new}"
    old_delay, new_delay = before.dev_retry_delay, after.dev_retry_delay
    if old_delay != new_delay:
        yield "no retry_delay any more" if new_delay is None else f"retry_delay {_seconds(new_delay)}"
    if before.redact != after.redact:
        yield "other keys to redact"


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else duration(round(seconds * 1000))
