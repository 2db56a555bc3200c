from __future__ import annotations

import pytest

from fanout.core.blame import MAX_CRASHES, Blame, blame


@pytest.mark.parametrize("crashes", range(5))
@pytest.mark.parametrize("runs", [2, 3, 32])
def test_one_of_several_is_only_a_suspect(runs: int, crashes: int) -> None:
    assert blame(runs, crashes) is Blame.SUSPECT


def test_who_was_alone_is_charged_and_fails_at_the_third_death() -> None:
    verdicts = [blame(1, crashes) for crashes in range(5)]
    assert verdicts == [Blame.CHARGED, Blame.CHARGED, Blame.CRASHED, Blame.CRASHED, Blame.CRASHED]
    assert MAX_CRASHES == 3


def test_a_run_that_always_kills_its_worker_ends_after_one_suspicion_and_three_charges() -> None:
    crashes, verdicts = 0, [blame(8, 0)]
    while verdicts[-1] is not Blame.CRASHED:
        verdicts.append(blame(1, crashes))
        crashes += 1
    assert verdicts == [Blame.SUSPECT, Blame.CHARGED, Blame.CHARGED, Blame.CRASHED]
