"""A graph of events and functions drawn as trees, one for each event or schedule that nothing here leads to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fanout.commands import text
from fanout.core.graph import Arrival, Graph, LinkKind, Node, NodeKind, Place, schedule, walk
from fanout.model import RESERVED_PREFIX
from fanout.views.function_words import cron_triggers, schedule_in_words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_NARROW = 70
_MOST_LEVELS = 16
_VERBS = {
    LinkKind.SENDS: "sends",
    LinkKind.INVOKES: "invokes",
    LinkKind.FAILS_OVER: "on failure",
    LinkKind.WAKES: "wakes",
    LinkKind.CANCELS: "cancels",
}
_MARKS = {Arrival.AGAIN: ("see above", ""), Arrival.CIRCLE: ("and round again", "yellow")}


def print_graph(out: Console, graph: Graph) -> None:
    """On a terminal lines end where it does; anywhere else they are whole."""
    for line in lines(graph, out.width):
        if out.is_terminal:
            line.truncate(out.width, overflow="ellipsis")
        out.print(line, soft_wrap=True)


def lines(graph: Graph, width: int) -> Iterator[Text]:
    from rich.text import Text  # lazy: `--json` doesn't draw

    drawing = _Drawing(graph, is_narrow=width < _NARROW)
    is_first, is_apart = True, False
    for place in walk(graph):
        if place.link is None:
            if not is_first:
                yield Text()
            if place.node.name in graph.unreached and place.node.kind is NodeKind.FUNCTION and not is_apart:
                is_apart = True
                yield Text("started by nothing that is known here, but by hand:", style="dim")
            is_first = False
        yield drawing.line(place)


class _Drawing:
    def __init__(self, graph: Graph, *, is_narrow: bool) -> None:
        self._graph = graph
        self._words = {
            schedule(trigger).name: schedule_in_words(spec, trigger)
            for spec in graph.specs.values()
            for trigger in cron_triggers(spec)
        }
        guides = ("├ ", "└ ", "│ ", "  ") if is_narrow else ("├── ", "└── ", "│   ", "    ")
        in_ascii = ("+ ", "` ", "| ", "  ") if is_narrow else ("+-- ", "`-- ", "|   ", "    ")
        self._fork, self._last, self._bar, self._space = map(text.drawn, guides, in_ascii)

    def line(self, place: Place) -> Text:
        from rich.text import Text

        line = Text(no_wrap=True)
        *above, is_last = place.ends or (None,)
        hidden = max(0, len(above) - _MOST_LEVELS)
        # A chain of hundreds would be drawn further and further to the right.
        line.append(f"({hidden} more) " if hidden else "", style="dim")
        line.append("".join(self._space if ends else self._bar for ends in above[hidden:]), style="dim")
        if is_last is not None:
            line.append(self._last if is_last else self._fork, style="dim")
        link = place.link
        if link is not None and link.kind in _VERBS:
            line.append(f"{_VERBS[link.kind]} ", style="dim")
        is_event = place.node.kind is not NodeKind.FUNCTION
        line.append(self._name(place.node), style="bold" if is_event else "")
        if link is not None:
            if link.number is not None:
                line.append(f" {text.times(link.number)}", style="dim")
            if link.condition is not None:
                line.append(f"  if {text.first_line(link.condition)}", style="dim")
        if place.arrival in _MARKS:
            words, style = _MARKS[place.arrival]
            arrow = text.drawn("↻" if place.arrival is Arrival.CIRCLE else "↑", "^")
            line.append(f"  {arrow} {words}", style=style or "dim")
        elif is_event and link is not None and not self._graph.links_from(place.node):
            line.append("  nobody listens", style="yellow")
        elif link is None and place.node.name.startswith(RESERVED_PREFIX):
            line.append("  from the engine", style="dim")
        return line

    def _name(self, node: Node) -> str:
        if node.kind is NodeKind.SCHEDULE:
            return self._words[node.name]
        return text.printable(node.name)
