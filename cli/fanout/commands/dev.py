"""`fanout dev watch`: the engine, the schedules, the dashboard and a live log, while the code is edited."""

from __future__ import annotations

from typing import Annotated

import typer

from fanout.commands.main import take_early_engine
from fanout.commands.options import ConfigPath, JsonLines
from fanout.commands.project import project
from fanout.commands.watching import session
from fanout.engine.local import LocalEngine

_MAX_PORT = 65_535

dev_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


def register(app: typer.Typer, help_: str) -> None:
    app.add_typer(dev_app, name="dev", help=help_)


@dev_app.callback()
def dev() -> None:
    """A group, although there is one command in it yet."""


@dev_app.command(name="watch", help="Run everything, show it live, and load the code again whenever it is saved.")
def watch(
    host: Annotated[str | None, typer.Option(help="Listen there instead of `[web] host`.", show_default=False)] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Listen there instead of `[web] port`; 0: any.", min=0, max=_MAX_PORT, show_default=False),
    ] = None,
    no_web: Annotated[bool, typer.Option("--no-web", help="No dashboard, and no event API.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Show only what fails.")] = False,
    as_json: JsonLines = False,
    config: ConfigPath = None,
) -> None:
    settings = project(config)
    asked = session.Asked(host, port, has_web=not no_web, is_failed_only=failed, as_json=as_json)
    own = take_early_engine() or LocalEngine(settings)
    raise typer.Exit(session.watch(own, settings, asked))
