"""`grammar.json`, from which command lines are completed, says what the commands are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from fanout.commands import candidates
from fanout.commands.app import COMMANDS, application
from fanout.commands.completing import FILES, GRAMMAR
from fanout.starter import TEMPLATES
from tests.outputs.places import compare

KINDS = {
    "init FOLDER": FILES,
    "send FILES": FILES,
    "send --name": "event name",
    "invoke FUNCTION": "function that runs",
    "runs --function": "function",
    "runs --event": "event name",
    "runs show RUN": "run",
    "logs RUN": "run",
    "events --name": "event name",
    "events show EVENT": "event",
    "events schema NAME": "event name",
    "trace ID_": "event or run",
    "replay RUNS": "ended run",
    "replay --run": "ended run",
    "replay --function": "function",
    "replay --event": "event name",
    "why RUN": "run",
    "cancel RUNS": "live run",
    "stats --function": "function",
    "functions show NAME": "function",
    "functions pause NAMES": "function to pause",
    "functions resume NAMES": "paused function",
    "cron next FUNCTION": "function with a schedule",
    "cron trigger FUNCTION": "function with a schedule",
    "journal backup FILE": FILES,
    "journal export --function": "function",
}
"""What the values are; those of other arguments and options are anybody's."""


def written(found: dict[str, Any]) -> str:
    """A line for each parameter, so that changes can be read."""
    commands = []
    for path, command in found.items():
        options = ",\n".join(f"   {json.dumps(name)}: {json.dumps(each)}" for name, each in command["options"].items())
        arguments = "".join(f"\n   {json.dumps(each)}," for each in command["arguments"])
        commands.append(
            f' {json.dumps(path)}: {{\n  "help": {json.dumps(command["help"])},\n'
            f'  "options": {{\n{options}\n  }},\n  "arguments": [{arguments.removesuffix(",")}]\n }}'
        )
    return "{\n" + ",\n".join(commands) + "\n}\n"


def parameter(name: str, each: Any) -> dict[str, Any]:
    """What is not said of it: it takes no value, comes once, and may have any value."""
    choices = [[str(choice), ""] for choice in getattr(each.type, "choices", [])]
    if name == "init --template":
        choices = [list(pair) for pair in TEMPLATES.items()]
    kind = KINDS.get(name, FILES if name.endswith(" --config") else "")
    is_many = bool(getattr(each, "multiple", False)) or each.nargs == -1
    found: dict[str, Any] = {"help": each.help or ""}
    found |= {} if getattr(each, "is_flag", False) else {"kind": kind}
    return found | ({"choices": choices} if choices else {}) | ({"is_many": True} if is_many else {})


def walk(path: str, command: Any, named: set[str]) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", {})
    has_own = not inner or getattr(command, "invoke_without_command", False)
    options: dict[str, Any] = {}
    arguments = []
    for each in command.params if has_own else []:
        is_option = each.param_type_name == "option"
        name = f"{path} {each.opts[-1] if is_option else each.name.upper()}"
        named.add(name)
        if is_option:
            options |= dict.fromkeys(each.opts, parameter(name, each))
        else:
            arguments.append(parameter(name, each))
    options["--help"] = {"help": "Show this message and exit."}
    yield path, {"help": (command.help or "").split(". ")[0].rstrip("."), "options": options, "arguments": arguments}
    for name, each in inner.items():
        yield from walk(f"{path} {name}".strip(), each, named)


def grammar(named: set[str]) -> dict[str, Any]:
    """What is to be in the file; the arguments and options that there are are added to `named`."""
    top: Any = typer.main.get_command(application([]))
    found = {"": next(walk("", top, named))[1]}
    found[""]["options"]["--version"] = {"help": "Print the version."}
    for name in COMMANDS:
        group: Any = typer.main.get_command(application([name]))
        found |= dict(walk(name, group.commands[name], named))
    return found


def test_it_has_the_help_of_every_command_and_option() -> None:
    compare(GRAMMAR, written(grammar(set())))


@pytest.mark.parametrize("kind", sorted(set(KINDS.values()) - {FILES}))
def test_every_kind_is_known(kind: str) -> None:
    assert kind in candidates._KINDS


def test_every_kind_is_of_an_argument_or_option_that_is_there() -> None:
    named: set[str] = set()
    grammar(named)
    assert set(KINDS) <= named
