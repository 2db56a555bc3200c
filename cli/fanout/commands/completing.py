"""What may stand next on a command line, for the scripts that `fanout completion` prints.

What the commands are is in `grammar.json`, so that neither Typer nor any command is imported; what is in the journal is
asked of `candidates`, and only if the word at the cursor is such a one.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from fanout.commands.completion_word import Word

GRAMMAR = Path(__file__).with_name("grammar.json")
SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_FANOUT_COMPLETE"
FILES = "files"
_FILES_MARK = ":files"
"""Tells the script to complete names of files itself. No candidate begins with a colon."""
_HARMLESS = re.compile(r"[\w@%+=,./][\w@%+=:,./-]*", re.ASCII)
"""A value is put on a command line, and names of events come from anywhere: nothing that a shell would act on."""
_LISTS = "63"
"""What bash calls a listing of what there is, after the second TAB."""


class Expected(NamedTuple):
    """What the word at the cursor may be: one of these, or a value of this kind."""

    words: list[Word]
    kind: str | None = None
    prefix: str = ""
    """What of the word is not part of the value: `--function=`."""
    config: str | None = None


def main(arguments: list[str], environ: Mapping[str, str]) -> None:
    """Print what may stand at the cursor; nothing at all, if anything is wrong."""
    shell = environ[VARIABLE]
    with suppress(Exception), _at_once():  # a prompt is no place for an error
        words = _bash_words(arguments[0]) if shell == "bash" else arguments
        for line in answers(shell, words, environ):
            sys.stdout.write(f"{line}\n")


def print_script(shell: str) -> None:
    """What `fanout completion` prints for one of the `SHELLS`."""
    path = Path(__file__).parent / "shells" / f"completion.{shell}"
    sys.stdout.write(path.read_text(encoding="utf-8"))


@contextmanager
def _at_once() -> Iterator[None]:
    """Nobody waits at a prompt for a journal that is locked: after a second the process is over."""
    before = signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def answers(shell: str, words: Sequence[str], environ: Mapping[str, str]) -> Iterable[str]:
    """The lines that the shell's script reads. The last of the words is the one at the cursor, empty or not whole."""
    current = words[-1]
    wanted = expected(json.loads(GRAMMAR.read_bytes()), words[:-1], current)
    if wanted.kind == FILES:
        return [_FILES_MARK]
    begun = current.removeprefix(wanted.prefix)
    found = wanted.words
    if wanted.kind is not None:
        from fanout.commands.candidates import values  # lazy: most words are none of the journal's

        known = values(wanted.kind, begun, wanted.config)
        found = [*found, *(each for each in known if _HARMLESS.fullmatch(each.text))]
    begun_so = [each for each in found if each.text.startswith(begun)]
    written = [each._replace(text=wanted.prefix + each.text) for each in begun_so]
    return _WRITTEN[shell](written, current, environ)


# What may stand where.


def expected(grammar: Mapping[str, Any], words: Sequence[str], current: str) -> Expected:
    """What the word `current` may be, after these words."""
    at = _Place(grammar)
    for word in words:
        at.pass_over(word)
    return at.expected(current)


class _Place:
    """How far the command line has been read."""

    def __init__(self, grammar: Mapping[str, Any]) -> None:
        self._grammar = grammar
        self._path = ""
        self._positions = 0
        self._used: set[str] = set()
        self._option: str | None = None
        """The option whose value comes next."""
        self._is_all_arguments = False
        self._config: str | None = None

    @property
    def _options(self) -> Mapping[str, Any]:
        options: Mapping[str, Any] = self._grammar[self._path]["options"]
        return options

    def pass_over(self, word: str) -> None:
        if self._option is not None:
            self._config = word if self._option == "--config" else self._config
            self._option = None
        elif self._is_all_arguments:
            self._positions += 1
        elif word == "--":
            self._is_all_arguments = True
        elif word.startswith("-") and word != "-":
            name, sign, value = word.partition("=")
            self._used.add(name)
            if not sign and self._takes_value(name):
                self._option = name
            elif name == "--config":
                self._config = value
        elif not self._positions and (inner := f"{self._path} {word}".strip()) in self._grammar:
            self._path, self._used = inner, set()
        else:
            self._positions += 1

    def expected(self, current: str) -> Expected:
        if self._option is not None:
            return self._value(self._options[self._option])
        name, sign, _ = current.partition("=")
        if current.startswith("--") and sign and not self._is_all_arguments:
            return self._value(self._options[name], f"{name}=") if self._takes_value(name) else Expected([])
        if current.startswith("-") and not self._is_all_arguments:
            named = self._options.items()
            return Expected([Word(name, option["help"]) for name, option in named if self._may_come(name, option)])
        arguments = self._grammar[self._path]["arguments"]
        at = min(self._positions, len(arguments) - 1)
        if at >= 0 and (at == self._positions or arguments[at].get("is_many")):
            return self._value(arguments[at])
        return Expected([] if self._positions else self._inner())

    def _takes_value(self, name: str) -> bool:
        return name in self._options and "kind" in self._options[name]

    def _may_come(self, name: str, option: Mapping[str, Any]) -> bool:
        return name.startswith("--") and (name not in self._used or "is_many" in option)

    def _inner(self) -> list[Word]:
        """The commands of this group."""
        depth = len(self._path.split()) + 1
        begin = f"{self._path} ".lstrip()
        inner = [path for path in self._grammar if path and path.startswith(begin) and len(path.split()) == depth]
        return [Word(path.split()[-1], self._grammar[path]["help"]) for path in inner]

    def _value(self, parameter: Mapping[str, Any], prefix: str = "") -> Expected:
        if choices := parameter.get("choices"):
            return Expected([Word(*each) for each in choices], None, prefix)
        return Expected([], parameter.get("kind") or None, prefix, self._config)


# As the shells want it.


def _bash_words(line: str) -> list[str]:
    """The words of a line up to the cursor, but the command's own name; quotes may be left open."""
    words, word, quote, is_word, is_escaped = [], "", "", False, False
    for character in line:
        if is_escaped:
            word, is_escaped = word + character, False
        elif character == "\\" and quote != "'":
            is_word = is_escaped = True
        elif quote:
            quote, word = ("", word) if character == quote else (quote, word + character)
        elif character in "'\"":
            quote, is_word = character, True
        elif character.isspace():
            if is_word:
                words.append(word)
            word, is_word = "", False
        else:
            word, is_word = word + character, True
    return [*words, word][1:]


def _bash(found: Sequence[Word], current: str, environ: Mapping[str, str]) -> Iterable[str]:
    """Bash replaces only what comes behind the last `=` or `:`; meanings are shown where it lists what there is."""
    cut = max((current.rfind(sign) for sign in environ.get("COMP_WORDBREAKS", "") if sign in "=:"), default=-1) + 1
    is_list = environ.get("COMP_TYPE") == _LISTS and len(found) > 1
    width = max((len(each.text) for each in found), default=0)
    for each in found:
        yield f"{each.text:<{width}}  ({each.help})"[cut:] if is_list and each.help else each.text[cut:]


def _zsh(found: Sequence[Word], _current: str, _environ: Mapping[str, str]) -> Iterable[str]:
    for each in found:
        text = each.text.replace(":", r"\:")
        yield f"{text}:{each.help}" if each.help else text


def _fish(found: Sequence[Word], _current: str, _environ: Mapping[str, str]) -> Iterable[str]:
    for each in found:
        yield f"{each.text}\t{each.help}" if each.help else each.text


_WRITTEN = {"bash": _bash, "zsh": _zsh, "fish": _fish}
