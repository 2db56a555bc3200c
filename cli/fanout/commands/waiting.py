"""What `send`, `invoke`, `replay` and `cancel` share: put something into the journal, and wait for what it causes.

With an engine running elsewhere they follow that one; without, they are the engine. If the one they follow
goes away, they take over.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from fanout.client import Connection
from fanout.commands.app import say
from fanout.commands.loading import LoadWarnings, held_up
from fanout.commands.main import take_early_engine
from fanout.commands.report import LiveReport, failed
from fanout.commands.text import count, now, printable, shown
from fanout.config import Config
from fanout.engine.local import GRACE_S, LONG_WAIT_MS, Ending, LocalEngine
from fanout.errors import JournalBusyError, LoadError
from fanout.journal.family import Family, Progress, Watched, live
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import EventTrigger, RunState
from fanout.views import waits

_LEAST_PAUSE_S = 0.3

Put = Callable[[Connection], Watched]


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
        self.cancelling: dict[str, str] = {}
        """A function whose runs are cancelled by events of this name, if this process was the engine."""
        self.functions: list[str] = []
        """The functions that the code has, if this process was the engine."""
        self.unloaded: set[str] = set()
        """Those of them whose code could not be loaded."""
        self.held_up: list[str] = []
        """What is to be said of queued runs of functions that are paused, or whose code could not be loaded."""
        self.is_without_code = False
        """There are some of the latter."""


def put_and_wait(config: Config, put: Put, *, timeout_s: float | None, is_quiet: bool) -> tuple[Watched, Waited]:
    """Put something into the journal by `put`, which is called once, and wait for what it says to watch."""
    waited = Waited()
    watched = _wait(config, put, waited, timeout_s, is_quiet=is_quiet)
    if waited.ending is Ending.DONE:
        with JournalReader(config.journal, redact=config.redact) as reader:
            waited.held_up, waited.is_without_code = held_up(reader, watched, waited.unloaded)
    return watched, waited


def _wait(config: Config, put: Put, waited: Waited, timeout_s: float | None, *, is_quiet: bool) -> Watched:
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    watched: Watched | None = None
    while True:
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        engine = take_early_engine() or _own_engine(config)
        if engine is not None:
            with engine:
                return _run(engine, put, watched, waited, remaining, is_quiet=is_quiet)
        waited.has_engine = True
        with Connection(config.journal) as client:
            watched = watched or put(client)
            if _follow(client, config, watched, waited, remaining, is_quiet=is_quiet):
                return watched
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
    engine = own.open(is_development=True, has_schedules=False)
    own.load()
    if watched is None:
        _say_left_over(own.config)
        with Connection(own.config.journal) as client:
            watched = put(client)
    with LiveReport(own.config, watched, is_quiet=is_quiet) as live:
        own.pool.on_output = live.print_line
        stopping = Stopping(own, live.print_line)
        warnings = LoadWarnings(engine, live.print_line)

        def look() -> None:
            live.refresh()
            stopping.look()
            warnings.tell()

        waited.ending = own.run(own.has_nothing_soon, on_tick=look, timeout_s=timeout_s)
    waited.stranded, waited.unloaded = engine.stranded(), engine.unloaded()
    waited.cancelling = {rule.event: spec.id for spec in engine.functions.values() for rule in spec.cancel_on}
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


def _say_left_over(config: Config) -> None:
    """An engine runs whatever it finds: nobody should wonder what else is going on."""
    with JournalReader(config.journal, redact=config.redact) as reader:
        left = reader.left_over(now() + LONG_WAIT_MS)
    nouns = zip(left, ("event", "run", "request"), strict=True)
    if said := " and ".join(count(number, noun) for number, noun in nouns if number):
        say(f"{said} from before {'goes' if sum(left) == 1 else 'go'} on as well")


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
        with Connection(config.journal) as client:
            watched = watched or put(client)
            if client.follow(watched, lambda progress: progress.is_over()):
                return


def _answer(own: LocalEngine, put: Put, watched: Watched | None) -> None:
    # No slots: whatever else is in the journal stays there.
    own.config = msgspec.structs.replace(own.config, slots=0)
    own.pool.on_output = lambda line: say(printable(line))
    own.open(is_development=False, has_schedules=False)
    with Connection(own.config.journal) as client:
        asked = watched or put(client)
    try:
        own.load()
    except LoadError:
        say("what was asked for is stored: the next engine does it, once the code can be loaded")
        raise
    with JournalReader(own.config.journal, redact=own.config.redact) as reader:
        if own.run(lambda: reader.progress(asked).is_over()) is not Ending.DONE:
            raise KeyboardInterrupt


def _follow(
    client: Connection, config: Config, watched: Watched, waited: Waited, timeout_s: float | None, *, is_quiet: bool
) -> bool:
    """Follow the engine that runs. False if it has gone before the end.

    Without a time limit, long waits are left to that engine.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with (
        LiveReport(config, watched, is_quiet=is_quiet) as live,
        JournalReader(config.journal, redact=config.redact) as reader,
    ):
        patience = _Patience(reader, watched)

        def look(progress: Progress) -> bool:
            live.refresh()
            return progress.is_over() or (timeout_s is None and patience.is_over(progress))

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


