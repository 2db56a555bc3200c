"""What leads to what: events and schedules to functions, and those to further events and functions.

It is made of what functions declare and of what has been seen of them; it knows neither journal nor screen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from fanout.model import CronTrigger, EventTrigger, FunctionSpec


class NodeKind(StrEnum):
    """A schedule is a cron trigger; its node's name is expression and zone."""

    EVENT = "event"
    SCHEDULE = "schedule"
    FUNCTION = "function"


class LinkKind(StrEnum):
    """The first three lead from events and schedules to functions, the others from functions."""

    STARTS = "starts"
    WAKES = "wakes"
    CANCELS = "cancels"
    SENDS = "sends"
    INVOKES = "invokes"
    FAILS_OVER = "on failure"


ENDS_HERE = frozenset({LinkKind.WAKES, LinkKind.CANCELS})
"""Links to functions that are going already: what those do besides is not the doing of this event."""
_ORDER = {kind: place for place, kind in enumerate(LinkKind)}


class Node(NamedTuple):
    """What an event, a schedule or a function is in the graph. Of an event, its name, or a pattern such as `app/*`."""

    kind: NodeKind
    name: str


class Seen(NamedTuple):
    """What runs of a function have done so many times: sent or awaited an event of this name, or invoked a function."""

    function: str
    kind: LinkKind
    name: str
    number: int


class Link(NamedTuple):
    """`number`: so many times it was seen, where only that shows that it is there. `condition` is CEL."""

    source: Node
    target: Node
    kind: LinkKind
    number: int | None = None
    condition: str | None = None


class Graph:
    """Nodes and links, in a fixed order. `unreached` are functions that no link leads to, other than their own."""

    def __init__(self, specs: Iterable[FunctionSpec], seen: Iterable[Seen]) -> None:
        self.specs = {spec.id: spec for spec in specs}
        links: dict[tuple[Node, Node, LinkKind], Link] = {}
        for link in (*self._declared(), *self._seen(seen)):
            links.setdefault(link[:3], link)
        self._add_matches(links)
        self.links = sorted(links.values(), key=_order)
        nodes = {node: None for link in self.links for node in link[:2]} | {function(id_): None for id_ in self.specs}
        self.nodes = sorted(nodes)
        self._from: dict[Node, list[Link]] = {}
        self._to: dict[Node, list[Link]] = {}
        for link in self.links:
            self._from.setdefault(link.source, []).append(link)
            self._to.setdefault(link.target, []).append(link)
        self.unreached = [node.name for node in self.nodes if self._is_unreached(node)]

    def links_from(self, node: Node) -> Sequence[Link]:
        return self._from.get(node, ())

    def links_to(self, node: Node) -> Sequence[Link]:
        return self._to.get(node, ())

    def roots(self) -> list[Node]:
        """Where a walk has to begin to come to everything: events and schedules that nothing leads to; of a circle that
        nothing leads into, the first of its nodes; and at the end the functions that are unreached.
        """
        unreached = [function(name) for name in self.unreached]
        found = [node for node in self.nodes if node.kind is not NodeKind.FUNCTION and not self.links_to(node)]
        met = {node for root in (*found, *unreached) for node in self._below(root)}
        for node in self.nodes:
            if node not in met:
                found.append(node)
                met.update(self._below(node))
        return [*found, *unreached]

    def _below(self, root: Node) -> Iterator[Node]:
        met, rest = {root}, [root]
        while rest:
            node = rest.pop()
            yield node
            following = [link.target for link in self.links_from(node) if link.kind not in ENDS_HERE]
            rest += [each for each in dict.fromkeys(following) if each not in met]
            met.update(following)

    def _is_unreached(self, node: Node) -> bool:
        starting = (link for link in self.links_to(node) if link.kind not in ENDS_HERE and link.source != node)
        return node.kind is NodeKind.FUNCTION and next(starting, None) is None

    def _declared(self) -> Iterator[Link]:
        for spec in self.specs.values():
            here = function(spec.id)
            for trigger in spec.triggers:
                if isinstance(trigger, EventTrigger):
                    yield Link(event(trigger.name), here, LinkKind.STARTS, condition=trigger.if_)
                else:
                    yield Link(schedule(trigger), here, LinkKind.STARTS)
            for rule in spec.cancel_on:
                yield Link(event(rule.event), here, LinkKind.CANCELS, condition=rule.if_)
            if spec.on_failure is not None and spec.on_failure in self.specs:
                yield Link(here, function(spec.on_failure), LinkKind.FAILS_OVER)

    def _seen(self, seen: Iterable[Seen]) -> Iterator[Link]:
        """Of functions that the code has: what the others did is past."""
        for each in seen:
            if each.function not in self.specs:
                continue
            here = function(each.function)
            if each.kind is LinkKind.WAKES:
                yield Link(event(each.name), here, LinkKind.WAKES, each.number)
            elif each.kind is LinkKind.SENDS:
                yield Link(here, event(each.name), LinkKind.SENDS, each.number)
            elif each.name in self.specs:
                yield Link(here, function(each.name), LinkKind.INVOKES, each.number)

    def _add_matches(self, links: dict[tuple[Node, Node, LinkKind], Link]) -> None:
        """An event whose name is known leads to all that listens to a pattern which it matches."""
        names = {node.name for link in links for node in link[:2] if node.kind is NodeKind.EVENT}
        known = sorted(name for name in names if not name.endswith("*"))
        for spec in self.specs.values():
            for trigger in spec.triggers:
                if isinstance(trigger, EventTrigger) and trigger.name.endswith("*"):
                    for name in filter(trigger.listens_to, known):
                        link = Link(event(name), function(spec.id), LinkKind.STARTS, condition=trigger.if_)
                        links.setdefault(link[:3], link)


