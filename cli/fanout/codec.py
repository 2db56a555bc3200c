"""Values to JSON text and back, and exceptions to Failure. What can't be recorded is named by its path."""

from __future__ import annotations

import linecache
import math
import traceback
from collections.abc import Iterator
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
    dump = getattr(value, "model_dump", None)
    if dump is None or isinstance(value, type):
        raise TypeError(f"{type(value).__name__} is not JSON")
    try:
        return dump(mode="json")
    except Exception as error:  # noqa: BLE001 - boundary: a model's own code
        raise TypeError(f"its `model_dump` failed with {type(error).__name__}") from None


_encode_json = msgspec.json.Encoder(enc_hook=_encode_other).encode
decode_json = msgspec.json.Decoder().decode


def encode_output(owner: str, value: Any) -> str:
    """The value as JSON text.

    Raises:
        OutputError: it is not JSON or too large; the message names `owner` and the path in the value.
    """
    try:
        encoded = _encode_json(value)
        # msgspec writes nan and inf as null, which would come back as None: only then is the value worth a walk.
        not_finite = _not_finite(value) if b"null" in encoded else None
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise _unrecordable(owner, value, str(error)) from None
    if len(encoded) > MAX_OUTPUT_BYTES:
        raise OutputError(
            f"{owner} returned {len(encoded):,} bytes of JSON, at most {MAX_OUTPUT_BYTES:,} can be recorded",
            hint="write it to a file and return the file's path",
        )
    if not_finite is not None:
        raise OutputError(f"{owner} returned {not_finite[1]!r} at `{not_finite[0]}`, which JSON does not have")
    return encoded.decode()


def _not_finite(value: Any) -> tuple[str, float] | None:
    """The first nan or inf in what the value is as plain data, with its path."""
    for path, part in _walk(msgspec.to_builtins(value, enc_hook=_encode_other, str_keys=True)):
        if isinstance(part, float) and not math.isfinite(part):
            return path, part
    return None


def _unrecordable(owner: str, value: Any, reason: str) -> OutputError:
    for path, part in _walk(value):
        if _parts(path, part) is not None:
            continue
        try:
            _encode_json(part)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
            return OutputError(
                f"{owner} returned a `{type(part).__qualname__}` at `{path}`, which can't be recorded as JSON",
                hint="return plain data: numbers, text, lists, dicts, dataclasses, datetimes",
            )
    return OutputError(f"{owner} returned a value that can't be recorded as JSON: {reason}")


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every part of the value with its path, containers before what they hold.

    A container is entered once, so a cycle ends and what is shared doesn't multiply.
    """
    entered: set[int] = set()
    waiting: list[Iterator[tuple[str, Any]]] = [iter([("$", value)])]
    while waiting:
        for path, part in waiting[-1]:
            yield path, part
            parts = _parts(path, part)
            if parts is not None and id(part) not in entered:
                entered.add(id(part))
                waiting.append(parts)
                break
        else:
            waiting.pop()


def _parts(path: str, value: Any) -> Iterator[tuple[str, Any]] | None:
    """What a container holds, with paths; None for anything else."""
    if isinstance(value, dict):
        return ((f"{path}.{_clean(str(key))}", part) for key, part in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ((f"{path}[{index}]", part) for index, part in enumerate(value))
    fields = getattr(type(value), "__struct_fields__", None) or getattr(type(value), "__dataclass_fields__", ())
    return ((f"{path}.{name}", getattr(value, name, None)) for name in fields) if fields else None


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


def _users_frames(trace: TracebackType | None) -> TracebackType | None:
    """Skip our own frames at the top: what is left begins in the user's function."""
    first = trace
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("fanout.worker"):
        trace = trace.tb_next
    return trace if trace is not None else first


def _clean(text: str) -> str:
    """Text that UTF-8 and SQLite can hold: a lone surrogate or a NUL becomes visible."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
