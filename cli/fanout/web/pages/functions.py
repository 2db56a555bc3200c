"""`/functions`: what the code has and how it fares; one function in full, with all that can be asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from starlette.responses import RedirectResponse
from starlette.routing import Route

from fanout.core.causes import root_cause
from fanout.errors import CronError, EventError, NotFoundError, UsageError
from fanout.events import build
from fanout.journal.filters import RunFilter
from fanout.journal.functions import CronTick, KnownFunction
from fanout.journal.statistics import Activity, FunctionFigures, Percentiles, Statistics
from fanout.model import CronTrigger, EventTrigger, Run, RunState
from fanout.views import cron, event_schemas, words
from fanout.views.function_words import all_settings, cron_triggers, schedule_in_words, triggers_in_words
from fanout.views.functions import named
from fanout.web.pages.forms import form_of
from fanout.web.pages.rendering import Flash, flash_of, page
from fanout.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from fanout.journal.sqlite_reader import JournalReader

_DAY_MS = 24 * 3600 * 1000
_SLICES = 24
_SLICES_OF_ONE = 48
_MOST_COUNTED = 100_000
"""Live runs are counted among the newest so many."""
_TICKS = 5
_RUNS = 10
_SAID = {
    "pause": Flash("", "Asked to pause: what runs goes on, nothing new is started."),
    "resume": Flash("good", "Asked to resume."),
}
_NO_RUNS = Activity((0,) * _SLICES, (0,) * _SLICES)


class Row(NamedTuple):
    """A function of the list: how it fared in the last 24 hours, and how many of its runs are not over."""

    known: KnownFunction
    triggers: list[str]
    runs: int
    failed: int
    took: Percentiles
    activity: Activity
    live: Mapping[RunState, int]
    next_at: int | None


class Schedule(NamedTuple):
    """A cron trigger with its next ticks (by its own clock, and in milliseconds), and what its clock's changes do."""

    trigger: CronTrigger
    words: str
    last: CronTick | None
    ticks: list[tuple[str, int]]
    edges: list[str]


class Asked(NamedTuple):
    """What became of a request to run it: the run, or that there is none."""

    is_handled: bool
    run: Run | None


class Found(NamedTuple):
    known: KnownFunction
    figures: FunctionFigures | None
    statistics: Statistics
    live: Mapping[RunState, int]
    newest: list[Run]
    failed: list[Run]
    schedules: list[Schedule]
    asked: Asked | None


def routes() -> list[BaseRoute]:
    return [
        Route("/functions", functions, methods=["GET"]),
        Route("/functions/{id:path}", function, methods=["GET"]),
        Route("/functions/{id:path}", act, methods=["POST"]),
    ]


async def functions(request: Request) -> Response:
    found = await site_of(request).look(_all)
    return page(request, "functions.html", rows=found)


