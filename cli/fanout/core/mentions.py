"""What a module says, as it is written: the events that it sends, the functions that it invokes, what its steps wait
for. A name that is put together when the code runs is not seen.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from fanout.core.routing import Routes
from fanout.model import EventTrigger, FunctionSpec

_SENDS = "send_event"
_INVOKES = frozenset({"invoke", "map"})
_WAITS = "wait_for_event"


class Mention(msgspec.Struct, frozen=True):
    """A name that stands in a module. `is_prefix`: it goes on with what is known only when the code runs."""

    name: str
    line: int
    is_prefix: bool = False


class Mentions(msgspec.Struct):
    """What one module mentions. Invoked functions go by the name that the code has for them, or by their id."""

    sent: list[Mention] = msgspec.field(default_factory=list)
    invoked: set[str] = msgspec.field(default_factory=set)
    awaited: set[str] = msgspec.field(default_factory=set)


def mentions(text: str) -> Mentions:
    """Read a module's source; one that is no Python mentions nothing."""
    found = Mentions()
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError):
        return found
    for node in ast.walk(module):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr == _SENDS:
            found.sent += _sent(node)
        elif node.func.attr in _INVOKES:
            found.invoked |= set(_target(node))
        elif node.func.attr == _WAITS:
            found.awaited |= {said.name for said in _texts(_keyword(node, "event"))}
    return found


def _sent(call: ast.Call) -> Iterator[Mention]:
    """The names of the events among what is sent: `{"name": ...}` or `Event(name=...)`, however deep in a list."""
    for argument in [*call.args[1:], *(keyword.value for keyword in call.keywords)]:
        for node in ast.walk(argument):
            if isinstance(node, ast.Dict):
                named = (value for key, value in zip(node.keys, node.values, strict=True) if _is_text(key, "name"))
                yield from _texts(next(named, None))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                if called == "Event":
                    yield from _texts(_keyword(node, "name") or next(iter(node.args), None))


def _target(call: ast.Call) -> Iterator[str]:
    given = call.args[1] if len(call.args) > 1 else _keyword(call, "function")
    if isinstance(given, ast.Name):
        yield given.id
    elif isinstance(given, ast.Attribute):
        yield given.attr
    else:
        yield from (said.name for said in _texts(given))


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _is_text(node: ast.expr | None, text: str) -> bool:
    return isinstance(node, ast.Constant) and node.value == text


def _texts(node: ast.expr | None) -> Iterator[Mention]:
    """A text that is written out, or the beginning of one that is put together."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield Mention(node.value, node.lineno)
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    elif isinstance(node, ast.JoinedStr) and node.values:
        first = node.values[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield Mention(first.value, node.lineno, is_prefix=True)


def unreached(functions: Sequence[FunctionSpec], invoked: Iterable[str]) -> list[FunctionSpec]:
    """Functions that nothing starts: no trigger, no other function's failure, and nobody mentions them."""
    called = set(invoked) | {spec.on_failure for spec in functions if spec.on_failure is not None}
    return [
        spec
        for spec in functions
        if not spec.triggers and called.isdisjoint({spec.id, spec.local_id, spec.qualname.rpartition(".")[2]})
    ]


def is_heard(event: Mention, functions: Iterable[FunctionSpec], awaited: Iterable[str]) -> bool:
    """Whether a function listens to it, or a step waits for it, or it cancels runs."""
    specs = list(functions)
    names = {rule.event for spec in specs for rule in spec.cancel_on} | set(awaited)
    if not event.is_prefix:
        return bool(Routes(specs).match(event.name)) or event.name in names
    triggers = (each.name for spec in specs for each in spec.triggers if isinstance(each, EventTrigger))
    return any(_may_be(event.name, name) for name in (*triggers, *names))


def _may_be(beginning: str, name: str) -> bool:
    if name.endswith("*"):
        return name[:-1].startswith(beginning) or beginning.startswith(name[:-1])
    return name.startswith(beginning)
