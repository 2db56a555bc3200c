"""Imports the user's modules and finds the functions in them. Every failure names a file and a line."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fanout.attached import event_schema_of, on_failure_of, spec_of
from fanout.codec import failure_of
from fanout.errors import LoadError
from fanout.model import FunctionSpec
from fanout.worker.step_names import step_names

if TYPE_CHECKING:
    from fanout.worker.event_types import EventTypes


class Registered(NamedTuple):
    spec: FunctionSpec
    code: Callable[..., Any]
    event_types: EventTypes | None = None
    """What it has for the data of its events, if that is more than JSON."""

    @property
    def written(self) -> CodeType | None:
        """What the user wrote, below what other decorators have put around it; None where that can't be seen."""
        code: CodeType | None = getattr(inspect.unwrap(self.code), "__code__", None)
        return code


def load(root: Path, modules: Sequence[str]) -> dict[str, Registered]:
    """Import the modules, packages with all that is in them, and find their functions by id.

    Raises:
        LoadError: a module is missing or fails, two functions have one id, or there is no function at all.
    """
    sys.path.insert(0, str(root))
    registered: dict[str, Registered] = {}
    for name in modules:
        for module in _import_all(root, name):
            collect(registered, root, values_of(module))
    if not registered:
        listed = ", ".join(f"`{name}`" for name in modules)
        raise LoadError(f"there is no function in {listed}", hint="put `@fanout.function(...)` above one")
    return registered


def collect(registered: dict[str, Registered], root: Path, values: Iterable[Any]) -> None:
    """Add the functions that are among the values, each with what is run when it has failed.

    Raises:
        LoadError: two functions have one id.
    """
    for value in values:
        spec = spec_of(value)
        if spec is not None:
            _register(registered, _described(root, spec, value))
        handler = on_failure_of(value)
        if handler is not None:
            _register(registered, _described(root, *handler))


def values_of(module: ModuleType) -> Iterator[Any]:
    """What the module's names stand for, and what is in its lists: functions made in a loop are kept in one."""
    for value in vars(module).copy().values():
        yield value
        if isinstance(value, list | tuple):
            yield from value


def _register(registered: dict[str, Registered], new: Registered) -> None:
    known = registered.get(new.spec.id)
    if known is None:
        registered[new.spec.id] = new
    elif known.code is not new.code:
        raise LoadError(
            f"`{new.spec.file}` line {new.spec.line}: two functions have the id `{new.spec.id}`",
            hint=f'the other is in `{known.spec.file}` line {known.spec.line}; give one of them `id="..."`',
        )


def _described(root: Path, spec: FunctionSpec, code: Callable[..., Any]) -> Registered:
    """With the file as people know it, relative to the project, the names of its steps, and what its events have."""
    file = _relative(root, spec.file)
    try:
        found = typed(spec, code)
    except LoadError as error:
        where = f"`{file}` line {spec.line}: `{spec.qualname}`"
        raise LoadError(f"{where}: {error.message}", hint=error.hint) from None
    return found._replace(spec=msgspec.structs.replace(found.spec, file=file, steps=step_names(found.written)))


def typed(spec: FunctionSpec, code: Callable[..., Any]) -> Registered:
    """The function, with what it says of its events.

    Raises:
        LoadError: `event_schema` has what can't be used.
    """
    if event_schema_of(code) is None:
        return Registered(spec, code)
    from fanout.worker.event_types import types_of  # lazy: most functions have none, and workers start sooner

    types = types_of(code, spec)
    return Registered(msgspec.structs.replace(spec, schemas=types.described()), code, types)


def _import_all(root: Path, name: str) -> Iterator[ModuleType]:
    module = _import(root, name)
    yield module
    for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
        if not found.name.endswith(".__main__"):
            yield from _import_all(root, found.name)


def _import(root: Path, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise LoadError(
                f"`fanout.toml`: there is no module `{name}` in `{root}`", hint=_nearest(root, name)
            ) from None
        raise _failed(root, name, error) from None
    except LoadError as error:
        # It was declared wrongly: the file as people know it, relative to the project.
        raise LoadError(error.message.replace(f"`{root}{os.sep}", "`"), hint=error.hint) from None
    except SyntaxError as error:
        if error.filename is None or not Path(error.filename).is_file():
            raise _failed(root, name, error) from None  # of text that the module compiles itself
        where = f"`{_relative(root, error.filename or name)}` line {error.lineno}"
        raise LoadError(f"{where}: {type(error).__name__}: {error.msg}", hint=_source(error)) from None
    except BaseException as error:  # noqa: BLE001 - boundary: the user's module, sys.exit() included
        raise _failed(root, name, error) from None


def _failed(root: Path, name: str, error: BaseException) -> LoadError:
    frame = _users_frame(root, error)
    where = f"module `{name}`" if frame is None else f"`{_relative(root, frame.filename)}` line {frame.lineno}"
    message = failure_of(error).message
    said = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return LoadError(f"{where}: {said}", hint=None if frame is None else f"importing `{name}` failed there")


def _users_frame(root: Path, error: BaseException) -> traceback.FrameSummary | None:
    """Where it went wrong: the last line of the project's own that led there, or else of any library's."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)]
    own = [
        frame
        for frame in frames
        if Path(frame.filename).is_relative_to(root) and "site-packages" not in Path(frame.filename).parts
    ]
    return next(reversed(own or frames), None)


def _is_machinery(filename: str) -> bool:
    ours, importing = Path(__file__).parent.parent, Path(importlib.__file__).parent
    return filename.startswith("<frozen") or any(Path(filename).is_relative_to(folder) for folder in (ours, importing))


def _source(error: SyntaxError) -> str | None:
    return f"the line is `{error.text.strip()}`" if error.text and error.text.strip() else None


def _relative(root: Path, filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(root)) if path.is_relative_to(root) else filename


def _nearest(root: Path, name: str) -> str:
    import difflib  # lazy: only when something is wrong

    parent, _, leaf = name.rpartition(".")
    folder = root.joinpath(*parent.split(".")) if parent else root
    there = (
        sorted({path.stem for path in folder.glob("*") if path.suffix == ".py" or path.is_dir()})
        if folder.is_dir()
        else []
    )
    close = difflib.get_close_matches(leaf, there, n=1)
    if close:
        return f"did you mean `{parent}.{close[0]}`?" if parent else f"did you mean `{close[0]}`?"
    return "`[app] functions` lists modules or packages beside `fanout.toml`"
