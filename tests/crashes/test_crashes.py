"""A short play, and that its observer sees what is made wrong. `python -m tests.crashes` is the long one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from shutil import copy

import apsw
import pytest

from tests.acceptance.conftest import until
from tests.crashes.chaos import Found, play
from tests.crashes.effects import Effect, Span, most_at_once, spans, without_strays
from tests.crashes.observer import Observer
from tests.crashes.product import Product
from tests.crashes.senders import Answer

SEED = 20261122
SECONDS = 1.5
DEEDS = 4


def complaints(found: Found) -> list[str]:
    return Observer(found.journal, found.effects, found.killed).complaints(found.answers)


def wrong(sql: str) -> Callable[[Found, Path], Found]:
    """The same in a journal in which this was done."""

    def make(found: Found, folder: Path) -> Found:
        path = Path(copy(found.journal, folder))
        connection = apsw.Connection(str(path))
        connection.execute(f"PRAGMA foreign_keys = off; {sql}")
        assert connection.changes(), sql
        connection.close()
        return replace(found, journal=path)

    return make


def executed_again(found: Found, _: Path) -> Found:
    last = max(each for each in found.effects if each.what == "end")
    return replace(found, effects=[*found.effects, last._replace(what="begin", at_ns=last.at_ns + 10**9)])


def gone_back(found: Found, _: Path) -> Found:
    """As if the first step had not been recorded when the second began. Its record is of its second execution."""
    runs = {each.run for each in found.effects if (each.what, each.step) == ("begin", "two")}
    first = next(each for each in found.effects if each.run in runs and (each.what, each.step) == ("begin", "one"))
    second = next(each for each in found.effects if each.run == first.run and each.step == "two")
    effects = [each for each in found.effects if each is not second]
    return replace(found, effects=[second._replace(at_ns=first.at_ns - 1), *effects])


def never_executed(found: Found, _: Path) -> Found:
    gone = next((each.run, each.step) for each in found.effects if each.what == "end")
    return replace(found, effects=[each for each in found.effects if (each.run, each.step) != gone])


def all_at_once(found: Found, _: Path) -> Found:
    """As if each step had begun when the first did."""
    begin = found.effects[0].at_ns
    return replace(
        found, effects=[each._replace(at_ns=begin) if each.what == "begin" else each for each in found.effects]
    )


def lost(found: Found, _: Path) -> Found:
    return replace(found, answers=[*found.answers, Answer(7, "01K")])


ANY = "key = (SELECT max(key) FROM run WHERE function = '{}')"
WRONG: list[tuple[Callable[[Found, Path], Found], str]] = [
    (lost, "event 7 was accepted as `01K`, and is not in the journal"),
    (executed_again, "was executed again after it was recorded"),
    (gone_back, "was executed after what may only follow it"),
    (never_executed, "and was never executed to its end"),
    (all_at_once, "were at work at once"),
    (wrong(f"DELETE FROM run WHERE {ANY.format('plain')}"), "has runs of"),
    (wrong(f"UPDATE run SET function = 'leaf' WHERE {ANY.format('tasks')}"), "has runs of"),
    (wrong(f"UPDATE run SET output = '1000' WHERE {ANY.format('plain')}"), "with 1000 of"),
    (wrong(f"UPDATE run SET state = 'waiting', ended_at = NULL WHERE {ANY.format('pair')}"), "is waiting (None)"),
    (
        wrong(f"UPDATE run SET state = 'failed', reason = 'crashed' WHERE {ANY.format('single')}"),
        "is failed (crashed)",
    ),
    (wrong(f"DELETE FROM run WHERE {ANY.format('child')}"), "has the children"),
    (
        wrong("DELETE FROM event WHERE key = (SELECT max(key) FROM event WHERE name = 'app/please')"),
        "has sent 0 times app/please",
    ),
    (
        wrong(
            "INSERT INTO event (id, is_id_given, name, ts, data, received_at)"
            " SELECT 'Z', 0, name, ts, data, received_at FROM event WHERE name = 'app/go' AND is_id_given = 0 LIMIT 1"
        ),
        "was sent once and stored 2 times",
    ),
]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says whose processes are whose")
def test_all_that_happens_to_the_product_is_survived_and_an_error_would_be_seen(tmp_path: Path) -> None:
    folder = tmp_path / "play"
    folder.mkdir()
    found = play(folder, SEED, SECONDS, least=DEEDS)
    assert found.complaints == []
    assert found.answers
    assert found.deeds.total() >= DEEDS
    for number, (make, word) in enumerate(WRONG):
        place = tmp_path / str(number)
        place.mkdir()
        seen = complaints(make(found, place))
        assert any(word in line for line in seen), (word, seen)


@pytest.mark.skipif(sys.platform != "linux", reason="as above")
def test_the_web_process_of_a_killed_engine_keeps_the_port_from_the_next_only_for_a_while(tmp_path: Path) -> None:
    with closing(Product(tmp_path.resolve(), processes=1, slots=4, park="0")) as product:
        until(product.is_serving, "it serves")
        [web] = product.web()
        product.stop(web)
        product.kill_engine()
        engine = product.engine
        with suppress(subprocess.TimeoutExpired):
            engine.wait(0.8)  # It would have ended by now.
        product.go_on(web)
        until(product.is_serving, "it serves")
        assert product.engine is engine


def test_who_was_at_work_at_once() -> None:
    assert most_at_once([]) == 0
    assert most_at_once([Span(1, 3, "a"), Span(3, 5, "b")]) == 1
    assert most_at_once([Span(1, 4, "a"), Span(3, 5, "b"), Span(3, 4, "b"), Span(4, 6, "c")]) == 2


def test_of_what_did_not_end_nobody_knows_how_long_it_was_at_work() -> None:
    effects = [
        Effect(1, 10, "enter", "a", ""),
        Effect(2, 10, "begin", "a", "x"),
        Effect(3, 11, "begin", "a", "x"),
        Effect(4, 11, "end", "a", "x"),
        Effect(5, 12, "end", "a", "y"),
    ]
    assert spans(effects) == [Span(3, 4, "a")]


def test_what_a_stray_does_after_it_was_stopped_is_left_out() -> None:
    effects = [Effect(at, pid, "begin", "a", "x") for at in (1, 2, 3) for pid in (10, 11)]
    assert without_strays(effects, {11: 2}) == [each for each in effects if each.pid == 10 or each.at_ns < 2]
