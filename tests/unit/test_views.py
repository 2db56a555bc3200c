"""What pages and commands share: a run's time to scale, and tracebacks taken apart."""

from __future__ import annotations

from pathlib import Path

from fanout.model import FailedAttempt, Run
from fanout.views import tracebacks, waterfall, words
from fanout.views.tracebacks import Folded, Frame, Said
from tests.unit.filled import NOW, filled, run_id


def retried_run(tmp_path: Path) -> tuple[Run, list[FailedAttempt]]:
    """Queued for a second; a step that fails after one, waits for two and takes one more; then a nap of five."""
    with filled(tmp_path) as journal:
        journal.event(1)
        journal.run(1, "f", 1, queued_at=NOW, started_at=NOW + 1_000, ended_at=NOW + 10_000)
        journal.step(1, "a", attempts=2, started_at=NOW + 1_000, attempted_at=NOW + 4_000, ended_at=NOW + 5_000)
        journal.insert(
            "failure", run=1, step="a", attempt=0, type="E", message="no", traceback="", began_at=NOW + 1_000,
            at=NOW + 2_000,
        )  # fmt: skip
        journal.step(1, "nap", kind="sleep", position=1, started_at=NOW + 5_000, ended_at=NOW + 10_000)
        with journal.reader() as reader:
            return reader.run(run_id(1)), reader.failures(1)


def test_a_waterfall_has_all_of_a_runs_time_as_fractions(tmp_path: Path) -> None:
    run, failures = retried_run(tmp_path)
    chart = waterfall.as_json(run, failures, NOW + 99_000)
    assert (chart["began"], chart["ended"], chart["now"]) == (NOW, NOW + 10_000, NOW + 99_000)
    assert chart["queue"] == {"kind": "queued", "began": NOW, "ended": NOW + 1_000, "left": 0.0, "width": 0.1}
    assert [
        (
            step["name"],
            step["took"],
            [(part["kind"], round(part["left"], 9), round(part["width"], 9)) for part in parts],
        )
        for step in chart["steps"]
        for parts in [step["parts"]]
    ] == [
        ("a", "4.0 s", [("failed", 0.1, 0.1), ("waiting", 0.2, 0.2), ("working", 0.4, 0.1)]),
        ("nap", "5.0 s", [("waiting", 0.5, 0.5)]),
    ]


def test_what_goes_on_goes_on_until_now(tmp_path: Path) -> None:
    with filled(tmp_path) as journal:
        journal.event(1)
        journal.run(1, "f", 1, "running", started_at=NOW)
        journal.step(1, "s", "running", started_at=NOW + 500)
        with journal.reader() as reader:
            run = reader.run(run_id(1))
    chart = waterfall.as_json(run, [], NOW + 1_000)
    assert chart["queue"] is None
    assert chart["steps"][0]["took"] == "500 ms"
    assert chart["steps"][0]["parts"] == [
        {"kind": "working", "began": NOW + 500, "ended": NOW + 1_000, "left": 0.5, "width": 0.5}
    ]


def test_a_traceback_has_the_users_frames_and_counts_others() -> None:
    traceback = """Traceback (most recent call last):
  File "/usr/lib/python3.11/json/decoder.py", line 3, in decode
    return 1
  File "/venv/lib/python3.11/site-packages/library/core.py", line 10, in call
    return fn()
           ^^^^
  File "/home/me/shop/work.py", line 24, in write
    raise OSError("full")
    ^^^^^^^^^^^^^^^^^^^^^
OSError: full
"""
    assert list(tracebacks.blocks(traceback, Path("/home/me/shop"))) == [
        Said("Traceback (most recent call last):"),
        Folded(2, ("json", "library")),
        Frame("", "work.py", 24, "write", ('    raise OSError("full")', "    ^^^^^^^^^^^^^^^^^^^^^")),
        Said("OSError: full"),
    ]
    assert tracebacks.is_marker("    ^^^^^~~~")
    assert not tracebacks.is_marker('    raise OSError("full")')


def test_sizes() -> None:
    assert [words.size(number) for number in (0, 999, 1_000, 4_100_000, 5e15)] == [
        "0 B", "999 B", "1.0 KB", "4.1 MB", "5000.0 TB",
    ]  # fmt: skip
