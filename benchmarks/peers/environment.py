"""An environment for each peer: made once, kept in the user's cache, with the versions that are pinned."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.measure import BenchmarkError
from benchmarks.peers.peer import Peer

_MARK = "installed.txt"


def python_of(name: str, peer: Peer, folder: Path) -> str:
    """The interpreter that executes this peer's program, its packages installed if they are not.

    Raises:
        BenchmarkError: it can't be made, or something that the peer needs is not on this machine.
    """
    if peer.needs is not None and shutil.which(peer.needs) is None:
        raise BenchmarkError(f"`{name}` needs `{peer.needs}`, which is not installed")
    if not peer.packages:
        return sys.executable
    place = folder / name
    python = place / "bin" / "python"
    wanted = "\n".join(peer.packages)
    mark = place / _MARK
    if mark.exists() and mark.read_text() == wanted:
        return str(python)
    print(f"making an environment for {name} in {place}", file=sys.stderr)
    venv.create(place, clear=True, with_pip=True)
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", *peer.packages], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BenchmarkError(f"`{name}` can't be installed\n{done.stderr}")
    mark.write_text(wanted)
    return str(python)


def size_mb(folder: Path) -> float:
    """What the files below it take on disk."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink()) / 2**20
