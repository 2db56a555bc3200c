"""`ctx.logger`: what it says is seen, unless the user's code has other plans."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from fanout.worker.context import Context
from fanout.worker.execution import Desk
from tests.unit.executions import SPEC, executed


@contextmanager
def new_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Loggers as they are at first, and stderr. In the test itself: pytest sets up its own after all fixtures."""
    ours = logging.getLogger("fanout")
    level = ours.level
    with monkeypatch.context() as patched:
        patched.setattr("sys.stderr", io.StringIO())
        patched.setattr(logging.getLogger(), "handlers", [])
        patched.setattr(ours, "handlers", [])
        yield sys.stderr  # type: ignore[misc]
    ours.setLevel(level)


def context(desk: Desk, function: str = "send-mail") -> Context:
    return Context(executed(desk), msgspec.structs.replace(SPEC, id=function))


def test_a_line_goes_to_stderr_with_its_function(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with new_process(monkeypatch) as stderr:
        for function in ("send-mail", "audit", "send-mail"):
            context(desk, function).logger.info("for %s", "Ada")
        context(desk).logger.debug("nobody wants to know")
    assert stderr.getvalue() == "send-mail: for Ada\naudit: for Ada\nsend-mail: for Ada\n"


def test_an_exception_has_its_traceback(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with new_process(monkeypatch) as stderr:
        try:
            raise ValueError("no")
        except ValueError:
            context(desk).logger.exception("it failed")
    first, second, *_, last = stderr.getvalue().splitlines()
    assert (first, second, last) == ("send-mail: it failed", "Traceback (most recent call last):", "ValueError: no")


@pytest.mark.parametrize("name", ["", "fanout"])
def test_logging_that_the_code_has_set_up_is_left_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    theirs = io.StringIO()
    with new_process(monkeypatch) as stderr:
        logging.getLogger(name).addHandler(logging.StreamHandler(theirs))
        context(desk).logger.warning("%s", "theirs")
        context(desk).logger.info("below the level that they have chosen")
    assert (stderr.getvalue(), theirs.getvalue()) == ("", "theirs\n")
