"""The worlds are worth their time only while they come to everything, and while nothing that is wrong goes unseen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fanout.core import flow
from fanout.engine.children import Children
from fanout.engine.limits import Limits
from fanout.engine.runs import Runs
from fanout.engine.timers import Timers
from fanout.journal.sqlite import SqliteJournal
from fanout.model import StepKind
from tests.engine.scripts import What
from tests.simulation.hunting import play
from tests.simulation.world import Feature, World

ENOUGH = 80
Mutation = tuple[object, str, Callable[..., Any]]


def nothing(*_: object, **__: object) -> None:
    """Instead of what was to be done."""


MUTATIONS: dict[str, Mutation] = {
    "what was executing is forgotten by the next engine": (SqliteJournal, "recover", nothing),
    "one run more than its limit": (
        Limits, "_has_room", lambda self, place, limit: len(self._held.get(place, ())) <= limit,
    ),
    "the older of two events counts": (flow, "replaces", lambda old, new: new < old),
    "the end of a child is not told": (Children, "settle", nothing),
    "children go on without their parents": (Runs, "cancel_children", nothing),
    "times that are not set": (Timers, "add", nothing),
    "an event is routed to all but one": (Runs, "new", lambda self, *_, **__: self._last_run_key),
}  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_what_is_wrong_is_seen(monkeypatch: pytest.MonkeyPatch, mutation: str) -> None:
    monkeypatch.setattr(*MUTATIONS[mutation])
    assert any(play(seed).error for seed in range(ENOUGH)), mutation


STEPS = {f"{kind} completed" for kind in StepKind} | {
    "run failed", "run cancelled", "invoke failed", "map failed", "sleep cancelled", "a step set by hand",
}  # fmt: skip
RUNS = {
    "completed", "failed", "failed: crashed", "failed: timed out", "cancelled", "skipped: rate limit", "skipped: singleton",
    "skipped: idempotency", "skipped: overlap", "a replay", "a batch", "a debounced run",
}  # fmt: skip
OTHERS = ("a failing disk", "a power cut", "pruning", "ticks", "another engine")
RULE = re.compile("crashed|timed out|rate limit|singleton|idempotency|overlap")


def test_worlds_come_to_everything(tmp_path: Path) -> None:
    expected = STEPS | RUNS | {*OTHERS} | {*map(str, Feature)} | {*map(str, What)}
    for seed in range(2 * ENOUGH):
        world = World(seed, tmp_path / str(seed))
        world.play()
        expected -= set(reached(world))
        world.close()
        if not expected:
            break
    assert not expected


def reached(world: World) -> Iterator[str]:
    stage, model = world.stage, world.stage.observer.model
    yield from world.features
    yield from (entry.what for entry in stage.log)
    for step in model.steps.values():
        yield f"{step.kind} {step.state}" if step.attempts else "a step set by hand"
    for run in model.runs.values():
        yield run.state if run.reason is None else f"{run.state}: {RULE.match(run.reason)[0]}"  # type: ignore[index]
        if run.replay_of is not None:
            yield "a replay"
    for collected in model.tables["run_event"].values():
        yield "a debounced run" if collected.is_replaced else "a batch"
    happened = (stage.disk_failures, stage.power_cuts, model.gone, model.tables["tick"], stage.engines > 1)
    yield from (name for name, has in zip(OTHERS, happened, strict=True) if has)
