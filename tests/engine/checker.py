"""What must be true of a journal when all is over, whatever died when. It knows scripts and tables, not the engine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container
from typing import Any

from fanout.core.expressions import IN_WAITS, parse
from fanout.model import EventTrigger
from tests.engine.foretelling import Foretold, Where, foretell, parts_of
from tests.engine.scripts import Await, Body, Function, Item, Map, Send, Sleep, Step, What
from tests.engine.simulation import Simulation
from tests.engine.tables import RunRow, StepRow, by_place, data_of, run_of, runs_of, steps_of

FINAL = {"completed", "failed", "cancelled", "skipped"}
INVOKED = "fanout/function.invoked"
ENDINGS = {
    "completed": ("fanout/function.finished",),
    "failed": ("fanout/function.finished", "fanout/function.failed"),
    "cancelled": ("fanout/function.cancelled",),
}


def check(simulation: Simulation, *, cancelled: Container[int] = (), deaths: int = 0) -> None:
    """All of it; nothing but these and what they had invoked was cancelled, and no event has a given id.

    `deaths` is how many workers have died of something else than their code.
    """
    check_over(simulation)
    check_fan_out(simulation)
    check_history(simulation)
    for run in runs_of(simulation):
        made = simulation.functions[run.function]
        if run.state == "cancelled":
            assert run.key in cancelled or _was_left(simulation, run), run
        elif run.replay_of is None:
            check_run(simulation, run.key, made, deaths=deaths)
        check_children(simulation, run.key, made)
        check_waits(simulation, run.key, made)
        check_sent(simulation, run.key)


def _was_left(simulation: Simulation, run: RunRow) -> bool:
    """Nobody waits for it any more: its parent was cancelled, or the map it belongs to has failed."""
    if run.parent is None:
        return False
    parent = run_of(simulation, run.parent)
    steps = {each.key: each for each in steps_of(simulation, run.parent)}
    assert run.parent_step is not None
    return parent.state in ("cancelled", "failed") or steps[run.parent_step].state == "failed"


def check_over(simulation: Simulation) -> None:
    """Every run has ended, and nothing is left that waits."""
    assert set(simulation.states().values()) <= FINAL
    for left in (
        "SELECT key FROM run WHERE due_at IS NOT NULL OR deadline_at IS NOT NULL",
        "SELECT run, key FROM step WHERE due_at IS NOT NULL OR state IN ('waiting', 'retrying')",
        "SELECT run, step FROM wait",
        "SELECT run, step FROM map",
        "SELECT key FROM request WHERE handled_at IS NULL",
    ):
        assert simulation.rows(left) == [], left


# Events.


def check_fan_out(simulation: Simulation) -> None:
    """Every event has one run for each function that listens, and the engine's own one for whom they are meant."""
    assert set(simulation.states().values()) <= FINAL
    rows = simulation.rows("SELECT event, function FROM run WHERE replay_of IS NULL")
    expected = Counter(
        (key, each.spec.id)
        for key, name in simulation.rows("SELECT key, name FROM event WHERE key > 0")
        for each in _listeners(simulation, name)
    )
    for run in runs_of(simulation):
        expected += Counter(_announced(simulation, run))
    for key, origin, function in simulation.rows(
        "SELECT event.key, origin, function FROM event JOIN run ON event = event.key WHERE name = ? AND parent > 0",
        INVOKED,
    ):
        listeners = [] if _is_echo(simulation, origin) else _listeners(simulation, INVOKED)
        expected += Counter({(key, function), *((key, each.spec.id) for each in listeners)})
    assert Counter(rows) == expected
    by_steps = simulation.rows("SELECT count(*) FROM event WHERE key > 0 AND origin IS NOT NULL")[0][0]
    total = simulation.rows("SELECT count(*) FROM event WHERE key > 0")[0][0]
    assert total - by_steps == len(simulation.accepted)


def _listeners(simulation: Simulation, name: str) -> list[Function]:
    return [
        each
        for each in simulation.functions.values()
        if any(
            name.startswith(trigger.name[:-1]) if trigger.name.endswith("*") else name == trigger.name
            for trigger in each.spec.triggers
            if isinstance(trigger, EventTrigger)
        )
    ]


def _is_echo(simulation: Simulation, run: int) -> bool:
    """Whether an event of the engine's own has started it, to which it listens; or it is a child of such a run."""
    ((parent, event, asked_for),) = simulation.rows(
        "SELECT parent, event, EXISTS (SELECT 1 FROM request WHERE run = run.key) FROM run WHERE key = ?", run
    )
    return _is_echo(simulation, parent) if parent is not None else event < 0 and not asked_for


