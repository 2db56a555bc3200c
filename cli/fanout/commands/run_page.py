"""One run in full, as `fanout runs show` prints it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fanout.commands import report, text, tracebacks
from fanout.commands.app import say
from fanout.commands.waterfall import Chart
from fanout.core.causes import root_cause
from fanout.journal.awaited import Awaited
from fanout.model import Step
from fanout.views import waits
from fanout.views.run import Page, step_notes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_LEAST_WIDTH = 9
_LEAST_TEXT = 24
_LEAST_ROWS = 5
_ROWS_BELOW = 2
"""A hint, and the shell's next prompt."""


class _Fact(NamedTuple):
    """`is_json`: the value may be long, and can be laid out over several lines."""

    name: str
    value: str
    style: str = ""
    is_json: bool = False


def print_page(page: Page) -> None:
    """On a terminal long values end where there is no room for more; anywhere else they are printed in full."""
    out = report.console()
    facts = list(_facts(page))
    indent = max(_LEAST_WIDTH, *(len(fact.name) + 1 for fact in facts))
    width = max(_LEAST_TEXT, out.width - indent) if out.is_terminal else None
    long_ones = [fact for fact in facts if fact.is_json and width is not None and len(fact.value) > width]
    steps, is_cut = _steps(page, out)
    others = len(facts) - len(long_ones) + sum(line.plain.count("\n") + 1 for line in steps)
    most_rows = max(_LEAST_ROWS, (out.height - others - _ROWS_BELOW) // max(1, len(long_ones)))
    for fact in facts:
        rows = [text.printable(fact.value)]
        if fact in long_ones and width is not None:
            rows = _json_rows(fact.value, out, width, most_rows)
            if len(rows) > most_rows:
                rows, is_cut = [*rows[: most_rows - 1], "…"], True
        for number, row in enumerate(rows):
            name = "" if number else fact.name
            out.print(_line((f"{name:<{indent}}", "dim"), (row, fact.style)), soft_wrap=True)
    for line in steps:
        out.print(line, soft_wrap=True)
    _print_failures(page, out)
    if is_cut:
        say(f"hint: `fanout runs show {text.short_id(page.run.id)} --json` has all of it")


def _json_rows(json_text: str, out: Console, width: int, most: int) -> list[str]:
    """The value over several lines, one more than may be if there is more."""
    from rich.text import Text  # lazy: `--json` doesn't draw

    lines = msgspec.json.format(json_text, indent=2).split("\n", most + 1)[: most + 1]
    # Of a text of megabytes, no more is wrapped than could be shown.
    drawn = (Text(text.printable(line[: width * (most + 1)])) for line in lines)
    return [row.plain for line in drawn for row in line.wrap(out, width, overflow="fold")][: most + 1]


def _steps(page: Page, out: Console) -> tuple[list[Text], bool]:
    """The steps drawn to scale, each with what there is to say about it; whether something was cut short."""
    if not page.run.steps:
        return [], False
    chart, is_cut = Chart(page.run, page.failures, out.width), False
    drawn = [chart.line(step) for step in page.run.steps]
    for line, step in zip(drawn, page.run.steps, strict=True):
        is_cut = _add_notes(line, step, page.awaited.get(step.name), out.width if out.is_terminal else None) or is_cut
    others = chart.axis(), chart.queue(), *drawn, chart.legend()
    return [line for line in others if line is not None], is_cut


def _add_notes(line: Text, step: Step, awaited: Awaited | None, width: int | None) -> bool:
    """What there is to say besides, and what it has returned; whether that was not all.

    On a terminal it goes to the next line where there is no room for it.
    """
    for note in map(text.shown, step_notes(step, awaited)):
        if width is not None and _row_length(line) + len(note) + 2 > width:
            line.append("\n  ")
        line.append(f"  {note}", style="yellow")
    if step.output is None:
        return False
    output = text.printable(bytes(step.output).decode())
    if width is None:
        line.append(f"  {output}", style="dim")
        return False
    room = width - _row_length(line) - 2
    if room < min(len(output), _LEAST_TEXT):
        line.append("\n  ")
        room = width - 4
    shown = text.first_line(output, room)
    line.append(f"  {shown}", style="dim")
    return shown != output


def _row_length(line: Text) -> int:
    """Columns of the last row of it."""
    return len(line.plain) - line.plain.rfind("\n") - 1 if "\n" in line.plain else line.cell_len


def _print_failures(page: Page, out: Console) -> None:
    """Each failure with the attempts that it ended, the code's own lines first to be seen."""
    for (step, failure), group in groupby(page.failures, key=lambda attempt: (attempt.step, attempt.failure)):
        attempts = [*group]
        if failure.type in ("StepError", "InvokeError") and not step and page.run.steps:
            continue  # It only repeats what its step has said.
        where = f"step `{text.printable(step)}`" if step else "the function"
        first, last = attempts[0].number + 1, attempts[-1].number + 1
        which = (
            f"attempt {first}"
            if len(attempts) == 1
            else f"attempts {first} {'to' if last - first > 1 else 'and'} {last}"
        )
        said = text.first_line(str(root_cause(failure)))
        out.print()
        out.print(
            _line((f"{text.clock(attempts[-1].ended_at)}  ", "dim"), (f"{where}, {which}: {said}", "red")),
            soft_wrap=True,
        )
        for line in tracebacks.lines(failure.traceback) if failure.traceback else ():
            out.print(line, soft_wrap=True)


def _facts(page: Page) -> Iterator[_Fact]:
    """What there is to say about the run as a whole."""
    run = page.run
    reason = f" ({text.printable(run.reason)})" if run.reason else ""
    yield _Fact("run", run.id)
    yield _Fact("function", text.printable(run.function), "bold")
    yield _Fact("state", f"{text.symbol(run.state)} {run.state}{reason}", text.style(run.state))
    if page.why is not None:
        yield _Fact("why", f"it {text.shown(page.why)}", "yellow")
    for event in page.cancelled_by:
        limit = "" if event.expires_at is None else f", until {text.clock(event.expires_at)}"
        yield _Fact("", f"would be cancelled by {text.shown(waits.event_in_words(event))}{limit}")
    yield _Fact("event", f"{text.printable(run.event_name)}  {text.printable(run.event_id)}")
    yield from _origin(page)
    yield _Fact("data", page.data, is_json=True)
    yield _Fact("queued", text.clock(run.queued_at))
    if run.started_at is not None:
        yield _Fact("began", f"{text.clock(run.started_at)}, took {text.took(run)}")
    if run.due_at is not None:
        is_limit = any(each.event or each.children for each in page.awaited.values())
        wait = text.duration(run.due_at - text.now())
        at_the_latest = " at the latest" if is_limit else ""
        yield _Fact("goes on", f"{text.clock(run.due_at)}{at_the_latest}, in {wait}", "yellow")
    if run.attempts > 1:  # steps have attempts of their own, and say so
        yield _Fact("attempts", f"{run.attempts} of {run.max_attempts}, of the code between steps")
    yield from _relatives(page)
    if page.log.lines:
        lines = text.count(page.log.lines + page.log.left_out, "line")
        yield _Fact("log", f"{lines}: `fanout logs {text.short_id(run.id)}`")
    if run.output is not None:
        yield _Fact("output", bytes(run.output).decode(), is_json=True)


def _origin(page: Page) -> Iterator[_Fact]:
    run, relatives = page.run, page.relatives
    if run.parent is not None:
        item = "" if relatives.item is None else f", item {relatives.item}"
        key = "" if relatives.item_key is None else f" `{text.first_line(relatives.item_key)}`"
        yield _Fact("invoked by", f"{run.parent}, step `{text.printable(relatives.parent_step or '')}`{item}{key}")
    elif relatives.sent_by is not None:
        yield _Fact("caused by", relatives.sent_by)


def _relatives(page: Page) -> Iterator[_Fact]:
    if page.run.replay_of:
        yield _Fact("replay of", page.run.replay_of)
    for id_, state in page.relatives.replays:
        yield _Fact("replay", f"{id_} {state}", text.style(state))
    for children in page.relatives.children:
        where = f" (step `{text.printable(children.step)}`)" if children.step != children.function else ""
        yield _Fact("invoked", f"{text.shown(waits.children_in_words(children))}{where}")
    for name, number, id_ in page.relatives.sent:
        yield _Fact("sent", f"{text.printable(name)}  {text.printable(id_) if number == 1 else text.times(number)}")


def _line(*parts: tuple[str, str]) -> Text:
    from rich.text import Text  # lazy: `--json` doesn't draw

    return Text.assemble(*parts)
