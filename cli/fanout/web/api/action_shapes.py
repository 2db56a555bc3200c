"""The shapes of what the API answers when it was asked to do something."""

from __future__ import annotations

from typing import TypedDict

from fanout.web.api.shapes import RunShape


class AskedShape(TypedDict):
    """`is_handled`: an engine has come to it, and the rest says what came of it. `has_engine`: one is running."""

    request: int
    is_handled: bool
    has_engine: bool
    hint: str | None


class AskedRunsShape(AskedShape):
    runs: list[RunShape]


class PausedShape(TypedDict):
    id: str
    paused_at: int | None


class AskedFunctionsShape(AskedShape):
    functions: list[PausedShape]


class PlanShape(TypedDict):
    function: str
    runs: int
    reused: dict[str, int]
    given: list[str]
    again: dict[str, int]
    new: list[str] | None
    gone: dict[str, int] | None


class ReplaysShape(TypedDict):
    """`planned`: so many runs are to be replayed. With `dry_run` nothing was asked for: `functions` say what would be.

    Otherwise `request`, `is_handled`, `has_engine` and `hint` are as in other answers.
    """

    planned: int
    runs: list[RunShape]
    functions: list[PlanShape]
    request: int | None
    is_handled: bool
    has_engine: bool
    hint: str | None


class AcceptedShape(TypedDict):
    ids: list[str]
    status: int


class SentEventsShape(AcceptedShape, total=False):
    """`duplicates`: ids that were sent before, in the last 24 hours."""

    duplicates: list[str]
