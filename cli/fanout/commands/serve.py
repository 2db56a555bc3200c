"""`fanout serve`: the engine in the foreground, until Ctrl-C."""

from __future__ import annotations

import typer

from fanout.commands import waiting
from fanout.commands.app import say
from fanout.commands.loading import LoadWarnings, without_code
from fanout.commands.main import take_early_engine
from fanout.commands.options import ConfigPath
from fanout.commands.project import project
from fanout.commands.text import count, printable
from fanout.engine.local import LocalEngine
from fanout.journal.sqlite_reader import JournalReader


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="serve", help=help_)(serve)


def serve(
    config: ConfigPath = None,
) -> None:
    settings = project(config)
    with take_early_engine() or LocalEngine(settings) as own:
        own.pool.on_output = lambda line: say(printable(line))
        engine = own.open(is_development=False)
        apps = ", ".join(f"`{app.id}`" for app in settings.apps)
        own.load()
        say(f"serving {count(len(engine.functions), 'function')} of {apps}; Ctrl-C stops")
        with JournalReader(settings.journal) as reader:
            for line in without_code(reader):
                say(f"hint: {line}")
        stopping = waiting.Stopping(own, say)
        warnings = LoadWarnings(engine)

        def tell() -> None:
            stopping.look()
            warnings.tell()

        own.run(lambda: False, on_tick=tell)
        say("stopped; what was left goes on next time")
    raise typer.Exit(130)
