"""One `fanout dev watch`: an engine with schedules, a watcher of its code, the web process, the live log and keys."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from types import FrameType
from typing import Any, NamedTuple

import msgspec

from fanout import config as config_
from fanout.client import Connection
from fanout.commands import text, waiting
from fanout.commands.live.facts import Fact, tells_of_failure, without_secrets
from fanout.commands.live.json import fact_json
from fanout.commands.live.lines import Lines
from fanout.commands.live.log import FOR_PEOPLE, FOR_PROGRAMS, LiveLog
from fanout.commands.live.names import Names
from fanout.commands.live.screen import Screen
from fanout.commands.watching.dashboard import Dashboard
from fanout.commands.watching.keys import Keyboard
from fanout.commands.watching.reloads import reload_json, reload_lines, reload_without_secrets
from fanout.config import Config
from fanout.core.redaction import redaction_of
from fanout.engine.local import LocalEngine
from fanout.engine.loop import Engine
from fanout.engine.reloads import Reloaded
from fanout.engine.watcher import Watcher
from fanout.errors import ConfigError, FanoutError
from fanout.journal.filters import EVERY_RUN, RunFilter
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import RunState
from fanout.protocol import Logged

_LOOK_EVERY_S = 0.1
_KEYS = "r replay  f failed only  o dashboard  c clear  ? keys  q quit"
_KEYS_IN_FULL = (
    "r  replay the run that failed last, or the last one",
    "f  show only what fails, or all again",
    "o  open the dashboard",
    "c  clear the screen",
    "q  quit, as Ctrl-C does; twice: at once",
)


class Asked(NamedTuple):
    """What was said on the command line."""

    host: str | None
    port: int | None
    has_web: bool
    is_failed_only: bool
    as_json: bool


def watch(own: LocalEngine, settings: Config, asked: Asked) -> int:
    """Run until somebody quits; the exit code. It closes the engine."""
    with ExitStack() as stack:
        stack.enter_context(own)
        screen = Screen()
        stack.callback(screen.close)
        stack.enter_context(_HangUps(own))
        keyboard = stack.enter_context(Keyboard(is_wanted=not asked.as_json))
        session = _Session(own, settings, asked, screen, keyboard)
        stack.callback(session.close)
        return session.run()


class _Session:
    def __init__(self, own: LocalEngine, settings: Config, asked: Asked, screen: Screen, keyboard: Keyboard) -> None:
        self._own = own
        self._config = settings
        self._asked = asked
        self._screen = screen
        self._keyboard = keyboard
        self._lines = Lines(width=None, has_colour=_has_colour(), is_failed_only=asked.is_failed_only)
        self._next = 0.0
        self._has_changed = False
        self._is_quitting = False
        self._is_config_broken = False
        self._is_troubled = False
        self._is_serving = False
        self._dashboard: Dashboard | None = None
        self._hide()
        own.pool.on_output = lambda line: screen.say(text.printable(line))
        self._engine: Engine = own.open(is_development=True, has_reloads=True)
        self._reader = JournalReader(settings.journal, redact=settings.redact)
        self._log = LiveLog(
            Names(self._reader),
            self._engine.routed_to,
            self._tell,
            pace=FOR_PROGRAMS if asked.as_json else FOR_PEOPLE,
            clock=text.now,
        )
        self._log.on_busy = self._lines.forget_runs
        self._stopping = waiting.Stopping(own, screen.say)
        self._listen()
        # The first workers may have loaded what was there a moment before.
        self._watcher = Watcher(settings, self._note_change, since_ns=own.began_ns)
        self._has_changed = True

    def _listen(self) -> None:
        keep = self._own.pool.on_printed

        def printed(lines: list[Logged]) -> None:
            keep(lines)
            self._log.printed(lines)

        self._own.pool.on_printed = printed
        self._own.pool.on_output = self._log.output
        self._engine.on_commit = self._log.committed
        self._own.on_reloaded = self._tell_reloaded

    def close(self) -> None:
        self._engine.on_commit = None
        self._watcher.close()
        if self._dashboard is not None:
            self._dashboard.close()
        self._reader.__exit__()

    def run(self) -> int:
        if self._asked.has_web:
            self._dashboard = Dashboard(self._config, self._asked.host, self._asked.port, self._screen.say)
        self._say_what_runs()
        self._own.run(lambda: False, on_tick=self._look)
        now = text.now()
        self._log.end(now)
        self._print_lines(now, is_last=True)
        self._screen.say("stopped; what was left goes on next time")
        if self._screen.is_gone:
            raise BrokenPipeError
        return 0 if self._is_quitting else 130

    def _say_what_runs(self) -> None:
        apps = ", ".join(f"`{app.id}`" for app in self._config.apps)
        self._screen.say(f"watching the code of {apps}; {'q' if self._keyboard.is_there else 'Ctrl-C'} stops")
        delay = self._config.dev_retry_delay
        if delay is not None:
            self._screen.say(f"retries come after {text.duration(round(delay * 1000))}: `[dev] retry_delay`")
        if self._dashboard is not None:
            self._dashboard.say_where()
        if self._keyboard.is_there:
            self._screen.say(f"keys: {_KEYS}")

    # With each tick.

    def _look(self) -> None:
        moment = time.monotonic()
        if self._has_changed and not self._engine.is_stopping:
            self._reload()
        if moment < self._next:
            return
        self._next = moment + _LOOK_EVERY_S
        if self._screen.is_gone and not self._own.stopped_by:
            signal.raise_signal(signal.SIGINT)  # Nobody reads any more, but what executes may end.
        self._stopping.look()
        if self._dashboard is not None:
            self._dashboard.look()
        if self._watcher.trouble is not None and not self._is_troubled:
            self._is_troubled = True
            self._screen.say(f"saves are looked for each second, as the system tells of none: {self._watcher.trouble}")
        if not self._is_serving and self._engine.functions:
            self._begin_serving()
        for key in self._keyboard.read():
            self._press(key)
        now = text.now()
        self._log.look(now)
        self._print_lines(now)

    def _begin_serving(self) -> None:
        self._is_serving = True
        self._lines.fit(self._engine.functions)
        if self._asked.as_json:
            url = None if self._dashboard is None else self._dashboard.url
            self._print_json({
                "kind": "serving", "at": text.now(), "functions": sorted(self._engine.functions), "url": url,
                "pid": os.getpid(),
            })  # fmt: skip
        else:
            self._screen.say(f"serving {text.count(len(self._engine.functions), 'function')}")

    def _tell(self, fact: Fact, now: int) -> None:
        if self._config.redact:
            fact = without_secrets(self._config.redact, fact)
        if self._asked.as_json:
            if tells_of_failure(fact) or not self._asked.is_failed_only:
                self._print_json(fact_json(fact))
        else:
            self._lines.add(fact, now)

    def _print_lines(self, now: int, *, is_last: bool = False) -> None:
        if not self._asked.as_json:
            self._lines.width = _width()
            self._screen.print_lines(self._lines.flush(now, is_last=is_last))

    def _print_json(self, said: dict[str, Any]) -> None:
        self._screen.print_lines([msgspec.json.encode(said).decode()])

    # Reloads.

    def _note_change(self) -> None:
        """Called in the watcher's thread."""
        self._has_changed = True
        self._own.wake()

    def _reload(self) -> None:
        self._has_changed = False
        changed = self._watcher.take()
        if not changed:
            return
        before = self._config
        if before.path in changed:
            try:
                self._config = config_.load(before.path)
            except ConfigError as error:
                self._is_config_broken = True
                self._tell_reloaded(Reloaded("", error=error))
                if changed == {before.path}:
                    return
            else:
                self._watcher.watch(self._config)
                self._hide()
                if self._is_config_broken and self._config == before:
                    self._tell_reloaded(Reloaded(""))
                self._is_config_broken = False
        self._own.reload(self._config, changed)
        if self._dashboard is not None and self._config != before:
            self._dashboard.have(self._own.config)

    def _hide(self) -> None:
        """What is said from now on is without what stands under the keys as they are now."""
        self._screen.hide = redaction_of(self._config.redact).text

    def _tell_reloaded(self, reloaded: Reloaded) -> None:
        self._lines.fit(self._engine.functions)
        if self._config.redact:
            reloaded = reload_without_secrets(self._config.redact, reloaded)
        if self._asked.as_json:
            self._print_json(reload_json(reloaded, text.now()))
            return
        app = reloaded.app if len(self._config.apps) > 1 else ""
        has_code = bool(self._engine.functions)
        for line in reload_lines(reloaded, app, has_code=has_code, has_colour=_has_colour(err=True)):
            self._screen.say(line)

    # Keys.

    def _press(self, key: str) -> None:
        match key:
            case "q":
                self._is_quitting = True
                signal.raise_signal(signal.SIGINT)
            case "r":
                self._replay()
            case "f":
                self._lines.is_failed_only = not self._lines.is_failed_only
                is_only = self._lines.is_failed_only
                self._screen.say("only what fails is shown; f shows all again" if is_only else "all is shown again")
            case "o":
                if self._dashboard is None:
                    self._screen.say("there is no dashboard: `--no-web` was given")
                else:
                    self._dashboard.show()
            case "c":
                self._screen.clear()
            case "?" | "h":
                for line in _KEYS_IN_FULL:
                    self._screen.say(line)

    def _replay(self) -> None:
        """What failed goes on where it broke; what has completed begins from its start, or nothing would happen."""
        failed = self._log.last_failed or self._newest(RunFilter(states=frozenset({RunState.FAILED})))
        key = failed or self._log.last_run or self._newest(EVERY_RUN)
        found = [] if key is None else self._reader.runs_by_key([key])
        if not found:
            self._screen.say("there is no run to replay yet")
            return
        run = found[0]
        is_failed = run.state is RunState.FAILED
        asked = {
            "runs": [run.key], "again": True, "from_start": not is_failed, "from_step": None, "set": {},
            "interval_ms": None,
        }  # fmt: skip
        try:
            with Connection(self._own.config.journal) as client:
                client.request("replay", asked)
        except FanoutError as error:
            self._screen.say(f"error: {text.printable(error.message)}")
            return
        self._log.last_failed = None
        self._log.last_run = run.key
        how = "which failed: steps that completed are not repeated" if is_failed else "from its start"
        self._screen.say(f"replaying {text.printable(run.function)} {text.short_id(run.id)}, {how}")

    def _newest(self, meant: RunFilter) -> int | None:
        """Of those that ended before this began."""
        found = [] if self._log.last_run is not None else self._reader.runs(meant, limit=1, outputs=False)
        return found[0].key if found and found[0].state.is_final else None


class _HangUps:
    """A terminal that is closed, or a SIGTERM outside of the engine's own loop, ends everything in good order."""

    def __init__(self, own: LocalEngine) -> None:
        self._own = own

    def __enter__(self) -> None:
        self._before = {
            signal.SIGHUP: signal.signal(signal.SIGHUP, self._pass_on),
            signal.SIGTERM: signal.signal(signal.SIGTERM, self._interrupt),
        }

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _pass_on(self, _number: int, _frame: FrameType | None) -> None:
        """A terminal that is closed may say so more than once: that is not somebody who asks again."""
        if not self._own.stopped_by:
            signal.raise_signal(signal.SIGTERM)

    @staticmethod
    def _interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt


def _has_colour(*, err: bool = False) -> bool:
    stream = sys.stderr if err else sys.stdout
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _width() -> int | None:
    """Of the terminal as it is now; a pipe has no edge."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or os.environ.get("COLUMNS") else None
