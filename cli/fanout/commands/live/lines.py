"""A live log on a terminal: lines that are only ever added, each of which says which run it belongs to.

What an event causes quickly stands under it: its lines are held back for a moment, and so are completed steps, that
the end of their run then shares a line with. It knows no journal and no clock.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fanout.commands import text
from fanout.commands.live import rows as rows_
from fanout.commands.live.facts import EventSeen, Fact, LeftOut, Printed, RunSeen, StepSeen
from fanout.commands.live.rows import Piece, Row
from fanout.model import RunState, StepState

HOLD_MS = 400
"""What comes so soon after an event stands under it."""
STEPS_MS = 300
"""Completed steps wait so long for the end of their run, or for the next step."""
LONG_MS = 1_000
"""It is worth a line that something still goes after that long."""
_MOST_KNOWN = 500
_NARROW, _WIDE = 60, 100
_WIDEST_NAME = 28
_LEAST_NAME = 8
_NARROW_INDENT = 4
_LEAST_ROOM = 10
_WHOLE_PREFIX = 4
"""Time, guide, name and id."""
_COLOURS = tuple(f"38;5;{number}" for number in (33, 37, 71, 99, 136, 166, 134, 168, 73, 108))
"""Readable on dark and on light; none of them is the red of failures."""
_STYLES = {
    "dim": "2", "bold": "1", "green": "32", "red": "31", "bold red": "1;31", "yellow": "33", "cyan": "36",
    "magenta": "35",
}  # fmt: skip


class _Block:
    """An event whose first moments are not over."""

    __slots__ = ("event", "left", "rows", "since")

    def __init__(self, event: EventSeen, now: int) -> None:
        self.event = event
        self.since = now
        self.left = event.runs
        self.rows: list[Row] = []


class Lines:
    """Facts in, lines out. `width` is None where there is no edge."""

    def __init__(self, *, width: int | None, has_colour: bool, is_failed_only: bool = False) -> None:
        self.width = width
        self.is_failed_only = is_failed_only
        self._has_colour = has_colour
        self._name_width = _LEAST_NAME
        self._blocks: dict[int, _Block] = {}
        self._rows: list[Row] = []
        self._steps: dict[int, list[StepSeen]] = {}
        self._running: dict[int, RunSeen] = {}
        self._failed: dict[int, bool] = {}
        """Runs of which a step is shown to have failed."""
        self._names: dict[int, str] = {}
        """Events whose lines are above, by key."""
        self._group = 0
        self._guides = text.drawn("┌", "*"), text.drawn("│", "|")

    def fit(self, functions: Iterable[str]) -> None:
        """Leave room for these names."""
        self._name_width = max([self._name_width, *(len(each) for each in functions)])

    # In.

    def add(self, fact: Fact, now: int) -> None:
        match fact:
            case EventSeen():
                self._blocks[fact.key] = _Block(fact, now)
            case StepSeen():
                self._step(fact)
            case RunSeen():
                self._run(fact)
            case Printed():
                for said in fact.text.split("\n"):
                    self._put(rows_.printed_row(fact._replace(text=said), self._guides[1]))
            case LeftOut():
                self._rows.append(rows_.left_out_row(fact))

    def _step(self, step: StepSeen) -> None:
        if step.state is StepState.COMPLETED:
            self._steps.setdefault(step.run.key, []).append(step)
        elif step.state is not StepState.RUNNING:
            self._put_steps(step.run.key)
            self._put(rows_.step_row(step))
            if step.state is StepState.FAILED:
                self._failed[step.run.key] = True
                _bound(self._failed)

    def _run(self, run: RunSeen) -> None:
        if run.state is RunState.RUNNING:
            self._running[run.run.key] = run
            return
        if run.state is RunState.QUEUED and run.failure is None:
            return  # It most likely begins at once.
        self._running.pop(run.run.key, None)
        is_said = run.state.is_final and self._failed.pop(run.run.key, False)
        self._put(rows_.run_row(run, self._steps.pop(run.run.key, ()), is_said=is_said))
        block = self._blocks.get(run.run.event)
        if block is not None and run.state.is_final:
            block.left -= 1

    def _put_steps(self, run: int) -> None:
        if steps := self._steps.pop(run, None):
            self._put(rows_.steps_row(steps))

    def _put(self, row: Row) -> None:
        block = None if row.whose is None else self._blocks.get(row.whose.event)
        (self._rows if block is None else block.rows).append(row)

    def forget_runs(self) -> None:
        """So much happens that the ends of what is going will not be seen."""
        for run in list(self._steps):
            self._put_steps(run)
        self._running.clear()

    # Out.

    def flush(self, now: int, *, is_last: bool = False) -> list[str]:
        """The lines that are to be shown now."""
        for run, steps in list(self._steps.items()):
            if is_last or now - steps[0].at >= STEPS_MS:
                self._put_steps(run)
        for run, seen in list(self._running.items()):
            if now - seen.at >= LONG_MS:
                del self._running[run]
                self._put(rows_.run_row(seen))
        lines: list[str] = []
        rows, self._rows = self._rows, []
        for row in rows:
            lines += self._lines(row)
        for key, block in list(self._blocks.items()):
            if not is_last and block.left > 0 and now - block.since < HOLD_MS:
                break  # Those behind it wait too, so that times go forward.
            del self._blocks[key]
            lines += self._block(block)
        return lines

    def _block(self, block: _Block) -> Iterator[str]:
        self._names[block.event.key] = block.event.name
        _bound(self._names)
        if self.is_failed_only and not any(row.is_bad for row in block.rows):
            return
        self._group = block.event.key
        pieces = rows_.event_pieces(block.event, has_long_ids=self._has_long_ids)
        prefix = [] if self._is_narrow else [Piece(text.clock(block.event.at), "dim")]
        yield from self._laid_out([*prefix, Piece(self._guides[0], "dim")], pieces)
        for row in block.rows:
            yield from self._lines(row)

    def _lines(self, row: Row) -> Iterator[str]:
        if self.is_failed_only and not row.is_bad:
            return
        prefix = [] if self._is_narrow else [Piece(text.clock(row.at), "dim")]
        whose = row.whose
        if whose is None:
            pieces = [piece._replace(style="dim") if piece.style == "own" else piece for piece in row.pieces]
            yield from self._laid_out([*prefix, Piece(" ")], pieces)
            return
        is_grouped = whose.event == self._group != 0
        prefix.append(Piece(self._guides[1] if is_grouped else " ", "dim"))
        colour = _COLOURS[zlib.crc32(whose.function.encode()) % len(_COLOURS)]
        width = self._column
        prefix.append(Piece(text.cut(text.printable(whose.function), width).ljust(width), colour))
        prefix.append(Piece(rows_.short(whose.id, is_long=self._has_long_ids), "dim"))
        pieces = [piece._replace(style=colour) if piece.style == "own" else piece for piece in row.pieces]
        if not is_grouped and not row.is_output and whose.event in self._names:
            pieces.append(Piece(f"{text.drawn('←', '<-')} {text.printable(self._names[whose.event])}", "dim"))
        yield from self._laid_out(prefix, pieces)

    @property
    def _is_narrow(self) -> bool:
        return self.width is not None and self.width < _NARROW

    @property
    def _has_long_ids(self) -> bool:
        return self.width is None or self.width >= _WIDE

    @property
    def _column(self) -> int:
        """How wide the column of names is."""
        if self.width is None:
            return min(self._name_width, _WIDEST_NAME)
        return min(self._name_width, _WIDEST_NAME, max(_LEAST_NAME, self.width // 4))

    def _laid_out(self, prefix: Sequence[Piece], pieces: Sequence[Piece]) -> Iterator[str]:
        """The prefix, and behind it as many lines of pieces as it takes."""
        gap = " " if self._is_narrow or len(prefix) < _WHOLE_PREFIX else "  "
        indent = sum(_cells(piece.text) + 1 for piece in prefix) + len(gap) - 1
        head = " ".join(self._styled(piece) for piece in prefix)
        # Where there is little room, what does not fit on the first line gets nearly all of the next.
        below = _NARROW_INDENT if self._is_narrow else indent
        rooms = None if self.width is None else (self.width - indent, max(_LEAST_ROOM, self.width - below))
        is_full = rooms is not None and rooms[0] < _LEAST_ROOM
        if rooms is not None and is_full:
            yield head
            rooms = rooms[1], rooms[1]
        for number, line in enumerate(_wrapped(pieces, rooms)):
            said = "".join(self._styled(piece) for piece in line)
            yield f"{head}{gap}{said}" if number == 0 and not is_full else f"{' ' * below}{said}"

    def _styled(self, piece: Piece) -> str:
        code = _STYLES.get(piece.style, piece.style)
        return f"\x1b[{code}m{piece.text}\x1b[0m" if self._has_colour and code and piece.text else piece.text


def _bound(known: dict[int, Any]) -> None:
    """What was known first is forgotten first."""
    if len(known) > _MOST_KNOWN:
        del known[next(iter(known))]


def _wrapped(pieces: Sequence[Piece], rooms: tuple[int, int] | None) -> Iterator[list[Piece]]:
    """Pieces on lines, of which the first has less room; one that is longer than a line is broken at its blanks."""
    line: list[Piece] = []
    used, room = 0, 0 if rooms is None else rooms[0]
    for piece in pieces:
        gap = "" if not line else _gap(line[-1].text)
        if rooms is None or used + len(gap) + _cells(piece.text) <= room:
            line += [Piece(gap), piece]
            used += len(gap) + _cells(piece.text)
            continue
        parts = _broken(piece, (max(0, room - used - len(gap)), rooms[1]), is_begun=used > 1)
        for part in parts:
            if line and (not part.text or used + len(gap) + _cells(part.text) > room):
                yield line
                line, used, room, gap = [], 0, rooms[1], ""
            if part.text:
                line += [Piece(gap), part] if line else [part]
                used += len(gap) + _cells(part.text)
    yield line


def _gap(before: str) -> str:
    """What goes on, or belongs to a mark, is nearer than what stands by itself."""
    return " " if len(before) == 1 or before.endswith((":", ",")) else "  "


def _broken(piece: Piece, rooms: tuple[int, int], *, is_begun: bool) -> Iterator[Piece]:
    """The piece in parts that fit: none on the first line if what is left of that is too little."""
    rest, room = piece.text, rooms[0]
    if (is_begun and _cells(rest) <= rooms[1]) or room < rooms[1] // 3 or " " not in rest[: max(0, room)]:
        yield Piece("")
        room = rooms[1]
    while _cells(rest) > room:
        at = _longest(rest, room)
        blank = rest.rfind(" ", at // 2, at + 1)
        cut = at if blank <= 0 else blank
        yield Piece(rest[:cut], piece.style)
        rest, room = rest[cut:].lstrip(" ") if blank > 0 else rest[cut:], rooms[1]
    if rest:
        yield Piece(rest, piece.style)


def _longest(said: str, room: int) -> int:
    """How many characters fit there; one at least."""
    if said.isascii():
        return max(1, room)
    used = 0
    for number, character in enumerate(said):
        used += _cells(character)
        if used > room:
            return max(1, number)
    return len(said)


def _cells(said: str) -> int:
    """How many columns it takes."""
    if said.isascii():
        return len(said)
    from rich.cells import cell_len  # lazy: most of what is said is ASCII

    return cell_len(said)
