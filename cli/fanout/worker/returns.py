"""What a step's function says it returns, and how its recorded JSON is made into that again.

The decoder depends on nothing but the function, so the text that is recorded once gives the same value at the
first execution and at every replay. It must not know steps, runs or the journal.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from types import CodeType, FunctionType, GenericAlias, MethodType, NoneType, UnionType
from typing import Any, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints
from weakref import ref

import msgspec

from fanout.codec import decode_json

Decoder = Callable[[str], Any]

_PLAIN = (Any, object, None, NoneType, bool, int, float, str, list, dict)
_MAX_DECODERS = 256

# What each function's code is annotated to return: a function that is made anew in every run has its code in common
# with the others. By identity, since two files may have equal code; an entry goes when its code does.
_looked_up: dict[int, tuple[ref[CodeType], Any, Any]] = {}


def decoder_of(fn: Callable[..., Any]) -> Decoder:
    """What makes recorded JSON text into what `fn` is annotated to return.

    An async function gives what its coroutine returns. Without an annotation, or with one that can't be looked
    up or built, it gives plain JSON values; so it does for a text that does not fit the annotation.
    """
    kind = _returned(fn)
    return decode_json if kind is Any else _decoder_of(kind)


def list_decoder_of(fn: Callable[..., Any]) -> Decoder:
    """As `decoder_of`, for the text of a list of what `fn` returns: one item that doesn't fit leaves all plain.

    A null fits always: it is in the place of an item that failed.
    """
    kind = _returned(fn)
    with suppress(TypeError):  # an annotation may be anything; what is no type is plain
        kind = Union[kind, None]  # noqa: UP007 - `|` is not for every annotation
    return _decoder_of(GenericAlias(list, (kind,)))


def _returned(fn: Any) -> Any:
    """What a call of `fn` gives in the end; Any where that isn't said."""
    try:
        function, owner = (fn, None) if type(fn) is FunctionType else _called(fn, None)
        if isinstance(function, type):
            return function
        kind = function.__annotations__.get("return", Any)
        if not isinstance(kind, type) and kind is not Any:
            kind = _look_up(function, kind)
    except Exception:  # noqa: BLE001 - boundary: annotations are the user's code, and any of it may be missing at run time
        return Any
    if kind is Self:
        return owner if isinstance(owner, type) else type(owner)
    return kind


def _called(fn: Any, owner: Any) -> tuple[Any, Any]:
    """The function or class that a call of `fn` ends in, and the object or class that it is bound to.

    What is built in ends in neither: then it is something without annotations.
    """
    if isinstance(fn, FunctionType | type):
        return fn, owner
    if isinstance(fn, partial):
        return _called(fn.func, owner)
    if isinstance(fn, MethodType):
        return _called(fn.__func__, fn.__self__)
    # By `__dict__`: an object that answers to any name must not be asked.
    wrapped = getattr(fn, "__dict__", {}).get("__wrapped__")
    return _called(wrapped, owner) if wrapped is not None else (type(fn).__call__, fn)


class _Returns:
    """Has one annotation: another that can't be looked up, like an argument's, must not be in its way."""

    def __init__(self, annotation: Any) -> None:
        self.__annotations__ = {"return": annotation}


def _look_up(function: FunctionType, annotation: Any) -> Any:
    """The type that the annotation stands for, Any if it can't be found.

    What Annotated adds is left out: a constraint on a value is no part of its shape.
    """
    # `functools.wraps` copies an annotation; its names are those of the module where it was written.
    source = inspect.unwrap(function) if function.__dict__ else function
    if not isinstance(source, FunctionType):
        source = function
    code = source.__code__
    known = _looked_up.get(id(code))
    if known is not None and known[0]() is code and known[1] == annotation:
        return known[2]
    local_names = _local_names(source, annotation)
    try:
        kind = get_type_hints(_Returns(annotation), source.__globals__, local_names)["return"]
    except Exception:  # noqa: BLE001 - boundary: most often a name that only the type checker imports
        kind = Any
    kind = _awaited(kind)
    if not local_names:
        _looked_up[id(code)] = ref(code, partial(_forget, id(code))), annotation, kind
    return kind


def _forget(key: int, _: ref[CodeType]) -> None:
    _looked_up.pop(key, None)


def _local_names(function: FunctionType, annotation: Any) -> dict[str, Any]:
    """What the annotation names from the function around it: another object in every run, perhaps a local class."""
    if not function.__closure__:
        return {}
    words = set(re.findall(r"\w+", str(annotation)))
    cells = zip(function.__code__.co_freevars, function.__closure__, strict=True)
    return {name: cell.cell_contents for name, cell in cells if name in words}


def _awaited(kind: Any) -> Any:
    """A plain function may return something to await: what counts is what comes out of it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if arguments and isinstance(origin, type) and issubclass(origin, Awaitable):
        return arguments[-1]
    return kind


def _decoder_of(kind: Any) -> Decoder:
    try:
        return _known_decoder_of(kind)
    except TypeError:  # no hash, as a Literal of a list
        return _new_decoder_of(kind)


def _new_decoder_of(kind: Any) -> Decoder:
    try:
        if _is_plain(kind) or any(map(_is_hollow, _leaves(kind))):
            return decode_json
        typed = msgspec.json.Decoder(kind, dec_hook=_rebuild).decode
    except Exception:  # noqa: BLE001 - boundary: there are more types than can be built, and some have code
        return decode_json

    def decode(text: str) -> Any:
        try:
            return typed(text)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - boundary: models and `__post_init__` are the user's code
            # A wrong annotation is no reason to break a run that would do without it. The same text does not
            # fit at a replay either, so that both times it is the same plain value.
            return decode_json(text)

    return decode


_known_decoder_of = lru_cache(_MAX_DECODERS)(_new_decoder_of)


def _rebuild(kind: Any, value: Any) -> Any:
    """What msgspec leaves to us: pydantic models, known by their method and never imported."""
    if kind is object:
        return value
    validate = getattr(kind, "model_validate_json", None)
    if validate is None:
        raise NotImplementedError(kind)
    # As JSON again: only there a strict model takes text for a date.
    text = msgspec.json.encode(value)
    try:
        # It was recorded under the fields' names: an alias may be another one for each direction.
        return validate(text, by_alias=False, by_name=True)
    except TypeError:  # pydantic before 2.11 has no such choice
        return validate(text)


def _is_plain(kind: Any, inside: tuple[Any, ...] = ()) -> bool:
    """Whether it is JSON as it is: nothing has to be rebuilt then, and nothing gets lost.

    msgspec would make the 1 of a float 1.0, and leave out the keys that a TypedDict does not name.
    """
    while (supertype := getattr(kind, "__supertype__", None)) is not None:
        kind = supertype
    if isinstance(kind, TypeVar) or any(kind is each for each in (*_PLAIN, *inside)):
        return True
    if hasattr(kind, "__required_keys__"):
        return all(_is_plain(each, (*inside, kind)) for each in get_type_hints(kind).values())
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is dict and arguments and arguments[0] is not str:
        return False
    is_made_of = origin in (list, dict, Union, UnionType)
    return origin is Literal or (is_made_of and all(_is_plain(each, inside) for each in arguments))


def _leaves(kind: Any) -> Iterator[Any]:
    arguments = get_args(kind)
    if not arguments:
        yield kind
    for each in arguments:
        yield from _leaves(each)


def _is_hollow(kind: Any) -> bool:
    """Whether msgspec would make an object that Python itself refuses: one of an abstract class."""
    return hasattr(kind, "__dataclass_fields__") and inspect.isabstract(kind)
