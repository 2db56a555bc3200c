"""What has come of a save, in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fanout.commands import text
from fanout.core.redaction import redaction_of
from fanout.engine.reloads import Reloaded
from fanout.errors import FanoutError

_COLOURS = {"+": "32", "~": "33", "-": "31"}


def reload_without_secrets(keys: tuple[str, ...], reloaded: Reloaded) -> Reloaded:
    """The same without what stands under these keys: a line of source may have it, and an error's message."""
    hide = redaction_of(keys).text
    error = reloaded.error
    if error is not None:
        error = type(error)(hide(error.message), hint=None if error.hint is None else hide(error.hint))
    changes = tuple(change._replace(words=tuple(map(hide, change.words))) for change in reloaded.changes)
    return reloaded._replace(error=error, changes=changes)


def reload_lines(reloaded: Reloaded, app: str, *, has_code: bool, has_colour: bool) -> Iterator[str]:
    """`reloaded in 213 ms: + new-fn  ~ mail (retries 3 to 5)  - old-fn`; or the error, and what goes on."""
    of = f" `{app}`" if app else ""
    error = reloaded.error
    if error is not None:
        yield from error_lines(error, has_colour=has_colour)
        yield "the code from before goes on until this is mended" if has_code else "nothing runs until this is mended"
        return
    said = [
        _coloured(text.printable(str(change)), _COLOURS.get(change.kind, ""), has_colour=has_colour)
        for change in reloaded.changes
    ]
    if not (reloaded.app or said or reloaded.hint):
        yield "fanout.toml can be read again"
        return
    took = text.duration(reloaded.took_ms)
    yield f"reloaded{of} in {took}: {'  '.join(said) or 'other code, the same functions'}"
    if reloaded.hint:
        yield f"hint: {text.printable(reloaded.hint)}"


def error_lines(error: FanoutError, *, has_colour: bool) -> Iterator[str]:
    mark = _coloured("error:", "1;31", has_colour=has_colour)
    first, *more = text.printable(error.message, keep_lines=True).split("\n")
    yield f"{mark} {first}"
    yield from more
    if error.hint:
        yield f"hint: {text.printable(error.hint)}"


def reload_json(reloaded: Reloaded, at: int) -> dict[str, Any]:
    error = reloaded.error
    return {
        "kind": "reload",
        "at": at,
        "app": reloaded.app or None,
        "took_ms": reloaded.took_ms,
        "changes": [
            {"kind": change.kind, "function": change.function, "words": list(change.words)}
            for change in reloaded.changes
        ],
        "error": None if error is None else {"message": error.message, "hint": error.hint},
        "hint": reloaded.hint,
    }


def _coloured(said: str, code: str, *, has_colour: bool) -> str:
    return f"\x1b[{code}m{said}\x1b[0m" if has_colour and code else said
