"""`python -m fanout.web`: the web process. It appends to the journal and reads it, with no engine in it."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fanout import config as config_
from fanout.errors import FanoutError
from fanout.web.access import access, in_url
from fanout.web.process import listening_socket

if TYPE_CHECKING:
    from fanout.web.server import Server

_LAST_PATIENCE_S = 3.0
"""What is being answered after the parent's end may take so long."""


def main(arguments: Sequence[str]) -> int:
    asked = _parser().parse_args(arguments)
    try:
        config = config_.load(config_.find(Path.cwd(), asked.config))
        if asked.journal is not None:
            config = msgspec.structs.replace(config, journal=Path(asked.journal))
        host = asked.host or config.host
        if asked.socket is None:
            port = config.port if asked.port is None else asked.port
            access(os.environ, host, port)
            listener = listening_socket(host, port)
        else:
            listener = socket.socket(fileno=asked.socket)
        port = listener.getsockname()[1]
        allowed = access(os.environ, host, port)
    except FanoutError as error:
        print(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)  # noqa: T201 - no terminal's business, our parent passes it on
        return error.exit_code
    # Only here: what can't work is said without them.
    from fanout.web.app import application
    from fanout.web.server import Server

    # What goes wrong in a route is said where that is caught; all else is the doing of clients.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    server = Server(application(config, allowed))
    if asked.life is not None:
        threading.Thread(target=_end_with_parent, args=(asked.life, server), name="life", daemon=True).start()
    if asked.socket is None:
        print(f"http://{in_url(host)}:{port}", flush=True)  # noqa: T201 - as above
    # What is loaded stays, and requests leave little behind: the collector has less to look at, and less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    server.run([listener])
    return 0


def _end_with_parent(life: int, server: Server) -> None:
    """Read the pipe, in which the parent says how its engine is: it ends when that does, or lets us go."""
    said = b""
    while read := os.read(life, 4096):
        *lines, said = (said + read).split(b"\n")
        if lines:
            server.hear(lines[-1].decode("utf-8", "replace"))
    threading.Timer(_LAST_PATIENCE_S, os._exit, (0,)).start()
    server.end()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fanout.web", description="The dashboard and the event API.")
    parser.add_argument("--config", metavar="PATH", help="fanout.toml, or its folder")
    parser.add_argument("--journal", metavar="PATH", help="the journal; that of fanout.toml if left out")
    parser.add_argument("--host", help="the address; that of fanout.toml if left out")
    parser.add_argument("--port", type=int, help="the port; that of fanout.toml if left out")
    parser.add_argument("--socket", type=int, metavar="FD", help="listen on this inherited socket instead")
    parser.add_argument("--life", type=int, metavar="FD", help="end when this inherited pipe does")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
