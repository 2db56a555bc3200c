"""Where code is: in which execution, in which of its parallel branches, and in which step. It follows the context."""

from __future__ import annotations

from contextvars import ContextVar
from functools import lru_cache
from types import CodeType
from typing import TYPE_CHECKING
from zlib import crc32

import msgspec

if TYPE_CHECKING:
    from fanout.worker.execution import Execution


class Branch:
    """A thread or task of a function. The function's own has an empty path; those it starts are `1`, `2`, `2.1`."""

    __slots__ = ("_started", "execution", "path", "refusals")

    def __init__(self, execution: Execution, path: str = "") -> None:
        self.execution = execution
        self.path = path
        self._started = 0
        self.refusals = 0
        """Steps that it has begun after it was told to leave."""

    def fork(self) -> Branch:
        """The next branch that starts in this one: numbered as the code starts them, however they then run."""
        self._started += 1
        return Branch(self.execution, f"{self.path}.{self._started}" if self.path else str(self._started))


@lru_cache(maxsize=1024)
def fingerprint(code: CodeType | None) -> str:
    """Tells a function's code from what it was before an edit: the same branches are only found in the same code."""
    parts: list[bytes] = []
    waiting = [] if code is None else [code]
    while waiting:
        each = waiting.pop()
        parts += [each.co_code, repr(each.co_names).encode()]
        for constant in each.co_consts:
            if isinstance(constant, CodeType):
                waiting.append(constant)
            else:
                # The order of a set's items is not the code's.
                parts.append(
                    repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant).encode()
                )
    return f"{crc32(b' '.join(parts)):08x}"


class Inside(msgspec.Struct, frozen=True):
    """The step whose own code is running."""

    claim: int
    key: str


branch: ContextVar[Branch | None] = ContextVar("fanout_branch", default=None)
inside: ContextVar[Inside | None] = ContextVar("fanout_step", default=None)
