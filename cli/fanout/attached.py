"""What `@function` attaches to a function: workers find it again there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fanout.model import FunctionSpec

ATTRIBUTE = "__fanout__"
ON_FAILURE = "__fanout_on_failure__"
EVENT_SCHEMA = "__fanout_event_schema__"


def on_failure_of(value: object) -> tuple[FunctionSpec, Callable[..., Any]] | None:
    """What is run when a run of this function has failed: its spec, and its code."""
    found: tuple[FunctionSpec, Callable[..., Any]] | None = getattr(value, "__dict__", {}).get(ON_FAILURE)
    return found


def event_schema_of(value: object) -> Any:
    """The type of the data of a function's events, or those by the events' names; None where it has none."""
    return getattr(value, "__dict__", {}).get(EVENT_SCHEMA)


def spec_of(value: object) -> FunctionSpec | None:
    """The spec that `@function` attached, if `value` has one of its own."""
    spec = getattr(value, "__dict__", {}).get(ATTRIBUTE)
    return spec if isinstance(spec, FunctionSpec) else None
