"""`fanout.toml` to a Config. Whatever is wrong in the file is one error that names file, line, table and key.

It doesn't know whether the modules of functions exist: only workers import them.
"""

from __future__ import annotations

import os
import shutil
import string
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fanout.config_text import Place, parsed, read, shown, shown_path
from fanout.durations import parse_duration
from fanout.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FILE_NAME = "fanout.toml"
ENVIRONMENT_VARIABLE = "FANOUT_CONFIG"
DEFAULT_JOURNAL = ".fanout/journal.db"
DEFAULT_SLOTS = 64
DEFAULT_PARK_S = 5.0
DEFAULT_KEEP_COMPLETED_S = 7 * 86_400.0
DEFAULT_KEEP_FAILED_S = 30 * 86_400.0
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8288
"""As the dev server of Inngest has it: what sends events there finds us in its place."""
LEAST_KEEP_S = 3_600.0
MOST_KEEP_S = 36_525 * 86_400.0
NEVER = "never"
MAX_PROCESSES = 1024
MAX_SLOTS = 1024
MAX_PORT = 65_535
MAX_RETRY_DELAY_S = 366 * 86_400


class App(msgspec.Struct, frozen=True, kw_only=True):
    """A codebase: the modules of functions in the folder `root`, and the interpreter that has what they import."""

    id: str
    root: Path
    python: str
    functions: tuple[str, ...]


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A project's settings. All paths are absolute; `root` is the folder of the file at `path`."""

    path: Path
    root: Path
    apps: tuple[App, ...]
    has_prefixes: bool = False
    """The ids of functions begin with their app's, as in all of `[[apps]]`: be it one, others may come and go."""
    journal: Path
    processes: int
    slots: int = DEFAULT_SLOTS
    park: float = DEFAULT_PARK_S
    keep_completed: float | None = DEFAULT_KEEP_COMPLETED_S
    keep_failed: float | None = DEFAULT_KEEP_FAILED_S
    """Seconds that runs stay in the journal after their end; None is for ever."""
    dev_retry_delay: float | None = None
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    """Where the dashboard and the event API listen; port 0 is any that is free."""
    redact: tuple[str, ...] = ()
    """Keys whose values nobody is shown, in lower case."""
    otel: bool | None = None
    """Whether traces are exported; None leaves that to OpenTelemetry's own variables in the environment."""


