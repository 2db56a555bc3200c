"""`fanout serve`: the engine in the foreground with the web process beside it, until it is told to stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from types import FrameType
from typing import Annotated

import typer

from fanout.commands import waiting
from fanout.commands.app import say
from fanout.commands.loading import LoadWarnings, without_code
from fanout.commands.main import take_early_engine
from fanout.commands.options import ConfigPath
from fanout.commands.project import project
from fanout.commands.text import count, printable
from fanout.config import MAX_PORT, Config
from fanout.engine.local import LocalEngine
from fanout.engine.notify import Supervisor
from fanout.journal.sqlite_reader import JournalReader

GRACE_S = 25.0
"""Most that start us kill us 30 seconds after they have asked us to stop, or later."""


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="serve", help=help_)(serve)


def serve(
    host: Annotated[
        str | None, typer.Option(metavar="HOST", help="Listen there instead of `[web] host`.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            help="Listen there instead of `[web] port`; 0: any.",
            min=0,
            max=MAX_PORT,
            show_default=False,
        ),
    ] = None,
    no_web: Annotated[bool, typer.Option("--no-web", help="No dashboard, and no event API.")] = False,
    grace: Annotated[
        float, typer.Option(metavar="SECONDS", help="When stopping, let running steps go on so long.", min=0)
    ] = GRACE_S,
    config: ConfigPath = None,
) -> None:
    with _ended_by_sigterm(), ExitStack() as stack:
        settings = project(config)
        supervisor = stack.enter_context(closing(Supervisor()))
        own = take_early_engine() or LocalEngine(settings)
        # The engine is closed before the web process is: whoever sends an event in the meantime gets a true answer.
        web = stack.enter_context(ExitStack())
        stack.enter_context(own)
        own.pool.on_output = lambda line: say(printable(line))
        engine = own.open(is_development=False)
        look, place = (_nothing, "") if no_web else _open_web(settings, host, port, web)
        own.load()
        serving = f"serving {count(len(engine.functions), 'function')} of {_named(settings)}"
        say(f"{serving}{place}; Ctrl-C stops", is_for_people_here=True)
        with JournalReader(settings.journal, redact=settings.redact) as reader:
            for line in without_code(reader):
                say(f"hint: {line}")
        stopping = waiting.Stopping(own, say, grace_s=grace)
        warnings = LoadWarnings(engine)
        supervisor.ready(serving)
        has_said = False

        def tell() -> None:
            nonlocal has_said
            supervisor.look()
            look()
            stopping.look()
            warnings.tell()
            if engine.is_stopping and not has_said:
                has_said = True
                supervisor.stopping(f"stopping: {count(engine.executing, 'run')} at work")

        own.run(lambda: False, on_tick=tell, grace_s=grace)
        # Who was asked to stop and has stopped has done what it should: 0, also to those who restart what has failed.
        code = 0 if own.stopped_by == signal.SIGTERM else 130
    say("stopped; what was left goes on next time")
    raise typer.Exit(code)


def _named(settings: Config) -> str:
    return ", ".join(f"`{app.id}`" for app in settings.apps)


def _nothing() -> None:
    """Stands for looking after a web process where there is none."""


def _open_web(settings: Config, host: str | None, port: int | None, stack: ExitStack) -> tuple[Callable[[], None], str]:
    """What is to be called with each tick, and what is said of the place."""
    from fanout.web.process import WebProcess  # lazy: not everybody wants it

    web = WebProcess(
        settings,
        host=host or settings.host,
        port=settings.port if port is None else port,
        on_line=lambda line: say(printable(line)),
    )
    stack.callback(web.close)
    # The link has the token in it, if there is one: that is for who sits here, and for no file.
    return web.look, f" at {web.link if sys.stderr.isatty() else web.url}"


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Until the engine takes signals itself: where we are process 1 nothing else would end us."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
