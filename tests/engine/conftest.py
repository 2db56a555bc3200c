from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.simulation import Simulation

Simulate = Callable[..., Simulation]


@pytest.fixture
def simulate(tmp_path: Path) -> Iterator[Simulate]:
    """Makes a simulation of these functions, with the options of `Simulation`."""
    made: list[Simulation] = []

    def make(*arguments: object, **options: object) -> Simulation:
        folder = tmp_path / str(len(made))
        made.append(Simulation(folder, *arguments, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for simulation in made:
        simulation.close()
