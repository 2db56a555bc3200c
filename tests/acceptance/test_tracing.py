"""Traces, as a real collector gets them: a family is one, whichever processes it goes through."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fanout.core import trace_ids
from tests.acceptance.collector import Collector, collecting
from tests.acceptance.conftest import FENCE_S, Project, until

CODE = """
from opentelemetry import trace

TRACER = trace.get_tracer("shop")
SEEN = []

def work(number=1):
    with TRACER.start_as_current_span("query"):
        return number

@fanout.function(trigger=fanout.on("app/order"), retries=0)
def order(ctx: Context):
    with TRACER.start_as_current_span("between"):
        pass
    ctx.step.run("charge", work, 12)
    ctx.step.send_event("tell", {"name": "app/charged", "data": {}})
    return ctx.step.invoke("ship", "ship", {"to": "Ada"})

@fanout.function(trigger=fanout.on("app/order"))
async def notes(ctx: AsyncContext):
    async def slowly():
        with TRACER.start_as_current_span("async query"):
            pass
    await ctx.step.run("in-loop", slowly)
    await ctx.step.run("in-thread", work)

@fanout.function()
def ship(ctx: Context):
    return ctx.step.map("boxes", "box", [1, 2])

@fanout.function()
def box(ctx: Context):
    return 1

@fanout.function(trigger=fanout.on("app/charged"))
def thank(ctx: Context):
    note((ctx.event.user or {}).get("traceparent", "none"))

@fanout.function(trigger=fanout.on("app/flaky"), retries=1)
def flaky(ctx: Context):
    def step():
        marker = HERE / "tried"
        if not marker.exists():
            marker.touch()
            raise ValueError("no password=hunter2")
    ctx.step.run("first", int)
    ctx.step.run("flaky", step)
    if ctx.attempt == 0:
        raise KeyError("between")

def repair(ctx: Context):
    pass

@fanout.function(trigger=fanout.on("app/fails"), retries=0, on_failure=repair)
def fails(ctx: Context):
    def step():
        raise RuntimeError("broken")
    ctx.step.run("done", int)
    ctx.step.run("breaks", step)

