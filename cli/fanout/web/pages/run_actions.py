"""What can be done with a run: cancel it, replay it, run it again from a step. A POST each, then back to a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlencode

from starlette.responses import RedirectResponse
from starlette.routing import Route

from fanout.core.replays import FunctionPlan
from fanout.errors import UsageError
from fanout.model import Run
from fanout.views import replays
from fanout.views.replays import Wish
from fanout.web.asking import ask
from fanout.web.pages.forms import asked_of, form_of
from fanout.web.pages.rendering import Flash, page
from fanout.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from fanout.journal.sqlite_reader import JournalReader

SAID = {
    "cancelled": Flash("good", "The run was cancelled."),
    "over": Flash("", "The run had ended before it could be cancelled."),
    "replayed": Flash("good", "This is the replay."),
    "left-out": Flash("", "Nothing was replayed: it was replayed already, or its function is gone."),
    "asked": Flash("", "It was asked for, and comes when an engine runs: `fanout serve`, or the next `fanout send`."),
}


class _Asked(NamedTuple):
    """How a run is to be replayed."""

    is_from_start: bool = False
    from_step: str | None = None
    again: bool = False

    def wish(self, run: str) -> Wish:
        return Wish((run,), again=self.again, is_from_start=self.is_from_start, from_step=self.from_step)


def step_href(run: Run, step: str) -> str:
    """The page that says what becomes of a run that is run again from this step, and asks."""
    return f"/runs/{quote(run.id)}/replay?{urlencode({'from_step': step})}"


async def ask_replay(request: Request) -> Response:
    """The plan, and the question."""
    asked = _asked(asked_of(request))
    site, id_ = site_of(request), request.path_params["id"]
    run, plans = await site.look(lambda reader: _plan(reader, id_, asked._replace(again=True)))
    return page(request, "run_replay.html", run=run, plan=plans[0] if plans else None, asked=asked)


def _plan(reader: JournalReader, id_: str, asked: _Asked) -> tuple[Run, list[FunctionPlan]]:
    run = reader.run(id_)
    wish = asked.wish(run.id)
    return run, replays.plans_of(reader, wish, replays.choose(reader, wish))


async def replay(request: Request) -> Response:
    asked = _asked(await form_of(request))
    site, id_ = site_of(request), request.path_params["id"]
    run, chosen = await site.look(lambda reader: _chosen(reader, id_, asked))
    outcome = await ask(site, "replay", asked.wish(run.id).body(chosen))
    if not outcome.is_handled:
        return _to(run.id, "asked")
    replayed = await site.look(lambda reader: reader.run(run.id))
    if replayed.replayed_by is None or replayed.replayed_by == run.replayed_by:
        return _to(run.id, "left-out")
    return _to(replayed.replayed_by, "replayed")


def _chosen(reader: JournalReader, id_: str, asked: _Asked) -> tuple[Run, list[int]]:
    run = reader.run(id_)
    wish = asked.wish(run.id)
    chosen = replays.choose(reader, wish)
    if asked.from_step is not None:
        replays.plans_of(reader, wish, chosen)  # There has to be such a step.
    return run, chosen


async def cancel(request: Request) -> Response:
    site, id_ = site_of(request), request.path_params["id"]
    run = await site.look(lambda reader: reader.run(id_))
    if run.state.is_final:
        return _to(run.id, "over")
    outcome = await ask(site, "cancel", {"runs": [run.key]})
    return _to(run.id, "cancelled" if outcome.is_handled else "asked")


def _asked(said: Mapping[str, str]) -> _Asked:
    asked = _Asked(bool(said.get("from_start")), said.get("from_step") or None, bool(said.get("again")))
    if asked.is_from_start and asked.from_step is not None:
        raise UsageError("a replay is from the start or from a step, not both")
    return asked


def _to(run: str, said: str) -> Response:
    return RedirectResponse(f"/runs/{run}?said={said}", 303)


def routes() -> list[BaseRoute]:
    return [
        Route("/runs/{id}/replay", ask_replay, methods=["GET"]),
        Route("/runs/{id}/replay", replay, methods=["POST"]),
        Route("/runs/{id}/cancel", cancel, methods=["POST"]),
    ]
