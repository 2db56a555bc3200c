"""Pausing and resuming: of several requests that come together, the last one counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from fanout.engine.limits import Limits
from fanout.engine.requests import Requests
from fanout.engine.tick import Tick
from fanout.journal.rows import OpenRequest
from fanout.journal.sqlite import SqliteJournal

NOW = 1_760_000_000_000


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    with closing(SqliteJournal(tmp_path / "journal.db")) as opened:
        yield opened


def after(journal: SqliteJournal, *kinds: str) -> tuple[list[str], set[str], list[str]]:
    """What the journal has as paused; what the engine has; what it lets go on after the commit."""
    limits = Limits(journal, has_slot=lambda _app: True)
    requests = Requests(journal, cast(Any, None), limits, cast(Any, None))
    tick = Tick()
    for kind in kinds:
        key = journal.append_request(kind, {"functions": ["a", "b"]}, NOW)
        requests.answer(tick, OpenRequest(key, kind, {"functions": ["a", "b"]}), NOW)
    journal.commit(tick.writes)
    return sorted(journal.paused()), limits.paused, tick.unpaused


@pytest.mark.parametrize("kinds", [["pause"], ["resume", "pause"], ["pause", "resume", "pause"], ["pause", "pause"]])
def test_paused_at_the_end(journal: SqliteJournal, kinds: list[str]) -> None:
    assert after(journal, *kinds) == (["a", "b"], {"a", "b"}, [])
    assert after(journal, *kinds) == (["a", "b"], {"a", "b"}, [])


@pytest.mark.parametrize("kinds", [["resume"], ["pause", "resume"], ["resume", "pause", "resume"]])
def test_not_paused_at_the_end(journal: SqliteJournal, kinds: list[str]) -> None:
    after(journal, "pause")
    paused, _, unpaused = after(journal, *kinds)
    assert (paused, sorted(set(unpaused))) == ([], ["a", "b"])
