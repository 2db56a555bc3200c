"""The facts of a live log in words: what stands behind the name of a run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fanout.commands import text
from fanout.commands.live.facts import EventSeen, LeftOut, Printed, RunSeen, StepSeen, Whose, tells_of_failure
from fanout.model import Failure, RunState, StepKind, StepState

_FRAME = re.compile(r'^[ |+-]*  File "(?P<file>.*)", line (?P<line>\d+)', re.MULTILINE)
_LIBRARY = re.compile(r"[/\\](?:site|dist)-packages[/\\]|[/\\]lib[/\\]python\d|^<")
_OURS = Path(__file__).parents[2]
_LEVELS = {"stderr": "dim", "debug": "dim", "info": "cyan", "warning": "yellow", "error": "red", "critical": "red"}
_LONGEST_REASON = 400


class Piece(NamedTuple):
    """Some words and their style; a line is only broken between pieces, as long as they fit on one."""

    text: str
    style: str = ""


class Row(NamedTuple):
    """What is said of a run, or of nothing in particular. `is_bad`: it is also shown if only failures are."""

    at: int
    whose: Whose | None
    pieces: tuple[Piece, ...]
    is_bad: bool = False
    is_output: bool = False


def event_pieces(event: EventSeen, *, has_long_ids: bool) -> tuple[Piece, ...]:
    pieces = [Piece(text.printable(event.name), "bold"), Piece(short(event.id, is_long=has_long_ids), "dim")]
    if event.sender is not None:
        who = f"from {text.printable(event.sender)} {short(event.sender_id or '', is_long=has_long_ids)}"
        pieces.append(Piece(who.rstrip(), "dim"))
    if not event.runs and not event.is_taken_up:
        pieces.append(Piece("starts nothing", "yellow"))
    return tuple(pieces)


def short(id_: str, *, is_long: bool) -> str:
    """Enough of an id to find it by; six characters are, among thousands."""
    said = text.short_id(id_)
    return said if is_long else said[-6:]


def steps_row(steps: Sequence[StepSeen]) -> Row:
    """Steps that have completed, one after another."""
    last = steps[-1]
    return Row(last.at, last.run, (_mark(last.state), *_completed(steps)))


def _completed(steps: Sequence[StepSeen]) -> Iterator[Piece]:
    for number, step in enumerate(steps):
        times = f" (attempt {step.attempts})" if step.attempts > 1 else ""
        took = "" if not step.took_ms else f" {text.duration(step.took_ms)}"
        more = "," if number < len(steps) - 1 else ""
        yield Piece(f"{text.first_line(step.name, 60)}{took}{times}{more}", "dim" if not times else "yellow")


def step_row(step: StepSeen) -> Row:
    """A step that goes on later, or has failed."""
    name = text.first_line(step.name, 60)
    pieces = [_mark(step.state)]
    match step.state:
        case StepState.RETRYING:
            pieces += [Piece(f"{name} failed:"), *_why(step.failure, "yellow")]
            pieces.append(_again(step.at, step.due_at, step.attempts, step.run.max_attempts))
        case StepState.FAILED:
            attempts = f" after {text.count(step.attempts, 'attempt')}" if step.attempts > 1 else ""
            pieces += [Piece(f"{name} failed{attempts}:"), *_why(step.failure, "red")]
        case StepState.WAITING:
            pieces += [Piece(f"{name}:"), Piece(_awaits(step), "yellow")]
        case _:
            pieces.append(Piece(f"{name} {step.state}"))
    return Row(step.at, step.run, tuple(pieces), tells_of_failure(step))


def _awaits(step: StepSeen) -> str:
    until = "" if step.due_at is None else f"until {text.clock(step.due_at)}"
    awaited = text.printable(step.awaited or "")
    match step.kind:
        case StepKind.SLEEP:
            return f"sleeps {until}"
        case StepKind.WAIT:
            return f"waits for {awaited or 'an event'} {until}".rstrip()
        case StepKind.MAP:
            return f"maps items with {awaited}".rstrip()
        case _:
            return f"waits for {awaited or 'a function'} {until}".rstrip()


def run_row(run: RunSeen, steps: Sequence[StepSeen] = (), *, is_said: bool = False) -> Row:
    """A run that has ended or goes on later, with the steps that have not been shown before.

    `is_said`: that of the step that it failed of stands above.
    """
    pieces = [_mark(run.state)]
    done = list(_completed(steps))
    took = "" if run.took_ms is None else f" {text.duration(run.took_ms)}"
    match run.state:
        case RunState.COMPLETED:
            pieces += [Piece(f"done in{took}" if took else "done", "green"), *done]
        case RunState.FAILED:
            how = text.first_line(run.reason or "failed")
            pieces += [*done, Piece(f"{how} after{took}" if took else how, "red")]
            pieces += [] if is_said and _is_of_step(run.failure) else _why(run.failure, "red")
        case RunState.WAITING if run.failure is not None:
            pieces += [*done, Piece("failed:"), *_why(run.failure, "yellow")]
            pieces.append(_again(run.at, run.due_at, run.attempts, run.run.max_attempts))
        case RunState.WAITING:
            until = "" if run.due_at is None else f"until {text.clock(run.due_at)}"
            pieces.append(Piece(" ".join(filter(None, (run.reason or "waits", until))), "yellow"))
        case RunState.QUEUED:
            pieces += [*done, *_why(run.failure, "red"), Piece("begins again where it was", "yellow")]
        case RunState.RUNNING:
            pieces += [*done, Piece("running", "cyan")]
        case _:
            why = Piece(text.first_line(run.reason, _LONGEST_REASON)) if run.reason else None
            pieces += [*done, Piece(str(run.state), text.style(run.state)), *([why] if why else ())]
    if run.state.is_final:
        pieces += _origin(run.run)
    return Row(run.at, run.run, tuple(pieces), tells_of_failure(run))


def _origin(whose: Whose) -> Iterator[Piece]:
    if whose.invoked_by is not None:
        yield Piece(f"for {text.printable(whose.invoked_by)}", "dim")
    if whose.replay_of is not None:
        yield Piece(f"replay of {text.short_id(whose.replay_of)}", "dim")


def printed_row(line: Printed, bar: str) -> Row:
    """What a function prints cannot look like what we say of it: there is a bar before it."""
    is_record = line.logger is not None
    mark = "" if line.source == "stdout" and not is_record else f"{text.printable(line.source)}: "
    style = _LEVELS.get(line.source, "")
    pieces = [Piece(bar, "own"), *([Piece(mark.rstrip(), style)] if mark else ())]
    pieces.append(Piece(text.printable(line.text.expandtabs()), "dim" if line.source == "stderr" else ""))
    if line.times > 1:
        pieces.append(Piece(f"({line.times:,} times)", "dim"))
    return Row(line.at, line.run, tuple(pieces), is_output=True)


def left_out_row(left: LeftOut) -> Row:
    """`1,243 more events, 1,243 more runs: 1,240 completed, 3 failed`."""
    said = []
    if left.events:
        said.append(text.count(left.events, "more event"))
    ended = sum(left.runs.values())
    if ended:
        states = sorted(left.runs.items())
        among = ", ".join(f"{number:,} {state}" for state, number in states)
        runs = text.count(ended, "more run")
        said.append(f"{runs}: {among}" if len(states) > 1 else f"{runs} {states[0][0]}")
    elif left.began:
        said.append(f"{text.count(left.began, 'more run')} begun")
    if left.failures:
        said.append(f"{text.count(left.failures, 'failed attempt')}")
    if left.lines:
        said.append(f"{text.count(left.lines, 'more line')} printed, which `fanout logs` has")
    pieces = (Piece(f"{text.drawn('…', '...')} {'; '.join(said)}", "dim"),)
    return Row(left.at, None, pieces, tells_of_failure(left))


def _mark(state: RunState | StepState) -> Piece:
    return Piece(text.symbol(state), text.style(state))


def _again(at: int, due_at: int | None, failed: int, most: int | None) -> Piece:
    """Of which attempt, when."""
    of = "" if most is None else f" of {most}"
    when = "" if due_at is None else f" at {text.clock(due_at)}, in {text.duration(due_at - at)}"
    return Piece(f"attempt {failed + 1}{of}{when}", "dim")


def _why(failure: Failure | None, style: str) -> Iterator[Piece]:
    """The reason, and the line of the user's own code that it comes from."""
    if failure is None:
        return
    yield Piece(text.first_line(str(failure), _LONGEST_REASON), style)
    if place := _place(failure.traceback):
        yield Piece(place, "cyan")


def _is_of_step(failure: Failure | None) -> bool:
    return failure is not None and failure.type in ("StepError", "InvokeError")


def _place(traceback: str) -> str:
    for frame in reversed(list(_FRAME.finditer(traceback))):
        file = frame["file"]
        if not _LIBRARY.search(file) and not Path(file).is_relative_to(_OURS):
            return f"{text.printable(file.removeprefix(f'{Path.cwd()}{os.sep}'))}:{frame['line']}"
    return ""
