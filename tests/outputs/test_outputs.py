"""What every command that only looks prints: whole, and everywhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.test_commands import COMMANDS
from tests.outputs.places import COMMAND, PLACES, compare, printed, shape
from tests.outputs.story import tell
from tests.unit.filled import event_id, run_id

HERE = Path(__file__).parent
LOOKS = {
    "runs": ["runs"],
    "runs-failed": ["runs", "--failed"],
    "runs-none": ["runs", "--function", "nobody"],
    "runs-show": ["runs", "show", run_id(1)],
    "runs-show-failed": ["runs", "show", run_id(4)],
    "runs-show-unknown": ["runs", "show", "nothing"],
    "trace": ["trace", event_id(1)],
    "why": ["why", run_id(9)],
    "why-skipped": ["why", run_id(7)],
    "replay-plan": ["replay", "--status", "failed", "--again", "--dry-run"],
    "replay-nothing": ["replay", "--failed", "--dry-run"],
    "events": ["events"],
    "events-unheard": ["events", "--unheard"],
    "events-show": ["events", "show", event_id(1)],
    "events-show-trap": ["events", "show", event_id(4)],
    "stats": ["stats", "--since", "all"],
    "graph": ["graph"],
    "graph-mermaid": ["graph", "--mermaid"],
    "graph-dot": ["graph", "--dot"],
    "functions-show": ["functions", "show", "process-order"],
    "logs": ["logs", run_id(1)],
    "journal-verify": ["journal", "verify"],
    "help": ["--help"],
    "unknown-command": ["sned"],
}
LOADS = {
    "functions": ["functions"],
    "functions-pause-unknown": ["functions", "pause", "adit"],
    "check": ["check"],
    "cron-list-none": ["cron", "list"],
    "cancel-unknown": ["cancel", "nothing"],
    "invoke-unknown": ["invoke", "adit"],
}
AS_JSON = (
    "runs", "runs-show", "runs-show-failed", "trace", "why", "replay-plan", "events", "events-show", "stats", "graph",
    "functions-show", "journal-verify",
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("story")
    tell(folder)
    return folder


@pytest.mark.parametrize("name", sorted(set(LOOKS) - {"stats"}))
def test_a_command_that_looks(root: Path, name: str) -> None:
    found = "".join(f"--- {place} ---\n{printed(root, LOOKS[name], place)}" for place in PLACES)
    # Who looks at runs does not want their code to be executed.
    assert not (root / "imported").exists()
    compare(HERE / "terminal" / f"{name}.txt", f"$ fanout {' '.join(LOOKS[name])}\n{found}")
    for line in found.splitlines():
        assert "␛[2J" not in line


@pytest.mark.parametrize("name", LOADS)
def test_a_command_that_loads_the_code(root: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    found = "".join(f"--- {place} ---\n{printed(tmp_path, LOADS[name], place)}" for place in PLACES)
    compare(HERE / "terminal" / f"{name}.txt", f"$ fanout {' '.join(LOADS[name])}\n{masked(found)}")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command(root: Path, name: str) -> None:
    arguments = [*name.split(), "--help"]
    found = "".join(f"--- {place} ---\n{printed(root, arguments, place)}" for place in ("80 columns", "pipe"))
    compare(HERE / "help" / f"fanout-{name.replace(' ', '-')}.txt", f"$ fanout {name} --help\n{found}")


def masked(text: str) -> str:
    """How long the code took to load differs from time to time."""
    return re.sub(r"\b\d+ ms\b|(?<=module␛\[2m  )[\d.]+ s|(?<=module  )[\d.]+ s", "N ms", text)


@pytest.mark.parametrize("name", AS_JSON)
def test_json_keeps_its_shape(root: Path, name: str) -> None:
    done = subprocess.run([COMMAND, *LOOKS[name], "--json"], cwd=root, capture_output=True, text=True, check=True)
    compare(HERE / "json" / f"{name}.json", json.dumps(shape(json.loads(done.stdout)), indent=2) + "\n")


@pytest.mark.parametrize("name", ["runs", "events", "stats", "graph", "trace", "journal-verify"])
def test_without_a_journal_it_says_so(tmp_path: Path, name: str) -> None:
    tell(tmp_path)
    shutil.rmtree(tmp_path / ".fanout")
    found = printed(tmp_path, LOOKS[name], "pipe")
    assert "there is no journal at" in found
    assert "fanout send FILE" in found
    assert found.endswith("(exit code 3)\n")
