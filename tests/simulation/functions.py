"""Functions of a world: scripts of all kinds, with rules of all kinds that decide when they may run."""

from __future__ import annotations

import random

import msgspec

from fanout.model import (
    NO_LIMITS,
    BatchRule,
    Catchup,
    ConcurrencyRule,
    CronTrigger,
    DebounceRule,
    EventTrigger,
    FlowRules,
    FunctionSpec,
    Overlap,
    RateLimitRule,
    SingletonRule,
    ThrottleRule,
)
from tests.engine.anything import Author
from tests.engine.scripts import Function, Invoke, Map, Parallel, Part, Step, function
from tests.simulation.admissions import EACH_TICK
from tests.simulation.commits import CONDITION, KEY


class Town:
    """The functions of a world, and what somebody makes of them."""

    def __init__(self, rng: random.Random, *, has_deaths: bool) -> None:
        self._rng = rng
        self._author = Author(rng, has_deaths=has_deaths)

    def functions(self, number: int, *, is_limited: bool, has_flow: bool, has_cron: bool) -> list[Function]:
        made = self._author.functions(number, is_limited=is_limited)
        if has_flow:
            made = [self._with_rules(each) if each.spec.id[0] == "f" else each for each in made]
        if has_cron:
            made.append(self._scheduled())
        return made

    def _with_rules(self, made: Function) -> Function:
        rng = self._rng
        triggers = tuple(
            msgspec.structs.replace(each, if_=CONDITION)
            if isinstance(each, EventTrigger) and rng.random() < 0.1
            else each
            for each in made.spec.triggers
        )
        return _with(made, msgspec.structs.replace(made.spec, triggers=triggers, flow=self._rules()))

    def _rules(self) -> FlowRules:
        rng = self._rng
        key = rng.choice([None, KEY])
        collecting = rng.choice(["", "", "", "debounce", "batch"])
        batch = BatchRule(rng.randint(1, 4), rng.choice([30, 500, 4_000]), KEY) if collecting == "batch" else None
        period_ms = rng.choice([20, 400, 3_000])
        return FlowRules(
            concurrency=tuple(
                ConcurrencyRule(rng.randint(1, 3), rng.choice([None, KEY]), rng.choice(["fn", "fn", "app"]))
                for _ in range(rng.choice([0, 0, 1, 1, 2]))
            ),
            throttle=ThrottleRule(limit := rng.randint(1, 3), limit * rng.choice([10, 200, 1_500]), rng.randint(1, limit), key)
            if rng.random() < 0.3
            else None,
            rate_limit=RateLimitRule(limit := rng.randint(1, 3), limit * rng.choice([50, 2_000]), key)
            if rng.random() < 0.2
            else None,
            debounce=DebounceRule(period_ms, key, rng.choice([None, period_ms + 10, 4 * period_ms]))
            if collecting == "debounce"
            else None,
            batch=batch,
            singleton=SingletonRule(key, rng.choice(["skip", "cancel"])) if rng.random() < 0.2 else None,
            priority="event.data.user * 100" if rng.random() < 0.2 else None,
            idempotency=KEY if batch is None and rng.random() < 0.25 else None,
        )  # fmt: skip

    def _scheduled(self) -> Function:
        rng = self._rng
        any_one = Author(rng, has_deaths=False).functions(1)[0]
        script, limits = any_one.script, any_one.spec.timeouts
        if rng.random() < 0.5:
            script, limits = (Step("s", takes_ms=rng.choice([1, 7_000])),), NO_LIMITS
        return function(
            "cron", *script, on=[], timeouts=limits,
            cron=[CronTrigger(EACH_TICK, jitter_ms=rng.choice([0, 0, 900]))],
            catchup=rng.choice([*Catchup]), catchup_limit=rng.choice([3, 100]), overlap=rng.choice([*Overlap]),
            flow=FlowRules(singleton=SingletonRule(None, "skip")) if rng.random() < 0.1 else FlowRules(),
            backoff=(0.05, 2.0),
        )  # fmt: skip

    def edited(self, made: Function) -> Function:
        """As somebody may have changed it: its code, and how many of it may execute."""
        changed = self._author.changed(made)
        flow = changed.spec.flow
        limits = tuple(msgspec.structs.replace(rule, limit=self._rng.randint(1, 3)) for rule in flow.concurrency)
        return _with(
            changed, msgspec.structs.replace(changed.spec, flow=msgspec.structs.replace(flow, concurrency=limits))
        )


def invoking_in(app: str, made: Function) -> Function:
    """It invokes those of this app, whichever it belongs to itself."""
    return made._replace(script=tuple(_invoking(app, part) for part in made.script))


def _invoking(app: str, part: Part) -> Part:
    match part:
        case Invoke() | Map():
            return part._replace(function=f"{app}/{part.function}")
        case Parallel():
            return Parallel(tuple(tuple(_invoking(app, each) for each in branch) for branch in part.branches))
        case _:
            return part


def without_schedule(made: Function) -> Function:
    triggers = tuple(each for each in made.spec.triggers if isinstance(each, EventTrigger))
    return _with(made, msgspec.structs.replace(made.spec, triggers=triggers))


def _with(made: Function, spec: FunctionSpec) -> Function:
    return made._replace(spec=spec)
