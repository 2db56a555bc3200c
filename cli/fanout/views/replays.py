"""Replays before they are asked for: which runs are meant, and what becomes of their steps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fanout.core import replays
from fanout.core.replays import FunctionPlan
from fanout.durations import parse_duration
from fanout.errors import NotFoundError, UsageError
from fanout.journal.filters import EVERY_RUN, RunFilter
from fanout.model import MAX_SPAN_S, RunState
from fanout.views import words
from fanout.views.words import printable

if TYPE_CHECKING:
    from fanout.journal.sqlite_reader import JournalReader


_RATE = re.compile(r"([0-9]{1,9})/(.+)")


class Wish(NamedTuple):
    """What is to be replayed, and how.

    `ids`: of runs; without any, `meant` says which, and means failed ones if it names no state. `again`: also those
    that were replayed already. `is_from_start`: no step is carried over; `from_step`: only those before this one.
    `given`: results of steps as JSON text. `interval_ms`: between two starts.
    """

    ids: tuple[str, ...] = ()
    meant: RunFilter = EVERY_RUN
    limit: int | None = None
    again: bool = False
    is_from_start: bool = False
    from_step: str | None = None
    given: Mapping[str, str] = {}
    interval_ms: float | None = None

    @property
    def names_steps(self) -> bool:
        return self.from_step is not None or bool(self.given)

    def body(self, chosen: Sequence[int]) -> dict[str, Any]:
        """As the engine is asked to replay the runs with these keys."""
        return {
            "runs": list(chosen),
            "again": self.again,
            "from_start": self.is_from_start,
            "from_step": self.from_step,
            "set": dict(self.given),
            "interval_ms": self.interval_ms,
        }


def interval_ms(rate: str, said: str) -> float:
    """Milliseconds between two starts, of a rate such as `10/s`, `600/m` or `1/30s`.

    Raises:
        UsageError: it is none. `said`: as it was given, for the message.
    """
    parts = _RATE.fullmatch(rate.strip())
    try:
        number, period = (int(parts[1]), parts[2]) if parts is not None else (0, "")
        interval = parse_duration(period if period[:1].isdigit() else f"1{period}") * 1000 / number
    except (ValueError, ZeroDivisionError, OverflowError):
        interval = 0.0
    if not 0 < interval <= MAX_SPAN_S * 1000:
        raise UsageError(f"`{said}` is no rate", hint="write it as `10/s`, `600/m` or `1/30s`")
    return interval


def choose(reader: JournalReader, wish: Wish) -> list[int]:
    """Keys of the runs that are meant, the oldest first.

    Raises:
        NotFoundError: there is no run with one of the ids, or it was replayed already.
        UsageError: one has not ended.
    """
    if not wish.ids:
        meant = wish.meant if wish.meant.states else wish.meant._replace(states=frozenset({RunState.FAILED}))
        return reader.to_replay(meant, again=wish.again, limit=wish.limit)
    keys = []
    for id_ in wish.ids:
        run = reader.run(id_)
        if not run.state.is_final:
            raise UsageError(f"the run `{run.id}` is {run.state}: only one that has ended can be replayed")
        if not wish.again and not reader.to_replay(RunFilter(keys=(run.key,)), again=False):
            raise NotFoundError(f"the run `{run.id}` was replayed already", hint="`--again` replays it once more")
        keys.append(run.key)
    return reader.to_replay(wish.meant._replace(keys=tuple(keys)), again=wish.again, limit=wish.limit)


def plans_of(reader: JournalReader, wish: Wish, chosen: list[int]) -> list[FunctionPlan]:
    """What becomes of the steps of these runs, by function.

    Raises:
        NotFoundError: a step that is named is in none of them.
    """
    recorded = reader.recorded_steps(chosen, wish.from_step)
    known = {each.spec.id: each.spec.steps for each in reader.functions() if each.is_present}
    code = {each.function: known.get(each.function) for each in recorded}
    names = replays.recorded_names(recorded)
    if wish.from_step is not None and wish.from_step not in names:
        raise _no_such_step(wish.from_step, names)
    in_code = replays.coded_names(code)
    if in_code is not None:
        for step in wish.given:
            if step not in names and replays.name_of(step) not in in_code:
                raise _no_such_step(step, list(dict.fromkeys([*names, *in_code])))
    return [
        replays.plan(each, code[each.function], is_from_start=wish.is_from_start, given=wish.given) for each in recorded
    ]


def _no_such_step(name: str, known: Sequence[str]) -> NotFoundError:
    near = words.nearest(name, known).removeprefix("; ")
    there = ", ".join(f"`{printable(each)}`" for each in known) or "none"
    return NotFoundError(
        f"none of the runs has a step `{name}`", hint=near or f"their steps are {words.first_line(there)}"
    )


# JSON.


def plan_json(planned: int, plans: Sequence[FunctionPlan]) -> dict[str, Any]:
    """How many runs there would be, and what would become of their steps; none has been made."""
    return {"runs": [], "planned": planned, "functions": [_plan_json(each) for each in plans]}


def _plan_json(plan: FunctionPlan) -> dict[str, Any]:
    return {
        "function": plan.function,
        "runs": plan.runs,
        "reused": plan.reused,
        "given": plan.given,
        "again": plan.again,
        "new": plan.new if plan.is_known else None,
        "gone": plan.gone if plan.is_known else None,
    }
