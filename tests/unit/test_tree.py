"""How families are drawn: whole outputs, on wide and narrow terminals."""

# ruff: noqa: RUF001 - the multiplication sign is what people see

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console, Group

from fanout.commands.tree import Traced, tree
from fanout.journal.family import Watched
from fanout.views.layout import Left, lay_out
from tests.unit.filled import NOW, Filled, filled

GO = Watched(1, 1)


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Filled]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    with filled(tmp_path) as made:
        yield made
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def orders(journal: Filled) -> Filled:
    """An order that was shipped and mailed, an audit that failed, and a run that sleeps."""
    journal.event(1, "app/order.placed")
    journal.run(1, "process-order", 1)
    for position, (name, kind) in enumerate([("reserve", "run"), ("ship", "invoke"), ("mails", "map")]):
        journal.step(1, name, kind=kind, position=position)
    journal.run(2, "audit", 1, "failed")
    journal.step(2, "write", "failed", attempts=3)
    journal.failure(2, "write", "OSError", "the disk is full")
    journal.failure(2, "", "StepError", "step `write` failed: OSError: the disk is full")
    journal.run(3, "remind", 1, "waiting", started_at=None, due_at=NOW + 3_600_000)
    journal.child(4, "ship-order", 1, "ship", started_at=NOW + 40, ended_at=NOW + 1_300)
    journal.step(4, "pick")
    journal.event(2, "app/order.shipped", origin=4, received_at=NOW + 1_290)
    journal.run(5, "tell-customer", 2, started_at=NOW + 1_301, ended_at=NOW + 1_400, attempt=1)
    journal.event(3, "app/nobody", origin=5, received_at=NOW + 1_400)
    return journal


def mails(journal: Filled, number: int) -> None:
    """Children of run 1, of which every fourth failed, with an event of each that did not."""
    for key in range(100, 100 + number):
        has_failed = key % 4 == 3
        journal.child(key, "send-mail", 1, "mails", "failed" if has_failed else "completed", item=key - 100)
        if has_failed:
            journal.failure(key, "", "SMTPError", "no")
        else:
            journal.event(key, "app/mail.sent", origin=key)


def drawn(journal: Filled, width: int, *, most_lines: int = 100) -> str:
    with journal.reader() as reader:
        lines = tree(reader.family(GO, limit=10_000), reader.runs_with_steps, width, most_lines=most_lines)
    return printed(lines, width)


def traced(journal: Filled, width: int, event: int, run: int | None) -> str:
    with journal.reader() as reader:
        family, _ = reader.trace(event, run, limit=10_000)
        marked = family.events[event] if run is None else family.runs[run]
        shown = Traced(family.roots[0].received_at, marked)
        return printed(tree(family, reader.runs_with_steps, width, most_lines=100, traced=shown), width)


def printed(lines: list, width: int) -> str:  # type: ignore[type-arg]
    file = io.StringIO()
    Console(file=file, width=width, highlight=False, markup=False, emoji=False).print(Group(*lines))
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def test_a_family_at_80_columns(orders: Filled) -> None:
    assert drawn(orders, 80) == (
        "app/order.placed  01E00000000000000000000001\n"
        "├── ✓ process-order     8 ms  ✓ reserve  ✓ ship  ✓ mails\n"
        "│   └── ✓ ship-order    1.3 s  ✓ pick\n"
        "│       └── app/order.shipped  01E00000000000000000000002\n"
        "│           └── ✓ tell-customer    99 ms  2 attempts\n"
        "│               └── app/nobody  01E00000000000000000000003\n"
        "├── ✗ audit             8 ms  ✗ write (3 attempts)\n"
        "│     OSError: the disk is full\n"
        "└── ↻ remind                  until 2025-10-09 09:53:20\n"
    )


def test_a_family_at_40_columns(orders: Filled) -> None:
    assert drawn(orders, 40) == (
        "app/order.placed  01E000000000000000000…\n"
        "├ ✓ process-order  8 ms  ✓ reserve  ✓ s…\n"
        "│ └ ✓ ship-order  1.3 s  ✓ pick\n"
        "│   └ app/order.shipped  01E00000000000…\n"
        "│     └ ✓ tell-customer  99 ms  2 attem…\n"
        "│       └ app/nobody  01E00000000000000…\n"
        "├ ✗ audit          8 ms  ✗ write (3 att…\n"
        "│   OSError: the disk is full\n"
        "└ ↻ remind         until 2025-10-09\n"
    )


def test_a_trace_at_80_columns(orders: Filled) -> None:
    assert traced(orders, 80, 2, 5) == (
        "app/order.placed  01E00000000000000000000001  2025-10-09 08:53:20\n"
        "├── ✓ process-order     +1 ms     8 ms  0000000001  ✓ reserve  ✓ ship  ✓ mails\n"
        "│   └── ✓ ship-order    +40 ms    1.3 s  0000000004  ✓ pick\n"
        "│       └── app/order.shipped  01E00000000000000000000002  +1.3 s\n"
        "│           └── → ✓ tell-customer    +1.3 s    99 ms  0000000005  2 attempts\n"
        "│               └── app/nobody  01E00000000000000000000003  +1.4 s\n"
        "├── ✗ audit             +1 ms     8 ms  0000000002  ✗ write (3 attempts)\n"
        "│     OSError: the disk is full\n"
        "└── ↻ remind                            0000000003  until 2025-10-09 09:53:20\n"
    )


