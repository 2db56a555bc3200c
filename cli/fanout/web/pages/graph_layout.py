"""Where the nodes and links of a graph are drawn: layers from left to right, few crossings, and no overlap.

Pure geometry. Parts of the graph that nothing connects are laid out each by itself, one below the other. Within a part:
links that would lead back are turned round (depth first), a node's layer is the longest way to it, links over several
layers get a bend in each of them, and the order in a layer follows the mean place of the neighbours (Sugiyama, Tagawa
and Toda, 1981).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from fanout.core.graph import ENDS_HERE, Graph, Link, Node

HEIGHT = 34.0
_ROW_GAP = 16.0
_BEND_HEIGHT = 10.0
_LAYER_GAP = 84.0
_PART_GAP = 34.0
_MARGIN = 12.0
_SWEEPS = 12
_LOOP = 26.0


class Box(NamedTuple):
    """A node's place: its left upper corner, and its size."""

    node: Node
    x: float
    y: float
    width: float
    height: float


class Arrow(NamedTuple):
    """A link's way, as the `d` of an SVG path, and where there is room for a word on it. `is_back`: it leads left."""

    link: Link
    path: str
    x: float
    y: float
    is_back: bool


class Drawing(NamedTuple):
    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


class _Bend(NamedTuple):
    """Where a link over several layers passes one of them."""

    link: int
    layer: int


_Item = Node | _Bend
_Edge = tuple[Node, Node]


def lay_out(graph: Graph, width_of: Callable[[Node], float]) -> Drawing:
    """The whole graph; `width_of` says how wide a node has to be for what is written in it."""
    boxes: list[Box] = []
    arrows: list[Arrow] = []
    top, width = _MARGIN, 0.0
    for nodes, links in _parts(graph):
        part = _Part(nodes, links, width_of)
        boxes += part.boxes(top)
        arrows += part.arrows(top)
        top += part.height + _PART_GAP
        width = max(width, part.width)
    height = top - _PART_GAP + _MARGIN if boxes else 2 * _MARGIN
    return Drawing(width + 2 * _MARGIN, height, tuple(boxes), tuple(arrows))


def _parts(graph: Graph) -> list[tuple[list[Node], list[Link]]]:
    """The connected parts, those with the most nodes first."""
    part_of: dict[Node, int] = {}
    for number, first in enumerate(graph.nodes):
        rest = [] if first in part_of else [first]
        while rest:
            node = rest.pop()
            if node not in part_of:
                part_of[node] = number
                rest += [link.target for link in graph.links_from(node)]
                rest += [link.source for link in graph.links_to(node)]
    parts: dict[int, tuple[list[Node], list[Link]]] = {}
    for node in graph.nodes:
        parts.setdefault(part_of[node], ([], []))[0].append(node)
    for link in graph.links:
        parts[part_of[link.source]][1].append(link)
    return sorted(parts.values(), key=lambda part: -len(part[0]))


