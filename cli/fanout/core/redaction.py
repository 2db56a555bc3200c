"""What nobody is to see: values that stand under configured keys, in JSON and in free text. Pure.

In JSON the rule is exact. In text it is a matter of forms: what this module knows as `key=value` is hidden, and where
a value has no clear end rather too much than too little.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache

import msgspec

HIDDEN = "[redacted]"
_HIDDEN_JSON = f'"{HIDDEN}"'
# Between the strings of a JSON text there are no quotes: so one after another they are found from the beginning.
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"(?P<colon>[ \t\r\n]*:[ \t\r\n]*)?')
_SCALAR = re.compile(r"[^,\]}\s]*")
_BRACKETS = re.compile(r"""["'\[\](){}]""")
_OPENING, _BOTH_QUOTES = "[({", "\"'"
# What may stand between a key and its value, the key's own closing quote left out; `d["key"] = ...` has a bracket too.
_SEPARATOR = re.compile(r"\]?[ \t]*(?P<sign>[=!:]=|=>|=|:)[ \t]*")
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_SPACE = re.compile(r"[ \t]+(?=[^\s\-])")
_IN_TUPLE = re.compile(r"\([bBrRuU]?\Z")
_BEFORE_HEADER = re.compile(r"[ \t<>]*\Z")
_REST_OF_LINE = re.compile(r"[^\r\n]*")
_QUOTE = re.compile(r"""[bBrRuUfF]{0,2}(?P<quote>\\*(?:"{3}|'{3}|["']))""")
# `SecretStr(` and the like stand before what they hold.
_OPENED = re.compile(r"[\w.]*(?=[\[({])")
_SCHEME = re.compile(r"(?:bearer|basic|digest|token|apikey|negotiate)[ \t]+(?=\S)", re.IGNORECASE)
# Ends before what looks like the next `name=` or `name:` of several, as in a URL's query.
_BARE = re.compile(r"""(?:(?![,;&]\s*\\*["']?[\w.\-]+\\*["']?\s*[=:])\S)+""")
_AFTER_BARE = """,;.!?)]}>"'`\\\\"""
# As in `password: str = "..."`, where what stands first is no value.
_ASSIGNED = re.compile(r"[ \t]*=[ \t]*(?=[^\s=])")


class Redaction:
    """Hides the values of these keys, whatever the case of their letters. Without keys it changes nothing."""

    __slots__ = ("_keys", "_mention", "_traces")

    def __init__(self, keys: Collection[str] = ()) -> None:
        self._keys = frozenset(key.casefold() for key in keys)
        spellings = {spelling for key in keys for spelling in _spellings(key)}
        self._traces = sorted({spelling.casefold() for spelling in spellings})
        """Where none of these is there is nothing to look for."""
        self._mention = _mention(spellings) if spellings else None

    def __bool__(self) -> bool:
        return bool(self._keys)

    def has(self, key: str) -> bool:
        """Whether what stands under this key is hidden."""
        return key.casefold() in self._keys

    def is_about(self, expression: str) -> bool:
        """Whether a path or an expression like `event.data.token` speaks of a hidden key."""
        return self._may_be_in(expression) and any(self.has(word) for word in re.findall(r"[\w\-]+", expression))

    def json_text(self, text: str) -> str:
        """The JSON text with each value under a key replaced, whole and whatever its type; it stays JSON.

        Strings elsewhere in it are free text: what is JSON again inside of one, or a URL, is dealt with as in `text`.
        All else stays as it is, to the letter.
        """
        if not self._keys or not (self._may_be_in(text) or "\\u" in text):
            return text
        return "".join(self._json_parts(text))

    def text(self, text: str) -> str:
        """Free text, of one line or several, without the values that it gives to keys.

        Known are `key=value`, `key: value`, both with quotes and brackets as Python and JSON write them (so reprs of
        dicts, arguments, items of tuples, source code), `--key value`, a URL's query, and a line that begins with
        `key:`, as headers do, which is hidden to its end.
        """
        if self._mention is None or not self._may_be_in(text):
            return text
        parts, at, written = [], 0, 0
        while (found := self._mention.search(text, at)) is not None:
            # Where there is nothing to hide the search goes on behind the key, or it would find that again.
            at = found.end()
            hidden = _given(text, found)
            if hidden is not None:
                begin, at, quote = hidden
                parts += [text[written:begin], quote, HIDDEN, quote]
                written = at
        return "".join((*parts, text[written:])) if parts else text

    def _may_be_in(self, text: str) -> bool:
        folded = text.casefold()
        return any(trace in folded for trace in self._traces)

    def _json_parts(self, text: str) -> Iterator[str]:
        at, written = 0, 0
        while (found := _STRING.search(text, at)) is not None:
            at = found.end()
            if found["colon"] is None:
                said = self._string(found[0])
                if said is not found[0]:
                    yield text[written : found.start()]
                    yield said
                    written = at
            elif self.has(_decoded(found[0][: -len(found["colon"])])):
                yield text[written:at]
                yield _HIDDEN_JSON
                at = written = _json_end(text, at)
        yield text[written:]

    def _string(self, quoted: str) -> str:
        if not self._may_be_in(quoted) and "\\u" not in quoted:
            return quoted
        content = _decoded(quoted)
        hidden = self.text(content)
        return quoted if hidden == content else msgspec.json.encode(hidden).decode()


