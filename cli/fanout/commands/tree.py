"""A family drawn as a tree: events, the runs that they started, and what those caused, a line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fanout.commands import text
from fanout.core.causes import root_cause
from fanout.journal.family import Family, FamilyEvent, FamilyRun, Member
from fanout.model import Failure, Run, RunState, StepState
from fanout.views import layout
from fanout.views.layout import Alike, Left, Line

if TYPE_CHECKING:
    from rich.text import Text

_NARROW = 70
"""Columns below which guides are thin and times are left out, so that names can be read."""
_LEAST_TEXT = 24
_MOST_LEVELS = 16

Details = Callable[[Sequence[int]], Mapping[int, Run]]
"""Runs with their steps, by key."""


class Traced(NamedTuple):
    """What a trace shows besides: when things happened, counted from `since`, and where `marked` is."""

    since: int
    marked: Member


def tree(family: Family, details: Details, width: int, *, most_lines: int, traced: Traced | None = None) -> list[Text]:
    """The lines of the tree; those of runs say how far they are, and why if they failed."""
    drawing = _Drawing(family, width, traced)
    levels = min(_MOST_LEVELS, max(1, (width - _LEAST_TEXT) // drawing.indent))
    lines = layout.lay_out(family, most_lines=most_lines, levels=levels, marked=traced and traced.marked)
    runs = details([line.what.key for line in lines if isinstance(line.what, FamilyRun)])
    return [drawn for line in lines for drawn in drawing.line(line, runs)]


class _Drawing:
    def __init__(self, family: Family, width: int, traced: Traced | None) -> None:
        self._family = family
        self._width = width
        self._traced = traced
        self._is_narrow = width < _NARROW
        guides = ("├ ", "└ ", "│ ", "  ") if self._is_narrow else ("├── ", "└── ", "│   ", "    ")
        in_ascii = ("+ ", "` ", "| ", "  ") if self._is_narrow else ("+-- ", "`-- ", "|   ", "    ")
        self._fork, self._last, self._bar, self._space = map(text.drawn, guides, in_ascii)
        self.indent = len(self._fork)

    def line(self, line: Line, runs: Mapping[int, Run]) -> list[Text]:
        from rich.text import Text  # lazy: `--json` doesn't draw

        drawn = Text(no_wrap=True, overflow="ellipsis")
        # Roots have no guides, and so no level.
        *above, is_last = line.ends[1:] or (None,)
        drawn.append("".join(self._space if ends else self._bar for ends in above), style="dim")
        if is_last is not None:
            drawn.append(self._last if is_last else self._fork, style="dim")
        match line.what:
            case FamilyEvent():
                self._event(drawn, line.what)
            case FamilyRun(key=key) if key in runs:
                self._run(drawn, line.what, runs[key], line.name_width)
                return [drawn, *self._problem(line, runs[key])]
            case FamilyRun():
                drawn.append(text.name(line.what))  # It has been pruned meanwhile.
            case Alike():
                self._alike(drawn, line.what)
            case Left(0, _):
                drawn.append("… there is more, which `--json` has", style="dim")
            case Left(number, noun):
                drawn.append(f"… {text.count(number, f'more {noun}')}", style="dim")
        return [drawn]

    def _mark(self, drawn: Text, member: Member) -> str:
        """Point at what a trace was asked for; the style of its name."""
        if self._traced is None or member != self._traced.marked:
            return "bold" if isinstance(member, FamilyEvent) else ""
        drawn.append(f"{text.drawn('→', '=>')} ", style="bold cyan")
        return "bold cyan"

    def _event(self, drawn: Text, event: FamilyEvent) -> None:
        name_style = self._mark(drawn, event)
        drawn.append(text.printable(event.name), style=name_style)
        if event.is_duplicate:
            drawn.append("  duplicate", style="yellow")
        id_ = text.short_id(event.id) if self._is_narrow and self._traced else text.printable(event.id)
        drawn.append(f"  {id_}", style="dim")
        if self._traced is not None and not self._is_narrow:
            is_first = event == self._family.roots[0]
            drawn.append(f"  {text.clock(event.received_at) if is_first else self._offset(event.received_at)}")

    def _run(self, drawn: Text, member: FamilyRun, run: Run, name_width: int) -> None:
        name_style = self._mark(drawn, member)
        drawn.append(f"{text.symbol(run.state)} ", style=text.style(run.state))
        widest = max(12, self._width // 3)
        drawn.append(text.name(member).ljust(min(name_width, widest)), style=name_style)
        if self._traced is not None and not self._is_narrow:
            drawn.append(f"  {self._offset(run.started_at):>8}")
        if took := text.took(run) if self._is_narrow else text.took(run).rjust(7):
            drawn.append(f"  {took}", style="dim")
        if self._traced is not None:
            drawn.append(f"  {text.short_id(run.id)}", style="dim")
        for said, style in self._facts(run):
            drawn.append(f"  {said}", style=style)
        for step in run.steps:
            drawn.append(f"  {text.symbol(step.state)}", style=text.style(step.state))
            drawn.append(f" {text.printable(step.name)}")
            if step.attempts > 1:
                drawn.append(f" ({step.attempts} attempts)", style="yellow")

    def _facts(self, run: Run) -> Iterator[tuple[str, str]]:
        """What there is to know of the run besides its state, each with its style."""
        if run.due_at is not None:
            yield f"until {text.clock(run.due_at, is_short=self._is_narrow)}", "yellow"
        if run.attempts > 1:
            yield f"{run.attempts} attempts", "yellow"
        if run.reason is not None and run.state in (RunState.SKIPPED, RunState.CANCELLED):
            yield text.first_line(run.reason), "dim"
        if run.replay_of is not None:
            yield f"replay of {text.short_id(run.replay_of)}", "dim"
        if run.replayed_by is not None:
            yield f"replayed by {text.short_id(run.replayed_by)}", "dim"

    def _offset(self, at: int | None) -> str:
        if at is None or self._traced is None:
            return ""
        return f"+{text.duration(at - self._traced.since)}"

    def _problem(self, line: Line, run: Run) -> list[Text]:
        """Why it failed, on a line of its own: behind the steps it would be cut off on most terminals."""
        from rich.text import Text

        if run.error is None or run.state not in (RunState.FAILED, RunState.WAITING):
            return []
        drawn = Text(no_wrap=True, overflow="ellipsis")
        guides = "".join(self._space if ends else self._bar for ends in line.ends[1:])
        drawn.append(f"{guides}  ", style="dim")
        drawn.append(text.first_line(str(_cause(run) or run.error)), style=text.style(run.state))
        return [drawn]

    def _alike(self, drawn: Text, alike: Alike) -> None:
        """A name, how many times it is there, and of runs the states: 49,990 completed, 10 failed."""
        if isinstance(alike.first, FamilyEvent):
            drawn.append(text.printable(alike.first.name), style="bold")
            drawn.append(f" {text.times(len(alike.members))}")
            if alike.first.is_duplicate:
                drawn.append(f"  {text.count(len(alike.members), 'duplicate')}", style="yellow")
            return
        drawn.append(f"{text.printable(alike.first.function)} {text.times(len(alike.members))}")
        runs = [member for member in alike.members if isinstance(member, FamilyRun)]
        for number, (said, style) in enumerate(text.states(Counter(run.state for run in runs))):
            drawn.append(", " if number else "  ")
            drawn.append(said, style=style)
        began = [run.started_at for run in runs if run.started_at is not None]
        if self._traced is not None and began and not self._is_narrow:
            ended = [text.now() if run.ended_at is None else run.ended_at for run in runs]
            drawn.append(f"  {self._offset(min(began))}")
            drawn.append(f"  {text.duration(max(ended) - min(began))}", style="dim")


def _cause(run: Run) -> Failure | None:
    """What made the step fail that the run failed of: the step's name is in the line above."""
    if run.error is None or run.error.type not in ("StepError", "InvokeError"):
        return None
    errors = (step.error for step in reversed(run.steps) if step.state is StepState.FAILED)
    return next((root_cause(error) for error in errors if error is not None), None)
