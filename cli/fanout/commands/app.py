"""The Typer application. Only the module of the command that was called is imported."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module

import typer

from fanout.errors import FanoutError

COMMANDS = {
    "init": "Write a project that runs: functions, an event, a test.",
    "check": "Load the code and say what is wrong, for editors and CI.",
    "send": "Send events and wait for all that they cause.",
    "invoke": "Run one function by hand and print what it returns.",
    "runs": "List runs, or show one with its steps, attempts and errors.",
    "logs": "Show what a run has printed and logged, and follow it.",
    "events": "List events, or show one with its data and its runs.",
    "trace": "Show all that an event caused: runs, events, children.",
    "replay": "Run failed runs again; steps that completed are not repeated.",
    "why": "Say what a run waits for, or what became of it.",
    "cancel": "End runs that go on or wait, and those that they have invoked.",
    "stats": "Show how many runs there were, how long, and what failed.",
    "graph": "Show which events lead to which functions, and on.",
    "functions": "List functions, show one, or pause and resume them.",
    "cron": "Show schedules and their next ticks, or run them.",
    "journal": "Show its size, check it, prune it, copy it or export it.",
    "dev": "Run everything, watch it live, and load code as you save it.",
    "serve": "Run engine, dashboard and event API, for real use.",
    "completion": "Print the script that completes commands and ids in a shell.",
}

_hidden: tuple[str, ...] = ()


def application(arguments: list[str]) -> typer.Typer:
    """The application with the called command, or with the names of all where none was."""
    app = typer.Typer(
        name="fanout",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(help="Send one event; every function that listens runs at once, in parallel, with durable steps.")
    def fanout(
        version: bool = typer.Option(False, "--version", help="Print the version."),
    ) -> None:
        if version:
            from fanout import __version__

            typer.echo(f"fanout {__version__}")
            raise typer.Exit

    called = next((argument for argument in arguments if not argument.startswith("-")), None)
    if called in COMMANDS:
        import_module(f"fanout.commands.{called}").register(app, COMMANDS[called])
    else:
        for name, help_ in COMMANDS.items():
            app.command(name=name, help=help_)(_unread)
    return app


def _unread() -> None:
    """Stands for a command that was not called: to list it, its name and its help are enough."""


def run(arguments: list[str]) -> None:
    """Run the command line; every error that a person can cause ends in two plain lines and its exit code."""
    try:
        application(arguments)(arguments)
    except FanoutError as error:
        report_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python's own flush at exit must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def report_error(error: FanoutError) -> None:
    """`error: ...`, and `hint: ...` on a line of its own, to stderr."""
    from fanout.commands.text import printable

    say(f"error: {printable(error.message, keep_lines=True)}")
    if error.hint:
        say(f"hint: {printable(error.hint)}")


def hide(keys: tuple[str, ...]) -> None:
    """From now on nothing is said of what stands under these keys."""
    global _hidden  # noqa: PLW0603 - a process has one stderr, too
    _hidden = keys


def say(line: str, *, is_for_people_here: bool = False) -> None:
    """Talk goes to stderr; stdout is for data. What is for the people here has nothing to be hidden from them."""
    if _hidden and not is_for_people_here:
        from fanout.core.redaction import redaction_of  # lazy: few have anything to hide

        line = redaction_of(_hidden).text(line)
    # Whoever heard us has gone, or their terminal has: what we do is not for that alone.
    with suppress(OSError):
        print(line, file=sys.stderr)
