"""Pruning on demand: by the engine that runs, which is asked for it, or by this process if there is none."""

from __future__ import annotations

from contextlib import closing

import msgspec

from fanout.client import Connection
from fanout.commands.app import say
from fanout.commands.journal_pages import pruned_in_words
from fanout.commands.text import now
from fanout.config import Config
from fanout.core.retention import Keep
from fanout.engine.lock import EngineLock
from fanout.engine.pruning import Pass, Pruning
from fanout.errors import JournalBusyError
from fanout.journal.family import Watched
from fanout.journal.logs import logs_path
from fanout.journal.pruning import Pruned
from fanout.journal.sqlite import SqliteJournal
from fanout.journal.sqlite_care import CareReader
from fanout.journal.sqlite_logs import SqliteLogs


def prune(config: Config, keep: Keep) -> Pruned:
    """Until all that may go is gone. If the engine that was asked goes away, this process takes over."""
    request: int | None = None
    while True:
        try:
            lock = EngineLock(config.journal)
        except JournalBusyError:
            request, outcome = _ask(config, keep, request)
            if outcome is not None:
                return outcome
            continue
        try:
            lock.announce("")
            return _prune(config, keep, request)
        finally:
            lock.release()


def _ask(config: Config, keep: Keep, request: int | None) -> tuple[int, Pruned | None]:
    """The request, and what has come of it, if an engine has seen to it."""
    with Connection(config.journal) as client:
        asked = client.request("prune", keep._asdict()) if request is None else request
        try:
            is_done = client.follow(Watched(request=asked), lambda progress: progress.is_over())
        except KeyboardInterrupt:
            say("stopped waiting: the engine goes on with it")
            raise
    if not is_done:
        return asked, None
    with CareReader(config.journal) as reader:
        outcome = reader.outcome(asked)
    return asked, Pruned() if outcome is None else Pruned(**msgspec.json.decode(outcome))


def _prune(config: Config, keep: Keep, request: int | None) -> Pruned:
    with closing(SqliteJournal(config.journal)) as journal:
        logs = SqliteLogs(logs_path(config.journal), warn=say)
        pruning = Pruning(journal, None, clock=now, forget=logs.forget)
        going = Pass.of(keep, now(), request)
        try:
            pruning.finish(going)
        except KeyboardInterrupt:
            say(f"stopped: {pruned_in_words(going.pruned, 'removed so far')}, and the rest stays")
            raise
    return going.pruned
