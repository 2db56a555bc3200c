"""One run in full: all that the journal knows of it, gathered, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from fanout.errors import JournalError
from fanout.journal.awaited import Awaited, AwaitedEvent, Children, Relatives
from fanout.journal.logs import LogSize, logs_path
from fanout.journal.sqlite_logs import LogReader
from fanout.model import FailedAttempt, Run, RunState, Step, StepState
from fanout.views import reasons, waits, words
from fanout.views.runs import failure_json, raw_json, run_json

if TYPE_CHECKING:
    from fanout.journal.sqlite_reader import JournalReader


class Page(NamedTuple):
    run: Run
    data: str
    failures: list[FailedAttempt]
    awaited: dict[str, Awaited]
    cancelled_by: list[AwaitedEvent]
    relatives: Relatives
    why: str | None = None
    log: LogSize = LogSize()


def read(reader: JournalReader, run: Run) -> Page:
    return Page(
        run=run,
        data=reader.event_data(run.key),
        failures=reader.failures(run.key),
        awaited={each.step: each for each in reader.awaited(run.key)},
        cancelled_by=reader.cancelling_events(run.key),
        relatives=reader.relatives(run.key),
        why=reasons.line(reader, run, words.now()),
        log=_log_size(reader, run),
    )


def _log_size(reader: JournalReader, run: Run) -> LogSize:
    """How much it has printed; logs that can't be read are no reason to show less of the run."""
    with LogReader(logs_path(reader.path), redact=reader.redact) as log, suppress(JournalError):
        return log.size(run.id)
    return LogSize()


def step_notes(step: Step, awaited: Awaited | None) -> Iterator[str]:
    """What is not to be seen in its bar."""
    if step.attempts > 1:
        yield f"{step.attempts} attempts"
    if step.state is StepState.RETRYING and step.due_at is not None:
        yield f"again at {words.clock(step.due_at)}"
    if awaited is not None:
        yield waits.in_words(awaited)
    if step.is_unreached:
        yield "recorded, but today's code has no such step"


# JSON.


def as_json(page: Page) -> dict[str, Any]:
    relatives = page.relatives
    return {
        **run_json(page.run),
        "parent_step": relatives.parent_step,
        "item": relatives.item,
        "item_key": relatives.item_key,
        "sent_by": relatives.sent_by,
        "event_data": raw_json(page.data),
        "failures": [
            {
                "step": each.step or None,
                "attempt": each.number,
                "began_at": each.began_at,
                "at": each.ended_at,
                **(failure_json(each.failure) or {}),
            }
            for each in page.failures
        ],
        "why": page.why,
        "log_lines": page.log.lines,
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
        "value": raw_json(event.value) if event.path else None,
        "if": event.condition,
        "expires_at": event.expires_at,
    }


def _children_json(children: Children) -> dict[str, Any]:
    counts: dict[RunState, int] = dict(children.counts)
    return {"step": children.step, "function": children.function, "first_id": children.id, "states": counts}
