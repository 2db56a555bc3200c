"""`/runs/{id}`: one run in full: its time to scale, what went in and came out, its failures and its log, live."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.responses import RedirectResponse
from starlette.routing import Route

from fanout.core.causes import root_cause
from fanout.errors import JournalError
from fanout.journal.logs import LogLine, logs_path
from fanout.journal.sqlite_logs import LogReader
from fanout.model import FailedAttempt, Run, RunState
from fanout.views import logs, reasons, tracebacks, waits, words
from fanout.views import run as view
from fanout.views.queue_reasons import Reason
from fanout.views.tracebacks import Folded, Frame, Said
from fanout.web.pages import run_actions
from fanout.web.pages.rendering import flash_of, page
from fanout.web.pages.run_chart import Chart, chart
from fanout.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from fanout.config import Config
    from fanout.journal.sqlite_reader import JournalReader

FEW_LINES = 200
MANY_LINES = 5_000
MOST_STEPS = 500
MOST_RESULTS = 400_000
"""Characters of all that the steps have returned; what there is beyond is elsewhere, so that a page stays light."""
_REPEATS = frozenset({"StepError", "InvokeError"})


class _Log(NamedTuple):
    """The last lines of a log; `before` is how many there are before them."""

    lines: list[LogLine]
    before: int
    left_out: int
    problem: str | None = None


class _Known(NamedTuple):
    page: view.Page
    why: Reason
    log: _Log


async def show_run(request: Request) -> Response:
    site, asked = site_of(request), request.path_params["id"]
    most = MANY_LINES if request.query_params.get("log") == "more" else FEW_LINES
    known = await site.look(lambda reader: _read(reader, site.config, asked, most))
    run = known.page.run
    if asked != run.id:
        return RedirectResponse(f"/runs/{run.id}", 307)
    drawn = chart(run, known.page.failures)
    return page(
        request,
        "run.html",
        flash=flash_of(request, run_actions.SAID),
        run=run,
        known=known.page,
        why=known.why if not run.state.is_final or run.state in (RunState.CANCELLED, RunState.SKIPPED) else None,
        chart=drawn,
        steps=_steps(known.page, drawn, site.config.root),
        failures=_failures(known.page, site.config.root),
        error=None if run.error is None else root_cause(run.error),
        log=known.log,
        log_line=_line,
        event_in_words=waits.event_in_words,
        children_in_words=waits.children_in_words,
        is_growing=not run.state.is_final,
        has_more_log=most == FEW_LINES and known.log.before > 0,
    )


def _read(reader: JournalReader, config: Config, id_: str, most: int) -> _Known:
    run = reader.run(id_)
    found = view.read(reader, run)
    return _Known(found, reasons.reason(reader, run, words.now()), _log(config, found, most))


def _log(config: Config, found: view.Page, most: int) -> _Log:
    """Logs that can't be read are no reason to show less of the run."""
    before = max(0, found.log.lines - most)
    try:
        with LogReader(logs_path(config.journal), redact=config.redact) as log:
            return _Log(log.lines(found.run.id, after=before, limit=most), before, found.log.left_out)
    except JournalError as error:
        return _Log([], 0, 0, error.message)


# What a page is told of a step, a failure, a line.


def _steps(found: view.Page, drawn: Chart, root: Path) -> list[dict[str, Any]]:
    can_rerun, room = found.run.state.is_final, MOST_RESULTS
    steps = []
    for number, (step, bar) in enumerate(zip(found.run.steps[:MOST_STEPS], drawn.steps, strict=False)):
        output = None if step.output is None else bytes(step.output).decode()
        room -= 0 if output is None else len(output)
        steps.append({
            "step": step,
            "number": number,
            "bar": bar,
            "notes": [*view.step_notes(step, found.awaited.get(step.name))],
            "failures": [_failure(found.run, group, root) for group in _attempts(found.failures, step.name)],
            "output": output if room >= 0 else None,
            "is_elsewhere": output is not None and room < 0,
            "rerun": run_actions.step_href(found.run, step.name) if can_rerun and not step.is_unreached else None,
        })  # fmt: skip
    return steps


def _failures(found: view.Page, root: Path) -> list[dict[str, Any]]:
    """Those of the code between steps; one that only repeats what its step has said is left out."""
    own = [each for each in found.failures if not each.step]
    if found.run.steps:
        own = [each for each in own if each.failure.type not in _REPEATS]
    return [_failure(found.run, group, root) for group in _attempts(own, "")]


def _attempts(failures: list[FailedAttempt], step: str) -> list[list[FailedAttempt]]:
    """Failed attempts of a step, those that failed alike and one after another together."""
    own = [each for each in failures if each.step == step]
    return [[*group] for _, group in groupby(own, key=lambda attempt: attempt.failure)]


def _failure(run: Run, attempts: list[FailedAttempt], root: Path) -> dict[str, Any]:
    failure = attempts[0].failure
    first, last = attempts[0].number + 1, attempts[-1].number + 1
    which = f"attempt {first}" if first == last else f"attempts {first} {'to' if last - first > 1 else 'and'} {last}"
    return {
        "which": f"{which} of {run.max_attempts}" if run.max_attempts else which,
        "type": root_cause(failure).type,
        "message": root_cause(failure).message,
        "at": attempts[-1].ended_at,
        "blocks": [_block(block) for block in tracebacks.blocks(failure.traceback, root)] if failure.traceback else [],
        "text": failure.traceback,
    }


def _block(block: Frame | Folded | Said) -> dict[str, Any]:
    match block:
        case Frame(indent, file, line, name, source):
            lines = [(text, tracebacks.is_marker(text)) for text in source]
            return {"kind": "frame", "indent": indent, "place": f"{file}:{line}", "name": name, "source": lines}
        case Folded(number, libraries):
            return {"kind": "folded", "text": f"{words.count(number, 'frame')} of {', '.join(libraries)}"}
        case Said(text):
            return {"kind": "said", "text": text}


def _line(line: LogLine) -> dict[str, Any]:
    is_record = line.logger is not None
    level = line.source.lower() if is_record or line.source != "stdout" else ""
    return {
        "level": level,
        "is_bad": line.source in ("ERROR", "CRITICAL"),
        "is_odd": line.source in ("WARNING", "stderr"),
        "where": logs.where(line),
        "logger": line.logger if is_record and not (line.logger or "").startswith(("fanout.", "root")) else None,
    }


def routes() -> list[BaseRoute]:
    return [*run_actions.routes(), Route("/runs/{id}", show_run, methods=["GET"])]