@cache
def redaction_of(keys: tuple[str, ...]) -> Redaction:
    """The same one for the same keys."""
    return Redaction(keys)


def _decoded(quoted: str) -> str:
    return quoted[1:-1] if "\\" not in quoted else _loose(quoted)


def _loose(quoted: str) -> str:
    try:
        return msgspec.json.decode(quoted, type=str)
    except msgspec.MsgspecError:  # Half a surrogate pair, which is allowed to be in a JSON text.
        return quoted[1:-1]


def _json_end(text: str, at: int) -> int:
    """Where the JSON value that begins here ends."""
    if text[at : at + 1] == '"':
        string = _STRING.match(text, at)
        return len(text) if string is None else string.end() - len(string["colon"] or "")
    if text[at : at + 1] in ("{", "["):
        return _bracketed_end(text, at, '"')
    scalar = _SCALAR.match(text, at)
    return len(text) if scalar is None else scalar.end()


def _bracketed_end(text: str, at: int, quotes: str = _BOTH_QUOTES) -> int:
    """Where the bracket that opens here is closed: the text's end if it is not."""
    depth = 0
    while (found := _BRACKETS.search(text, at)) is not None:
        at = found.end()
        if found[0] in _BOTH_QUOTES:
            at = _quoted_end(text, at, found[0]) if found[0] in quotes else at
        elif found[0] in _OPENING:
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                return at
    return len(text)


def _quoted_end(text: str, at: int, quote: str) -> int:
    """Behind the quote that closes what begins here: the text's end if there is none.

    One with backslashes before it is a quote inside of a string, and closed by its like.
    """
    is_inner = quote.startswith("\\")
    begin = at
    while (close := text.find(quote, at)) >= 0:
        slashes = 0
        while close - slashes > begin and text[close - slashes - 1] == "\\":
            slashes += 1
        if slashes == 0 or (slashes % 2 == 0 and not is_inner):
            return close + len(quote)
        at = close + len(quote)
    return len(text)


# Free text.


def _mention(spellings: Iterable[str]) -> re.Pattern[str]:
    """Finds a key as a word of its own, with the quote before it."""
    names = "|".join(sorted((re.escape(each) for each in spellings), key=len, reverse=True))
    return re.compile(rf"""(?P<quote>(?<!\\)\\*["'])?(?:(?<![\w\-])|(?<=--))(?:{names})(?![\w\-])""", re.IGNORECASE)


def _spellings(key: str) -> set[str]:
    """The key, and as JSON writes it that is ASCII alone."""
    if key.isascii():
        return {key}
    cases = {key, key.casefold(), key.upper(), key.title()}
    return {*cases, *("".join(each if each.isascii() else f"\\u{ord(each):04x}" for each in case) for case in cases)}


def _given(text: str, key: re.Match[str]) -> tuple[int, int, str] | None:
    """Where the value that is given to this key begins and ends, and which quote belongs around what replaces it."""
    quote, at, begin = key["quote"] or "", key.end(), key.start()
    if quote and text.startswith(quote, at):
        at += len(quote)
    else:
        # The quote is that of a text which begins with the key.
        begin, quote = begin + len(quote), ""
    separator = _SEPARATOR.match(text, at)
    if separator is not None:
        at = separator.end()
        if separator["sign"] == ":" and not quote and _begins_line(text, begin):
            end = len(text[: _end(_REST_OF_LINE, text, at)].rstrip())
        else:
            return _value(text, at, quote, may_be_type=separator["sign"] == ":")
    elif quote and _IN_TUPLE.search(text, max(0, begin - 2), begin) and (comma := _COMMA.match(text, at)):
        return _value(text, comma.end(), quote)
    elif text.endswith("--", max(0, begin - 2), begin) and (space := _SPACE.match(text, at)):
        return _value(text, space.end(), quote)
    else:
        return None
    return (at, end, "") if end > at else None


def _value(text: str, at: int, quote: str, *, may_be_type: bool = False) -> tuple[int, int, str] | None:
    quoted = _QUOTE.match(text, at)
    if quoted is not None:
        return at, _quoted_end(text, quoted.end(), quoted["quote"]), quoted["quote"]
    opened = _OPENED.match(text, at)
    if opened is not None:
        return at, _bracketed_end(text, opened.end()), quote
    begin = _end(_SCHEME, text, at)
    end = begin + len(text[begin : _end(_BARE, text, begin)].rstrip(_AFTER_BARE))
    if may_be_type and (assigned := _ASSIGNED.match(text, end)):
        return _value(text, assigned.end(), quote)
    return (at, end, quote) if end > begin else None


def _begins_line(text: str, at: int) -> bool:
    line = max(text.rfind("\n", 0, at), text.rfind("\r", 0, at)) + 1
    return _BEFORE_HEADER.match(text, line, at) is not None


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where what begins here ends; here, if there is no such thing."""
    found = pattern.match(text, at)
    return at if found is None else found.end()
