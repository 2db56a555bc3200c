"""Files that are saved while an engine runs: real files, real processes, and no run that suffers from it."""

from __future__ import annotations

import json
import os
import queue
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fanout
from tests.acceptance.conftest import FENCE_S, Project, put, until

ROOT = Path(__file__).parent.parent.parent
SAVES = int(os.environ.get("FANOUT_SAVES", "12"))
MODULE = """
import fanout
from pathlib import Path

def step(ctx, name):
    with open(Path(__file__).parent.parent / "notes.txt", "a") as file:
        file.write(f"{{ctx.run_id}} {{name}}\\n")

@fanout.function(trigger=fanout.on("e{number}"), retries={retries})
def f{number}(ctx):
    {body}
    return "{version}"
"""
TWO_STEPS = """
    import time
    ctx.step.run("one", lambda: (step(ctx, "one"), time.sleep(0.02)) and None)
    ctx.step.sleep("nap", 0.02)
    ctx.step.run("two", step, ctx, "two")
"""


class Development:
    """A project of several modules, and an engine that hears when they are saved."""

    def __init__(self, project: Project, process: subprocess.Popen[str]) -> None:
        self.project = project
        self.said: list[dict[str, Any]] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._process = process
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def next(self) -> dict[str, Any]:
        """What it says next."""
        said: dict[str, Any] = json.loads(self._lines.get(timeout=FENCE_S))
        self.said.append(said)
        return said

    def rest(self) -> list[dict[str, Any]]:
        """What it has said that nobody has read."""
        with suppress(queue.Empty):
            while True:
                self.said.append(json.loads(self._lines.get_nowait()))
        return self.said

    def close(self) -> None:
        try:
            self._process.communicate("\n", timeout=FENCE_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()


def module(number: int, version: str, *, retries: int = 4, body: str = "") -> str:
    return MODULE.format(number=number, version=version, retries=retries, body=body.strip() or "pass")


def save(project: Project, number: int, text: str) -> None:
    put(project.root / "functions" / f"m{number}.py", text)


@contextmanager
def developing(project: Project, modules: int, *, body: str = "") -> Iterator[Development]:
    (project.root / "functions").mkdir()
    (project.root / "functions" / "__init__.py").touch()
    for number in range(modules):
        save(project, number, module(number, "v0", body=body))
    (project.root / "fanout.toml").write_text('[app]\nid = "test"\nfunctions = ["functions"]\n[pool]\nprocesses = 2\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.reloading"], cwd=project.root, text=True,
        env={**project.environment(), "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    made = Development(project, process)
    try:
        assert made.next() == {"ready": modules}
        yield made
    finally:
        made.close()


def states(project: Project) -> dict[str, int]:
    return dict(Counter(state for (state,) in project.query("SELECT state FROM run")))


def all_are_over(project: Project, runs: int) -> Callable[[], bool]:
    def are() -> bool:
        found = project.query("SELECT count(*), count(*) FILTER (WHERE ended_at IS NOT NULL) FROM run")
        return found == [(runs, runs)]

    return are


def nothing_was_lost(project: Project, runs: int) -> None:
    """Every run has completed, its steps were executed once each, and nothing was charged to anyone."""
    assert states(project) == {"completed": runs}
    assert project.query("SELECT count(*) FROM failure") == [(0,)]
    assert project.query("SELECT count(*) FROM run WHERE crashes > 0 OR is_suspect") == [(0,)]
    executed = Counter(project.notes())
    assert executed == Counter(
        f"{run} {step}" for (run,) in project.query("SELECT id FROM run") for step in ("one", "two")
    )


def test_new_code_of_fifty_modules_serves_within_a_second(project: Project) -> None:
    with developing(project, 50) as development, fanout.connect(project.root) as client:
        times: list[float] = []
        while len(times) < 10 and min(times, default=1.0) >= 1.0:  # Others may be using the machine.
            number = len(times)
            began = time.monotonic()
            save(project, 7, module(7, f"v{number + 1}"))
            said = development.next()
            client.send({"name": "e7"})
            until(all_are_over(project, number + 1), "the run has ended")
            times.append(time.monotonic() - began)
            assert (said["error"], said["changes"]) == (None, [])
            assert project.query("SELECT output FROM run ORDER BY key DESC LIMIT 1") == [(f'"v{number + 1}"',)]
        print(f"from the save to a result of new code: {', '.join(f'{each:.2f} s' for each in times)}")
        assert min(times) < 1


def test_only_saves_that_change_something_are_reloads(project: Project) -> None:
    with developing(project, 2) as development, fanout.connect(project.root) as client:
        for _ in range(1_000):
            client.send({"name": "e0"})
        (project.root / "functions" / "m0.py").touch()
        save(project, 0, module(0, "v0"))
        (project.root / "functions" / "notes.txt").write_text("not code")
        environment = project.root / "environment" / "lib"
        environment.mkdir(parents=True)
        (environment.parent / "pyvenv.cfg").touch()
        (environment / "library.py").write_text("new = 1")
        until(all_are_over(project, 1_000), "all runs have ended")
        assert development.rest() == [{"ready": 2}]
        save(project, 1, module(1, "v1", retries=5))
        assert development.next()["changes"] == ["~ f1 (retries 4 to 5)"]
        save(project, 2, module(2, "v1"))
        assert development.next()["changes"] == ["+ f2"]
        (project.root / "functions" / "m0.py").unlink()
        assert development.next()["changes"] == ["- f0"]
        nested = project.root / "functions" / "more"
        nested.mkdir()
        (nested / "__init__.py").touch()
        (nested / "m3.py").write_text(module(3, "v0"))
        said = development.next()
        assert (said if said["changes"] else development.next())["changes"] == ["+ f3"]


def test_settings_are_read_anew(project: Project) -> None:
    settings = project.root / "fanout.toml"
    with developing(project, 1) as development:
        text = settings.read_text()
        put(
            settings,
            text.replace("processes = 2", "processes = 3\npark = '2s'")
            + "[web]\nport = 9999\n[journal]\npath = 'other.db'\n[otel]\nenabled = false\n",
        )
        said = development.next()
        assert said == {
            "app": "", "error": None, "took_ms": 0,
            "hint": "`[journal] path` and `[otel] enabled` take effect at the next start",
            "changes": ["~ fanout.toml (processes 2 to 3, park 5s to 2s, port 8288 to 9999)"],
        }  # fmt: skip
        put(settings, "[app")
        assert "refused" in development.next()
        (project.root / "other.py").write_text(module(9, "v0"))
        put(settings, text.replace('["functions"]', '["functions", "other"]'))
        found: set[str] = set()
        while len(found) < 2:  # The new module alone may be refused once more.
            found.update(development.next().get("changes", []))
        assert found == {"~ fanout.toml (processes 3 to 2, park 2s to 5s, port 9999 to 8288)", "+ f9"}


def test_a_syntax_error_in_the_middle_of_a_hundred_runs_loses_none(project: Project) -> None:
    with developing(project, 1, body=TWO_STEPS) as development, fanout.connect(project.root) as client:
        client.send(*[{"name": "e0"}] * 50)
        until(lambda: states(project).get("completed", 0) > 0, "some have ended")
        save(project, 0, "def f(:\n")
        assert development.next()["error"] == "`functions/m0.py` line 1: SyntaxError: invalid syntax"
        client.send(*[{"name": "e0"}] * 50)
        until(all_are_over(project, 100), "all runs have ended, by the old code")
        nothing_was_lost(project, 100)
        assert set(project.query("SELECT output FROM run")) == {('"v0"',)}
        save(project, 0, module(0, "v1", body=TWO_STEPS))
        assert development.next()["error"] is None
        client.send({"name": "e0"})
        until(all_are_over(project, 101), "the last one as well")
        assert project.query("SELECT output FROM run ORDER BY key DESC LIMIT 1") == [('"v1"',)]


def test_saves_under_load_lose_nothing(project: Project) -> None:
    chance = random.Random(0)
    sent = 0
    with developing(project, 5, body=TWO_STEPS) as development, fanout.connect(project.root) as client:
        for number in range(SAVES):
            for _ in range(chance.randint(1, 5)):
                client.send(*[{"name": f"e{chance.randrange(5)}"}] * 5)
                sent += 5
                time.sleep(chance.random() * 0.05)
            which = chance.randrange(5)
            if chance.random() < 0.2:
                save(project, which, chance.choice(["def f(:\n", "import nothing_of_that_name\n", "raise SystemExit"]))
                time.sleep(chance.random() * 0.3)
            save(project, which, module(which, f"v{number + 1}", body=TWO_STEPS, retries=number % 20))
            time.sleep(chance.random() * 0.3)
        until(all_are_over(project, sent), "all runs have ended")
        nothing_was_lost(project, sent)
        until(lambda: any(each["error"] is None for each in development.rest()[1:]), "new code is adopted")
        outcomes = development.rest()[1:]
        print(f"{SAVES} saves, {len(outcomes)} outcomes, {sent} runs")
