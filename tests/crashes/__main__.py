"""`python -m tests.crashes --minutes 10`: plays of half a minute, each with a seed of its own. `--seed 17`: from that one on."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.crashes.chaos import play

_SECONDS = 30.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crashes", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long, in all (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first play (%(default)s)")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="how long a play is (%(default)s)")
    chosen = parser.parse_args()
    until = time.monotonic() + chosen.minutes * 60
    seed, failed = chosen.seed, 0
    while time.monotonic() < until:
        folder = Path(tempfile.mkdtemp(prefix=f"fanout-crashes-{seed}-"))
        found = play(folder, seed, min(chosen.seconds, until - time.monotonic()))
        print(f"seed {seed}: {found.size}; {', '.join(f'{n} x {deed}' for deed, n in found.deeds.items())}", flush=True)
        if found.complaints:
            failed += 1
            print(f"seed {seed} FAILED, see {folder}", *found.complaints[:20], sep="\n  ", flush=True)
        else:
            shutil.rmtree(folder)
        seed += 1
    print(f"{seed - chosen.seed} plays, {failed} failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
