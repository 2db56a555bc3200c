"""What the code has now: loaded in workers that do nothing else, without a journal or an engine."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from fanout import __version__
from fanout.config import App, Config
from fanout.engine.pool import Codebase, LocalPool, Lost
from fanout.errors import LoadError
from fanout.model import FunctionSpec
from fanout.protocol import Described, Load, LoadFailed


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What an app's worker has said: its functions, or why the code can't be loaded; and how long it took."""

    app: App
    functions: tuple[FunctionSpec, ...] = ()
    error: LoadError | None = None
    took_ms: int = 0


def describe(config: Config, on_output: Callable[[str], None]) -> list[Description]:
    """Load the code of every app, in the order of the file. `on_output` gets the lines that modules print."""
    codebases = {app.id: Codebase(app.python, Load(str(app.root), app.functions, 1)) for app in config.apps}
    pool = LocalPool(codebases, on_output=on_output)
    if config.redact:
        from fanout.core.redaction import redaction_of  # lazy: few have anything to hide

        pool.hide = redaction_of(config.redact).text
    found: dict[str, Description] = {}
    began = time.monotonic()
    try:
        for app in config.apps:
            pool.start(app.id)
        apps = {app.id: app for app in config.apps}
        while len(found) < len(apps):
            for worker, message in pool.wait(1):
                id_ = pool.app_of(worker)
                if isinstance(message, LoadFailed):
                    message = LoadFailed(pool.hide(message.message), message.hint)  # noqa: PLW2901 - it says the same
                if id_ not in found:
                    took = round(1000 * (time.monotonic() - began))
                    found[id_] = _description(apps[id_], message, took, has_prefix=config.has_prefixes)
    finally:
        pool.shut_down()
    return [found[app.id] for app in config.apps]


def _description(app: App, message: object, took_ms: int, *, has_prefix: bool) -> Description:
    match message:
        case Described(version=version, functions=functions) if version == __version__:
            named = tuple(spec.in_app(app.id, has_prefix=has_prefix) for spec in functions)
            return Description(app=app, functions=named, took_ms=took_ms)
        case Described(version=version):
            error = LoadError(
                f"its environment has fanout {version}, and this is {__version__}",
                hint="install the same version in both",
            )
        case LoadFailed(text, hint):
            error = LoadError(text, hint=hint)
        case Lost(reason, tail):
            error = LoadError("\n".join((f"{reason} while it loaded the modules", *tail)))
        case _:
            raise AssertionError(message)
    return Description(app=app, error=error, took_ms=took_ms)
