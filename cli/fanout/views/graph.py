"""A graph of events and functions as other programs read it: JSON, Mermaid, Graphviz."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fanout.views.words import printable

if TYPE_CHECKING:
    from fanout.journal.sqlite_reader import JournalReader
from fanout.core.graph import Graph, Link, LinkKind, Node, NodeKind

_MERMAID_SHAPES = {NodeKind.EVENT: '(["{}"])', NodeKind.SCHEDULE: '[/"{}"/]', NodeKind.FUNCTION: '["{}"]'}
_DOT_SHAPES = {NodeKind.EVENT: "ellipse", NodeKind.SCHEDULE: "cds", NodeKind.FUNCTION: "box"}
_DASHED = frozenset({LinkKind.WAKES, LinkKind.CANCELS, LinkKind.FAILS_OVER})
# In a label in quotes, only these could end it, or be read as markup.
_MERMAID_ENTITIES = {ord(each): f"#{ord(each)};" for each in '"#&<>`\\'}


def read(reader: JournalReader) -> Graph:
    """What the code declares, and what runs have been seen to do."""
    return Graph((each.spec for each in reader.functions() if each.is_present), reader.links())


def as_json(graph: Graph) -> dict[str, Any]:
    """Nodes have ids, which links name. `count`: how often it was seen, if it is not declared."""
    return {
        "nodes": [{"id": _id(node), "kind": node.kind, "name": node.name} for node in graph.nodes],
        "links": [
            {
                "from": _id(link.source),
                "to": _id(link.target),
                "kind": link.kind,
                "count": link.number,
                "if": link.condition,
            }
            for link in graph.links
        ],
        "unreached": graph.unreached,
    }


def _id(node: Node) -> str:
    return f"{node.kind}:{node.name}"


def as_mermaid(graph: Graph) -> str:
    return "\n".join(_mermaid(graph))


def _mermaid(graph: Graph) -> Iterator[str]:
    yield "flowchart LR"
    names = {node: f"n{number}" for number, node in enumerate(graph.nodes)}
    for node, name in names.items():
        yield f"  {name}{_MERMAID_SHAPES[node.kind].format(printable(node.name).translate(_MERMAID_ENTITIES))}"
    for link in graph.links:
        arrow = "-.->" if link.kind in _DASHED else "-->"
        label = f"|{_label(link)}|" if _label(link) else ""
        yield f"  {names[link.source]} {arrow}{label} {names[link.target]}"


def as_dot(graph: Graph) -> str:
    return "\n".join(_dot(graph))


def _dot(graph: Graph) -> Iterator[str]:
    yield "digraph fanout {"
    yield "  rankdir=LR;"
    names = {node: f"n{number}" for number, node in enumerate(graph.nodes)}
    for node, name in names.items():
        yield f"  {name} [label={_quoted(printable(node.name))}, shape={_DOT_SHAPES[node.kind]}];"
    for link in graph.links:
        settings = [f"label={_quoted(_label(link))}"] if _label(link) else []
        settings += ["style=dashed"] if link.kind in _DASHED else []
        said = f" [{', '.join(settings)}]" if settings else ""
        yield f"  {names[link.source]} -> {names[link.target]}{said};"
    yield "}"


def _label(link: Link) -> str:
    """What kind of link it is, where the shapes of both ends don't say it."""
    return "" if link.kind in (LinkKind.STARTS, LinkKind.SENDS) else str(link.kind)


def _quoted(said: str) -> str:
    escaped = said.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