class _Patience:
    """Whether all that is left waits for long. To know that takes a look at all of it, so it is asked now and then."""

    def __init__(self, reader: JournalReader, watched: Watched) -> None:
        self._reader = reader
        self._watched = watched
        self._next = 0.0

    def is_over(self, progress: Progress) -> bool:
        began = time.monotonic()
        if progress.counts.get(RunState.RUNNING) or not progress.is_routed or began < self._next:
            return False
        if progress.counts.get(RunState.QUEUED) and not self._reader.has_held_up():
            return False
        goes_on_at = self._reader.goes_on_at(self._watched)
        took = time.monotonic() - began
        self._next = began + max(_LEAST_PAUSE_S, 20 * took)
        return goes_on_at is None or goes_on_at > now() + LONG_WAIT_MS


class Stopping:
    """Says that an engine stops, if that takes a moment: what only waits leaves at once."""

    def __init__(self, own: LocalEngine, tell: Callable[[str], None], *, grace_s: float = GRACE_S) -> None:
        self._own = own
        self._grace_s = grace_s
        self._tell = tell
        self._began: float | None = None
        own.on_stopping = self._begin

    def _begin(self, _runs: int) -> None:
        self._began = time.monotonic()

    def look(self) -> None:
        """To be called with each tick."""
        runs = self._own.engine.executing
        if self._began is None or not runs or time.monotonic() - self._began < _LEAST_PAUSE_S:
            return
        self._began = None
        what = "1 run is" if runs == 1 else f"{runs:,} runs are"
        self._tell(f"stopping: {what} at work, for {self._grace_s:g} s at most; Ctrl-C again ends it at once")


def exit_code(waited: Waited, runs_code: int) -> int:
    """5 if the time was over, 130 if interrupted; otherwise what the runs say, or 1 if some have no code."""
    runs_code = runs_code or int(waited.is_without_code)
    return {Ending.DONE: runs_code, Ending.TIMEOUT: 5, Ending.INTERRUPTED: 130}[waited.ending]


def hints(reader: JournalReader, watched: Watched, family: Family, waited: Waited) -> list[str]:
    """What to do about runs that failed, what others wait for, and who goes on with what is left."""
    found = failed(family) + waited.held_up
    is_waiting = bool(family.counts[RunState.WAITING])
    if is_waiting:
        found += map(shown, waits.hints(reader, watched))
    if waited.ending is Ending.DONE:
        if is_waiting and waited.has_engine:
            found.append(
                "the engine that is running carries that on; after it `fanout serve`, or the next `fanout send`"
            )
        elif is_waiting:
            found.append("`fanout serve` carries that on, or the next `fanout send`")
    elif live(family.counts) or not reader.progress(watched).is_over():
        what = "stopped" if waited.ending is Ending.INTERRUPTED else "the time is over"
        who = "the engine goes on" if waited.has_engine else "`fanout serve` or the next `fanout send` goes on"
        found.append(f"{what}: runs that are left are in the journal, and {who} with them")
    return found
