"""How functions and schedules are listed: whole outputs, on wide and narrow terminals, and as JSON."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from fanout.commands import cron_pages, function_page
from fanout.journal.functions import KnownFunction, RunCounts
from fanout.journal.statistics import FunctionFigures, Percentiles
from fanout.model import (
    ConcurrencyRule,
    CronTrigger,
    EventSchema,
    EventTrigger,
    FlowRules,
    Overlap,
    RunState,
    ThrottleRule,
)
from fanout.views import cron as cron_views
from fanout.views import functions as function_views
from fanout.views.function_words import cron_triggers
from tests.unit.filled import NOW, Filled, filled, run_id
from tests.unit.specs import NIGHTLY, add_tick, known, spec

COUNTS = RunCounts(
    {"sync-crm": {RunState.COMPLETED: 1_200, RunState.FAILED: 3}, "old": {RunState.QUEUED: 2}}, 1_205, is_whole=True
)
SCHEMA = '{"title":"Contact","properties":{"id":{},"note":{}},"required":["id"]}'
FUNCTIONS = [
    known(
        spec(
            "sync-crm",
            triggers=(EventTrigger("app/contact.*", "event.data.is_live"), CronTrigger("*/15 * * * *")),
            retries=2,
            schemas=(EventSchema("app/contact.*", SCHEMA),),
            flow=FlowRules(concurrency=(ConcurrencyRule(5, "event.data.account"),), throttle=ThrottleRule(10, 60_000)),
        ),
        paused_at=NOW,
    ),
    known(spec("ship-order")),
    known(spec("charge", app="billing", triggers=(EventTrigger("app/\x1b[2J"),)), is_stale=True),
    known(spec("old", triggers=(EventTrigger("app/old"),)), is_present=False),
]


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def printed(width: int, draw: Callable[[Console], None]) -> str:
    file = io.StringIO()
    draw(Console(file=file, width=width, highlight=False, markup=False, emoji=False))
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def terminal(width: int, draw: Callable[[Console], None]) -> str:
    file = io.StringIO()
    out = Console(
        file=file, width=width, highlight=False, markup=False, emoji=False, force_terminal=True, color_system=None,
        _environ={},
    )  # fmt: skip
    draw(out)
    return file.getvalue()


FIGURES = {
    "sync-crm": FunctionFigures(
        function="sync-crm", counts={RunState.COMPLETED: 1_200, RunState.FAILED: 3}, took=Percentiles(110, 2_300),
        queued=Percentiles(1, 20), last_at=NOW, last_run=run_id(7), last_state=RunState.FAILED,
    ),
    "old": FunctionFigures(
        function="old", counts={RunState.QUEUED: 2}, took=Percentiles(), queued=Percentiles(), last_at=NOW,
        last_run=run_id(2), last_state=RunState.QUEUED,
    ),
}  # fmt: skip


def test_functions_in_a_pipe() -> None:
    assert printed(80, lambda out: function_page.print_list(out, FUNCTIONS, FIGURES)) == (
        "function                     started by                                                  ru"
        "ns                       last run                p50    p95\n"
        "sync-crm    paused           app/contact.* if event.data.is_live; every 15 minutes, UTC  1,"
        "200 completed, 3 failed  2025-10-09 08:53:20  110 ms  2.3 s\n"
        "ship-order                   invoked only                                                - "
        "                                                   -      -\n"
        "charge      not loaded       app/\\x1b[2J                                                 -"
        "                                                    -      -\n"
        "old         not in the code  app/old                                                     2 "
        "queued                   2025-10-09 08:53:20       -      -\n"
    )


def test_functions_at_80_columns() -> None:
    assert terminal(80, lambda out: function_page.print_list(out, FUNCTIONS, FIGURES)) == (
        "function                     started by           runs         last run      p95\n"
        "sync-crm    paused           app/contact.* if e…  ✓ 1,200 ✗ 3  2025-10-09  2.3 s\n"
        "ship-order                   invoked only         -                            -\n"
        "charge      not loaded       app/\\x1b[2J          -                            -\n"
        "old         not in the code  app/old              · 2          2025-10-09      -\n"
    )


def test_functions_at_40_columns() -> None:
    assert terminal(40, lambda out: function_page.print_list(out, FUNCTIONS, FIGURES)) == (
        "function                     runs\n"
        "sync-crm    paused           ✓ 1,200 ✗ 3\n"
        "ship-order                   -\n"
        "charge      not loaded       -\n"
        "old         not in the code  · 2\n"
    )


def test_one_function_has_all_of_its_settings() -> None:
    shown = terminal(80, lambda out: function_page.print_page(out, FUNCTIONS[0], FIGURES["sync-crm"]))
    assert shown == (
        "function      sync-crm\n"
        "state         paused since 2025-10-09 08:53:20\n"
        "code          def sync-crm in work.py line 7\n"
        "started by    app/contact.* if event.data.is_live\n"
        "              every 15 minutes, UTC\n"
        "event data    app/contact.*: Contact (id, note?)\n"
        "runs          1,200 completed\n"
        "              3 failed\n"
        f"last run      {run_id(7)}  failed  2025-10-09 08:53:20\n"
        "took          110 ms (p50), 2.3 s (p95)\n"
        "queued        1 ms (p50), 20 ms (p95)\n"
        "retries       2\n"
        "backoff       15s, 30s, 1m and on up to 2h\n"
        "settings      concurrency 5 on event.data.account\n"
        "              throttle 10/m\n"
        "catchup       latest\n"
        "overlap       skip\n"
    )


def test_functions_as_json() -> None:
    assert function_views.list_json(function_views.Found(FUNCTIONS[:1], COUNTS, FIGURES)) == {
        "functions": [
            {
                "id": "sync-crm", "name": "sync-crm", "app": "shop", "module": "work", "qualname": "sync-crm",
                "file": "work.py", "line": 7, "is_present": True, "is_loadable": True, "loaded_at": NOW,
                "paused_at": NOW,
                "triggers": [
                    {"event": "app/contact.*", "if": "event.data.is_live"},
                    {"cron": "*/15 * * * *", "timezone": "UTC", "jitter_ms": 0, "words": "every 15 minutes, UTC"},
                ],
                "settings": {
                    "concurrency": ({"limit": 5, "key": "event.data.account", "scope": "fn"},),
                    "throttle": {"limit": 10, "period_ms": 60_000, "burst": 1, "key": None},
                    "retries": 2,
                },
                "event_schemas": [{"event": "app/contact.*", "schema": json.loads(SCHEMA)}],
                "steps": None,
                "runs": {"completed": 1_200, "failed": 3},
                "last_run": {"id": run_id(7), "state": "failed", "queued_at": NOW},
                "took": {"p50": 110, "p95": 2_300},
                "queued": {"p50": 1, "p95": 20},
            }
        ],
        "runs_counted": 1_205,
        "are_all_runs_counted": True,
    }  # fmt: skip


# Schedules.


SCHEDULED = [
    known(spec("nightly-report", triggers=(NIGHTLY, CronTrigger("0 9 * * mon-fri"))), paused_at=NOW),
    known(spec("clean-up", triggers=(EventTrigger("app/go"), CronTrigger("*/15 * * * *", jitter_ms=60_000)))),
    known(spec("no-schedule")),
    known(spec("old", triggers=(CronTrigger("@hourly"),)), is_present=False),
]


@pytest.fixture
def rows(tmp_path: Path) -> list[cron_views.Row]:
    with filled(tmp_path) as journal:
        add_tick(journal, 1, "nightly-report", NIGHTLY, NOW - 30_000_000)
        add_tick(journal, 2, "clean-up", CronTrigger("*/15 * * * *"), NOW - 500_000, "skipped", reason="overlap")
        add_tick(journal, 3, "old", CronTrigger("@hourly"), NOW - 90_000_000, "failed")
        return read(journal, SCHEDULED)


def read(journal: Filled, scheduled: list[KnownFunction]) -> list[cron_views.Row]:
    with journal.reader() as reader:
        return cron_views.rows(reader, scheduled, NOW)


def test_schedules_at_80_columns(rows: list[cron_views.Row]) -> None:
    assert printed(80, lambda out: cron_pages.print_rows(out, rows, NOW)) == (
        "function        schedule                last tick            next tick\n"
        "nightly-report  every day at 02:30,     2025-10-09 00:33:20  2025-10-10 00:30:00\n"
        "paused          Europe/Berlin           ✓ completed          in 15 h 36 m\n"
        "                30 2 * * *              0000000001\n"
        "nightly-report  on weekdays at 09:00,   no tick yet          2025-10-09 09:00:00\n"
        "paused          UTC                                          in 6 m 40 s\n"
        "                0 9 * * mon-fri\n"
        "clean-up        every 15 minutes, up    2025-10-09 08:45:00  2025-10-09 09:00:00\n"
        "                to 1m later, UTC        - skipped            in 6 m 40 s\n"
        "                */15 * * * *            0000000002\n"
        "old             every hour, UTC         2025-10-08 07:53:20  not in the code\n"
        "                @hourly                 ✗ failed\n"
        "                                        0000000003\n"
    )


def test_schedules_at_40_columns(rows: list[cron_views.Row]) -> None:
    assert printed(40, lambda out: cron_pages.print_rows(out, rows, NOW)) == (
        "nightly-report\n"
        "  paused\n"
        "  every day at 02:30, Europe/Berlin\n"
        "  30 2 * * *\n"
        "  last 2025-10-09 00:33:20 ✓ completed\n"
        "  next 2025-10-10 00:30:00 in 15 h 36 m\n"
        "nightly-report\n"
        "  paused\n"
        "  on weekdays at 09:00, UTC\n"
        "  0 9 * * mon-fri\n"
        "  no tick yet\n"
        "  next 2025-10-09 09:00:00 in 6 m 40 s\n"
        "clean-up\n"
        "  every 15 minutes, up to 1m later, UTC\n"
        "  */15 * * * *\n"
        "  last 2025-10-09 08:45:00 - skipped\n"
        "  next 2025-10-09 09:00:00 in 6 m 40 s\n"
        "old\n"
        "  every hour, UTC\n"
        "  @hourly\n"
        "  last 2025-10-08 07:53:20 ✗ failed\n"
        "  not in the code\n"
    )


def test_schedules_as_json(rows: list[cron_views.Row]) -> None:
    assert cron_views.rows_json(rows)[0] == {
        "function": "nightly-report",
        "cron": "30 2 * * *",
        "timezone": "Europe/Berlin",
        "jitter_ms": 0,
        "words": "every day at 02:30, Europe/Berlin",
        "is_present": True,
        "is_loadable": True,
        "paused_at": NOW,
        "last": {"scheduled_at": NOW - 30_000_000, "run": run_id(1), "state": "completed", "reason": None},
        "next_at": 1_760_056_200_000,
    }
    assert [(row["function"], row["next_at"] is None) for row in cron_views.rows_json(rows)] == [
        ("nightly-report", False), ("nightly-report", False), ("clean-up", False), ("old", True),
    ]  # fmt: skip


def test_a_zone_that_this_machine_does_not_know_has_no_next_tick(tmp_path: Path) -> None:
    with filled(tmp_path) as journal:
        [row] = read(journal, [known(spec("f", triggers=(CronTrigger("30 2 * * *", "Atlantis/City"),)))])
    assert row.next_at is None
    assert printed(40, lambda out: cron_pages.print_rows(out, [row], NOW)) == (
        "f\n  30 2 * * *, Atlantis/City\n  30 2 * * *\n  no tick yet\n  unknown here\n"
    )


# The next ticks of one.


def next_of(trigger: CronTrigger, *, is_narrow: bool) -> list[str]:
    made = spec("f", triggers=(trigger,))
    [of] = cron_triggers(made)
    return cron_pages.next_lines(cron_views.upcoming(made, of, NOW, 2), NOW, is_narrow=is_narrow)


def test_next_ticks_on_a_wide_terminal() -> None:
    assert next_of(NIGHTLY, is_narrow=False) == [
        "every day at 02:30, Europe/Berlin  (30 2 * * *)",
        "  Fri 2025-10-10 02:30:00 CEST  2025-10-10 00:30:00 UTC  in 15 h 36 m",
        "  Sat 2025-10-11 02:30:00 CEST  2025-10-11 00:30:00 UTC  in 39 h 36 m",
        "  2025-10-26: the clocks show 02:00 to 03:00 twice, so 02:30 ticks the first time only",
        "  2026-03-29: the clocks skip 02:00 to 03:00, so 02:30 ticks at 03:00",
    ]


def test_next_ticks_on_a_narrow_terminal() -> None:
    assert next_of(NIGHTLY, is_narrow=True) == [
        "every day at 02:30, Europe/Berlin",
        "  30 2 * * *",
        "  Fri 2025-10-10 02:30:00 CEST",
        "      2025-10-10 00:30:00 UTC",
        "  Sat 2025-10-11 02:30:00 CEST",
        "      2025-10-11 00:30:00 UTC",
        "  2025-10-26: the clocks show 02:00 to 03:00 twice, so 02:30 ticks the first time only",
        "  2026-03-29: the clocks skip 02:00 to 03:00, so 02:30 ticks at 03:00",
    ]


def test_next_ticks_in_utc() -> None:
    assert next_of(CronTrigger("@monthly"), is_narrow=False) == [
        "on the 1st of every month at 00:00, UTC  (@monthly)",
        "  Sat 2025-11-01 00:00:00 UTC  in 22 d 15 h",
        "  Mon 2025-12-01 00:00:00 UTC  in 52 d 15 h",
    ]
    assert next_of(CronTrigger("@monthly"), is_narrow=True) == [
        "on the 1st of every month at 00:00, UTC",
        "  @monthly",
        "  Sat 2025-11-01 00:00:00 UTC",
        "  Mon 2025-12-01 00:00:00 UTC",
    ]


def test_next_ticks_as_json() -> None:
    made = spec("f", triggers=(NIGHTLY,))
    assert cron_views.next_json(cron_views.upcoming(made, NIGHTLY, NOW, 1)) == {
        "cron": "30 2 * * *",
        "timezone": "Europe/Berlin",
        "words": "every day at 02:30, Europe/Berlin",
        "ticks": [{"at": 1760056200000, "local": "2025-10-10T02:30:00+02:00", "utc": "2025-10-10T00:30:00+00:00"}],
        "clock_changes": [
            {
                "at": 1761440400000,
                "from": "2025-10-26T02:00:00",
                "to": "2025-10-26T03:00:00",
                "is_gap": False,
                "words": "the clocks show 02:00 to 03:00 twice, so 02:30 ticks the first time only",
            },
            {
                "at": 1774746000000,
                "from": "2026-03-29T02:00:00",
                "to": "2026-03-29T03:00:00",
                "is_gap": True,
                "words": "the clocks skip 02:00 to 03:00, so 02:30 ticks at 03:00",
            },
        ],
    }


def test_overlap_is_a_setting_of_a_schedule() -> None:
    made = known(spec("f", triggers=(CronTrigger("@daily"),), overlap=Overlap.QUEUE))
    shown = terminal(80, lambda out: function_page.print_page(out, made, None))
    assert shown == (
        "function      f\n"
        "code          def f in work.py line 7\n"
        "started by    every day at 00:00, UTC\n"
        "runs          none yet\n"
        "retries       4\n"
        "backoff       15s, 30s, 1m and on up to 2h\n"
        "catchup       latest\n"
        "overlap       queue\n"
    )
