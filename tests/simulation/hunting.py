"""Plays worlds, one seed after another, and says which of them are not as they must be."""

from __future__ import annotations

import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from tests.simulation.digest import digest
from tests.simulation.verdict import judge
from tests.simulation.world import World

_MEMORY = Path("/dev/shm")


class Found(NamedTuple):
    """`error` is empty if all was well."""

    seed: int
    digest: str
    error: str
    features: list[str]


def play(seed: int, *, has_digest: bool = False, has_checks: bool = False) -> Found:
    """One world, from its beginning to its verdict.

    `has_checks`: the rules of `journal verify` are asked for after each commit, and not only at the end.
    """
    folder = Path(tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else None)).resolve()
    try:
        world = World(seed, folder, has_checks=has_checks)
        try:
            world.play()
            judge(world)
        except Exception:  # noqa: BLE001 - whatever it is, it is what was looked for
            error = traceback.format_exc()
        else:
            error = ""
        found = Found(seed, digest(world.stage) if has_digest else "", error, sorted(world.features))
        world.close()
    finally:
        shutil.rmtree(folder)
    return found


def hunt(seeds: Iterable[int], tell: Callable[[Found], None], *, has_digests: bool = False) -> int:
    """How many of them failed."""
    failed = 0
    for seed in seeds:
        found = play(seed, has_digest=has_digests)
        failed += bool(found.error)
        tell(found)
    return failed
