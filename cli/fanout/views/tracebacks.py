"""A traceback taken apart: the user's own frames, how many of libraries, and what is said between them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FRAME = re.compile(r'(?P<indent>[ |+-]*)  File "(?P<file>.*)", line (?P<line>\d+)(?:, in (?P<name>.*))?')
_PACKAGES = re.compile(r"[/\\](?:site|dist)-packages[/\\]([^/\\]+)")
_STANDARD = re.compile(r"[/\\]lib[/\\]python\d[^/\\]*[/\\]([^/\\]+)|^<frozen ([^>.]+)")
_OURS = Path(__file__).parent.parent


class Frame(NamedTuple):
    """A place in the user's code. `file` is relative to the directory that was given if it is below; `name` may be
    empty. `indent` is how deep it is in a group of exceptions. `source`: its lines, with markers below them.
    """

    indent: str
    file: str
    line: int
    name: str
    source: tuple[str, ...]


class Folded(NamedTuple):
    """So many frames, one after another, that are of these libraries."""

    number: int
    libraries: tuple[str, ...]


class Said(NamedTuple):
    """Any other line: the exception itself, or what connects it with another."""

    text: str


def blocks(traceback: str, directory: Path | None = None) -> Iterator[Frame | Folded | Said]:
    """The parts of a formatted traceback in order. `directory` is the current one if left out."""
    root = Path.cwd() if directory is None else directory
    folded: list[str] = []
    block: list[str] = []
    for said in [*traceback.rstrip().split("\n"), ""]:
        frame = _FRAME.fullmatch(said)
        if frame is None and block and said.startswith("    "):
            block.append(said)
            continue
        if block:
            library = _library(_FRAME.fullmatch(block[0]))
            if library is not None:
                folded.append(library)
            else:
                yield from _folded(folded)
                yield from _own(block, root)
            block = []
        if frame is not None:
            block = [said]
            continue
        yield from _folded(folded)
        if said:
            yield Said(said)


def is_marker(source: str) -> bool:
    """Whether the line only points at something in the line above."""
    return not source.strip(" ~^|")


def _library(frame: re.Match[str] | None) -> str | None:
    """The library that a frame is of; None if it is the user's own."""
    if frame is None:
        return None
    if Path(frame["file"]).is_relative_to(_OURS):
        return _OURS.name
    found = _PACKAGES.search(frame["file"]) or _STANDARD.search(frame["file"])
    return None if found is None else Path(next(filter(None, found.groups()))).stem


def _folded(libraries: list[str]) -> Iterator[Folded]:
    """What the frames of libraries come to, which are forgotten then."""
    if libraries:
        yield Folded(len(libraries), tuple(dict.fromkeys(libraries)))
        libraries.clear()


def _own(block: list[str], root: Path) -> Iterator[Frame]:
    frame = _FRAME.fullmatch(block[0])
    if frame is not None:
        file = frame["file"].removeprefix(f"{root}{os.sep}")
        yield Frame(frame["indent"], file, int(frame["line"]), frame["name"] or "", tuple(block[1:]))
