"""A shell that goes on from one command to the next, and commands that run beside it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

FENCE_S = 60
_OTHER_PLUGINS = ("anyio", "hypothesispytest", "playwright", "schemathesis", "xdist", "pytest-base-url")
"""Of our own tests, which would take longer to load than a page's tests take."""
_END = "=== the command has ended"


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FANOUT_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    others = " ".join(f"-p no:{plugin}" for plugin in _OTHER_PLUGINS)
    return {
        **kept, "PATH": path, "HOME": str(home), "NO_COLOR": "1", "COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_ADDOPTS": f"{others} -p no:cacheprovider",
    }  # fmt: skip


class Shell:
    """bash, whose commands see the folder and the variables that earlier ones have left."""

    def __init__(self, folder: Path) -> None:
        self._root = folder
        self._beside: list[subprocess.Popen[str]] = []
        (folder / ".curlrc").write_text('silent\nfail-with-body\nconnect-to = "192.0.2.7::127.0.0.1:"\n')
        self._bash = _start(["bash", "--norc"], folder, environment(folder), stdin=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (*self._beside, self._bash):
            _end(process)

    def run(self, command: str) -> tuple[int, str]:
        """Its exit code, and all that it has printed."""
        _write(self._bash, f"{{ {command}\n}} </dev/null\necho '{_END}' $?\n")
        printed = _until(self._bash, _END)
        text, _, code = printed.rpartition(_END)
        return int(code), self._shown(text)

    def begin(self, command: str, text: str, *, stays: bool) -> str:
        """Start a command that goes on, and return what it has printed once that has `text`.

        If it `stays`, it is ended by the next one, or with the page; if not, now. A journal has one engine at a time.
        """
        while self._beside:
            _end(self._beside.pop())
        _, state = self.run("pwd; env -0 | tr '\\n\\0' ' \\n'")
        folder, *variables = state.splitlines()
        environ = dict(each.split("=", 1) for each in variables if "=" in each)
        process = _start(["bash", "-c", f"exec {command}"], self._real(folder), environ)
        self._beside.append(process)
        printed = _until(process, text)
        if not stays:
            _end(process)
        return self._shown(printed)

    def _real(self, folder: str) -> Path:
        return Path(folder.replace("/home/you", str(self._root), 1))

    def _shown(self, text: str) -> str:
        return re.sub(re.escape(str(self._root)), "/home/you", text)


def _start(
    command: list[str], folder: Path, environ: Mapping[str, str], *, stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=folder, env=environ, text=True, start_new_session=True,
        stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _write(process: subprocess.Popen[str], text: str) -> None:
    stdin = _stream(process.stdin)
    stdin.write(text)
    stdin.flush()


def _until(process: subprocess.Popen[str], text: str) -> str:
    """All lines up to the one that has `text`."""
    fence = threading.Timer(FENCE_S, _kill, (process,))
    fence.start()
    lines: list[str] = []
    try:
        for line in _stream(process.stdout):
            lines.append(line)
            if text in line:
                return "".join(lines)
    finally:
        fence.cancel()
    raise AssertionError(f"`{text}` never came, but:\n{''.join(lines)}")


def _kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[str]) -> None:
    """With all that it has started, and in peace: who has written to the journal should close it."""
    if process.stdin is not None:
        process.stdin.close()
    elif process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        _kill(process)
        process.wait()
    _stream(process.stdout).close()
