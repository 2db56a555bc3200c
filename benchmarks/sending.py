"""Sending events as a program does, waiting for their runs, and checking that they really happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from benchmarks.measure import BenchmarkError, Deadline
from fanout import Client
from fanout.client import watched_events
from fanout.journal.appender import AcceptedEvent
from fanout.journal.family import Progress, Watched
from fanout.model import Run, RunState, Step, StepState

EVENT = "bench/event"


def send_in_batches(client: Client, events: int, batch: int) -> list[AcceptedEvent]:
    """Send so many events, `batch` of them with each call."""
    return send_each(client, ({"n": number} for number in range(events)), batch)


def send_each(client: Client, data: Iterable[dict[str, object]], batch: int) -> list[AcceptedEvent]:
    """Send an event with each of these data, `batch` of them with each call."""
    accepted: list[AcceptedEvent] = []
    waiting = iter(data)
    while portion := [{"name": EVENT, "data": each} for each in islice(waiting, batch)]:
        accepted += client.send(*portion)
    return accepted


def follow_to_end(client: Client, accepted: Sequence[AcceptedEvent], deadline: Deadline) -> None:
    """Return as soon as the client knows that all runs of these events are final.

    Raises:
        BenchmarkError: the engine has gone, or the time is over.
    """
    follow(client, watched_events(accepted), deadline)


def follow_to_completion(client: Client, watched: Watched, runs: int, deadline: Deadline) -> None:
    """As `follow_to_end`; then all of the so many runs have to be completed.

    Raises:
        BenchmarkError: as above, or they are not.
    """
    check_counts(follow(client, watched, deadline), {RunState.COMPLETED: runs})


def follow_to_waiting(client: Client, watched: Watched, runs: int, deadline: Deadline) -> None:
    """As above, until all of them wait.

    Raises:
        BenchmarkError: as above.
    """
    check_counts(follow(client, watched, deadline, _is_at_rest), {RunState.WAITING: runs})


def _is_at_rest(progress: Progress) -> bool:
    counts = progress.counts
    return progress.is_routed and not (counts.get(RunState.QUEUED) or counts.get(RunState.RUNNING))


def follow(
    client: Client,
    watched: Watched,
    deadline: Deadline,
    is_done: Callable[[Progress], bool] = Progress.is_over,
) -> dict[RunState, int]:
    """Look whenever the engine has news, until `is_done`; how many runs there were then in each state.

    Raises:
        BenchmarkError: the engine has gone, or the time is over.
    """
    counts: dict[RunState, int] = {}

    def look(progress: Progress) -> bool:
        counts.clear()
        counts.update(progress.counts)
        return is_done(progress)

    if not client._connection.follow(watched, look, timeout_s=deadline.remaining_s()):  # noqa: SLF001 - only to look at what is going on
        deadline.remaining_s()
        raise BenchmarkError("the engine has gone before the end")
    return counts


def counted(client: Client, watched: Watched) -> dict[RunState, int]:
    """How many of these runs are in each state by now."""
    counts: dict[RunState, int] = {}

    def look(progress: Progress) -> bool:
        counts.update(progress.counts)
        return True

    client._connection.follow(watched, look)  # noqa: SLF001 - as above
    return counts


def completed(client: Client, watched: Watched) -> int:
    """How many of these runs are completed by now."""
    return counted(client, watched).get(RunState.COMPLETED, 0)


def check_counts(counts: Mapping[RunState, int], expected: Mapping[RunState, int]) -> None:
    """Raises BenchmarkError unless so many runs are in each of these states, and none in others."""
    expected = {state: number for state, number in expected.items() if number}
    if counts != expected:
        raise BenchmarkError(f"there should be {_listed(expected)} runs, there are: {_listed(counts) or 'none'}")


def _listed(counts: Mapping[RunState, int]) -> str:
    return ", ".join(f"{number:,} {state}" for state, number in counts.items())


def check_runs(runs: Sequence[Run], *, expected: int, steps: int, payload_bytes: int) -> None:
    """Every run is completed, with as many completed steps, each with as large a result.

    Raises:
        BenchmarkError: one is not.
    """
    if len(runs) != expected:
        raise BenchmarkError(f"there should be {expected:,} runs, there are {len(runs):,}")
    for run in runs:
        done = sum(_is_complete(step, payload_bytes) for step in run.steps)
        if run.state is not RunState.COMPLETED or done != steps or len(run.steps) != steps:
            raise BenchmarkError(
                f"run `{run.id}` of `{run.function}` is {run.state}, with {done} of {steps} steps as they should be"
            )


def _is_complete(step: Step, payload_bytes: int) -> bool:
    return step.state is StepState.COMPLETED and step.output is not None and len(bytes(step.output)) == payload_bytes