def event(name: str) -> Node:
    return Node(NodeKind.EVENT, name)


def function(id_: str) -> Node:
    return Node(NodeKind.FUNCTION, id_)


def schedule(trigger: CronTrigger) -> Node:
    return Node(NodeKind.SCHEDULE, f"{trigger.expression} {trigger.zone}")


def _order(link: Link) -> tuple[Node, int, Node]:
    return link.source, _ORDER[link.kind], link.target


# The walk.


class Arrival(StrEnum):
    """How the walk comes to a node: for the first time, again (what comes from it has its place already), or on the way
    that has led here from it.
    """

    FIRST = "first"
    AGAIN = "again"
    CIRCLE = "circle"


class Place(NamedTuple):
    """A line of the tree. `ends`: for each level whether nothing more comes on it. A root has no level and no link."""

    node: Node
    link: Link | None
    ends: tuple[bool, ...]
    arrival: Arrival


_Path = tuple[Node, "_Path"] | None


def walk(graph: Graph) -> Iterator[Place]:
    """All there is, each node's own links once: it ends, whatever leads back to where."""
    met: set[Node] = set()
    for root in graph.roots():
        yield from _walk(graph, root, met)


def _walk(graph: Graph, root: Node, met: set[Node]) -> Iterator[Place]:
    # A stack of our own: a chain of a thousand functions is no reason to fail.
    rest: list[tuple[Node, Link | None, tuple[bool, ...], _Path]] = [(root, None, (), None)]
    while rest:
        node, link, ends, path = rest.pop()
        is_end = link is not None and link.kind in ENDS_HERE
        following = () if is_end else graph.links_from(node)
        arrival = Arrival.FIRST
        if following and node in met:
            arrival = Arrival.CIRCLE if _leads_through(path, node) else Arrival.AGAIN
        yield Place(node, link, ends, arrival)
        if is_end or arrival is not Arrival.FIRST:
            continue
        met.add(node)
        below = [
            (each.target, each, (*ends, number == len(following)), (node, path))
            for number, each in enumerate(following, 1)
        ]
        rest += reversed(below)


def _leads_through(path: _Path, node: Node) -> bool:
    while path is not None:
        here, path = path
        if here == node:
            return True
    return False
