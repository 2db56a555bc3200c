"""Why a run is where it is, in one sentence: from the journal alone, and from whether an engine runs it."""

from __future__ import annotations

from typing import Any

from fanout.engine import lock
from fanout.journal.awaited import Awaited, Children
from fanout.journal.functions import Collected, KnownFunction
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import NO_RULES, FunctionSpec, Run, RunState, Step, StepKind, StepState
from fanout.views import queue_reasons, waits, words
from fanout.views.queue_reasons import Reason, key_in_words

_MOST_STEPS = 3
_CARRIED_ON = "no engine is running: `fanout serve` carries it on, or the next `fanout send`"


def reason(reader: JournalReader, run: Run, now: int) -> Reason:
    """Why the run, which comes with its steps, does not run; or what it is at, or what became of it."""
    match run.state:
        case RunState.QUEUED:
            return _queued(reader, run, now)
        case RunState.WAITING:
            return _waiting(reader, run)
        case RunState.RUNNING:
            return _running(run, has_engine=has_engine(reader))
        case RunState.COMPLETED:
            return Reason("completed", f"completed at {words.clock(run.ended_at)}, after {words.took(run)}")
        case RunState.FAILED:
            return _failed(run)
        case RunState.CANCELLED | RunState.SKIPPED:
            because = f": {words.printable(run.reason)}" if run.reason else ""
            return Reason(run.state, f"was {run.state} at {words.clock(run.ended_at)}{because}")


def line(reader: JournalReader, run: Run, now: int) -> str | None:
    """What the page of a run has to say besides the rest: of one that is queued, or held for more events."""
    is_held = run.state is RunState.WAITING and reader.collected(run.key) is not None
    return reason(reader, run, now).words if is_held or run.state is RunState.QUEUED else None


def has_engine(reader: JournalReader) -> bool:
    return lock.holder(reader.path) is not None


def as_json(found: Reason) -> dict[str, Any]:
    return {
        "code": found.code,
        "words": found.words,
        "until": found.until,
        "held_by": list(found.held_by),
        "ahead": found.ahead,
    }


def _queued(reader: JournalReader, run: Run, now: int) -> Reason:
    known = reader.function(run.function)
    if known is not None and run.started_at is not None:
        known = known._replace(paused_at=None)  # What has begun goes on.
    if known is not None and (held_up := held_up_as_a_whole(reader, known)) is not None:
        return held_up
    if not has_engine(reader):
        hint = "`fanout serve` runs it, or the next `fanout send`"
        return Reason("no-engine", "waits for an engine: none is running", hint=hint)
    return queue_reasons.reason(reader, run, None if known is None else known.spec, now)


def held_up_as_a_whole(reader: JournalReader, known: KnownFunction) -> Reason | None:
    """What keeps all runs of a function from being started."""
    name = words.printable(known.spec.id)
    if not known.is_present:
        return _without_code(known.spec, [each.spec for each in reader.functions() if each.is_present])
    if known.is_stale:
        sentence = f"waits: app `{words.printable(known.spec.app)}` could not be loaded"
        why = "the engine's output says why" if has_engine(reader) else "`fanout functions` says why"
        return Reason("app", sentence, hint=why)
    if known.paused_at is not None:
        sentence = f"waits: its function is paused since {words.clock(known.paused_at)}"
        return Reason("paused", sentence, hint=f"`fanout functions resume {name}` lets it go on")
    return None


def _without_code(spec: FunctionSpec, present: list[FunctionSpec]) -> Reason:
    sentence = f"waits: the code has no function `{words.printable(spec.id)}` any more"
    goes_on = "it goes on when the code has it again; `fanout cancel` ends it"
    has_prefix = spec.id != spec.local_id
    # Of an app that is renamed, or was the only one: its functions are the same, but not their ids.
    now = next((words.printable(each.id) for each in present if each.local_id == spec.local_id), None)
    if has_prefix and all(each.app != spec.app for each in present):
        sentence += f", nor an app `{words.printable(spec.app)}`"
        goes_on = "it goes on when fanout.toml has the app again, by this id; `fanout cancel` ends it"
    elif now is not None and has_prefix:
        goes_on = f"`{now}` goes by its old id, and this goes on, where fanout.toml has `[[apps]]`, not one `[app]`"
    elif now is not None:
        goes_on = f"`{now}` goes by its old id, and this goes on, where fanout.toml has one `[app]`, not `[[apps]]`"
    return Reason("no-function", sentence, hint=goes_on)


# Waiting.


