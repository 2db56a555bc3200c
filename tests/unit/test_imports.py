"""Who may know whom: DESIGN's layers, held by reading the imports of every module."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import fanout
from fanout.commands.app import COMMANDS

ROOT = Path(fanout.__file__).parent

# The highest first. A module may import from its own layer and from those below.
LAYERS = (
    ("commands", "testing"),
    ("web",),
    ("views",),
    ("client", "engine", "runner", "tracing", "worker"),
    ("config", "config_text", "config_tracing", "events", "journal", "starter"),
    ("attached", "cloud_events", "codec", "core", "declare", "flow", "json_lists", "protocol"),
    ("durations", "errors", "ids", "model"),
)
PARTS = {part: depth for depth, layer in enumerate(LAYERS) for part in layer}
RUN_AN_ENGINE = {
    "cancel", "check", "cron", "dev", "functions", "init", "invoke", "journal", "replay", "send", "serve",
}  # fmt: skip
"""Or load the code, or may have to become the engine."""
STRANGERS = {("engine", "worker"), ("worker", "engine"), ("engine", "tracing"), ("worker", "tracing")}


class Import(NamedTuple):
    """`module` imports `target`, which is a module's name, whatever was taken from it."""

    module: str
    target: str
    line: int
    is_at_module_level: bool


@cache
def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        if path.is_relative_to(ROOT / "templates"):  # what `fanout init` writes is nothing that fanout imports
            continue
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(), str(path))
    return found


class Walk(ast.NodeVisitor):
    """Collects all that is imported when the code runs: not what only a type checker sees."""

    def __init__(self, module: str) -> None:
        self.found: list[Import] = []
        self._module = module
        self._functions = 0

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._functions += 1
        self.generic_visit(node)
        self._functions -= 1

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Import(self, node: ast.Import) -> None:
        self._add(node, *(alias.name for alias in node.names))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, f"{self._module} line {node.lineno}: imports are absolute here"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        self._add(node, *(name if name in modules() else str(node.module) for name in names))

    def _add(self, node: ast.stmt, *targets: str) -> None:
        self.found += [Import(self._module, target, node.lineno, self._functions == 0) for target in targets]


@cache
def all_imports() -> tuple[Import, ...]:
    found: list[Import] = []
    for name, tree in modules().items():
        walk = Walk(name)
        walk.visit(tree)
        found += walk.found
    return tuple(found)


def part_of(module: str) -> str:
    """The second name of `fanout.engine.loop`; empty for the package itself."""
    return [*module.split("."), ""][1]


def ours() -> list[Import]:
    return [each for each in all_imports() if each.target.split(".")[0] == "fanout"]


def importers(*libraries: str) -> set[str]:
    """The parts of fanout that import any of these, for types too."""
    found = set()
    for name, tree in modules().items():
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            if any(each.split(".")[0] in libraries for each in names):
                found.add(part_of(name) or name)
    return found


def test_the_walk_sees_what_there_is() -> None:
    assert Import("fanout.core.retry", "fanout.model", 5, True) in all_imports()
    assert any(each.module == "fanout.worker.__main__" and not each.is_at_module_level for each in ours())
    assert "fanout.client" not in {each.target for each in all_imports() if each.module == "fanout"}


def test_every_module_has_its_place_in_a_layer() -> None:
    assert {part_of(name) for name in modules()} - {""} <= set(PARTS)


def test_imports_point_down_only() -> None:
    upward = [
        f"{each.module} line {each.line} imports {each.target}"
        for each in ours()
        if part_of(each.module) and part_of(each.target) and PARTS[part_of(each.module)] > PARTS[part_of(each.target)]
    ]
    assert upward == []


def test_engine_workers_and_traces_never_import_each_other() -> None:
    assert [each for each in ours() if (part_of(each.module), part_of(each.target)) in STRANGERS] == []


def test_core_knows_only_the_data_and_itself() -> None:
    used = {part_of(each.target) for each in ours() if part_of(each.module) == "core"}
    assert used <= {"core", "durations", "errors", "model"}


def test_there_is_no_import_cycle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for each in ours():
        if each.is_at_module_level:
            graph[each.module].add(each.target)
    while leaves := {name for name, targets in graph.items() if not targets}:
        graph = {name: targets - leaves for name, targets in graph.items() if name not in leaves}
    assert graph == {}


@pytest.mark.parametrize(
    ("libraries", "parts"),
    [
        (("apsw", "sqlite3"), {"journal"}),
        (("typer", "rich", "click"), {"commands"}),
        (("cel_expr_python",), {"core"}),
        (("jsonschema_rs",), {"core"}),
        (("starlette", "uvicorn", "jinja2", "prometheus_client"), {"web"}),
        (("watchfiles",), {"engine"}),
        (("opentelemetry",), {"tracing", "worker"}),
        (("concurrent",), {"worker"}),  # threads, for plain steps of async functions
        (("pickle", "marshal", "shelve", "multiprocessing"), set()),
    ],
)
def test_a_library_stays_where_it_belongs(libraries: tuple[str, ...], parts: set[str]) -> None:
    assert importers(*libraries) <= parts


