"""`fanout completion`: the script that makes a shell complete fanout's command lines.

`main` prints it without Typer, since people's shells ask for it whenever they start; this is its help and its errors.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from fanout.commands.completing import print_script


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def register(app: typer.Typer, help_: str) -> None:
    app.command(name="completion", help=help_)(completion)


def completion(
    shell: Annotated[
        Shell,
        typer.Argument(metavar="bash|zsh|fish", help="Which one. The script's first lines say where it goes."),
    ],
) -> None:
    print_script(shell)
