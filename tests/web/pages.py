"""What a page says, read as a browser would: elements with their attributes and text."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import NamedTuple

_VOID = frozenset({"meta", "link", "input", "img", "br", "hr"})


class Element(NamedTuple):
    tag: str
    attributes: dict[str, str]
    texts: list[str]

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


class Html(HTMLParser):
    """Every element of a page, in order; an element's text has that of what is in it, with spaces between."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, [])
        self.elements.append(element)
        self.handle_data(" ")
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        self.handle_data(" ")
        while self._open and self._open.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.texts.append(data)

    def having(self, attribute: str, value: str | None = None) -> list[Element]:
        """The elements with this attribute, or with this value of it."""
        return [
            each
            for each in self.elements
            if attribute in each.attributes and (value is None or each.attributes[attribute] == value)
        ]

    def one(self, attribute: str, value: str | None = None) -> Element:
        [found] = self.having(attribute, value)
        return found

    def tags(self, tag: str) -> list[Element]:
        return [each for each in self.elements if each.tag == tag]
