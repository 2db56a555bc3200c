"""What type checkers say: nothing of `tests/typing/api.py`, and of `wrong.py` what stands there."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import pytest

import fanout
from fanout import AsyncContext, Context, Event
from fanout.testing import run
from fanout.worker.async_step import AsyncSteps
from fanout.worker.step import Steps
from tests.typing import api

FOLDER = Path(api.__file__).parent
FILES = [FOLDER / "api.py", FOLDER / "wrong.py"]
EXPECTED = re.compile(r"  # (?P<mypy>[a-z-]+), (?P<pyright>report\w+)$", re.MULTILINE)

Findings = dict[tuple[str, int], set[str]]
"""The codes of errors, by file and line."""


def output_of(*command: str, cwd: Path) -> str:
    """Of a checker that knows nothing of this repository: as people have it."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def mypy(folder: Path) -> Findings:
    found: Findings = defaultdict(set)
    options = ("--strict", "--config-file=", "--cache-dir=cache", "--output=json")
    for line in output_of("mypy", *options, *map(str, FILES), cwd=folder).splitlines():
        each = json.loads(line)
        if each["severity"] == "error":
            found[Path(each["file"]).name, each["line"]].add(each["code"])
    return found


def pyright(folder: Path) -> Findings:
    found: Findings = defaultdict(set)
    text = output_of("pyright", "--pythonpath", sys.executable, "--outputjson", *map(str, FILES), cwd=folder)
    for each in json.loads(text)["generalDiagnostics"]:
        found[Path(each["file"]).name, each["range"]["start"]["line"] + 1].add(each["rule"])
    return found


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_checkers_accept_the_api_and_refuse_each_wrong_use(checker: Callable[[Path], Findings], tmp_path: Path) -> None:
    lines = (FOLDER / "wrong.py").read_text().splitlines()
    expected = {
        ("wrong.py", number): match[checker.__name__]
        for number, line in enumerate(lines, 1)
        if (match := EXPECTED.search(line))
    }
    assert len(expected) > 90
    # A line may have several errors; it counts that the right one is among them.
    found = {
        place: expected[place] if expected.get(place) in codes else ", ".join(sorted(codes))
        for place, codes in checker(tmp_path).items()
    }
    assert found == expected


def test_public_names_are_typed_and_documented_for_editors(tmp_path: Path) -> None:
    """`pyright --verifytypes`, of what people import and what they get from it."""
    text = output_of("pyright", "--verifytypes", "fanout", "--ignoreexternal", "--outputjson", cwd=tmp_path)
    symbols = json.loads(text)["typeCompleteness"]["symbols"]
    public = {f"{value.__module__}.{value.__qualname__}" for value in (*public_values(), *stepping())}
    assert public <= {each["name"] for each in symbols}
    incomplete = {
        each["name"]: [said["message"] for said in each["diagnostics"]]
        for each in symbols
        if any(each["name"] == name or each["name"].startswith(f"{name}.") for name in public)
        and (each["diagnostics"] or not each["isTypeKnown"])
    }
    assert incomplete == {}


def public_values() -> list[Any]:
    return [getattr(fanout, name) for name in fanout.__all__]


def stepping() -> tuple[type, ...]:
    return Steps, AsyncSteps


def test_the_wheel_says_that_it_is_typed() -> None:
    assert (Path(fanout.__file__).parent / "py.typed").is_file()


# The file that is checked leaves nothing out.


def calls() -> dict[str, list[ast.Call]]:
    """The calls of the file, by the last name of what is called."""
    found = defaultdict(list)
    for node in ast.walk(ast.parse((FOLDER / "api.py").read_text())):
        if isinstance(node, ast.Call):
            found[ast.unparse(node.func).rpartition(".")[2]].append(node)
    return found


def public_calls() -> Iterator[tuple[str, Callable[..., Any]]]:
    for value in public_values():
        if value not in (AsyncContext, Context, fanout.Client):  # nobody makes one
            yield value.__name__, value
    for owner in stepping():
        for name, member in vars(owner).items():
            if not name.startswith("_"):
                yield f"{owner.__name__}.{name}", member
    for member in (fanout.Client.send, fanout.Client.wait, fanout.Client.close):
        yield member.__qualname__, member


@pytest.mark.parametrize(("name", "value"), list(public_calls()))
def test_every_parameter_is_in_use(name: str, value: Callable[..., Any]) -> None:
    parameters = [each for each in inspect.signature(value).parameters.values() if each.name != "self"]
    by_place = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    named = {each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    used = set()
    found = calls()[name.rpartition(".")[2]]
    assert found
    for call in found:
        used |= {each.arg for each in call.keywords} | set(by_place[: len(call.args)])
    assert named <= used


@pytest.mark.parametrize("value", [*public_values(), *stepping()], ids=lambda value: str(value.__name__))
def test_every_public_name_says_what_it_is(value: Any) -> None:
    members = [each for name, each in vars(value).items() if not name.startswith("_") and callable(each)]
    for each in (value, *(members if inspect.isclass(value) else ())):
        assert inspect.getdoc(each), each


# What the types say is so when it runs.


def test_annotations_can_be_evaluated() -> None:
    hints = [get_type_hints(each) for each in (api.ship, api.refund, api.plain, api.reads)]
    assert [next(iter(each.values())) for each in hints] == [
        Context[api.Order], AsyncContext[api.Refund], Context, Event[api.Refund],
    ]  # fmt: skip
    assert {get_origin(each["return"]) for each in hints} == {None, Event}


def test_an_event_of_some_type_is_an_event() -> None:
    event = Event[api.Refund](id="e1", name="app/refund", ts=1, data=api.Refund(7, 5))
    assert type(event) is Event
    assert event == Event(id="e1", name="app/refund", ts=1, data=api.Refund(7, 5))


def test_branches_give_a_tuple() -> None:
    @fanout.function()
    def plain(ctx: Context) -> list[str]:
        return [repr(ctx.step.parallel(*[lambda: 1] * number)) for number in (0, 1, 2, 9)]

    @fanout.function()
    async def task(ctx: AsyncContext) -> list[str]:
        return [repr(await ctx.step.parallel(*[partial(ctx.step.run, "a", len, "a")] * 2))]

    assert run(plain).output == ["()", "(1,)", "(1, 1)", "(1, 1, 1, 1, 1, 1, 1, 1, 1)"]
    assert run(task).output == ["(1, 1)"]


def test_what_is_invoked_gets_the_data_that_its_context_names() -> None:
    @fanout.function()
    def caller(ctx: Context) -> list[int]:
        return [ctx.step.invoke("refund", pay, api.Refund(7, 5)), ctx.step.invoke("plain", pay, {"cents": 6})]

    @fanout.function()
    def pay(ctx: Context[api.Refund]) -> int:
        data: Any = ctx.event.data
        return int(data["cents"])

    result = run(caller, functions=[pay])
    assert result.output == [5, 6]
    assert [each.event.data for each in result.invoked] == [{"order": 7, "cents": 5}, {"cents": 6}]
