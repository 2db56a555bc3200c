"""What `/metrics` and `/health` say of a journal whose runs are known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fanout import __version__
from fanout.config import Config
from fanout.engine.lock import EngineLock
from fanout.model import CronTrigger, FunctionSpec
from fanout.views import words
from tests.unit.filled import Filled
from tests.web.conftest import client_of, config_in

if TYPE_CHECKING:
    from starlette.testclient import TestClient

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]
ODD = 'say "hi"\\\n'


@pytest.fixture
def journal(config: Config) -> Iterator[Filled]:
    config.journal.parent.mkdir()
    filled = Filled(config.journal)
    yield filled
    filled.close()


def values_of(client: TestClient) -> Values:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(response.text))
    assert all(family.name.startswith("fanout_") and family.documentation for family in families)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(values: Values, name: str, **labels: str) -> float | None:
    return values.get((name, frozenset(labels.items())))


def test_without_a_journal_it_says_what_it_can(browser: TestClient) -> None:
    values = values_of(browser)
    assert value(values, "fanout_build_info", version=__version__) == 1
    assert value(values, "fanout_engine_up") == 0
    assert value(values, "fanout_journal_bytes") == 0
    assert not any(name == "fanout_runs" for name, _ in values)


def test_runs_are_counted_by_function_and_state(journal: Filled, browser: TestClient) -> None:
    journal.event(1)
    states = ["completed"] * 3 + ["failed", "cancelled", "skipped", "running", "waiting", "queued", "queued"]
    now = words.now()
    for key, state in enumerate(states, 1):
        is_live = state in ("running", "waiting", "queued")
        journal.run(
            key, f"f{key % 2}" if state == "completed" else ODD, 1, state,
            queued_at=now - 60_000, started_at=None if state == "queued" else now - 60_000,
            ended_at=None if is_live else now, due_at=now + 60_000 if state == "waiting" else None,
            replay_of=None if key < 2 else 1,
        )  # fmt: skip
    values = values_of(browser)
    assert {labels: number for (name, labels), number in values.items() if name == "fanout_runs"} == {
        frozenset({("function", function), ("state", state)}): number
        for function, state, number in (
            ("f1", "completed", 2), ("f0", "completed", 1), (ODD, "failed", 1), (ODD, "cancelled", 1),
            (ODD, "skipped", 1), (ODD, "running", 1), (ODD, "waiting", 1), (ODD, "queued", 2),
        )
    }  # fmt: skip
    assert value(values, "fanout_runs_made_total") == len(states)
    assert value(values, "fanout_events_received_total") == 1
    assert value(values, "fanout_queue_depth", function=ODD) == 2
    age = value(values, "fanout_queue_oldest_age_seconds", function=ODD)
    assert age is not None
    assert 60 <= age < 600


def test_what_is_recent(journal: Filled, browser: TestClient) -> None:
    now = words.now()
    journal.event(1)
    journal.run(1, "old", 1, queued_at=now - 3_600_000, started_at=now - 3_600_000, ended_at=now - 3_600_000)
    journal.step(1, "long-ago", started_at=now - 3_600_000, ended_at=now - 3_500_000)
    journal.event(2)
    journal.run(2, "f", 2, "failed", queued_at=now - 60_000, started_at=now - 60_000, ended_at=now, crashes=2)
    for name, took in (("a", 3), ("b", 80), ("c", 40_000)):
        journal.step(2, name, started_at=now - 60_000, ended_at=now - 60_000 + took)
    journal.step(2, "nap", kind="sleep", started_at=now - 60_000, ended_at=now)
    journal.step(2, "d", "failed", attempts=3, started_at=now - 50_000, ended_at=now - 49_000)
    for attempt in range(3):
        journal.insert(
            "failure", run=2, step="d", attempt=attempt, type="OSError", message="full", traceback="", at=now - 50_000
        )
    journal.failure(2, "", "StepError", "step `d` failed")
    values = values_of(browser)
    name = "fanout_recent_step_duration_seconds"
    buckets = {
        float(dict(labels)["le"]): number for (sample, labels), number in values.items() if sample == f"{name}_bucket"
    }
    assert {limit: buckets[limit] for limit in (0.005, 0.05, 0.1, 1.0, 30.0, 60.0, math.inf)} == {
        0.005: 1, 0.05: 1, 0.1: 2, 1.0: 3, 30.0: 3, 60.0: 4, math.inf: 4,
    }  # fmt: skip
    assert value(values, f"{name}_gsum", function="f") == pytest.approx(41.083)
    assert value(values, "fanout_recent_failed_attempts", function="f") == 3
    assert value(values, "fanout_recent_retries", function="f") == 2
    assert value(values, "fanout_recent_crashes", function="f") == 2
    assert not any(("function", "old") in labels for sample, labels in values if sample.startswith("fanout_recent"))


def test_ticks_of_schedules(journal: Filled, browser: TestClient) -> None:
    now = words.now()
    spec = FunctionSpec(
        id="nightly", name="nightly", module="work", qualname="nightly", file="work.py", line=1, is_async=False,
        triggers=(CronTrigger("* * * * *"),),
    )  # fmt: skip
    journal.insert("function", id="nightly", spec=msgspec.json.encode(spec).decode(), is_present=1, loaded_at=now)
    for key, late in ((1, 500), (2, 2_500)):
        at = now - key * 60_000
        journal.event(key)
        journal.run(key, "nightly", key, queued_at=at, started_at=at + late, ended_at=at + late)
        journal.insert("tick", function="nightly", scheduled_at=at, run=key)
    values = values_of(browser)
    assert value(values, "fanout_recent_cron_lateness_seconds", quantile="0.5") == 0.5
    assert value(values, "fanout_recent_cron_lateness_seconds", quantile="0.95") == 2.5
    assert value(values, "fanout_cron_last_tick_timestamp_seconds") == (now - 60_000) / 1000


def test_of_many_functions_the_rest_are_told_as_one(journal: Filled, browser: TestClient) -> None:
    journal.event(1)
    for key in range(1, 604):
        journal.run(key, f"f{key}", 1)
    values = values_of(browser)
    functions = {dict(labels)["function"]: number for (name, labels), number in values.items() if name == "fanout_runs"}
    assert len(functions) == 501
    assert functions["(others)"] == 103


def test_an_engine_is_seen_and_files_have_sizes(journal: Filled, browser: TestClient, config: Config) -> None:
    journal.event(1)
    assert browser.get("/health").json() == {"status": "ok", "engine": False, "journal": True, "problem": None}
    lock = EngineLock(config.journal)
    try:
        values = values_of(browser)
        assert browser.get("/health").json() == {"status": "ok", "engine": True, "journal": True, "problem": None}
    finally:
        lock.release()
    assert value(values, "fanout_engine_up") == 1
    assert value(values, "fanout_journal_bytes") == config.journal.stat().st_size


def test_a_journal_that_can_not_be_read_is_no_health(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    config.journal.parent.mkdir()
    config.journal.write_bytes(b"this is no journal" * 1_000)
    with client_of(config) as client:
        assert client.get("/health").json() == {
            "status": "failing", "engine": False, "journal": False, "problem": "it is not a fanout journal",
        }  # fmt: skip
        assert client.get("/health").status_code == 503
        assert client.get("/metrics").status_code == 503