def test_a_trace_at_40_columns(orders: Filled) -> None:
    assert traced(orders, 40, 2, None) == (
        "app/order.placed  0000000001\n"
        "├ ✓ process-order  8 ms  0000000001  ✓ …\n"
        "│ └ ✓ ship-order  1.3 s  0000000004  ✓ …\n"
        "│   └ → app/order.shipped  0000000002\n"
        "│     └ ✓ tell-customer  99 ms  0000000…\n"
        "│       └ app/nobody  0000000003\n"
        "├ ✗ audit          8 ms  0000000002  ✗ …\n"
        "│   OSError: the disk is full\n"
        "└ ↻ remind         0000000003  until 20…\n"
    )


def test_many_that_are_alike_are_one_line_with_the_first_that_failed(orders: Filled) -> None:
    mails(orders, 200)
    assert drawn(orders, 80) == (
        "app/order.placed  01E00000000000000000000001\n"
        "├── ✓ process-order     8 ms  ✓ reserve  ✓ ship  ✓ mails\n"
        "│   ├── ✓ ship-order    1.3 s  ✓ pick\n"
        "│   │   └── app/order.shipped  01E00000000000000000000002\n"
        "│   │       └── ✓ tell-customer    99 ms  2 attempts\n"
        "│   │           └── app/nobody  01E00000000000000000000003\n"
        "│   └── send-mail ×200  150 completed, 50 failed\n"
        "│       ├── ✗ send-mail[3]      8 ms\n"
        "│       │     SMTPError: no\n"
        "│       ├── ✗ send-mail[7]      8 ms\n"
        "│       │     SMTPError: no\n"
        "│       ├── ✗ send-mail[11]     8 ms\n"
        "│       │     SMTPError: no\n"
        "│       ├── … 47 more failed runs\n"
        "│       └── app/mail.sent ×150\n"
        "├── ✗ audit             8 ms  ✗ write (3 attempts)\n"
        "│     OSError: the disk is full\n"
        "└── ↻ remind                  until 2025-10-09 09:53:20\n"
    )


def test_few_that_are_alike_have_a_line_each_if_there_is_room(orders: Filled) -> None:
    mails(orders, 4)
    few = drawn(orders, 80)
    assert few.count("send-mail") == 4
    assert drawn(orders, 80, most_lines=14).splitlines() == [
        "app/order.placed  01E00000000000000000000001",
        "├── ✓ process-order     8 ms  ✓ reserve  ✓ ship  ✓ mails",
        "│   ├── ✓ ship-order    1.3 s  ✓ pick",
        "│   │   └── app/order.shipped  01E00000000000000000000002",
        "│   │       └── ✓ tell-customer    99 ms  2 attempts",
        "│   │           └── app/nobody  01E00000000000000000000003",
        "│   └── send-mail ×4  3 completed, 1 failed",
        "│       ├── ✗ send-mail[3]     8 ms",
        "│       │     SMTPError: no",
        "│       └── app/mail.sent ×3",
        "├── ✗ audit             8 ms  ✗ write (3 attempts)",
        "│     OSError: the disk is full",
        "└── ↻ remind                  until 2025-10-09 09:53:20",
    ]


def test_what_was_traced_has_a_line_among_many_that_are_alike(orders: Filled) -> None:
    mails(orders, 200)
    assert traced(orders, 60, 150, None) == (
        "app/order.placed  0000000001\n"
        "├ ✓ process-order  8 ms  0000000001  ✓ reserve  ✓ ship  ✓ m…\n"
        "│ ├ ✓ ship-order  1.3 s  0000000004  ✓ pick\n"
        "│ │ └ app/order.shipped  0000000002\n"
        "│ │   └ ✓ tell-customer  99 ms  0000000005  2 attempts\n"
        "│ │     └ app/nobody  0000000003\n"
        "│ └ send-mail ×200  150 completed, 50 failed\n"
        "│   ├ ✓ send-mail[50]  8 ms  0000000150\n"
        "│   │ └ → app/mail.sent  0000000150\n"
        "│   ├ ✗ send-mail[3]   8 ms  0000000103\n"
        "│   │   SMTPError: no\n"
        "│   ├ ✗ send-mail[7]   8 ms  0000000107\n"
        "│   │   SMTPError: no\n"
        "│   ├ ✗ send-mail[11]  8 ms  0000000111\n"
        "│   │   SMTPError: no\n"
        "│   ├ … 47 more failed runs\n"
        "│   └ app/mail.sent ×149\n"
        "├ ✗ audit          8 ms  0000000002  ✗ write (3 attempts)\n"
        "│   OSError: the disk is full\n"
        "└ ↻ remind         0000000003  until 2025-10-09\n"
    )


