"""Sending events as a program does, waiting for their runs, and checking that they really happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.measure import BenchmarkError, Deadline
from fanout import Client
from fanout.client import watched_events
from fanout.journal import AcceptedEvent
from fanout.journal.family import Progress, Watched
from fanout.model import Run, RunState, Step, StepState

EVENT = "bench/event"


def send_in_batches(client: Client, events: int, batch: int) -> list[AcceptedEvent]:
    """Send so many events, `batch` of them with each call."""
    accepted: list[AcceptedEvent] = []
    for first in range(0, events, batch):
        accepted += client.send(
            *({"name": EVENT, "data": {"n": number}} for number in range(first, min(first + batch, events)))
        )
    return accepted


def follow_to_end(client: Client, accepted: Sequence[AcceptedEvent], deadline: Deadline) -> None:
    """Return as soon as the client knows that all runs of these events are final.

    Raises:
        BenchmarkError: the engine has gone, or the time is over.
    """
    _follow(client, watched_events(accepted), lambda progress: progress.is_over(), deadline)


def follow_to_completion(client: Client, watched: Watched, runs: int, deadline: Deadline) -> None:
    """As `follow_to_end`; then all of the so many runs have to be completed.

    Raises:
        BenchmarkError: as above, or they are not.
    """
    counts: dict[RunState, int] = {}

    def look(progress: Progress) -> bool:
        counts.clear()
        counts.update(progress.counts)
        return progress.is_over()

    _follow(client, watched, look, deadline)
    if counts != {RunState.COMPLETED: runs}:
        found = ", ".join(f"{number:,} {state}" for state, number in counts.items())
        raise BenchmarkError(f"there should be {runs:,} completed runs, there are: {found or 'none'}")


def completed(client: Client, watched: Watched) -> int:
    """How many of these runs are completed by now."""
    counts: dict[RunState, int] = {}

    def look(progress: Progress) -> bool:
        counts.update(progress.counts)
        return True

    client.follow(watched, look)
    return counts.get(RunState.COMPLETED, 0)


def _follow(client: Client, watched: Watched, is_done: Callable[[Progress], bool], deadline: Deadline) -> None:
    if not client.follow(watched, is_done, timeout_s=deadline.remaining_s()):
        deadline.remaining_s()
        raise BenchmarkError("the engine has gone before the end")


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
