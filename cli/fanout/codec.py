"""Values to JSON text and back, and exceptions to Failure. What can't be recorded is named by its path."""

from __future__ import annotations

import linecache
import math
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import msgspec

from fanout.errors import OutputError
from fanout.model import Failure

MAX_OUTPUT_BYTES = 16 * 1024 * 1024
MAX_MESSAGE_CHARS = 4_000
MAX_TRACEBACK_CHARS = 16_000


def _encode_other(value: Any) -> Any:
    """What msgspec leaves to us: pydantic models, known by their method and never imported."""
    if not _is_model(value):
        raise TypeError(f"{type(value).__name__} is not JSON")
    try:
        return _dump(value)
    except Exception as error:  # noqa: BLE001 - boundary: a model's own code
        raise TypeError(f"its `model_dump` failed with {type(error).__name__}") from None


def _is_model(value: Any) -> bool:
    return hasattr(value, "model_dump") and not isinstance(value, type)


def _dump(model: Any) -> Any:
    """The model as JSON that it can be made from again: by the fields' names, without what is computed from them."""
    try:
        return model.model_dump(mode="json", by_alias=False, round_trip=True)
    except TypeError:  # a method of the user's own that takes less
        return model.model_dump(mode="json")


_encode_json = msgspec.json.Encoder(enc_hook=_encode_other).encode
decode_json = msgspec.json.Decoder().decode


def encode_output(owner: str, value: Any, *, verb: str = "returned", most: int = MAX_OUTPUT_BYTES) -> str:
    """The value as JSON text.

    Raises:
        OutputError: it is not JSON or too large; the message names `owner` and the path in the value.
    """
    try:
        encoded = _encode_json(value)
        # msgspec writes nan and inf as null, which would come back as None: only then is the value worth a walk.
        not_finite = _not_finite(value) if value is not None and b"null" in encoded else None
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise _unrecordable(f"{owner} {verb}", value, error) from None
    if len(encoded) > most:
        raise OutputError(
            f"{owner} {verb} {len(encoded):,} bytes of JSON, at most {most:,} can be recorded",
            hint="write it to a file and return the file's path",
        )
    if not_finite is not None:
        raise OutputError(f"{owner} {verb} {not_finite[1]!r} at `{not_finite[0]}`, which JSON does not have")
    return encoded.decode()


def _not_finite(value: Any) -> tuple[str, float] | None:
    """The first nan or inf in what the value is as plain data, with its path."""
    for path, part in _walk(msgspec.to_builtins(value, enc_hook=_encode_other, str_keys=True)):
        if isinstance(part, float) and not math.isfinite(part):
            return path, part
    return None


def _unrecordable(said: str, value: Any, reason: Exception) -> OutputError:
    path, part, why = _culprit(value, reason)
    if why is not None:
        place = "" if path == "$" else f" at `{path}`"
        return OutputError(f"{said} a value{place} that can't be recorded as JSON: {why}")
    return OutputError(
        f"{said} a `{type(part).__qualname__}` at `{path}`, which can't be recorded as JSON",
        hint="return plain data: numbers, text, lists, dicts, dataclasses, datetimes",
    )


def _culprit(value: Any, reason: Exception) -> tuple[str, Any, Exception | None]:
    """The innermost part that fails though all that it holds is well, with its path.

    For a container there is a reason, too: it is about its keys, or about being in itself.
    """
    path, part = "$", value
    # Each part on the way down is entered once: what is too deep or holds itself has no bottom.
    entered: set[int] = set()
    while not isinstance(reason, RecursionError) and id(part) not in entered and not _is_model(part):
        entered.add(id(part))
        for inner_path, _, inner in _parts(part, path) or ():
            if (why := _why_not(_encode_json, inner)) is not None:
                path, part, reason = inner_path, inner, why
                break
    if _is_model(part):
        return *_culprit_in_model(path, part), None
    return path, part, None if _parts(part) is None else reason


