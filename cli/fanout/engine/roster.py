"""Which worker executes what, and who gets the next run."""

from __future__ import annotations

from fanout.journal import QueuedRun
from fanout.model import FunctionSpec


class Active:
    """One execution of a run that a worker has been given, known by its claim."""

    __slots__ = ("claim", "due_at", "is_cancelled", "is_over", "run", "spec", "started_at", "worker")

    def __init__(self, claim: int, run: QueuedRun, spec: FunctionSpec, worker: int, started_at: int) -> None:
        self.claim = claim
        self.run = run
        self.spec = spec
        self.worker = worker
        self.started_at = started_at
        self.due_at: int | None = None
        """Set when a step waits for its next attempt: the execution is on its way out until then."""
        self.is_cancelled = False
        """The run is final already; only its slot is still taken."""
        self.is_over = False


class Roster:
    """The workers that have loaded the code, with what each executes."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._workers: dict[int, set[int]] = {}
        self._reserved: int | None = None
        self.active: dict[int, Active] = {}

    def __len__(self) -> int:
        return len(self._workers)

    def __contains__(self, worker: int) -> bool:
        return worker in self._workers

    def join(self, worker: int) -> None:
        self._workers[worker] = set()

    def leave(self, worker: int) -> list[Active]:
        """The worker is gone; what it was executing."""
        if worker == self._reserved:
            self._reserved = None
        there = [self.active.pop(claim) for claim in sorted(self._workers.pop(worker, ()))]
        for active in there:
            active.is_over = True
        return there

    def start(self, active: Active) -> None:
        self.active[active.claim] = active
        self._workers[active.worker].add(active.claim)

    def end(self, active: Active) -> None:
        active.is_over = True
        del self.active[active.claim]
        self._workers[active.worker].discard(active.claim)

    def freest(self) -> int | None:
        """The worker with the most free slots, if any has one."""
        best, fewest = None, self._slots
        for worker, claims in self._workers.items():
            if len(claims) < fewest and worker != self._reserved:
                best, fewest = worker, len(claims)
        return best

    def reserve(self) -> int | None:
        """The worker kept for one suspect, once it is empty: the emptiest gets nothing new until then."""
        if self._reserved is None or not self._holds_suspect(self._reserved):
            self._reserved = min(self._workers, key=lambda worker: len(self._workers[worker]), default=None)
        if self._reserved is None or self._workers[self._reserved]:
            return None
        return self._reserved

    def release(self) -> None:
        """No suspect waits: the reserved worker is open again, unless one is in it."""
        if self._reserved is not None and not self._holds_suspect(self._reserved):
            self._reserved = None

    def _holds_suspect(self, worker: int) -> bool:
        return any(self.active[claim].run.is_suspect for claim in self._workers[worker])
