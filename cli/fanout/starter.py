"""What `fanout init` writes: the files of a template, and a commented `fanout.toml`. All of them, or none."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import tomli_w

from fanout.config import APP_ID_CHARACTERS, DEFAULT_JOURNAL, DEFAULT_PORT, DEFAULT_SLOTS, FILE_NAME
from fanout.errors import ConfigError, UsageError

TEMPLATES = {
    "signup": "one event starts several functions",
    "documents": "a document in parts, one run each, and async steps",
    "cron": "a schedule, and a run for each user",
    "minimal": "one function with one step",
}
"""What there is to begin with; the folder of each is in `templates/`."""
DEFAULT_TEMPLATE = "signup"

_FOLDER = Path(__file__).parent / "templates"
_MAY_BE_THERE = frozenset({".gitignore", "functions/__init__.py", "tests/__init__.py"})
"""Where there are such already, they do as well, and are left as they are."""

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

#[web]
# Where `fanout dev watch` and `fanout serve` have the dashboard and the event API.
#port = {DEFAULT_PORT}

# While developing, wait this long before each retry instead of the function's own backoff; `fanout serve` never does.
"""


class Started(NamedTuple):
    """What was written, `fanout.toml` first."""

    name: str
    template: str | None
    written: list[Path]
    kept: list[Path]
    """Files of the template that were there already, and are as they were."""


def starter(folder: Path, name: str | None = None) -> str:
    """The text of a `fanout.toml` for a project in this folder, every setting explained."""
    app = {"app": {"id": name or _app_id(folder), "functions": ["functions"]}}
    development = {"dev": {"retry_delay": "1s"}}
    text = _HEADER + tomli_w.dumps(app) + _OTHERS + tomli_w.dumps(development)
    # Read back, so that a comment of ours can never become a setting.
    if tomllib.loads(text) != app | development:
        raise AssertionError(text)
    return text


def write_starter(folder: Path, template: str | None = None, *, name: str | None = None) -> Started:
    """Write a project: a template's functions, with an event and a test for them, and `fanout.toml`.

    Without a `template` it is `signup`; but where there is a folder `functions` already, only what else is needed.
    Nothing is overwritten. `fanout.toml` comes last: if this is cut short, it can simply be run again.

    Raises:
        ConfigError: files are there already, or the folder can't be written. Then nothing has been.
        UsageError: there is no such template, or the name can't be an app's id.
    """
    if name is not None and not (name and set(name) <= APP_ID_CHARACTERS):
        raise UsageError("`--name` has to be letters, digits, dashes, underscores and dots")
    if template is None and not os.path.lexists(folder / "functions"):
        template = DEFAULT_TEMPLATE
    files = {} if template is None else _files(template)
    files[".gitignore"] = (_FOLDER / "shared" / "gitignore").read_bytes()
    files[FILE_NAME] = starter(folder, name).encode()
    if _has_modules(folder / "tests"):
        # They import each other as they are; as a package they would have other names.
        files.pop("tests/__init__.py", None)
    there = [each for each in files if os.path.lexists(folder / each)]
    kept = [each for each in there if each in _MAY_BE_THERE]
    if in_the_way := [folder / each for each in there if each not in kept]:
        raise _are_there(in_the_way)
    for each in kept:
        del files[each]
    try:
        _write(folder, files)
    except FileExistsError as error:
        raise _are_there([Path(error.filename2 or error.filename)]) from None
    except OSError as error:
        raise ConfigError(f"`{error.filename or folder}` can't be written: {error.strerror or error}") from None
    written = [folder / each for each in dict.fromkeys((FILE_NAME, *files))]
    return Started(name or _app_id(folder), template, written, [folder / each for each in kept])


def _has_modules(tests: Path) -> bool:
    return not (tests / "__init__.py").exists() and any(tests.glob("**/*.py"))


def _are_there(paths: list[Path]) -> ConfigError:
    named = ", ".join(f"`{path}`" for path in paths)
    if any(path.name == FILE_NAME for path in paths):
        todo = "this is a project; another one has a folder of its own"
    else:
        todo = f"move {'it' if len(paths) == 1 else 'them'} away, or begin in another folder"
    return ConfigError(
        f"{named} {'is' if len(paths) == 1 else 'are'} there already",
        hint=f"nothing was written; {todo}: `fanout init FOLDER`",
    )


def _files(template: str) -> dict[str, bytes]:
    """What a template has, by where it is written, in the order in which a person would read it."""
    if template not in TEMPLATES:
        listed = ", ".join(f"`{each}`" for each in TEMPLATES)
        raise UsageError(f"there is no template `{template}`", hint=f"it is one of {listed}")
    found = {}
    for root in (_FOLDER / template, _FOLDER / "shared"):
        for part in ("functions", "functions/events", "tests"):
            for path in sorted((root / part).glob("*")):
                if path.suffix in {".py", ".json", ".txt"}:
                    found[f"{part}/{path.name}"] = path.read_bytes()
    return found


def _app_id(folder: Path) -> str:
    """The folder's name, with what an app's id can't have left out."""
    plain = unicodedata.normalize("NFKD", folder.resolve().name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.") or "app"


# Writing. All is written beside its place first: what is left to go wrong then is undone.


def _write(folder: Path, files: dict[str, bytes]) -> None:
    draft = folder / f".fanout-init.{os.getpid()}.new"
    made: list[Path] = []
    try:
        _make_folder(folder, made)
        _draft(draft, files.values())
        for number, name in enumerate(files):
            _make_folder((folder / name).parent, made)
            _put(draft / str(number), folder / name, made)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        raise
    shutil.rmtree(draft, ignore_errors=True)


def _draft(draft: Path, contents: Iterable[bytes]) -> None:
    try:
        draft.mkdir()
        for number, content in enumerate(contents):
            (draft / str(number)).write_bytes(content)
    except OSError as error:
        error.filename = str(draft.parent.resolve())  # nobody has asked for a draft
        raise


def _make_folder(path: Path, made: list[Path]) -> None:
    missing = [each for each in (path, *path.parents) if not os.path.lexists(each)]
    for each in reversed(missing):
        each.mkdir()
        made.append(each)
    if not path.is_dir():
        raise NotADirectoryError(20, os.strerror(20), str(path))


def _put(draft: Path, path: Path, made: list[Path]) -> None:
    """Not a rename, which would replace what someone else has written meanwhile."""
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with path.open("xb") as file:
            made.append(path)
            file.write(draft.read_bytes())
    else:
        made.append(path)
