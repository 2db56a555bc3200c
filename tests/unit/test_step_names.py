"""The names of steps that can be known from a function's source, and when they can't."""

from __future__ import annotations

import importlib.util
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from fanout.worker.step_names import step_names


def loaded(folder: Path, code: str) -> ModuleType:
    path = folder / f"code_{len([*folder.iterdir()])}.py"
    path.write_text("import functools\nNAME = 'n'\nUNIT = None\n" + textwrap.dedent(code))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names(folder: Path, body: str, head: str = "def f(ctx):") -> tuple[str, ...] | None:
    code = f"{head}\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"
    found: tuple[str, ...] | None = step_names(loaded(folder, code).f.__code__)
    return found


def test_names_in_the_order_of_the_source_each_once(tmp_path: Path) -> None:
    body = """
        ctx.step.run("charge", print, ctx.event.data)
        for _ in ctx.events:
            ctx.step.run("charge", print)
        if ctx.attempt:
            ctx.step.sleep_until(name="rest", when=0)
        def branch():
            return ctx.step.map("each", UNIT, [])
        ctx.logger.info("not a step")
        return ctx.step.parallel(branch, lambda: ctx.step.invoke("one", UNIT)), ctx.run_id
    """
    assert names(tmp_path, body) == ("charge", "rest", "each", "one")


def test_coroutines_and_other_names_of_the_context(tmp_path: Path) -> None:
    body = "await context.step.run('a', print)"
    assert names(tmp_path, body, "async def f(context):") == ("a",)


def test_decorators_and_no_steps(tmp_path: Path) -> None:
    assert names(tmp_path, "return 1", "@functools.lru_cache\n@functools.cache\ndef g(x): pass\n\ndef f(ctx):") == ()
    module = loaded(tmp_path, "def plain(x): return x\n\n@plain\n@plain\ndef f(ctx):\n    ctx.step.run('a', print)\n")
    assert step_names(module.f.__code__) == ("a",)


@pytest.mark.parametrize(
    "body",
    [
        "ctx.step.run(f'charge-{1}', print)",
        "ctx.step.run(NAME, print)",
        r"ctx.step.run('\ud800', print)",
        "ctx.step.run('a' + 'b', print)",
        "ctx.step.run(*[1, 2])",
        "ctx.step.run()",
        "helper(ctx)",
        "steps = ctx.step\nsteps.run('a', print)",
        "helper(ctx.step)",
        "run = ctx.step.run\nrun('a', print)",
        "getattr(ctx, 'step').run('a', print)",
        "ctx.something_new()",
    ],
)
def test_what_is_computed_or_handed_on_makes_all_unknown(tmp_path: Path, body: str) -> None:
    assert names(tmp_path, f"ctx.step.run('known', print)\n{body}") is None


def test_without_source_nothing_is_known(tmp_path: Path) -> None:
    there: dict[str, object] = {}
    exec("def f(ctx):\n    ctx.step.run('a', print)", there)
    assert step_names(there["f"].__code__) is None  # type: ignore[attr-defined]
    assert step_names(None) is None
    assert names(tmp_path, "return 1", "def f():") is None
    assert step_names(loaded(tmp_path, "f = lambda ctx: ctx.step.run('a', print)").f.__code__) is None
