"""The calls of the JSON API that only look. A journal that does not exist yet is one with nothing in it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from fanout.errors import NotFoundError, UsageError
from fanout.journal.filters import RunFilter
from fanout.journal.logs import logs_path
from fanout.journal.received import EventFilter
from fanout.journal.sqlite_logs import LogReader
from fanout.views import cron, events, filters, functions, graph, logs, reasons, runs, statistics, trace, words
from fanout.views import run as run_view
from fanout.web.api import inputs, shapes
from fanout.web.api.call import Asked, Call, InputError

if TYPE_CHECKING:
    from fanout.journal.sqlite_reader import JournalReader

_ALL = "all"


async def _look(asked: Asked, read: Callable[[JournalReader], Any], nothing: Any) -> Any:
    """What is found, or `nothing` where there is no journal yet."""
    if not asked.site.config.journal.exists():
        return nothing
    return await asked.site.look(read)


def moment(field: str, said: str | None) -> int | None:
    """The time in milliseconds.

    Raises:
        InputError: it is none.
    """
    if said is not None and said.isdecimal():
        found: int | None = int(said)
    else:
        try:
            found = filters.moment(field, said)
        except UsageError as error:
            raise InputError(field, error.message, hint=error.hint) from None
    return None if found is None else min(max(found, 0), inputs.LAST_MS)


def run_filter(wanted: inputs.RunsQuery | inputs.ReplayMany) -> RunFilter:
    return RunFilter(
        states=frozenset(wanted.state),
        function=wanted.function,
        event=wanted.event,
        since=moment("since", wanted.since),
        until=moment("until", wanted.until),
        error=wanted.error or None,
    )


async def _runs(asked: Asked) -> Any:
    wanted: inputs.RunsQuery = asked.query
    meant = run_filter(wanted)

    def read(reader: JournalReader) -> Any:
        before = None if wanted.before is None else reader.run(wanted.before).key
        found = reader.runs(meant, limit=wanted.limit + 1, before=before)
        page = found[: wanted.limit]
        return {
            "runs": [runs.run_json(run, has_steps=False) for run in page],
            "before": page[-1].id if len(found) > len(page) else None,
        }

    return await _look(asked, read, {"runs": [], "before": None})


async def _run(asked: Asked) -> Any:
    return await asked.site.look(lambda reader: run_view.as_json(run_view.read(reader, reader.run(asked.path["id"]))))


async def _logs(asked: Asked) -> Any:
    wanted: inputs.LogsQuery = asked.query

    def read(reader: JournalReader) -> Any:
        # First the run, then its lines: those of a run that is over are there.
        run = reader.run(asked.path["id"])
        with LogReader(logs_path(reader.path), redact=reader.redact) as log:
            lines = log.lines(run.id, after=wanted.after, step=wanted.step, limit=wanted.limit)
            size = log.size(run.id)
        return {
            "run": run.id,
            "is_over": run.state.is_final,
            "lines": [{"number": line.number, **logs.line_json(run.id, line)} for line in lines],
            "after": lines[-1].number if lines else wanted.after,
            "left_out": size.left_out,
        }

    return await asked.site.look(read)


async def _events(asked: Asked) -> Any:
    query: inputs.EventsQuery = asked.query
    wanted = EventFilter(query.name, moment("since", query.since), moment("until", query.until), query.unheard)

    def read(reader: JournalReader) -> Any:
        found = reader.events(wanted, query.limit)
        unheard = events.names_unheard(reader, found)
        return {"events": [events.listed_json(event, unheard) for event in found]}

    return await _look(asked, read, {"events": []})


async def _event(asked: Asked) -> Any:
    def read(reader: JournalReader) -> Any:
        found = reader.event(asked.path["id"])
        return events.full_json(found, events.names_unheard(reader, [found.listed]))

    return await asked.site.look(read)


async def _trace(asked: Asked) -> Any:
    def read(reader: JournalReader) -> Any:
        event, run = reader.event_or_run(asked.path["id"])
        family, _ = reader.trace(event, run, limit=asked.query.limit)
        marked = family.events[event] if run is None else family.runs[run]
        return {**trace.as_json(reader, family, marked), "is_cut": family.is_cut}

    return await asked.site.look(read)


async def _functions(asked: Asked) -> Any:
    nothing = {"functions": [], "runs_counted": 0, "are_all_runs_counted": True}
    return await _look(asked, lambda reader: functions.list_json(functions.read(reader)), nothing)


async def _function(asked: Asked) -> Any:
    def read(reader: JournalReader) -> Any:
        known = functions.named(reader.functions(), asked.path["id"])
        return functions.function_json(functions.read(reader), known)

    return await asked.site.look(read)


async def _cron(asked: Asked) -> Any:
    now = words.now()

    def read(reader: JournalReader) -> Any:
        rows = cron.rows(reader, reader.functions(), now)
        return {
            "schedules": [
                {**said, "next": _next(row, now, asked.query.number)}
                for row, said in zip(rows, cron.rows_json(rows), strict=True)
            ]
        }

    return await _look(asked, read, {"schedules": []})


def _next(row: cron.Row, now: int, number: int) -> list[int]:
    if not row.known.is_present:
        return []
    return list(islice(cron.ticks_after(row.known.spec, row.trigger, now), number))


async def _stats(asked: Asked) -> Any:
    wanted: inputs.StatsQuery = asked.query
    since = None if wanted.since == _ALL else moment("since", wanted.since)

    def read(reader: JournalReader) -> Any:
        found = reader.statistics(since, words.now(), wanted.function, most_slices=wanted.slices)
        if wanted.function is not None and not found.counts:
            functions.named(reader.functions(), wanted.function)
        return statistics.as_json(found, wanted.function)

    if not asked.site.config.journal.exists():
        raise NotFoundError("there is no journal yet, and so there are no figures", hint="send an event first")
    return await asked.site.look(read)


async def _graph(asked: Asked) -> Any:
    nothing: Any = {"nodes": [], "links": [], "unreached": []}
    return await _look(asked, lambda reader: graph.as_json(graph.read(reader)), nothing)


async def _why(asked: Asked) -> Any:
    def read(reader: JournalReader) -> Any:
        run = reader.run(asked.path["id"])
        reason = reasons.reason(reader, run, words.now())
        return {"run": run.id, "function": run.function, "state": run.state, **reasons.as_json(reason)}

    return await asked.site.look(read)


CALLS = (
    Call("GET", "/api/runs", "listRuns", "Runs, the newest first", _runs, shapes.RunsShape, inputs.RunsQuery),
    Call("GET", "/api/runs/{id}/logs", "readLogs", "What a run has printed and logged", _logs, shapes.LogsShape,
         inputs.LogsQuery),
    Call("GET", "/api/runs/{id}", "showRun", "A run with its steps, attempts and errors", _run, shapes.FullRunShape),
    Call("GET", "/api/why/{id}", "explainRun", "What a run waits for, or what became of it", _why, shapes.WhyShape),
    Call("GET", "/api/events", "listEvents", "Events, the newest first", _events, shapes.EventsShape,
         inputs.EventsQuery),
    Call("GET", "/api/events/{id:path}", "showEvent", "An event with its data and its runs", _event,
         shapes.FullEventShape),
    Call("GET", "/api/trace/{id:path}", "trace", "All that an event has caused, from any event or run of it", _trace,
         shapes.TraceShape, inputs.TraceQuery),
    Call("GET", "/api/functions", "listFunctions", "Functions, and how their runs fare", _functions,
         shapes.FunctionsShape),
    Call("GET", "/api/functions/{id:path}", "showFunction", "A function with its settings", _function,
         shapes.FunctionShape),
    Call("GET", "/api/cron", "listSchedules", "Schedules with their last tick and the next ones", _cron,
         shapes.SchedulesShape, inputs.CronQuery),
    Call("GET", "/api/stats", "statistics", "How many runs there were, how long they took, and what failed", _stats,
         shapes.StatsShape, inputs.StatsQuery),
    Call("GET", "/api/graph", "graph", "Which events lead to which functions, and on", _graph, shapes.GraphShape),
)  # fmt: skip
