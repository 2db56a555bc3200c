"""`fanout journal`: how large it is, whether it is whole, and what is to become of what is old."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fanout.commands import journal_pages, report
from fanout.commands.app import say
from fanout.commands.options import ConfigPath, Json
from fanout.commands.project import project
from fanout.commands.text import count, now, printable, size
from fanout.core.retention import Keep, cutoffs, keep_for
from fanout.engine import lock
from fanout.errors import UsageError
from fanout.journal.sqlite_care import CareReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fanout.config import Config

_WRITTEN_AT_ONCE = 64 * 1024

journal_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


def register(app: typer.Typer, help_: str) -> None:
    app.add_typer(journal_app, name="journal", help=help_)


@journal_app.command(name="info", help="Its size, what is in it, and what automatic pruning would remove now.")
def info(as_json: Json = False, config: ConfigPath = None) -> None:
    settings = project(config)
    keep = _configured(settings)
    with CareReader(settings.journal) as reader:
        found = reader.information(cutoffs(keep, now()))
    engine = lock.holder(settings.journal)
    if as_json:
        report.print_json(journal_pages.info_json(settings.journal, found, keep, engine))
    else:
        journal_pages.print_info(settings.journal, found, keep, engine)


@journal_app.command(
    name="verify",
    help="Check the file and every rule that a journal has to keep; an engine may be working. Exit code 1 if one is"
    " broken. Each check sees one moment of its own.",
)
def verify(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also the checks that found nothing.")] = False,
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    with CareReader(project(config).journal) as reader:
        findings = []
        for finding in reader.findings():
            findings.append(finding)
            if not as_json and (finding.number or verbose):
                journal_pages.print_finding(finding)
    broken = sum(1 for finding in findings if finding.number)
    if as_json:
        report.print_json(journal_pages.findings_json(findings))
    elif broken:
        say(f"{count(broken, 'check')} of {len(findings)} failed")
        say("hint: keep this file; `fanout journal backup` makes a copy if it can still be read")
    else:
        say(f"{count(len(findings), 'check')}: all is well")
    raise typer.Exit(1 if broken else 0)


@journal_app.command(
    name="prune",
    help="Remove runs that have been over for long, with all that belongs to them. What a live run needs stays, and"
    " so does a family of which a part is younger. An engine that runs does it beside its work.",
)
def prune(
    completed: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Keep those that have not failed for so long: `7d`, at least 1h, or never.",
                     show_default="of fanout.toml"),
    ] = None,
    failed: Annotated[
        str | None, typer.Option(metavar="TIME", help="The same for failed ones.", show_default="of fanout.toml")
    ] = None,
    events: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The same for events without a run.", show_default="the shorter of the two"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:  # fmt: skip
    settings = project(config)
    configured = _configured(settings)
    keep = Keep(
        _kept("--completed", completed, configured.completed),
        _kept("--failed", failed, configured.failed),
        _kept("--events", events, None),
    )
    with CareReader(settings.journal) as reader:
        if dry_run:
            found = reader.prunable(cutoffs(keep, now()))
    if not dry_run:
        from fanout.commands import journal_pruning  # lazy: to look takes no engine

        found = journal_pruning.prune(settings, keep)
    if as_json:
        report.print_json({**found._asdict(), "is_dry_run": dry_run})
    else:
        print(journal_pages.pruned_in_words(found, "would be removed" if dry_run else "removed"))


@journal_app.command(name="backup", help="Copy the journal as it is now to a file; an engine may be working.")
def backup(
    file: Annotated[Path, typer.Argument(help="The copy to make.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: Json = False,
    config: ConfigPath = None,
) -> None:
    from fanout.journal.sqlite_backup import back_up  # lazy: only this one needs it

    settings = project(config)
    copy = file.absolute()
    copied = back_up(settings.journal, copy, replaces=force)
    if as_json:
        report.print_json({"path": str(copy), "bytes": copied})
    else:
        print(f"{printable(str(copy))}  {size(copied)}")


@journal_app.command(
    name="export", help="Print all of it, one JSON object a line: events, then runs with their steps and failures."
)
def export(
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only from then on: `2h` ago, or 2025-10-26T02:30.", show_default=False),
    ] = None,
    function: Annotated[
        str | None, typer.Option(metavar="ID", help="Only of this function, and its events.", show_default=False)
    ] = None,
    config: ConfigPath = None,
) -> None:
    from fanout.views.filters import moment  # lazy: as above

    from_then = moment("--since", since) or 0
    with CareReader(project(config).journal) as reader:
        try:
            _write(reader.export(since=from_then, function=function))
        except BrokenPipeError:
            # Whoever read it has seen enough. Typer would end with 1, and Python complain at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(lines: Iterator[bytes]) -> None:
    """Several at once, but never many: whoever reads them may be slow."""
    out, gathered, size = sys.stdout.buffer, [], 0
    for line in lines:
        gathered.append(line)
        size += len(line)
        if size >= _WRITTEN_AT_ONCE:
            out.write(b"".join(gathered))
            gathered, size = [], 0
    out.write(b"".join(gathered))
    out.flush()


def _configured(settings: Config) -> Keep:
    return keep_for(settings.keep_completed, settings.keep_failed)


def _kept(option: str, said: str | None, otherwise: int | None) -> int | None:
    from fanout.config import LEAST_KEEP_S, MOST_KEEP_S, NEVER  # lazy: as above
    from fanout.durations import parse_duration

    if said is None or said == NEVER:
        return otherwise if said is None else None
    try:
        seconds = parse_duration(said)
    except ValueError:
        seconds = -1.0
    if not LEAST_KEEP_S <= seconds <= MOST_KEEP_S:
        raise UsageError(f"`{option} {said}` can't be", hint=f"write `7d`, one hour to 100 years, or `{NEVER}`")
    return round(seconds * 1000)
