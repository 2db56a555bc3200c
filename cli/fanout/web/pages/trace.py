"""`/trace/ID`: all that an event has caused, as a tree beside bars to scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from starlette.routing import Route

from fanout.core.causes import root_cause
from fanout.journal.family import Family, FamilyEvent, FamilyRun, Member
from fanout.model import Run, RunState
from fanout.views import words
from fanout.views.layout import Alike, Left, Line, lay_out
from fanout.web.pages.rendering import page
from fanout.web.pages.run_chart import marks
from fanout.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from fanout.journal.sqlite_reader import JournalReader

MOST_LINES = 300
MOST_MEMBERS = 20_000
"""A page is made again whenever something has changed: of larger families it shows a part."""
_MOST_LEVELS = 16
_LEAST_SHARE = 0.4
"""Of a hundred: the shortest bar that can be seen."""


class Bar(NamedTuple):
    """In hundredths of the whole time."""

    left: float
    width: float


class Row(NamedTuple):
    """A line of the page. `guides` says of each level whether something more comes on it. Of a run `waited` is the time
    until it started and `worked` the time since; `came` is when an event did.
    """

    id: str
    kind: str
    name: str
    href: str
    state: RunState | None = None
    guides: tuple[bool, ...] = ()
    is_marked: bool = False
    counts: Mapping[RunState, int] = {}
    note: str = ""
    took: str = ""
    why: str = ""
    came: float | None = None
    waited: Bar | None = None
    worked: Bar | None = None


class _Span(NamedTuple):
    began: int
    ended: int

    def at(self, moment: int) -> float:
        share = 100 * (moment - self.began) / max(1, self.ended - self.began)
        return round(min(100.0, max(0.0, share)), 2)

    def bar(self, began: int, ended: int) -> Bar:
        left = min(self.at(began), 100 - _LEAST_SHARE)
        return Bar(round(left, 2), max(_LEAST_SHARE, round(self.at(ended) - left, 2)))


class _Found(NamedTuple):
    family: Family
    levels_above: int
    marked: Member
    lines: list[Line]
    failed: dict[int, Run]


def routes() -> list[BaseRoute]:
    return [Route("/trace/{id:path}", trace, methods=["GET"])]


async def trace(request: Request) -> Response:
    id_: str = request.path_params["id"]
    found = await site_of(request).look(lambda reader: _look(reader, id_))
    family, now = found.family, words.now()
    root = family.roots[0]
    ends = [now if run.ended_at is None else run.ended_at for run in family.runs.values()]
    comings = [event.received_at for event in family.events.values()]
    span = _Span(root.received_at, max([*ends, *comings]))
    return page(
        request,
        "trace.html",
        root=root,
        counts=family.counts,
        events=len(family.events.keys() - {run.event for run in family.runs.values() if run.parent is not None}),
        rows=[_row(found, line, number, span, now) for number, line in enumerate(found.lines)],
        took=span.ended - span.began,
        marks=marks(span.ended - span.began),
        levels_above=found.levels_above,
        is_cut=family.is_cut,
        runs=len(family.runs),
    )


def _look(reader: JournalReader, id_: str) -> _Found:
    event, run = reader.event_or_run(id_)
    family, levels_above = reader.trace(event, run, limit=MOST_MEMBERS)
    marked: Member = family.events[event] if run is None else family.runs[run]
    lines = lay_out(family, most_lines=MOST_LINES, levels=_MOST_LEVELS, marked=marked)
    keys = [line.what.key for line in lines if isinstance(line.what, FamilyRun) and line.what.state is RunState.FAILED]
    failed = {run.key: run for run in reader.runs_by_key(keys)}
    return _Found(family, levels_above, marked, lines, failed)


def _row(found: _Found, line: Line, number: int, span: _Span, now: int) -> Row:
    guides, is_marked = line.ends[1:], line.what == found.marked
    match line.what:
        case FamilyEvent() as event:
            note = "duplicate" if event.is_duplicate else ""
            return Row(
                f"event-{event.key}", "event", event.name, f"/events/{event.id}", None, guides, is_marked,
                note=note, came=span.at(event.received_at),
                took=f"+{words.duration(event.received_at - span.began)}" if event.received_at > span.began else "",
            )  # fmt: skip
        case FamilyRun() as run:
            return _run(found, run, span, now)._replace(guides=guides, is_marked=is_marked)
        case Alike() as alike:
            return _alike(alike, number, span, now)._replace(guides=guides)
        case Left(left, noun):
            said = f"… {words.count(left, f'more {noun}')}" if left else "… there is more, which the JSON has"
            return Row(f"left-{number}", "left", said, "", None, guides)


def _run(found: _Found, run: FamilyRun, span: _Span, now: int) -> Row:
    event = found.family.events.get(run.event)
    ended = now if run.ended_at is None else run.ended_at
    queued = run.started_at if event is None else max(event.received_at, span.began)
    failed = found.failed.get(run.key)
    error = None if failed is None or failed.error is None else root_cause(failed.error) or failed.error
    return Row(
        f"run-{run.key}",
        "run",
        words.name(run),
        f"/runs/{run.id}",
        run.state,
        note="replay" if run.replay_of is not None else "",
        took=words.took(run),
        why="" if error is None else words.first_line(str(error)),
        waited=None if queued is None else span.bar(queued, ended if run.started_at is None else run.started_at),
        worked=None if run.started_at is None else span.bar(run.started_at, ended),
    )


def _alike(alike: Alike, number: int, span: _Span, now: int) -> Row:
    """Many that are alike, on one line."""
    times = words.times(len(alike.members))
    if isinstance(alike.first, FamilyEvent):
        return Row(
            f"alike-{number}", "events", f"{alike.first.name} {times}", "", came=span.at(alike.first.received_at)
        )
    runs = [member for member in alike.members if isinstance(member, FamilyRun)]
    began = [run.started_at for run in runs if run.started_at is not None]
    ended = [now if run.ended_at is None else run.ended_at for run in runs if run.started_at is not None]
    return Row(
        f"alike-{number}",
        "runs",
        f"{alike.first.function} {times}",
        "",
        counts=Counter(run.state for run in runs),
        took=words.duration(max(ended) - min(began)) if began else "",
        worked=span.bar(min(began), max(ended)) if began else None,
    )
