"""What differs from one time to the next may differ from what a page shows, and nothing else."""

from __future__ import annotations

import pytest

from tests.docs.shown import match

ONE, OTHER = "01M7ZDF3VFAE2V7KCM6G3WBM5A", "01M7ZFGYA9EJ2R9MKQYXRXWZM7"
SHOWN = f"""\
app/user.signup  {ONE}
├── ✓ start-trial    6 ms  ✓ create-subscription
└── ✓ sync-crm     1.2 s  ✓ upsert-contact
2 runs of 1 event in 112 ms: 2 completed
"""


def test_ids_and_durations_may_be_others() -> None:
    came = SHOWN.replace(ONE, OTHER).replace("6 ms", "1 min 40 s").replace("112 ms", "2.0 s")
    assert match(SHOWN, came) == {ONE: OTHER, ONE[-10:]: OTHER[-10:]}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sync-crm", "sync-crn"),
        ("2 completed", "1 completed, 1 failed"),
        ("2 completed\n", "2 completed\nhint: look\n"),
        ("✓ start-trial", "✗ start-trial"),
        (ONE, "none"),
    ],
)
def test_another_word_is_not_what_is_shown(old: str, new: str) -> None:
    assert match(SHOWN, SHOWN.replace(old, new)) is None


@pytest.mark.parametrize(
    ("shown", "came"),
    [
        ("until 2026-11-24 16:08:58", "until 2027-01-02 03:04:05"),
        ("Sun 2026-11-22 02:30:00 CET  in 8 h 52 m", "Mon 2026-07-20 02:30:00 CEST  in 23 h"),
        ("file  172.0 KB", "file  1.1 MB"),
        ("began\n...\nended", "began\n1\n2\nended"),
        ("began\n...\nended", "began\nended"),
        ("pid ...", "pid 4711"),
        ("steps  0   █▎", "steps 0    ███"),
    ],
)
def test_so_may_times_sizes_and_what_is_left_out(shown: str, came: str) -> None:
    assert match(shown, came) == {}


def test_lines_may_come_in_any_order_only_where_the_page_says_so() -> None:
    assert match("one\ntwo", "two\none") is None
    assert match("one\ntwo", "two\none", any_order=True) == {}
    assert match("one\ntwo", "two\nthree", any_order=True) is None
