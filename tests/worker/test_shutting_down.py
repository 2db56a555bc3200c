"""How long the end of an engine waits for its workers."""

from __future__ import annotations

import time
from pathlib import Path

from fanout.engine.pool import Codebase, LocalPool
from fanout.protocol import Load


def test_workers_that_do_not_exit_are_waited_for_together(tmp_path: Path) -> None:
    deaf = tmp_path / "deaf"
    deaf.write_text("#!/bin/sh\nexec sleep 60\n")
    deaf.chmod(0o755)
    pool = LocalPool({"": Codebase(str(deaf), Load(str(tmp_path), ("work",), 1))})
    pool.patience_s = 1.5
    for _ in range(3):
        pool.start("")
    began = time.monotonic()
    pool.shut_down()
    assert 1.5 <= time.monotonic() - began < 3
