"""What `send`, `invoke`, `replay` and `cancel` share: put something into the journal, and wait for what it causes.

With an engine running elsewhere they follow that one; without, they are the engine. If the one they follow
goes away, they take over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from fanout import config as config_
from fanout.client import Client
from fanout.commands.app import say
from fanout.commands.main import take_early_engine
from fanout.commands.report import LiveReport
from fanout.commands.text import printable
from fanout.config import Config
from fanout.engine.local import GRACE_S, Ending, LocalEngine
from fanout.errors import JournalBusyError, LoadError
from fanout.journal.family import Progress, Watched
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import EventTrigger

Put = Callable[[Client], Watched]


class Waited:
    """How the waiting ended, and what there is to say about it."""

    def __init__(self) -> None:
        self.ending = Ending.DONE
        self.has_engine = False
        """An engine elsewhere goes on with what is left."""
        self.stranded: set[str] = set()
        """Functions with queued runs that the code does not have."""
        self.listening: list[str] = []
        """The event names that functions listen to, if this process was the engine."""
        self.functions: list[str] = []
        """The functions that the code has, if this process was the engine."""


def project(explicit: str | None) -> Config:
    """The project's settings: of `--config`, of FANOUT_CONFIG, or of the nearest fanout.toml."""
    return config_.load(config_.find(Path.cwd(), explicit))


def put_and_wait(config: Config, put: Put, *, timeout_s: float | None, is_quiet: bool) -> tuple[Watched, Waited]:
    """Put something into the journal by `put`, which is called once, and wait for what it says to watch."""
    waited = Waited()
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    watched: Watched | None = None
    while True:
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        engine = take_early_engine() or _own_engine(config)
        if engine is not None:
            with engine:
                return _run(engine, put, watched, waited, remaining, is_quiet=is_quiet), waited
        waited.has_engine = True
        with Client(config.journal) as client:
            watched = watched or put(client)
            if _follow(client, config, watched, waited, remaining, is_quiet=is_quiet):
                return watched, waited
        waited.has_engine = False


def _own_engine(config: Config) -> LocalEngine | None:
    try:
        return LocalEngine(config)
    except JournalBusyError:
        return None


def _run(
    own: LocalEngine, put: Put, watched: Watched | None, waited: Waited, timeout_s: float | None, *, is_quiet: bool
) -> Watched:
    """Be the engine. Nothing is put into the journal before the code has been loaded."""
    own.pool.on_output = lambda line: say(printable(line))
    own.on_stopping = say_stopping
    engine = own.open(is_development=True)
    own.load()
    if watched is None:
        with Client(own.config.journal) as client:
            watched = put(client)
    with LiveReport(own.config.journal, watched, is_quiet=is_quiet) as live:
        own.pool.on_output = live.print_line
        waited.ending = own.run(own.has_nothing_soon, on_tick=live.refresh, timeout_s=timeout_s)
    waited.stranded = engine.stranded()
    waited.listening = sorted(
        {
            trigger.name
            for spec in engine.functions.values()
            for trigger in spec.triggers
            if isinstance(trigger, EventTrigger)
        }
    )
    waited.functions = sorted(engine.functions)
    return watched


def put_and_ask(config: Config, put: Put) -> None:
    """Put a request into the journal by `put`, which is called once, and wait until an engine has handled it.

    Without an engine this process becomes one that handles requests and starts no run.

    Raises:
        LoadError: the code can't be loaded; the request is in the journal all the same.
        KeyboardInterrupt: somebody would not wait; the same holds then.
    """
    watched: Watched | None = None
    while True:
        engine = _own_engine(config)
        if engine is not None:
            with engine:
                _answer(engine, put, watched)
            return
        with Client(config.journal) as client:
            watched = watched or put(client)
            if client.follow(watched, lambda progress: progress.is_over()):
                return


def _answer(own: LocalEngine, put: Put, watched: Watched | None) -> None:
    # No slots: whatever else is in the journal stays there.
    own.config = msgspec.structs.replace(own.config, slots=0)
    own.pool.on_output = lambda line: say(printable(line))
    own.open(is_development=False)
    with Client(own.config.journal) as client:
        asked = watched or put(client)
    try:
        own.load()
    except LoadError:
        say("what was asked for is stored: the next engine does it, once the code can be loaded")
        raise
    with JournalReader(own.config.journal) as reader:
        if own.run(lambda: reader.progress(asked).is_over()) is not Ending.DONE:
            raise KeyboardInterrupt


def _follow(
    client: Client, config: Config, watched: Watched, waited: Waited, timeout_s: float | None, *, is_quiet: bool
) -> bool:
    """Follow the engine that runs. False if it has gone before the end."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with LiveReport(config.journal, watched, is_quiet=is_quiet) as live:

        def look(progress: Progress) -> bool:
            live.refresh()
            return progress.is_over()

        try:
            if client.follow(watched, look, timeout_s=timeout_s):
                return True
        except KeyboardInterrupt:
            waited.ending = Ending.INTERRUPTED
            return True
    if deadline is not None and time.monotonic() >= deadline:
        waited.ending = Ending.TIMEOUT
        return True
    return False


def say_stopping(runs: int) -> None:
    what = "1 run is" if runs == 1 else f"{runs} runs are"
    say(f"stopping: {what} at work, for {GRACE_S:.0f} s at most; Ctrl-C again ends it at once")


def exit_code(waited: Waited, runs_code: int) -> int:
    """5 if the time was over, 130 if interrupted; otherwise what the runs say."""
    return {Ending.DONE: runs_code, Ending.TIMEOUT: 5, Ending.INTERRUPTED: 130}[waited.ending]


def left(waited: Waited) -> list[str]:
    """What becomes of the runs that were not waited for to the end."""
    if waited.ending is Ending.DONE:
        return []
    what = "stopped" if waited.ending is Ending.INTERRUPTED else "the time is over"
    who = "the engine goes on with them" if waited.has_engine else "`fanout serve` goes on with them"
    return [f"{what}: runs that are left are in the journal, and {who}"]
