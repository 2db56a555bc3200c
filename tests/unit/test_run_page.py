"""One run as `fanout runs show` prints it: whole outputs, piped and on terminals of several sizes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fanout.commands import run_page, text
from fanout.views import run
from tests.unit.filled import NOW, Filled, filled, run_id

ROWS = [{"id": number, "name": f"name {number}"} for number in range(9)]


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Filled]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    with filled(tmp_path) as made:
        made.event(1, data='{"user":7}')
        yield made
    monkeypatch.undo()
    time.tzset()


class Shown:
    """Prints a run to where tests can read it, as if that were a terminal or not."""

    def __init__(self, journal: Filled, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._journal = journal
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *, terminal: tuple[int, int] | None = None) -> tuple[str, str]:
        columns, lines = terminal or (80, 24)
        for name, value in (("COLUMNS", columns), ("LINES", lines), ("FORCE_COLOR", int(terminal is not None))):
            self._monkeypatch.setenv(name, str(value) if value else "")
        with self._journal.reader() as reader:
            run_page.print_page(run.read(reader, reader.run(run_id(1))))
        shown = self._capsys.readouterr()
        out = re.sub(r"\x1b\[[0-9;]*m", "", shown.out)
        return "".join(f"{line.rstrip()}\n" for line in out.splitlines()), shown.err


@pytest.fixture
def shown(journal: Filled, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shown:
    return Shown(journal, monkeypatch, capsys)


def json(value: object) -> str:
    return msgspec.json.encode(value).decode()


HEAD = (
    "run      01R00000000000000000000001\n"
    "function report\n"
    "state    ✓ completed\n"
    "event    app/go  01E00000000000000000000001\n"
    'data     {"user":7}\n'
    "queued   2025-10-09 08:53:20\n"
    "began    2025-10-09 08:53:20, took 8 ms\n"
)


def test_what_fits_is_on_one_line_wherever_it_is_printed(journal: Filled, shown: Shown) -> None:
    journal.run(1, "report", 1, output='{"rows":3}')
    journal.step(1, "count", output="3")
    head = f'{HEAD}output   {{"rows":3}}\n'
    page = (
        f"{head}"
        "steps       0               4 ms                9 ms\n"
        "    queued  ░░░░                                          1 ms\n"
        "  ✓ count            █████████████                        3 ms  3\n"
    )
    assert shown() == (page, "")
    assert shown(terminal=(80, 24)) == (page, "")
    narrow = (
        "steps       0           9 ms\n"
        "    queued  ░░                    1 ms\n"
        "  ✓ count       █████             3 ms  3\n"
    )
    assert shown(terminal=(46, 24)) == (head + narrow, "")
    assert shown(terminal=(36, 24)) == (f"{head}steps\n  ✓ count       3 ms  3\n", "")


def test_long_values_are_whole_where_there_is_no_terminal(journal: Filled, shown: Shown) -> None:
    journal.run(1, "report", 1, output=json(ROWS))
    journal.step(1, "read", output=json(ROWS))
    page = (
        f"{HEAD}output   {json(ROWS)}\n"
        "steps       0               4 ms                9 ms\n"
        "    queued  ░░░░                                          1 ms\n"
        f"  ✓ read             █████████████                        3 ms  {json(ROWS)}\n"
    )
    assert shown() == (page, "")


def test_on_a_terminal_they_are_laid_out_as_far_as_its_height_goes(journal: Filled, shown: Shown) -> None:
    journal.run(1, "report", 1, output=json(ROWS))
    journal.step(1, "read", output=json(ROWS))
    out, err = shown(terminal=(80, 20))
    assert out == (
        f"{HEAD}"
        "output   [\n"
        "           {\n"
        '             "id": 0,\n'
        '             "name": "name 0"\n'
        "           },\n"
        "           {\n"
        "         …\n"
        "steps       0               4 ms                9 ms\n"
        "    queued  ░░░░                                          1 ms\n"
        "  ✓ read             █████████████                        3 ms\n"
        '    [{"id":0,"name":"name 0"},{"id":1,"name":"name 1"},{"id":2,"name":"name 2"}…\n'
    )
    assert err == "hint: `fanout runs show 0000000001 --json` has all of it\n"
    assert len((out + err).splitlines()) == 19
    high, err = shown(terminal=(80, 60))
    assert high.count('"name": "name') == 9
    assert "         …\n" not in high
    assert err == "hint: `fanout runs show 0000000001 --json` has all of it\n"  # of the step's


def test_on_a_narrow_terminal_long_texts_are_wrapped(journal: Filled, shown: Shown) -> None:
    journal.run(1, "report", 1, output=json({"text": "lorem ipsum dolor " * 3 + "x" * 40}))
    out, err = shown(terminal=(40, 24))
    assert err == ""
    assert out == (
        f"{HEAD}"
        "output   {\n"
        '           "text": "lorem ipsum dolor\n'
        "         lorem ipsum dolor lorem ipsum\n"
        "         dolor\n"
        "         xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"
        '         xxxxxxxxx"\n'
        "         }\n"
    )


def test_two_long_values_share_the_room(journal: Filled, shown: Shown) -> None:
    journal.execute("UPDATE event SET data = ?", json({"rows": ROWS}))
    journal.run(1, "report", 1, output=json(ROWS))
    out, _ = shown(terminal=(80, 30))
    assert len(out.splitlines()) <= 28
    assert out.count("         …\n") == 2


def test_values_of_megabytes_cost_no_more_than_is_shown(journal: Filled, shown: Shown) -> None:
    journal.run(1, "report", 1, output=json("x" * 5_000_000))
    began = time.process_time()
    out, _ = shown(terminal=(80, 24))
    assert len(out) < 2_000
    assert time.process_time() - began < 1


def test_what_waits_says_what_would_end_it(journal: Filled, shown: Shown) -> None:
    journal.run(1, "report", 1, "waiting", parent=2, parent_step="reports", item=4, item_key="ada\x1b")
    journal.run(2, "reports", 1, "waiting")
    journal.insert("wait", run=1, step="", number=0, event="app/stop", path="data.user", value="7", expires_at=NOW)
    journal.insert("wait", run=1, step="", number=1, event="app/halt", path="", value="")
    out, err = shown()
    assert err == ""
    assert re.sub("took .*", "took a while", out) == (
        "run        01R00000000000000000000001\n"
        "function   report\n"
        "state      ↻ waiting\n"
        "           would be cancelled by the event `app/stop` with data.user = 7, until 2025-10-09 08:53:20\n"
        "           would be cancelled by the event `app/halt`\n"
        "event      app/go  01E00000000000000000000001\n"
        "invoked by 01R00000000000000000000002, step `reports`, item 4 `ada\\x1b`\n"
        'data       {"user":7}\n'
        "queued     2025-10-09 08:53:20\n"
        "began      2025-10-09 08:53:20, took a while\n"
    )


def test_a_failure_is_told_where_it_came_from_and_once(journal: Filled, shown: Shown) -> None:
    journal.run(1, "report", 1, "failed")
    journal.step(1, "mails", "failed", "map")
    journal.failure(1, "mails", "StepError", "item 2: step `send` failed: SMTPError: no")
    journal.failure(1, "", "InvokeError", "step `mails` failed: SMTPError: item 2: no")
    out, _ = shown()
    assert out.splitlines()[-4:] == [
        "  ✗ mails            ─────────────                        3 ms",
        "            ─ waiting",
        "",
        "2025-10-09 08:53:20  step `mails`, attempt 1: SMTPError: item 2: no",
    ]


def test_attempts_are_told_where_the_code_between_steps_had_more_than_one(journal: Filled, shown: Shown) -> None:
    journal.run(1, "report", 1, attempt=1)
    assert shown() == (f"{HEAD}attempts 2 of 5, of the code between steps\noutput   1\n", "")


def test_a_run_is_drawn_to_scale_and_libraries_are_folded(journal: Filled, shown: Shown) -> None:
    traceback = (
        "Traceback (most recent call last):\n"
        '  File "/app/work.py", line 3, in f\n    get()\n'
        '  File "/usr/lib/python3.11/site-packages/httpx/_api.py", line 1, in get\n    x()\n    ^^^\n'
        '  File "/usr/lib/python3.11/json/decoder.py", line 1, in y\n    z()\n'
        '  File "/app/more.py", line 9, in [red]\x1b[2J\n    raise KeyError\n'
        "KeyError: x\n"
    )
    journal.event(2, "[red]\x1b[2J")
    journal.run(2, "report", 1, "failed")
    began = {"queued_at": NOW, "started_at": NOW + 1_000, "ended_at": NOW + 10_000}
    journal.run(1, "report", 2, "failed", **began, replay_of=2)
    steps = (("old", -500, -400), ("hand", 0, 0), ("first", 1_000, 2_000), ("flaky", 2_000, 7_000))
    for position, (name, since, until) in enumerate(steps):
        more: dict[str, Any] = (
            {"attempts": 3, "attempted_at": NOW + 6_000} if name == "flaky" else {"attempts": int(name != "hand")}
        )
        journal.step(1, name, position=position, started_at=NOW + since, ended_at=NOW + until, **more)
    journal.step(1, "rest", kind="sleep", started_at=NOW + 7_000, ended_at=NOW + 9_000)
    journal.step(1, "[bold]\x1b[2J", "failed", started_at=NOW + 9_000, ended_at=NOW + 10_000)
    for number, (since, until) in enumerate(((2_000, 3_000), (4_000, 5_000))):
        journal.failure(1, "flaky", "ValueError", "no", number)
        journal.execute("UPDATE failure SET began_at = ?, at = ? WHERE attempt = ?", NOW + since, NOW + until, number)
    journal.failure(1, "[bold]\x1b[2J", "KeyError", "x")
    journal.execute(
        "UPDATE failure SET traceback = ?, began_at = ?, at = ? WHERE type = 'KeyError'",
        traceback,
        NOW + 9_000,
        NOW + 10_000,
    )
    out, _ = shown()
    assert out.splitlines()[3] == "event     [red]\\x1b[2J  01E00000000000000000000002"
    assert out[out.index("steps") :] == (
        "steps              0              5.0 s              10.0 s\n"
        "    queued         ░░░░                                         1.0 s\n"
        "  ✓ old                                                        reused  1\n"
        "  ✓ hand                                                        given  1\n"
        "  ✓ first              ████                                     1.0 s  1\n"
        "  ✓ flaky                  ▒▒▒▒────▒▒▒▒────████                 5.0 s  3 attempts  1\n"
        "  ✓ rest                                       ────────         2.0 s  1\n"
        "  ✗ [bold]\\x1b[2J                                      ▒▒▒▒     1.0 s\n"
        "                   ▒ failed attempt  ─ waiting\n"
        "\n"
        "2025-10-09 08:53:25  step `flaky`, attempts 1 and 2: ValueError: no\n"
        "\n"
        "2025-10-09 08:53:30  step `[bold]\\x1b[2J`, attempt 1: KeyError: x\n"
        "Traceback (most recent call last):\n"
        "  /app/work.py:3  f\n"
        "    get()\n"
        "  … 2 frames of httpx, json\n"
        "  /app/more.py:9  [red]\\x1b[2J\n"
        "    raise KeyError\n"
        "KeyError: x\n"
    )


def test_it_can_be_read_in_ascii(journal: Filled, shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.run(1, "report", 1)
    journal.step(1, "a-name-that-is-too-long-for-what-there-is-of-room", output='"…"')
    monkeypatch.setattr(text, "drawn", lambda _mark, in_ascii, _encoding=None: in_ascii)
    out, _ = shown()
    assert [line.rstrip() for line in out.splitlines()[-3:]] == [
        "steps                           0          4 ms           9 ms",
        "    queued                      ...                                 1 ms",
        '  + a-name-that-is-too-long-f~         ##########                   3 ms  "…"',
    ]
