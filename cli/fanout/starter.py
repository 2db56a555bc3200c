"""What `fanout init` writes: a commented `fanout.toml`, and a first function with its event."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
import unicodedata
from typing import TYPE_CHECKING

import tomli_w

from fanout.config import DEFAULT_JOURNAL, DEFAULT_SLOTS, FILE_NAME
from fanout.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_HEADER = """\
# The settings of this fanout project.
# Lines that begin with `#` and no space are settings at their defaults: take the `#` away to change one.

"""

_OTHERS = f"""
#[journal]
# The file that remembers every event, run and step. Relative paths begin at this file's folder.
#path = "{DEFAULT_JOURNAL}"
# How long runs that are over stay in it, with all that belongs to them: at least an hour, or "never" to remove none.
#keep_completed = "7d"
#keep_failed = "30d"

#[pool]
# Worker processes, 1 to 1024. Left out, one for each CPU.
#processes = 4
# Runs that one worker process executes at once, 1 to 1024.
#slots = {DEFAULT_SLOTS}

# While developing, wait this long before each retry instead of the function's own backoff; `fanout serve` never does.
"""

_HELLO_PY = '''\
"""A first function. Start it with `fanout send functions/events/hello.json`."""

import fanout
from fanout import Context


@fanout.function(trigger=fanout.on("app/hello"))
def say_hello(ctx: Context) -> dict[str, str]:
    # A step runs once: when the function is tried again, what it returned is still there.
    greeting = ctx.step.run("greet", greet, ctx.event.data["name"])
    return {"greeting": greeting}


def greet(name: str) -> str:
    return f"Hello, {name}!"
'''

_HELLO_JSON = """\
{
  "name": "app/hello",
  "data": {
    "name": "world"
  }
}
"""

_FUNCTIONS = {"hello.py": _HELLO_PY, "events/hello.json": _HELLO_JSON}


def starter(folder: Path) -> str:
    """The text of a `fanout.toml` for a project in this folder, every setting explained."""
    app = {"app": {"id": _app_id(folder), "functions": ["functions"]}}
    development = {"dev": {"retry_delay": "1s"}}
    text = _HEADER + tomli_w.dumps(app) + _OTHERS + tomli_w.dumps(development)
    # Read back, so that a comment of ours can never become a setting.
    if tomllib.loads(text) != app | development:
        raise AssertionError(text)
    return text


def write_starter(folder: Path) -> list[Path]:
    """Write `fanout.toml`, and `functions/` with a first function where there is none. Returns the files made.

    Nothing is overwritten, and `fanout.toml` comes last: if this is cut short, it can simply be run again.

    Raises:
        ConfigError: `fanout.toml` is there already, or the folder can't be written.
    """
    path = folder / FILE_NAME
    functions = folder / "functions"
    created = [path]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path):
            raise _is_there(path)
        if not os.path.lexists(functions):
            _write_folder(functions, _FUNCTIONS)
            created += [functions / name for name in _FUNCTIONS]
        _write_file(path, starter(folder))
    except OSError as error:
        raise ConfigError(f"`{error.filename or folder}` can't be written: {error.strerror or error}") from None
    return created


def _is_there(path: Path) -> ConfigError:
    return ConfigError(f"`{path}` is there already", hint="edit it, or delete it first")


def _app_id(folder: Path) -> str:
    """The folder's name, with what an app's id can't have left out."""
    plain = unicodedata.normalize("NFKD", folder.resolve().name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.") or "app"


def _write_file(path: Path, text: str) -> None:
    """All of the file or nothing, and never over another one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        _link(draft, path, text)
    except FileExistsError:
        raise _is_there(path) from None
    finally:
        draft.unlink(missing_ok=True)


def _link(draft: Path, path: Path, text: str) -> None:
    """Not a rename, which would replace what someone else has written meanwhile."""
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)


def _write_folder(path: Path, files: dict[str, str]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        for name, text in files.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_text(text, encoding="utf-8", newline="\n")
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
