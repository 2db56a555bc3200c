"""What a person's editor shows: a client of pyright's language server."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_FENCE_S = 120


class Editor:
    """One file is open in it, and has this text. It knows nothing of this repository: as people have it."""

    def __init__(self, folder: Path, text: str) -> None:
        command = [sys.executable, "-m", "pyright.langserver", "--stdio"]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder)
        self._fence = threading.Timer(_FENCE_S, self._server.kill)
        self._uri = (folder / "opened.py").as_uri()
        self._last = 0
        self._text = text

    def __enter__(self) -> Self:
        self._fence.start()
        documentation = {"contentFormat": ["plaintext"], "documentationFormat": ["plaintext"]}
        capabilities = {"textDocument": {"hover": documentation, "completion": {"completionItem": documentation}}}
        self._ask("initialize", processId=None, rootUri=None, capabilities=capabilities)
        self._tell("initialized")
        document = {"uri": self._uri, "languageId": "python", "version": 1, "text": self._text}
        self._tell("textDocument/didOpen", textDocument=document)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._fence.cancel()
        self._server.communicate()  # It ends when nobody speaks to it any more.

    def hover(self, line: int, column: int) -> str:
        """What is shown of the name there; both count from 0."""
        found = self._at("textDocument/hover", line, column)
        return "" if found is None else str(found["contents"]["value"])

    def completions(self, line: int, column: int) -> set[str]:
        """What could stand there."""
        return {str(each["label"]) for each in self._at("textDocument/completion", line, column)["items"]}

    def _at(self, what: str, line: int, column: int) -> Any:
        return self._ask(what, textDocument={"uri": self._uri}, position={"line": line, "character": column})

    # The protocol: JSON-RPC over pipes.

    def _ask(self, method: str, **params: Any) -> Any:
        self._last += 1
        self._send(id=self._last, method=method, params=params)
        while True:
            heard = self._receive()
            if "method" not in heard and heard.get("id") == self._last:
                return heard.get("result")
            if "method" in heard and "id" in heard:
                self._send(id=heard["id"], result=self._answer(heard))

    @staticmethod
    def _answer(asked: dict[str, Any]) -> Any:
        if asked["method"] != "workspace/configuration":
            return None
        items = asked["params"]["items"]
        return [{"pythonPath": sys.executable} if each.get("section") == "python" else None for each in items]

    def _tell(self, method: str, **params: Any) -> None:
        self._send(method=method, params=params)

    def _send(self, **message: Any) -> None:
        text = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._server.stdin
        self._server.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(text), text))
        self._server.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._server.stdout
        length = 0
        while line := self._server.stdout.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        heard: dict[str, Any] = json.loads(self._server.stdout.read(length))
        return heard
