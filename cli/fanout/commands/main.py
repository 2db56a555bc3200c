"""The command's first lines: what must be fast happens here, before Typer is imported."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fanout.engine.local import LocalEngine

early_engine: LocalEngine | None = None
"""An engine whose workers were started before the command line was even parsed."""

_RUNS_AN_ENGINE = frozenset({"send", "invoke", "replay", "serve", "cron trigger", "cron run", "dev watch"})
# With `-`, someone may still be typing: nobody else should wait for that.
_NEEDS_NO_ENGINE = frozenset({"--no-wait", "--help", "-h", "--dry-run", "-", "--data=-"})


def main() -> None:
    """The entry point of the command `fanout`."""
    # What is imported stays: the collector would look through it again and again, here and once more at the end. Both
    # together are a sixth of what a short command takes.
    gc.set_threshold(100_000, 50, 50)
    try:
        _run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)  # While things are still imported; nobody wants to see of which.
    finally:
        gc.freeze()


def _run(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        from fanout import __version__

        sys.stdout.write(f"fanout {__version__}\n")
        return
    if "_FANOUT_COMPLETE" in os.environ or arguments[:1] == ["completion"]:
        from fanout.commands import completing  # lazy: only shells ask this, at each start and each TAB

        if "_FANOUT_COMPLETE" in os.environ:
            completing.main(arguments, os.environ)
            return
        if arguments[1:] in [[shell] for shell in completing.SHELLS]:
            completing.print_script(arguments[1])
            return
    try:
        _start_early(arguments)
        from fanout.commands.app import run  # lazy: the workers are starting already

        run(arguments)
    finally:
        if early_engine is not None:
            early_engine.close()


def take_early_engine() -> LocalEngine | None:
    """The engine that `main` has begun, once; its new owner closes it."""
    global early_engine
    engine, early_engine = early_engine, None
    return engine


def _start_early(arguments: list[str]) -> None:
    """Start workers while Typer and Rich are imported. Whatever is wrong is reported later, by the command itself."""
    global early_engine  # noqa: PLW0603 - see take_early_engine
    called = " ".join(arguments[: 2 if arguments[:1] in (["cron"], ["dev"]) else 1])
    if called not in _RUNS_AN_ENGINE or not _NEEDS_NO_ENGINE.isdisjoint(arguments):
        return
    from pathlib import Path

    from fanout.config import find, load
    from fanout.engine.local import LocalEngine
    from fanout.errors import FanoutError

    explicit = None
    for index, argument in enumerate(arguments):
        if argument == "--config" and index + 1 < len(arguments):
            explicit = arguments[index + 1]
        elif argument.startswith("--config="):
            explicit = argument.removeprefix("--config=")
    try:
        early_engine = LocalEngine(load(find(Path.cwd(), explicit)))
    except FanoutError:
        return
