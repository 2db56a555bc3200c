"""What must hold of every transaction, whoever died before it: nothing is lost, doubled, or taken back."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

from fanout.journal import DUPLICATE_WINDOW_MS
from tests.simulation.commits import Commit, functions_of, matches, names
from tests.simulation.model import FINAL, Row

OVER = frozenset({"completed", "failed", "cancelled"})
ENDINGS = {
    "completed": ("fanout/function.finished",),
    "failed": ("fanout/function.finished", "fanout/function.failed"),
    "cancelled": ("fanout/function.cancelled",),
    "skipped": (),
}
INVOKED = "fanout/function.invoked"
TIMER = "fanout/scheduled.timer"


def what_is_over_stays(commit: Commit) -> None:
    """A run that has ended never changes, nor does a step; what is removed was over."""
    for key, before, after in commit.changed("run"):
        if before is None:
            assert after.state in {"queued", "waiting", *FINAL}, after
        elif before.state in FINAL:
            assert after in (None, before), f"run {key} had ended, and is changed: {before} {after}"
        else:
            assert after is not None, f"run {key} is lost: {before}"
            assert after.attempt in (before.attempt, before.attempt + 1), (before, after)
    for (run, key), before, after in commit.changed("step"):
        if before is not None and before.state in OVER and after is not None:
            assert after._replace(is_unreached=0) == before._replace(is_unreached=0), f"{before} has become {after}"
        if after is None:
            assert (run,) not in commit.model.runs, f"step {key} of {run} is lost"
    for table in ("failure", "run_event", "tick"):
        for _, before, after in commit.changed(table):
            if before is not None:
                assert after is None, f"{before} has become {after}"
                assert (before.run,) not in commit.model.runs, f"{before} is lost"


def no_result_comes_after_the_end(commit: Commit) -> None:
    for step in commit.completed_steps():
        before = commit.run_before(step.run)
        assert before.state not in FINAL, f"{step} of a run that had ended"


def events_stay_as_they_are(commit: Commit) -> None:
    routed_to = commit.model.tables["meta"]["routed_to",].value
    for _, before, after in commit.changed("event"):
        assert before is None or after is None, f"{before} has become {after}"
        if after is None:
            assert before.key <= routed_to, f"{before} is gone and was not routed"
    if not commit.is_engine:
        assert set(commit.changes) <= {"event", "request"}
        assert len(commit.new("event")) == len(commit.changes.get("event", {}))


def who_listens_gets_each_event_once(commit: Commit) -> None:
    """All runs of an event are there with the mark that says that it is routed, and no others."""
    model = commit.model
    change = commit.changes.get("meta", {}).get(("routed_to",))
    if change is not None:
        functions = commit.functions_before().values()
        assert change.after.value > change.before.value
        for key in range(change.before.value + 1, change.after.value + 1):
            event = model.events.get((key,))
            if event is None:
                continue
            for spec in functions:
                runs = model.of_event.get((key, spec.id), ())
                if _has_come_before(commit, event, spec.id):
                    assert not runs, f"{spec.id} has a second run for id {event.id}"
                else:
                    assert len(runs) == matches(spec, event), f"event {key} and {spec.id}: runs {runs}"
    routed_to = model.tables["meta"]["routed_to",].value
    for run in commit.new("run"):
        assert run.event <= routed_to, f"{run} is for an event that is not routed"
        if run.replay_of is None:
            assert model.of_event[run.event, run.function] == {run.key}, f"{run} is not the only one for its event"
        else:
            original = model.run(run.replay_of)
            assert (original.function, original.state in FINAL) == (run.function, True), run


def _has_come_before(commit: Commit, event: Row, function: str) -> bool:
    if not event.is_id_given:
        return False
    since = event.received_at - DUPLICATE_WINDOW_MS
    return any(
        key < event.key and received_at > since and commit.model.of_event.get((key, function))
        for key, received_at in commit.model.of_id[event.id]
    )


def what_is_sent_is_there_once(commit: Commit) -> None:
    """In the transaction of the step that sent it, and never otherwise."""
    if not commit.is_engine:
        return
    there: dict[int, Counter[str]] = defaultdict(Counter)
    for event in commit.new("event"):
        if event.key > 0:
            there[event.origin][event.id] += 1
    sent: dict[int, Counter[str]] = defaultdict(Counter)
    for step in commit.completed_steps():
        if step.kind == "send" and step.attempts:
            sent[step.run].update(json.loads(step.output))
    assert {run: ids for run, ids in sent.items() if ids} == there


def children_and_parents_agree(commit: Commit) -> None:
    model = commit.model
    for run in commit.ended():
        if run.parent is not None and model.run(run.parent).state not in FINAL:
            step = model.steps.get((run.parent, run.parent_step))
            is_its = model.children[run.parent, run.parent_step][-1] == run.key
            waits = step is not None and step.kind == "invoke" and step.state == "waiting" and is_its
            assert not waits, f"{run} has ended, and {step} waits for it"
        if run.state == "cancelled" or run.reason == "timed out":
            left = [key for key in model.live if model.run(key).parent == run.key]
            assert not left, f"{run} has left its children {left}"
    for step in commit.completed_steps():
        if not step.attempts:
            continue
        children = [model.run(key) for key in model.children.get((step.run, step.key), ())]
        if step.kind == "invoke":
            assert children, step
            assert (children[-1].state, children[-1].output) == ("completed", step.output), (step, children)
        elif step.kind == "map":
            _check_map(step, children)


def maps_keep_their_room(commit: Commit) -> None:
    """However many items become runs and end in a transaction, no more of them are there than may be."""
    for run, step in {(new.parent, new.parent_step) for new in commit.new("run") if new.item is not None}:
        mapping = commit.model.tables["map"].get((run, step))
        if mapping is not None:
            live = commit.model.live.intersection(commit.model.children[run, step])
            assert len(live) <= mapping.max_in_flight, f"{mapping} has the runs {live}"


def _check_map(step: Row, children: list[Row]) -> None:
    value = json.loads(step.output)
    numbers = [each.item for each in children]
    if numbers != [*range(len(children))]:
        return  # Of several maps, one after the other, that somebody has edited into one another.
    assert all(each.state in FINAL for each in children)
    failed = {str(each.item) for each in children if each.state != "completed"}
    outputs = [None if each.output is None else json.loads(each.output) for each in children]
    assert (value["results"] if failed else value) == outputs, (step, children)
    assert not failed or set(value["errors"]) == failed


def ends_are_announced_to_who_listens(commit: Commit) -> None:
    if commit.has_other_functions:
        return
    functions = functions_of(commit.model)
    said: dict[int, list[Row]] = defaultdict(list)
    for event in commit.new("event"):
        if event.key < 0 and event.name not in (INVOKED, TIMER):
            said[event.origin].append(event)
    for run in commit.ended():
        expected = set()
        spec = functions.get(run.function)
        handler = None if spec is None else functions.get(spec.on_failure or "")
        for name in () if run.is_echo else ENDINGS[run.state]:
            heard = {each.id for each in functions.values() if names(each, name)}
            heard |= {handler.id} if handler is not None and name == "fanout/function.failed" else set()
            if heard:
                expected.add(name)
            for event in said.get(run.key, []):
                if event.name == name:
                    got = {each for each in heard if commit.model.of_event.get((event.key, each))}
                    assert got == heard, f"{event} is for {heard}"
        found = [event.name for event in said.pop(run.key, [])]
        assert sorted(found) == sorted(expected), (run, found, expected)
    assert not said, f"announced without an end: {said}"


def replays_take_over_what_was_done(commit: Commit) -> None:
    """What the run had completed the replay has, unless it was asked to forget it; nothing else."""
    model = commit.model
    asked = [json.loads(after.body) for _, _, after in commit.changed("request") if after and after.kind == "replay"]
    for run in commit.new("run"):
        bodies = [] if run.replay_of is None else [body for body in asked if run.replay_of in body["runs"]]
        if len(bodies) != 1:
            continue
        body, steps = bodies[0], {key: step for (of, key), step in model.steps.items() if of == run.replay_of}
        kept = {} if body.get("from_start") else {key: step for key, step in steps.items() if step.state == "completed"}
        first = steps.get(body.get("from_step") or "")
        expected = {key: step.output for key, step in kept.items() if first is None or step.position < first.position}
        expected |= body.get("set", {})
        assert {key: step.output for (of, key), step in model.steps.items() if of == run.key} == expected, run


def requests_are_handled_once(commit: Commit) -> None:
    for _, before, after in commit.changed("request"):
        if before is None or after is None:
            assert after is not None or before.handled_at is not None
            continue
        assert before.handled_at is None, (before, after)
        if after.kind == "cancel" and after.handled_at is not None:
            left = [key for key in json.loads(after.body)["runs"] if key in commit.model.live]
            assert not left, f"{left} were to be cancelled"


RULES = (
    what_is_over_stays,
    no_result_comes_after_the_end,
    events_stay_as_they_are,
    who_listens_gets_each_event_once,
    ends_are_announced_to_who_listens,
    requests_are_handled_once,
    replays_take_over_what_was_done,
)
FOR_WORKERS_THAT_ARE_WHOLE = (what_is_sent_is_there_once, children_and_parents_agree, maps_keep_their_room)
