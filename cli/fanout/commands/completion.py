"""`fanout completion`: the script that makes a shell complete fanout's command lines."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

_SCRIPTS = Path(__file__).parent / "shells"


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="completion", help=help_)(completion)


def completion(shell: Annotated[Shell, typer.Argument(help="Which one.", show_default=False)]) -> None:
    sys.stdout.write((_SCRIPTS / f"completion.{shell}").read_text(encoding="utf-8"))