def _announced(simulation: Simulation, run: RunRow) -> list[tuple[int, str]]:
    """(event, function) of the runs that the end of this one has to start: each event once, if somebody hears it."""
    expected = []
    for name in ENDINGS[run.state]:
        heard = {each.spec.id for each in _listeners(simulation, name)}
        on_failure = simulation.functions[run.function].spec.on_failure
        if name == "fanout/function.failed" and on_failure in simulation.functions:
            heard.add(on_failure)
        if _is_echo(simulation, run.key):
            heard = set()
        found = simulation.rows("SELECT key, data FROM event WHERE name = ? AND origin = ?", name, run.key)
        assert len(found) == bool(heard), (run, name, found)
        for key, data in found:
            said = json.loads(data)
            assert (said["run_id"], said["function_id"], said["state"]) == (run.id, run.function, run.state)
            expected += [(key, each) for each in heard]
    return expected


def check_sent(simulation: Simulation, run: int) -> None:
    """What its steps sent is there once, and nothing else."""
    sent = [key for each in steps_of(simulation, run) if each.kind == "send" for key in json.loads(each.output or "[]")]
    events = simulation.rows("SELECT id FROM event WHERE origin = ? AND key > 0", run)
    assert Counter(sent) == Counter(id_ for (id_,) in events)


# History.


def check_history(simulation: Simulation) -> None:
    """A step that was acknowledged is in the journal as it was, and none began again after it was recorded."""
    outputs = {
        (run, step): output
        for run, step, output in simulation.rows(
            "SELECT run.id, step.key, step.output FROM step JOIN run ON run.key = run WHERE step.state = 'completed'"
        )
    }
    recorded: dict[tuple[str, str], str] = {}
    for entry in simulation.log:
        where = entry.run, entry.step
        match entry.what:
            case What.BEGIN | What.WAITS:
                assert where not in recorded, f"{where} began again"
            case What.RECORDED:
                assert where not in recorded, f"{where} was recorded twice"
                recorded[where] = entry.output
            case What.ACKNOWLEDGED:
                assert recorded[where] == entry.output, f"{where} was acknowledged but not recorded"
            case _:
                pass
    assert {where: output for where, output in outputs.items() if where in recorded} == recorded


# Runs.


def check_run(simulation: Simulation, run: int, made: Function, *, deaths: int = 0) -> None:
    """It ended as its script says, alone responsible for what was charged to it."""
    found, steps, failures = run_of(simulation, run), steps_of(simulation, run), simulation.failures(run)
    foretold = _foretold(simulation, run, made)
    assert (found.state, found.reason, found.is_suspect) == (foretold.state, foretold.reason, 0), (
        run, made.spec.id, failures,
    )  # fmt: skip
    if found.state == "completed":
        assert found.output == made.returns(data_of(simulation, run))
    # The step that kills its worker is never recorded as more than running.
    told = by_place([each for each in steps if each.state in ("completed", "failed")])
    assert {where: [(each.state, each.attempts) for each in there] for where, there in told.items()} == foretold.steps
    assert foretold.reason == "crashed" or all(each.state in ("completed", "failed") for each in steps)
    for each in steps:
        charged = [number for step, number, _ in failures if step == each.key]
        assert each.state not in ("completed", "failed") or charged == [*range(each.attempts - (each.state[0] == "c"))]
    charged = [number for step, number, type_ in failures if not step and type_ != "Crashed"]
    assert charged == [*range(foretold.body_failures)]
    assert max(found.attempt + 1, *(each.attempts for each in steps), 1) <= made.spec.max_attempts
    check_crashes(simulation, run, made, deaths)


def check_crashes(simulation: Simulation, run: int, made: Function, others: int) -> None:
    found = run_of(simulation, run)
    deaths = others + sum(
        min(part.deaths, 3) for _, part in parts_of(made.script, made) if isinstance(part, Step | Body)
    )
    assert found.crashes == sum(not step and type_ == "Crashed" for step, _, type_ in simulation.failures(run))
    assert found.crashes <= deaths
    assert (found.crashes == 3) is (found.reason == "crashed")


def _foretold(simulation: Simulation, run: int, made: Function) -> Foretold:
    steps = by_place(steps_of(simulation, run))

    def invoked(where: Where, number: int) -> str:
        return steps[where][number].state

    data = json.loads(data_of(simulation, run))
    item = Item(data["item"], data.get("takes_ms", 0), data.get("is_failing", False)) if "item" in data else None
    return foretell(made, item, invoked)


# What steps waited for.


