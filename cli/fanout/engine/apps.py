"""The apps of a project: what code each has, whether it can be loaded, and how many workers it gets.

A reload begins with one worker, the candidate, which loads the code as it is now while the others go on with what they
have. Only when it has described its functions they are adopted, and the workers that were there before go.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from fanout import __version__
from fanout.core.changes import changes
from fanout.core.shares import shares
from fanout.core.specs import complaint
from fanout.engine.dispatch import Dispatch
from fanout.engine.pool import Lost, Pool
from fanout.engine.reloads import Reloaded
from fanout.engine.roster import Roster
from fanout.engine.tick import Tick
from fanout.errors import LoadError
from fanout.journal import Journal
from fanout.model import FunctionSpec
from fanout.protocol import Described, Evict

MAX_LOAD_DEATHS = 2
LOAD_AGAIN_AT_LAST_MS = 30_000
LOADS_LONG_MS = 10_000
MOST_OUTDATED = 2
"""With more workers with older code than so many times the usual number, each app gets one new one until some go."""
LOAD_AGAIN_MS = 1_000
"""After a worker that could not load the code: others may still work, and the code may be mended meanwhile."""


class _App:
    """One codebase."""

    __slots__ = (
        "asked_at", "candidate", "deaths", "error", "failures", "functions", "grow_after", "id", "is_known",
        "is_pending", "is_stale", "is_warned", "loading", "said",
    )  # fmt: skip

    def __init__(self, id_: str, loading: Collection[int] = ()) -> None:
        self.id = id_
        self.loading = set(loading)
        """Workers that have not said yet what functions there are."""
        self.candidate: int | None = None
        """Of those, the one that is to show whether the code can be loaded that was saved last."""
        self.is_pending = False
        """There is other code than what its workers have, and what can be loaded next is adopted."""
        self.asked_at = 0
        self.is_warned = False
        self.said = ""
        """What was said of why the code can't be loaded."""
        self.failures = 0
        """Since it could be loaded."""
        self.functions: tuple[FunctionSpec, ...] = ()
        self.is_known = False
        """Its code has been loaded, or could not be."""
        self.is_stale = False
        """Its functions are those that it had the last time."""
        self.error: LoadError | None = None
        self.deaths = 0
        self.grow_after = 0