def _waiting(reader: JournalReader, run: Run) -> Reason:
    hint = None if has_engine(reader) else _CARRIED_ON
    collected = reader.collected(run.key)
    if collected is not None:
        return _collects(reader, run, collected)._replace(hint=hint)
    steps = [step for step in run.steps if step.state in (StepState.WAITING, StepState.RETRYING)]
    if not steps or (run.due_at is not None and all(step.due_at != run.due_at for step in steps)):
        return _waits_for_its_time(run)._replace(hint=hint)
    awaited = {each.step: each for each in reader.awaited(run.key)}
    said = [_of_step(run, step, awaited.get(step.name)) for step in steps]
    if len(said) == 1:
        return said[0]._replace(hint=said[0].hint or hint, until=run.due_at)
    named = [f"`{words.printable(step.name)}` {each.words}" for step, each in zip(steps, said, strict=True)]
    rest = f"; and {len(named) - _MOST_STEPS} more" if len(named) > _MOST_STEPS else ""
    sentence = f"waits for {len(named)} steps: {'; '.join(named[:_MOST_STEPS])}{rest}"
    return Reason("steps", sentence, until=run.due_at, hint=hint)


def _collects(reader: JournalReader, run: Run, collected: Collected) -> Reason:
    known = reader.function(run.function)
    rules = NO_RULES if known is None else known.spec.flow
    kind, _, key = collected.name.partition(":")
    until = words.clock(run.due_at)
    if kind == "debounce":
        keyed = "" if rules.debounce is None else key_in_words(reader, rules.debounce.key, key)
        return Reason("debounce", f"is debounced until {until}{keyed}: each event begins the wait anew", run.due_at)
    size = f"{collected.size:,} so far"
    if rules.batch is None:
        return Reason("batch", f"collects events until {until} ({size})", run.due_at)
    size = f"{collected.size:,} of {rules.batch.max_size:,} so far"
    return Reason(
        "batch", f"collects events{key_in_words(reader, rules.batch.key, key)} until {until} ({size})", run.due_at
    )


def _waits_for_its_time(run: Run) -> Reason:
    if run.started_at is None:
        return Reason("delayed", f"begins at {words.clock(run.due_at)}", run.due_at)
    return Reason("retry", f"tries again at {words.clock(run.due_at)}{_attempt(run, run.attempts)}", run.due_at)


def _of_step(run: Run, step: Step, awaited: Awaited | None) -> Reason:
    if awaited is None:
        sentence = f"tries step `{words.printable(step.name)}` again at {words.clock(step.due_at)}"
        failed = "" if step.error is None else f": {words.first_line(str(step.error))}"
        return Reason("retry", f"{sentence}, attempt {step.attempts + 1} of {run.max_attempts}{failed}", step.due_at)
    if awaited.children is None:
        return Reason("event" if awaited.event is not None else step.kind, waits.in_words(awaited), step.due_at)
    if awaited.kind is StepKind.MAP:
        return _items(awaited, awaited.children)
    says_more = f"`fanout why {awaited.children.id}` says what that waits for"
    state = next(iter(awaited.children.counts))
    hint = says_more if state in (RunState.QUEUED, RunState.WAITING) else None
    return Reason("child", waits.in_words(awaited), step.due_at, held_by=(awaited.children.id,), hint=hint)


def _items(awaited: Awaited, children: Children) -> Reason:
    total = sum(children.counts.values())
    left = sum(number for state, number in children.counts.items() if not state.is_final)
    more = ", and more are to come" if awaited.has_more else ""
    return Reason("items", f"waits for {left:,} of {total:,} items of `{words.printable(awaited.step)}`{more}")


def _attempt(run: Run, attempts: int) -> str:
    failed = "" if run.error is None else f": {words.first_line(str(run.error))}"
    return f", attempt {attempts + 1} of {run.max_attempts}{failed}"


# Running, and over.


def _running(run: Run, *, has_engine: bool) -> Reason:
    if not has_engine:
        return Reason("no-engine", "was running when its engine ended, and goes on with the next", hint=_CARRIED_ON)
    steps = [step for step in run.steps if step.state is StepState.RUNNING]
    at = f", in step `{words.printable(steps[-1].name)}` since {words.clock(steps[-1].started_at)}" if steps else ""
    return Reason("running", f"is running since {words.clock(run.started_at)}{at}")


def _failed(run: Run) -> Reason:
    because = f" ({words.printable(run.reason)})" if run.reason else ""
    said = ""
    if run.error is not None:
        # What became of a step says so itself, and whose it was.
        said = f": {words.first_line(run.error.message if run.error.type == 'StepError' else str(run.error))}"
    hint = f"`fanout runs show {run.id}` shows more"
    return Reason("failed", f"failed at {words.clock(run.ended_at)}{because}{said}", hint=hint)