class _Part:
    """One connected part, laid out from its own upper left corner."""

    def __init__(self, nodes: Sequence[Node], links: Sequence[Link], width_of: Callable[[Node], float]) -> None:
        self._links = links
        self._widths = {node: width_of(node) for node in nodes}
        self._layer_of = layers(nodes, links)
        self._chains = [self._chain(number, link) for number, link in enumerate(links)]
        rows = self._ordered(nodes)
        self._left = self._columns(rows)
        self._middle = self._placed(rows)
        top = min(self._middle[item] - _height(item) / 2 for item in self._middle)
        self._middle = {item: at - top for item, at in self._middle.items()}
        self.height = max(self._middle[item] + _height(item) / 2 for item in self._middle)
        self.width = max(self._left[self._layer_of[node]] + self._widths[node] for node in nodes)

    def _chain(self, number: int, link: Link) -> list[_Item]:
        """From its left end to its right one, with a bend in every layer between; nothing for a link to itself."""
        left, right = link.source, link.target
        if self._layer_of[left] > self._layer_of[right]:
            left, right = right, left
        between = range(self._layer_of[left] + 1, self._layer_of[right])
        return [] if left == right else [left, *(_Bend(number, layer) for layer in between), right]

    def _ordered(self, nodes: Sequence[Node]) -> list[list[_Item]]:
        """The items of each layer from top to bottom."""
        rows: list[list[_Item]] = [[] for _ in range(max(self._layer_of.values()) + 1)]
        for node in nodes:
            rows[self._layer_of[node]].append(node)
        for chain in self._chains:
            for item in chain[1:-1]:
                rows[self._layer(item)].append(item)
        self._before, self._after = self._neighbours()
        best, least = rows, _crossings(rows, self._after)
        for sweep in range(_SWEEPS):
            is_rightward = sweep % 2 == 0
            neighbours = self._before if is_rightward else self._after
            rows = [list(row) for row in rows]
            for number in range(len(rows)) if is_rightward else range(len(rows) - 1, -1, -1):
                place = {item: float(at) for row in rows for at, item in enumerate(row)}
                wanted = {item: _mean(place, neighbours[item], place[item]) for item in rows[number]}
                rows[number].sort(key=wanted.__getitem__)
            crossings = _crossings(rows, self._after)
            if crossings < least:
                best, least = rows, crossings
        return best

    def _neighbours(self) -> tuple[dict[_Item, list[_Item]], dict[_Item, list[_Item]]]:
        before: dict[_Item, list[_Item]] = {item: [] for item in self._layer_of}
        after: dict[_Item, list[_Item]] = {item: [] for item in self._layer_of}
        for chain in self._chains:
            for left, right in pairwise(chain):
                after.setdefault(left, []).append(right)
                before.setdefault(right, []).append(left)
        return before, after

    def _columns(self, rows: Sequence[Sequence[_Item]]) -> list[float]:
        """The left edge of each layer."""
        left, edges = _MARGIN, []
        for row in rows:
            edges.append(left)
            left += max((self._widths[item] for item in row if isinstance(item, Node)), default=0.0) + _LAYER_GAP
        return edges

    def _placed(self, rows: Sequence[Sequence[_Item]]) -> dict[_Item, float]:
        """The middle of each item: near its neighbours, apart from those above and below it."""
        middle: dict[_Item, float] = {}
        for row in rows:
            middle.update(_spread(row, dict.fromkeys(row, 0.0)))
        for sweep in range(_SWEEPS):
            is_rightward = sweep % 2 == 0
            neighbours = self._before if is_rightward else self._after
            for row in rows if is_rightward else reversed(rows):
                wanted = {item: _mean(middle, neighbours[item], middle[item]) for item in row}
                middle.update(_spread(row, wanted))
        return middle

    def _layer(self, item: _Item) -> int:
        return item.layer if isinstance(item, _Bend) else self._layer_of[item]

    def boxes(self, top: float) -> list[Box]:
        return [
            Box(node, self._left[layer], top + self._middle[node] - HEIGHT / 2, self._widths[node], HEIGHT)
            for node, layer in self._layer_of.items()
        ]

    def arrows(self, top: float) -> list[Arrow]:
        return [self._arrow(link, chain, top) for link, chain in zip(self._links, self._chains, strict=True)]

    def _arrow(self, link: Link, chain: Sequence[_Item], top: float) -> Arrow:
        if not chain:
            return self._loop(link, top)
        points: list[tuple[float, float]] = []
        for number, item in enumerate(chain):
            left, y = self._left[self._layer(item)], top + self._middle[item]
            # It is level for the whole width of the layer: the boxes above and below may be wider than this one.
            right = self._right_of(self._layer(item))
            if isinstance(item, _Bend):
                points += [(left, y), (right, y)]
            elif number:
                points.append((left, y))
            else:
                points += [(left + self._widths[item], y), (right, y)]
        is_back = chain[0] != link.source
        if is_back:
            points.reverse()
        (x1, y1), (x2, y2) = (points[-3], points[-2]) if is_back else (points[1], points[2])
        return Arrow(link, _curve(points), (x1 + x2) / 2, (y1 + y2) / 2, is_back)

    def _right_of(self, layer: int) -> float:
        widths = [self._widths[node] for node, at in self._layer_of.items() if at == layer]
        return self._left[layer] + max(widths, default=0.0)

    def _loop(self, link: Link, top: float) -> Arrow:
        right = self._left[self._layer_of[link.source]] + self._widths[link.source]
        y, far = top + self._middle[link.source], right + _LOOP
        path = f"M{right:g} {y - 6:g}C{far:g} {y - _LOOP:g} {far:g} {y + _LOOP:g} {right:g} {y + 6:g}"
        return Arrow(link, path, far, y, is_back=True)


