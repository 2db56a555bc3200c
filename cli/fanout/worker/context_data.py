"""What a function's context is annotated to have as its data: it has to be what `event_schema` makes of events.

Type checkers see the annotation and workers the schema; only here somebody looks at both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from inspect import iscoroutinefunction, unwrap
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from fanout.errors import LoadError


def check(function: Callable[..., Any], declared: Any) -> None:
    """Compare the annotation with `declared`, which is `event_schema`. What can't be looked up is taken for right.

    Raises:
        LoadError: what the function gets is nothing that it says it gets.
    """
    context = "AsyncContext" if iscoroutinefunction(function) else "Context"
    said = list(_parts(_annotated(function)))
    kinds = list(declared.values()) if isinstance(declared, Mapping) else [declared]
    for kind in (part for each in kinds for part in _parts(each)):
        if not any(_is_one(kind, each) for each in said):
            names = " | ".join(each.__qualname__ for each in said)
            raise LoadError(
                f"`event_schema` has `{kind.__qualname__}`, and the context is annotated to have `{names}`",
                hint=f"annotate it as `{context}[{kind.__qualname__}]`, or change `event_schema`",
            )


def _annotated(function: Callable[..., Any]) -> Any:
    """What stands in the brackets of `Context[...]`; Any if nothing does, or if that can't be known."""
    try:
        written = unwrap(function)
        annotation = written.__annotations__[written.__code__.co_varnames[0]]
        holder = type("Holder", (), {"__annotations__": {"ctx": annotation}})
        kind = get_type_hints(holder, written.__globals__)["ctx"]
    except Exception:  # noqa: BLE001 - boundary: annotations are the user's code, and may name what only checkers import
        return Any
    arguments = get_args(kind)
    return arguments[0] if getattr(get_origin(kind), "__module__", "").startswith("fanout.worker.") else Any


def _parts(kind: Any) -> Iterator[Any]:
    if get_origin(kind) in (Union, UnionType):
        for each in get_args(kind):
            yield from _parts(each)
    else:
        yield kind


def _is_one(kind: Any, said: Any) -> bool:
    """Whether a `kind` can be used as what is said; also if one of them has no fields to tell by."""
    if kind is said or not (_has_fields(kind) and _has_fields(said)):
        return True
    if is_typeddict(kind) and is_typeddict(said):
        return set(said.__required_keys__) <= set(get_type_hints(kind))
    return not is_typeddict(kind) and not is_typeddict(said) and issubclass(kind, said)


def _has_fields(kind: Any) -> bool:
    is_class = isinstance(kind, type)
    return is_class and (is_dataclass(kind) or is_typeddict(kind) or any(hasattr(kind, name) for name in _MARKS))


_MARKS = ("__struct_fields__", "__pydantic_validator__")
