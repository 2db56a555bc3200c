"""The nouns as frozen data: Event, FunctionSpec, Run, Step, Failure and their states. No behaviour that needs I/O.

Times are integer milliseconds since 1970, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NoReturn, Required, TypedDict

import msgspec

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # known to every type checker, installed or not

    DataT_co = TypeVar("DataT_co", default=dict[str, Any], covariant=True)
else:
    from typing import TypeVar  # before Python 3.13 it has no `default`

    DataT_co = TypeVar("DataT_co", covariant=True)

RESERVED_PREFIX = "fanout/"
"""Events whose names begin so are the engine's own."""
MAX_RETRIES = 20
MAX_CATCHUP = 10_000
MAX_LIMIT = 1_000_000
MAX_BATCH_SIZE = 1_000
MAX_SPAN_S = 366 * 86_400
"""The longest that anything is waited for."""

SpanMs = Annotated[int, msgspec.Meta(ge=1, le=MAX_SPAN_S * 1000)]
Limit = Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT)]
Delay = Annotated[float, msgspec.Meta(ge=0, le=MAX_SPAN_S)]
"""In seconds."""


class _Known(StrEnum):
    """Told apart from other mistakes: what a journal says is one of these, or the journal is damaged."""

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        raise msgspec.ValidationError(f"{value!r} is no {cls.__name__}")


class RunState(_Known):
    """A live run is queued, running or waiting; the other states are final."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def is_final(self) -> bool:
        return self in FINAL_STATES


FINAL_STATES = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED, RunState.SKIPPED})


class StepState(_Known):
    """`retrying` waits for its next attempt, `waiting` for a time, an event or other runs.

    `completed`, `failed` and `cancelled` (its run ended before it did) never change again.
    """

    RUNNING = "running"
    RETRYING = "retrying"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepKind(_Known):
    """What a step does."""

    RUN = "run"
    SLEEP = "sleep"
    WAIT = "wait"
    SEND = "send"
    INVOKE = "invoke"
    MAP = "map"


class Event(msgspec.Struct, Generic[DataT_co], frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened. `ts` says when, in milliseconds UTC.

    `Event` alone has a dict as its data; `Event[Order]` is one whose data is an `Order`.
    """

    id: str
    """Its sender's, or one that it was given. The same id makes no second run of a function within 24 hours."""
    name: str
    """Such as `app/user.signup`; functions listen to it."""
    ts: int
    """When it happened, in milliseconds since 1970, UTC."""
    data: DataT_co = msgspec.field(default_factory=dict)  # type: ignore[assignment] # only what is a dict may be left out
    """What it says: JSON values, or what the function's `event_schema` makes of them."""
    user: dict[str, Any] | None = None
    """Whom it is about, if its sender says so."""
    v: str | None = None
    """The version of its data, if its sender says so."""


class EventFields(TypedDict, total=False):
    """An event as it is sent."""

    name: Required[str]
    """Such as `app/user.signup`."""
    data: Any
    """What it says: an object in JSON."""
    id: str
    """The same id makes no second run of a function within 24 hours."""
    ts: int
    """When it happened, in milliseconds since 1970, UTC; a time to come delays its runs."""
    user: Mapping[str, Any]
    """Whom it is about."""
    v: str
    """The version of its data."""


Sendable = EventFields | Mapping[str, Any]
"""Editors complete the fields; whatever else may have them is taken, too."""


class Failure(msgspec.Struct, frozen=True):
    """An exception as data: its type's name, its message, and the traceback with the user's own frames first."""

    type: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class FailedAttempt(msgspec.Struct, frozen=True):
    """An attempt of a step, or of the code between steps (`step` is empty), counted from 0.

    When it began may be unknown.
    """

    step: str
    number: int
    began_at: int | None
    ended_at: int
    failure: Failure


class Backoff(msgspec.Struct, frozen=True, tag="backoff"):
    """Delays in seconds: `initial`, then times `factor` for each attempt up to `maximum`, plus up to `jitter`."""

    initial: Delay = 15.0
    factor: Delay = 2.0
    maximum: Delay = 7200.0
    jitter: Delay = 0.0


class EventTrigger(msgspec.Struct, frozen=True, tag="event"):
    """Starts a function for each event of this name; `app/*` is every name that begins with `app/`.

    `if_` is a CEL expression over `event` that has to be true.
    """

    name: str
    if_: str | None = None

    def listens_to(self, event_name: str) -> bool:
        """Whether an event of this name starts it, before `if_` is asked."""
        return event_name.startswith(self.name[:-1]) if self.name.endswith("*") else event_name == self.name


class CronTrigger(msgspec.Struct, frozen=True, tag="cron"):
    """Starts a function at times; up to `jitter_ms` later, so that not all start at once."""

    expression: str
    zone: str = "UTC"
    jitter_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_SPAN_S * 1000)] = 0


Trigger = EventTrigger | CronTrigger


class Catchup(StrEnum):
    """What becomes of ticks that were missed."""

    LATEST = "latest"
    NONE = "none"
    ALL = "all"


class Overlap(StrEnum):
    """What becomes of a tick when the run of the one before is still going."""

    SKIP = "skip"
    QUEUE = "queue"
    CANCEL = "cancel"


class CancelRule(msgspec.Struct, frozen=True):
    """Cancels a run when this event comes.

    `match`: a path like `data.user_id` at which the event has to equal the one that started the run. `if_`: a CEL
    expression over `event` (which started the run) and `async` (which has come). `timeout_ms`: for so long only.
    """

    event: str
    match: str | None = None
    if_: str | None = None
    timeout_ms: SpanMs | None = None


