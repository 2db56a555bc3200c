"""Running out of memory ends the worker: nothing it still does can be trusted, and its neighbours suffer too."""

from __future__ import annotations

import os

from fanout.protocol import OUT_OF_MEMORY

is_worker = False
"""This process is one; where functions are tested, it is not, and stays."""


def leave_if_out_of_memory(error: BaseException) -> None:
    """End this process if `error` says that there is no memory left; its runs come back as after any death."""
    if is_worker and isinstance(error, MemoryError):
        os._exit(OUT_OF_MEMORY)
