"""Which runs are meant: the options that `runs` and `replay` share."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import typer

from fanout.journal.filters import RunFilter
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import RunState
from fanout.views.filters import moment, near_function

Status = Annotated[
    list[RunState] | None, typer.Option("--status", help="In this state; may be repeated.", show_default=False)
]
Failed = Annotated[bool, typer.Option("--failed", help="That failed or crashed: --status failed.")]
Function = Annotated[
    str | None, typer.Option("--function", metavar="ID", help="Of this function; `a*` is all of a.", show_default=False)
]
Event = Annotated[
    str | None, typer.Option("--event", metavar="NAME", help="For such events; or `app/*`.", show_default=False)
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Queued since: `2h` ago, or 2025-10-26T02:30.", show_default=False),
]
Until = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Queued before; as --since.", show_default=False)
]
Error = Annotated[
    str | None,
    typer.Option("--error", metavar="TEXT", help="Of which a failure's type or message has this.", show_default=False),
]


class Options(NamedTuple):
    """What was said on the command line."""

    status: list[RunState] | None = None
    is_failed: bool = False
    function: str | None = None
    event: str | None = None
    since: str | None = None
    until: str | None = None
    error: str | None = None

    @property
    def states(self) -> frozenset[RunState]:
        return frozenset((*(self.status or ()), *((RunState.FAILED,) if self.is_failed else ())))

    def as_filter(self, keys: tuple[int, ...] | None = None) -> RunFilter:
        """The runs that are meant.

        Raises:
            UsageError: a time is none.
        """
        return RunFilter(
            states=self.states,
            function=self.function,
            event=self.event,
            since=moment("--since", self.since),
            until=moment("--until", self.until),
            error=self.error or None,
            keys=keys,
        )


def unknown_function(reader: JournalReader, options: Options) -> str:
    """What to say behind `no such runs` if the code never had the function, as `; did you mean ...?`."""
    return near_function(reader, options.function)
