"""What tests of functions import: `run` one alone, move it on with `Running`, or a whole `Project`.

Everything is decided by the real engine on a journal in memory, and executed by the real code of workers in this
process, under a clock of the test's. Names load on first use, so that the pytest plugin costs nothing at its start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fanout.testing.project import Project
    from fanout.testing.results import Result, StepResult
    from fanout.testing.running import Running, run
    from fanout.testing.stubs import in_turn

__all__ = ["Project", "Result", "Running", "StepResult", "in_turn", "run"]

_HOMES = {
    "Project": "fanout.testing.project",
    "Result": "fanout.testing.results",
    "Running": "fanout.testing.running",
    "StepResult": "fanout.testing.results",
    "in_turn": "fanout.testing.stubs",
    "run": "fanout.testing.running",
}


if not TYPE_CHECKING:  # or else a type checker takes any name for one of ours

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'fanout.testing' has no attribute {name!r}")
        from importlib import import_module  # lazy: see the module's docstring

        value = getattr(import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