@fanout.function(trigger=fanout.on("app/long"))
def long(ctx: Context):
    ctx.step.run("one", work)
    def wait():
        note("waits")
        while not (HERE / "gate").exists():
            time.sleep(0.005)
    ctx.step.run("two", wait)
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture
def traced(project: Project, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in collector.environment.items():
        monkeypatch.setenv(name, value)
    project.write(CODE)
    return project


def sent(project: Project, name: str, **more: Any) -> None:
    text = json.dumps({"name": name, "data": {}, **more})
    done = project.fanout("send", "-", "--json", stdin=text)
    assert done.code in (0, 1), done.err


def test_a_family_is_one_trace_with_each_span_where_it_belongs(traced: Project, collector: Collector) -> None:
    sent(traced, "app/order")
    assert collector.tree() == [
        "app/order",
        "  notes",
        "    attempt 1",
        "      in-loop",
        "        async query",
        "      in-thread",
        "        query",
        "  order",
        "    attempt 1",
        "      between",
        "      charge",
        "        query",
        "      ship",
        "        ship",
        "          attempt 1",
        "            boxes",
        "              box",
        "                attempt 1",
        "              box",
        "                attempt 1",
        "      tell",
        "        app/charged",
        "          thank",
        "            attempt 1",
    ]
    assert len({span.trace for span in collector.spans}) == 1
    assert len({span.id for span in collector.spans}) == len(collector.spans)
    assert {span.service for span in collector.spans} == {"test"}
    (run,) = traced.query("SELECT id FROM run WHERE function = 'order'")
    (event,) = traced.query("SELECT id FROM event WHERE name = 'app/order'")
    order = collector.named("order")
    assert order.attributes == {
        "fanout.function": "order",
        "fanout.run": run[0],
        "fanout.event": "app/order",
        "fanout.event_id": event[0],
        "fanout.state": "completed",
        "fanout.attempts": 1,
    }
    assert (order.kind, collector.named("app/order").kind) == ("SPAN_KIND_CONSUMER", "SPAN_KIND_PRODUCER")
    charge = collector.named("charge")
    assert order.began_at <= charge.began_at <= charge.ended_at <= order.ended_at
    assert charge.attributes["fanout.step"] == "charge"
    assert charge.attributes["fanout.step_kind"] == "run"
    assert traced.notes() == [f"00-{order.trace}-{collector.named('tell').id}-01"]


def test_attempts_and_their_errors(traced: Project, collector: Collector) -> None:
    with (traced.root / "fanout.toml").open("a") as file:
        file.write('[redact]\nkeys = ["password"]\n')
    sent(traced, "app/flaky")
    assert collector.tree() == [
        "app/flaky",
        "  flaky",
        "    attempt 1 (error)",
        "      first",
        "      flaky (error)",
        "      flaky",
        "    attempt 2",
    ]
    run, failed, again = collector.all("flaky")
    assert (run.is_error, run.attributes["fanout.attempts"]) == (False, 2)
    assert (failed.attributes["fanout.attempt"], again.attributes["fanout.attempt"]) == (0, 1)
    assert "hunter2" not in str(failed)
    assert failed.attributes["error.type"] == "ValueError"
    (exception,) = failed.exceptions
    assert exception["exception.type"] == "ValueError"
    assert "in step" in str(exception["exception.stacktrace"])
    assert [each["exception.type"] for each in collector.named("attempt 1").exceptions] == ["KeyError"]


def test_a_failed_run_its_handler_and_its_replay(traced: Project, collector: Collector) -> None:
    sent(traced, "app/fails")
    assert collector.tree() == [
        "app/fails",
        "  fails (error)",
        "    attempt 1 (error)",
        "      breaks (error)",
        "      done",
        "    fails-on-failure",
        "      attempt 1",
    ]
    first = collector.named("fails")
    assert (first.attributes["fanout.state"], first.status) == ("failed", "RuntimeError: broken")
    assert traced.fanout("replay", "--failed").code == 1
    replayed = collector.all("fails")[1]
    assert replayed.links == ((first.trace, first.id),)
    assert (replayed.trace, replayed.above) == (first.trace, first.above)
    assert replayed.attributes["fanout.replay_of"] == first.attributes["fanout.run"]
    # A step that is carried over has not been executed again, and an event is told of once.
    assert len(collector.all("done")) == len(collector.all("app/fails")) == 1
    assert len(collector.all("breaks")) == 2


def test_an_event_brings_its_trace_and_hands_it_on(traced: Project, collector: Collector) -> None:
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    user = {"id": 7, "traceparent": f"00-{trace}-{span}-01", "tracestate": "vendor=value"}
    sent(traced, "app/order", user=user)
    assert {(each.trace, each.state) for each in collector.spans} == {(trace, "vendor=value")}
    assert collector.named("app/order").above == span
    (charged,) = traced.query("SELECT user FROM event WHERE name = 'app/charged'")
    said = json.loads(charged[0])
    assert said == {"traceparent": f"00-{trace}-{collector.named('tell').id}-01", "tracestate": "vendor=value"}
    cloud = {
        "specversion": "1.0",
        "type": "app/charged",
        "source": "/shop",
        "id": "1",
        "traceparent": user["traceparent"],
    }
    assert traced.fanout("send", "-", stdin=json.dumps(cloud)).code == 0
    assert collector.all("app/charged")[1].above == span


def test_what_the_sender_does_not_sample_is_not_exported(traced: Project, collector: Collector) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    sent(traced, "app/order", user={"traceparent": f"00-{trace}-00f067aa0ba902b7-00"})
    assert collector.spans == []
    assert [line[:36] + line[-2:] for line in traced.notes()] == [f"00-{trace}-00"]


def test_a_request_brings_its_trace(traced: Project, collector: Collector) -> None:
    with (traced.root / "fanout.toml").open("a") as file:
        file.write("[web]\nport = 0\n")
    process = traced.start("serve")
    try:
        assert process.stderr is not None
        address = ""
        while not address:
            line = process.stderr.readline()
            assert line, "serve has ended"
            found = re.search(r"http://[^\s/]+:\d+", line)
            address = found.group() if found else ""
        trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
        request = urllib.request.Request(
            f"{address}/e/key", b'{"name": "app/charged", "user": {"traceparent": "nonsense"}}',
            {"Content-Type": "application/json", "traceparent": f"00-{trace}-{span}-01", "tracestate": "a=b"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=FENCE_S) as response:
            assert response.status == 200
        # It is told of while the engine goes on.
        until(lambda: len(collector.spans) == 3, "three spans")
        assert collector.tree() == ["app/charged", "  thank", "    attempt 1"]
        top = collector.named("app/charged")
        assert (top.trace, top.above, top.state) == (trace, span, "a=b")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=FENCE_S)


def test_a_run_that_was_killed_joins_its_trace_when_it_goes_on(traced: Project, collector: Collector) -> None:
    first = traced.start("send", "--name", "app/long")
    until(lambda: traced.notes() == ["waits"], "the second step has begun")
    first.kill()
    first.communicate()
    (traced.root / "gate").touch()
    assert traced.fanout("send", "--name", "app/charged", "--data", "{}").code in (0, 1)
    until(lambda: not traced.query("SELECT 1 FROM run WHERE ended_at IS NULL"), "all is over")
    long = collector.named("long")
    family = [span for span in collector.spans if span.trace == long.trace]
    ids = [span.id for span in family]
    assert len(set(ids)) == len(ids)
    (event,) = traced.query("SELECT id, ts, user FROM event WHERE name = 'app/long'")
    assert long.trace == f"{trace_ids.origin_of(*event).trace:032x}"
    assert {"app/long", "long", "attempt 1", "one", "two"} <= {span.name for span in family}
    # What the first process has exported of its own, if it came to it, is below what the second one tells of.
    assert {span.above for span in family if span.name == "query"} <= {collector.named("one").id}


def test_a_provider_of_the_codes_own_is_left_alone(traced: Project, collector: Collector) -> None:
    traced.write("""
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

class Here(SpanExporter):
    def export(self, spans):
        for span in spans:
            note(f"{span.name} {span.context.trace_id:032x} {span.parent.span_id:016x}")
        return SpanExportResult.SUCCESS

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(Here()))
trace.set_tracer_provider(provider)

@fanout.function(trigger=fanout.on("app/go"))
def mine(ctx: Context):
    def step():
        with trace.get_tracer("x").start_as_current_span("own"):
            pass
    ctx.step.run("step", step)
""")
    sent(traced, "app/go")
    step = collector.named("step")
    assert traced.notes() == [f"own {step.trace} {step.id}"]
    assert collector.all("own") == []


def test_a_collector_that_is_not_there_holds_up_nobody_and_is_said_once(traced: Project, collector: Collector) -> None:
    collector.is_down = True
    with traced.serving() as process:
        for _ in range(2):
            before = collector.requests
            assert traced.fanout("send", "--name", "app/charged", "--json").code == 0
            until(lambda before=before: collector.requests > before, "it was tried")  # type: ignore[misc]
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=FENCE_S)
    assert told.count("warning: traces are not exported: ") == 1


