"""What stands before every route: who may ask, from which page, by which name, with how large a body, how slowly.

The rules of browsers that it builds on: Host is what was typed or clicked, Origin and Sec-Fetch-Site are whose page
asks, and no page can change them. Whatever is no browser sends none of the two latter, and is told by the token alone.
"""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from fanout.web.access import TOKEN, Access, split_host
from fanout.web.problems import problem

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY_BYTES = 16 * 1024 * 1024
MOST_HELD_BYTES = 64 * 1024 * 1024
"""Of the bodies of all requests together."""
BODY_PATIENCE_S = 30.0
"""For all of a body."""
_OPEN_TO_ALL = "/health"
_EVENTS = "/e/"

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    b"connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # Not `no-referrer`: with that browsers call the origin of our own forms `null`.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NOT_KEPT = (b"cache-control", b"no-store")

Headers = dict[bytes, bytes]


class Guard:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, allowed: Access) -> None:
        self.app = app
        self._allowed = allowed
        self._held = _Held()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", ()))
                is_kept = any(name == b"cache-control" for name, _ in given)
                message = {**message, "headers": [*given, *_HEADERS, *(() if is_kept else (_NOT_KEPT,))]}
            await send(message)

        headers: Headers = dict(scope["headers"])
        refusal = (
            self._refuse_host(scope)
            or _refuse_stranger(scope, headers)
            or self._refuse_unknown(scope, headers)
            or _refuse_body(scope, headers)
        )
        if refusal is None:
            body = _Body(receive, self._held)
            try:
                await self.app(scope, body.receive, send_guarded)
            finally:
                self._held.bytes -= body.bytes
            return
        if b"content-length" in headers or b"transfer-encoding" in headers:
            refusal.headers["Connection"] = "close"  # Nobody is going to read what it sends.
        await refusal(scope, receive, send_guarded)

    def _refuse_host(self, scope: Scope) -> Response | None:
        """The name must be ours: a stranger's page can have its own name stand for our address (DNS rebinding)."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        host = hosts[0].decode("latin-1") if len(hosts) == 1 else ""
        if self._allowed.has_name(host):
            return None
        return problem(
            scope,
            421,
            f"this site is not called `{_shown(host)}`",
            hint="`FANOUT_HOSTS` lists names that it is to have besides its address, with commas between them",
        )

    def _refuse_unknown(self, scope: Scope, headers: Headers) -> Response | None:
        """Who has to show a token or a key, and does not."""
        allowed, path = self._allowed, scope["path"]
        is_event = scope["method"] == "POST" and (path == _EVENTS[:-1] or path.startswith(_EVENTS))
        if is_event and allowed.event_key is not None:
            if _same(path[len(_EVENTS) :], allowed.event_key):
                return None
            if allowed.token is None:
                return problem(scope, 401, "the event key is missing or wrong", hint="send to `/e/KEY` with that key")
        if allowed.token is None or path == _OPEN_TO_ALL:
            return None
        if scope["method"] in {"GET", "HEAD"} and b"token=" in scope["query_string"]:
            entered = _enter(allowed, scope, headers)
            if entered is not None:
                return entered
        return None if _has_token(allowed, headers) else _no_token(scope, headers)


def _no_token(scope: Scope, headers: Headers) -> Response:
    hint = f"open the link that `fanout` has printed, or send `Authorization: Bearer` with what `{TOKEN}` has"
    answer = problem(scope, 401, "the token is missing or wrong", hint=hint, headers={"WWW-Authenticate": "Bearer"})
    if headers.get(b"sec-fetch-site") == b"cross-site" and headers.get(b"sec-fetch-mode") == b"navigate":
        # Browsers keep the cookie back when a link on another site is followed, but not when our own page goes on.
        answer.headers["Refresh"] = f"0; url={_here(scope, scope['query_string'].decode('latin-1'))}"
    return answer


def _refuse_stranger(scope: Scope, headers: Headers) -> Response | None:
    """What another site's page asks for. Following a link to us is all that it may do."""
    origin = headers.get(b"origin")
    site = headers.get(b"sec-fetch-site", b"none")
    is_link = (
        scope["method"] == "GET"
        and headers.get(b"sec-fetch-mode") == b"navigate"
        and headers.get(b"sec-fetch-dest") in {b"document", None}
    )
    if (origin is None or _is_of(origin, headers[b"host"])) and (site in {b"same-origin", b"none"} or is_link):
        return None
    return problem(
        scope,
        403,
        "another site's page can't do this",
        hint="a proxy in front of this site has to pass on the `Host` header that it gets",
    )


