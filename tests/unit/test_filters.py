"""Which runs a filter means: what the journal finds against a look at every run, and what options may say."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from fanout.commands.filters import Options
from fanout.errors import UsageError
from fanout.journal import sqlite_filters
from fanout.journal.filters import RunFilter
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import RunState
from fanout.views import words
from fanout.views.filters import moment
from tests.unit.filled import NOW, Filled, filled

EVENTS = ("app/a", "app/b", "other")
FUNCTIONS = ("f", "f2", "g", "app/h")
MESSAGES = ("no", "100% of it", "under_score", "NO WAY", "a\\b")


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """300 runs of all kinds, a millisecond apart, with gaps in their keys; some failed, some are replays."""
    rng = random.Random(7)
    with filled(tmp_path_factory.mktemp("filters")) as made:
        made.execute("BEGIN")
        for key in range(1, 301):
            made.event(key, rng.choice(EVENTS))
            if key % 13 == 0:
                continue
            state = rng.choice([*RunState])
            of = rng.randrange(1, key) if key > 20 and rng.random() < 0.2 else None
            made.run(
                key,
                rng.choice(FUNCTIONS),
                key,
                state,
                queued_at=NOW + key,
                replay_of=None if of in range(13, 400, 13) else of,
            )
            if rng.random() < 0.3:
                made.failure(key, "", rng.choice(["ValueError", "KeyError"]), rng.choice(MESSAGES))
        made.execute("COMMIT")
        yield made


@pytest.fixture
def reader(journal: Filled) -> Iterator[JournalReader]:
    with journal.reader() as found:
        yield found


def any_filter(rng: random.Random) -> RunFilter:
    since, until = sorted(rng.sample(range(NOW, NOW + 302), 2))
    return RunFilter(
        states=frozenset(rng.sample([*RunState], rng.choice([0, 0, 1, 1, 3]))),
        function=rng.choice([None, None, *FUNCTIONS, "f*", "nope", "app/*"]),
        event=rng.choice([None, None, *EVENTS, "app/*", "*", "no"]),
        since=rng.choice([None, since]),
        until=rng.choice([None, until]),
        error=rng.choice([None, None, None, "no", "valueerror: n", "%", "_", "\\", "xyz"]),
        keys=rng.choice([None, None, None, tuple(rng.sample(range(1, 301), 30))]),
    )


def is_meant(meant: RunFilter, row: tuple[int, str, str, str, int, str]) -> bool:
    key, function, event, state, queued_at, said = row
    return (
        meant.has_group(function, event, RunState(state))
        and (meant.since is None or queued_at >= meant.since)
        and (meant.until is None or queued_at < meant.until)
        and (meant.error is None or meant.error.lower() in said.lower())
        and (meant.keys is None or key in meant.keys)
    )


def every_run(reader: JournalReader) -> list[tuple[int, str, str, str, int, str]]:
    return reader._all(
        """SELECT key, function, event_name, state, queued_at, coalesce(type || ': ' || message, '') FROM run
           LEFT JOIN failure ON failure.run = run.key ORDER BY key DESC"""
    )


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("most_groups", [2_000, 3], ids=["by group", "in one look"])
def test_what_is_found_is_what_is_meant(
    reader: JournalReader, monkeypatch: pytest.MonkeyPatch, seed: int, most_groups: int
) -> None:
    monkeypatch.setattr(sqlite_filters, "_MOST_GROUPS", most_groups)
    rng = random.Random(seed)
    rows = every_run(reader)
    replayed = {
        of
        for (of,) in reader._all(
            "SELECT replay_of FROM run WHERE replay_of > 0 AND state NOT IN ('cancelled', 'skipped')"
        )
    }
    for _ in range(20):
        meant, limit = any_filter(rng), rng.choice([1, 5, 1_000])
        expected = [row for row in rows if is_meant(meant, row)]
        assert [run.key for run in reader.runs(meant, limit=limit)] == [row[0] for row in expected][:limit]
        ended = [row[0] for row in reversed(expected) if RunState(row[3]).is_final]
        assert reader.to_replay(meant, again=True, limit=limit) == ended[:limit]
        assert reader.to_replay(meant, again=False) == [key for key in ended if key not in replayed]
        anyhow = meant._replace(states=frozenset())
        live = [row[0] for row in reversed(rows) if is_meant(anyhow, row) and not RunState(row[3]).is_final]
        assert reader.live_keys(meant) == live


def test_a_time_is_so_long_ago_or_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    monkeypatch.setattr(words, "now", lambda: NOW)
    assert moment("--since", None) is None
    assert moment("--since", "1h30m") == NOW - 5_400_000
    assert moment("--since", "2025-10-09T10:53:20") == NOW
    assert moment("--since", "2025-10-09T08:53:20Z") == NOW
    assert moment("--since", "2025-10-09") == 1_759_960_800_000
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("said", ["", "yesterday", "-1h", "2025-13-01", "25:00"])
def test_what_is_no_time(said: str) -> None:
    with pytest.raises(UsageError) as raised:
        moment("--until", said)
    assert raised.value.message == f"`--until {said}` is no time"


def test_failed_is_a_state_like_others() -> None:
    assert Options([RunState.SKIPPED], is_failed=True).as_filter().states == {RunState.SKIPPED, RunState.FAILED}
    assert Options().as_filter() == RunFilter()
