"""Some hundred worlds each time. A longer hunt is `python -m tests.simulation --seeds 50000`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fanout.engine.limits import Limits
from tests.simulation.__main__ import main
from tests.simulation.hunting import play

ROOT = Path(__file__).parents[2]
CHECKED = 12
"""After each commit of so many."""


@pytest.mark.parametrize("seed", range(300))
def test_a_world_is_as_it_must_be(seed: int) -> None:
    found = play(seed, has_checks=seed < CHECKED)
    assert not found.error, f"python -m tests.simulation --seed {seed}\n{found.error}"


def test_a_seed_always_makes_the_same_history() -> None:
    """In other processes as well, which hash in another way."""

    def hunt(hash_seed: int) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--from", "40", "--seeds", "16", "--digests"],
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.rpartition("\n16 worlds")[0]

    assert hunt(1) == hunt(2)


def test_a_world_that_is_not_as_it_must_be_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Limits, "_has_room", lambda *_: True)
    monkeypatch.setattr(sys, "argv", ["simulation", "--seeds", "40"])
    assert main() == 1
    said = capsys.readouterr().out
    found = re.search(r"^seed (\d+) FAILED in a world with .*flow control", said, re.MULTILINE)
    assert found is not None
    monkeypatch.setattr(sys, "argv", ["simulation", "--seed", found[1]])
    assert main() == 1
    monkeypatch.undo()
    assert not play(int(found[1])).error


def test_histories_differ() -> None:
    assert len({play(seed, has_digest=True).digest for seed in range(5)}) == 5
