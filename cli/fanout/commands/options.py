"""The options that many commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
ConfigPath = Annotated[str | None, typer.Option("--config", help="The fanout.toml to use.", show_default=False)]
Timeout = Annotated[
    float | None, typer.Option(help="Wait so many seconds at most (exit code 5).", min=0, show_default=False)
]