def test_only_one_module_knows_the_library_of_expressions() -> None:
    assert [name for name, tree in modules().items() if "cel_expr_python" in ast.unparse(tree)] == [
        "fanout.core.expressions"
    ]


@pytest.mark.parametrize("word", ["apsw", "sqlite_schema"])
def test_only_the_journal_speaks_of_its_database(word: str) -> None:
    speakers = {path.relative_to(ROOT).parts[0] for path in ROOT.rglob("*.py") if word in path.read_text()}
    assert speakers == {"journal"}


def test_nothing_forks() -> None:
    forks = [
        f"{name} line {node.lineno}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.fork", "os.forkpty"))
        or (isinstance(node, ast.ImportFrom) and node.module == "os")
    ]
    assert forks == []
    assert importers("posix", "pty") == set()


LOADED = """
import json, sys
{code}
print(json.dumps(sorted(sys.modules)))
"""
HEAVY = {
    "typer", "click", "rich", "sqlite3", "_sqlite3", "apsw", "croniter", "cel_expr_python", "jsonschema_rs", "pydantic",
    "starlette", "opentelemetry",
}  # fmt: skip


def loaded(code: str) -> set[str]:
    """The top packages in a fresh interpreter that has executed the code."""
    return {name.partition(".")[0] for name in loaded_modules(code)}


def loaded_modules(code: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", LOADED.format(code=code)], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(result.stdout))


def test_what_an_author_imports_is_light() -> None:
    # Who sends events from a program of their own needs a journal, and only tasks need asyncio.
    names = [name for name in fanout.__all__ if name not in ("AsyncContext", "Client", "connect")]
    code = "import fanout; " + "; ".join(f"fanout.{name}" for name in names)
    assert loaded(code) & (HEAVY | {"asyncio"}) == set()
    assert loaded("import fanout; fanout.connect") & (HEAVY | {"asyncio"}) == {"apsw"}


def test_declaring_is_light_too_as_long_as_nothing_has_an_expression() -> None:
    code = """
import fanout
@fanout.function(
    trigger=fanout.on("app/*"), timeouts=fanout.Timeouts(step="1s"), cancel_on=fanout.CancelOn("a", match="data.id")
)
def f(ctx): ...
"""
    assert loaded(code) & (HEAVY | {"asyncio"}) == set()
    with_expression = code.replace('match="data.id"', 'if_="event == async"')
    assert loaded(with_expression) & (HEAVY | {"asyncio"}) == {"cel_expr_python"}


def test_the_package_alone_loads_next_to_nothing() -> None:
    assert loaded("import fanout; fanout.__version__") & (HEAVY | {"msgspec", "inspect", "asyncio"}) == set()


def test_a_worker_starts_without_asyncio_too() -> None:
    assert loaded("import fanout.worker.__main__") & (HEAVY | {"asyncio"}) == set()


def test_what_judges_events_is_loaded_where_a_function_says_what_they_have() -> None:
    judges = {"fanout.core.json_schema", "fanout.worker.event_types", "fanout.worker.context_data"}
    for module in ("fanout.worker.__main__", "fanout.client"):
        assert loaded_modules(f"import {module}") & judges == set()


def test_workers_are_started_before_anything_that_talks_to_people_is_imported() -> None:
    assert loaded("import fanout.commands.main, fanout.engine.local") & (HEAVY | {"asyncio"}) == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_load_what_draws_and_what_evaluates_only_when_they_need_it(name: str) -> None:
    code = f"from fanout.commands.app import application\napplication([{name!r}])"
    assert loaded(code) & (HEAVY | {"asyncio"}) <= {"apsw", "typer"}


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - RUN_AN_ENGINE))
def test_commands_that_only_look_load_no_engine(name: str) -> None:
    code = f"from fanout.commands.app import application\napplication([{name!r}])"
    engine = {each for each in loaded_modules(code) if each.startswith(("fanout.engine.", "fanout.worker"))}
    assert engine <= {"fanout.engine.lock"}


def test_the_public_names_as_they_were_decided() -> None:
    """A second copy, on purpose: what people import is never changed by accident."""
    assert fanout.__all__ == [
        "AsyncContext", "Backoff", "Batch", "CancelOn", "Client", "Concurrency", "Context", "Debounce", "Event",
        "FanoutError", "InvokeError", "NonRetriableError", "Priority", "RateLimit", "RetryAfterError", "Singleton",
        "StepError", "Throttle", "Timeouts", "connect", "cron", "function", "on",
    ]  # fmt: skip


def test_every_public_name_resolves_and_no_other() -> None:
    assert sorted(fanout.__all__) == fanout.__all__
    assert dir(fanout) == sorted([*fanout.__all__, "__version__"])
    assert sorted(fanout._HOMES) == fanout.__all__
    for name in fanout.__all__:
        value = getattr(fanout, name)
        assert (value.__name__, value.__module__) == (name, fanout._HOMES[name])


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError) as raised:
        getattr(fanout, "cron_typo")  # noqa: B009 - a type checker would find it
    assert str(raised.value) == "module 'fanout' has no attribute 'cron_typo'"