def _culprit_in_model(path: str, model: Any) -> tuple[str, Any]:
    """As `_culprit`, asking the model about each part: it may well have a way to write what msgspec does not."""
    failure = str(_why_not(_dump, model))

    def fails(keys: tuple[Any, ...], included: Any) -> bool:
        for key in reversed(keys):
            included = {key: included}
        # Another failure would be about how it is asked for.
        return str(_why_not(model.model_dump, mode="json", include=included)) == failure

    part: Any = model
    keys: tuple[Any, ...] = ()
    entered: set[int] = set()
    # What fails without all its parts fails by its own code, or is written as a whole.
    while id(part) not in entered and not fails(keys, set()):
        entered.add(id(part))
        for inner_path, key, inner in _parts(part, path) or ():
            if fails((*keys, key), included=True):
                path, part, keys = inner_path, inner, (*keys, key)
                break
    return path, part


def _why_not(encode: Callable[..., Any], *args: Any, **options: Any) -> Exception | None:
    try:
        encode(*args, **options)
    except Exception as error:  # noqa: BLE001 - boundary: a model's own code, too
        return error
    return None


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every part of the value with its path, containers before what they hold.

    A container is entered once, so a cycle ends and what is shared doesn't multiply.
    """
    entered: set[int] = set()
    waiting: list[Iterator[tuple[str, Any]]] = [iter([("$", value)])]
    while waiting:
        for path, part in waiting[-1]:
            yield path, part
            parts = _parts(part, path)
            if parts is not None and id(part) not in entered:
                entered.add(id(part))
                waiting.append((inner_path, inner) for inner_path, _, inner in parts)
                break
        else:
            waiting.pop()


def _parts(value: Any, path: str = "$") -> Iterator[tuple[str, Any, Any]] | None:
    """What a container holds, each with its path and its key; None for anything else."""
    if isinstance(value, dict):
        return ((f"{path}.{_clean(str(key))}", key, part) for key, part in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ((f"{path}[{index}]", index, part) for index, part in enumerate(value))
    kind = type(value)
    if getattr(kind, "__pydantic_root_model__", False):
        return _parts(value.root, path)
    fields = (
        getattr(kind, "__struct_fields__", None)
        or getattr(kind, "__dataclass_fields__", None)
        or (*getattr(kind, "model_fields", ()), *(getattr(value, "__pydantic_extra__", None) or ()))
    )
    return ((f"{path}.{name}", name, getattr(value, name, None)) for name in fields) if fields else None


def failure_of(error: BaseException) -> Failure:
    """The exception as data, the user's own frames first to be read.

    An exception's own `__str__` may fail: its message is then left out, never the failure.
    """
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - boundary: __str__ is the user's code
        message = "(its message can't be read: __str__ failed)"
    name = type(error).__qualname__
    module = type(error).__module__
    return Failure(
        type=name if module.partition(".")[0] in ("builtins", "__main__", "fanout") else f"{module}.{name}",
        message=_clean(message)[:MAX_MESSAGE_CHARS],
        traceback=_clean(_traceback_of(error))[-MAX_TRACEBACK_CHARS:],
    )


def _traceback_of(error: BaseException) -> str:
    linecache.checkcache()
    try:
        formatted = traceback.TracebackException(
            type(error), error, _users_frames(error.__traceback__), limit=-30, compact=True
        )
        return "".join(formatted.format())
    except Exception:  # noqa: BLE001 - boundary: formatting calls the user's __str__ and __repr__
        return "(its traceback can't be formatted)"


_OUR_CODE = ("fanout.worker", "fanout.testing")


def _users_frames(trace: TracebackType | None) -> TracebackType | None:
    """Skip our own frames at the top: what is left begins in the user's function."""
    first = trace
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(_OUR_CODE):
        trace = trace.tb_next
    return trace if trace is not None else first


def is_text(said: str) -> bool:
    """Whether UTF-8 has it, and so journals, frames and file names: half a surrogate pair is in a `str` alone."""
    return said.isascii() or not any("\ud800" <= character <= "\udfff" for character in said)


def _clean(text: str) -> str:
    """Text that UTF-8 and SQLite can hold: a lone surrogate or a NUL becomes visible."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
