"""What a command that waits for runs shows: a live tree while they go, a tree and a summary at the end, or JSON."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from fanout.commands import text
from fanout.commands.app import say
from fanout.journal import AcceptedEvent
from fanout.journal.sqlite_reader import JournalReader, Progress, Watched
from fanout.model import Failure, Run, RunState, StepState

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

_REFRESH_S = 0.125
_MOST_LIVE_RUNS = 200
_MOST_TREES = 25
_MOST_FAILURES = 10


class LiveReport:
    """A tree on a terminal's stderr that shows runs as they go; silent where stderr is no terminal."""

    def __init__(self, journal: Path, watched: Watched, *, is_quiet: bool) -> None:
        self._is_shown = sys.stderr.isatty() and not is_quiet
        self._watched = watched
        self._journal = journal
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
            self._reader = JournalReader(self._journal)
        began = time.monotonic()
        progress = self._reader.progress(self._watched)
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
        height = self._live.console.height - 2
        if sum(progress.counts.values()) < min(height, _MOST_LIVE_RUNS):
            shown: RenderableType = tree(
                self._reader.watched_runs(self._watched, outputs=False), self._live.console.width
            )
        else:
            shown = counts_line(progress)
        self._live.update(shown, refresh=True)
        # Many runs take long to look at: never spend more than a fifth of the time on it.
        self._next = time.monotonic() + max(_REFRESH_S, 4 * (time.monotonic() - began))

    def print_line(self, line: str) -> None:
        """A line that a worker has printed."""
        if self._live is None:
            say(text.printable(line))
        else:
            from rich.text import Text

            self._live.console.print(Text(text.printable(line), style="dim"), soft_wrap=True)


def console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False)


def tree(runs: Sequence[Run], width: int) -> RenderableType:
    """Events with their runs, a line each, the steps behind."""
    from rich.console import Group
    from rich.text import Text
    from rich.tree import Tree

    trees: dict[str, Tree] = {}
    name_width = min(max((len(run.function) for run in runs), default=0), max(12, width // 3))
    for run in runs:
        if run.event_id not in trees:
            label = Text(text.printable(run.event_name), style="bold")
            label.append(f"  {text.printable(run.event_id)}", style="dim")
            label.no_wrap, label.overflow = True, "ellipsis"
            trees[run.event_id] = Tree(label, guide_style="dim")
        branch = trees[run.event_id].add(_run_line(run, name_width))
        if run.error is not None and run.state in (RunState.FAILED, RunState.WAITING):
            # On a line of its own: behind the steps it would be cut off on most terminals.
            branch.add(Text(text.first_line(str(_cause(run) or run.error)), style=text.style(run.state)))
    return Group(*trees.values())


def _run_line(run: Run, name_width: int) -> Any:
    from rich.text import Text

    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{text.symbol(run.state)} ", style=text.style(run.state))
    line.append(text.printable(run.function).ljust(name_width))
    line.append(f"  {text.took(run):>7}", style="dim")
    if run.state is RunState.WAITING:
        line.append(f"  until {text.clock(run.due_at)}", style="yellow")
    if run.attempts > 1:
        line.append(f"  {run.attempts} attempts", style="yellow")
    for step in run.steps:
        line.append(f"  {text.symbol(step.state)}", style=text.style(step.state))
        line.append(f" {text.printable(step.name)}")
        if step.attempts > 1:
            line.append(f" ({step.attempts} attempts)", style="yellow")
    return line


def _cause(run: Run) -> Failure | None:
    """What made the step fail that the run failed of: the step's name is in the line above."""
    if run.error is None or run.error.type != "StepError":
        return None
    return next((step.error for step in reversed(run.steps) if step.state is StepState.FAILED), None)


def counts_line(progress: Progress) -> Any:
    """One line where a tree would not fit."""
    from rich.text import Text

    total = sum(progress.counts.values())
    line = Text(f"{total - progress.live:,} of {text.count(total, 'run')} done", no_wrap=True)
    for state, number in sorted(progress.counts.items()):
        line.append(f"  {text.symbol(state)} {number:,} {state}", style=text.style(state))
    return line


def print_report(runs: Sequence[Run], seconds: float, what: str, hints: Sequence[str]) -> None:
    """The tree if it can be read at once, the failures otherwise; then what ran, what failed, what to do next."""
    out = console()
    if runs and len({run.event_id for run in runs}) <= _MOST_TREES:
        out.print(tree(runs, out.width))
    else:
        failed = [run for run in runs if run.state is RunState.FAILED]
        if failed:
            out.print(tree(failed[:_MOST_FAILURES], out.width))
        if len(failed) > _MOST_FAILURES:
            out.print(f"… and {len(failed) - _MOST_FAILURES:,} more failed", style="dim")
    out.print(summary(runs, seconds, what), soft_wrap=True)
    for hint in hints:
        say(f"hint: {hint}")


def summary(runs: Sequence[Run], seconds: float, what: str) -> Any:
    """`4 runs of 1 event in 0.31 s: 3 completed, 1 failed`, coloured by state."""
    from rich.text import Text

    line = Text(f"{text.count(len(runs), 'run')} of {what} in {text.duration(round(seconds * 1000))}")
    states = Counter(run.state for run in runs)
    for index, (state, number) in enumerate(sorted(states.items())):
        line.append(": " if index == 0 else ", ")
        line.append(f"{number:,} {state}", style=text.style(state))
    return line


def next_steps(runs: Sequence[Run], *, has_engine: bool) -> list[str]:
    """What to do about runs that failed, or that go on later."""
    hints = []
    failed = [run for run in runs if run.state is RunState.FAILED]
    if failed:
        hints.append(
            f"`fanout runs show {failed[0].id}` shows why; "
            "when it is mended, `fanout replay --failed` goes on from there"
        )
    waiting = [run.due_at for run in runs if run.state is RunState.WAITING and run.due_at is not None]
    if waiting and not has_engine:
        hints.append(
            f"{text.count(len(waiting), 'run')} will go on, the first at {text.clock(min(waiting))}: "
            "`fanout serve` carries that on, or the next `fanout send`"
        )
    return hints


def exit_code(runs: Sequence[Run]) -> int:
    return 1 if any(run.state is RunState.FAILED for run in runs) else 0


# JSON.


def print_json(value: object) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")


def events_json(events: Sequence[AcceptedEvent]) -> list[dict[str, Any]]:
    return [{"id": event.id, "name": event.name, "duplicate": event.is_duplicate} for event in events]


def run_json(run: Run) -> dict[str, Any]:
    """A run with stable keys; times are milliseconds UTC."""
    return {
        "id": run.id,
        "function": run.function,
        "event_id": run.event_id,
        "event_name": run.event_name,
        "state": run.state,
        "reason": run.reason,
        "attempts": run.attempts,
        "queued_at": run.queued_at,
        "due_at": run.due_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "output": run.output,
        "error": failure_json(run.error),
        "replay_of": run.replay_of,
        "steps": [
            {
                "name": step.name,
                "state": step.state,
                "attempts": step.attempts,
                "started_at": step.started_at,
                "ended_at": step.ended_at,
                "output": step.output,
                "error": failure_json(step.error),
            }
            for step in run.steps
        ],
    }


def failure_json(failure: Failure | None) -> dict[str, str] | None:
    if failure is None:
        return None
    return {"type": failure.type, "message": failure.message, "traceback": failure.traceback}


def raw_json(json_text: str) -> msgspec.Raw:
    """JSON text to be put into other JSON as it is."""
    return msgspec.Raw(json_text.encode())
