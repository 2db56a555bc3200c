from __future__ import annotations

import os
import subprocess
import sys
from types import CodeType

import pytest

from fanout.worker.branches import Branch, fingerprint

SOURCE = """
def f(ctx):
    limits = {"a": 1, "b": 2.5}
    if ctx.event.name in {"app/a", "app/b", "app/c"}:
        return ctx.step.parallel(lambda: ctx.step.run("x", print), lambda: ctx.step.run("y", print))
    return [limits.get(name) for name in limits]
"""


def code_of(source: str) -> CodeType:
    names: dict[str, object] = {}
    exec(compile(source, "shop.py", "exec"), names)
    code: CodeType = names["f"].__code__  # type: ignore[attr-defined]
    return code


def test_branches_are_numbered_as_the_code_starts_them() -> None:
    root = Branch(None)  # type: ignore[arg-type] # whose branches they are does not matter here
    one, two = root.fork(), root.fork()
    inner = [two.fork(), one.fork(), two.fork()]
    assert [each.path for each in (root, one, two, *inner)] == ["", "1", "2", "2.1", "1.1", "2.2"]


def test_a_fingerprint_is_eight_digits() -> None:
    assert len(fingerprint(code_of(SOURCE))) == 8
    assert int(fingerprint(code_of(SOURCE)), 16) >= 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def f", "# a comment\n\n\ndef f"),
        ("    limits", "    # a comment\n    limits"),
        ('"app/a", ', '"app/a",  '),
    ],
)
def test_what_only_looks_different_has_the_same_fingerprint(old: str, new: str) -> None:
    assert fingerprint(code_of(SOURCE.replace(old, new))) == fingerprint(code_of(SOURCE))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"a": 1', '"a": 3'),
        ("2.5", "2.25"),
        ('"app/c"', '"app/d"'),
        ("ctx.step", "ctx.steps"),
        ('run("y"', 'run("z"'),
        ("print), lambda", "repr), lambda"),
        ('lambda: ctx.step.run("x", print), ', ""),
        ("limits.get(name)", "limits.pop(name)"),
        ("return [", "return 1 + ["),
    ],
)
def test_an_edit_anywhere_inside_changes_it(old: str, new: str) -> None:
    assert old in SOURCE
    assert fingerprint(code_of(SOURCE.replace(old, new))) != fingerprint(code_of(SOURCE))


IN_ANOTHER_PROCESS = """
import sys
from fanout.worker.branches import fingerprint
names = {}
exec(compile(sys.argv[1], "elsewhere.py", "exec"), names)
names["f"](type("C", (), {"event": type("E", (), {"name": "other"})}))  # Python may change code that has been executed
print(fingerprint(names["f"].__code__))
"""


@pytest.mark.parametrize("seed", ["1", "2"])
def test_it_is_the_same_in_every_process(seed: str) -> None:
    """The order of a set of texts is another in each."""
    result = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, SOURCE],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout.strip() == fingerprint(code_of(SOURCE))


def test_what_has_no_code_has_a_fingerprint_of_nothing() -> None:
    assert fingerprint(None) == "00000000"