class Apps:
    """An app whose code does not load keeps the functions that it last had, so that its runs are made, and wait."""

    def __init__(
        self,
        journal: Journal,
        pool: Pool,
        roster: Roster,
        dispatch: Dispatch,
        *,
        processes: int,
        has_prefixes: bool,
        has_reloads: bool = False,
    ) -> None:
        self._journal = journal
        self._pool = pool
        self._roster = roster
        self._dispatch = dispatch
        self._processes = processes
        self._apps = {app: _App(app, pool.workers_of(app)) for app in pool.apps}
        self._has_prefixes = has_prefixes
        self._has_reloads = has_reloads
        self.reloaded: list[Reloaded] = []
        """What has come of reloads, and is still to be told."""

    @property
    def _is_alone(self) -> bool:
        return len(self._apps) == 1

    @property
    def are_known(self) -> bool:
        """Whether each has been loaded, or could not be: only then is it known who listens to an event."""
        return all(app.is_known for app in self._apps.values())

    @property
    def errors(self) -> list[LoadError]:
        """Why the newest worker of an app could not load its code, while others may still work with what they have."""
        return [app.error for app in self._apps.values() if app.error is not None]

    def functions(self) -> tuple[FunctionSpec, ...]:
        return tuple(spec for app in self._apps.values() for spec in app.functions)

    def rows(self, now: int) -> list[tuple[str, str, int | None]]:
        """What the journal is to keep of them, if it has not; without a time if they have not been loaded now."""
        rows = [
            (spec.id, msgspec.json.encode(spec).decode(), None if app.is_stale else now)
            for app in self._apps.values()
            for spec in app.functions
        ]
        is_fresh = not any(app.is_stale for app in self._apps.values())
        return [] if is_fresh and self._journal.has_functions({id_: spec for id_, spec, _ in rows}) else rows

    def loadable(self) -> set[str]:
        """Apps that have a worker, or whose code may be loaded as far as is known."""
        return {app.id for app in self._apps.values() if app.error is None or self._roster.workers_of(app.id)}

    def unloaded(self) -> set[str]:
        """Functions whose code no worker has, because it can't be loaded."""
        loadable = self.loadable()
        return {spec.id for app in self._apps.values() if app.id not in loadable for spec in app.functions}

    # Reloads.

    def have(self, tick: Tick, apps: Collection[str], *, processes: int, has_prefixes: bool) -> bool:
        """From now on these are the project's. Whether functions are gone with those that are its no more."""
        self._processes, self._has_prefixes = processes, has_prefixes
        gone = [app for app in self._apps.values() if app.id not in apps]
        for app in gone:
            del self._apps[app.id]
            self._give_up(app)
            self._outdate(tick, app)
            self.reloaded.append(Reloaded(app.id, changes=changes({spec.id: spec for spec in app.functions}, {})))
        self._apps |= {id_: _App(id_) for id_ in apps if id_ not in self._apps}
        return bool(gone)

    def reload(self, apps: Collection[str], now: int) -> None:
        """Load the code of these anew. Whatever still loads was started before it was as it is now."""
        for id_ in apps:
            app = self._apps[id_]
            self._give_up(app)
            app.is_pending, app.is_warned, app.asked_at, app.deaths = True, False, now, 0
            app.candidate = self._start(app)

    def _give_up(self, app: _App) -> None:
        """What its workers that are still loading will have loaded, nobody can know."""
        for worker in sorted(app.loading):
            self._pool.kill(worker)
        app.loading.clear()
        app.candidate = None

    def _outdate(self, tick: Tick, app: _App) -> None:
        """Its workers get nothing new; what they execute leaves at its next step's edge, and goes on in others."""
        for active in self._roster.outdate(app.id):
            active.is_leaving = True
            tick.tell(active.worker, Evict(active.claim))

    def _warn(self, app: _App, now: int) -> None:
        """Code that takes its time may be fine; but people have saved it, and wait."""
        if app.candidate is None and (app.is_known or not self._has_reloads):
            return
        app.asked_at = app.asked_at or now
        if not app.is_warned and now >= app.asked_at + LOADS_LONG_MS:
            app.is_warned = True
            error = LoadError(
                f"its modules are still loading after {LOADS_LONG_MS // 1000} s",
                hint="is there something at the top of a module that does not end?",
            )
            self.reloaded.append(Reloaded(app.id, self._of(app, error), took_ms=now - app.asked_at))

    # What workers say before they execute anything. True: what functions there are has changed.

    def described(self, tick: Tick, worker: int, said: Described, now: int) -> bool:
        app = self._apps.get(self._pool.app_of(worker))
        if app is None or worker not in app.loading:
            return False  # It was given up.
        functions = tuple(spec.in_app(app.id, has_prefix=self._has_prefixes) for spec in said.functions)
        error = _refusal(said.version, functions)
        if error is not None:
            self._pool.kill(worker)  # It believes that it is of use.
            return self.failed(worker, error, now)
        app.loading.discard(worker)
        is_new = not app.is_known or app.is_stale or not app.functions or self._is_other(app, functions)
        if is_new:
            self._adopt(tick, app, functions, now)
        app.deaths, app.failures, app.error, app.said = 0, 0, None, ""
        self._roster.join(worker, app.id)
        return is_new

    def _is_other(self, app: _App, functions: tuple[FunctionSpec, ...]) -> bool:
        """Whether it is newer code: asked for, or saved a moment ago, as the functions tell that it has or has not."""
        has_others = {spec.id for spec in functions} != {spec.id for spec in app.functions}
        return self._has_reloads and (app.is_pending or has_others)

    def _adopt(self, tick: Tick, app: _App, functions: tuple[FunctionSpec, ...], now: int) -> None:
        if self._has_reloads and (app.is_known or app.is_pending):
            before, after = ({spec.id: spec for spec in each} for each in (app.functions, functions))
            took_ms = now - app.asked_at if app.candidate is not None else 0
            self.reloaded.append(Reloaded(app.id, changes=changes(before, after), took_ms=took_ms))
        self._outdate(tick, app)
        # Code that is other functions each time it is loaded would have no rest otherwise.
        app.grow_after = now if app.is_pending or not app.is_known else now + LOAD_AGAIN_MS
        app.functions = functions
        app.is_known, app.is_stale, app.is_pending, app.candidate = True, False, False, None

    def failed(self, worker: int, error: LoadError, now: int, *, is_passing: bool = False) -> bool:
        """The code can't be loaded. `is_passing`: only now, and not for a fault of its own.

        Raises:
            LoadError: nothing else can be done: there is no other app, no worker that has the code, and no reload.
        """
        app = self._apps.get(self._pool.app_of(worker))
        if app is None or worker not in app.loading:
            return False
        app.loading.discard(worker)
        return self._fail(app, worker, error, now, is_passing=is_passing and app.is_known)

    def _fail(self, app: _App, worker: int, error: LoadError, now: int, *, is_passing: bool = False) -> bool:
        app.error = self._of(app, error)
        app.failures += 1
        pause_ms = LOAD_AGAIN_MS
        if self._has_reloads:
            # The next save is what mends it, most of the time.
            pause_ms = min(LOAD_AGAIN_AT_LAST_MS, LOAD_AGAIN_MS << min(app.failures - 1, 10))
            is_asked = worker == app.candidate
            if is_asked or app.said != str(error):
                self.reloaded.append(Reloaded(app.id, app.error, took_ms=now - app.asked_at if is_asked else 0))
            app.said = str(error)
            app.is_pending = True
            app.candidate = None if is_asked else app.candidate
        elif not is_passing and not self.loadable():
            raise app.error
        app.grow_after = now + pause_ms
        was_known, app.is_known = app.is_known, True
        if not app.functions:
            app.functions = self._last_known(app.id)
            app.is_stale = True
        return not was_known

    def _of(self, app: _App, error: LoadError) -> LoadError:
        return error if self._is_alone else LoadError(f"app `{app.id}`: {error.message}", hint=error.hint)

    def _last_known(self, app: str) -> tuple[FunctionSpec, ...]:
        specs = (msgspec.json.decode(text, type=FunctionSpec) for text in self._journal.functions())
        return tuple(spec for spec in specs if spec.app == app)

    def lost_while_loading(self, worker: int, lost: Lost, now: int) -> bool:
        """A worker died before it could say anything: another is started, and after two the code can't be loaded.

        If it could be before, that may pass: they were killed by somebody, or there is no memory.

        Raises:
            LoadError: as `failed`.
        """
        app = self._apps.get(lost.app)
        if app is None or worker not in app.loading:
            return False  # It has said why, or was given up.
        app.loading.discard(worker)
        app.deaths += 1
        app.grow_after = now + LOAD_AGAIN_MS if self._roster.workers_of(app.id) else now
        if app.deaths < MAX_LOAD_DEATHS and worker != app.candidate:
            return False
        tail = "\n".join(lost.tail)
        is_passing = app.is_known and not app.is_stale and not self._has_reloads
        hint = "it is tried again" if is_passing else None
        if any("No module named fanout" in line.replace("'", "") for line in lost.tail):
            hint = "install fanout in the environment of `python`"
        error = LoadError(f"{lost.reason} while it loaded the modules\n{tail}".rstrip(), hint=hint)
        return self._fail(app, worker, error, now, is_passing=is_passing)

    def lost_last(self, app_id: str, now: int) -> None:
        """The last worker that had the code is gone: what others could not load may be mended."""
        if app_id in self._apps and not self._roster.current_of(app_id):
            self._apps[app_id].grow_after = now

    # Workers.

    def _start(self, app: _App) -> int:
        worker = self._pool.start(app.id)
        app.loading.add(worker)
        return worker

    def _size(self, app: _App) -> int:
        """Its workers, without those that go because their code is older."""
        return len(self._roster.current_of(app.id)) + len(app.loading) - (app.candidate is not None)

    def _may_grow(self, app: _App, now: int) -> bool:
        """While a candidate loads, another worker could show nothing that the candidate won't."""
        return now >= app.grow_after and app.candidate is None

    def grow(self, now: int) -> None:
        """Start workers where there is work for more, and let go of those that others need more."""
        demand = {app: max(1, self._dispatch.demand(app, self._processes)) for app in self._apps}
        if self._is_alone:
            (app,) = self._apps.values()
            given = {app.id: min(self._processes, demand[app.id])}
        else:
            given = shares(demand, self._processes)
        if self._roster.outdated > MOST_OUTDATED * self._processes:
            given = dict.fromkeys(given, 1)
        sizes = {app.id: self._size(app) for app in self._apps.values()}
        room = max(self._processes, len(self._apps)) - sum(sizes.values())
        for app in self._apps.values():
            self._warn(app, now)
            more = min(given[app.id] - sizes[app.id], room if sizes[app.id] else 1)
            if more > 0 and self._may_grow(app, now):
                for _ in range(more):
                    self._start(app)
                room -= more
        # There are too many at once only where `processes` has become less.
        is_wanted = room < 0 or (room == 0 and any(given[app] > sizes[app] for app in self._apps))
        for app_id, size in sizes.items():
            self._roster.retire(app_id, max(0, size - given[app_id]) if is_wanted else 0)
        for worker in self._roster.dismiss():
            self._pool.stop(worker)


def _refusal(version: str, functions: tuple[FunctionSpec, ...]) -> LoadError | None:
    if version != __version__:
        text = f"its environment has fanout {version}, and this is {__version__}"
        return LoadError(text, hint="install the same version in both")
    wrong = complaint(functions)
    return None if wrong is None else LoadError(f"its worker has described what can't be: {wrong}")
