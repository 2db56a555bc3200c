"""What there is to be looked up is on its page: settings, arguments, variables, errors, exit codes, states, metrics, calls."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import fanout
from fanout import codec, config, declare, errors, model, testing
from fanout.events import Limits
from fanout.model import RunState
from fanout.testing import Result
from fanout.web.api.routes import CALLS
from fanout.web.security import MOST_BODY_BYTES
from fanout.worker import asking, execution, parallel
from fanout.worker.async_step import AsyncSteps
from fanout.worker.step import Steps
from tests.docs.pages import PAGES, ROOT, parts

SOURCES = sorted((ROOT / "cli" / "fanout").rglob("*.py"))
DECLARED: tuple[Callable[..., Any], ...] = (
    fanout.Backoff, fanout.Batch, fanout.CancelOn, fanout.Concurrency, fanout.Debounce, fanout.Priority,
    fanout.RateLimit, fanout.Singleton, fanout.Throttle, fanout.Timeouts, fanout.cron, fanout.on,
)  # fmt: skip
ERRORS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.FanoutError)]
RESULT = {name for name in (*Result.__annotations__, *dir(Result)) if not name.startswith("_")}
SET_BY_OTHERS = {"WATCHDOG_PID"}
"""What no person sets or should look at."""


class Row(NamedTuple):
    heading: str
    first: str
    text: str


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def section(name: str, heading: str) -> str:
    """What is below a heading, its smaller headings included, without blocks of code."""
    level = len(heading) - len(heading.lstrip("#"))
    text = re.sub(r"^```.*?^```$", "", page(name), flags=re.MULTILINE | re.DOTALL)
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{level}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/{name} has no `{heading}`"
    return found[1]


def rows(text: str) -> list[Row]:
    """Of all tables: the first cell of the table, the first of the row, and the row."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in table.splitlines()
        ]
        found += [Row(lines[0][0], line[0], " ".join(line)) for line in lines[2:]]
    return found


