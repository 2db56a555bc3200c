"""The scripts of `fanout completion`, in the shells that they are for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.conftest import COMMAND, FENCE_S, Project

CODE = """
@fanout.function(trigger=fanout.on("app/user.signup"))
def send_mail(ctx):
    return "sent"

@fanout.function(trigger=fanout.on("app/user.signup"), retries=0)
def sync_crm(ctx):
    raise ValueError("no")
"""

BASH = r"""
eval "$(fanout completion bash)"
set -- $(complete -p fanout)
function=${@: -2:1}
at() {
    COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=${2:-9} COMPREPLY=()
    COMP_WORDS=($1) COMP_CWORD=${#COMP_WORDS[@]}
    "$function" fanout
    printf '%s\n' "${COMPREPLY[@]-}" ---
}
"""


def in_shell(project: Project, shell: str, script: str) -> str:
    path = f"{Path(COMMAND).parent}:{project.environment()['PATH']}"
    done = subprocess.run(
        [shell, *(["--noprofile", "--norc"] if shell == "bash" else []), "-c", script],
        cwd=project.root, env={**project.environment(), "PATH": path, "HOME": str(project.root)},
        capture_output=True, text=True, timeout=FENCE_S, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def in_bash(project: Project, *calls: str) -> list[list[str]]:
    """What is completed at the end of each line; none is one empty line."""
    out = in_shell(project, "bash", BASH + "\n".join(f"at {call}" for call in calls))
    return [part.split("\n") for part in out.removesuffix("\n---\n").split("\n---\n")]


@pytest.fixture
def sent(project: Project) -> tuple[Project, list[str]]:
    """A project, and the ends of the ids of its two runs, the newest first."""
    project.write(CODE)
    runs = project.send("app/user.signup").json()["runs"]
    return project, sorted((run["id"][-10:] for run in runs), reverse=True)


def test_bash_completes_commands_options_and_what_the_journal_has(sent: tuple[Project, list[str]]) -> None:
    project, ids = sent
    names = {run["id"][-10:]: run["function"] for run in project.fanout("runs", "--json").json()["runs"]}
    found = in_bash(
        project,
        "'fanout ru'",
        "'fanout runs --fo'",
        "'fanout runs show '",
        "'fanout invoke s'",
        "'fanout send --name app/'",
        "'fanout init --template=m'",
        "'fanout send fun'",
        "'fanout nonsense '",
        "'fanout invoke s' 63",
        "'fanout why ' 63",
    )
    assert found[:8] == [
        ["runs"],
        ["--follow"],
        ids,
        ["send-mail", "sync-crm"],
        ["app/user.signup"],
        ["minimal"],
        [""],
        [""],
    ]
    assert found[8] == ["send-mail  (app/user.signup)", "sync-crm   (app/user.signup)"]
    assert [line.split("  (")[0] for line in found[9]] == ids
    for id_, line in zip(ids, found[9], strict=True):
        state = "failed" if names[id_] == "sync-crm" else "completed"
        assert line.startswith(f"{id_}  ({names[id_]} {state} ")


def test_completing_never_makes_a_journal_and_never_talks(project: Project) -> None:
    assert in_bash(project, "'fanout runs show '", "'fanout invoke '") == [[""], [""]]
    project.write("raise SystemExit('executed')")
    assert in_bash(project, "'fanout runs show '", "'fanout invoke '") == [[""], [""]]
    assert not project.journal.exists()


needs = {shell: pytest.mark.skipif(not shutil.which(shell), reason=f"no {shell}") for shell in ("zsh", "fish")}
"""People may have neither; CI has both."""


@pytest.mark.parametrize("shell", [pytest.param(shell, marks=mark) for shell, mark in needs.items()])
def test_other_shells_can_read_theirs(project: Project, shell: str) -> None:
    script = project.root / "script"
    script.write_text(project.fanout("completion", shell).out)
    assert in_shell(project, shell, f"{shell} -n {script}") == ""


@needs["fish"]
def test_fish_completes_with_meanings(sent: tuple[Project, list[str]]) -> None:
    begin = "fanout completion fish | source; "
    found = in_shell(sent[0], "fish", begin + "complete -C 'fanout invoke s'; complete -C 'fanout init --template=m'")
    assert found.splitlines() == [
        "send-mail\tapp/user.signup",
        "sync-crm\tapp/user.signup",
        "--template=minimal\tone function with one step",
    ]


@needs["zsh"]
def test_zsh_completes_with_meanings(sent: tuple[Project, list[str]]) -> None:
    """Its own completion system needs a terminal: what it is told is looked at here."""
    script = """
    compdef() { : }
    _describe() { print -rl -- "${(@P)3}" }
    _files() { print files }
    eval "$(fanout completion zsh)"
    at() { words=("$@") CURRENT=$#; _fanout || print none }
    at fanout invoke s
    at fanout init --template=m
    at fanout send --name "'app/"
    at fanout send ""
    at fanout nonsense ""
    """
    assert in_shell(sent[0], "zsh", script).splitlines() == [
        "send-mail:app/user.signup",
        "sync-crm:app/user.signup",
        "--template=minimal:one function with one step",
        "app/user.signup:send-mail, sync-crm",
        "files",
        "none",
    ]
