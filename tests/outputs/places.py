"""A command in the places where people run it: terminals of all widths, with and without colour, and a pipe.

What they print is compared with files; `FANOUT_WRITE_OUTPUTS=1` writes these anew, to be read before they are committed.
"""

from __future__ import annotations

import difflib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

COMMAND = str(Path(sys.executable).parent / "fanout")
WRITES = bool(os.environ.get("FANOUT_WRITE_OUTPUTS"))
PLACES = ("80 columns", "80 columns, colour", "200 columns", "40 columns", "pipe")
_FENCE_S = 60


def printed(root: Path, arguments: list[str], place: str) -> str:
    """What the command prints there, stdout and stderr as they come, and its exit code."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FANOUT_", "COLUMNS", "LINES", "NO_COLOR"))
    }
    environment = {**kept, "TERM": "xterm-256color", "TZ": "UTC"}
    if not place.endswith("colour"):
        environment["NO_COLOR"] = "1"
    command = [COMMAND, *arguments]
    if place == "pipe":
        done = subprocess.run(
            command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, timeout=_FENCE_S, check=False,
        )  # fmt: skip
        return _with_code(done.stdout, done.returncode)
    columns = int(place.split(maxsplit=1)[0])
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(command, cwd=root, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        out = b"".join(_read(ours))
    finally:
        os.close(ours)
    return _with_code(out, process.wait(_FENCE_S))


def _read(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(terminal, 65_536)
        except OSError:  # Linux says so when the last one at the other end has gone.
            return
        if not data:
            return
        yield data


def _with_code(out: bytes, code: int) -> str:
    text = out.decode().replace("\r\n", "\n")
    shown = "".join(f"{line.rstrip()}\n" for line in text.replace("\x1b", "␛").splitlines())
    return shown if code == 0 else f"{shown}(exit code {code})\n"


def compare(file: Path, found: str) -> None:
    """Raises AssertionError unless the file has just that."""
    if WRITES:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(found)
    assert file.exists(), f"there is no {file.name}; FANOUT_WRITE_OUTPUTS=1 writes it"
    lines = difflib.unified_diff(
        file.read_text().splitlines(), found.splitlines(), file.name, "what is printed", lineterm=""
    )
    difference = "\n".join(lines)
    assert not difference, f"\n{difference}"


def shape(value: object) -> object:
    """What a JSON value is made of: its keys, and the types of what they have."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        merged: object = None
        for each in value:
            merged = _either(merged, shape(each))
        return [] if merged is None else [merged]
    names = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return names[type(value)]


def _either(one: object, other: object) -> object:
    if one is None or one == other:
        return other
    if isinstance(one, dict) and isinstance(other, dict):
        both = {key: _either(one.get(key, "absent"), other.get(key, "absent")) for key in {**one, **other}}
        return dict(sorted(both.items()))
    if isinstance(one, list) and isinstance(other, list):
        return [_either(one[0], other[0])] if one and other else one or other
    known = one["either"] if isinstance(one, dict) and set(one) == {"either"} else [one]
    return {"either": known if other in known else [*known, other]}
