"""`fanout serve`: the engine in the foreground with the web process beside it, until it is told to stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from fanout.commands import waiting
from fanout.commands.app import say
from fanout.commands.loading import LoadWarnings, without_code
from fanout.commands.main import take_early_engine
from fanout.commands.options import ConfigPath
from fanout.commands.project import project
from fanout.commands.recovering import Recovery
from fanout.commands.text import count, printable
from fanout.config import MAX_PORT, Config
from fanout.engine.local import LocalEngine
from fanout.engine.notify import Supervisor
from fanout.errors import JournalError
from fanout.journal.sqlite_reader import JournalReader

if TYPE_CHECKING:
    from fanout.web.process import WebProcess

GRACE_S = 25.0
"""Most that start us kill us 30 seconds after they have asked us to stop, or later."""
_PORT_PATIENCE_S = 5.0
"""So long the web process of an engine that was killed may take to end, and let the port go."""


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
        engines = stack.enter_context(ExitStack())
        engines.enter_context(_heard(own))
        engine = own.open(is_development=False)
        site = (
            None if no_web else _open_web(settings, host, port, web, _PORT_PATIENCE_S if own.follows_a_death else 0.0)
        )
        own.load()
        # The link has the token in it, if there is one: that is for who sits here, and for no file.
        place = "" if site is None else f" at {site.link if sys.stderr.isatty() else site.url}"
        serving = f"serving {count(len(engine.functions), 'function')} of {_named(settings)}"
        say(f"{serving}{place}; Ctrl-C stops", is_for_people_here=True)
        with JournalReader(settings.journal, redact=settings.redact) as reader:
            for line in without_code(reader):
                say(f"hint: {line}")
        supervisor.ready(serving)

        def look() -> None:
            supervisor.look()
            if site is not None:
                site.look()

        def tell(error: JournalError | None) -> None:
            said = None if error is None else error.without(settings.journal)
            supervisor.status(serving if said is None else said)
            if site is not None:
                site.tell(said)

        recovery = Recovery(lambda: _heard(LocalEngine(settings)), engines, say=say, tell=tell, look=look)
        stopped_by = _run_until_stopped(own, recovery, look, supervisor, grace)
        # Who was asked to stop and has stopped has done what it should: 0, also to those who restart what has failed.
        code = 0 if stopped_by == signal.SIGTERM else 130
    say("stopped; what was left goes on next time")
    raise typer.Exit(code)


def _named(settings: Config) -> str:
    return ", ".join(f"`{app.id}`" for app in settings.apps)


def _heard(own: LocalEngine) -> LocalEngine:
    own.pool.on_output = lambda line: say(printable(line))
    return own


def _run_until_stopped(
    own: LocalEngine, recovery: Recovery, look: Callable[[], None], supervisor: Supervisor, grace: float
) -> int | None:
    """Serve, with a new engine whenever the journal of the one before has failed. The signal that has ended it."""
    while True:
        try:
            _run(own, look, supervisor, grace)
        except JournalError as error:
            if own.stopped_by is None:
                own = recovery.replace(error)
                continue
            say(f"error: {printable(error.message)}")
        return own.stopped_by


def _run(own: LocalEngine, look: Callable[[], None], supervisor: Supervisor, grace: float) -> None:
    engine = own.engine
    stopping = waiting.Stopping(own, say, grace_s=grace)
    warnings = LoadWarnings(engine)
    has_said = False

    def tell() -> None:
        nonlocal has_said
        look()
        stopping.look()
        warnings.tell()
        if engine.is_stopping and not has_said:
            has_said = True
            supervisor.stopping(f"stopping: {count(engine.executing, 'run')} at work")

    own.run(lambda: False, on_tick=tell, grace_s=grace)


def _open_web(settings: Config, host: str | None, port: int | None, stack: ExitStack, patience_s: float) -> WebProcess:
    from fanout.web.process import WebProcess  # lazy: not everybody wants it

    web = WebProcess(
        settings,
        host=host or settings.host,
        port=settings.port if port is None else port,
        on_line=lambda line: say(printable(line)),
        patience_s=patience_s,
    )
    stack.callback(web.close)
    return web


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
