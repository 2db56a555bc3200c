"""CEL expressions over JSON: parsed once, at load, with every mistake that can be known; later never an error.

The language is CEL as https://github.com/google/cel-spec defines it, with its standard functions and no others.
It knows no functions, triggers or runs: only texts, and variables by name.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

from fanout.errors import ExpressionError

MAX_SOURCE_CHARS = 1_000
MAX_DEPTH = 256
"""Levels of lists and objects in the variables. The library recurses, and at some 400 overruns a thread's stack."""

IN_WAITS = frozenset({"event", "async"})
"""The variables where an event is awaited: the one that started the run, and the one that has come."""

_SHOWN_CHARS = 80

# What CEL has integers for, signed and unsigned.
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1

_FAULT = re.compile(r"<input>:(?P<line>-?\d+):(?P<column>-?\d+): (?P<text>[^\n]*)")
_STATUS = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")
# The library's words for what people mostly meet, and ours. The rest is passed on as it is.
_WORDS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"Syntax error: .* '<EOF>'(?: expecting .*)?"), "unexpected end"),
    (re.compile(r"Syntax error: .*? (?:input|at:) '(.*?)'?(?: expecting .*)?"), r"unexpected `\1`"),
    (re.compile(r"undeclared reference to '(.*)' \(.*\)"), r"`\1` is no variable, and no function of such arguments"),
    # CEL's own name of `==` is `_==_`, and of `in` it is `@in`.
    (
        re.compile(r"found no matching overload for '@?(.*)' applied to '(.*)'"),
        lambda told: f"`{told[1].replace('_', '')}` can't take {told[2]}",
    ),
    (re.compile(r".*recursion.*"), "it is nested too deep"),
)


class Expression:
    """An expression that `parse` found good. It holds no data and can be evaluated from any thread."""

    __slots__ = ("_program", "source")

    def __init__(self, source: str, program: Any) -> None:
        self.source = source
        self._program = program

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def is_true(self, /, **variables: Any) -> bool:
        """Whether it gives exactly `true`: what can't be evaluated is false, and so are 1 and "true"."""
        return self.value(**variables) is True

    def value(self, /, **variables: Any) -> Any:
        """What it gives as plain Python data, or None where it can't be evaluated; never an error.

        A variable is JSON as Python has it: `event={"name": ..., "data": {...}}`. Numbers compare by value, so 5 and
        5.0 are equal; arithmetic wants one kind, `double(event.data.n) * 1.5`, as CEL has it. A timestamp is a
        datetime, a duration a timedelta. None are a missing path, kinds that don't go together, a division by zero,
        over 10,000 rounds of `all`, `exists` or `map`, and variables more than 256 levels deep.
        """
        try:
            result = self._program.eval(data=_as_cel(variables))
            return None if result.type() == _cel().Type.ERROR else result.plain_value()
        except Exception:  # noqa: BLE001 - boundary: foreign code on foreign data, and the answer to all of it is one
            return None


@lru_cache(maxsize=1_024)
def parse(source: str, variables: frozenset[str] = frozenset({"event"})) -> Expression:
    """The expression, checked as far as it can be without data; about 5 KiB that the cache keeps.

    Raises:
        ExpressionError: it is not CEL, uses a function that CEL does not have or a variable that is not among
            `variables`, compares kinds that never compare (`1 == "1"`), or is too long or too deep. The message says
            where.
    """
    if len(source) > MAX_SOURCE_CHARS:
        raise ExpressionError(
            f"`{_shown(source)}` has {len(source):,} characters, an expression at most {MAX_SOURCE_CHARS:,}",
            hint="decide it in the function's own code",
        )
    environment = _environment(variables)
    try:
        return Expression(source, environment.compile(source))
    except TypeError:
        fault, hint = "it has half of a surrogate pair", None
    except Exception as error:  # noqa: BLE001 - boundary: foreign code, all of whose refusals are plain RuntimeErrors
        fault = _fault(str(error))
        hint = _hint(fault, variables)
    raise ExpressionError(f"`{_shown(source)}` is not a CEL expression: {fault}", hint=hint)


@lru_cache(maxsize=16)
def _environment(variables: frozenset[str]) -> Any:
    cel = _cel()
    with _no_protobuf():
        return cel.NewEnv(variables=dict.fromkeys(sorted(variables), cel.Type.DYN))


@contextmanager
def _no_protobuf() -> Iterator[None]:
    """Keeps the library from taking in the messages of a protobuf that happens to be installed.

    There are none in JSON, looking costs 40 ms, and a protobuf older than 4.22 makes the library end the process.
    """
    pool = "google.protobuf.descriptor_pool"
    before = sys.modules.pop(pool, None)
    sys.modules[pool] = None  # type: ignore[assignment] # the import system's own word for "not to be imported"
    try:
        yield
    finally:
        del sys.modules[pool]
        if before is not None:
            sys.modules[pool] = before


@cache
def _cel() -> ModuleType:
    # Lazy for start-up time: 14 MB of machine code, 4 ms until the first expression is parsed, and most
    # commands meet none.
    from cel_expr_python import cel  # type: ignore[import-untyped]

    return cel  # type: ignore[no-any-return]


def _as_cel(variables: dict[str, Any]) -> dict[str, Any]:
    """The variables, with each integer that CEL can't hold as a double, which is what CEL says JSON's numbers are.

    One such integer anywhere would else make every path of its variable an error, those that don't lead to it too.

    Raises:
        ValueError: they are nested deeper than MAX_DEPTH.
    """
    level: list[Any] = list(variables.values())
    is_wide = False
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for part in level:
            if isinstance(part, dict):
                inner.extend(part.values())
            elif isinstance(part, list):
                inner.extend(part)
            elif isinstance(part, int) and not _SMALLEST <= part <= _LARGEST:
                is_wide = True
        if not inner:
            return _narrowed(variables) if is_wide else variables
        level = inner
    raise ValueError(f"nested more than {MAX_DEPTH} levels deep")


def _narrowed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _narrowed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_narrowed(each) for each in value]
    if isinstance(value, int) and not _SMALLEST <= value <= _LARGEST:
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return value


def _fault(reason: str) -> str:
    """The first fault that the library tells, with its place: the others mostly follow from it."""
    found = _FAULT.search(reason)
    text = _STATUS.sub("", found["text"] if found else reason.partition("\n")[0])
    for pattern, words in _WORDS:
        if told := pattern.fullmatch(text):
            text = words(told) if callable(words) else told.expand(words)
            break
    if found is None or int(found["line"]) < 1:
        return _printable(text)
    line = "" if found["line"] == "1" else f"line {found['line']}, "
    return f"{_printable(text)} ({line}column {found['column']})"


def _hint(fault: str, variables: frozenset[str]) -> str | None:
    if "is no variable" in fault:
        return "its variables: " + ", ".join(f"`{name}`" for name in sorted(variables))
    if "can't take (int, double)" in fault or "can't take (double, int)" in fault:
        return (
            "only data compares across kinds of numbers: `5.0` is a double, `5` an int, `double(...)` makes one of it"
        )
    return None


def _shown(source: str) -> str:
    line = _printable(" ".join(source.split()))
    return line if len(line) <= _SHOWN_CHARS else f"{line[: _SHOWN_CHARS - 1]}…"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
