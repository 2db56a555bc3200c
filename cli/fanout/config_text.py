"""The text of `fanout.toml`: reading it, and where in it a table or a key stands, so that messages can name the line.

It knows nothing of what the settings mean.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from fanout.errors import ConfigError

_SHOWN_CHARS = 60
_SHOWN_BITS = 128


def read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"`{shown_path(path)}` can't be read: {error.strerror or error}") from None
    try:
        # An editor's byte order mark is not TOML, and no one's mistake.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"`{shown_path(path)}` line {line}: this is not UTF-8 text", hint="save the file as UTF-8"
        ) from None


def parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error), re.DOTALL)
        reason, line, column = found.groups() if found else (str(error), None, None)
        last_line = text.rstrip().count("\n") + 1
        where = f" line {line} column {column}" if line else f" line {last_line}"
        reason = reason[:1].lower() + reason[1:]
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; brackets in brackets
        where, reason = "", str(error)
    raise ConfigError(f"`{shown_path(path)}`{where}: this is not TOML: {reason}")


class Place:
    """Calls a table or key by file and line, as messages begin; by the file alone where no line is found."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text

    def __call__(self, *keys: str) -> str:
        line = line_of(self._text, keys)
        return f"`{shown_path(self._path)}`" + (f" line {line}" if line else "")


_KEY = r"""(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)"""
_KEYS = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
# Not compiled here: only a mistake in the file needs them, and every command pays for imports.
_HEADER = rf"[ \t]*\[\[?[ \t]*({_KEYS})[ \t]*\]"
_ASSIGNMENT = rf"[ \t]*({_KEYS})[ \t]*=[ \t]*(.*)"


def line_of(text: str, keys: tuple[str, ...]) -> int | None:
    """Where `keys` are set. tomllib doesn't tell, so this reads lines: right for TOML as people write it."""
    table: tuple[str, ...] = ()
    quotes = ""
    for number, line in enumerate(text.split("\n"), 1):
        if quotes:
            quotes = "" if quotes in line else quotes
            continue
        if header := re.match(_HEADER, line):
            table = set_here = _split(header[1])
            value = ""
        elif assignment := re.match(_ASSIGNMENT, line):
            set_here, value = table + _split(assignment[1]), assignment[2]
        else:
            continue
        if set_here[: len(keys)] == keys:
            return number
        inner = keys[len(set_here) :]
        is_inline_table = value.startswith("{") and set_here == keys[: len(set_here)]
        if is_inline_table and re.search(rf"""[{{,]\s*["']?{re.escape(inner[0])}["']?\s*[.=]""", value):
            return number
        quotes = next((each for each in ('"""', "'''") if value.startswith(each) and each not in value[3:]), "")
    return None


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_KEY, dotted))


def shown(value: object) -> str:
    """A value as TOML has it, near enough, and cut short."""
    match value:
        case int() if value.bit_length() > _SHOWN_BITS:
            said = "a huge number"  # of which Python may refuse to write the digits
        case bool():
            said = str(value).lower()
        case str():
            said = msgspec.json.encode(value).decode()
        case list():
            said = f"[{', '.join(shown(each) for each in value[:9])}]"
        case dict():
            said = "a table"
        case _:
            said = str(value)
    return said if len(said) <= _SHOWN_CHARS else f"{said[: _SHOWN_CHARS - 3]}..."


def shown_path(path: Path) -> str:
    """From the working directory where that is shorter."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # no working directory any more; another drive
        return str(path)
    return min(relative, str(path), key=len)