def layers(nodes: Iterable[Node], links: Iterable[Link]) -> dict[Node, int]:
    """Each node's layer, from 0: every link leads to a later one, but for those that close a circle.

    What only wakes or cancels gives way: it decides nothing where it would close a circle with what starts things.
    """
    edges: list[_Edge] = []
    following: dict[Node, list[Node]] = {node: [] for node in nodes}
    ordered = sorted(links, key=lambda link: link.kind in ENDS_HERE)
    for source, target, *_ in ordered:
        if source != target and not _leads(following, target, source):
            edges.append((source, target))
            following[source].append(target)
    coming = dict.fromkeys(following, 0)
    for _, target in edges:
        coming[target] += 1
    layer = dict.fromkeys(following, 0)
    rest = [node for node, number in coming.items() if not number]
    roots = list(rest)
    while rest:
        node = rest.pop()
        for target in following[node]:
            layer[target] = max(layer[target], layer[node] + 1)
            coming[target] -= 1
            if not coming[target]:
                rest.append(target)
    # What nothing leads to stands right before what it leads to.
    for node in roots:
        layer[node] = min((layer[target] for target in following[node]), default=1) - 1
    return layer


def _leads(following: Mapping[Node, Sequence[Node]], source: Node, target: Node) -> bool:
    met, rest = {source}, [source]
    while rest:
        node = rest.pop()
        if node == target:
            return True
        fresh = [each for each in following[node] if each not in met]
        met.update(fresh)
        rest += fresh
    return False


def _height(item: _Item) -> float:
    return HEIGHT if isinstance(item, Node) else _BEND_HEIGHT


def _mean(place: Mapping[_Item, float], near: Sequence[_Item], otherwise: float) -> float:
    return sum(place[item] for item in near) / len(near) if near else otherwise


def _crossings(rows: Sequence[Sequence[_Item]], after: Mapping[_Item, Sequence[_Item]]) -> int:
    place = {item: at for row in rows for at, item in enumerate(row)}
    number = 0
    for row in rows:
        ends: list[int] = []
        for item in row:
            mine = [place[target] for target in after[item]]
            number += sum(end > each for each in mine for end in ends)
            ends += mine
    return number


def _spread(row: Sequence[_Item], wanted: Mapping[_Item, float]) -> dict[_Item, float]:
    """As near to what is wanted as the order and the room that each needs allow: least squares, by joining neighbours
    that would overlap into blocks (the pool-adjacent-violators rule of isotonic regression).
    """
    offsets, offset = [], 0.0
    for number, item in enumerate(row):
        if number:
            offset += _height(row[number - 1]) / 2 + _ROW_GAP + _height(item) / 2
        offsets.append(offset)
    blocks: list[tuple[float, int]] = []
    for item, offset in zip(row, offsets, strict=True):
        mean, size = wanted[item] - offset, 1
        while blocks and blocks[-1][0] > mean:
            other, number = blocks.pop()
            mean, size = (other * number + mean * size) / (number + size), size + number
        blocks.append((mean, size))
    starts = [mean for mean, size in blocks for _ in range(size)]
    return {item: start + offset for item, start, offset in zip(row, starts, offsets, strict=True)}


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """Through all of the points, level at each of them."""
    (x, y), *_ = points
    path = [f"M{x:g} {y:g}"]
    for (x1, y1), (x2, y2) in pairwise(points):
        if abs(y1 - y2) < 1:
            path.append(f"L{x2:g} {y2:g}")
            continue
        middle = (x1 + x2) / 2
        path.append(f"C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}")
    return "".join(path)
