"""What a page shows of a command's output, as a pattern that what comes has to match.

Ids, times, durations, sizes and widths differ from one time to the next. `...` alone on a line is any lines, and any text
elsewhere.
"""

from __future__ import annotations

import re

_LETTERS = "[0-9A-HJKMNP-TV-Z]"
_UNIT = r"(?:us|ms|s|min|m|h|d)\b"
_DURATION = rf"\d[\d,]*(?:\.\d+)? ?(?:{_UNIT}|(?:h|m)(?=\d))(?: ?\d+ ?{_UNIT})*"
_KINDS = {
    "id": rf"\b{_LETTERS}{{26}}\b",
    "short": rf"\b(?=[A-Z]*\d){_LETTERS}{{10}}\b",
    "moment": r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?Z?",
    "day": r"\b\d{4}-\d\d-\d\d\b",
    "clock": r"\b\d\d:\d\d(?::\d\d)?(?:\.\d+)?\b",
    "duration": rf"\b{_DURATION}",
    "weekday": r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b",
    "zone": r"\bCES?T\b",
    "stamp": r"\b1[5-9]\d{11}\b",
    "size": r"\b\d[\d,]*(?:\.\d+)? (?:B|KB|MB)(?=\s|$)",
    "bar": r"[█▏▎▍▌▋▊▉▐░▒]+",
    "lines": r"(?m:^[ \t]*\.\.\.[ \t]*(?:\n|\Z))",
    "rest": r"\.\.\.",
    "space": r"\s+",
}
_TOKEN = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _KINDS.items()))
_IDS = ("id", "short")


def pattern(shown: str) -> tuple[re.Pattern[str], list[str]]:
    """What output has to match, and the ids shown, one for each group."""
    made, ids, at = [], [], 0
    text = shown.strip() + "\n"
    for token in _TOKEN.finditer(text):
        made.append(re.escape(text[at : token.start()]))
        at, kind = token.end(), str(token.lastgroup)
        if kind in ("lines", "rest"):
            made.append(r"(?:.*\n)*?" if kind == "lines" else r".*?")
        elif kind in _IDS:
            ids.append(token[0])
            made.append(rf"(\b{_LETTERS}{{{len(token[0])}}}\b)")  # One in forty has no digit by which to know it.
        elif kind in ("space", "bar"):
            made.append(r"\s+" if kind == "space" else _KINDS[kind])
        else:
            made.append(f"(?:{_KINDS[kind]})")
    made.append(re.escape(text[at:]))
    return re.compile("".join(made)), ids


def match(shown: str, came: str, *, any_order: bool = False) -> dict[str, str] | None:
    """The ids that came, by those shown; None if something else came."""
    if any_order:
        shown, came = _in_order(shown), _in_order(came)
    expected, ids = pattern(shown)
    found = expected.fullmatch(came.strip() + "\n")
    return None if found is None else known(dict(zip(ids, found.groups(), strict=True)))


def _in_order(text: str) -> str:
    """By letters: the first of them may be what differs, but then whole lines begin with it."""
    return "".join(sorted(f"{line}\n" for line in text.strip().splitlines()))


def known(ids: dict[str, str]) -> dict[str, str]:
    """With their last letters, which people type."""
    return ids | {each[-10:]: came[-10:] for each, came in ids.items()}