def _is_of(origin: bytes, host: bytes) -> bool:
    try:
        parts = urlsplit(origin.decode("latin-1"))
    except ValueError:
        return False
    has_more = parts.path or parts.query or parts.fragment
    return parts.scheme in {"http", "https"} and not has_more and parts.netloc.lower() == host.decode("latin-1").lower()


def _refuse_body(scope: Scope, headers: Headers) -> Response | None:
    length = headers.get(b"content-length", b"0")
    # Digits alone, and not of any number: to read a number of thousands of them takes a while.
    if length.isdigit() and len(length) < 20 and int(length) <= MOST_BODY_BYTES:  # noqa: PLR2004 - 64 bits
        return None
    return problem(scope, 413, _TOO_LARGE, hint="split it, and send one part after another")


_TOO_LARGE = f"the request has more than {MOST_BODY_BYTES // 2**20} MiB"


class _Held:
    """What the bodies of all requests come to that have not been answered."""

    bytes = 0


class _Body:
    """A request's body, whose size and time have an end."""

    def __init__(self, receive: Receive, held: _Held) -> None:
        self._receive = receive
        self._held = held
        self._until: float | None = None
        self._is_complete = False
        self.bytes = 0

    async def receive(self) -> Message:
        if self._is_complete:
            return await self._receive()
        if self._until is None:
            self._until = asyncio.get_running_loop().time() + BODY_PATIENCE_S
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise _refused(408, f"the request took more than {BODY_PATIENCE_S:g} s to come") from None
        size = len(message.get("body", b""))
        self.bytes += size
        self._held.bytes += size
        self._is_complete = not message.get("more_body", False)
        if self.bytes > MOST_BODY_BYTES:
            raise _refused(413, _TOO_LARGE)
        if self._held.bytes > MOST_HELD_BYTES:
            raise _refused(503, "too much is sent at the same time")
        return message


def _refused(status: int, message: str) -> HTTPException:
    """Whatever else comes of that request is not read."""
    return HTTPException(status, message, {"Connection": "close"} | ({"Retry-After": "1"} if status == 503 else {}))  # noqa: PLR2004 - its name is longer


def _has_token(allowed: Access, headers: Headers) -> bool:
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and _same(given.strip().decode("latin-1"), allowed.token or ""):
        return True
    # By hand: the cookies of whatever else runs on this machine come too, and some of theirs no parser takes.
    name = _cookie_name(headers).encode() + b"="
    cookies = (each.strip() for each in headers.get(b"cookie", b"").split(b";"))
    return any(each.startswith(name) and _same(each[len(name) :].decode("latin-1"), allowed.cookie) for each in cookies)


def _enter(allowed: Access, scope: Scope, headers: Headers) -> Response | None:
    """`?token=` becomes a cookie, and is gone from the address."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if not any(name == "token" and _same(value, allowed.token or "") for name, value in query):
        return None
    response = RedirectResponse(_here(scope, urlencode([each for each in query if each[0] != "token"])), 303)
    response.set_cookie(
        _cookie_name(headers),
        allowed.cookie,
        max_age=90 * 24 * 3600,
        httponly=True,
        samesite="strict",
        secure=scope["scheme"] == "https" or headers.get(b"x-forwarded-proto") == b"https",
    )
    return response


def _here(scope: Scope, query: str) -> str:
    """The path that was asked for, made so that it can't lead to another site, as `//name` would."""
    path = "/" + quote(scope["path"].lstrip("/"), safe="/")
    return f"{path}?{query}" if query else path


def _cookie_name(headers: Headers) -> str:
    """Cookies don't tell ports apart: several sites of one machine each have their own."""
    _, port = split_host(headers[b"host"].decode("latin-1"))
    return f"fanout-{port}" if port else "fanout"


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())


def _shown(host: str) -> str:
    return host[:100] if host.isprintable() else ascii(host)[:100]
