"""One run in full, as `fanout runs show` prints it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from fanout.commands import reasons, report, text, waits
from fanout.journal.awaited import Awaited, AwaitedEvent, Children, Relatives
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import Failure, Run, RunState, Step, StepState

if TYPE_CHECKING:
    from rich.text import Text

_LEAST_WIDTH = 9


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


def print_page(page: Page) -> None:
    out = report.console()
    facts = list(_facts(page))
    width = max(_LEAST_WIDTH, *(len(name) + 1 for name, _, _ in facts))
    for name, value, style in facts:
        out.print(_line((f"{name:<{width}}", "dim"), (value, style)), soft_wrap=True)
    if page.run.steps:
        out.print(_line(("steps", "dim")))
    for step in page.run.steps:
        out.print(_step_line(step, page.awaited.get(step.name)), soft_wrap=True)
    for step_name, attempt, at, failure in page.failures:
        if failure.type == "StepError" and page.run.steps:
            continue  # It only repeats what its step has said.
        where = f"step `{text.printable(step_name)}`" if step_name else "the function"
        said = f"{text.clock(at)}  {where}, attempt {attempt + 1}: {text.first_line(str(failure))}"
        out.print()
        out.print(_line((said, "red")), soft_wrap=True)
        if failure.traceback:
            out.print(_line((text.printable(failure.traceback.rstrip(), keep_lines=True), "dim")), soft_wrap=True)


def _facts(page: Page) -> Iterator[tuple[str, str, str]]:
    """(name, value, style) of what there is to say about the run as a whole."""
    run = page.run
    reason = f" ({text.printable(run.reason)})" if run.reason else ""
    yield "run", run.id, ""
    yield "function", text.printable(run.function), "bold"
    yield "state", f"{text.symbol(run.state)} {run.state}{reason}", text.style(run.state)
    if page.why is not None:
        yield "why", f"it {page.why}", "yellow"
    yield "event", f"{text.printable(run.event_name)}  {text.printable(run.event_id)}", ""
    yield from _origin(page)
    yield "data", text.first_line(page.data), ""
    yield "queued", text.clock(run.queued_at), ""
    if run.started_at is not None:
        yield "began", f"{text.clock(run.started_at)}, took {text.took(run)}", ""
    if run.due_at is not None:
        is_limit = any(each.event or each.children for each in page.awaited.values())
        wait = text.duration(run.due_at - text.now())
        yield "goes on", f"{text.clock(run.due_at)}{' at the latest' if is_limit else ''}, in {wait}", "yellow"
    yield "attempts", f"{run.attempts} of {run.max_attempts}", ""
    yield from _relatives(page)
    for event in page.cancelled_by:
        limit = "" if event.expires_at is None else f", until {text.clock(event.expires_at)}"
        yield "ended by", f"{waits.event_in_words(event)}{limit}", ""
    if run.output is not None:
        yield "output", text.first_line(bytes(run.output).decode()), ""


def _origin(page: Page) -> Iterator[tuple[str, str, str]]:
    run, relatives = page.run, page.relatives
    if run.parent is not None:
        item = "" if relatives.item is None else f", item {relatives.item}"
        yield "invoked by", f"{run.parent}, step `{text.printable(relatives.parent_step or '')}`{item}", ""
    elif relatives.sent_by is not None:
        yield "caused by", relatives.sent_by, ""


def _relatives(page: Page) -> Iterator[tuple[str, str, str]]:
    if page.run.replay_of:
        yield "replay of", page.run.replay_of, ""
    for id_, state in page.relatives.replays:
        yield "replay", f"{id_} {state}", text.style(state)
    for children in page.relatives.children:
        where = f" (step `{text.printable(children.step)}`)" if children.step != children.function else ""
        yield "invoked", f"{waits.children_in_words(children)}{where}", ""
    for name, number, id_ in page.relatives.sent:
        yield "sent", f"{text.printable(name)}  {text.printable(id_) if number == 1 else text.times(number)}", ""


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
    if step.output is not None:
        parts.append((f"  {text.first_line(bytes(step.output).decode())}", "dim"))
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
