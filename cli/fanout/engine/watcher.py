"""Hears that source files were saved, in a thread of its own. What that means is for others to decide."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from fanout.config import Config
from fanout.engine.sources import Sources

SETTLE_MS = 50
"""A save may be several changes: it is told when there has been none for so long."""
_MOST_MS = 500
"""But not later than that after the first one."""
_LOOK_MS = 1_000
"""What changes between a look at all files and the beginning of hearing is found by another look, so much later."""
_POLL_S = 1.0


class Watcher:
    """Watches the folders that have sources, each by itself: what happens in all others costs nothing."""

    def __init__(self, config: Config, on_change: Callable[[], None], *, since_ns: int | None = None) -> None:
        """From now on, or since then as far as times of files tell.

        `on_change` is called in the watcher's thread whenever there is something to take.
        """
        self._on_change = on_change
        self._lock = threading.Lock()
        self._changed: set[Path] = set()
        self._config, self._since_ns = config, time.time_ns()
        self._sources = Sources(config)
        self._sources.look()
        if since_ns is not None:
            self._changed = self._sources.written_since(since_ns)
        self._is_closing = False
        self._again = threading.Event()
        self.trouble: str | None = None
        """Why the system does not tell of changes; they are then looked for, which takes longer."""
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def take(self) -> frozenset[Path]:
        """The source files that have changed since the last call: written, made, removed. `fanout.toml` is one."""
        with self._lock:
            taken, self._changed = frozenset(self._changed), set()
        return taken

    def watch(self, config: Config) -> None:
        """From now on what these settings say."""
        with self._lock:
            self._config, self._since_ns = config, time.time_ns()
            self._again.set()

    def close(self) -> None:
        with self._lock:
            self._is_closing = True
            self._again.set()
        self._thread.join()

    # In the thread.

    def _run(self) -> None:
        config, sources = self._config, self._sources
        while True:
            with self._lock:
                if self._is_closing:
                    return
                stop = self._again = threading.Event()
                is_other, config, since_ns = self._config is not config, self._config, self._since_ns
            if is_other:
                sources, changed = sources.under(config, since_ns)
                self._tell(changed)
            try:
                self._listen(sources, stop)
            except FileNotFoundError:
                pass  # A folder has gone just now.
            except (OSError, RuntimeError, ValueError) as error:
                self.trouble = str(error)
                stop.wait(_POLL_S)
            self._tell(sources.look())

    def _listen(self, sources: Sources, stop: threading.Event) -> None:
        """Until there are other folders to watch, or other settings."""
        from watchfiles import watch  # lazy: only development needs it

        has_looked = False
        for changes in watch(
            *sorted(sources.folders),
            watch_filter=lambda _kind, path: sources.concern(path),
            debounce=_MOST_MS,
            step=SETTLE_MS,
            stop_event=stop,
            rust_timeout=_LOOK_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
            recursive=False,
            ignore_permission_denied=True,
        ):
            if not changes and has_looked:
                continue
            paths = {path for _, path in changes}
            if sources.has_other_folders(paths):
                return
            if changes:
                self._tell(sources.changed(path for path in paths if path not in sources.folders))
            else:
                before = sources.folders
                self._tell(sources.look())
                has_looked = True
                if sources.folders != before:
                    return

    def _tell(self, changed: set[Path]) -> None:
        if changed:
            with self._lock:
                self._changed |= changed
            self._on_change()
