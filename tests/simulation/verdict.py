"""What must be true of a world when all is over."""

from __future__ import annotations

from fanout.journal.sqlite_checks import findings
from fanout.journal.sqlite_rows import Query
from fanout.model import NO_LIMITS
from tests.engine.checker import check_children, check_history, check_over, check_run, check_sent, check_waits
from tests.engine.scripts import Function
from tests.engine.tables import RunRow, run_of, runs_of, steps_of
from tests.simulation.stage import Stage
from tests.simulation.world import Feature, World

UNTOLD = {Feature.EDITS, Feature.BROKEN}
"""With these nobody can say from the scripts alone how a run has to end."""


def judge(world: World) -> None:
    stage = world.stage
    check_journal(stage)
    check_over(stage)
    check_engine(stage)
    if not world.features & {Feature.BROKEN, Feature.PRUNING}:
        check_history(stage)
    if not world.features & UNTOLD:
        for run in runs_of(stage):
            _check_run(world, run, stage.functions[run.function])


def check_journal(stage: Stage) -> None:
    """It has what the observer has seen, and all rules of `journal verify` hold."""
    stage.observer.is_whole(stage._sender._connection)
    query: Query = lambda sql, bindings: stage.rows(sql, *bindings)  # noqa: E731
    found = [each for each in findings(query) if each.number]
    assert not found, found
    for accepted in stage.accepted:
        event = stage.observer.model.events.get((accepted.key,))
        is_gone = event is None and stage.observer.model.of_id[accepted.id]
        assert is_gone or (event is not None and event.id == accepted.id), f"{accepted} is lost"
    last = stage.rows("SELECT max(key) FROM event WHERE key > 0")[0][0] or 0
    assert stage.observer.model.tables["meta"]["routed_to",].value >= last


def check_engine(stage: Stage) -> None:
    """It holds nothing of what is over."""
    engine = stage.engine
    assert engine.is_idle()
    assert not engine._roster.active
    assert not engine._limits._held
    assert not stage.pool.executing()


def _check_run(world: World, run: RunRow, made: Function) -> None:
    stage = world.stage
    if Feature.PRUNING in world.features:
        return  # What it had, or was, may be gone in part.
    if run.state == "skipped":
        assert not steps_of(stage, run.key)
        return
    if run.state == "cancelled":
        assert _may_be_cancelled(world, run, made), run
    elif run.replay_of is None and _is_told(world, run, made):
        check_run(stage, run.key, made, deaths=world.killed)
    if run.replay_of is None:
        check_children(stage, run.key, made)
        check_sent(stage, run.key)
        if not world.features & {Feature.JUMPS, Feature.LAG} and run.state != "cancelled":
            check_waits(stage, run.key, made)


def _is_told(world: World, run: RunRow, made: Function) -> bool:
    """Whether its script says how it ends. Time may be over at any moment for what has a limit, where clocks are set."""
    if run.reason == "timed out" or (run.reason == "crashed" and world.killed):
        return False
    has_limits = made.spec.timeouts != NO_LIMITS
    return not (has_limits and world.features & {Feature.JUMPS, Feature.LAG, Feature.FREEZES})


def _may_be_cancelled(world: World, run: RunRow, made: Function) -> bool:
    if run.key in world.asked or made.spec.cancel_on or made.spec.flow.singleton is not None or made.spec.id == "cron":
        return True
    if run.parent is None:
        return False
    parent = run_of(world.stage, run.parent)
    steps = {each.key: each for each in steps_of(world.stage, run.parent)}
    return parent.state in ("cancelled", "failed") or steps[run.parent_step or ""].state == "failed"
