"""A newcomer's way: the wheel in a fresh environment, and an empty folder.

The tutorial, which goes further, is done by tests/docs as it stands on its page.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fanout.starter import TEMPLATES
from tests.acceptance.conftest import FENCE_S
from tests.docs.shell import environment

ROOT = Path(__file__).parents[2]
TOOLS = ("pytest", "mypy")
WORKS = """    print(f"contact: {user['name']} <{user['email']}>")\n"""
FAILS = """    raise ConnectionError("the CRM is down")\n"""


class Newcomer(NamedTuple):
    bin: Path
    folder: Path

    def __call__(self, command: str, *, code: int = 0) -> str:
        """All that it prints; it has to end with this exit code."""
        environ = {name: value for name, value in environment(self.folder).items() if name != "PYTHONPATH"}
        done = subprocess.run(
            shlex.split(command), cwd=self.folder, env=environ | {"PATH": f"{self.bin}{os.pathsep}{environ['PATH']}"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=FENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{command}\n{done.stdout}"
        return done.stdout

    def json(self, command: str) -> Any:
        return json.loads(self(f"{command} --json"))

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    def states(self) -> dict[str, list[str]]:
        """Of each function's runs, the oldest first."""
        found: dict[str, list[str]] = {}
        for run in reversed(self.json("fanout runs")["runs"]):
            found.setdefault(run["function"], []).append(run["state"])
        return found


def python(*arguments: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=FENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands of an environment are that has the wheel. All else is found in ours: nothing is fetched."""
    folder = tmp_path_factory.mktemp("newcomer")
    python("hatchling", "build", "--target", "wheel", "--directory", folder / "dist")
    python("venv", "--without-pip", folder / "venv")
    [packages] = (folder / "venv").glob("lib/python*/site-packages")
    interpreter = folder / "venv" / "bin" / "python"
    [wheel] = (folder / "dist").iterdir()
    quiet = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")
    python("pip", "--python", interpreter, "install", *quiet, wheel)
    # Only now, else pip would find it there; and behind its own, which come first.
    (packages / "ours.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    for tool in TOOLS:
        script, *_ = entry_points(group="console_scripts", name=tool)
        path = interpreter.with_name(tool)
        path.write_text(
            f"#!{interpreter}\nfrom {script.module} import {script.attr}\nraise SystemExit({script.attr}())\n"
        )
        path.chmod(0o755)
    return interpreter.parent


@pytest.fixture
def newcomer(installed: Path, tmp_path: Path) -> Newcomer:
    return Newcomer(installed, tmp_path)


def test_from_an_empty_folder_to_a_failure_that_is_mended(newcomer: Newcomer) -> None:
    assert newcomer("python -c 'import fanout; print(fanout.__file__)'").startswith(str(newcomer.bin.parent))
    newcomer("fanout init")
    newcomer("fanout check --strict")
    newcomer("fanout send functions/events/signup.json")
    newcomer("pytest")

    newcomer.edit("functions/signup.py", WORKS, FAILS)
    newcomer.edit("fanout.toml", 'retry_delay = "1s"', 'retry_delay = "10ms"')
    assert "`fanout replay --failed`" in newcomer("fanout send functions/events/signup.json", code=1)
    newcomer.edit("functions/signup.py", FAILS, WORKS)
    newcomer("pytest")

    said = newcomer("fanout replay --failed")
    assert "contact: Ada Lovelace" in said
    assert "Welcome" not in said  # what had gone well is not done again
    assert newcomer("fanout replay --failed") == "there is nothing to replay\n"
    assert newcomer.states() == {
        "send-welcome-email": ["completed"] * 2,
        "start-trial": ["completed"] * 2,
        "sync-crm": ["completed", "failed", "completed"],
    }


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_runs_as_it_says(newcomer: Newcomer, template: str) -> None:
    said = newcomer.json(f"fanout init --template {template}")["next"]
    newcomer("fanout check --strict")
    assert {"fanout dev watch", "pytest"} < set(said)
    for command in said:
        if command != "fanout dev watch":
            newcomer(command)
    newcomer("ruff check --isolated --select B,E,F,I,UP --line-length 120 .")
    newcomer(f"mypy --strict --cache-dir {newcomer.bin.parent / 'mypy'} .")
    ends = {state for states in newcomer.states().values() for state in states}
    assert ends == {"completed"}


@pytest.mark.parametrize(
    ("files", "passed"),
    [
        (
            {
                "tests/helpers.py": "ANSWER = 42\n",
                "tests/test_mine.py": "from helpers import ANSWER\ndef test_it(): ...",
            },
            3,
        ),
        ({"pyproject.toml": '[tool.pytest.ini_options]\naddopts = "--import-mode=importlib"\n'}, 2),
    ],
)
def test_an_example_comes_into_a_project(newcomer: Newcomer, files: dict[str, str], passed: int) -> None:
    for name, text in files.items():
        (newcomer.folder / name).parent.mkdir(exist_ok=True)
        (newcomer.folder / name).write_text(text)
    test = newcomer.json("fanout init --template minimal")["next"][-1]
    assert test == "python -m pytest"
    assert f"{passed} passed" in newcomer(test)


def test_the_wheel_completes_in_a_shell(newcomer: Newcomer) -> None:
    assert "_fanout_completion" in newcomer("fanout completion bash")
    assert "documents\t" in newcomer("env _FANOUT_COMPLETE=fish fanout init --template d")
