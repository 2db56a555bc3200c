from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fanout.engine.settings import DEFAULT_PARK_MS
from tests.engine.simulation import Simulation

Simulate = Callable[..., Simulation]

NEVER = 10**12
every_parking = pytest.mark.parametrize(
    "park_ms", [0, DEFAULT_PARK_MS, NEVER], ids=["not parked", "parked for 5 s", "parked for ever"]
)
"""However long executions that wait are kept in their workers, everything comes out the same."""

both_kinds = pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])


@pytest.fixture
def park_ms() -> int:
    return DEFAULT_PARK_MS


@pytest.fixture
def simulate(tmp_path: Path, park_ms: int) -> Iterator[Simulate]:
    """Makes a simulation of these functions, with the options of `Simulation`."""
    made: list[Simulation] = []

    def make(*arguments: object, **options: object) -> Simulation:
        folder = tmp_path / str(len(made))
        made.append(Simulation(folder, *arguments, **{"park_ms": park_ms, **options}))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for simulation in made:
        simulation.close()