class TimeLimits(msgspec.Struct, frozen=True):
    """Limits in milliseconds: of the time in the queue, of the whole run, of one attempt of a step."""

    start_ms: SpanMs | None = None
    finish_ms: SpanMs | None = None
    step_ms: SpanMs | None = None


NO_LIMITS = TimeLimits()


class ConcurrencyRule(msgspec.Struct, frozen=True):
    """At most `limit` runs execute at once: of the function, or of all in the app that have a rule of this key."""

    limit: Limit
    key: str | None = None
    scope: Literal["fn", "app"] = "fn"


class ThrottleRule(msgspec.Struct, frozen=True):
    """`limit` runs start in `period_ms`, evenly spaced but for `burst`; the others wait."""

    limit: Limit
    period_ms: SpanMs
    burst: Limit = 1
    key: str | None = None


class RateLimitRule(msgspec.Struct, frozen=True):
    """`limit` runs are made in `period_ms`; the others are skipped."""

    limit: Limit
    period_ms: SpanMs
    key: str | None = None


class DebounceRule(msgspec.Struct, frozen=True):
    """A run is made when no event has come for `period_ms`, and at the latest `timeout_ms` after the first one."""

    period_ms: SpanMs
    key: str | None = None
    timeout_ms: SpanMs | None = None


class BatchRule(msgspec.Struct, frozen=True):
    """One run for `max_size` events, or for those that came in `timeout_ms`; only for those for which `if_` is true."""

    max_size: Annotated[int, msgspec.Meta(ge=1, le=MAX_BATCH_SIZE)]
    timeout_ms: SpanMs
    key: str | None = None
    if_: str | None = None


class SingletonRule(msgspec.Struct, frozen=True):
    """One live run at a time: a second one is skipped, or cancels the first."""

    key: str | None = None
    mode: Literal["skip", "cancel"] = "skip"


class FlowRules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What decides whether, when and with which others an event's run starts. Keys and conditions are CEL over `event`.

    `priority` gives the seconds by which a run is queued earlier, `idempotency` what only one run in a day may have.
    """

    concurrency: tuple[ConcurrencyRule, ...] = ()
    throttle: ThrottleRule | None = None
    rate_limit: RateLimitRule | None = None
    debounce: DebounceRule | None = None
    batch: BatchRule | None = None
    singleton: SingletonRule | None = None
    priority: str | None = None
    idempotency: str | None = None


NO_RULES = FlowRules()


class EventSchema(msgspec.Struct, frozen=True):
    """What the data of a function's events has to be, as the text of a JSON Schema (draft 2020-12).

    `event` is the name, or its open tail, of the events that it is for; None is all that the function listens to.
    """

    event: str | None
    schema: str


class FunctionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A function as the engine knows it: everything but the code, which is named by module and qualified name.

    `on_failure` is the id of the function that is run when a run of this one has failed.
    """

    id: str
    name: str
    module: str
    qualname: str
    file: str
    line: int
    is_async: bool
    app: str = ""
    """The app that it belongs to; its id then begins with it, unless there is only one."""
    triggers: tuple[Trigger, ...] = ()
    retries: Annotated[int, msgspec.Meta(ge=0, le=MAX_RETRIES)] = 4
    backoff: Backoff | Annotated[tuple[Delay, ...], msgspec.Meta(min_length=1)] | None = None
    cancel_on: tuple[CancelRule, ...] = ()
    timeouts: TimeLimits = NO_LIMITS
    on_failure: str | None = None
    flow: FlowRules = NO_RULES
    catchup: Catchup = Catchup.LATEST
    catchup_limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_CATCHUP)] = 100
    overlap: Overlap = Overlap.SKIP
    schemas: tuple[EventSchema, ...] = ()
    steps: tuple[str, ...] | None = None
    """The names of its steps, in the order of its source; None if they can't be known from that."""

    @property
    def local_id(self) -> str:
        """Its id within its app."""
        return self.id.removeprefix(f"{self.app}/") if self.app else self.id

    @property
    def max_attempts(self) -> int:
        return self.retries + 1

    def in_app(self, app: str, *, has_prefix: bool) -> FunctionSpec:
        """As the engine knows it: of this app, whose id its own begins with, where a project may have several."""
        if not has_prefix:
            return msgspec.structs.replace(self, app=app)
        handler = None if self.on_failure is None else f"{app}/{self.on_failure}"
        return msgspec.structs.replace(self, app=app, id=f"{app}/{self.id}", on_failure=handler)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step as a person sees it. `due_at` is set while it waits for a time, or for no longer than that."""

    name: str
    kind: StepKind
    state: StepState
    attempts: int
    started_at: int | None
    ended_at: int | None
    due_at: int | None = None
    output: msgspec.Raw | None = None
    error: Failure | None = None
    is_unreached: bool = False
    """The run ended without coming to it again: today's code has no such step."""
    attempted_at: int | None = None
    """When its last attempt began, if it had several."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run as a person sees it: one function for one event.

    `due_at` is set while it waits: when it goes on at the latest. `parent` is the run that invoked it, if one did.
    """

    key: int
    id: str
    function: str
    event_id: str
    event_name: str
    state: RunState
    reason: str | None
    attempts: int
    max_attempts: int | None
    queued_at: int
    due_at: int | None
    started_at: int | None
    ended_at: int | None
    output: msgspec.Raw | None = None
    """What the function returned, as JSON text: `msgspec.json.decode(run.output)` makes values of it."""
    error: Failure | None = None
    replay_of: str | None = None
    replayed_by: str | None = None
    """The newest of its replays."""
    parent: str | None = None
    steps: tuple[Step, ...] = ()
