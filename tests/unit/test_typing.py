"""What type checkers say: nothing of `tests/typing/api.py`, and of `wrong.py` what stands there. What editors show."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import pytest

import fanout
from fanout import AsyncContext, Context, Event, testing
from fanout.testing import Project, Result, Running, StepResult, run
from fanout.worker.async_step import AsyncSteps
from fanout.worker.step import Steps
from tests.typing import api
from tests.typing.editor import Editor

FOLDER = Path(api.__file__).parent
FILES = [FOLDER / "api.py", FOLDER / "wrong.py"]
EXPECTED = re.compile(r"  # (?P<mypy>[a-z-]+(, [a-z-]+)*); (?P<pyright>report\w+(, report\w+)*)$")

Findings = dict[tuple[str, int], set[str]]
"""The codes of errors, by file and line."""


def output_of(*command: str, cwd: Path) -> str:
    """Of a checker that knows nothing of this repository: as people have it."""
    done = subprocess.run(
        [sys.executable, "-m", *command, *map(str, FILES)],
        cwd=cwd, check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def mypy(folder: Path) -> Findings:
    found: Findings = defaultdict(set)
    options = ("--strict", "--config-file=", "--cache-dir=cache", "--output=json")
    for line in output_of("mypy", *options, cwd=folder).splitlines():
        each = json.loads(line)
        if each["severity"] == "error":
            found[Path(each["file"]).name, each["line"]].add(each["code"])
    return found


def pyright(folder: Path) -> Findings:
    found: Findings = defaultdict(set)
    text = output_of("pyright", "--pythonpath", sys.executable, "--outputjson", cwd=folder)
    for each in json.loads(text)["generalDiagnostics"]:
        found[Path(each["file"]).name, each["range"]["start"]["line"] + 1].add(each["rule"])
    return found


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_checkers_accept_the_api_and_refuse_each_wrong_use(checker: Callable[[Path], Findings], tmp_path: Path) -> None:
    expected = {
        ("wrong.py", number): set(match[checker.__name__].split(", "))
        for number, line in enumerate((FOLDER / "wrong.py").read_text().splitlines(), 1)
        if (match := EXPECTED.search(line))
    }
    assert len(expected) > 120
    assert checker(tmp_path) == expected


# The file that is checked leaves nothing out.

HELD = (Steps, AsyncSteps, Context, AsyncContext, Event, fanout.Client, Project, Result, Running, StepResult)
"""What people don't make but have, and look into."""


def public_values() -> list[Any]:
    names = [(module, name) for module in (fanout, testing) for name in module.__all__]
    return [getattr(module, name) for module, name in names]


def calls() -> dict[str, list[ast.Call]]:
    """The calls of the file, by the last name of what is called."""
    found = defaultdict(list)
    for node in ast.walk(ast.parse((FOLDER / "api.py").read_text())):
        if isinstance(node, ast.Call):
            found[ast.unparse(node.func).rpartition(".")[2]].append(node)
    return found


def public_calls() -> Iterator[tuple[str, Callable[..., Any]]]:
    for value in public_values():
        if value not in {*HELD} - {Event, Project, Running}:
            yield value.__name__, value
    for owner in (Steps, AsyncSteps, Project, Running):
        for name, member in vars(owner).items():
            if not name.startswith("_") and inspect.isfunction(member):
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


# What an editor shows.


def attributes(owner: type) -> set[str]:
    """What one of these has that is public: members, fields, and what its constructor sets."""
    found = set()
    for base in owner.__mro__:
        if base.__module__.startswith("fanout."):
            nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(base)))))
            found |= {*vars(base), *inspect.get_annotations(base)}
            found |= {ast.unparse(each).removeprefix("self.") for each in nodes if isinstance(each, ast.Attribute)
                      and isinstance(each.ctx, ast.Store) and ast.unparse(each.value) == "self"}  # fmt: skip
    return {name for name in found if not name.startswith("_")}


def shown() -> Iterator[tuple[str, str]]:
    """What a person points at: the name, and the line of code in which it is the last one."""
    for module in (fanout, testing):
        for name in module.__all__:
            yield f"{module.__name__}.{name}", f"{module.__name__}.{name}"
    for owner in (*HELD, fanout.FanoutError, fanout.RetryAfterError, fanout.StepError, fanout.InvokeError):
        for name in sorted(attributes(owner)):
            yield f"{owner.__name__}.{name}", f"def of_{owner.__name__}(it: {owner.__name__}): it.{name}"


