"""The files of docs/deploy are right: their words are known, and what they call is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from fanout.commands.app import application
from fanout.commands.serve import GRACE_S

FOLDER = Path(__file__).parents[2] / "docs" / "deploy"
UNIT = FOLDER / "fanout.service"
INSTRUCTIONS = {
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN", "SHELL",
    "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip
DIRECTIVES = {
    "Unit": "After Description Documentation StartLimitBurst StartLimitIntervalSec Wants",
    "Service": """
        AmbientCapabilities CapabilityBoundingSet DynamicUser Environment EnvironmentFile ExecStart KillMode KillSignal
        LockPersonality NoNewPrivileges NotifyAccess PrivateDevices PrivateTmp ProtectClock ProtectControlGroups
        ProtectHome ProtectHostname ProtectKernelLogs ProtectKernelModules ProtectKernelTunables ProtectProc
        ProtectSystem ReadWritePaths RemoveIPC Restart RestartSec RestrictAddressFamilies RestrictNamespaces
        RestrictRealtime RestrictSUIDSGID StateDirectory StateDirectoryMode SystemCallArchitectures
        SystemCallErrorNumber SystemCallFilter TimeoutStartSec TimeoutStopSec Type UMask WatchdogSec WorkingDirectory
    """,
    "Install": "WantedBy",
}


def unit() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for line in UNIT.read_text().splitlines():
        if section := re.fullmatch(r"\[(\w+)\]", line):
            found[section[1]] = {}
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals, line
            found[list(found)[-1]][name] = value
    return found


def dockerfile() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (FOLDER / "Dockerfile").read_text(), flags=re.MULTILINE)
    return [
        (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1])
        for line in text.replace("\\\n", " ").splitlines()
        if line.strip()
    ]


def options_of_serve() -> set[str]:
    command = typer.main.get_command(application(["serve"])).commands["serve"]  # type: ignore[attr-defined]
    return {option for each in command.params for option in each.opts}


def called() -> Iterator[list[str]]:
    """What the files have run."""
    yield unit()["Service"]["ExecStart"].split()
    yield json.loads(dict(dockerfile())["CMD"])


@pytest.mark.parametrize("words", [*called()])
def test_fanout_is_called_with_options_that_it_has(words: list[str]) -> None:
    assert (words[0].rpartition("/")[2], words[1]) == ("fanout", "serve")
    assert {word for word in words if word.startswith("--")} <= options_of_serve()
    # Who stops it has to wait longer than this.
    assert float(words[words.index("--grace") + 1]) == GRACE_S


def test_the_unit_has_known_sections_and_directives() -> None:
    assert {section: set(lines) for section, lines in unit().items()} == {
        section: set(names.split()) for section, names in DIRECTIVES.items()
    }


def test_the_unit_waits_longer_than_steps_may_take_to_end() -> None:
    service = unit()["Service"]
    assert service["Type"] == "notify"
    assert float(service["TimeoutStopSec"]) >= GRACE_S + 10
    assert (service["DynamicUser"], service["NoNewPrivileges"], service["ProtectSystem"]) == ("yes", "yes", "strict")


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="only where systemd is; the tests above hold without"
)
def test_systemd_takes_the_unit_as_it_is(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"(?<=^ExecStart=)\S+", "/bin/true", UNIT.read_text(), flags=re.MULTILINE))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False, timeout=60
    )
    about_it = [line for line in result.stderr.splitlines() if UNIT.name in line]
    assert (about_it, result.returncode) == ([], 0), result.stderr


def test_the_image_runs_without_privileges_and_stops_in_peace() -> None:
    lines = dockerfile()
    said = dict(lines)
    assert lines[0] == ("FROM", "python:3.12-slim")
    assert {name for name, _ in lines} <= INSTRUCTIONS
    names = [name for name, _ in lines]
    assert said["USER"] not in ("root", "0")
    assert names.index("USER") < names.index("CMD")
    assert f"useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin {said['USER']}" in said_by(
        lines, "RUN"
    )
    assert said["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(said["VOLUME"]) == ["/data"]
    assert "FANOUT_TOKEN" not in "".join(value for name, value in lines if name in ("ENV", "ARG"))


def said_by(lines: list[tuple[str, str]], instruction: str) -> str:
    return "\n".join(value for name, value in lines if name == instruction)


def test_the_image_is_asked_for_its_health_by_python_that_parses() -> None:
    check = dict(dockerfile())["HEALTHCHECK"]
    python, flag, code = json.loads(check.partition("CMD ")[2])
    assert (python, flag) == ("python", "-c")
    compile(code, "HEALTHCHECK", "exec")
    port = json.loads(dict(dockerfile())["CMD"])
    assert f":{port[port.index('--port') + 1]}/health" in code
    assert dict(dockerfile())["EXPOSE"] == port[port.index("--port") + 1]
