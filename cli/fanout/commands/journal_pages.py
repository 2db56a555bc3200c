"""What `fanout journal` prints: for people, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanout.commands import report, text
from fanout.core.retention import Keep
from fanout.durations import duration
from fanout.engine.lock import Holder
from fanout.journal.care import Finding, Information
from fanout.journal.pruning import Pruned

if TYPE_CHECKING:
    from rich.text import Text

_LARGE_LOG = 64 * 1024 * 1024
_NOUNS = {"runs": "run", "steps": "step", "events": "event", "ticks": "tick", "requests": "request"}


def pruned_in_words(pruned: Pruned, verb: str) -> str:
    """`12 runs, 30 steps and 4 events removed`, or `nothing removed`. Limits that are spent are nobody's concern."""
    counted = [
        text.count(number, _NOUNS[name]) for name, number in pruned._asdict().items() if number and name in _NOUNS
    ]
    if not counted:
        return f"nothing {verb}"
    *most, last = counted
    return f"{', '.join(most)} and {last} {verb}" if most else f"{last} {verb}"


def kept_in_words(keep: Keep) -> str:
    if keep.is_for_ever:
        return "runs are kept for ever"
    completed, failed = ("for ever" if each is None else duration(each) for each in (keep.completed, keep.failed))
    return f"runs are kept {completed}, failed ones {failed}"


# info.


def info_json(path: Path, found: Information, keep: Keep, engine: Holder | None) -> dict[str, Any]:
    return {
        "path": str(path),
        "schema_version": found.schema_version,
        "file_bytes": found.file_bytes,
        "wal_bytes": found.log_bytes,
        "free_bytes": found.free_bytes,
        "rows": found.rows,
        "runs": found.runs,
        "oldest_run": _run_json(found.oldest_run),
        "newest_run": _run_json(found.newest_run),
        "engine": None if engine is None else {"pid": engine.pid or None},
        "keep_completed_ms": keep.completed,
        "keep_failed_ms": keep.failed,
        "prunable": found.prunable._asdict(),
    }


def _run_json(run: tuple[str, int] | None) -> dict[str, Any] | None:
    return None if run is None else {"id": run[0], "queued_at": run[1]}


def print_info(path: Path, found: Information, keep: Keep, engine: Holder | None) -> None:
    """A line for each thing, under its name; long ones wrap where they would anyway."""
    from rich.text import Text  # lazy: `--json` doesn't draw

    out = report.console()
    lines = [*_info_lines(path, found, keep, engine)]
    width = max(len(name) for name, _ in lines)
    for name, said in lines:
        out.print(Text(f"{name.ljust(width)}  ", style="dim").append(Text(said, style="")), soft_wrap=True)
    if found.log_bytes > _LARGE_LOG:
        from fanout.commands.app import say

        say("hint: the write-ahead log grows while something reads for long: another SQLite tool, most likely")


def _info_lines(path: Path, found: Information, keep: Keep, engine: Holder | None) -> Iterator[tuple[str, str]]:
    yield "journal", text.printable(str(path))
    yield "version", str(found.schema_version)
    free = f", of which {text.size(found.free_bytes)} are free to be used again" if found.free_bytes else ""
    yield "file", f"{text.size(found.file_bytes)}{free}"
    yield "log", text.size(found.log_bytes)
    yield "engine", "none runs" if engine is None else f"runs{f' with pid {engine.pid}' if engine.pid else ''}"
    yield "runs", ", ".join(said for said, _ in text.states(found.runs)) or "none"
    for name, run in (("oldest", found.oldest_run), ("newest", found.newest_run)):
        if run is not None:
            yield name, f"{run[0]}  {text.clock(run[1])}"
    yield "rows", ", ".join(f"{number:,} {table}" for table, number in found.rows.items() if number)
    yield "pruning", f"{kept_in_words(keep)}; {pruned_in_words(found.prunable, 'would be removed now')}"


# verify.


def print_finding(finding: Finding) -> None:
    report.console().print(_finding_line(finding), soft_wrap=True)


def _finding_line(finding: Finding) -> Text:
    from rich.text import Text  # lazy: as above

    if not finding.number:
        return Text(f"ok      {finding.check}: ").append(finding.rule, style="dim")
    samples = ", ".join(text.first_line(sample) for sample in finding.samples)
    more = f" and {finding.number - len(finding.samples):,} more" if finding.number > len(finding.samples) else ""
    line = Text("broken", style="bold red")
    return line.append(Text(f"  {finding.check}: {finding.rule} Not so: {samples}{more}", style=""))


def findings_json(findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "is_whole": not any(finding.number for finding in findings),
        "checks": [
            {
                "name": finding.check,
                "rule": finding.rule,
                "broken": finding.number,
                "samples": finding.samples,
            }
            for finding in findings
        ],
    }
