"""Doing what a page says, in a folder of its own."""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import fanout
from fanout import config, events
from fanout.attached import spec_of
from fanout.testing import Project, run
from tests.docs.pages import Part, commands, parts
from tests.docs.shell import Shell
from tests.docs.shown import known, match

LANGUAGES = ("python", "console", "sh", "toml", "json", "text")
_APP = '[app]\nid = "shop"\nfunctions = ["functions"]\n'
_FIXTURES: dict[str, Callable[..., Any]] = {"fanout_run": run, "fanout_project": Project}


class Reader:
    """What one page has, so far: its folder, its shell, its module, and the ids that stand for those shown."""

    def __init__(self, page: Path, folder: Path, shell: Shell) -> None:
        self.page = page
        self.folder = folder
        self.shell = shell
        self.module = ModuleType("page")
        self.ids: dict[str, str] = {}
        self.port = "8288"

    def read(self) -> None:
        """Do all of it.

        Raises:
            AssertionError: something is not as the page says; the message names its line.
        """
        sys.modules["page"] = self.module
        try:
            for part in parts(self.page):
                try:
                    self._do(part)
                except Exception as error:
                    raise AssertionError(f"{part}: {type(error).__name__}: {error}") from error
        finally:
            del sys.modules["page"]

    def _do(self, part: Part) -> None:
        said = part.said
        if "not run" in said:
            return
        if "file" in said:
            self._write(said["file"], part.text)
        elif "edit" in said:
            self._edit(self.folder / said["edit"], part.text)
        elif "setup" in said:
            self._execute(part)
        elif not part.language:
            [(name, command)] = said.items()
            self._hidden(name, command)
        else:
            assert part.language in LANGUAGES, f"`{part.language}` is none of {LANGUAGES}"
            getattr(self, f"_{part.language}")(part)

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.name == config.FILE_NAME:
            config.load(path)

    def _execute(self, part: Part, text: str | None = None) -> None:
        # The blank lines let tracebacks, and who looks for a function's source, find the page's own lines.
        source = "\n" * (part.line - 1) + (part.text if text is None else text)
        exec(compile(source, str(self.page), "exec"), self.module.__dict__)

    def _edit(self, path: Path, text: str) -> None:
        [new] = ast.parse(text).body
        assert isinstance(new, ast.FunctionDef), "an edit is one function"
        source = path.read_text()
        lines = source.splitlines(keepends=True)
        [old] = [each for each in ast.parse(source).body if getattr(each, "name", None) == new.name]
        lines[old.lineno - 1 : old.end_lineno] = [text]
        path.write_text("".join(lines))

    def _hidden(self, name: str, command: str) -> None:
        code, printed = self._run(command, ["serving"] if name == "serve" else [], stays=True)
        assert code == 0, printed
        if name.startswith("id "):
            found = re.search(r"\b[0-9A-Z]{26}\b", printed)
            assert found, printed
            shown = name.removeprefix("id ")
            self.ids |= known({shown: found[0][-len(shown) :]})

    # One for each language.

    def _python(self, part: Part) -> None:
        if "body" in part.said:
            self._body(part)
            return
        before = set(self.module.__dict__)
        self._execute(part)
        for name, value in list(self.module.__dict__.items()):
            if name.startswith("test_") and name not in before:
                value(**{each: _FIXTURES[each] for each in inspect.signature(value).parameters})

    def _body(self, part: Part) -> None:
        """The block as a function: what stands before its first statement is on the line above."""
        kind = "async def" if re.search(r"\bawait\b", part.text) else "def"
        body = textwrap.indent(part.text, "    ") + "    return None\n"
        self._execute(part._replace(line=part.line - 1), f"{kind} the_block(ctx):\n{body}")
        function = fanout.function()(self.module.__dict__["the_block"])
        others = [each for each in self.module.__dict__.values() if spec_of(each) and each is not function]
        result = run(function, data=json.loads(part.said["body"]), functions=others)
        assert result.state == "completed", result.error

    def _console(self, part: Part) -> None:
        listed = list(commands(part.text))
        for number, (command, shown) in enumerate(listed, 1):
            is_last = number == len(listed)
            goes_on = [
                part.said[name] for name in ("until", "beside") if name in part.said and (is_last or name == "until")
            ]
            code, came = self._run(command, goes_on, stays="beside" in part.said)
            expected = int(part.said.get("exits", "0")) if is_last else 0
            assert code == expected, f"`{command}` ended with {code}, not {expected}:\n{came}"
            if shown.strip():
                found = match(shown, came, any_order="any order" in part.said)
                assert found is not None, f"`{command}` shows\n{shown}\nand gave\n{came}"
                self.ids |= found

    def _sh(self, part: Part) -> None:
        code, printed = self.shell.run(self._real(part.text))
        assert code == int(part.said.get("exits", "0")), printed

    def _toml(self, part: Part) -> None:
        has_app = re.search(r"^\[\[?apps?\]", part.text, re.MULTILINE)
        path = self.folder / ".toml" / config.FILE_NAME
        path.parent.mkdir(exist_ok=True)
        path.write_text(part.text if has_app else part.text + _APP)
        config.load(path)

    def _json(self, part: Part) -> None:
        assert events.parse(part.text.encode(), "the block")

    def _text(self, part: Part) -> None:
        """What is only shown."""

    # Commands.

    def _run(self, command: str, goes_on: list[str], *, stays: bool) -> tuple[int, str]:
        command = self._real(command)
        if not goes_on:
            code, came = self.shell.run(command)
            return code, self._as_shown(came)
        if re.search(r"fanout (serve|dev watch)", command) and not re.search(r"--(no-web|port)", command):
            command = re.sub(r"(fanout (?:serve|dev watch))", r"\1 --port 0", command)
        came = self.shell.begin(command, goes_on[0], stays=stays)
        port = re.search(r"http://[\w.]+:(\d+)", came)
        if port and stays:
            self.port = port[1]
        return 0, came.replace(f":{port[1]}", ":8288") if port else came

    def _real(self, command: str) -> str:
        """With the ids and the port that there are, for those that the page shows."""
        for shown in sorted(self.ids, key=len, reverse=True):
            command = command.replace(shown, self.ids[shown])
        return command.replace(":8288", f":{self.port}")

    def _as_shown(self, came: str) -> str:
        return came.replace(f":{self.port}", ":8288")
