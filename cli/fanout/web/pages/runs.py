"""`/runs`: what ran, the newest first, with filters and a search; stays as the journal is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from starlette.responses import RedirectResponse
from starlette.routing import Route

from fanout.core.causes import root_cause
from fanout.errors import NotFoundError, UsageError
from fanout.journal.filters import RunFilter
from fanout.model import Run, RunState
from fanout.views import filters, words
from fanout.web.pages.forms import address
from fanout.web.pages.rendering import Flash, flash_of, page
from fanout.web.pages.run_chart import overview
from fanout.web.site import site_of

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from fanout.journal.sqlite_reader import JournalReader

PAGE_SIZE = 50
PERIODS = (
    ("", "any time"),
    ("15m", "last 15 minutes"),
    ("1h", "last hour"),
    ("24h", "last 24 hours"),
    ("7d", "last 7 days"),
)
SAID = {"replayed": Flash("good", "The replay was asked for.")}
_MOST_COUNTED = 1_000
_MOST_NAMES = 500
_ID_PART = re.compile(r"[0-9A-Za-z]{6,26}")
_LONGEST_ERROR = 160


class Wanted(NamedTuple):
    """What the address asks for. Every part is as a person may have typed it."""

    state: str = ""
    function: str = ""
    event: str = ""
    since: str = ""
    search: str = ""
    before: int | None = None
    after: int | None = None

    @property
    def is_any(self) -> bool:
        return not any((self.state, self.function, self.event, self.since, self.search))

    def as_filter(self) -> RunFilter:
        """The runs that are meant.

        Raises:
            UsageError: the state or the time is none.
        """
        if self.state and self.state not in RunState.__members__.values():
            raise UsageError(f"`{self.state}` is no state", hint=f"they are {', '.join(RunState)}")
        return RunFilter(
            states=frozenset({RunState(self.state)} if self.state else ()),
            function=self.function or None,
            event=self.event or None,
            since=filters.moment("since", self.since or None),
            error=self.search or None,
        )

    def href(self, **changed: str | int | None) -> str:
        """The list with this changed; on its first page, unless another is named."""
        asked = self._replace(before=None, after=None)._replace(**changed)._asdict()  # type: ignore[arg-type]
        asked["q"] = asked.pop("search")
        return address("/runs", **asked)

    @property
    def replay_href(self) -> str:
        """The page on which all failed runs of these are replayed, with the plan first."""
        said = {"function": self.function, "event": self.event, "since": self.since, "error": self.search}
        return address("/replay", plan=1, status="failed", **said)


def wanted(query: QueryParams) -> Wanted:
    """What the address asks for; numbers that are none count as not asked."""
    text = {name: query.get(name, "").strip() for name in ("state", "function", "event", "since")}
    before, after = (_number(query.get(name)) for name in ("before", "after"))
    return Wanted(**text, search=query.get("q", "").strip(), before=before, after=after)


class _Found(NamedTuple):
    runs: list[Run]
    has_newer: bool
    has_older: bool
    counts: dict[RunState, int]
    functions: list[str]
    only: str | None = None
    """The run that the search names, if it names one."""


def _read(reader: JournalReader, asked: Wanted, meant: RunFilter) -> _Found:
    counts = reader.live_counts(_MOST_COUNTED)
    functions = [each.spec.id for each in reader.functions()][:_MOST_NAMES]
    only = _only(reader, asked.search)
    found = reader.runs(meant, limit=PAGE_SIZE + 1, outputs=False, before=asked.before, after=asked.after)
    if asked.after is None:
        return _Found(found[:PAGE_SIZE], asked.before is not None, len(found) > PAGE_SIZE, counts, functions, only)
    # The one more is the newest: they are counted from the other end.
    return _Found(found[-PAGE_SIZE:], len(found) > PAGE_SIZE, True, counts, functions, only)


def _only(reader: JournalReader, search: str) -> str | None:
    """The id of the run that what was searched for is a part of."""
    if not _ID_PART.fullmatch(search):
        return None
    try:
        return reader.run(search).id
    except (NotFoundError, UsageError):
        return None


async def list_runs(request: Request) -> Response:
    asked = wanted(request.query_params)
    problem, found = None, None
    try:
        meant = asked.as_filter()
    except UsageError as error:
        problem = error
        found = await site_of(request).look(
            lambda reader: _Found([], False, False, reader.live_counts(_MOST_COUNTED), [])
        )
    else:
        found = await site_of(request).look(lambda reader: _read(reader, asked, meant))
    if found.only is not None and "x-fanout-live" not in request.headers:
        return RedirectResponse(f"/runs/{found.only}", 303)
    runs = found.runs
    return page(
        request,
        "runs.html",
        flash=flash_of(request, SAID),
        asked=asked,
        problem=problem,
        states=[(state, _counted(found.counts.get(state, 0))) for state in RunState],
        functions=found.functions,
        periods=PERIODS,
        rows=[{"run": run, "said": said(run), "bar": overview(run)} for run in runs],
        newer=asked.href(after=runs[0].key) if found.has_newer and runs else asked.href() if found.has_newer else None,
        older=asked.href(before=runs[-1].key) if found.has_older and runs else None,
        is_first=asked.before is None and asked.after is None,
        has_live=any(not run.state.is_final for run in runs),
    )


def said(run: Run) -> str:
    """What there is to say of a run besides its state, in a line."""
    if run.state is RunState.FAILED and run.error is not None:
        return words.first_line(str(root_cause(run.error)), _LONGEST_ERROR)
    if run.error is not None:
        return words.first_line(f"tries again after {root_cause(run.error)}", _LONGEST_ERROR)
    return words.first_line(run.reason) if run.reason else ""


def _counted(number: int) -> str:
    if not number:
        return ""
    return f"{number:,}" if number < _MOST_COUNTED else f"{_MOST_COUNTED:,}+"


def _number(said: str | None) -> int | None:
    try:
        return None if said is None else int(said)
    except ValueError:
        return None


def routes() -> list[BaseRoute]:
    async def start(_request: Request) -> Response:
        return RedirectResponse("/runs", 307)

    return [Route("/", start, methods=["GET"]), Route("/runs", list_runs, methods=["GET"])]
