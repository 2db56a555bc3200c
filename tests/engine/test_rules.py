"""Every rule that `fanout journal verify` knows holds after every commit, whatever dies when."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fanout.journal.sqlite_checks import CHECKS
from fanout.journal.writes import Writes
from tests.engine.conftest import Simulate
from tests.engine.simulation import Simulation
from tests.engine.test_any import scenario, scenario_with_edits, scenario_with_requests


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("play", [scenario, scenario_with_requests, scenario_with_edits])
def test_all_rules_hold_after_every_commit(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch, seed: int, play: Callable[[Simulate, int], None]
) -> None:
    committed = Simulation.committed
    commits = 0

    def checked(simulation: Simulation, writes: Writes) -> None:
        nonlocal commits
        commits += 1
        committed(simulation, writes)
        for check in CHECKS:
            assert simulation.rows(f"SELECT * FROM ({check.broken}) LIMIT 3") == [], check.rule

    monkeypatch.setattr(Simulation, "committed", checked)
    play(simulate, seed)
    assert commits
