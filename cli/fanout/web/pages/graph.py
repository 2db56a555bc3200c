"""`/graph`: which events lead to which functions, and on; drawn, and as a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlencode

from starlette.routing import Route

from fanout.core.graph import ENDS_HERE, Graph, Link, LinkKind, Node, NodeKind, schedule
from fanout.views import words
from fanout.views.function_words import cron_triggers, schedule_in_words
from fanout.web.pages.graph_layout import Arrow, Box, Drawing, lay_out
from fanout.web.pages.rendering import page
from fanout.web.site import site_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from fanout.journal.functions import KnownFunction
    from fanout.journal.sqlite_reader import JournalReader

MOST_DRAWN = 250
"""Nodes; a larger graph is only listed."""
_LONGEST_NAME = 34
_CHARACTER = 7.25
"""The width of one, in the font that the drawing uses."""
_PADDING = 34.0
_SOFT = frozenset({*ENDS_HERE, LinkKind.FAILS_OVER})
_WORDS = {LinkKind.WAKES: "wakes", LinkKind.CANCELS: "cancels", LinkKind.FAILS_OVER: "on failure"}
_VERBS = {
    LinkKind.STARTS: "starts",
    LinkKind.WAKES: "wakes",
    LinkKind.CANCELS: "cancels runs of",
    LinkKind.SENDS: "sends",
    LinkKind.INVOKES: "invokes",
    LinkKind.FAILS_OVER: "on failure",
}


class DrawnBox(NamedTuple):
    box: Box
    name: str
    title: str
    href: str
    mark: str


class DrawnArrow(NamedTuple):
    """`classes` say what kind of link it is; `word` is written on it, if its ends don't say it."""

    arrow: Arrow
    classes: str
    word: str
    title: str


class ListedNode(NamedTuple):
    """A node, and the links from it: (verb, name, where that is shown, what else there is to say)."""

    kind: NodeKind
    name: str
    href: str
    links: list[tuple[str, str, str, str]]


def routes() -> list[BaseRoute]:
    return [Route("/graph", graph, methods=["GET"])]


async def graph(request: Request) -> Response:
    functions, made = await site_of(request).look(_look)
    names = _Names(functions)
    drawing = lay_out(made, names.width) if len(made.nodes) <= MOST_DRAWN else None
    known = {each.spec.id: each for each in functions}
    return page(
        request,
        "graph.html",
        drawing=drawing,
        boxes=[] if drawing is None else _boxes(drawing, names, known),
        arrows=[] if drawing is None else [_arrow(each, names) for each in drawing.arrows],
        nodes=[_listed(made, node, names) for node in made.nodes],
        number=len(made.nodes),
        unreached=made.unreached,
        has_seen=any(link.number is not None for link in made.links),
    )


def _look(reader: JournalReader) -> tuple[Sequence[KnownFunction], Graph]:
    functions = [each for each in reader.functions() if each.is_present]
    return functions, Graph((each.spec for each in functions), reader.links())


class _Names:
    """What nodes are called: of a schedule, its words."""

    def __init__(self, functions: Sequence[KnownFunction]) -> None:
        self._schedules = {
            schedule(trigger).name: schedule_in_words(each.spec, trigger)
            for each in functions
            for trigger in cron_triggers(each.spec)
        }

    def whole(self, node: Node) -> str:
        is_schedule = node.kind is NodeKind.SCHEDULE
        return words.printable(self._schedules.get(node.name, node.name) if is_schedule else node.name)

    def short(self, node: Node) -> str:
        return words.cut(self.whole(node), _LONGEST_NAME)

    def width(self, node: Node) -> float:
        return round(_PADDING + _CHARACTER * len(self.short(node)), 1)


def _href(node: Node) -> str:
    match node.kind:
        case NodeKind.FUNCTION:
            return f"/functions/{quote(node.name)}"
        case NodeKind.EVENT:
            return f"/events?{urlencode({'name': node.name})}"
        case NodeKind.SCHEDULE:
            return ""


def _boxes(drawing: Drawing, names: _Names, known: dict[str, KnownFunction]) -> list[DrawnBox]:
    def mark(node: Node) -> str:
        its = known.get(node.name) if node.kind is NodeKind.FUNCTION else None
        if its is None:
            return ""
        return "is-bad" if its.is_stale else "is-paused" if its.paused_at is not None else ""

    said = {"": "", "is-bad": ", not loaded", "is-paused": ", paused"}
    return [
        DrawnBox(
            box,
            names.short(box.node),
            f"{box.node.kind} {names.whole(box.node)}{said[mark(box.node)]}",
            _href(box.node),
            mark(box.node),
        )
        for box in drawing.boxes
    ]


def _arrow(arrow: Arrow, names: _Names) -> DrawnArrow:
    link = arrow.link
    classes = [link.kind.replace(" ", "-")]
    classes += ["soft"] if link.kind in _SOFT else []
    classes += ["back"] if arrow.is_back and link.kind not in _SOFT else []
    title = f"{names.whole(link.source)} {_VERBS[link.kind]} {names.whole(link.target)}"
    more = _more(link)
    word = _WORDS.get(link.kind, "if" if link.condition is not None else "")
    return DrawnArrow(arrow, " ".join(classes), word, f"{title} ({more})" if more else title)


def _more(link: Link) -> str:
    said = [] if link.condition is None else [f"if {words.printable(link.condition)}"]
    return ", ".join([*said, *([] if link.number is None else [f"seen {words.times(link.number)}"])])


def _listed(made: Graph, node: Node, names: _Names) -> ListedNode:
    def links() -> Iterator[tuple[str, str, str, str]]:
        for link in made.links_from(node):
            yield _VERBS[link.kind], names.whole(link.target), _href(link.target), _more(link)

    return ListedNode(node.kind, names.whole(node), _href(node), list(links()))
