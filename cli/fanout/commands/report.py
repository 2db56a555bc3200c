"""What a command that waits for runs shows: a live tree while they go, a tree and a summary at the end, or JSON."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import msgspec

from fanout.commands import text
from fanout.commands.app import say
from fanout.config import Config
from fanout.journal.family import Family, Watched, live
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import RunState
from fanout.views.trace import MOST_MEMBERS

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.text import Text

    from fanout.journal.heard import Heard

_REFRESH_S = 0.125
_PIPE_WIDTH = 200
_MOST_LIVE_RUNS = 2_000
_MOST_LINES = 100


class LiveReport:
    """A tree on a terminal's stderr that shows runs as they go; silent where stderr is no terminal."""

    def __init__(self, config: Config, watched: Watched, *, is_quiet: bool) -> None:
        self._is_shown = sys.stderr.isatty() and not is_quiet
        self._watched = watched
        self._config = config
        self._reader: JournalReader | None = None
        self._live: Live | None = None
        self._next = time.monotonic() + _REFRESH_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._reader is not None:
            self._reader.__exit__()

    def refresh(self) -> None:
        """Draw again, but no more often than people can see."""
        if not self._is_shown or time.monotonic() < self._next:
            return
        if self._reader is None:
            self._reader = JournalReader(self._config.journal, redact=self._config.redact)
        began = time.monotonic()
        if self._live is None:
            from rich.live import Live  # lazy: what ends at once is never drawn

            self._live = Live(
                console=console(stderr=True),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        self._live.update(self._drawn(self._reader, self._live.console), refresh=True)
        # Many runs take long to look at: never spend more than a fifth of the time on it.
        self._next = time.monotonic() + max(_REFRESH_S, 4 * (time.monotonic() - began))

    def _drawn(self, reader: JournalReader, console: Console) -> RenderableType:
        from rich.console import Group

        counts, asked = reader.counts(self._watched), len(self._watched.replayed)
        if max(asked, sum(counts.values())) > _MOST_LIVE_RUNS:
            return counts_line(counts, asked)
        from fanout.commands.tree import tree  # lazy: who only lists draws none

        family = reader.family(self._watched, limit=MOST_MEMBERS)
        width, height = console.size
        return Group(*tree(family, reader.runs_with_steps, width, most_lines=max(4, height - 2)))

    def print_line(self, line: str) -> None:
        """A line that a worker has printed."""
        if self._live is None:
            say(text.printable(line))
        else:
            from rich.text import Text

            self._live.console.print(Text(text.printable(line), style="dim"), soft_wrap=True)


def console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    # Rich takes a pipe for a terminal of 80 columns; whoever reads one has no edge, and wants whole names.
    is_pipe = not (sys.stderr if stderr else sys.stdout).isatty() and not os.environ.get("COLUMNS")
    width = _PIPE_WIDTH if is_pipe else None
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False, width=width)


def counts_line(counts: Mapping[RunState, int], asked: int = 0) -> Text:
    """One line where a tree would not fit; `asked`: so many runs there will be at least."""
    from rich.text import Text

    total = max(asked, sum(counts.values()))
    line = Text(f"{sum(counts.values()) - live(counts):,} of {text.count(total, 'run')} done", no_wrap=True)
    for state, number in sorted(counts.items()):
        line.append(f"  {text.symbol(state)} {number:,} {state}", style=text.style(state))
    return line


def print_report(
    reader: JournalReader,
    family: Family,
    seconds: float,
    what: str,
    hints: Sequence[str],
    *,
    heard: Sequence[Heard] = (),
    output: str | None = None,
) -> None:
    """The tree, what ran and what failed, what else was done, an output that is wanted, and what to do next."""
    from rich.console import Group

    from fanout.commands import heard as heard_  # lazy: as above
    from fanout.commands.tree import tree
    from fanout.views.heard import in_short

    out = console()
    if family.events:
        out.print(Group(*tree(family, reader.runs_with_steps, out.width, most_lines=_MOST_LINES), *heard_.lines(heard)))
    line = summary(family.counts, seconds, what)
    if heard:
        line.append(f"; {in_short(heard)}")
    out.print(line, soft_wrap=True)
    if output is not None:
        print(text.printable(output))
    for hint in hints:
        say(f"hint: {hint}")


def summary(counts: Mapping[RunState, int], seconds: float, what: str) -> Text:
    """`4 runs of 1 event in 0.31 s: 3 completed, 1 failed`, coloured by state."""
    from rich.text import Text

    line = Text(f"{text.count(sum(counts.values()), 'run')} of {what} in {text.duration(round(seconds * 1000))}")
    for index, (said, style) in enumerate(text.states(counts)):
        line.append(": " if index == 0 else ", ")
        line.append(said, style=style)
    return line


def failed(family: Family) -> list[str]:
    """What to do about runs that failed."""
    runs = [run for run in family.runs.values() if run.state is RunState.FAILED]
    if not runs:
        return []
    # Of a child and the parent that it took with it, the child knows why.
    first = min(runs, key=lambda run: (run.ended_at or 0, -run.key))
    return [f"`fanout runs show {first.id}` shows why; when it is mended, `fanout replay --failed` goes on from there"]


def exit_code(counts: Mapping[RunState, int]) -> int:
    """1 if a run failed, also one whose parent has made the best of it."""
    return 1 if counts.get(RunState.FAILED) else 0


# JSON.


def print_json(value: object) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
