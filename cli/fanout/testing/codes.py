"""The functions of a test: given one by one, found in modules, or those of a project's `fanout.toml`."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import msgspec

from fanout import config as config_
from fanout.attached import spec_of
from fanout.declare import function as declare
from fanout.errors import UsageError
from fanout.model import FunctionSpec
from fanout.testing.stubs import outcome_of
from fanout.worker.context import Context
from fanout.worker.registry import Registered, collect, load, typed, values_of
from fanout.worker.step_names import step_names

Code = Mapping[str, Registered]
Function = Callable[..., Any]
Source = Function | ModuleType | str | os.PathLike[str] | Iterable[Function]


@lru_cache(maxsize=256)
def one(function: Function) -> Registered:
    """A function alone: what it does when it has failed is a function of its own.

    One without `@fanout.function(...)`, such as an `on_failure`, gets the settings of one that has nothing in it.
    """
    spec = spec_of(function)
    if spec is None:
        if not isinstance(function, FunctionType):
            raise UsageError(f"{function!r} is no function of fanout", hint="give one that has `@fanout.function(...)`")
        spec = _undeclared(function)
    return typed(spec if spec.on_failure is None else msgspec.structs.replace(spec, on_failure=None), function)


@lru_cache(maxsize=64)
def _undeclared(function: FunctionType) -> FunctionSpec:
    # A copy: nothing else should see that it was tested.
    copy = FunctionType(function.__code__, function.__globals__, function.__name__)
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    return spec_of(declare()(copy)) or one(copy).spec


def known_steps(function: Registered) -> tuple[str, ...] | None:
    """The names of its steps as its source has them; None where they can't be known from that."""
    return step_names(function.written)


def stand_in(id_: str, stub: object) -> Registered:
    """A function that is nothing but a stub. It is called with the data of its event, and not tried again."""
    if callable(stub) and spec_of(stub) is not None:
        return Registered(msgspec.structs.replace(one(stub).spec, id=id_), stub)

    def stand(ctx: Context) -> Any:
        return outcome_of(stub, (ctx.event.data,), {})

    async def stand_async(ctx: Context) -> Any:
        return await outcome_of(stub, (ctx.event.data,), {})

    is_async = inspect.iscoroutinefunction(stub)
    code = stand_async if is_async else stand
    spec = FunctionSpec(
        id=id_, name=id_, module=__name__, qualname=id_, file=__file__, line=1, is_async=is_async, retries=0
    )
    return Registered(spec, code)


def beside(functions: Mapping[str, object] | Iterable[Function]) -> dict[str, Registered]:
    """The functions that one which is tested may invoke: by id with what stands for them, or as they are."""
    if isinstance(functions, Mapping):
        return {id_: stand_in(id_, stub) for id_, stub in functions.items()}
    return {found.spec.id: found for found in map(one, functions)}


def found_in(sources: Iterable[Source]) -> tuple[dict[str, Code], bool]:
    """The functions of each app by id, and whether the ids of functions begin with their app's.

    Raises:
        ConfigError, LoadError: a project can't be loaded.
        UsageError: there is no function.
    """
    listed = list(sources)
    if not listed:
        listed = [config_.find(Path.cwd())]
    paths = [each for each in listed if isinstance(each, str | os.PathLike)]
    if paths:
        if len(listed) > 1:
            raise UsageError("a project of `fanout.toml` has all its functions", hint="give it alone")
        return _of_project(Path(paths[0]))
    registered: dict[str, Registered] = {}
    for source in listed:
        values = values_of(source) if isinstance(source, ModuleType) else [source] if callable(source) else source
        collect(registered, Path.cwd(), values)  # type: ignore[arg-type] # no path is left
    if not registered:
        raise UsageError("there is no function in what was given", hint="put `@fanout.function(...)` above one")
    return {"": registered}, False


def _of_project(path: Path) -> tuple[dict[str, Code], bool]:
    config = config_.load(path / config_.FILE_NAME if path.is_dir() else path)
    before = sys.path.copy()
    codes: dict[str, Code] = {app.id: load(app.root, app.functions) for app in config.apps}
    if {str(app.root) for app in config.apps} <= set(before):
        sys.path[:] = before  # Each test loads it again, and it need not be there more than once.
    return codes, config.has_prefixes
