"""CEL: an expression is refused when it is loaded, or never fails, whatever the event is.

The first line is the expression, what follows the event's data.
"""

from __future__ import annotations

import msgspec

from fanout.core import expressions
from fanout.core.paths import value_at
from fanout.errors import ExpressionError
from tests.fuzz.targets.saying import check_words

SEEDS = (
    b'event.data.n > 5 && event.name == "x"\n{"n": 6}',
    b'event.data.tags.exists(t, t.startsWith("a")) || has(event.data.x)\n{"tags": ["ab"], "x": null}',
    b'async.data.id == event.data.id\n{"id": 1.0}',
    b'timestamp("2026-01-01T00:00:00Z") - duration("1h") < timestamp(event.data.at)\n{"at": "x"}',
    b"[1, 2].map(x, x / 0)\n{}", b'size(event.data.s) % 0 == 1u\n{"s": "\\u0000"}', b"int(event.data.n)\n1e400",
    b'{"a": 1}.a in [1, 2.0]\n[[]]', b"event.data.s.matches('(a+)+$')\n{\"s\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\"}",
    b"((((1))))\n", b"'\\ud800'\n{}", b"b'\\xff' == bytes(event.data.s)\n{}", b'event.data.n + 9223372036854775807\n{"n": 1}',
)  # fmt: skip


def check(data: bytes) -> None:
    source, _, rest = data.partition(b"\n")
    text = source.decode("utf-8", "replace")
    try:
        expression = expressions.parse(text, expressions.IN_WAITS)
    except ExpressionError as error:
        check_words(error)
        return
    try:
        value = msgspec.json.decode(rest)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        value = {}
    event = {"name": "x", "data": value}
    assert expression.is_true(event=event, **{"async": event}) in {True, False}
    expression.value(event=event, **{"async": {}})
    path = value_at(event, text)
    assert path is None or isinstance(path, str)
