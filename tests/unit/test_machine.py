from __future__ import annotations

import re
from copy import deepcopy
from importlib.resources import files

import pytest

from fanout.core.machine import TRANSITIONS, IllegalTransitionError, RunInput, next_state, sources
from fanout.model import FINAL_STATES, RunState, StepKind, StepState

SCHEMA = (files("fanout.journal") / "sqlite_schema.sql").read_text()


def checked(table: str, column: str) -> list[set[str]]:
    """The values that each condition on this column allows it in the schema of a table, where those are several."""
    body = re.search(rf"CREATE TABLE {table} \((.*?)\n\)", SCHEMA, re.DOTALL)
    assert body is not None
    lists = re.findall(rf"{column} = '\w+'(?:\s+OR\s+{column} = '\w+')+|{column} IN \([^)]*\)", body[1])
    return [set(re.findall(r"'(\w+)'", each)) for each in lists]


@pytest.mark.parametrize("happened", RunInput)
@pytest.mark.parametrize("state", RunState)
def test_every_input_in_every_state_is_a_listed_move_or_refused_and_changes_nothing(
    state: RunState, happened: RunInput
) -> None:
    before = deepcopy(TRANSITIONS)
    if happened in TRANSITIONS[state]:
        assert next_state(state, happened) is TRANSITIONS[state][happened]
    else:
        with pytest.raises(IllegalTransitionError) as raised:
            next_state(state, happened)
        assert str(raised.value) == f"a {state} run cannot take {happened!r}"
    assert before == TRANSITIONS


def test_the_table_has_a_row_for_each_state_and_leads_nowhere_else() -> None:
    assert list(TRANSITIONS) == list(RunState)
    assert {target for moves in TRANSITIONS.values() for target in moves.values()} <= set(RunState)


def test_the_table_as_it_was_decided() -> None:
    """A second copy, on purpose: a change of the machine is never an accident."""
    live = {
        RunInput.RETRY: "waiting",
        RunInput.COMPLETE: "completed",
        RunInput.FAIL: "failed",
        RunInput.CANCEL: "cancelled",
    }
    executing = {RunInput.PARK: "waiting", RunInput.LOST: "queued", **live}
    assert {
        "queued": {RunInput.NOTED: "running", **executing},
        "running": executing,
        "waiting": {RunInput.DUE: "queued", RunInput.RESUME: "running", RunInput.SKIP: "skipped", **live},
        "completed": {},
        "failed": {},
        "cancelled": {},
        "skipped": {},
    } == TRANSITIONS


def test_exactly_the_final_states_have_no_moves() -> None:
    assert {state for state, moves in TRANSITIONS.items() if not moves} == FINAL_STATES
    assert {state for state in RunState if state.is_final} == FINAL_STATES


@pytest.mark.parametrize("happened", RunInput)
def test_sources_are_the_states_in_which_an_input_is_legal(happened: RunInput) -> None:
    legal = []
    for state in RunState:
        try:
            next_state(state, happened)
        except IllegalTransitionError:
            continue
        legal.append(state)
    assert sources(happened) == tuple(legal)


@pytest.mark.parametrize("state", [state for state in RunState if not state.is_final])
def test_every_live_state_can_reach_a_final_one(state: RunState) -> None:
    reached, frontier = {state}, [state]
    while frontier:
        for target in TRANSITIONS[frontier.pop()].values():
            if target not in reached:
                reached.add(target)
                frontier.append(target)
    assert reached >= {RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED}


@pytest.mark.parametrize("happened", RunInput)
def test_no_input_brings_a_run_back_from_where_it_ended(happened: RunInput) -> None:
    assert FINAL_STATES.isdisjoint(sources(happened))


def test_the_schema_checks_the_same_states() -> None:
    assert checked("run", "state") == [set(RunState), set(FINAL_STATES)]
    assert checked("step", "state") == [
        set(StepState),
        {StepState.RUNNING, StepState.WAITING},
        {StepState.RETRYING, StepState.WAITING},
    ]
    assert checked("step", "kind") == [set(StepKind)]
