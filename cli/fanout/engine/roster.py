"""Which worker executes what, which executions are parked, and who gets the next run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from fanout.journal.rows import QueuedRun
from fanout.model import FunctionSpec


class Active:
    """One execution of a run that a worker has been given, known by its claim."""

    __slots__ = (
        "changes", "claim", "deadline_at", "has_maps", "has_retries", "is_final", "is_leaving", "is_noted", "is_over",
        "is_parked", "known", "over", "run", "running", "spec", "started_at", "stint", "waits", "worker",
    )  # fmt: skip

    def __init__(self, claim: int, run: QueuedRun, spec: FunctionSpec, worker: int, started_at: int) -> None:
        self.claim = claim
        self.run = run
        self.spec = spec
        self.worker = worker
        self.started_at = started_at
        finish_ms = spec.timeouts.finish_ms
        self.deadline_at = None if finish_ms is None else (run.started_at or started_at) + finish_ms
        self.waits: dict[str, int] = {}
        """Its steps that wait, with the earliest time at which they may not any more (0: at any time)."""
        self.known: set[str] = set()
        """Maps that take more items, and other steps that it has asked for."""
        self.over: set[str] = set()
        """Steps that never change again."""
        self.running: dict[str, int] = {}
        """Steps known to be running, with the time at which they began."""
        self.changes: list[str] = []
        """Steps of which the worker has still to be told."""
        self.has_maps = False
        self.has_retries = False
        """Steps of it were to be tried again, and its code may not come to them any more."""
        self.stint = 0
        """How often it was parked."""
        self.is_parked = False
        """It holds no slot, and the journal says that the run waits."""
        self.is_noted = False
        """The journal says that it is running."""
        self.is_leaving = False
        """It was told to leave."""
        self.is_final = False
        """The run has ended already; only its slot is still taken."""
        self.is_over = False


class Roster:
    """The workers that have loaded the code, with what each executes."""

    def __init__(self, slots: int, *, on_freed: Callable[[Active], None] = lambda _active: None) -> None:
        self._slots = slots
        self._on_freed = on_freed
        self._workers: dict[int, set[int]] = {}
        self._parked: dict[int, dict[int, Active]] = {}
        self._resuming: dict[int, deque[Active]] = {}
        self._apps: dict[int, str] = {}
        self._reserved: int | None = None
        self._retiring: set[int] = set()
        self._dismissed: set[int] = set()
        """Of those and the outdated, the ones that were asked to exit."""
        self._outdated: set[int] = set()
        """They have older code: they get nothing new, and go when they have nothing left."""
        self._closed: set[int] = set()
        """They are being killed: nothing begins or goes on there."""
        self.opened: set[str] = set()
        """Apps that have a worker which was reserved or retiring, and is not any more."""
        self._woken: set[int] = set()
        self.active: dict[int, Active] = {}
        self.by_run: dict[int, Active] = {}

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def outdated(self) -> int:
        """How many workers with older code are still there."""
        return len(self._outdated)

    def have(self, *, slots: int) -> None:
        """From now on each worker has so many slots. What executes goes on."""
        self._slots = slots

    def __contains__(self, worker: int) -> bool:
        return worker in self._workers

    @property
    def executing(self) -> int:
        """How many executions have a slot, or wait for one to go on, or to leave and be started again."""
        resuming = sum(map(len, self._resuming.values()))
        return len(self.active) - sum(map(len, self._parked.values())) + resuming + len(self._woken)

    def executing_of(self, app: str) -> int:
        """As `executing`, of one app."""
        return sum(
            len(claims) + len(self._resuming[worker])
            for worker, claims in self._workers.items()
            if self._apps[worker] == app
        )

    def join(self, worker: int, app: str) -> None:
        self._workers[worker] = set()
        self._apps[worker] = app
        self._parked[worker] = {}
        self._resuming[worker] = deque()

    def leave(self, worker: int) -> tuple[list[Active], list[Active]]:
        """The worker is gone; what had a slot there, and what had none."""
        if worker == self._reserved:
            self._reserved = None
        executing = [self.active[claim] for claim in sorted(self._workers.pop(worker, ()))]
        parked = list(self._parked.pop(worker, {}).values())
        self._resuming.pop(worker, None)
        self._apps.pop(worker, None)
        for these in (self._retiring, self._dismissed, self._outdated, self._closed):
            these.discard(worker)
        for active in (*executing, *parked):
            self._forget(active)
        for active in executing:
            self._on_freed(active)
        return executing, parked

    def start(self, active: Active) -> None:
        self.active[active.claim] = active
        self.by_run[active.run.key] = active
        self._workers[active.worker].add(active.claim)

    def end(self, active: Active) -> None:
        self._forget(active)
        self._free(active)
        if self._parked[active.worker].pop(active.claim, None) is not None and active in self._resuming[active.worker]:
            self._resuming[active.worker].remove(active)

    def _free(self, active: Active) -> None:
        claims = self._workers[active.worker]
        if active.claim in claims:
            claims.remove(active.claim)
            self._on_freed(active)

    def _forget(self, active: Active) -> None:
        active.is_over = True
        self._woken.discard(active.claim)
        del self.active[active.claim]
        if self.by_run.get(active.run.key) is active:
            del self.by_run[active.run.key]

    # Parking.

    def park(self, active: Active) -> None:
        """Its slot is free."""
        self._free(active)
        self._parked[active.worker][active.claim] = active

    def parked(self, worker: int) -> dict[int, Active]:
        """What is parked there, the longest first."""
        return self._parked[worker]

    def resume_later(self, active: Active) -> None:
        """It goes on when its worker has a slot for it."""
        self._resuming[active.worker].append(active)

    def start_again_later(self, active: Active) -> None:
        """It is leaving, and its run goes on from the queue when it has left."""
        self._woken.add(active.claim)

    def is_resuming(self, active: Active) -> bool:
        return active in self._resuming[active.worker]

    def resume(self, may_go_on: Callable[[Active], bool]) -> Active | None:
        """An execution that goes on now: it has its slot. Those come before runs that have not begun."""
        for worker, waiting in self._resuming.items():
            if not waiting or len(self._workers[worker]) >= self._slots or worker in self._closed:
                continue
            active = next((each for each in waiting if may_go_on(each)), None)
            if active is not None:
                waiting.remove(active)
                del self._parked[worker][active.claim]
                self._workers[worker].add(active.claim)
                return active
        return None

    # Choosing.

    def has_slot(self, app: str) -> bool:
        """Whether a worker of this app has one that is free."""
        for worker, claims in self._workers.items():  # noqa: SIM110 - a generator costs as much as all of it
            if len(claims) < self._slots and self._is_open(worker, app):
                return True
        return False

    def freest(self, app: str) -> int | None:
        """The worker of this app with the most free slots, if any has one."""
        best, fewest = None, self._slots
        for worker, claims in self._workers.items():
            taken = len(claims)
            if taken < fewest and self._is_open(worker, app):
                best, fewest = worker, taken
        return best

    def reserve(self, app: str) -> int | None:
        """The worker kept for one suspect: the emptiest, which gets nothing new until then.

        It can be used once nothing is executing or parked there.
        """
        if self._reserved is None or not self._holds_suspect(self._reserved):
            there = self._staying(app)
            self._reserve(min(there, key=lambda worker: len(self._workers[worker]), default=None))
        return self._reserved if self._reserved is not None and self._apps[self._reserved] == app else None

    def can_reserve(self, app: str) -> bool:
        """Whether the app has a worker that could be kept for a suspect."""
        return bool(self._staying(app))

    def _reserve(self, worker: int | None) -> None:
        if self._reserved is not None and self._reserved != worker:
            self.opened.add(self._apps[self._reserved])
        self._reserved = worker

    def workers_of(self, app: str) -> list[int]:
        return [worker for worker, its_app in self._apps.items() if its_app == app]

    def current_of(self, app: str) -> list[int]:
        """Those that have the code as it was last adopted."""
        return [worker for worker in self.workers_of(app) if worker not in self._outdated]

    def _is_open(self, worker: int, app: str) -> bool:
        return worker != self._reserved and self._apps[worker] == app and self._is_staying(worker)

    def _is_staying(self, worker: int) -> bool:
        return worker not in self._retiring and worker not in self._outdated and worker not in self._closed

    def _staying(self, app: str) -> list[int]:
        return [worker for worker in self.workers_of(app) if self._is_staying(worker)]

    def retire(self, app: str, number: int) -> None:
        """So many workers of this app get nothing new, to make room for another app's; one stays in any case.

        Those that have the least to do go. The ones that go already stay if they are too many, but for the dismissed.
        """
        if not number and not self._retiring:
            return
        going = [worker for worker in self._retiring - self._outdated if self._apps[worker] == app]
        going.sort(key=lambda worker: worker not in self._dismissed)
        for worker in going[number:]:
            if worker not in self._dismissed:
                self._retiring.discard(worker)
                self.opened.add(app)
        there = [worker for worker in self._staying(app) if worker != self._reserved]
        there.sort(key=lambda worker: (len(self._workers[worker]), len(self._parked[worker])))
        most = min(number - len(going), len(self._staying(app)) - 1)
        self._retiring.update(there[: max(0, most)])

    def close(self, worker: int) -> None:
        """It is being killed."""
        self._closed.add(worker)

    def outdate(self, app: str) -> list[Active]:
        """There is newer code than what all workers of this app have. The executions that have to leave them."""
        outdated = set(self.current_of(app))
        self._outdated |= outdated
        if self._reserved in outdated:
            self._reserve(None)
        return [active for active in self.active.values() if active.worker in outdated and not active.is_leaving]

    def holding(self) -> list[Active]:
        """The executions that have a slot."""
        return [self.active[claim] for claims in self._workers.values() for claim in claims]

    def dismiss(self) -> list[int]:
        """Workers that go and have nothing left, each once: they are to be asked to exit."""
        going = (self._retiring | self._outdated) - self._dismissed
        done = sorted(worker for worker in going if self.is_empty(worker))
        self._dismissed.update(done)
        return done

    def is_empty(self, worker: int) -> bool:
        return not self._workers[worker] and not self._parked[worker]

    def release(self) -> None:
        """No suspect waits: the reserved worker is open again, unless one is in it."""
        if self._reserved is not None and not self._holds_suspect(self._reserved):
            self._reserve(None)

    def _holds_suspect(self, worker: int) -> bool:
        return any(self.active[claim].run.is_suspect for claim in self._workers[worker])
