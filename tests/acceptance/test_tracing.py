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
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from fanout.core import trace_ids
from tests.acceptance.collector import Collector, collecting
from tests.acceptance.conftest import FENCE_S, Project, until

CODE = """
import threading
from opentelemetry import trace

TRACER = trace.get_tracer("shop")
SEEN = []

def work(number=1):
    with TRACER.start_as_current_span("query"):
        return number

def work_in_thread(number):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return number

@fanout.function(trigger=fanout.on("app/order"), retries=0)
def order(ctx: Context):
    with TRACER.start_as_current_span("between"):
        pass
    ctx.step.run("charge", work_in_thread, 12)
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
        with TRACER.start_as_current_span("login password=hunter2") as span:
            span.set_attribute("db.password", "hunter2")
            span.set_attribute("db.arguments", ["password=hunter2", "x"])
            span.add_event("tried", {"number": 1, "password": "hunter2"})
        marker = HERE / "tried"
        if not marker.exists():
            marker.touch()
            raise ValueError("no password=hunter2")
    ctx.step.run("first", int)
    ctx.step.run("flaky", step)
    if ctx.attempt == 0:
        raise KeyError("between")

@fanout.function(trigger=fanout.on("app/spans"))
def spans(ctx: Context):
    with TRACER.start_as_current_span("own"):
        pass

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


TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = f"00-{TRACE}-{SPAN}-01"
UNSAMPLED = f"00-{TRACE[::-1]}-{SPAN}-00"
EVENTS = (
    {"id": "order", "name": "app/order"},
    {"id": "flaky", "name": "app/flaky"},
    {"id": "fails", "name": "app/fails"},
    {"id": "sent", "name": "app/order", "user": {"id": 7, "traceparent": SENT, "tracestate": "vendor=value"}},
    {"id": "unsampled", "name": "app/order", "user": {"traceparent": UNSAMPLED}},
    {"id": "cloud", "type": "app/charged", "specversion": "1.0", "source": "/shop", "traceparent": SENT},
)


def toml(more: str) -> str:
    return f'[app]\nid = "test"\nfunctions = ["work"]\n[pool]\nprocesses = 2\n[dev]\nretry_delay = 0.05\n{more}'


@contextmanager
def exporting_to(collector: Collector) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patched:
        for name in [name for name in os.environ if name.startswith("OTEL_")]:
            patched.delenv(name)
        for name, value in collector.environment.items():
            patched.setenv(name, value)
        yield patched


class Told(NamedTuple):
    """What one collector was told of what one project did."""

    project: Project
    collector: Collector


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    project = Project(tmp_path_factory.mktemp("told"))
    project.write(CODE, toml=toml('[redact]\nkeys = ["password"]\n'))
    with collecting() as collector, exporting_to(collector):
        done = project.fanout("send", "-", "--json", stdin="\n".join(map(json.dumps, EVENTS)))
        assert done.code == 1, done.err
        yield Told(project, collector)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture
def traced(project: Project, collector: Collector) -> Iterator[Project]:
    project.write(CODE)
    with exporting_to(collector):
        yield project


def test_a_family_is_one_trace_with_each_span_where_it_belongs(told: Told) -> None:
    family = told.collector.family("order")
    assert family.tree() == [
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
    assert len({span.id for span in family.spans}) == len(family.spans)
    assert {span.about["service.name"] for span in family.spans} == {"test"}
    order, charge = family.named("order"), family.named("charge")
    ((run,),) = told.project.query(
        "SELECT run.id FROM run JOIN event ON event.key = run.event WHERE function = 'order' AND event.id = 'order'"
    )
    assert order.attributes == {
        "fanout.function": "order",
        "fanout.run": run,
        "fanout.event": "app/order",
        "fanout.event_id": "order",
        "fanout.state": "completed",
        "fanout.attempts": 1,
    }
    assert (order.kind, family.named("app/order").kind) == ("SPAN_KIND_CONSUMER", "SPAN_KIND_PRODUCER")
    assert order.began_at <= charge.began_at <= charge.ended_at <= order.ended_at
    assert (charge.attributes["fanout.step"], charge.attributes["fanout.step_kind"]) == ("charge", "run")
    assert f"00-{order.trace}-{family.named('tell').id}-01" in told.project.notes()


def test_attempts_and_their_errors_without_what_is_hidden(told: Told) -> None:
    family = told.collector.family("flaky")
    assert family.tree() == [
        "app/flaky",
        "  flaky",
        "    attempt 1 (error)",
        "      first",
        "      flaky (error)",
        "        login password=[redacted]",
        "      flaky",
        "        login password=[redacted]",
        "    attempt 2",
    ]
    run, failed, again = family.all("flaky")
    assert (run.is_error, run.attributes["fanout.attempts"]) == (False, 2)
    assert (failed.attributes["fanout.attempt"], again.attributes["fanout.attempt"]) == (0, 1)
    assert failed.attributes["error.type"] == "ValueError"
    assert failed.status == "ValueError: no password=[redacted]"
    ((_, exception),) = failed.events
    assert exception["exception.type"] == "ValueError"
    assert "in step" in exception["exception.stacktrace"]
    assert [said["exception.type"] for _, said in family.named("attempt 1").events] == ["KeyError"]
    login = family.all("login password=[redacted]")[0]
    assert login.attributes == {"db.password": "[redacted]", "db.arguments": ("password=[redacted]", "x")}
    assert login.events == (("tried", {"number": 1, "password": "[redacted]"}),)
    assert "hunter2" not in str(told.collector.spans)


def test_an_event_brings_its_trace_and_hands_it_on(told: Told) -> None:
    family = told.collector.family("sent")
    assert {each.trace for each in family.spans} == {TRACE}
    top, tell = family.named("app/order"), family.named("tell")
    assert (top.above, top.state) == (SPAN, "vendor=value")
    (charged,) = [each for each in family.all("app/charged") if each.above == tell.id]
    ((user,),) = told.project.query(f"SELECT user FROM event WHERE id = '{charged.about_event}'")
    assert json.loads(user) == {"traceparent": f"00-{TRACE}-{tell.id}-01", "tracestate": "vendor=value"}
    (cloud,) = [each for each in family.all("app/charged") if each.about_event == "cloud"]
    assert (cloud.above, cloud.state) == (SPAN, "")


def test_what_the_sender_does_not_sample_is_not_exported(told: Told) -> None:
    trace = TRACE[::-1]
    assert [span for span in told.collector.spans if span.trace == trace] == []
    assert [line[-2:] for line in told.project.notes() if trace in line] == ["00"]


def test_a_failed_run_its_handler_and_its_replay(told: Told) -> None:
    family = told.collector.family("fails")
    assert family.tree() == [
        "app/fails",
        "  fails (error)",
        "    attempt 1 (error)",
        "      breaks (error)",
        "      done",
        "    fails-on-failure",
        "      attempt 1",
    ]
    first = family.named("fails")
    assert (first.attributes["fanout.state"], first.status) == ("failed", "RuntimeError: broken")
    assert told.project.fanout("replay", "--failed").code == 1
    family = told.collector.family("fails")
    replayed = family.all("fails")[1]
    assert replayed.links == ((first.trace, first.id),)
    assert (replayed.trace, replayed.above) == (first.trace, first.above)
    assert replayed.attributes["fanout.replay_of"] == first.attributes["fanout.run"]
    # A step that is carried over has not been executed again, and an event is told of once.
    assert len(family.all("done")) == len(family.all("app/fails")) == 1
    assert len(family.all("breaks")) == 2


def test_a_request_brings_its_trace(traced: Project, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    traced.write(CODE, toml=toml("[web]\nport = 0\n"))
    process = traced.start("serve")
    try:
        assert process.stderr is not None
        address = ""
        assert process.stderr.readline() == "warning: traces are sent as http/protobuf, not as grpc\n"
        while not address:
            line = process.stderr.readline()
            assert line, "serve has ended"
            found = re.search(r"http://[^\s/]+:\d+", line)
            address = found.group() if found else ""
        request = urllib.request.Request(
            f"{address}/e/key", b'{"name": "app/charged", "user": {"traceparent": "nonsense"}}',
            {"Content-Type": "application/json", "traceparent": SENT, "tracestate": "a=b"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=FENCE_S) as response:
            assert response.status == 200
        # It is told of while the engine goes on.
        until(lambda: len(collector.spans) == 3, "three spans")
        assert collector.tree() == ["app/charged", "  thank", "    attempt 1"]
        top = collector.named("app/charged")
        assert (top.trace, top.above, top.state) == (TRACE, SPAN, "a=b")
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
    assert traced.send("app/go").code == 0
    step = collector.named("step")
    assert traced.notes() == [f"own {step.trace} {step.id}"]
    assert collector.all("own") == []


def test_a_collector_that_refuses_is_said_once(traced: Project, collector: Collector) -> None:
    collector.is_down = True
    with traced.serving() as process:
        for _ in range(2):
            before = collector.requests
            assert traced.fanout("send", "--name", "app/spans", "--json").code == 0
            until(lambda before=before: collector.requests > before, "it was tried")  # type: ignore[misc]
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=FENCE_S)
    assert re.sub("Failed .* 400, .*", "...", told).splitlines() == [
        "warning: traces are not exported: ...",
        "stopped; what was left goes on next time",
    ]


def test_a_collector_that_never_answers_holds_up_nobody_for_long(
    traced: Project, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", f"{10 * FENCE_S}")
    collector.is_open.clear()
    done = traced.fanout("send", "--name", "app/charged", "--json")
    assert (done.code, done.json()["runs"][0]["state"]) == (0, "completed")
    assert done.err == "warning: traces are not exported: there was no answer in time\n"


def test_what_the_environment_says(traced: Project, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "checkout")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    assert traced.send("app/spans").code == 0
    assert sorted(span.name for span in collector.spans) == ["app/spans", "attempt 1", "own", "spans"]
    told = {(span.about["service.name"], span.about["deployment.environment"]) for span in collector.spans}
    assert told == {("checkout", "test")}
    assert {(said["api-key"], said["content-encoding"]) for said in collector.headers} == {("secret", "gzip")}


LOADED = """
@fanout.function(trigger=fanout.on("app/modules"))
def modules(ctx: Context):
    import sys
    note(str(sorted({name.partition(".")[0] for name in sys.modules} & {"opentelemetry", "google"})))
    note(str("fanout.worker.spans" in sys.modules))
    note(str(ctx.event.user))
"""


def test_nothing_is_imported_or_said_where_it_is_off(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    project.write(LOADED, toml=toml("[otel]\nenabled = false\n"))
    assert project.send("app/modules").code == 0
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
