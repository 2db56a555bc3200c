"""The facts of a live log as JSON: one object a line, with stable keys. Times are milliseconds UTC."""

from __future__ import annotations

from typing import Any

from fanout.commands.live.facts import EventSeen, Fact, LeftOut, Printed, RunSeen, StepSeen, Whose
from fanout.views.runs import failure_json


def fact_json(fact: Fact) -> dict[str, Any]:
    """`kind` says which keys there are."""
    match fact:
        case EventSeen():
            sender = None if fact.sender is None else {"run": fact.sender_id, "function": fact.sender}
            return {
                "kind": "event", "at": fact.at, "id": fact.id, "name": fact.name, "runs": fact.runs, "sender": sender,
            }  # fmt: skip
        case StepSeen():
            return {
                "kind": "step", "at": fact.at, **_run(fact.run), "step": fact.name, "step_kind": fact.kind,
                "state": fact.state, "attempts": fact.attempts, "took_ms": fact.took_ms, "due_at": fact.due_at,
                "awaited": fact.awaited, "error": failure_json(fact.failure),
            }  # fmt: skip
        case RunSeen():
            return {
                "kind": "run", "at": fact.at, **_run(fact.run), "state": fact.state, "attempts": fact.attempts,
                "took_ms": fact.took_ms, "due_at": fact.due_at, "reason": fact.reason,
                "error": failure_json(fact.failure), "replay_of": fact.run.replay_of,
            }  # fmt: skip
        case Printed():
            is_printed = fact.logger is None
            return {
                "kind": "output", "at": fact.at, **_run(fact.run), "step": fact.step, "attempt": fact.attempt,
                "stream": fact.source if is_printed else None, "level": None if is_printed else fact.source,
                "logger": fact.logger, "text": fact.text, "times": fact.times,
            }  # fmt: skip
        case LeftOut():
            return {
                "kind": "left_out", "at": fact.at, "events": fact.events, "began": fact.began, "runs": dict(fact.runs),
                "failures": fact.failures, "lines": fact.lines,
            }  # fmt: skip


def _run(whose: Whose | None) -> dict[str, str | None]:
    if whose is None:
        return {"run": None, "function": None, "event": None}
    return {"run": whose.id, "function": whose.function, "event": whose.event_id or None}
