"""`python -m tests.simulation --seeds 50000`: a long hunt. `--seed 17`: that world again, and its history's digest."""

from __future__ import annotations

import argparse
import gc
import sys
import time

from tests.simulation.hunting import Found, hunt

_EVERY = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many worlds")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--digests", action="store_true", help="print the digest of each history")
    chosen = parser.parse_args()
    seeds = range(chosen.first, chosen.first + chosen.seeds) if chosen.seed is None else [chosen.seed]
    gc.freeze()
    gc.set_threshold(200_000, 50, 50)  # As the engine does: a fifth of the time.
    began = time.monotonic()
    played = 0

    def tell(found: Found) -> None:
        nonlocal played
        played += 1
        if found.error:
            print(f"seed {found.seed} FAILED in a world with {', '.join(found.features)}\n{found.error}", flush=True)
        if chosen.seed is not None or chosen.digests:
            print(f"seed {found.seed}: {found.digest}", flush=True)
        if played % _EVERY == 0:
            print(f"{played} worlds, {played / (time.monotonic() - began):.1f} a second", file=sys.stderr, flush=True)

    failed = hunt(seeds, tell, has_digests=chosen.digests or chosen.seed is not None)
    print(f"{len(seeds)} worlds in {time.monotonic() - began:.1f} s, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