def test_items_of_a_map_have_their_numbers_or_their_keys(journal: Filled) -> None:
    journal.event(1)
    journal.run(1, "evaluate", 1, "failed")
    journal.step(1, "ask", "failed", "map")
    journal.failure(1, "ask", "StepError", "item 0: step `call` failed: ConnectionError: away")
    journal.failure(1, "", "InvokeError", "step `ask` failed: ConnectionError: item 0: away")
    for key, item_key in ((2, None), (3, "gpt\x1b"), (4, "x" * 40)):
        journal.child(key, "ask-model", 1, "ask", item=key - 2, item_key=item_key)
    assert drawn(journal, 80) == (
        "app/go  01E00000000000000000000001\n"
        "└── ✗ evaluate     8 ms  ✗ ask\n"
        "      ConnectionError: item 0: away\n"
        "    ├── ✓ ask-model[0]                   8 ms\n"
        "    ├── ✓ ask-model[gpt\\x1b]             8 ms\n"
        "    └── ✓ ask-model[xxxxxxxxxxxxxxxxxxxxxxx…]     8 ms\n"
    )
    assert drawn(journal, 40) == (
        "app/go  01E00000000000000000000001\n"
        "└ ✗ evaluate  8 ms  ✗ ask\n"
        "    ConnectionError: item 0: away\n"
        "  ├ ✓ ask-model[0]   8 ms\n"
        "  ├ ✓ ask-model[gpt\\x1b]  8 ms\n"
        "  └ ✓ ask-model[xxxxxxxxxxxxxxxxxxxxxxx…\n"
    )


def test_events_that_were_sent_before_are_marked(journal: Filled) -> None:
    journal.event(1)
    journal.run(1, "order", 1)
    journal.event(2, "app/shipped", origin=1, id="order-7", is_id_given=1)
    journal.event(3, "app/shipped", origin=1, id="order-7", is_id_given=1)
    journal.run(2, "tell", 2)
    assert drawn(journal, 80) == (
        "app/go  01E00000000000000000000001\n"
        "└── ✓ order     8 ms\n"
        "    ├── app/shipped  order-7\n"
        "    │   └── ✓ tell     8 ms\n"
        "    └── app/shipped  duplicate  order-7\n"
    )
    for key in range(4, 104):
        journal.event(key, "app/shipped", origin=1, id="order-7", is_id_given=1)
    assert drawn(journal, 80).splitlines()[-1] == "    └── app/shipped ×101  101 duplicates"


def test_replays_are_told_from_what_they_replay(journal: Filled) -> None:
    journal.event(1)
    journal.run(1, "f", 1, "failed")
    journal.failure(1, "", "ValueError", "no")
    journal.run(2, "f", 1, replay_of=1)
    assert drawn(journal, 80) == (
        "app/go  01E00000000000000000000001\n"
        "├── ✗ f     8 ms  replayed by 0000000002\n"
        "│     ValueError: no\n"
        "└── ✓ f     8 ms  replay of 0000000001\n"
    )


def test_what_is_too_deep_is_counted(journal: Filled) -> None:
    for number in range(1, 30):
        journal.event(number, origin=number - 1 or None)
        journal.run(number, "again", number)
    assert drawn(journal, 40).splitlines()[-3:] == [
        "            └ ✓ again  8 ms",
        "              └ app/go  01E000000000000…",
        "                └ … 25 more runs",
    ]


def test_no_tree_is_higher_than_it_may_be(journal: Filled) -> None:
    journal.event(1)
    for key in range(1, 50):
        journal.run(key, f"f{key}", 1, "failed")
        journal.failure(key, "", "ValueError", "no")
    lines = drawn(journal, 80, most_lines=20).splitlines()
    assert len(lines) <= 20
    assert lines[-1] == "… there is more, which `--json` has"


def test_names_of_others_are_made_printable(journal: Filled) -> None:
    journal.event(1, "app/\x1b[2J", id="\x1b[31m")
    journal.run(1, "f", 1)
    journal.step(1, "\x07")
    assert drawn(journal, 80) == ("app/\\x1b[2J  \\x1b[31m\n└── ✓ f     8 ms  ✓ \\x07\n")


def test_a_family_of_fifty_thousand_is_laid_out_in_a_few_lines(journal: Filled) -> None:
    journal.event(1)
    journal.run(1, "order", 1)
    journal.execute("BEGIN")
    for key in range(2, 5_002):
        journal.child(key, "mail", 1, "mails")
    journal.execute("COMMIT")
    with journal.reader() as reader:
        lines = lay_out(reader.family(GO, limit=10_000), most_lines=20, levels=9)
    assert len(lines) == 3
    assert not any(isinstance(line.what, Left) for line in lines)