def _all(reader: JournalReader) -> list[Row]:
    now = words.now()
    counts = reader.run_counts(_MOST_COUNTED).by_function
    figures = {each.function: each for each in reader.function_figures_since(now - _DAY_MS)}
    activity = reader.activity(now - _DAY_MS, _DAY_MS // _SLICES, _SLICES)
    found = []
    for known in reader.functions():
        id_ = known.spec.id
        live = {state: number for state, number in counts.get(id_, {}).items() if not state.is_final}
        if not known.is_present and not live:
            continue
        its = figures.get(id_)
        ticks = [cron.ticks_after(known.spec, each, now) for each in cron_triggers(known.spec) if known.is_present]
        found.append(
            Row(
                known,
                triggers_in_words(known.spec),
                0 if its is None else sum(its.counts.values()),
                0 if its is None else its.counts.get(RunState.FAILED, 0),
                Percentiles() if its is None else its.took,
                activity.get(id_, _NO_RUNS),
                live,
                min((at for each in ticks if (at := next(each, None)) is not None), default=None),
            )
        )
    return found


async def function(request: Request) -> Response:
    return await _page(request, flash=flash_of(request, _SAID))


async def _page(
    request: Request, *, flash: Flash | None = None, data: str = "{}", error: EventError | None = None
) -> Response:
    """The function; with the data that was not accepted, and why."""
    id_: str = request.path_params["id"]
    said = request.query_params.get("request", "")
    key = int(said) if said.isdecimal() and len(said) < 16 else None  # noqa: PLR2004 - no longer than a key can be
    found = await site_of(request).look(lambda reader: _one(reader, id_, key))
    spec = found.known.spec
    return page(
        request,
        "function.html",
        status=200 if error is None else 422,
        flash=flash,
        found=found,
        known=found.known,
        spec=spec,
        listens=[trigger for trigger in spec.triggers if isinstance(trigger, EventTrigger)],
        settings=list(all_settings(spec)),
        schemas=[(each, event_schemas.in_short(each)) for each in spec.schemas],
        flow=found.statistics.throughput,
        runs=sum(found.statistics.counts.values()),
        number_failed=found.statistics.counts.get(RunState.FAILED, 0),
        data=data,
        error=error,
        root_cause=root_cause,
    )


def _one(reader: JournalReader, id_: str, request: int | None) -> Found:
    known, now = named(reader.functions(), id_), words.now()
    statistics = reader.statistics(now - _DAY_MS, now, id_, most_slices=_SLICES_OF_ONE)
    figures = next((each for each in statistics.functions if each.function == id_), None)
    counted = reader.run_counts(_MOST_COUNTED).by_function.get(id_, {})
    only_failed = RunFilter(states=frozenset({RunState.FAILED}), function=id_)
    return Found(
        known,
        figures,
        statistics,
        {state: number for state, number in counted.items() if not state.is_final},
        reader.runs(RunFilter(function=id_), limit=_RUNS, outputs=False),
        reader.runs(only_failed, limit=_RUNS // 2, outputs=False),
        [_schedule(row, now) for row in cron.rows(reader, [known], now)],
        None if request is None else _asked(reader, request),
    )


def _schedule(row: cron.Row, now: int) -> Schedule:
    spec, ticks, edges = row.known.spec, [], []
    try:
        following = cron.upcoming(spec, row.trigger, now, _TICKS) if row.known.is_present else None
    except CronError:
        following = None
    if following is not None:
        ticks = [
            (f"{tick.astimezone(following.zone):%a %Y-%m-%d %H:%M:%S %Z}", cron.milliseconds(tick))
            for tick in following.ticks
        ]
        edges = [f"{edge.low:%Y-%m-%d}: {cron.edge_in_words(edge)}" for edge in following.edges]
    return Schedule(row.trigger, schedule_in_words(spec, row.trigger), row.last, ticks, edges)


def _asked(reader: JournalReader, request: int) -> Asked | None:
    try:
        is_handled, run = reader.request_answer(request)
    except IndexError:  # there is no such request
        return None
    return Asked(is_handled, None if run is None else next(iter(reader.runs_by_key([run])), None))


async def act(request: Request) -> Response:
    """What a form of the page asks for: it is durable when this answers, and done by the engine."""
    id_: str = request.path_params["id"]
    site, form = site_of(request), await form_of(request)
    known = await site.look(lambda reader: named(reader.functions(), id_))
    here = request.url.path
    match form.get("do"):
        case "pause" | "resume" as kind:
            await site.request(kind, {"functions": [id_]})
            return RedirectResponse(f"{here}?said={kind}", 303)
        case "invoke":
            data = form.get("data", "{}")
            try:
                given = build("invoked", data, "data").data
            except EventError as error:
                return await _page(request, data=data, error=error)
            body: dict[str, Any] = {"function": id_, "data": msgspec.Raw(given.encode())}
            key = await site.request("invoke", body)
        case "tick":
            trigger = _trigger(known, form)
            body = {"function": id_, "at": None, "cron": trigger.expression, "timezone": trigger.zone}
            key = await site.request("tick", body)
        case _:
            raise UsageError("nothing was asked for", hint="open the page again")
    return RedirectResponse(f"{here}?request={key}#asked", 303)


def _trigger(known: KnownFunction, form: Mapping[str, str]) -> CronTrigger:
    wanted = form.get("cron"), form.get("timezone")
    for trigger in cron_triggers(known.spec):
        if (trigger.expression, trigger.zone) == wanted:
            return trigger
    raise NotFoundError(f"`{known.spec.id}` has no such schedule any more", hint="open the page again")
