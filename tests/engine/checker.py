"""What must be true of a journal when all is over, whatever died when. It knows scripts and tables, not the engine."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from tests.engine.scripts import FOREVER, Body, Fail, Function, Step, What, nth
from tests.engine.simulation import Simulation

FINAL = {"completed", "failed", "cancelled", "skipped"}


class Foretold(NamedTuple):
    """How a script has to end if every attempt is counted once."""

    state: str
    reason: str | None
    steps: dict[str, tuple[str, int]]
    body_failures: int


class _Failed(Exception):  # noqa: N818
    def __init__(self, fail: Fail) -> None:
        self.fail = fail


class _Crashed(Exception):  # noqa: N818
    pass


def foretell(made: Function) -> Foretold:
    steps: dict[str, tuple[str, int]] = {}
    most = made.spec.retries + 1
    for attempt in range(most):
        try:
            _execute(made, attempt, steps)
        except _Crashed:
            return Foretold("failed", "crashed", steps, attempt)
        except _Failed as failed:
            if not failed.fail.is_retriable or attempt + 1 == most:
                return Foretold("failed", None, steps, attempt + 1)
        else:
            return Foretold("completed", None, steps, attempt)
    raise AssertionError(made)


def _execute(made: Function, attempt: int, steps: dict[str, tuple[str, int]]) -> None:
    seen: Counter[str] = Counter()
    for part in made.script:
        match part:
            case Step():
                seen[part.name] += 1
                key = part.name if seen[part.name] == 1 else f"{part.name}#{seen[part.name]}"
                if key not in steps:
                    if part.deaths == FOREVER:
                        raise _Crashed
                    steps[key] = _outcome(part, made.spec.retries + 1)
                if steps[key][0] == "failed" and not part.is_caught:
                    raise _Failed(Fail(is_retriable=False))
            case Body():
                if part.deaths == FOREVER:
                    raise _Crashed
                outcome = nth(part.outcomes, attempt)
                if outcome is not None:
                    raise _Failed(outcome)


def _outcome(step: Step, most: int) -> tuple[str, int]:
    for attempt in range(most):
        outcome = nth(step.outcomes, attempt)
        if outcome is None:
            return "completed", attempt + 1
        if not outcome.is_retriable:
            return "failed", attempt + 1
    return "failed", most


def check(simulation: Simulation) -> None:
    """All of it; nothing was cancelled or replayed, and no event has a given id."""
    check_fan_out(simulation)
    check_history(simulation)
    for key, function in simulation.rows("SELECT key, function FROM run"):
        check_run(simulation, key, simulation.functions[function])


def check_fan_out(simulation: Simulation) -> None:
    """Every accepted event has one run for each function that listens, and every run has ended."""
    runs = Counter(simulation.rows("SELECT event, function FROM run"))
    assert runs == Counter(
        (event.key, each.spec.id)
        for event in simulation.accepted
        for each in simulation.functions.values()
        if event.name in {trigger.name for trigger in each.spec.triggers}
    )
    assert set(simulation.states().values()) <= FINAL
    assert simulation.rows("SELECT key FROM run WHERE due_at IS NOT NULL") == []


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
            case What.BEGIN:
                assert where not in recorded, f"{where} began again"
            case What.RECORDED:
                assert where not in recorded, f"{where} was recorded twice"
                recorded[where] = entry.output
            case What.ACKNOWLEDGED:
                assert recorded[where] == entry.output, f"{where} was acknowledged but not recorded"
            case _:
                pass
    assert {where: output for where, output in outputs.items() if where in recorded} == recorded


def check_run(simulation: Simulation, run: int, made: Function) -> None:
    """It ended as its script says, alone responsible for what was charged to it."""
    foretold = foretell(made)
    ((state, reason, attempt, crashes, is_suspect),) = simulation.rows(
        "SELECT state, reason, attempt, crashes, is_suspect FROM run WHERE key = ?", run
    )
    steps = simulation.steps(run)
    failures = simulation.failures(run)
    assert (state, reason, is_suspect) == (foretold.state, foretold.reason, 0), (run, made.spec.id, failures)
    # The step that kills its worker is never recorded as more than running.
    assert {key: step for key, step in steps.items() if step[0] in ("completed", "failed")} == foretold.steps
    assert foretold.reason == "crashed" or all(state in ("completed", "failed") for state, _ in steps.values())
    for key, (step_state, attempts) in foretold.steps.items():
        charged = [number for step, number, _ in failures if step == key]
        assert charged == list(range(attempts - (step_state == "completed")))
    charged = [number for step, number, type_ in failures if not step and type_ != "Crashed"]
    assert charged == list(range(foretold.body_failures))
    assert max(attempt + 1, *(attempts for _, attempts in steps.values()), 1) <= made.spec.max_attempts
    deaths = sum(min(part.deaths, 3) for part in made.script if isinstance(part, Step | Body))
    assert crashes == sum(type_ == "Crashed" for _, _, type_ in failures)
    assert crashes <= deaths
    assert (crashes == 3) is (reason == "crashed")
