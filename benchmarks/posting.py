"""W14: events over HTTP from 8 connections, one a request, while the engine runs a function for each."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fanout
from benchmarks import engine
from benchmarks.measure import BenchmarkError, Deadline, can_see_processes, figure, percentile, tree_peak_mb
from benchmarks.project.one_step import PAYLOAD_BYTES
from benchmarks.sending import EVENT, follow_to_completion
from benchmarks.settings import Options, Result, settings_of
from fanout.journal.family import Watched

CONNECTIONS = 8
_UNCOUNTED = 4 * CONNECTIONS
_SECONDS = 10
_WARM_UP_S = 1
_BODY = json.dumps({"name": EVENT, "data": {"user": {"id": 7, "email": "ann@example.com"}, "plan": "team"}})
# It writes what it has counted itself: what wrk prints for people is rounded.
_SCRIPT = f"""
wrk.method, wrk.body, wrk.headers["Content-Type"] = "POST", '{_BODY}', "application/json"
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("counted %d %d %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), latency.max, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Posted:
    """What a client has counted: answers, and milliseconds from a request to its answer."""

    answers: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float


Client = Callable[[str, int, Path, Deadline], Posted]


def run(options: Options) -> Result:
    """The client is wrk if it is there; one of our own takes much more of the processors.

    `lag_s` is from the last answer until the last run is over.

    Raises:
        BenchmarkError: a request was refused, or an event that was answered is not in the journal with its run.
    """
    deadline = Deadline.after(options.timeout_s)
    seconds = options.scaled(_SECONDS)
    name, post = ("wrk", _wrk) if shutil.which("wrk") else ("own", _own)
    with (
        engine.project("one_step", options.processes) as place,
        engine.serve(place, deadline, has_web=True) as server,
        fanout.connect(place.config) as client,
    ):
        url = f"{server.url}/e/bench"
        _round(client, deadline, lambda: post(url, _WARM_UP_S, place.root, deadline))
        rounds = [
            _round(client, deadline, lambda: post(url, seconds, place.root, deadline)) for _ in range(options.rounds)
        ]
        memory = {"peak_mb": figure(tree_peak_mb(server.pid))} if can_see_processes() else {}
        settings = settings_of(
            place, client, posted_by=name, connections=CONNECTIONS, seconds=seconds, rounds=options.rounds,
            payload_bytes=PAYLOAD_BYTES,
        )  # fmt: skip
    return Result(
        {
            "events_per_s": figure(*(posted.answers / posted.seconds for posted, _ in rounds)),
            "p50_ms": figure(*(posted.p50_ms for posted, _ in rounds)),
            "p99_ms": figure(*(posted.p99_ms for posted, _ in rounds)),
            "max_ms": figure(*(posted.max_ms for posted, _ in rounds)),
            "lag_s": figure(*(lag_s for _, lag_s in rounds)),
            **memory,
        },
        settings,
    )


def _round(client: fanout.Client, deadline: Deadline, post: Callable[[], Posted]) -> tuple[Posted, float]:
    """What was posted, and how far the engine was behind."""
    [before] = client.send({"name": "bench/before"})
    posted = post()
    began = time.monotonic()
    [after] = client.send({"name": "bench/after"})
    stored = after.key - before.key - 1
    # Each connection may have had a request on its way when the time was over; wrk counts a few less besides.
    if not posted.answers <= stored <= posted.answers + _UNCOUNTED:
        raise BenchmarkError(f"{posted.answers:,} requests were answered, {stored:,} events are in the journal")
    follow_to_completion(client, Watched(first_event=before.key + 1, last_event=after.key - 1), stored, deadline)
    return posted, time.monotonic() - began


def _wrk(url: str, seconds: int, folder: Path, deadline: Deadline) -> Posted:
    script = folder / "post.lua"
    script.write_text(_SCRIPT)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=deadline.remaining_s(), check=False)
    counted = re.search(r"^counted (.*)$", done.stdout, re.MULTILINE)
    if counted is None:
        raise BenchmarkError(f"wrk ended with code {done.returncode}\n{done.stdout}{done.stderr}")
    answers, duration, p50, p99, longest, errors = map(int, counted[1].split())
    if errors:
        raise BenchmarkError(f"{errors:,} requests of {answers:,} have failed")
    return Posted(answers, duration / 1e6, p50 / 1000, p99 / 1000, longest / 1000)


def _own(url: str, seconds: int, _folder: Path, _deadline: Deadline) -> Posted:
    address = re.fullmatch(r"http://(.*):(\d+)(/.*)", url)
    if address is None:
        raise BenchmarkError(f"`{url}` is no address")
    host, port, path = address.groups()
    request = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(_BODY)}\r\n\r\n{_BODY}"
    ).encode()

    async def connection(until: float) -> list[float]:
        reader, writer = await asyncio.open_connection(host, int(port))
        times = []
        while (began := time.perf_counter()) < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            if not head.startswith(b"HTTP/1.1 200") or length is None:
                raise BenchmarkError(f"a request was answered: {head.decode(errors='replace')}")
            await reader.readexactly(int(length[1]))
            times.append((time.perf_counter() - began) * 1000)
        writer.close()
        await writer.wait_closed()
        return times

    async def all_of_them() -> list[list[float]]:
        until = time.perf_counter() + seconds
        return await asyncio.gather(*(connection(until) for _ in range(CONNECTIONS)))

    times = [took_ms for each in asyncio.run(all_of_them()) for took_ms in each]
    return Posted(len(times), seconds, percentile(times, 50), percentile(times, 99), max(times))
