"""`fanout graph`: which events lead to which functions, and on, as declared and as seen in the journal."""

from __future__ import annotations

from typing import Annotated

import typer

from fanout.commands import graph_tree, report
from fanout.commands.app import say
from fanout.commands.options import ConfigPath, Json
from fanout.commands.project import project
from fanout.errors import UsageError
from fanout.journal.sqlite_reader import JournalReader
from fanout.views import graph as graph_views


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="graph", help=help_)(graph)


def graph(
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print it for Mermaid.")] = False,
    dot: Annotated[bool, typer.Option("--dot", help="Print it for Graphviz.")] = False,
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    if mermaid + dot + as_json > 1:
        raise UsageError("`--mermaid`, `--dot` and `--json` exclude each other", hint="give one of them")
    settings = project(config)
    with JournalReader(settings.journal, redact=settings.redact) as reader:
        made = graph_views.read(reader)
    if as_json:
        report.print_json(graph_views.as_json(made))
    elif mermaid:
        print(graph_views.as_mermaid(made))
    elif dot:
        print(graph_views.as_dot(made))
    elif not made.specs:
        say("no functions yet: `fanout functions` loads the code")
    else:
        graph_tree.print_graph(report.console(), made)
        if any(link.number is not None for link in made.links):
            say("hint: what functions send, await and invoke is what their newest runs have been seen to do")
