"""One play: the product under load, what happens to it at random, and what was found when all was over."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from tests.crashes.effects import Effect, read, without_strays
from tests.crashes.observer import Observer
from tests.crashes.product import Product, processes_in
from tests.crashes.senders import Answer, Senders

_SETTLE_S = 120.0
_START_S = 20.0
_SHARE_OF_STEADY = 0.75
_WORDS_OF_A_BUG = ("Traceback", "database is locked", "internal error")


@dataclass
class Found:
    """What the observer looked at, and what it says."""

    complaints: list[str] = field(default_factory=list)
    deeds: Counter[str] = field(default_factory=Counter)
    size: str = ""
    journal: Path = Path()
    effects: list[Effect] = field(default_factory=list)
    killed: set[int] = field(default_factory=set)
    answers: list[Answer] = field(default_factory=list)


class Chaos:
    """Does things to the product, one after another."""

    def __init__(self, product: Product, senders: Senders, chance: random.Random) -> None:
        self._product = product
        self._senders = senders
        self._chance = chance
        self.deeds: Counter[str] = Counter()
        self._kinds: dict[str, tuple[int, Callable[[], None]]] = {
            "kill the engine": (8, self._kill_engine),
            "kill a worker": (5, lambda: self._kill(product.workers())),
            "kill the web process": (2, lambda: self._kill(product.web())),
            "stop the engine": (2, lambda: self._stop([product.engine.pid])),
            "stop a worker": (3, lambda: self._stop(product.workers())),
            "stop the web process": (1, lambda: self._stop(product.web())),
            "end the engine": (3, product.end_engine),
            "kill a client": (1, self._kill_client),
            "kill a command": (1, senders.kill_command),
            "verify": (1, lambda: verify(product)),
        }

    def act(self) -> None:
        names, weights = list(self._kinds), [weight for weight, _ in self._kinds.values()]
        [name] = self._chance.choices(names, weights)
        self.deeds[name] += 1
        self._kinds[name][1]()
        if self._chance.random() < _SHARE_OF_STEADY:
            self._until_serving()
        time.sleep(self._chance.choice((0.0, 0.05, 0.3, 0.6, 1.2)) * self._chance.random())
        _ = self._product.engine

    def _until_serving(self) -> None:
        """However slow this machine is: most of what happens, happens to a product that is at work."""
        fence = time.monotonic() + _START_S
        while not self._product.is_serving() and time.monotonic() < fence:
            time.sleep(0.02)

    def _kill_engine(self) -> None:
        if self._chance.random() < _SHARE_OF_STEADY:
            self._until_serving()
            time.sleep(self._chance.random() * 0.5)
        self._product.kill_engine()

    def _kill(self, pids: list[int]) -> None:
        for pid in self._chance.sample(pids, min(len(pids), self._chance.choice((1, 1, 2)))):
            self._product.kill(pid)

    def _kill_client(self) -> None:
        self._senders.kill_client()
        self._senders.start_client()

    def _stop(self, pids: list[int]) -> None:
        """For a while, in which something else may happen to others."""
        if not pids:
            return
        product, pid = self._product, self._chance.choice(pids)
        product.stop(pid)
        time.sleep(self._chance.random() * self._chance.choice((0.05, 0.5, 1.5)))
        if self._chance.random() < 0.3:
            self._kill(product.workers())
        if self._chance.random() < 0.2:
            product.kill_engine()
            self.deeds["kill the engine while something is stopped"] += 1
            _ = product.engine
            time.sleep(self._chance.random() * 1.5)
        product.go_on(pid)


def play(folder: Path, seed: int, seconds: float, *, least: int = 0) -> Found:
    """So many seconds of it and so many deeds at least; then what was found.

    The seed decides what happens, but not exactly when.
    """
    chance = random.Random(seed)
    product = Product(
        folder.resolve(),
        processes=chance.choice((1, 2, 3)),
        slots=chance.choice((4, 16, 64)),
        park=chance.choice(("0", "100ms", "10s")),
    )
    found = Found()
    with closing(product):
        _ = product.engine
        senders = Senders(product, chance, chance.choice((0.002, 0.01, 0.05)))
        with closing(senders):
            chaos = Chaos(product, senders, chance)
            until = time.monotonic() + seconds
            while time.monotonic() < until or chaos.deeds.total() < least:
                chaos.act()
            found.deeds = chaos.deeds
        found.complaints += _settled(product)
        found.complaints += product.complaints + senders.complaints
        found.effects = without_strays(read(product.root / "effects.ndjson"), product.strays)
        found.journal, found.killed, found.answers = product.journal, product.killed, senders.answers
        observer = Observer(found.journal, found.effects, found.killed)
        found.complaints += observer.complaints(found.answers)
        found.size = f"{observer.size}, {len(found.answers):,} answers"
    return found


def _settled(product: Product) -> list[str]:
    """Undisturbed, all comes to its end; then the product is ended and has left nothing."""
    found = []
    fence = time.monotonic() + _SETTLE_S
    while live := live_runs(product.journal):
        if time.monotonic() > fence:
            found.append(f"{live} runs are not over {_SETTLE_S} s after the last that happened")
            break
        _ = product.engine
        time.sleep(0.1)
    product.end_engine()
    # What the killed ones have left, the next one finds.
    product.command("send", "--name", "app/answer", "--data", '{"n": 0}').wait()
    verify(product)
    if left := processes_in(product.root):
        found.append(f"these processes are left: {left}")
    if sockets := sorted(path.name for path in product.journal.parent.iterdir() if path.is_socket()):
        found.append(f"these sockets are left: {sockets}")
    said = "".join(path.read_text() for path in product.root.glob("said-*.txt"))
    found += [f"somebody has said `{word}`" for word in _WORDS_OF_A_BUG if word in said]
    return found


def live_runs(journal: Path) -> int:
    """How many runs are not over; events that are not routed yet count too."""
    connection = apsw.Connection(str(journal), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(10_000)
    try:
        runs = "SELECT count(*) FROM run WHERE ended_at IS NULL"
        events = "SELECT count(*) FROM event WHERE key > (SELECT value FROM meta WHERE name = 'routed_to')"
        rows: list[tuple[Any, ...]] = [row for query in (runs, events) for row in connection.execute(query)]
        return sum(number for (number,) in rows)
    finally:
        connection.close()


def verify(product: Product) -> None:
    """The product's own word on its journal, at any time."""
    if not product.journal.exists():
        return
    process = product.command("journal", "verify", out=subprocess.PIPE)
    out, _ = process.communicate()
    if process.returncode != 0:
        product.complaints.append(f"`fanout journal verify` ended with {process.returncode}: {os.fsdecode(out)}")
