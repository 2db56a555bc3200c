"""Which part of a JSON value jsonschema_rs means by a path: it writes keys of digits as numbers, and no empty ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fanout.core.json_words import Path


def place_of(path: Sequence[str | int], value: Any, *, is_it: Callable[[Any], bool]) -> tuple[Path, Any]:
    """The part's own path, and what is there. Of several that may be meant it is one for which `is_it` holds.

    Where nothing can be meant it is the whole value.
    """
    found = list(_places(tuple(path), value))
    return next((each for each in found if is_it(each[1])), found[0] if found else ((), value))


def _places(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    if not path:
        yield (), value
    if isinstance(value, dict) and "" in value:
        yield from _below("", path, value)
    if path:
        for key in _keys(path[0], value):
            yield from _below(key, path[1:], value)


def _below(key: str | int, path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    return (((key, *inner), found) for inner, found in _places(path, value[key]))


def _keys(said: str | int, value: Any) -> Sequence[str | int]:
    if isinstance(value, list):
        return [said] if isinstance(said, int) and said < len(value) else []
    if not isinstance(value, dict):
        return []
    if isinstance(said, str):
        return [said] if said in value else []
    return [key for key in value if re.fullmatch(rf"\+?0*{said}", key)]
