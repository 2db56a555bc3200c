"""One run in full, as `fanout runs show` prints it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fanout.commands import reasons, report, text, waits
from fanout.commands.app import say
from fanout.core.causes import root_cause
from fanout.journal.awaited import Awaited, AwaitedEvent, Children, Relatives
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import Failure, Run, RunState, Step, StepState

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_LEAST_WIDTH = 9
_LEAST_TEXT = 24
_LEAST_ROWS = 5
_ROWS_BELOW = 3
"""The heading of the steps, a hint, and the shell's next prompt."""


class Page(NamedTuple):
    run: Run
    data: str
    failures: list[tuple[str, int, int, Failure]]
    awaited: dict[str, Awaited]
    cancelled_by: list[AwaitedEvent]
    relatives: Relatives
    why: str | None = None


def read(reader: JournalReader, run: Run) -> Page:
    return Page(
        run=run,
        data=reader.event_data(run.key),
        failures=reader.failures(run.key),
        awaited={each.step: each for each in reader.awaited(run.key)},
        cancelled_by=reader.cancelling_events(run.key),
        relatives=reader.relatives(run.key),
        why=reasons.line(reader, run, text.now()),
    )


# For people.


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
    others = len(facts) - len(long_ones) + len(page.run.steps)
    most_rows = max(_LEAST_ROWS, (out.height - others - _ROWS_BELOW) // max(1, len(long_ones)))
    is_cut = False
    for fact in facts:
        rows = [text.printable(fact.value)]
        if fact in long_ones and width is not None:
            rows = _json_rows(fact.value, out, width, most_rows)
            if len(rows) > most_rows:
                rows, is_cut = [*rows[: most_rows - 1], "…"], True
        for number, row in enumerate(rows):
            name = "" if number else fact.name
            out.print(_line((f"{name:<{indent}}", "dim"), (row, fact.style)), soft_wrap=True)
    if page.run.steps:
        out.print(_line(("steps", "dim")))
    for step in page.run.steps:
        line = _step_line(step, page.awaited.get(step.name))
        is_cut = _add_output(line, step, out.width if out.is_terminal else None) or is_cut
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


def _add_output(line: Text, step: Step, width: int | None) -> bool:
    """What the step has returned, as far as there is room behind its line; whether that was not all."""
    if step.output is None:
        return False
    output = text.printable(bytes(step.output).decode())
    shown = output if width is None else text.first_line(output, max(_LEAST_TEXT, width - line.cell_len - 2))
    line.append(f"  {shown}", style="dim")
    return shown != output


def _print_failures(page: Page, out: Console) -> None:
    for step_name, attempt, at, failure in page.failures:
        if failure.type in ("StepError", "InvokeError") and not step_name and page.run.steps:
            continue  # It only repeats what its step has said.
        where = f"step `{text.printable(step_name)}`" if step_name else "the function"
        said = f"{text.clock(at)}  {where}, attempt {attempt + 1}: {text.first_line(str(root_cause(failure)))}"
        out.print()
        out.print(_line((said, "red")), soft_wrap=True)
        if failure.traceback:
            out.print(_line((text.printable(failure.traceback.rstrip(), keep_lines=True), "dim")), soft_wrap=True)


def _facts(page: Page) -> Iterator[_Fact]:
    """What there is to say about the run as a whole."""
    run = page.run
    reason = f" ({text.printable(run.reason)})" if run.reason else ""
    yield _Fact("run", run.id)
    yield _Fact("function", text.printable(run.function), "bold")
    yield _Fact("state", f"{text.symbol(run.state)} {run.state}{reason}", text.style(run.state))
    if page.why is not None:
        yield _Fact("why", f"it {page.why}", "yellow")
    for event in page.cancelled_by:
        limit = "" if event.expires_at is None else f", until {text.clock(event.expires_at)}"
        yield _Fact("", f"would be cancelled by {waits.event_in_words(event)}{limit}")
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
    yield _Fact("attempts", f"{run.attempts} of {run.max_attempts}")
    yield from _relatives(page)
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
        yield _Fact("invoked", f"{waits.children_in_words(children)}{where}")
    for name, number, id_ in page.relatives.sent:
        yield _Fact("sent", f"{text.printable(name)}  {text.printable(id_) if number == 1 else text.times(number)}")


def _step_line(step: Step, awaited: Awaited | None) -> Text:
    parts = [("  ", ""), (text.symbol(step.state), text.style(step.state)), (f" {text.printable(step.name)}", "")]
    if step.ended_at is not None and step.started_at is not None:
        parts.append((f"  {text.duration(step.ended_at - step.started_at)}", "dim"))
    if step.attempts > 1:
        parts.append((f"  {step.attempts} attempts", "yellow"))
    if step.state is StepState.RETRYING and step.due_at is not None:
        parts.append((f"  again at {text.clock(step.due_at)}", "yellow"))
    if awaited is not None:
        parts.append((f"  {waits.in_words(awaited)}", "yellow"))
    if step.is_unreached:
        parts.append(("  recorded, but today's code has no such step", "yellow"))
    return _line(*parts)


def _line(*parts: tuple[str, str]) -> Text:
    from rich.text import Text  # lazy: `--json` doesn't draw

    return Text.assemble(*parts)


# JSON.


def as_json(page: Page) -> dict[str, Any]:
    relatives = page.relatives
    return {
        **report.run_json(page.run),
        "parent_step": relatives.parent_step,
        "item": relatives.item,
        "item_key": relatives.item_key,
        "sent_by": relatives.sent_by,
        "event_data": report.raw_json(page.data),
        "failures": [
            {"step": step or None, "attempt": attempt, "at": at, **(report.failure_json(failure) or {})}
            for step, attempt, at, failure in page.failures
        ],
        "why": page.why,
        "waits": [_awaited_json(each) for each in page.awaited.values()],
        "cancelled_by": [_event_json(event) for event in page.cancelled_by],
        "children": [_children_json(children) for children in relatives.children],
        "sent": [{"name": name, "count": number, "first_id": id_} for name, number, id_ in relatives.sent],
        "replays": [{"id": id_, "state": state} for id_, state in relatives.replays],
    }


def _awaited_json(awaited: Awaited) -> dict[str, Any]:
    return {
        "step": awaited.step,
        "kind": awaited.kind,
        "due_at": awaited.due_at,
        "event": None if awaited.event is None else _event_json(awaited.event),
        "children": None if awaited.children is None else _children_json(awaited.children),
        "has_more": awaited.has_more,
    }


def _event_json(event: AwaitedEvent) -> dict[str, Any]:
    return {
        "name": event.event,
        "path": event.path or None,
        "value": report.raw_json(event.value) if event.path else None,
        "if": event.condition,
        "expires_at": event.expires_at,
    }


def _children_json(children: Children) -> dict[str, Any]:
    counts: dict[RunState, int] = dict(children.counts)
    return {"step": children.step, "function": children.function, "first_id": children.id, "states": counts}
