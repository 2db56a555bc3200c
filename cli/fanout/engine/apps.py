"""The apps of a project: what code each has, whether it can be loaded, and how many workers it gets."""

from __future__ import annotations

import msgspec

from fanout import __version__
from fanout.core.shares import shares
from fanout.engine.dispatch import Dispatch
from fanout.engine.pool import Lost, Pool
from fanout.engine.roster import Roster
from fanout.errors import LoadError
from fanout.journal import Journal
from fanout.model import FunctionSpec
from fanout.protocol import Described

MAX_LOAD_DEATHS = 2
LOAD_AGAIN_MS = 1_000
"""After a worker that could not load the code: others may still work, and the code may be mended meanwhile."""


class _App:
    """One codebase."""

    __slots__ = ("deaths", "error", "functions", "grow_after", "id", "is_known", "is_stale")

    def __init__(self, id_: str) -> None:
        self.id = id_
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
        self, journal: Journal, pool: Pool, roster: Roster, dispatch: Dispatch, *, processes: int, has_prefixes: bool
    ) -> None:
        self._journal = journal
        self._pool = pool
        self._roster = roster
        self._dispatch = dispatch
        self._processes = processes
        self._apps = {app: _App(app) for app in pool.apps}
        self._has_prefixes = has_prefixes
        self._is_alone = len(self._apps) == 1

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

    # What workers say before they execute anything. True: what functions there are has changed.

    def described(self, worker: int, said: Described, now: int) -> bool:
        app = self._apps[self._pool.app_of(worker)]
        if said.version != __version__:
            text = f"its environment has fanout {said.version}, and this is {__version__}"
            return self.failed(worker, LoadError(text, hint="install the same version in both"), now)
        app.deaths, app.error = 0, None
        self._roster.join(worker, app.id)
        is_new = not app.is_known or app.is_stale or not app.functions
        if is_new:
            app.is_known, app.is_stale = True, False
            app.functions = tuple(spec.in_app(app.id, has_prefix=self._has_prefixes) for spec in said.functions)
        return is_new

    def failed(self, worker: int, error: LoadError, now: int) -> bool:
        """The code can't be loaded.

        Raises:
            LoadError: nothing else can be done: there is no other app, and no worker that has the code.
        """
        return self._fail(self._apps[self._pool.app_of(worker)], error, now)

    def _fail(self, app: _App, error: LoadError, now: int) -> bool:
        app.error = error if self._is_alone else LoadError(f"app `{app.id}`: {error.message}", hint=error.hint)
        app.grow_after = now + LOAD_AGAIN_MS
        if not self.loadable():
            raise app.error
        was_known, app.is_known = app.is_known, True
        if not app.functions:
            app.functions = self._last_known(app.id)
            app.is_stale = True
        return not was_known

    def _last_known(self, app: str) -> tuple[FunctionSpec, ...]:
        specs = (msgspec.json.decode(text, type=FunctionSpec) for text in self._journal.functions())
        return tuple(spec for spec in specs if spec.app == app)

    def lost_while_loading(self, app_id: str, lost: Lost, now: int) -> bool:
        """A worker died before it could say anything: another is started, and after two the code can't be loaded.

        Raises:
            LoadError: as `failed`.
        """
        app = self._apps[app_id]
        if app.error is not None and app.grow_after > now:
            return False  # It has said why.
        app.deaths += 1
        app.grow_after = now + LOAD_AGAIN_MS if self._roster.workers_of(app_id) else now
        if app.deaths < MAX_LOAD_DEATHS:
            return False
        tail = "\n".join(lost.tail)
        hint = None
        if any("No module named fanout" in line.replace("'", "") for line in lost.tail):
            hint = "install fanout in the environment of `python`"
        return self._fail(app, LoadError(f"{lost.reason} while it loaded the modules\n{tail}".rstrip(), hint=hint), now)

    def lost_last(self, app_id: str, now: int) -> None:
        """The last worker that had the code is gone: what others could not load may be mended."""
        if not self._roster.workers_of(app_id):
            self._apps[app_id].grow_after = now

    # Workers.

    def grow(self, now: int) -> None:
        """Start workers where there is work for more, and let go of those that others need more."""
        demand = {app: max(1, self._dispatch.demand(app, self._processes)) for app in self._apps}
        if self._is_alone:
            (app,) = self._apps.values()
            if now >= app.grow_after:
                self._pool.grow(app.id, min(self._processes, max(demand[app.id], self._pool.size(app.id))))
            return
        given = shares(demand, self._processes)
        sizes = {app: self._pool.size(app) for app in self._apps}
        room = max(self._processes, len(self._apps)) - sum(sizes.values())
        for app in self._apps.values():
            more = min(given[app.id] - sizes[app.id], room if sizes[app.id] else 1)
            if more > 0 and now >= app.grow_after:
                self._pool.grow(app.id, sizes[app.id] + more)
                room -= more
        is_wanted = room <= 0 and any(given[app] > sizes[app] for app in self._apps)
        for app_id, size in sizes.items():
            self._roster.retire(app_id, max(0, size - given[app_id]) if is_wanted else 0)
        for worker in self._roster.dismiss():
            self._pool.stop(worker)