def names(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


@pytest.mark.parametrize("table", config._SETTINGS)
def test_every_setting_of_fanout_toml_is_on_its_page(table: str) -> None:
    told = {name for row in rows(section("settings.md", "## fanout.toml")) if f"[{table}]" in row.heading
            for name in names(row.first)}  # fmt: skip
    assert told == set(config._SETTINGS[table])


def test_the_fanout_toml_on_the_page_has_every_setting_and_the_defaults(tmp_path: Path) -> None:
    text = next(each.text for each in parts(ROOT / "docs" / "settings.md") if each.language == "toml")
    found = {(table, key) for table, body in re.findall(r"^\[(\w+)\]\n((?:.+\n)*)", text, re.MULTILINE)
             for key in re.findall(r"^(?:# )?(\w+)(?=:| =)", body, re.MULTILINE)}  # fmt: skip
    assert found == {(table, key) for table, keys in config._SETTINGS.items() for key in keys}
    shown, least = tmp_path / "shown.toml", tmp_path / "least.toml"
    shown.write_text(text)
    least.write_text('[app]\nid = "shop"\nfunctions = ["functions"]\n')
    by_default, as_shown = config.load(least), config.load(shown)
    # Where the default is that of the machine, or nothing, the page shows an example and says so.
    examples = ("path", "processes", "dev_retry_delay", "redact", "otel")
    different = [name for name in config.Config.__struct_fields__ if name not in examples
                 and getattr(by_default, name) != getattr(as_shown, name)]  # fmt: skip
    assert different == []


def test_every_argument_of_function_is_on_the_page_and_in_its_example() -> None:
    arguments = set(inspect.signature(declare.function).parameters)
    told = {name for row in rows(section("settings.md", "## Functions")) for name in names(row.first)}
    assert arguments <= told
    shown = {
        keyword.arg
        for part in parts(ROOT / "docs" / "settings.md") if part.language == "python"
        for call in ast.walk(ast.parse(part.text)) if isinstance(call, ast.Call) and "function" in ast.dump(call.func)
        for keyword in call.keywords
    }  # fmt: skip
    assert shown == arguments


@pytest.mark.parametrize("declared", DECLARED, ids=lambda each: each.__name__)
def test_what_goes_into_function_is_shown_with_its_arguments(declared: Callable[..., Any]) -> None:
    given = inspect.signature(declared).parameters.values()
    shown = ", ".join(
        each.name if each.default is each.empty else f"{each.name}={_as_written(each.default)}" for each in given
    )
    assert f"`{declared.__name__}({shown})`" in section("settings.md", "## Functions")


def _as_written(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return f"{value:g}" if isinstance(value, float) else repr(value)


def test_every_variable_of_the_environment_is_on_the_page() -> None:
    quoted = r'"((?:FANOUT|OTEL)_[A-Z_]+|NO_COLOR|PYTHONHASHSEED|NOTIFY_SOCKET|WATCHDOG_[A-Z]+)"'
    read = {name for each in SOURCES for name in re.findall(quoted, each.read_text())}
    told = {name for row in rows(section("settings.md", "## The environment")) for name in names(row.first)}
    assert {"FANOUT_CONFIG", "FANOUT_TOKEN", "NOTIFY_SOCKET"} <= read
    assert read - told == SET_BY_OTHERS


def test_the_limits_on_the_page_are_those_that_hold() -> None:
    mib = 1024 * 1024
    assert {
        row.first: row.text.removeprefix(row.first).strip() for row in rows(section("settings.md", "## Limits"))
    } == {
        "an event": f"{Limits().event_bytes // 1024} KiB of JSON",
        "a request": f"{Limits().request_events:,} events; over HTTP {MOST_BODY_BYTES // mib} MiB",
        "names of events and functions": f"{declare.MAX_NAME_BYTES} bytes",
        "names of steps": f"{execution.MAX_STEP_NAME_CHARS} characters",
        "what a step or a function returns": f"{codec.MAX_OUTPUT_BYTES // mib} MiB of JSON",
        "a sleep, a wait, a delay": f"{model.MAX_SPAN_S // 86_400} days",
        "branches of `parallel`": f"{parallel.MAX_BRANCHES:,}",
        "items of `map`": f"any number; {asking.MAX_IN_FLIGHT:,} of their runs are there at a time",
        "events that one step sends": f"{asking._LIMITS.request_events:,}, and {asking._MAX_SENT_BYTES // mib} MiB",
        "events in a batch": f"{model.MAX_BATCH_SIZE:,}",
        "triggers of a function": f"{declare.MAX_TRIGGERS}",
        "attempts after the first": f"{model.MAX_RETRIES}",
    }


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: each.__name__)
def test_every_error_has_a_section(error: type[errors.FanoutError]) -> None:
    assert len(section("errors.md", f"### {error.__name__}").split()) > 5


def test_every_exit_code_is_on_the_page() -> None:
    given = r"(?:exit_code(?:: ClassVar\[int\])? = |Exit\(|SystemExit\(|sys\.exit\()(\d+)"
    ended_with = {int(code) for each in SOURCES for code in re.findall(given, each.read_text())}
    told = [int(row.first) for row in rows(section("errors.md", "## Exit codes"))]
    assert told == [0, 1, 2, 3, 4, 5, 130]
    assert ended_with <= set(told)
    assert {each.exit_code for each in ERRORS} <= set(told)


def test_what_the_journal_is_said_to_say_is_what_it_says() -> None:
    source = "".join(each.read_text() for each in SOURCES if each.parent.name == "journal")
    told = [row.first.strip("`") for row in rows(section("errors.md", "### JournalError"))]
    assert [each for each in told if not re.search(re.escape(each).replace(re.escape("..."), ".*"), source)] == []
    assert len(told) > 3


def test_every_state_of_a_run_is_explained() -> None:
    assert [row.first for row in rows(section("concepts.md", "## States"))] == [str(state) for state in RunState]


@pytest.mark.parametrize("steps", [Steps, AsyncSteps])
def test_every_kind_of_step_is_shown(steps: type) -> None:
    kinds = [name for name in vars(steps) if not name.startswith("_")]
    assert [name for name in kinds if f"{name}(" not in page("concepts.md")] == []


def test_every_name_that_can_be_imported_is_somewhere() -> None:
    text = "".join(each.read_text() for each in PAGES)
    assert [name for name in fanout.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_the_page_on_testing_has_all_that_it_offers() -> None:
    text = page("testing.md")
    offered = {*testing.__all__, *RESULT} - {"StepResult", "Result", "key"}  # only annotations need the first two
    assert [name for name in sorted(offered) if not re.search(rf"\b{name}\b", text)] == []


def test_every_metric_is_on_the_page() -> None:
    source = (ROOT / "cli" / "fanout" / "web" / "metrics.py").read_text()
    made = set(re.findall(r'"(fanout_[a-z_]+)"', source))
    told = set(re.findall(r"`(fanout_[a-z_]+?)(?:_total)?[`{]", page("http.md")))
    assert made == told


def test_every_call_of_the_api_is_on_the_page() -> None:
    told = section("http.md", "## For programs: `/api`")
    missing = []
    for call in CALLS:
        path = re.sub(r"\{(\w+):path\}", r"{\1}", call.path)
        short = re.sub(r".*\{\w+\}/", ".../", path)
        if not any(f"{before}{each}`" in told for each in (path, path.replace("{id}", "{function}"), short)
                   for before in ("`", f"`{call.method} ")):  # fmt: skip
            missing.append(f"{call.method} {path}")
    assert missing == []


def test_every_module_of_the_engine_is_on_the_page_on_how_it_is_built() -> None:
    told = re.findall(r"^(?: {13}|engine .*\()(\w+\.py)", page("architecture.md"), re.MULTILINE)
    assert sorted(told) == sorted(each.name for each in (ROOT / "cli" / "fanout" / "engine").glob("[!_]*.py"))