def find(start: Path, explicit: str | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """The `fanout.toml` to use: `explicit` or `FANOUT_CONFIG` (a file or its folder), else the nearest above `start`.

    Raises:
        ConfigError: there is none.
    """
    if explicit:
        return _named(explicit, "")
    if named := environ.get(ENVIRONMENT_VARIABLE):
        return _named(named, f"`{ENVIRONMENT_VARIABLE}` names ")
    first = Path(os.path.abspath(start))  # noqa: PTH100 - Path.absolute() keeps `..`, which then has the wrong parents
    for folder in (first, *first.parents):
        path = folder / FILE_NAME
        # Not Path.is_file(), which raises where a folder above can't be read.
        if os.path.isfile(path):  # noqa: PTH113
            return path
    raise ConfigError(f"no `{FILE_NAME}` in `{first}` or above it", hint="run `fanout init`")


def _named(name: str, introduction: str) -> Path:
    path = Path(os.path.abspath(os.path.expanduser(name)))  # noqa: PTH100, PTH111 - neither raises
    if os.path.isdir(path):  # noqa: PTH112 - as above
        path = path / FILE_NAME
    if not os.path.exists(path):  # noqa: PTH110 - as above
        missing = f"`{shown_path(path)}`" + (", which" if introduction else "")
        raise ConfigError(f"{introduction}{missing} does not exist", hint="`fanout init` makes one")
    return path


def load(path: Path) -> Config:
    """The settings in this file, the defaults filled in.

    Raises:
        ConfigError: it can't be read, is not TOML, or has a setting that can't be.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - as above
    text = read(path)
    document, place, root = parsed(text, path), Place(path, text), path.parent
    listed = document.pop("apps", None)
    if listed is None:
        values = _checked(document, place, _REQUIRED)
        apps: tuple[App, ...] = (_app(values, root),)
    else:
        if "app" in document:
            raise ConfigError(f"{place('app')}: there are both `[app]` and `[[apps]]`", hint="leave one of them out")
        values = _checked(document, place, {})
        apps = _apps(listed, place, root)
    return Config(
        path=path,
        root=root,
        apps=apps,
        has_prefixes=listed is not None,
        journal=Path(os.path.abspath(root / values.get(("journal", "path"), DEFAULT_JOURNAL))),  # noqa: PTH100 - as above
        processes=values.get(("pool", "processes")) or usable_cpus(),
        slots=values.get(("pool", "slots"), DEFAULT_SLOTS),
        park=values.get(("pool", "park"), DEFAULT_PARK_S),
        keep_completed=values.get(("journal", "keep_completed"), DEFAULT_KEEP_COMPLETED_S),
        keep_failed=values.get(("journal", "keep_failed"), DEFAULT_KEEP_FAILED_S),
        dev_retry_delay=values.get(("dev", "retry_delay")),
        host=values.get(("web", "host"), DEFAULT_HOST),
        port=values.get(("web", "port"), DEFAULT_PORT),
        redact=values.get(("redact", "keys"), ()),
        otel=values.get(("otel", "enabled")),
    )


def _app(values: dict[tuple[str, str], Any], root: Path) -> App:
    folder = Path(os.path.abspath(root / values.get(("app", "path"), ".")))  # noqa: PTH100 - as above
    return App(
        id=values["app", "id"],
        root=folder,
        python=_interpreter(folder, values.get(("app", "python"))),
        functions=values["app", "functions"],
    )


def _apps(listed: object, place: Place, root: Path) -> tuple[App, ...]:
    """The tables of `[[apps]]`, each with the settings of an `[app]`."""
    if not isinstance(listed, list) or not listed or not all(isinstance(each, dict) for each in listed):
        raise ConfigError(
            f"{place('apps')}: `apps` has to be tables, not {shown(listed)}", hint="begin each with `[[apps]]`"
        )
    apps: dict[str, App] = {}
    for number, table in enumerate(listed):
        try:
            app = _app(_checked({"app": table}, place, _REQUIRED), root)
        except ConfigError as error:
            message = error.message.replace("`[app] ", f"`[[apps]]` number {number + 1}: `")
            raise ConfigError(message, hint=error.hint) from None
        if app.id in apps:
            raise ConfigError(f"{place('apps')}: two of the `[[apps]]` have the id `{app.id}`")
        apps[app.id] = app
    return tuple(apps.values())


def _interpreter(folder: Path, python: str | None) -> str:
    """The interpreter: a file, or the one in an environment's folder. Ours, if none is named."""
    if python is None:
        return sys.executable
    # A name alone is a command, unless there is an environment by that name: `.venv` is what most are called.
    if os.sep not in python and not os.path.isdir(folder / python):  # noqa: PTH112 - as above
        return shutil.which(python) or python
    # Not resolved: an environment's interpreter is a link, and finds its packages by the link's place.
    path = os.path.abspath(folder / python)  # noqa: PTH100 - as above
    return os.path.join(path, "bin", "python") if os.path.isdir(path) else path  # noqa: PTH112, PTH118 - as above


def usable_cpus() -> int:
    """The CPUs that this process may use, where the system tells; all of them elsewhere."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return min(count, MAX_PROCESSES)


# The settings. Each check returns the value to use, or raises ValueError worded to follow the setting's name.


APP_ID_CHARACTERS = frozenset(string.ascii_letters + string.digits + "-_.")


def _app_id(value: object) -> str:
    if not isinstance(value, str) or not value or not set(value) <= APP_ID_CHARACTERS:
        raise ValueError(f"has to be letters, digits, dashes, underscores and dots, not {shown(value)}")
    return value


def _modules(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f'has to be a list of modules like ["functions"], not {shown(value)}')
    for index, name in enumerate(value):
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"has {shown(name)}, which is no dotted module name like `functions.signup`")
        if name in value[:index]:
            raise ValueError(f"has `{name}` twice")
    return tuple(value)


def _file(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"has to be the path of a file, not {shown(value)}")
    return os.path.expanduser(value)  # noqa: PTH111 - Path.expanduser() raises for an unknown user


def _host(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable() or set(value) & set(" /"):
        raise ValueError(f'has to be an address or a name like "127.0.0.1", not {shown(value)}')
    return value


def _keys(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ValueError(f'has to be a list of keys like ["password", "token"], not {shown(value)}')
    return tuple(dict.fromkeys(each.lower() for each in value))


def _flag(value: object) -> bool:
    if value is True or value is False:
        return value
    raise ValueError(f"has to be true or false, not {shown(value)}")


def _whole(low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        # A bool is an int to isinstance.
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"has to be a whole number from {low} to {high}, not {shown(value)}")
        return value

    return check


def _delay(value: object) -> float:
    try:
        seconds = parse_duration(value) if isinstance(value, str | int | float) else -1.0
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_RETRY_DELAY_S:
        raise ValueError(f'has to be seconds or text like "500ms" or "1h30m", up to 366 days, not {shown(value)}')
    return seconds


def _kept(value: object) -> float | None:
    if value == NEVER:
        return None
    try:
        seconds = parse_duration(value) if isinstance(value, str | int | float) else -1.0
    except ValueError:
        seconds = -1.0
    if not LEAST_KEEP_S <= seconds <= MOST_KEEP_S:
        raise ValueError(f'has to be text like "7d", one hour to 100 years, or "{NEVER}", not {shown(value)}')
    return seconds


_SETTINGS: dict[str, dict[str, Callable[[object], Any]]] = {
    "app": {"id": _app_id, "functions": _modules, "path": _file, "python": _file},
    "journal": {"path": _file, "keep_completed": _kept, "keep_failed": _kept},
    "pool": {"processes": _whole(1, MAX_PROCESSES), "slots": _whole(1, MAX_SLOTS), "park": _delay},
    "dev": {"retry_delay": _delay},
    "web": {"host": _host, "port": _whole(0, MAX_PORT)},
    "redact": {"keys": _keys},
    "otel": {"enabled": _flag},
}
_REQUIRED = {("app", "id"): 'id = "my-app"', ("app", "functions"): 'functions = ["functions"]'}


def _checked(
    document: dict[str, Any], place: Place, required: Mapping[tuple[str, str], str]
) -> dict[tuple[str, str], Any]:
    """The values that the file gives, by table and key."""
    values: dict[tuple[str, str], Any] = {}
    for table, content in document.items():
        if table not in _SETTINGS:
            raise _unknown_table(table, content, place)
        if not isinstance(content, dict):
            raise ConfigError(f"{place(table)}: `[{table}]` has to be a table, not {shown(content)}")
        for key, value in content.items():
            check = _SETTINGS[table].get(key)
            if check is None:
                hint = _nearest(key, list(_SETTINGS[table]), f"`[{table}]` has")
                raise ConfigError(f"{place(table, key)}: `[{table}] {key}` is not a setting", hint=hint)
            try:
                values[table, key] = check(value)
            except ValueError as error:
                raise ConfigError(f"{place(table, key)}: `[{table}] {key}` {error}") from None
    for (table, key), example in required.items():
        if (table, key) not in values:
            raise ConfigError(
                f"{place(table)}: `[{table}] {key}` is missing", hint=f"write `{example}` under `[{table}]`"
            )
    return values


def _unknown_table(name: str, content: object, place: Place) -> ConfigError:
    if isinstance(content, dict | list):
        hint = _nearest(name, list(_SETTINGS), "the tables are", "[{}]")
        return ConfigError(f"{place(name)}: `[{name}]` is not a table of settings", hint=hint)
    homes = [table for table, settings in _SETTINGS.items() if name in settings]
    hint = f"put it under `[{homes[0]}]`" if homes else _nearest(name, list(_SETTINGS), "the tables are", "[{}]")
    return ConfigError(f"{place(name)}: `{name}` stands outside of a table", hint=hint)


def _nearest(name: str, known: list[str], otherwise: str, form: str = "{}") -> str:
    from difflib import get_close_matches  # lazy: only a slip needs it, and every command pays for imports

    near = get_close_matches(name.lower(), known, 1)
    if near:
        return f"did you mean `{form.format(near[0])}`?"
    return f"{otherwise} {', '.join(f'`{form.format(each)}`' for each in known)}"
