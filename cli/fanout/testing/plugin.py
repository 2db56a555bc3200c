"""The pytest plugin: fixtures for tests of functions. It imports nothing of fanout's until one of them is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from typing import Any

    from fanout.testing import Project, Result


@pytest.fixture(scope="session")
def fanout_run() -> Callable[..., Result[Any]]:
    """`fanout.testing.run`: one function alone, to its end. It keeps nothing, so fixtures of any scope may use it."""
    from fanout.testing import run  # lazy: see the module's docstring

    return run


@pytest.fixture(scope="session")
def fanout_project() -> type[Project]:
    """Makes a `fanout.testing.Project` each time it is called, which shares nothing with others.

    So fixtures of any scope may use it. Without arguments it is the project of the nearest `fanout.toml`.
    """
    from fanout.testing import Project  # lazy: see the module's docstring

    return Project
