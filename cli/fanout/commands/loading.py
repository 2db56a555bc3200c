"""The code as it is now: who has it loaded, and what is said where it can't be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import msgspec

from fanout.commands.app import say
from fanout.commands.text import count, printable
from fanout.config import Config
from fanout.engine.local import LocalEngine
from fanout.errors import JournalBusyError, LoadError
from fanout.journal.family import Watched
from fanout.journal.functions import KnownFunction
from fanout.journal.sqlite_reader import JournalReader
from fanout.model import RunState
from fanout.views.trace import MOST_MEMBERS

if TYPE_CHECKING:
    from fanout.engine.loop import Engine


class LoadWarnings:
    """Says of each app, once, why its code can't be loaded, while the others go on."""

    def __init__(self, engine: Engine, print_line: Callable[[str], None] = say) -> None:
        self._engine = engine
        self._print_line = print_line
        self._said: set[str] = set()

    def tell(self) -> None:
        for error in self._engine.load_errors:
            if str(error) not in self._said:
                self._said.add(str(error))
                warn(error, self._print_line)


def warn(error: LoadError, print_line: Callable[[str], None] = say) -> None:
    """As an error is reported, but something goes on in spite of it."""
    for line in f"warning: {error.message}".splitlines():
        print_line(printable(line))
    if error.hint:
        print_line(f"hint: {printable(error.hint)}")


def functions_now(config: Config) -> list[KnownFunction]:
    """The functions that the code has now. Without an engine running it is loaded for that, and nothing else is done.

    Raises:
        LoadError: it can't be loaded, and never was before.
    """
    failed = _refresh(config)
    with JournalReader(config.journal, redact=config.redact) as reader:
        found = reader.functions()
    if failed is not None:
        if not found:
            raise failed
        warn(failed)
        say("hint: this is what the code had when it was last loaded")
    return found


def _refresh(config: Config) -> LoadError | None:
    """Have the journal know what the code has. An engine that runs has seen to that already."""
    try:
        one_worker = LocalEngine(msgspec.structs.replace(config, processes=1))
    except JournalBusyError:
        return None
    with one_worker as own:
        # No slots: whatever is in the journal stays there.
        own.config = msgspec.structs.replace(own.config, slots=0)
        own.pool.on_output = lambda line: say(printable(line))
        engine = own.open(is_development=False, has_schedules=False)
        try:
            own.load()
        except LoadError as error:
            return error
        LoadWarnings(engine).tell()
    return None


def without_code(reader: JournalReader, functions: Collection[str] | None = None) -> list[str]:
    """What is to be said of queued runs of functions, of these or of all, that the code does not have any more."""
    gone = {each.spec.id: each for each in reader.functions() if not each.is_present}
    found = reader.waiting_for_code(sorted(gone if functions is None else functions))
    return [
        f"{count(number, 'run')} of `{printable(function)}` left in the queue: {_in_short(reader, gone.get(function))}"
        for function, number in found.items()
        if number
    ]


def _in_short(reader: JournalReader, known: KnownFunction | None) -> str:
    from fanout.views import reasons  # lazy: rarely needed, and not light

    reason = None if known is None else reasons.held_up_as_a_whole(reader, known)
    return (
        "the code has no such function" if reason is None else f"{reason.words.removeprefix('waits: ')}; {reason.hint}"
    )


def held_up(reader: JournalReader, watched: Watched, unloaded: Collection[str]) -> tuple[list[str], bool]:
    """What is to be said of queued runs of functions that are paused, or whose code could not be loaded; and whether
    there are any of the latter. `unloaded`: what this process knows of them, if it is the engine.
    """
    from fanout.views import reasons  # lazy: rarely needed, and not light

    stale = {each.spec.id: each for each in reader.functions() if each.is_stale or each.spec.id in unloaded}
    paused = {each.spec.id: each for each in reader.functions() if each.paused_at is not None}
    known = paused | stale
    if not known:
        return [], False
    family = reader.family(watched, limit=MOST_MEMBERS)
    queued = Counter(run.function for run in family.runs.values() if run.state is RunState.QUEUED)
    said = []
    for function in known.keys() & queued.keys():
        # The last worker that had the code may have been lost after the journal was told.
        reason = reasons.held_up_as_a_whole(reader, known[function]._replace(is_stale=function in stale))
        if reason is not None:
            why = reason.words.removeprefix("waits: ")
            hint = "" if function in stale else f"; {reason.hint}"
            said.append(f"{count(queued[function], 'run')} of `{printable(function)}` left in the queue: {why}{hint}")
    return sorted(said), not stale.keys().isdisjoint(queued)