def check_children(simulation: Simulation, run: int, made: Function) -> None:
    """What an invoke or a map has come to is what its children have."""
    parts = {(path, part.name): part for path, part in parts_of(made.script, made) if isinstance(part, Map)}
    for step in steps_of(simulation, run):
        children = runs_of(simulation, "parent = ? AND parent_step = ? ORDER BY item", run, step.key)
        if step.kind not in ("invoke", "map"):
            assert children == []
        elif step.kind == "map" and (step.path, step.name) in parts:
            _check_map(simulation, run, step, parts[step.path, step.name], children)
        elif step.kind == "invoke":
            _check_invoke(simulation, run, step, children)


def _check_invoke(simulation: Simulation, run: int, step: StepRow, children: list[RunRow]) -> None:
    types = [type_ for key, _, type_ in simulation.failures(run) if key == step.key]
    match step.state, types:
        case "completed", []:
            assert [(each.state, each.output) for each in children] == [("completed", step.output)]
        case "failed", ["LookupError"]:
            assert children == []
        case "failed", ["TimeoutError"]:
            assert len(children) == 1
        case "failed", [_]:
            assert [each.state for each in children] in (["failed"], ["cancelled"])
        case _:
            assert step.state == "cancelled"
            assert len(children) == 1


def _check_map(simulation: Simulation, run: int, step: StepRow, part: Map, children: list[RunRow]) -> None:
    given = [each.as_data() for each in part.items]
    assert [each.item for each in children] == [*range(len(children))]
    assert [json.loads(data_of(simulation, each.key)) for each in children] == given[: len(children)]
    if part.has_keys:
        keys = "SELECT item_key FROM run WHERE parent = ? AND parent_step = ? ORDER BY item"
        assert [key for (key,) in simulation.rows(keys, run, step.key)] == [str(each["item"]) for each in given][
            : len(children)
        ]
    failed = [each for each in children if each.state != "completed"]
    messages = simulation.rows("SELECT type, message FROM failure WHERE run = ? AND step = ?", run, step.key)
    if step.state == "completed":
        assert len(children) == len(given)
        assert step.output is not None
        assert part.is_collecting or not failed
        value = json.loads(step.output)
        outputs = [None if each.output is None else json.loads(each.output) for each in children]
        assert (value["results"] if failed else value) == outputs
        assert not failed or [int(number) for number in value["errors"]] == [each.item for each in failed]
    elif step.state == "failed" and messages[0][0] != "LookupError":
        assert not part.is_collecting
        assert messages[0][1].partition(":")[0] in [f"item {each.item}" for each in failed]


def check_waits(simulation: Simulation, run: int, made: Function) -> None:
    """A sleep was long enough; a wait got the first event that was accepted after it, and in time, or none."""
    parts: dict[Where, list[Any]] = {}
    for path, part in parts_of(made.script, made):
        if isinstance(part, Sleep | Await | Send):
            parts.setdefault((path, part.name), []).append(part)
    for where, steps in by_place(steps_of(simulation, run)).items():
        for number, step in enumerate(steps):
            if step.state != "completed" or len(parts.get(where, [])) <= number or step.ended_at is None:
                continue
            part = parts[where][number]
            if isinstance(part, Sleep):
                assert step.ended_at - step.started_at >= part.ms
            elif isinstance(part, Await):
                assert step.output == _heard(simulation, run, step, part), (run, step)


def _heard(simulation: Simulation, run: int, step: StepRow, part: Await) -> str:
    id_ = simulation.run_id(run)
    began = next(
        number
        for number, entry in enumerate(simulation.log)
        if entry.what is What.WAITS and (entry.run, entry.step) == (id_, step.key)
    )
    started_by = _envelope(simulation, run_of(simulation, run).event)
    for entry in simulation.log[began:]:
        if entry.what is What.RECORDED and (entry.run, entry.step) == (id_, step.key):
            break
        if entry.what is What.ACCEPTED and entry.at <= step.started_at + part.timeout_ms:
            said = _envelope(simulation, entry.event)
            if _fits(part, json.loads(started_by), json.loads(said)):
                return said
    return "null"


def _fits(part: Await, started_by: dict[str, Any], said: dict[str, Any]) -> bool:
    if said["name"] != part.event:
        return False
    if part.if_ is not None and not parse(part.if_, variables=IN_WAITS).is_true(**{"event": started_by, "async": said}):
        return False
    if part.match is None:
        return True
    mine: Any = started_by
    its: Any = said
    for name in part.match.split("."):
        if name not in mine or name not in its:
            return False
        mine, its = mine[name], its[name]
    return bool(mine == its)


def _envelope(simulation: Simulation, event: int) -> str:
    ((id_, name, ts, data),) = simulation.rows("SELECT id, name, ts, data FROM event WHERE key = ?", event)
    return json.dumps({"id": id_, "name": name, "ts": ts, "data": json.loads(data)}, separators=(",", ":"))
