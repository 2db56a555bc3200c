"""The calls that ask the engine for something. They answer when it is recorded that it was asked for.

If an engine comes to it soon, they say what came of it too; if not, it will, and the answer says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from fanout.codec import decode_json
from fanout.core.replays import FunctionPlan
from fanout.errors import FanoutError, NotFoundError
from fanout.events import build
from fanout.model import Run
from fanout.views import functions, replays
from fanout.views.function_words import cron_triggers
from fanout.views.replays import Wish
from fanout.views.runs import run_json
from fanout.web.api import action_shapes, inputs
from fanout.web.api.call import Asked, Call, ConflictError, InputError
from fanout.web.api.queries import run_filter
from fanout.web.asking import Outcome, ask

if TYPE_CHECKING:
    from fanout.journal.functions import KnownFunction
    from fanout.journal.sqlite_reader import JournalReader
    from fanout.web.site import Site


def _said(outcome: Outcome) -> dict[str, Any]:
    hint = None
    if not outcome.is_handled:
        hint = "no engine is running: `fanout serve` does it, or the next `fanout send`"
        hint = "the engine is busy; it will come to it" if outcome.has_engine else hint
    return {
        "request": outcome.request,
        "is_handled": outcome.is_handled,
        "has_engine": outcome.has_engine,
        "hint": hint,
    }


async def _made(site: Site, outcome: Outcome) -> list[dict[str, Any]]:
    if outcome.made is None:
        return []
    key = outcome.made
    made: list[Run] = await site.look(lambda reader: reader.runs_by_key([key], outputs=True))
    return [run_json(run, has_steps=False) for run in made]


# Runs.


async def _cancel(asked: Asked) -> Any:
    site = asked.site
    run = await site.look(lambda reader: reader.run(asked.path["id"]))
    if run.state.is_final:
        raise ConflictError(f"the run `{run.id}` is {run.state}: only one that has not ended can be cancelled")
    outcome = await ask(site, "cancel", {"runs": [run.key]})
    now: list[Run] = await site.look(lambda reader: reader.runs_by_key([run.key], outputs=True))
    return {**_said(outcome), "runs": [run_json(each, has_steps=False) for each in now]}


async def _replay_one(asked: Asked) -> Any:
    body: inputs.ReplayOne = asked.body
    wish = Wish(
        ids=(asked.path["id"],),
        again=body.again,
        is_from_start=body.from_start,
        from_step=body.from_step,
        given=_given(body.set),
    )
    return await _replay(asked.site, wish, is_dry=False)


async def _replay_many(asked: Asked) -> Any:
    body: inputs.ReplayMany = asked.body
    if not body.ids and not body.state and body.error is None:
        # To replay what has completed is rarely meant: it has to be said.
        raise InputError("ids", "nothing says what to replay", hint="give `ids`, or `state` or `error`")
    wish = Wish(
        ids=body.ids,
        meant=run_filter(body),
        limit=body.limit,
        again=body.again,
        is_from_start=body.from_start,
        from_step=body.from_step,
        given=_given(body.set),
        interval_ms=body.interval_ms,
    )
    return await _replay(asked.site, wish, is_dry=body.dry_run)


async def _replay(site: Site, wish: Wish, *, is_dry: bool) -> Any:
    if wish.is_from_start and wish.from_step is not None:
        raise InputError("from_step", "`from_start` and `from_step` exclude each other", hint="give one of them")
    chosen, plans = await site.look(lambda reader: _chosen(reader, wish, is_dry=is_dry))
    said: dict[str, Any] = {"request": None, "is_handled": False, "has_engine": False, "hint": None}
    if is_dry or not chosen:
        return {**said, **replays.plan_json(len(chosen), plans)}
    outcome = await ask(site, "replay", wish.body(chosen))
    made: list[Run] = []
    if outcome.is_handled and len(chosen) == 1:
        made = await site.look(lambda reader: _replays_of(reader, chosen[0]))
    runs = [run_json(run, has_steps=False) for run in made]
    return {**_said(outcome), "planned": len(chosen), "runs": runs, "functions": []}


def _chosen(reader: JournalReader, wish: Wish, *, is_dry: bool) -> tuple[list[int], list[FunctionPlan]]:
    for id_ in wish.ids:
        run = reader.run(id_)
        if not run.state.is_final:
            raise ConflictError(f"the run `{run.id}` is {run.state}: only one that has ended can be replayed")
    try:
        chosen = replays.choose(reader, wish)
    except NotFoundError as error:
        # All are there, as was seen above.
        raise ConflictError(error.message, hint="`again` replays it once more") from None
    plans = replays.plans_of(reader, wish, chosen) if chosen and (is_dry or wish.names_steps) else []
    return chosen, plans if is_dry else []


def _replays_of(reader: JournalReader, key: int) -> list[Run]:
    """The newest replay of this run."""
    made = reader.relatives(key).replays
    return [reader.run(made[-1][0])] if made else []


def _given(said: Mapping[str, msgspec.Raw]) -> dict[str, str]:
    """Results of steps as JSON text."""
    found = {}
    for step, value in said.items():
        try:
            found[step] = msgspec.json.encode(decode_json(bytes(value))).decode()
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise InputError("set", "what `set` gives a step can't be recorded as JSON") from None
    return found


# Functions.


async def _known(asked: Asked) -> KnownFunction:
    return await asked.site.look(lambda reader: functions.named(reader.functions(), asked.path["id"]))


async def _pause(asked: Asked) -> Any:
    return await _hold(asked, "pause")


async def _resume(asked: Asked) -> Any:
    return await _hold(asked, "resume")


async def _hold(asked: Asked, kind: str) -> Any:
    known = await _known(asked)
    outcome = await ask(asked.site, kind, {"functions": [known.spec.id]})
    now = await _known(asked)
    return {**_said(outcome), "functions": [{"id": now.spec.id, "paused_at": now.paused_at}]}


async def _invoke(asked: Asked) -> Any:
    known = await _known(asked)
    if not known.is_present:
        raise ConflictError(f"the code has no function `{known.spec.id}` any more")
    try:
        # What an event's data may be, an invocation's may be; its name is the engine's own affair.
        data = build("invoked", msgspec.json.encode(asked.body.data).decode(), "the body").data
    except FanoutError as error:
        raise InputError("data", error.message, hint=error.hint) from None
    outcome = await ask(asked.site, "invoke", {"function": known.spec.id, "data": msgspec.Raw(data.encode())})
    return {**_said(outcome), "runs": await _made(asked.site, outcome)}


async def _tick(asked: Asked) -> Any:
    known, wanted = await _known(asked), asked.body
    triggers = cron_triggers(known.spec) if known.is_present else []
    if not triggers:
        raise ConflictError(f"`{known.spec.id}` has no cron trigger", hint="it can be invoked by hand")
    trigger = next((each for each in triggers if (each.expression, each.zone) == (wanted.cron, wanted.timezone)), None)
    if trigger is None and (wanted.cron is not None or wanted.timezone is not None):
        raise InputError("cron", f"`{known.spec.id}` has no such schedule", hint="`/api/cron` lists them")
    body = {"function": known.spec.id, "at": wanted.at, "cron": wanted.cron, "timezone": wanted.timezone}
    outcome = await ask(asked.site, "tick", body)
    if outcome.is_handled and outcome.made is None:
        raise ConflictError(f"`{known.spec.id}` has a run of this tick already", hint="replay that run instead")
    return {**_said(outcome), "runs": await _made(asked.site, outcome)}


CALLS = (
    Call("POST", "/api/runs/{id}/cancel", "cancelRun", "End a run, and those that it has invoked", _cancel,
         action_shapes.AskedRunsShape, body=inputs.Nothing, status=202),
    Call("POST", "/api/runs/{id}/replay", "replayRun", "Run it again; steps that completed are not repeated",
         _replay_one, action_shapes.ReplaysShape, body=inputs.ReplayOne, status=202),
    Call("POST", "/api/replay", "replayRuns", "Run many again, or say what that would come to", _replay_many,
         action_shapes.ReplaysShape, body=inputs.ReplayMany, status=202),
    Call("POST", "/api/functions/{id:path}/pause", "pauseFunction", "Start no more runs of it", _pause,
         action_shapes.AskedFunctionsShape, body=inputs.Nothing, status=202),
    Call("POST", "/api/functions/{id:path}/resume", "resumeFunction", "Start runs of it again", _resume,
         action_shapes.AskedFunctionsShape, body=inputs.Nothing, status=202),
    Call("POST", "/api/functions/{id:path}/invoke", "invokeFunction", "Run it by hand", _invoke,
         action_shapes.AskedRunsShape, body=inputs.Invocation, status=202),
    Call("POST", "/api/cron/{id:path}/trigger", "triggerTick", "One tick by hand", _tick,
         action_shapes.AskedRunsShape, body=inputs.TickWanted, status=202),
)  # fmt: skip