def told(hover: str) -> str:
    """What is written of it: its type, or the signatures of its overloads, stand before that."""
    _, *paragraphs = hover.split("\n\n")
    return "\n\n".join(each for each in paragraphs if not each.startswith("def "))


def test_an_editor_documents_every_public_name(tmp_path: Path) -> None:
    listed = list(shown())
    imports = (
        "import fanout, fanout.testing",
        "from fanout import *",
        "from fanout.testing import *",
        "from fanout.worker.step import Steps",
        "from fanout.worker.async_step import AsyncSteps",
        'def sends(client: Client): client.send({"name": "app/order.paid", ""})',
    )
    code = [*imports, *(line for _, line in listed)]
    with Editor(tmp_path, "\n".join(code)) as editor:
        hovers = {name: editor.hover(code.index(line), len(line) - 1) for name, line in listed}
        assert editor.completions(len(imports) - 1, len(imports[-1]) - 3) == {
            '"data"', '"id"', '"ts"', '"user"', '"v"',
        }  # fmt: skip
    assert [name for name, hover in hovers.items() if not told(hover)] == []
    assert "Unknown" not in "".join(hovers.values())
    assert len(hovers) > 120


def test_the_wheel_says_that_it_is_typed() -> None:
    assert (Path(fanout.__file__).parent / "py.typed").is_file()


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
        return [ctx.step.invoke("refund", pay, api.Refund(7, 5)), *ctx.step.map("refunds", pay, [api.Refund(8, 6)])]

    @fanout.function()
    def pay(ctx: Context[api.Refund]) -> int:
        data: Any = ctx.event.data
        return int(data["cents"])

    result = run(caller, functions=[pay])
    assert result.output == [5, 6]
    assert [each.event.data for each in result.invoked] == [{"order": 7, "cents": 5}, {"order": 8, "cents": 6}]


@fanout.function(trigger=fanout.on("app/refund"), event_schema=api.Refund)
def pay_back(ctx: Context[api.Refund]) -> api.Refund:
    if not ctx.event.data.cents:
        raise fanout.NonRetriableError("nothing to pay")
    return ctx.event.data


def test_a_result_is_what_the_function_says_that_it_returns() -> None:
    refund = api.Refund(7, 5)
    assert run(pay_back, data=refund).output == refund
    assert run(pay_back, "app/refund", data=refund).output == refund
    assert run(pay_back, {"name": "app/refund", "data": refund}).output == refund
    assert run(pay_back, data=api.Refund(7, 0)).output is None
    with Running(pay_back, data=refund) as running:
        assert running.finish().output == refund


def test_so_it_is_in_a_project_and_its_children() -> None:
    @fanout.function()
    def parent(ctx: Context) -> tuple[int, str]:
        return ctx.step.invoke("refund", pay_back, api.Refund(7, 5)).cents, "paid"

    project = Project(pay_back, parent)
    assert [each.output for each in project.send("app/refund", data=api.Refund(8, 6))] == [api.Refund(8, 6)]
    assert project.invoke(pay_back, api.Refund(9, 7)).output == api.Refund(9, 7)
    result = project.invoke(parent)
    assert result.output == (5, "paid")
    assert [each.output for each in result.invoked] == [api.Refund(7, 5)]


def test_in_several_apps_a_result_is_of_its_own_function(tmp_path: Path) -> None:
    for name, returned in (("one", "tuple[int, int]"), ("two", "list[int]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"functions_{name}.py").write_text(
            "import fanout\n\n@fanout.function(trigger=fanout.on('a'))\n"
            f"def work(ctx: fanout.Context) -> {returned}:\n    return [1, 2]\n"
        )
    (tmp_path / "fanout.toml").write_text(
        "".join(
            f'[[apps]]\nid = "{each}"\npath = "{each}"\nfunctions = ["functions_{each}"]\n' for each in ("one", "two")
        )
    )
    results = Project(tmp_path).send({"name": "a"})
    assert {each.function: each.output for each in results} == {"one/work": (1, 2), "two/work": [1, 2]}


def test_a_stand_in_returns_json() -> None:
    @fanout.function()
    def parent(ctx: Context) -> list[Any]:
        return [ctx.step.invoke("other", "other", {})]

    result = run(parent, functions={"other": (1, 2)})
    assert (result.output, result.invoked[0].output) == ([[1, 2]], [1, 2])
