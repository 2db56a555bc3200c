"""Runs and their steps as JSON: keys are stable, times are milliseconds UTC."""

from __future__ import annotations

from typing import Any

import msgspec

from fanout.model import Failure, Run, Step


def run_json(run: Run, *, has_steps: bool = True) -> dict[str, Any]:
    """Where steps were not read, there is no word of them."""
    said = {
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
        "replayed_by": run.replayed_by,
        "parent": run.parent,
    }
    return said | ({"steps": [step_json(step) for step in run.steps]} if has_steps else {})


def step_json(step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "kind": step.kind,
        "state": step.state,
        "attempts": step.attempts,
        "started_at": step.started_at,
        "ended_at": step.ended_at,
        "due_at": step.due_at,
        "output": step.output,
        "error": failure_json(step.error),
        "is_unreached": step.is_unreached,
    }


def failure_json(failure: Failure | None) -> dict[str, str] | None:
    if failure is None:
        return None
    return {"type": failure.type, "message": failure.message, "traceback": failure.traceback}


def raw_json(json_text: str) -> msgspec.Raw:
    """JSON text to be put into other JSON as it is."""
    return msgspec.Raw(json_text.encode())
