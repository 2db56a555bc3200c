"""The command line: `python -m benchmarks.peers huey dbos`. The table goes to stdout, all talk to stderr."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from benchmarks.measure import BenchmarkError, Figure, figure
from benchmarks.peers.environment import python_of, size_mb
from benchmarks.peers.peer import PEERS, Peer, environments_folder
from benchmarks.peers.running import Round, run_round
from fanout import __version__
from fanout.config import usable_cpus


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 if a peer could not be measured, 2 if the command line can't be."""
    asked = _parser().parse_args(arguments)
    names = asked.names or list(PEERS)
    if unknown := [name for name in names if name not in PEERS]:
        print(f"error: there is no peer `{unknown[0]}`\nhint: there are {', '.join(PEERS)}", file=sys.stderr)
        return 2
    rounds: dict[str, list[Round]] = {name: [] for name in names}
    pythons: dict[str, str] = {}
    is_whole = True
    for number in range(asked.rounds):
        # All of them in each round: what else this machine does meets each alike.
        for name in names:
            try:
                pythons[name] = pythons.get(name) or python_of(name, PEERS[name], asked.folder)
                print(f"round {number + 1} of {asked.rounds}: {name}", file=sys.stderr)
                rounds[name].append(run_round(pythons[name], PEERS[name], asked.scale))
            except BenchmarkError as error:
                print(f"error: {name}: {error}", file=sys.stderr)
                is_whole = False
    found = {name: _figures(each) for name, each in rounds.items() if each}
    print(
        json.dumps({name: _plain(each) for name, each in found.items()}) if asked.json else table(found, asked.folder)
    )
    return 0 if is_whole else 1


def _figures(rounds: Sequence[Round]) -> dict[str, Figure]:
    return {each.name: figure(*(getattr(one, each.name) for one in rounds)) for each in fields(Round)}


def _plain(figures: Mapping[str, Figure]) -> dict[str, dict[str, float]]:
    return {name: {key: round(value, 4) for key, value in asdict(each).items()} for name, each in figures.items()}


def table(found: Mapping[str, Mapping[str, Figure]], folder: Path) -> str:
    """Medians of the rounds in Markdown, as `docs/performance.md` has them."""
    head = (
        "", "version", "durable steps", "durability", "W1 steps/s", "CPU ms a run", "W2 p50 / p99 ms", "start s",
        "memory MB", "packages MB",
    )  # fmt: skip
    rows = [head, tuple("---" for _ in head), *(_row(name, figures, folder) for name, figures in found.items())]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    cores, system = usable_cpus(), f"{platform.system()} {platform.machine()}"
    return "\n".join([*lines, "", f"Python {platform.python_version()}, {system}, {cores} cores"])


def _row(name: str, figures: Mapping[str, Figure], folder: Path) -> tuple[str, ...]:
    peer = PEERS[name]
    value = {key: each.median for key, each in figures.items()}
    return (
        peer.title,
        _version(peer),
        "yes" if peer.has_durable_steps else "no: a chain of tasks",
        peer.durability,
        _rounded(value["steps_per_s"]),
        f"{value['cpu_ms_a_run']:.2f}",
        f"{value['p50_ms']:.1f} / {value['p99_ms']:.1f}",
        f"{value['start_s']:.2f}",
        f"{value['memory_mb']:.0f}",
        f"{size_mb(folder / name):.0f}" if peer.packages else "",
    )


def _version(peer: Peer) -> str:
    return peer.packages[0].partition("==")[2] if peer.packages else __version__


def _rounded(value: float) -> str:
    """Two digits: there is no more to it."""
    digits = len(str(round(value))) - 2
    return f"{round(value, -digits) if digits > 0 else value:,.0f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description="Measure fanout beside others, in rounds, each in an environment of its own.",
        epilog="\n".join(f"{name.ljust(13)} {peer.title}" for name, peer in PEERS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="whom to measure; none: all")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply every size (%(default)s)")
    parser.add_argument(
        "--folder", type=Path, default=environments_folder(), help="where the environments are (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print medians, lowest and highest as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
