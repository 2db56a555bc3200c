"""Functions with how their runs fare, gathered and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fanout.errors import NotFoundError
from fanout.journal.functions import KnownFunction, RunCounts
from fanout.journal.statistics import FunctionFigures
from fanout.views import words
from fanout.views.function_words import settings_json, trigger_json

if TYPE_CHECKING:
    from fanout.journal.sqlite_reader import JournalReader

_MOST_COUNTED = 100_000
"""Runs are counted among the newest so many: more would take long, and say little."""

Figures = Mapping[str, FunctionFigures]
"""By function; those without any runs are not in it."""


class Found(NamedTuple):
    """`functions`: what the code has, and what is gone but for runs that wait for it."""

    functions: list[KnownFunction]
    counts: RunCounts
    figures: Figures


def read(reader: JournalReader, functions: Sequence[KnownFunction] | None = None) -> Found:
    """Those that the journal knows, or of `functions`."""
    counts = reader.run_counts(_MOST_COUNTED)
    figures = {each.function: each for each in reader.function_figures(_MOST_COUNTED)}
    # Of those that are gone, the ones whose runs wait for them still matter.
    known = reader.functions() if functions is None else functions
    shown = [each for each in known if each.is_present or _has_live(each, counts)]
    return Found(shown, counts, figures)


def _has_live(known: KnownFunction, counts: RunCounts) -> bool:
    return any(not state.is_final for state in counts.by_function.get(known.spec.id, ()))


def named(functions: Sequence[KnownFunction], name: str) -> KnownFunction:
    """The function with this id.

    Raises:
        NotFoundError: there is none.
    """
    known = next((each for each in functions if each.spec.id == name), None)
    if known is None:
        near = words.nearest(name, [each.spec.id for each in functions]).removeprefix("; ")
        raise NotFoundError(f"there is no function `{name}`", hint=near or "`fanout functions` lists them")
    return known


# JSON.


def list_json(found: Found) -> dict[str, Any]:
    return {
        "functions": [function_json(found, known) for known in found.functions],
        "runs_counted": found.counts.counted,
        "are_all_runs_counted": found.counts.is_whole,
    }


def function_json(found: Found, known: KnownFunction) -> dict[str, Any]:
    spec, figures = known.spec, found.figures.get(known.spec.id)
    return {
        "id": spec.id,
        "name": spec.name,
        "app": spec.app,
        "module": spec.module,
        "qualname": spec.qualname,
        "file": spec.file,
        "line": spec.line,
        "is_present": known.is_present,
        "is_loadable": not known.is_stale,
        "loaded_at": known.loaded_at,
        "paused_at": known.paused_at,
        "triggers": [trigger_json(spec, trigger) for trigger in spec.triggers],
        "settings": settings_json(spec),
        "event_schemas": [{"event": each.event, "schema": msgspec.json.decode(each.schema)} for each in spec.schemas],
        "steps": None if spec.steps is None else list(spec.steps),
        "runs": dict(found.counts.by_function.get(spec.id, {})),
        "last_run": None if figures is None else _last_json(figures),
        "took": None if figures is None else figures.took._asdict(),
        "queued": None if figures is None else figures.queued._asdict(),
    }


def _last_json(figures: FunctionFigures) -> dict[str, Any]:
    return {"id": figures.last_run, "state": figures.last_state, "queued_at": figures.last_at}
