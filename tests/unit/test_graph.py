"""What leads to what, and the walk through it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.commands import graph_tree
from fanout.core.graph import Graph, LinkKind, Seen, event, function, walk
from fanout.model import CancelRule, CronTrigger, EventTrigger, FunctionSpec
from fanout.views import graph as graph_views
from tests.unit.specs import spec

SENDS, INVOKES, WAKES = LinkKind.SENDS, LinkKind.INVOKES, LinkKind.WAKES


def listening(id_: str, *names: str, on_failure: str | None = None) -> FunctionSpec:
    return spec(id_, triggers=tuple(map(EventTrigger, names)), on_failure=on_failure)


def drawn(specs: Sequence[FunctionSpec], *seen: Seen, width: int = 80) -> list[str]:
    return [line.plain for line in graph_tree.lines(Graph(specs, seen), width)]


ORDERS = [
    listening("order", "app/order", on_failure="excuse"),
    listening("excuse"),
    listening("ship"),
    listening("tell", "app/shipped"),
    spec("log", triggers=(EventTrigger("app/*", "event.data.is_live"), CronTrigger("*/15 * * * *"))),
    spec("patient", triggers=(EventTrigger("app/order"),), cancel_on=(CancelRule("app/stop"),)),
]
SEEN = [
    Seen("order", INVOKES, "ship", 1_200),
    Seen("ship", SENDS, "app/shipped", 3),
    Seen("tell", SENDS, "mail/sent", 3),
    Seen("patient", WAKES, "app/shipped", 2),
    Seen("gone", SENDS, "app/old", 9),
    Seen("order", INVOKES, "gone", 9),
]


def test_a_tree_shows_what_an_event_leads_to_and_on() -> None:
    assert drawn(ORDERS, *SEEN) == [
        "app/*",
        "└── log  if event.data.is_live",
        "",
        "app/order",
        "├── log  if event.data.is_live",
        "├── order",
        "│   ├── invokes ship ×1,200",  # noqa: RUF001 - as people see it
        "│   │   └── sends app/shipped ×3",  # noqa: RUF001
        "│   │       ├── log  if event.data.is_live",
        "│   │       ├── tell",
        "│   │       │   └── sends mail/sent ×3  nobody listens",  # noqa: RUF001
        "│   │       └── wakes patient ×2",  # noqa: RUF001
        "│   └── on failure excuse",
        "└── patient",
        "",
        "app/stop",
        "├── log  if event.data.is_live",
        "└── cancels patient",
        "",
        "every 15 minutes, UTC",
        "└── log",
    ]


def test_what_has_its_place_already_is_not_drawn_again() -> None:
    specs = [listening("a", "x/1"), listening("b", "x/2"), listening("c", "x/3")]
    seen = [Seen("a", SENDS, "x/3", 1), Seen("b", SENDS, "x/3", 1), Seen("c", SENDS, "x/4", 1)]
    assert drawn(specs, *seen, width=50) == [
        "x/1",
        "└ a",
        "  └ sends x/3 ×1",  # noqa: RUF001
        "    └ c",
        "      └ sends x/4 ×1  nobody listens",  # noqa: RUF001
        "",
        "x/2",
        "└ b",
        "  └ sends x/3 ×1  ↑ see above",  # noqa: RUF001
    ]


def test_a_circle_is_marked_and_has_a_beginning_though_nothing_leads_into_it() -> None:
    specs = [listening("ping", "ball/left"), listening("pong", "ball/right")]
    seen = [Seen("ping", SENDS, "ball/right", 7), Seen("pong", SENDS, "ball/left", 7)]
    assert drawn(specs, *seen) == [
        "ball/left",
        "└── ping",
        "    └── sends ball/right ×7",  # noqa: RUF001
        "        └── pong",
        "            └── sends ball/left ×7  ↻ and round again",  # noqa: RUF001
    ]


def test_functions_that_nothing_reaches_are_apart_with_what_they_lead_to() -> None:
    specs = [listening("lonely"), listening("a", "x/1"), listening("self")]
    assert drawn(specs, Seen("lonely", SENDS, "x/1", 2), Seen("self", INVOKES, "self", 1)) == [
        "started by nothing that is known here, but by hand:",
        "lonely",
        "└── sends x/1 ×2",  # noqa: RUF001
        "    └── a",
        "",
        "self",
        "└── invokes self ×1  ↻ and round again",  # noqa: RUF001
    ]


def test_an_event_of_the_engines_own_is_said_to_be_that() -> None:
    assert drawn([listening("a", "fanout/function.failed")]) == ["fanout/function.failed  from the engine", "└── a"]


def test_a_long_chain_is_walked_to_its_end() -> None:
    specs = [listening(f"f{n:04}", f"x/{n:04}") for n in range(3_000)]
    seen = [Seen(f"f{n:04}", SENDS, f"x/{n + 1:04}", 1) for n in range(2_999)]
    lines = drawn(specs, *seen)
    assert len(lines) == 6_000
    assert lines[-1].startswith("(5982 more) ")
    assert max(map(len, lines)) < 120


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([SENDS, INVOKES, WAKES]), st.integers(0, 5)), max_size=20))
def test_a_walk_ends_and_leaves_nothing_out(links: list[tuple[int, LinkKind, int]]) -> None:
    specs = [listening(f"f{n}", *([f"x/{n}"] if n % 2 else [])) for n in range(6)]
    seen = [Seen(f"f{a}", kind, f"f{b}" if kind is INVOKES else f"x/{b}", 1) for a, kind, b in links]
    graph = Graph(specs, seen)
    places = list(walk(graph))
    assert {place.node for place in places} == set(graph.nodes)
    assert {place.link for place in places if place.link is not None} == set(graph.links)
    assert len(places) <= len(graph.links) + len(graph.nodes)


# Other forms.

TRAP = '[red]"\\\x1b[2J</b>`#'


@pytest.fixture
def trap() -> Graph:
    return Graph([listening("f", TRAP)], [Seen("f", INVOKES, "f", 2)])


def test_names_stay_text_in_the_tree(trap: Graph) -> None:
    assert [line.plain for line in graph_tree.lines(trap, 80)] == [
        '[red]"\\\\x1b[2J</b>`#', "└── f", "    └── invokes f ×2  ↻ and round again",  # noqa: RUF001
    ]  # fmt: skip


def test_mermaid(trap: Graph) -> None:
    assert graph_views.as_mermaid(trap) == (
        "flowchart LR\n"
        '  n0(["[red]#34;#92;#92;x1b[2J#60;/b#62;#96;#35;"])\n'
        '  n1["f"]\n'
        "  n0 --> n1\n"
        "  n1 -->|invokes| n1"
    )


def test_dot(trap: Graph) -> None:
    assert graph_views.as_dot(trap) == (
        "digraph fanout {\n"
        "  rankdir=LR;\n"
        '  n0 [label="[red]\\"\\\\\\\\x1b[2J</b>`#", shape=ellipse];\n'
        '  n1 [label="f", shape=box];\n'
        "  n0 -> n1;\n"
        '  n1 -> n1 [label="invokes"];\n'
        "}"
    )


def test_json() -> None:
    assert graph_views.as_json(Graph([listening("a", "x/1"), listening("b")], [Seen("a", SENDS, "x/2", 4)])) == {
        "nodes": [
            {"id": "event:x/1", "kind": "event", "name": "x/1"},
            {"id": "event:x/2", "kind": "event", "name": "x/2"},
            {"id": "function:a", "kind": "function", "name": "a"},
            {"id": "function:b", "kind": "function", "name": "b"},
        ],
        "links": [
            {"from": "event:x/1", "to": "function:a", "kind": "starts", "count": None, "if": None},
            {"from": "function:a", "to": "event:x/2", "kind": "sends", "count": 4, "if": None},
        ],
        "unreached": ["b"],
    }


def test_links_of_a_node() -> None:
    graph = Graph(ORDERS, SEEN)
    assert [link.target.name for link in graph.links_from(event("app/shipped"))] == ["log", "tell", "patient"]
    assert [link.kind for link in graph.links_to(function("excuse"))] == [LinkKind.FAILS_OVER]
    assert graph.unreached == []
