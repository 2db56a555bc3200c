"""Where the clocks change, and what a schedule makes of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fanout.core.cron_edges import MOST_TIMES, edges
from fanout.views.cron import edge_in_words

YEAR = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)


def told(expression: str, zone: str) -> list[str]:
    return [f"{edge.low:%m-%d} {edge_in_words(edge)}" for edge in edges(expression, zone, "f", *YEAR)]


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        (
            "30 2 * * *",
            "Europe/Berlin",
            [
                "03-30 the clocks skip 02:00 to 03:00, so 02:30 ticks at 03:00",
                "10-26 the clocks show 02:00 to 03:00 twice, so 02:30 ticks the first time only",
            ],
        ),
        (
            "15,45 1 * * *",
            "America/New_York",
            ["11-02 the clocks show 01:00 to 02:00 twice, so 01:15 and 01:45 tick the first time only"],
        ),
        (
            "*/30 * * * *",
            "Europe/Berlin",
            [
                "03-30 the clocks skip 02:00 to 03:00, so 02:00 and 02:30 do not tick",
                "10-26 the clocks show 02:00 to 03:00 twice, so 02:00 and 02:30 tick twice",
            ],
        ),
        (
            "0-50/10 2 * * *",
            "Europe/Berlin",
            [
                "03-30 the clocks skip 02:00 to 03:00, so 02:00, 02:10, 02:20, 02:30 and so on tick once, at 03:00",
                (
                    "10-26 the clocks show 02:00 to 03:00 twice, "
                    "so 02:00, 02:10, 02:20, 02:30 and so on tick the first time only"
                ),
            ],
        ),
        (
            "0 * * * *",
            "Australia/Lord_Howe",
            ["10-05 the clocks skip 02:00 to 02:30, so 02:00 does not tick"],
        ),
        ("0 12 * * *", "Europe/Berlin", []),
        ("30 2 * * mon", "Europe/Berlin", []),
        ("30 2 * * *", "UTC", []),
        ("30 2 * * *", "Asia/Kolkata", []),
    ],
)
def test_what_the_changes_of_a_year_do(expression: str, zone: str, words: list[str]) -> None:
    assert told(expression, zone) == words


def test_an_edge_is_where_the_offset_changes_to_the_second() -> None:
    [spring, autumn] = edges("30 2 * * *", "Europe/Berlin", "f", *YEAR)
    assert (spring.instant, spring.is_gap) == (datetime(2025, 3, 30, 1, tzinfo=UTC), True)
    assert (autumn.instant, autumn.is_gap) == (datetime(2025, 10, 26, 1, tzinfo=UTC), False)


def test_only_the_first_times_are_named() -> None:
    [spring, _] = edges("* * * * *", "Europe/Berlin", "f", *YEAR)
    assert len(spring.times) == MOST_TIMES
