"""Templates to pages: what every template can say, and nothing of what any one page shows.

Whatever comes from outside is escaped, and made printable, on its way into a page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from fanout import __version__
from fanout.engine import lock
from fanout.views import words
from fanout.web.assets import asset_url

if TYPE_CHECKING:
    from starlette.requests import Request

NAVIGATION = (
    ("Runs", "/runs"),
    ("Events", "/events"),
    ("Functions", "/functions"),
    ("Graph", "/graph"),
    ("Stats", "/stats"),
    ("Send", "/send"),
)
MOST_SHOWN = 100_000
"""Characters of a JSON value that a page has at most."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(:?)|-?[0-9][-+.0-9eE]*|true|false|null')
_QUOTED = re.compile(r"`([^`]+)`")
_MINUTE = 60
_UNITS = ((86_400, "d"), (3_600, "h"), (_MINUTE, "min"))
_NOT_LONG = 2


class Flash(NamedTuple):
    """What a page says of what was just done: `good`, `bad` or neither."""

    kind: str
    words: str


class Laid(NamedTuple):
    """A JSON value laid out; `shown` of its `size` are there if it `is_cut`."""

    html: Markup
    is_cut: bool
    shown: str
    size: str


def page(
    request: Request, template: str, *, status: int = 200, flash: Flash | None = None, **context: Any
) -> HTMLResponse:
    """The page that this template makes of all that it is given."""
    config = request.app.state.site.config
    html = (
        _environment()
        .get_template(template)
        .render(
            context,
            path=request.url.path,
            area=_area(request.url.path),
            navigation=NAVIGATION,
            project=config.root.name,
            has_engine=lock.holder(config.journal) is not None,
            now=words.now(),
            zone=zone(),
            version=__version__,
            flash=flash,
        )
    )
    return HTMLResponse(html, status, headers={"Cache-Control": "no-cache, private"})


def zone() -> str:
    """Of the times that pages show, which are the server's: what it is called, and how far it is from UTC."""
    now = datetime.now().astimezone()
    name, offset = now.tzname() or "", now.strftime("%z")
    if name == "UTC":
        return name
    distance = f"UTC{offset[:3]}:{offset[3:5]}"
    return f"{name} ({distance})" if name.isalpha() else distance


def flash_of(request: Request, said: Mapping[str, Flash]) -> Flash | None:
    """What the address says has been done, if it is one of these: `?said=...`."""
    return said.get(request.query_params.get("said", ""))


def problem_page(request: Request, status: int, phrase: str, message: str, hint: str | None) -> HTMLResponse:
    """Instead of a page that can't be. Where there is no journal yet, what to do first."""
    if status == 404 and request.method in ("GET", "HEAD") and not request.app.state.site.config.journal.exists():  # noqa: PLR2004 - not found
        return page(request, "first.html", origin=str(request.base_url).rstrip("/"))
    return page(request, "problem.html", status=status, code=status, phrase=phrase, message=message, hint=hint)


def _area(path: str) -> str:
    """The place in the navigation that a page belongs to."""
    first = "/" + path.split("/", 2)[1]
    return "/runs" if first in ("/replay", "/trace") else first


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("fanout.web"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=True,
    )
    made.globals["asset"] = asset_url
    made.filters |= {
        "ago": ago,
        "clock": words.clock,
        "code": coded,
        "count": words.count,
        "duration": words.duration,
        "first_line": words.first_line,
        "iso": _iso,
        "laid_out": laid_out,
        "number": _number,
        "path": _path,
        "percent": words.percent,
        "short_id": words.short_id,
        "since": _since,
        "size": words.size,
        "text": _text,
        "wall": _wall,
        "whole": _whole,
    }
    return made


def _finalized(value: Any) -> Any:
    """What a template writes: nothing for None, and text without characters that can't be seen."""
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Markup):
        return words.printable(value, keep_lines=True)
    return value


def ago(milliseconds: int) -> str:
    """How long ago it was, or how soon it is: `12 s ago`, `in 3 min`. As live.js has it."""
    span = words.now() - milliseconds
    seconds = abs(span) // 1_000
    if seconds < _NOT_LONG:
        return "now"
    if seconds < _MINUTE:
        said = f"{seconds} s"
    else:
        unit, name = next((each for each in _UNITS if seconds >= each[0]), _UNITS[-1])
        # What has passed is said when it is full; what is to come, to the nearest: 3 days from now are not 2 days soon.
        said = f"{(seconds + (unit // 2 if span < 0 else 0)) // unit} {name}"
    return f"in {said}" if span < 0 else f"{said} ago"


def coded(text: str) -> Markup:
    """Our own words, in which commands and names stand between backticks."""
    parts = _QUOTED.split(words.printable(text, keep_lines=True))
    return Markup().join(
        Markup('<code class="inline-code">{}</code>').format(part) if number % 2 else part
        for number, part in enumerate(parts)
    )


def laid_out(text: str) -> Laid:
    """A JSON text over several lines, its parts in colour."""
    pretty = msgspec.json.format(text, indent=2)
    shown = pretty if len(pretty) <= MOST_SHOWN else pretty[:MOST_SHOWN]
    is_cut = shown is not pretty
    html = Markup().join(_coloured(words.printable(shown, keep_lines=True)))
    return Laid(html, is_cut, words.size(len(shown)), words.size(len(pretty)))


def _coloured(text: str) -> Iterator[str]:
    here = 0
    for token in _TOKEN.finditer(text):
        yield escape(text[here : token.start()])
        here = token.end()
        said = token[0]
        if token[1]:
            yield Markup('<span class="k">{}</span>:').format(said[:-1])
        else:
            kind = "s" if said[0] == '"' else "c" if said[0].isalpha() else "n"
            yield Markup('<span class="{}">{}</span>').format(kind, said)
    yield escape(text[here:])


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _number(value: int) -> str:
    return f"{value:,}"


def _path(part: str) -> str:
    """As a part of an address; the slashes of a function's id stay."""
    return quote(part)


def _since(milliseconds: int) -> str:
    return words.duration(words.now() - milliseconds)


def _text(value: bytes) -> str:
    """What the journal has as JSON, as text."""
    return bytes(value).decode()


def _whole(milliseconds: int) -> str:
    """The local date and time with its zone."""
    return datetime.fromtimestamp(milliseconds / 1_000).astimezone().strftime("%a %Y-%m-%d %H:%M:%S %Z")


def _wall(milliseconds: int) -> str:
    """The local time of day, to the millisecond."""
    return datetime.fromtimestamp(milliseconds / 1_000).astimezone().strftime("%H:%M:%S.%f")[:-3]
