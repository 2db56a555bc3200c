"""The process that exports traces: told twice it tells the same, and nothing that befalls it befalls the engine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from fanout.engine.tracer import MOST_STARTS, Tracer
from fanout.journal.writes import Writes
from tests.acceptance.collector import Collector, Span, collecting
from tests.acceptance.conftest import Project, is_alive, until

CODE = """
@fanout.function(trigger=fanout.on("app/fails"), retries=0)
def fails(ctx: Context):
    def step():
        raise RuntimeError("no password=hunter2")
    ctx.step.run("done", int)
    ctx.step.run("breaks", step)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """With one run in its journal."""
    made = Project(tmp_path_factory.mktemp("traced"))
    made.write(CODE)
    assert made.send("app/fails").code == 1
    return made


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def tracer(project: Project, collector: Collector, said: list[str]) -> Iterator[Tracer]:
    made = Tracer(project.root / "fanout.toml", said.append)
    yield made
    made.close()


def tell(tracer: Tracer, times: int = 1) -> None:
    writes = Writes()
    writes.skipped = [("", 0, 1)] * times
    tracer.committed(writes)


def arrived(collector: Collector, count: int) -> list[Span]:
    until(lambda: len(collector.spans) >= count, f"{count} spans")
    return collector.spans[count - 5 : count]


def test_what_is_told_again_is_the_same(tracer: Tracer, collector: Collector) -> None:
    tell(tracer)
    first = arrived(collector, 5)
    assert sorted(span.name for span in first) == ["app/fails", "attempt 1", "breaks", "done", "fails"]
    tell(tracer)
    assert arrived(collector, 10) == first


def test_new_keys_to_redact_take_effect_at_once(tracer: Tracer, collector: Collector, project: Project) -> None:
    tell(tracer)
    assert "hunter2" in str(arrived(collector, 5))
    settings = project.root / "fanout.toml"
    before = settings.read_text()
    settings.write_text(before + '[redact]\nkeys = ["password"]\n')
    tracer.have_new_settings()
    tell(tracer)
    assert "hunter2" not in str(arrived(collector, 10))
    settings.write_text("what is no TOML is left alone")
    tracer.have_new_settings()
    tell(tracer)
    assert "hunter2" not in str(arrived(collector, 15))
    settings.write_text(before)


def test_what_ends_a_service_ends_it_only_with_the_engine(tracer: Tracer, collector: Collector) -> None:
    tell(tracer)
    arrived(collector, 5)
    pid = tracer.pid
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    tell(tracer)
    tracer.close()
    assert len(collector.spans) == 10


def test_one_that_was_killed_is_replaced_but_not_for_ever(
    tracer: Tracer, collector: Collector, said: list[str]
) -> None:
    for time in range(MOST_STARTS):
        tell(tracer)
        arrived(collector, 5 * (time + 1))
        pid = tracer.pid
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        tell(tracer)
    tell(tracer, 3)
    assert not is_alive(tracer.pid)
    tracer.close()
    assert said == [f"warning: {MOST_STARTS + 3} runs are in no trace: its process could not be told"]
