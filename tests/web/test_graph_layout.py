"""What is drawn where: nothing overlaps, links lead to the right, and circles come to an end."""

from __future__ import annotations

import random
from itertools import combinations

from fanout.core.graph import Graph, LinkKind, Node, Seen, event, function
from fanout.model import EventTrigger, FunctionSpec
from fanout.web.pages.graph_layout import Box, Drawing, lay_out, layers


def spec(id_: str, *events: str) -> FunctionSpec:
    triggers = tuple(EventTrigger(name) for name in events)
    return FunctionSpec(
        id=id_, name=id_, module="m", qualname=id_, file="m.py", line=1, is_async=False, triggers=triggers
    )


def width(node: Node) -> float:
    return 40.0 + 7 * len(node.name)


def drawn(specs: list[FunctionSpec], *seen: Seen) -> tuple[Graph, Drawing]:
    graph = Graph(specs, seen)
    return graph, lay_out(graph, width)


def overlap(one: Box, other: Box) -> bool:
    is_beside = one.x + one.width <= other.x or other.x + other.width <= one.x
    return not (is_beside or one.y + one.height <= other.y or other.y + other.height <= one.y)


def test_a_chain_goes_from_left_to_right_on_one_line() -> None:
    graph, drawing = drawn([spec("f", "a"), spec("g", "b")], Seen("f", LinkKind.SENDS, "b", 3))

    places = {box.node: (box.x, box.y) for box in drawing.boxes}
    chain = [places[node] for node in (event("a"), function("f"), event("b"), function("g"))]
    assert chain == sorted(chain)
    assert len({y for _, y in chain}) == 1
    assert len(drawing.arrows) == len(graph.links) == 3
    assert not any(arrow.is_back for arrow in drawing.arrows)


def test_a_circle_is_closed_by_a_link_that_leads_back() -> None:
    _, drawing = drawn(
        [spec("f", "a"), spec("g", "b")], Seen("f", LinkKind.SENDS, "b", 1), Seen("g", LinkKind.SENDS, "a", 1)
    )

    assert [arrow.is_back for arrow in drawing.arrows].count(True) == 1


def test_a_function_that_invokes_itself_has_a_loop() -> None:
    _, drawing = drawn([spec("f", "a")], Seen("f", LinkKind.INVOKES, "f", 1))

    loop = next(arrow for arrow in drawing.arrows if arrow.link.kind is LinkKind.INVOKES)
    assert loop.is_back
    assert loop.path.startswith("M")


def test_what_wakes_a_function_does_not_turn_round_what_starts_things() -> None:
    graph = Graph(
        [spec("f", "a"), spec("g", "b")],
        [Seen("f", LinkKind.SENDS, "b", 1), Seen("g", LinkKind.SENDS, "c", 1), Seen("f", LinkKind.WAKES, "c", 1)],
    )

    found = layers(graph.nodes, graph.links)

    assert [found[node] for node in (event("a"), function("f"), event("b"), function("g"), event("c"))] == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_an_event_stands_right_before_what_it_starts() -> None:
    graph = Graph(
        [spec("f", "a"), spec("g", "b", "late")],
        [Seen("f", LinkKind.SENDS, "b", 1)],
    )

    assert layers(graph.nodes, graph.links)[event("late")] == 2


def test_nothing_overlaps_and_all_is_inside_in_any_graph() -> None:
    for seed in range(30):
        chance = random.Random(seed)
        names = [f"e{number}" for number in range(chance.randint(1, 12))]
        specs = [
            spec(f"f{number}", *chance.sample(names, min(len(names), chance.randint(0, 3))))
            for number in range(chance.randint(1, 14))
        ]
        kinds = [LinkKind.SENDS, LinkKind.WAKES, LinkKind.INVOKES]
        seen = [
            Seen(
                chance.choice(specs).id,
                kind,
                chance.choice(specs).id if kind is LinkKind.INVOKES else chance.choice(names),
                1,
            )
            for kind in chance.choices(kinds, k=chance.randint(0, 15))
        ]
        graph, drawing = drawn(specs, *seen)

        assert sorted(box.node for box in drawing.boxes) == graph.nodes
        assert not any(overlap(*pair) for pair in combinations(drawing.boxes, 2)), seed
        assert all(box.x >= 0 and box.y >= 0 for box in drawing.boxes)
        assert all(box.x + box.width <= drawing.width and box.y + box.height <= drawing.height for box in drawing.boxes)


def test_an_empty_graph_is_an_empty_drawing() -> None:
    _, drawing = drawn([])

    assert drawing.boxes == ()
    assert drawing.height > 0
