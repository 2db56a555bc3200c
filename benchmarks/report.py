"""Results as a table for people, and as a line of JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict

from benchmarks.measure import Figure
from benchmarks.settings import Result, Sample

_LARGE, _MEDIUM = 100, 10
_SAMPLE_HEAD = ("runs", "runs/s", "engine s/1,000", "engine MB", "WAL MB", "descriptors", "processes")


def json_line(name: str, result: Result) -> str:
    """`figures` holds medians, and of a long workload its `samples`; `ranges` the extremes of figures with rounds."""
    figures: dict[str, object] = {key: round(each.median, 4) for key, each in result.figures.items()}
    if result.samples:
        figures["samples"] = [asdict(sample) for sample in result.samples]
    ranges = {
        key: [round(each.lowest, 4), round(each.highest, 4)]
        for key, each in result.figures.items()
        if each.lowest != each.highest
    }
    return json.dumps(
        {"workload": name, "figures": figures, "ranges": ranges, "settings": dict(result.settings)},
        separators=(",", ":"),
    )


def table(name: str, title: str, result: Result) -> str:
    """The figures, one a line; the samples of a long workload; the settings."""
    rows = [("", "median", "lowest", "highest"), *(_row(key, each) for key, each in result.figures.items())]
    lines = [f"{name}  {title}", *_aligned(rows)]
    if result.samples:
        lines += ["", *_aligned([_SAMPLE_HEAD, *map(_sample_row, result.samples)])]
    settings = ", ".join(f"{key} {value}" for key, value in result.settings.items())
    return "\n".join([*lines, f"    ({settings})"])


def _row(key: str, each: Figure) -> tuple[str, ...]:
    if each.lowest == each.highest:
        return key, _shown(each.median), "", ""
    return key, _shown(each.median), _shown(each.lowest), _shown(each.highest)


def _sample_row(sample: Sample) -> tuple[str, ...]:
    counted = str(sample.descriptors), str(sample.processes)
    return (
        f"{sample.runs:,}",
        *map(_shown, (sample.runs_per_s, sample.cpu_s, sample.memory_mb, sample.wal_mb)),
        *counted,
    )


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "    "
        + "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _shown(value: float) -> str:
    """Three digits or so."""
    if abs(value) >= _LARGE:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= _MEDIUM else f"{value:.3f}"
