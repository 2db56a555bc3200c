"""What commands are given to read: files, stdin, and data on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

from fanout.errors import EventError, UsageError
from fanout.events import NewEvent, build

DATA_HELP = "a JSON object, `@FILE` that has one, or `-` for stdin"


def bytes_of(file: str) -> bytes:
    """What is in the file; `-` is stdin.

    Raises:
        EventError: it can't be read.
    """
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise EventError(f"`{file}` can't be read: {error.strerror}") from None


def event_with(name: str, data: str | None) -> NewEvent:
    """An event of this name, with the data that `--data` gives.

    Raises:
        EventError: the name or the data is not valid, or can't be read.
        UsageError: `@` without a file.
    """
    if data is None or not (data == "-" or data.startswith("@")):
        return build(name, data)
    file = data.removeprefix("@")
    if not file:
        raise UsageError("`--data @` names no file", hint="as in `--data @data.json`")
    source = "stdin" if data == "-" else file
    try:
        text = bytes_of(data if data == "-" else file).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise EventError(f"`{source}` is not UTF-8 text", hint="save it as UTF-8") from None
    return build(name, text, source)
