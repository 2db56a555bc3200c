"""The fuzz targets in the normal run: their seeds, and what Hypothesis makes that looks like the real thing.

`python -m tests.fuzz NAME --seconds N` hunts for longer.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import NAMES

quick = settings(max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck))
few = settings(quick, max_examples=25)

_texts = st.text(max_size=12)
_numbers = st.integers() | st.floats() | st.integers(-3, 3)
_values = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)


def target(name: str) -> Any:
    return import_module(f"tests.fuzz.targets.{name}")


@pytest.mark.parametrize("name", NAMES)
def test_seeds(name: str) -> None:
    seeds = target(name).SEEDS
    for seed in seeds:
        target(name).check(seed)
    assert len(seeds) > 5


_fields = st.sampled_from(
    ["name", "data", "id", "ts", "user", "v", "type", "specversion", "source", "time", "data_base64", "x"]
)
_events = st.fixed_dictionaries({"name": st.just("a/b") | _texts}, optional={"data": st.dictionaries(_texts, _values)}) | st.dictionaries(
    _fields, _values | st.sampled_from(["1.0", "a", "2026-01-01T00:00:00Z", 1_700_000_000_000]), max_size=8
)  # fmt: skip


@quick
@given(
    st.lists(_events, max_size=4), st.sampled_from(["list", "lines", "one"]), st.integers(0, 200), st.binary(max_size=2)
)
def test_events(events: list[dict[str, Any]], form: str, place: int, garbage: bytes) -> None:
    parts = [json.dumps(event) for event in events]
    text = "\n".join(parts) if form == "lines" else f"[{','.join(parts)}]" if form == "list" else "".join(parts[:1])
    check = target("events").check
    check(text.encode())
    check(text.encode()[:place] + garbage + text.encode()[place:])


_keys = {
    "app": ("id", "functions", "path", "python"), "pool": ("processes", "slots", "park"), "dev": ("retry_delay",),
    "journal": ("path", "keep_completed", "keep_failed"), "web": ("host", "port"), "redact": ("keys",), "other": ("x",),
}  # fmt: skip
_settings = (
    st.integers() | st.floats() | _texts | st.booleans() | st.lists(_texts, max_size=2)
    | st.sampled_from(["7d", "never", "9" * 30 + "d", "1e400", "1h", ["work"], 0, 2**63, 9e300])
)  # fmt: skip


@quick
@given(
    st.lists(
        st.tuples(st.sampled_from([(table, key) for table, keys in _keys.items() for key in keys]), _settings),
        max_size=6,
    )
)
def test_config(chosen: list[tuple[tuple[str, str], Any]]) -> None:
    toml: dict[str, Any] = {"app": {"id": "a", "functions": ["work"]}}
    for (table, key), value in chosen:
        toml.setdefault(table, {})[key] = value
    target("config").check(tomli_w.dumps(toml).encode("utf-8", "replace"))


_atoms = st.sampled_from([
    "event.data.n", "event.data.s", "event.name", "async.data.n", "event.nope.x", "1", "1.5", "1u", '"x"', "null", "true", "[1, 'a']",
    "{'a': 1}", "duration('1h')", "timestamp(event.data.s)", "b'\\xff'", "9223372036854775807", "x",
])  # fmt: skip
_expressions = st.recursive(
    _atoms,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["==", "<", "+", "/", "%", "&&", "||", "in"]), inner).map(lambda of: f"({of[0]} {of[1]} {of[2]})"),
        st.tuples(st.sampled_from(["!", "-", "size", "int", "double", "string", "has", "type"]), inner).map(lambda of: f"{of[0]}({of[1]})"),
        st.tuples(inner, st.sampled_from(["exists", "all", "map", "filter"]), inner).map(lambda of: f"{of[0]}.{of[1]}(x, {of[2]})"),
        st.tuples(inner, inner).map(lambda of: f"{of[0]}[{of[1]}]"),
    ),
    max_leaves=6,
)  # fmt: skip


@quick
@given(_expressions, st.dictionaries(st.sampled_from(["n", "s", "tags"]), _values))
def test_cel(expression: str, data: dict[str, Any]) -> None:
    target("cel").check(f"{expression}\n{json.dumps(data)}".encode())


_places = st.sampled_from(
    [
        "*",
        "*/5",
        "1",
        "1-3",
        "1,2",
        "H",
        "H/3",
        "L",
        "59",
        "0",
        "MON-FRI",
        "5#2",
        "3L",
        "15W",
        "JAN",
        "5-1",
        "*/61",
        "R",
    ]
)


@quick
@given(
    st.lists(_places, min_size=4, max_size=7),
    st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia", "Nowhere/X", ""]),
    st.integers(0, 4 * 10**9),
)
def test_cron(places: list[str], zone: str, at: int) -> None:
    target("cron").check(f"{' '.join(places)}\n{zone}\n{at}".encode())


@quick
@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**9) | st.floats(0, 1e300),
            st.sampled_from(["w", "d", "h", "m", "s", "ms", "", "/", "/s", "x"]),
        ),
        max_size=4,
    )
)
def test_durations(parts: list[tuple[float, str]]) -> None:
    target("durations").check("".join(f"{number}{unit}" for number, unit in parts).encode())


@quick
@given(st.lists(st.sampled_from(range(9)), max_size=6), st.integers(0, 300), st.binary(max_size=4))
def test_frames(chosen: list[int], place: int, garbage: bytes) -> None:
    stream = b"".join(target("frames").SEEDS[number % len(target("frames").SEEDS)] for number in chosen)
    target("frames").check(stream[:place] + garbage + stream[place + len(garbage) :])


@quick
@given(st.lists(st.lists(_values, max_size=8).map(json.dumps) | _texts, max_size=5), st.binary(max_size=3))
def test_printed(lines: list[str], garbage: bytes) -> None:
    target("printed").check("\n".join(lines).encode("utf-8", "replace") + garbage + b"\n")


@settings(quick, max_examples=150)
@given(st.binary(min_size=20, max_size=300))
def test_worker(data: bytes) -> None:
    target("worker").check(data)


@few
@given(
    st.integers(0, 21),
    st.lists(st.tuples(st.integers(0, 54), st.integers(0, 255), st.integers(0, 255), st.integers(1, 255)), max_size=12),
)
def test_journal(reader: int, changes: list[tuple[int, int, int, int]]) -> None:
    target("journal").check(bytes([reader, *(part for change in changes for part in change)]))


_queries = st.sampled_from(
    [
        "",
        "?limit=99999999999999999999",
        "?since=1e309d",
        "?before=%00",
        "?status=%FF",
        "?x[]=1",
        "?function=" + "a" * 3000,
    ]
)


@few
@given(
    st.integers(0, 60),
    _queries,
    st.sampled_from([b"", b"accept: text/html\r\n", b"origin: http://evil\r\n", b"range: bytes=0-\r\n"]),
)
def test_http(number: int, query: str, header: bytes) -> None:
    seeds = target("http").SEEDS
    first, _, rest = seeds[number % len(seeds)].partition(b"\r\n")
    target("http").check(first.replace(b" HTTP", query.encode() + b" HTTP") + b"\r\n" + header + rest)


def test_a_hunt_begins_or_says_what_is_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "durations", "--seconds", "1", "--again", "/dev/null"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
