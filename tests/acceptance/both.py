"""Functions that are written once, as `async def`, and run as both kinds: as they stand, and as `def` without `await`.

All functions of a suite run by one `send`, once with executions that stay in their worker while they wait (as long as
there is room), and once with executions that have to leave whenever they wait: the results have to be the same.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from tests.acceptance.conftest import Project

KINDS = ("plain", "tasks")
PARKS = {"evicted": "0", "parked": "366d"}

_HEAD = '''
import asyncio, json, os, sys, threading, time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
import fanout
from fanout import AsyncContext, Context

HERE = Path(__file__).parent
KIND = Path(__file__).stem


def note(line):
    """Appended to what others write at the same time."""
    with open(HERE / f"notes-{KIND}.txt", "a") as file:
        file.write(line + "\\n")


def go(**more):
    """A function that is started by the event of the suite."""
    def attach(fn):
        return fanout.function(trigger=fanout.on("app/go"), id=id_of(fn), **more)(fn)
    return attach


def child(trigger=None, **more):
    def attach(fn):
        return fanout.function(trigger=None if trigger is None else fanout.on(trigger), id=id_of(fn), **more)(fn)
    return attach


def id_of(fn):
    return f"{fn.__name__.replace('_', '-')}-{KIND}"


def is_first(what):
    """Whether this is asked for the first time, in all processes."""
    try:
        os.close(os.open(HERE / f"{KIND} {what}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def fail_once(what):
    if is_first(what):
        raise ConnectionError(f"{what}: not yet")
'''
_OF_KIND = {
    "plain": "Gate = threading.Event\npause = time.sleep\n",
    "tasks": "Gate = asyncio.Event\npause = asyncio.sleep\n",
}


def write(root: Path, code: str, *, park: str, pool: str = "processes = 2") -> Project:
    """A project with the functions of both kinds, each with its kind at the end of its id."""
    for kind in KINDS:
        written = textwrap.dedent(code) if kind == "tasks" else as_plain(textwrap.dedent(code))
        (root / f"{kind}.py").write_text(f"{_HEAD}\n{_OF_KIND[kind]}\n{written}")
    (root / "fanout.toml").write_text(
        '[app]\nid = "test"\nfunctions = ["plain", "tasks"]\n'
        f'[pool]\n{pool}\npark = "{park}"\n[dev]\nretry_delay = 0.05\n'
    )
    return Project(root)


class Suite:
    """The runs that one event has caused."""

    def __init__(self, root: Path, code: str, *, park: str, data: dict[str, Any] | None = None) -> None:
        self.project = write(root, code, park=park)
        self.is_parking = park != "0"
        self.result = self.project.send("app/go", data)
        assert self.result.code in (0, 1), self.result
        self._runs: dict[str, list[dict[str, Any]]] = {}
        for run in self.result.json()["runs"]:
            self._runs.setdefault(run["function"], []).append(run)

    def run(self, name: str, kind: str) -> dict[str, Any]:
        [run] = self._runs[f"{name}-{kind}"]
        return run

    def output(self, name: str, kind: str) -> Any:
        """What the function returned; it has to have returned."""
        run = self.run(name, kind)
        assert (run["state"], run["error"]) == ("completed", None), run
        return run["output"]

    def steps(self, name: str, kind: str) -> dict[str, tuple[str, int]]:
        """State and attempts, by key."""
        return {step["name"]: (step["state"], step["attempts"]) for step in self.run(name, kind)["steps"]}

    def notes(self, name: str, kind: str) -> list[str]:
        """What was noted under this name, without it."""
        return notes(self.project, name, kind)


def notes(project: Project, name: str, kind: str) -> list[str]:
    """What functions of this kind have noted under this name."""
    path = project.root / f"notes-{kind}.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.removeprefix(f"{name}: ") for line in lines if line.startswith(f"{name}: ")]


def as_plain(code: str) -> str:
    return re.sub(r"\b(async|await) ", "", code)
