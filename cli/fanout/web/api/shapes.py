"""The shapes of what the JSON API answers, as types from which its documentation is made.

They say the same as `--json` of the commands: times are milliseconds UTC, durations milliseconds.
"""

from __future__ import annotations

from typing import Any, TypedDict

from fanout.core.graph import LinkKind, NodeKind
from fanout.journal.received import Source
from fanout.model import RunState, StepKind, StepState


class Problem(TypedDict):
    status: int
    error: str


class FieldProblem(Problem, total=False):
    """`field`: the parameter, or the field of the body, that is wrong."""

    hint: str
    field: str


class Failed(TypedDict):
    type: str
    message: str
    traceback: str


class StepShape(TypedDict):
    name: str
    kind: StepKind
    state: StepState
    attempts: int
    started_at: int | None
    ended_at: int | None
    due_at: int | None
    output: Any
    error: Failed | None
    is_unreached: bool


class RunShape(TypedDict):
    id: str
    function: str
    event_id: str
    event_name: str
    state: RunState
    reason: str | None
    attempts: int
    queued_at: int
    due_at: int | None
    started_at: int | None
    ended_at: int | None
    output: Any
    error: Failed | None
    replay_of: str | None
    replayed_by: str | None
    parent: str | None


class RunsShape(TypedDict):
    """`before`: what to give for the next page; null if this is the last."""

    runs: list[RunShape]
    before: str | None


class FailedAttemptShape(TypedDict):
    step: str | None
    attempt: int
    began_at: int | None
    at: int
    type: str
    message: str
    traceback: str


AwaitedEventShape = TypedDict(
    "AwaitedEventShape",
    {"name": str, "path": str | None, "value": Any, "if": str | None, "expires_at": int | None},
)


class ChildrenShape(TypedDict):
    step: str
    function: str
    first_id: str
    states: dict[str, int]


class AwaitedShape(TypedDict):
    step: str
    kind: StepKind
    due_at: int | None
    event: AwaitedEventShape | None
    children: ChildrenShape | None
    has_more: bool


class SentShape(TypedDict):
    name: str
    count: int
    first_id: str


class ReplayShape(TypedDict):
    id: str
    state: RunState


class FullRunShape(RunShape):
    steps: list[StepShape]
    parent_step: str | None
    item: int | None
    item_key: str | None
    sent_by: str | None
    event_data: Any
    failures: list[FailedAttemptShape]
    why: str | None
    log_lines: int
    waits: list[AwaitedShape]
    cancelled_by: list[AwaitedEventShape]
    children: list[ChildrenShape]
    sent: list[SentShape]
    replays: list[ReplayShape]


class LineShape(TypedDict):
    number: int
    run: str
    step: str | None
    attempt: int
    at: int
    stream: str | None
    level: str | None
    logger: str | None
    text: str


class LogsShape(TypedDict):
    """`after`: what to give to get what comes behind these lines. `is_over`: the run has ended."""

    run: str
    is_over: bool
    lines: list[LineShape]
    after: int
    left_out: int


class OriginShape(TypedDict):
    run: str
    function: str


class EventShape(TypedDict):
    id: str
    name: str
    ts: int
    received_at: int
    source: Source
    origin: OriginShape | None
    is_routed: bool
    is_unheard: bool
    functions: list[str]


class ListedEventShape(EventShape):
    runs: dict[str, int]


class EventsShape(TypedDict):
    events: list[ListedEventShape]


class EventRunShape(TypedDict):
    id: str
    function: str
    state: RunState
    started_at: int | None
    ended_at: int | None
    is_replay: bool
    sent: dict[str, int]
    invoked: dict[str, int]


class FullEventShape(EventShape):
    v: str | None
    user: Any
    data: Any
    run_counts: dict[str, int]
    runs: list[EventRunShape]


class FamilyEventShape(TypedDict):
    id: str
    name: str
    received_at: int
    origin: str | None
    duplicate: bool


class FamilyRunShape(RunShape):
    steps: list[StepShape]
    parent_step: str | None
    item: int | None
    item_key: str | None


class TraceShape(TypedDict):
    id: str
    root: str
    is_cut: bool
    events: list[FamilyEventShape]
    runs: list[FamilyRunShape]


class LastRunShape(TypedDict):
    id: str
    state: RunState
    queued_at: int


class TimesShape(TypedDict):
    p50: int | None
    p95: int | None


class EventSchemaShape(TypedDict):
    """A JSON Schema of an event's data; `event` is null if it is for all that the function listens to."""

    event: str | None
    schema: dict[str, Any]


class FunctionShape(TypedDict):
    id: str
    name: str
    app: str
    module: str
    qualname: str
    file: str
    line: int
    is_present: bool
    is_loadable: bool
    loaded_at: int
    paused_at: int | None
    triggers: list[dict[str, Any]]
    settings: dict[str, Any]
    event_schemas: list[EventSchemaShape]
    steps: list[str] | None
    runs: dict[str, int]
    last_run: LastRunShape | None
    took: TimesShape | None
    queued: TimesShape | None


class FunctionsShape(TypedDict):
    functions: list[FunctionShape]
    runs_counted: int
    are_all_runs_counted: bool


class TickShape(TypedDict):
    scheduled_at: int
    run: str
    state: RunState
    reason: str | None


class ScheduleShape(TypedDict):
    function: str
    cron: str
    timezone: str
    jitter_ms: int
    words: str
    is_present: bool
    is_loadable: bool
    paused_at: int | None
    last: TickShape | None
    next_at: int | None
    next: list[int]


class SchedulesShape(TypedDict):
    schedules: list[ScheduleShape]


class ThroughputShape(TypedDict):
    first_at: int
    slice_ms: int
    runs: list[int]
    failed: list[int]


class FunctionFiguresShape(TypedDict):
    function: str
    counts: dict[str, int]
    took: TimesShape
    queued: TimesShape
    last_at: int
    last_run: str
    last_state: RunState


class StepFiguresShape(TypedDict):
    function: str
    step: str
    count: int
    took: TimesShape


class ErrorFiguresShape(TypedDict):
    type: str
    message: str
    function: str
    count: int
    last_at: int
    last_run: str


class AttemptsShape(TypedDict):
    failed: int
    retried: int
    crashes: int


class LatenessShape(TypedDict):
    ticks: int
    late: TimesShape


class StatsShape(TypedDict):
    function: str | None
    since: int
    until: int
    counts: dict[str, int]
    throughput: ThroughputShape
    functions: list[FunctionFiguresShape]
    steps: list[StepFiguresShape]
    timed_runs: int
    are_all_runs_timed: bool
    errors: list[ErrorFiguresShape]
    failures: int
    are_all_failures_counted: bool
    attempts: AttemptsShape
    cron: LatenessShape


class NodeShape(TypedDict):
    id: str
    kind: NodeKind
    name: str


LinkShape = TypedDict("LinkShape", {"from": str, "to": str, "kind": LinkKind, "count": int | None, "if": str | None})


class GraphShape(TypedDict):
    nodes: list[NodeShape]
    links: list[LinkShape]
    unreached: list[str]


class WhyShape(TypedDict):
    run: str
    function: str
    state: RunState
    code: str
    words: str
    until: int | None
    held_by: list[str]
    ahead: int | None
