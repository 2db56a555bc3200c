"""The names of a function's steps, as its source has them: a plan can then say which steps there are before it runs.

Only what is certain counts: a name that is computed, or a context that is handed on, makes all of it unknown.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path
from types import CodeType

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_WITHOUT_NAME = frozenset({"parallel"})
_WITHOUT_STEPS = frozenset({"event", "events", "run_id", "attempt", "max_attempts", "logger"})
"""What else a context has."""


def step_names(code: CodeType | None) -> tuple[str, ...] | None:
    """The names given to `ctx.step...` in this code's source, in order; None where they can't be known from it."""
    if code is None or code.co_argcount == 0:
        return None
    found = _functions(code.co_filename).get((code.co_firstlineno, code.co_name))
    return None if found is None else _names(found, code.co_varnames[0])


@lru_cache(maxsize=64)
def _functions(filename: str) -> dict[tuple[int, str], _Function]:
    """The functions of a file by line and name; a line is that of the first decorator, as code objects have it."""
    try:
        tree = ast.parse(Path(filename).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return {}
    functions = (node for node in ast.walk(tree) if isinstance(node, _Function))
    return {(min([node.lineno, *(each.lineno for each in node.decorator_list)]), node.name): node for node in functions}


def _names(function: _Function, context: str) -> tuple[str, ...] | None:
    names: dict[str, None] = {}
    explained: set[int] = set()
    """Uses of the context that are understood. Whatever else it is used for may have steps, too."""
    body = [node for statement in function.body for node in ast.walk(statement)]
    for node in body:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_step(node.func.value, context):
            explained.update(map(id, ast.walk(node.func)))
            if node.func.attr in _WITHOUT_NAME:
                continue
            name = _first_argument(node)
            # One that can't be printed is refused when the step is reached.
            if not isinstance(name, ast.Constant) or not isinstance(name.value, str) or not name.value.isprintable():
                return None
            names[name.value] = None
        elif isinstance(node, ast.Attribute) and node.attr in _WITHOUT_STEPS:
            explained.add(id(node.value))
    if any(isinstance(node, ast.Name) and node.id == context and id(node) not in explained for node in body):
        return None
    return tuple(names)


def _is_step(node: ast.expr, context: str) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr == "step"
        and isinstance(node.value, ast.Name)
        and node.value.id == context
    )


def _first_argument(call: ast.Call) -> ast.expr | None:
    if call.args:
        return call.args[0]
    return next((each.value for each in call.keywords if each.arg == "name"), None)
