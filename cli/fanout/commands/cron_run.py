"""`fanout cron run`: the engine in the foreground, with a line for each tick when it is over."""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec
import typer

from fanout.commands import report, text, waiting
from fanout.commands.app import say
from fanout.commands.loading import LoadWarnings
from fanout.commands.main import take_early_engine
from fanout.commands.options import ConfigPath, JsonLines
from fanout.commands.project import project
from fanout.config import Config
from fanout.engine import lock
from fanout.engine.local import LocalEngine
from fanout.engine.loop import Engine
from fanout.errors import JournalBusyError, UsageError
from fanout.journal.functions import CronTick
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import Run
from fanout.views.function_words import cron_triggers
from fanout.views.runs import run_json

_LOOK_EVERY_S = 0.2


def run(
    as_json: JsonLines = False,
    config: ConfigPath = None,
) -> None:
    settings = project(config)
    with take_early_engine() or _engine(settings) as own:
        own.pool.on_output = lambda line: say(text.printable(line))
        engine = own.open(is_development=False)
        with JournalReader(settings.journal, redact=settings.redact) as reader:
            ticks = _Ticks(reader, as_json=as_json)
            own.load()
            _say_what_runs(engine)
            stopping, warnings = waiting.Stopping(own, say), LoadWarnings(engine)

            def look() -> None:
                stopping.look()
                warnings.tell()
                ticks.look()

            own.run(lambda: False, on_tick=look)
            ticks.end()
        say("stopped; what was left goes on next time")
    raise typer.Exit(130)


def _engine(settings: Config) -> LocalEngine:
    try:
        return LocalEngine(settings)
    except JournalBusyError:
        holder = lock.holder(settings.journal)
        who = f" with pid {holder.pid}" if holder is not None and holder.pid else ""
        raise JournalBusyError(
            f"an engine{who} is running already, and with it all schedules",
            hint="`fanout cron list` shows what has ticked",
        ) from None


def _say_what_runs(engine: Engine) -> None:
    numbers = [len(cron_triggers(spec)) for spec in engine.functions.values()]
    if not any(numbers):
        raise UsageError("no function has a cron trigger", hint='give one `trigger=fanout.cron("0 9 * * mon-fri")`')
    functions = text.count(sum(1 for number in numbers if number), "function")
    say(f"running {text.count(sum(numbers), 'schedule')} of {functions}; Ctrl-C stops")


class _Ticks:
    """The ticks since it was made; each is printed when its run is over."""

    def __init__(self, reader: JournalReader, *, as_json: bool) -> None:
        self._reader = reader
        self._as_json = as_json
        self._seen = reader.last_event_key()
        self._going: dict[int, CronTick] = {}
        self._next = 0.0

    def look(self) -> None:
        """As often as people can see."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LOOK_EVERY_S
        self._seen, ticks = self._reader.ticks_since(self._seen)
        self._going.update((tick.run_key, tick) for tick in ticks)
        if self._going:
            for key, found in self._reader.runs_with_steps(list(self._going), outputs=self._as_json).items():
                if found.state.is_final:
                    self._print(self._going.pop(key), found)

    def end(self) -> None:
        """Also those that are not over."""
        self._next = 0.0
        self.look()
        for key, found in self._reader.runs_with_steps(list(self._going), outputs=self._as_json).items():
            self._print(self._going[key], found)

    def _print(self, tick: CronTick, found: Run) -> None:
        if self._as_json:
            sys.stdout.buffer.write(msgspec.json.encode(_json(tick, found)) + b"\n")
        else:
            report.console().print(_line(tick, found), soft_wrap=True)
        sys.stdout.flush()


def _line(tick: CronTick, found: Run) -> Any:
    from rich.text import Text  # lazy: `--json` doesn't draw

    line = Text(f"{text.clock(tick.scheduled_at)}  {text.printable(tick.function)}  ")
    line.append(f"{text.symbol(found.state)} {found.state}", style=text.style(found.state))
    if took := text.took(found):
        line.append(f"  {took}")
    line.append(f"  {text.short_id(found.id)}", style="dim")
    why = found.reason if found.error is None else str(found.error)
    if why:
        line.append(f"  {text.first_line(why)}")
    return line


def _json(tick: CronTick, found: Run) -> dict[str, Any]:
    return {
        "function": tick.function,
        "cron": tick.expression,
        "timezone": tick.zone,
        "scheduled_at": tick.scheduled_at,
        "run": run_json(found),
    }
