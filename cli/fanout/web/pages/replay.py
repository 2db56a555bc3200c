"""`/replay`: many runs once more, with the plan first; then how far that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from starlette.responses import RedirectResponse
from starlette.routing import Route

from fanout.core.replays import FunctionPlan
from fanout.errors import FanoutError, UsageError
from fanout.journal.family import Watched
from fanout.journal.filters import RunFilter
from fanout.model import RunState
from fanout.views import replays
from fanout.views.filters import moment, near_function
from fanout.web.pages.forms import address, form_of
from fanout.web.pages.rendering import page
from fanout.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from fanout.journal.sqlite_reader import JournalReader

_MOST_FOLLOWED = 50
"""Of so many requests the site remembers which runs they are about: nobody else needs to."""
MODES = (
    ("keep", "Keep what was completed, go on at what failed"),
    ("from_start", "From the start: every step again"),
    ("from_step", "From a step: keep only what came before it"),
)


class Filled(NamedTuple):
    """The form as it was filled in. `again`: also what was replayed already."""

    status: str = "failed"
    function: str = ""
    event: str = ""
    since: str = ""
    until: str = ""
    error: str = ""
    limit: str = ""
    rate: str = ""
    mode: str = "keep"
    step: str = ""
    again: str = ""


class Plan(NamedTuple):
    chosen: int
    functions: list[FunctionPlan]
    near: str


class Followed(NamedTuple):
    """What a request is about: the runs that it replays, and the newest run before it."""

    runs: tuple[int, ...]
    after_run: int


class Progress(NamedTuple):
    """`counts`: of the replays and of all that they cause; None where the site does not remember what it was about."""

    is_handled: bool
    counts: Mapping[RunState, int] | None


def routes() -> list[BaseRoute]:
    return [Route("/replay", show, methods=["GET"]), Route("/replay", ask, methods=["POST"])]


async def show(request: Request) -> Response:
    """The form; with its plan, if it was filled in; or what has become of a request."""
    given = {name: value.strip() for name, value in request.query_params.items()}
    if "request" in given:
        return await _progress(request, given)
    filled = _filled(given)
    is_asked = "plan" in given
    return await _form(request, filled, has_plan=is_asked)


async def _form(request: Request, filled: Filled, *, has_plan: bool, changed: bool = False) -> Response:
    plan: Plan | None = None
    problem: FanoutError | None = None
    site = site_of(request)
    try:
        wish = _wish(filled)
        plan = await site.look(lambda reader: _plan(reader, wish)) if has_plan else None
    except FanoutError as error:
        problem = error
    functions = await site.look(lambda reader: reader.functions())
    return page(
        request,
        "replay.html",
        status=422 if problem is not None or changed else 200,
        filled=filled,
        modes=MODES,
        states=[state for state in RunState if state.is_final],
        functions=[each.spec.id for each in functions],
        plan=plan,
        problem=problem,
        changed=changed,
        fields={name: value for name, value in filled._asdict().items() if value},
        runs_href=_runs_href(filled),
    )


def _filled(given: Mapping[str, str]) -> Filled:
    return Filled(**{name: given[name] for name in Filled._fields if given.get(name)})


def _runs_href(filled: Filled) -> str:
    return address(
        "/runs",
        state=filled.status,
        function=filled.function,
        event=filled.event,
        since=filled.since,
        q=filled.error,
    )


def _wish(filled: Filled) -> replays.Wish:
    """What the form means.

    Raises:
        UsageError: one of its fields is not what it has to be.
    """
    try:
        state = RunState(filled.status)
    except ValueError:
        state = RunState.QUEUED
    if not state.is_final:
        raise UsageError(f"runs that are `{filled.status}` can't be replayed", hint="only those that have ended can")
    if filled.limit and not (filled.limit.isdecimal() and len(filled.limit) < 10 and int(filled.limit)):  # noqa: PLR2004 - more than there ever are
        raise UsageError(f"`{filled.limit}` is no number of runs")
    if filled.mode == "from_step" and not filled.step:
        raise UsageError("from which step?", hint="give its name, or choose another way to replay")
    return replays.Wish(
        meant=RunFilter(
            states=frozenset({state}),
            function=filled.function or None,
            event=filled.event or None,
            since=moment("since", filled.since or None),
            until=moment("until", filled.until or None),
            error=filled.error or None,
        ),
        limit=int(filled.limit) if filled.limit else None,
        again=bool(filled.again),
        is_from_start=filled.mode == "from_start",
        from_step=filled.step if filled.mode == "from_step" else None,
        interval_ms=replays.interval_ms(filled.rate, filled.rate) if filled.rate else None,
    )


def _plan(reader: JournalReader, wish: replays.Wish) -> Plan:
    chosen = replays.choose(reader, wish)
    near = "" if chosen else near_function(reader, wish.meant.function).removeprefix("; ")
    return Plan(len(chosen), replays.plans_of(reader, wish, chosen) if chosen else [], near)


async def ask(request: Request) -> Response:
    """Ask the engine for it. If other runs are meant by now than the plan has said, the new plan comes first."""
    site, sent = site_of(request), await form_of(request)
    filled = _filled(sent)
    wish = _wish(filled)

    def look(reader: JournalReader) -> tuple[list[int], int]:
        return replays.choose(reader, wish), reader.last_run_key()

    chosen, last_run = await site.look(look)
    if not chosen or sent.get("planned", str(len(chosen))) != str(len(chosen)):
        return await _form(request, filled, has_plan=True, changed=True)
    key = await site.request("replay", wish.body(chosen))
    followed = _followed(request)
    followed[key] = Followed(tuple(chosen), last_run)
    for oldest in list(followed)[:-_MOST_FOLLOWED]:
        del followed[oldest]
    return RedirectResponse(address("/replay", request=key, planned=len(chosen), function=filled.function), 303)


def _followed(request: Request) -> dict[int, Followed]:
    state = request.app.state
    if not hasattr(state, "replays"):
        state.replays = {}
    found: dict[int, Followed] = state.replays
    return found


async def _progress(request: Request, given: Mapping[str, str]) -> Response:
    said, planned = given["request"], given.get("planned", "")
    key = int(said) if said.isdecimal() and len(said) < 16 else 0  # noqa: PLR2004 - no longer than a key can be
    about = _followed(request).get(key)

    def look(reader: JournalReader) -> Progress | None:
        try:
            is_handled, _ = reader.request_answer(key)
        except IndexError:
            return None
        if about is None:
            return Progress(is_handled, None)
        watched = Watched(request=key, replayed=about.runs, after_run=about.after_run)
        return Progress(is_handled, reader.counts(watched))

    progress = await site_of(request).look(look)
    if progress is None:
        raise UsageError("there is no such request", hint="begin at `/replay`")
    function = given.get("function", "")
    return page(
        request,
        "replay_progress.html",
        progress=progress,
        planned=int(planned) if planned.isdecimal() and len(planned) < 16 else None,  # noqa: PLR2004 - as above
        made=sum((progress.counts or {}).values()),
        is_over=progress.is_handled and all(state.is_final for state in progress.counts or {}),
        runs_href=address("/runs", function=function, since="1h"),
    )
