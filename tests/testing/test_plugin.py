from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import fanout.testing

ROOT = Path(__file__).parents[2]

TESTS = """
import fanout
import pytest

@fanout.function(trigger=fanout.on("a"))
def f(ctx):
    return ctx.step.run("one", lambda: 1)

@pytest.fixture(scope="session")
def shared(fanout_project):
    return fanout_project(f)

@pytest.fixture(scope="module")
def once(fanout_run):
    return fanout_run(f)

def test_run(fanout_run, once):
    assert fanout_run(f, steps={"one": 2}).output == 2
    assert once.output == 1

@pytest.mark.parametrize("number", [1, 2])
def test_each_call_makes_another(fanout_project, shared, number):
    project = fanout_project(f)
    project.send("a")
    assert len(project.runs) == 1
    shared.send("a")
    assert len(shared.runs) == number
"""


def test_fixtures_at_any_scope(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    is_installed = any(entry.name == "fanout" for entry in entry_points(group="pytest11"))
    named = [] if is_installed else ["-p", "fanout.testing.plugin"]  # An old installation does not know it yet.
    command = [sys.executable, "-m", "pytest", "-q", *named, "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("3 passed")


def test_pytest_finds_the_plugin_by_itself() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        entries = tomllib.load(file)["project"]["entry-points"]
    assert entries == {"pytest11": {"fanout": "fanout.testing.plugin"}}


def test_the_plugin_costs_pytest_nothing_at_its_start() -> None:
    code = "import json, sys, pytest; before = set(sys.modules); import fanout.testing.plugin; "
    code += "print(json.dumps(sorted(set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert json.loads(done.stdout) == ["fanout", "fanout.testing", "fanout.testing.plugin"]


def test_the_public_names_as_they_were_decided() -> None:
    assert fanout.testing.__all__ == ["Project", "Result", "Running", "StepResult", "in_turn", "run"]
    assert dir(fanout.testing) == fanout.testing.__all__
    for name in fanout.testing.__all__:
        assert getattr(fanout.testing, name).__module__ == fanout.testing._HOMES[name]
