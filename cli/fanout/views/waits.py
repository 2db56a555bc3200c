"""What runs wait for, in words."""

from __future__ import annotations

from fanout.journal.awaited import Awaited, AwaitedEvent, Children
from fanout.journal.family import Watched
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import Run, StepKind, StepState
from fanout.views import words

_MOST_NAMED = 3


def hints(reader: JournalReader, watched: Watched) -> list[str]:
    """Which runs wait, until when and for what."""
    number, runs = reader.waiting(watched, limit=_MOST_NAMED)
    said = [f"`{words.printable(run.function)}` {_why(run, reader.awaited(run.key))}" for run in runs]
    if number > len(said):
        said.append(f"{words.count(number - len(said), 'more run')} wait")
    return said


def _why(run: Run, awaited: list[Awaited]) -> str:
    """What the run waits for; of several steps, the one whose time comes first."""
    waiting = {each.step: each for each in awaited}
    steps = [step for step in run.steps if step.state in (StepState.WAITING, StepState.RETRYING)]
    if not steps or (run.due_at is not None and all(step.due_at != run.due_at for step in steps)):
        return f"begins{' again' if run.attempts else ''} at {words.clock(run.due_at)}"
    first = min(steps, key=lambda step: (step.due_at is None, step.due_at))
    if first.name in waiting:
        return in_words(waiting[first.name])
    return f"tries step `{words.printable(first.name)}` again at {words.clock(first.due_at)}"


def in_words(awaited: Awaited) -> str:
    """As in: a run, or a step, `sleeps until 14:05:00`."""
    limit = f" until {words.clock(awaited.due_at)}" if awaited.due_at is not None else ""
    if awaited.kind is StepKind.SLEEP:
        return f"sleeps{limit}"
    if awaited.event is not None:
        return f"waits{limit or ' without a time limit'} for {event_in_words(awaited.event)}"
    if awaited.children is None:
        return f"waits{limit}"
    more = ", and more are to come" if awaited.has_more else ""
    return f"waits{limit} for {children_in_words(awaited.children)}{more}"


def event_in_words(event: AwaitedEvent) -> str:
    said = f"the event `{words.printable(event.event)}`"
    if event.path:
        said += f" with {words.printable(event.path)} = {words.first_line(event.value, 60)}"
    if event.condition is not None:
        said += f" if {words.first_line(event.condition, 120)}"
    return said


def children_in_words(children: Children) -> str:
    """`ship-order`, its id and its state; of several, how many are in each state."""
    number = sum(children.counts.values())
    name = f"`{words.printable(children.function)}`"
    if number == 1:
        (state,) = children.counts
        return f"{name} {children.id}, {state}"
    return f"{name} {words.times(number)}: {', '.join(words.states(children.counts))}"
