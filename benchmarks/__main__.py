"""The command line: `python -m benchmarks W1 W2`. Figures go to stdout, all talk to stderr."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.catalogue import WORKLOADS
from benchmarks.measure import BenchmarkError
from benchmarks.report import json_line, table
from benchmarks.settings import Options
from fanout.errors import FanoutError


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 if a workload did not do what it has to, 2 if the command line can't be."""
    asked = _parser().parse_args(arguments)
    names: list[str] = asked.workloads
    if not names:
        print(listing())
        return 0
    if unknown := [name for name in names if name not in WORKLOADS]:
        print(f"error: there is no workload `{unknown[0]}`\nhint: there are {', '.join(WORKLOADS)}", file=sys.stderr)
        return 2
    options = Options(
        processes=asked.processes,
        rounds=asked.rounds,
        batch=asked.batch,
        scale=asked.scale,
        runs=asked.runs,
        timeout_s=asked.timeout,
    )
    return max(_run(name, options, as_json=asked.json) for name in names)


def _run(name: str, options: Options, *, as_json: bool) -> int:
    workload = WORKLOADS[name]
    try:
        result = workload.run(options)
    except (BenchmarkError, FanoutError) as error:
        print(f"error: {name}: {error}", file=sys.stderr)
        return 1
    print(json_line(name, result) if as_json else table(name, workload.title, result) + "\n", flush=True)
    return 0


def listing() -> str:
    width = max(map(len, WORKLOADS))
    return "\n".join(f"{name.ljust(width)}  {workload.title}" for name, workload in WORKLOADS.items())


def _parser() -> argparse.ArgumentParser:
    usual = Options()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure fanout through its public way in, with real processes in temporary folders (of TMPDIR).",
        epilog=listing(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="which to run; none: list them")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each workload")
    parser.add_argument(
        "--processes", type=_at_least_one, default=usual.processes, help="worker processes (%(default)s)"
    )
    parser.add_argument("--rounds", type=_at_least_one, default=usual.rounds, help="rounds that count (%(default)s)")
    parser.add_argument("--batch", type=_at_least_one, default=usual.batch, help="events a call sends (%(default)s)")
    parser.add_argument("--runs", type=_at_least_one, default=usual.runs, help="runs of W8 (%(default)s)")
    parser.add_argument("--scale", type=_above_zero, default=usual.scale, help="multiply every size (%(default)s)")
    parser.add_argument(
        "--timeout", type=_above_zero, default=usual.timeout_s, help="seconds a workload may take (%(default)s)"
    )
    return parser


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"has to be 1 or more, not {text}")
    return number


def _above_zero(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"has to be more than 0, not {text}")
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
