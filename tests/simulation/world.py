"""One seed is one world: what is in it, and what happens there."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

from fanout.core.retention import Keep
from fanout.engine.settings import Settings
from tests.engine.anything import any_events, any_faults, any_park_ms
from tests.engine.scripts import Crash, Faults, Function, event
from tests.engine.simulation import APP
from tests.simulation.admissions import TICK_MS
from tests.simulation.disk import Disk, Trouble
from tests.simulation.functions import Town, invoking_in, without_schedule
from tests.simulation.stage import Stage
from tests.simulation.traffic import Mischief

HOUR_MS = 3_600_000
_MOST_CRASHES = 40
"""At the end, when nothing goes wrong any more but what was planned from the beginning."""
NAMES = ["e", "f", "e", "f", "nobody", "w", "v", "x", "stop", "halt"]


class Feature(StrEnum):
    """What a world has, besides functions, events and an engine."""

    FLOW = "flow control"
    CRON = "cron"
    REQUESTS = "requests"
    LIMITS = "time limits and events that cancel"
    CRASHES = "an engine that crashes"
    STOPS = "an engine that is stopped"
    FREEZES = "an engine that stands still"
    KILLS = "workers that are killed"
    DEADLY = "code that kills its worker"
    APPS = "several apps"
    EDITS = "code that is edited"
    JUMPS = "a clock that is set"
    PRUNING = "pruning"
    DISK = "a disk that fails"
    LAG = "messages that take their time"
    BROKEN = "broken workers"


_HOW_OFTEN = {
    Feature.FLOW: 0.5, Feature.CRON: 0.15, Feature.REQUESTS: 0.4, Feature.LIMITS: 0.35, Feature.CRASHES: 0.6,
    Feature.STOPS: 0.15, Feature.FREEZES: 0.2, Feature.KILLS: 0.3, Feature.DEADLY: 0.3, Feature.APPS: 0.15, Feature.EDITS: 0.2, Feature.JUMPS: 0.15, Feature.PRUNING: 0.1,
    Feature.DISK: 0.2, Feature.LAG: 0.4, Feature.BROKEN: 0.1,
}  # fmt: skip


class World:
    """`stage` is where it happens; `asked` are runs that somebody has cancelled, `killed` counts workers."""

    def __init__(self, seed: int, folder: Path, *, has_checks: bool = False) -> None:
        self.seed = seed
        self._rng = rng = random.Random(seed)
        self.features = {each for each in Feature if rng.random() < _HOW_OFTEN[each]}
        if Feature.CRON in self.features and rng.random() < 0.3:
            self.features.add(Feature.JUMPS)
        self.asked: set[int] = set()
        self.killed = 0
        self._town = Town(rng, has_deaths=Feature.DEADLY in self.features)
        self.functions = self._town.functions(
            rng.choice([1, 1, 2, 2, 3, 4]),
            is_limited=Feature.LIMITS in self.features,
            has_flow=Feature.FLOW in self.features,
            has_cron=Feature.CRON in self.features,
        )
        self.apps = ["one", "two"] if Feature.APPS in self.features else [APP]
        if Feature.APPS in self.features:
            self.functions = [invoking_in("one", each) for each in self.functions]
        self._disk = Disk() if Feature.DISK in self.features else None
        self._processes, self._slots = rng.randint(1, 3), rng.randint(1, 4)
        with self._in_use():
            self.stage = Stage(
                folder,
                **self._code(self.functions),
                rng=rng,
                disk=self._disk,
                mischief=Mischief(rng, rng.choice([0.02, 0.1, 0.5])) if Feature.BROKEN in self.features else None,
                has_checks=has_checks,
                has_jumps=Feature.JUMPS in self.features or Feature.PRUNING in self.features,
                processes=self._processes,
                slots=self._slots,
                seed=seed,
                faults=any_faults(rng) if Feature.CRASHES in self.features else Faults(linger=rng.random() < 0.5),
                park_ms=any_park_ms(rng),
                lag=self._lag(),
                keep=Keep(HOUR_MS, HOUR_MS) if Feature.PRUNING in self.features and rng.random() < 0.5 else None,
                has_reloads=Feature.EDITS in self.features,
            )

    def _code(self, functions: Sequence[Function]) -> dict[str, Any]:
        """As the simulation wants it. Of two apps, the second has what nobody invokes, in part."""
        if Feature.APPS not in self.features:
            return {"functions": functions}
        second = [each for each in functions if each.spec.id in ("f0", "f2", "cron", "listener")]
        return {"apps": {"one": [each for each in functions if each not in second], "two": second}}

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        with nullcontext() if self._disk is None else self._disk.in_use():
            yield

    def _lag(self) -> Callable[[], int]:
        if Feature.LAG not in self.features:
            return lambda: 0
        own = random.Random(self._rng.random())
        delays = self._rng.choice([[0, 0, 0, 1, 2, 7], [0, 0, 0, 0, 5, 300], [0, 0, 0, 0, 0, 0, 1, 2_500]])
        return lambda: own.choice(delays)

    def play(self) -> None:
        """Until all is over."""
        rng, stage = self._rng, self.stage
        with self._in_use():
            for _ in range(rng.randint(1, 5)):
                for act in rng.sample(acts := self._acts(), min(len(acts), rng.randint(0, 2))):
                    act()
                self._send()
                stage.run(
                    for_ms=rng.choice([1, 30, 300, 5_000, *([3 * TICK_MS] if Feature.CRON in self.features else [])])
                )
            self._finish()

    def close(self) -> None:
        with self._in_use():
            self.stage.close()
        if self._disk is not None:
            self._disk.unregister()  # The next one has the same name.

    def _acts(self) -> list[Callable[[], None]]:
        of = {
            Feature.REQUESTS: [self._cancel, self._replay, self._pause, self._resume, self._ask],
            Feature.STOPS: [self._stop],
            Feature.FREEZES: [self._freeze],
            Feature.KILLS: [self._kill],
            Feature.EDITS: [self._save, self._deploy, self._break, self._have_settings],
            Feature.JUMPS: [self._jump],
            Feature.PRUNING: [self._prune],
            Feature.DISK: [self._fail, self.stage.lose_power],
        }
        return [act for feature, acts in of.items() if feature in self.features for act in acts]

    # What people do.

    def _send(self) -> None:
        rng = self._rng
        sent = any_events(rng, self.stage.clock(), NAMES)
        if rng.random() < 0.2:
            sent += [event(rng.choice("ef"), id=rng.choice("abc"), user=1) for _ in range(rng.randint(1, 3))]
        self.stage.send(*sent)

    def _some_runs(self) -> list[int]:
        return self._rng.choices([*sorted(self.stage.states()), 99], k=self._rng.randint(1, 3))

    def _cancel(self) -> None:
        runs = self._some_runs()
        self.asked.update(runs)
        self.stage.cancel(*runs)

    def _replay(self) -> None:
        rng = self._rng
        runs = sorted(self.stage.states()) if rng.random() < 0.5 else self._some_runs()
        more: dict[str, Any] = {}
        match rng.randint(0, 4):
            case 0:
                more["from_start"] = True
            case 1:
                more["from_step"] = rng.choice(["s", "t", "u", "sleep", "nothing"])
            case 2:
                more["set"] = {rng.choice("stuv"): '"by hand"'}
            case 3:
                more["interval_ms"] = rng.choice([0.4, 30, 700])
            case _:
                pass
        self.stage.request("replay", *runs, again=rng.random() < 0.3, **more)

    def _pause(self) -> None:
        self.stage.ask("pause", {"functions": self._some_functions()})

    def _resume(self) -> None:
        self.stage.ask("resume", {"functions": self._some_functions()})

    def _ask(self) -> None:
        rng = self._rng
        if Feature.CRON in self.features and rng.random() < 0.5:
            at = self.stage.clock() // TICK_MS * TICK_MS + rng.choice([0, 0, -TICK_MS, TICK_MS])
            self.stage.ask("tick", {"function": self._id("cron"), "at": at})
        else:
            self.stage.ask(
                "invoke",
                {"function": self._id(rng.choice(["c0", "f0", "nothing"])), "data": {"user": rng.randint(0, 2)}},
            )

    def _id(self, name: str) -> str:
        """By which the engine knows it."""
        return next((id_ for id_ in self.stage.functions if id_.rpartition("/")[2] == name), name)

    def _some_functions(self) -> list[str]:
        ids = [*self.stage.functions]
        return self._rng.sample(ids, self._rng.randint(1, len(ids)))

    def _save(self) -> None:
        """While it runs, other code is saved; some of it may be gone for a while."""
        self.functions = [self._town.edited(each) for each in self.functions]
        self.stage.save_code(**self._code(self._but_one()))

    def _deploy(self) -> None:
        self.functions = [self._town.edited(each) for each in self.functions]
        self.stage.deploy(**self._code(self._but_one()))

    def _but_one(self) -> list[Function]:
        gone = self._rng.choice(["", "", "c0", "c1", "f0", "rescue"])
        return [each for each in self.functions if each.spec.id != gone]

    def _break(self) -> None:
        """The code can't be loaded, or kills its worker; the next save may mend it."""
        names = self._rng.choice([self.stage.broken, self.stage.deadly])
        app = self._rng.choice(self.apps)
        (names.discard if app in names else names.add)(app)
        self.stage.save()

    def _have_settings(self) -> None:
        rng = self._rng
        self.stage.have_settings(
            Settings(
                processes=rng.randint(1, 3), slots=rng.randint(1, 4), park_ms=any_park_ms(rng), has_reloads=True,
                has_prefixes=Feature.APPS in self.features,
            )
        )  # fmt: skip

    def _stop(self) -> None:
        """It lets go of what executes, and is gone after a while, whatever still does."""
        with suppress(Crash):
            self.stage.engine.stop()
            self.stage.run(for_ms=self._rng.choice([1, 50, 800]))
        self.stage.restart()

    # What happens.

    def _freeze(self) -> None:
        """Events come and times are over, and it hears of all of them at once."""
        for _ in range(self._rng.randint(1, 3)):
            self.stage.clock.advance(self._rng.choice([1, 60, 450, 7_000]))
            self._send()

    def _kill(self) -> None:
        # Without reloads, code that kills two workers in a row while it is loaded is the end of the engine.
        may_be_loading = Feature.EDITS in self.features
        there = [worker.number for worker in self.stage.pool.workers.values() if worker.code or may_be_loading]
        if there:
            self.stage.pool.lose(self._rng.choice(there))
            self.killed += 1

    def _jump(self) -> None:
        self.stage.set_clock(self._rng.choice([-HOUR_MS, -20_000, -300, -7, 3_000, 60_000, 3 * HOUR_MS, 30 * HOUR_MS]))

    def _prune(self) -> None:
        rng = self._rng
        self.stage.set_clock(rng.choice([HOUR_MS, 2 * HOUR_MS, 26 * HOUR_MS]))
        if rng.random() < 0.6:
            keep = [rng.choice([None, HOUR_MS]) for _ in range(3)]
            self.stage.ask("prune", dict(zip(("completed", "failed", "events"), keep, strict=True)))

    def _fail(self) -> None:
        assert self._disk is not None
        self._disk.will_fail(self._rng.choice([*Trouble]), self._rng.randint(0, 40))

    def _finish(self) -> None:
        """Nothing is broken any more, and nobody does anything: all that has begun comes to its end."""
        stage = self.stage
        if self._disk is not None:
            self._disk.mend()
        stage.broken.clear()
        stage.deadly.clear()
        if Feature.REQUESTS in self.features:
            stage.ask("resume", {"functions": [*stage.observer.model.paused()]})
        if Feature.CRON in self.features:
            stage.run(for_ms=200)
            self.functions = [without_schedule(each) for each in self.functions]
        stage.mischief = None
        if self.features & {Feature.CRON, Feature.EDITS, Feature.BROKEN}:
            stage.deploy(**self._code(self.functions))
        stage.run()
        if Feature.PRUNING in self.features:
            for _ in range(_MOST_CRASHES):
                stage.run(for_ms=1_000)
                stage.run()
                if not stage.rows("SELECT 1 FROM request WHERE handled_at IS NULL"):
                    break
