"""Keywords of JSON Schema that types read otherwise than the standard does: what no type takes is refused, no more."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from functools import cache
from types import ModuleType
from typing import Any
from uuid import UUID

_READERS: dict[str, Callable[[str], object]] = {
    "date-time": lambda value: datetime.fromisoformat(value.upper()),
    "date": lambda value: date.fromisoformat(value[:10]),
    "time": lambda value: time.fromisoformat(value.upper()),
    "uuid": UUID,
    "decimal": Decimal,
}


class Format:
    """`format`: for a time some take the seconds since 1970, and of most kinds of text each has an idea of its own."""

    def __init__(self, _schema: Any, format_: str, _at: Any) -> None:
        self._format, self._read = format_, _READERS.get(format_)

    def validate(self, value: Any) -> None:
        if self._read is None or not isinstance(value, str) or re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value):
            return
        try:
            self._read(value)
        except (ValueError, ArithmeticError):
            raise ValueError(f"it is no {self._format}") from None


class Pattern:
    r"""`pattern`: to the standard `\w` and `\d` are ASCII's, to types all languages', so other texts match all.

    So does what would take more than one look at each character.
    """

    def __init__(self, _schema: Any, pattern: str, _at: Any) -> None:
        self._pattern = pattern
        try:
            options = library().RegexOptions()
            self._validator: Any = library().Draft202012Validator({"pattern": pattern}, pattern_options=options)
        except ValueError:
            self._validator = None

    def validate(self, value: Any) -> None:
        if self._validator is None or not isinstance(value, str) or not value.isascii():
            return
        if not self._validator.is_valid(value):
            raise ValueError(f"it does not match `{self._pattern}`")


@cache
def library() -> ModuleType:
    # Lazy: 8 ms and 4 MB, and most projects have no schemas.
    import jsonschema_rs

    return jsonschema_rs