LOADED = """
@fanout.function(trigger=fanout.on("app/modules"))
def modules(ctx: Context):
    import sys
    note(str(sorted({name.partition(".")[0] for name in sys.modules} & {"opentelemetry", "google"})))
    note(str("fanout.worker.tracing" in sys.modules))
    note(str(ctx.event.user))
"""


@pytest.mark.parametrize(
    ("environment", "toml"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, "[otel]\nenabled = false\n"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"}, ""),
    ],
)
def test_nothing_is_imported_or_said_where_it_is_off(
    project: Project, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], toml: str
) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    project.write(LOADED)
    with (project.root / "fanout.toml").open("a") as file:
        file.write(toml)
    sent(project, "app/modules")
    assert project.notes() == ["[]", "False", "None"]


def test_an_engine_never_imports_it(traced: Project, collector: Collector, tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from fanout.config import load
from fanout.engine.local import LocalEngine
with LocalEngine(load(Path("fanout.toml"))) as local:
    local.open(is_development=True)
    local.load()
print(sorted(name for name in sys.modules if name.startswith(("opentelemetry", "google"))))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=traced.root, env=traced.environment(), capture_output=True, text=True,
        check=True, timeout=FENCE_S,
    )  # fmt: skip
    # Its parent packages may be there, from looking whether it is installed; they are empty.
    loaded = {name for name in json.loads(done.stdout.replace("'", '"')) if name.count(".") > 1}
    assert not any(name.startswith(("opentelemetry.sdk.", "opentelemetry.exporter.otlp.proto.http")) for name in loaded)
