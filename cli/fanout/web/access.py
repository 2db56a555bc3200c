"""Who may come in: the token and the event key that the environment gives, and the addresses that are asked for.

It knows nothing of requests, so that who starts the web process can refuse before a port is taken.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from typing import NamedTuple

from fanout.errors import UsageError

TOKEN = "FANOUT_TOKEN"  # noqa: S105 - the name of a variable
EVENT_KEY = "FANOUT_EVENT_KEY"
HOSTS = "FANOUT_HOSTS"
LEAST_CHARS = 16
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_PORTS_LEFT_OUT = (80, 443)
"""Browsers don't name them."""
_EXAMPLE = 'make one: `python -c "import secrets; print(secrets.token_urlsafe())"`'


class Access(NamedTuple):
    """What opens which door. `token` opens all of them and `event_key` only that of events; None: there is no such
    door. `hosts` are the names, in small letters, that a request may call this site by, with a port or for any port.
    `takes_any_address`: it may also be called by whatever IP address it is reached at.
    """

    token: str | None
    event_key: str | None
    hosts: frozenset[str]
    takes_any_address: bool = False

    @property
    def cookie(self) -> str:
        """What a browser keeps instead of the token: it can't be turned back, and stays good over restarts."""
        return hmac.digest((self.token or "").encode(), b"fanout cookie 1", "sha256").hex()

    def has_name(self, host: str) -> bool:
        """Whether a request with this Host header may be meant for us: other names are how a stranger's page, whose
        name it lets stand for our address, would get here with a browser's help. An address is no such name.
        """
        host = host.lower()
        name, port = split_host(host)
        if not name or (port and not (port.isascii() and port.isdigit())):
            return False
        asked = {name, host} if port else {name, *(f"{name}:{left_out}" for left_out in _PORTS_LEFT_OUT)}
        return not asked.isdisjoint(self.hosts) or (self.takes_any_address and _is_address(name))


def access(environ: Mapping[str, str], host: str, port: int) -> Access:
    """What the environment says, for a site at this address.

    Raises:
        UsageError: a token or key is too short, or a token is needed and there is none.
    """
    token, event_key = _secret(environ, TOKEN), _secret(environ, EVENT_KEY)
    if token is not None and token == event_key:
        raise UsageError(f"`{TOKEN}` and `{EVENT_KEY}` are the same", hint="who may send events could do all the rest")
    if token is None and not is_loopback(host):
        raise UsageError(
            f"others can reach `{host}`: a token is needed to listen there",
            hint=f"set `{TOKEN}` to {LEAST_CHARS} characters or more, or leave the address at 127.0.0.1",
        )
    own = (in_url(host), *_LOOPBACK_NAMES)
    # From elsewhere it may be reached through a port of another number, as that of a container.
    named = (f"{name.lower()}:{port}" for name in own) if is_loopback(host) else map(str.lower, own)
    given = (name.strip().lower() for name in environ.get(HOSTS, "").split(","))
    return Access(token, event_key, frozenset({*named, *given} - {""}), takes_any_address=not is_loopback(host))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def in_url(host: str) -> str:
    """As URLs have it: an IPv6 address is in brackets there."""
    return f"[{host}]" if ":" in host else host


def split_host(host: str) -> tuple[str, str]:
    """A Host header's name and port; the port is empty if there is none."""
    if host.startswith("["):
        name, bracket, rest = host.partition("]")
        return (name + bracket, rest.removeprefix(":")) if not rest or rest.startswith(":") else ("", "")
    name, _, port = host.partition(":")
    return name, port


def _is_address(name: str) -> bool:
    """As URLs have it. One that names an interface of its sender's, behind `%`, is of no use to others."""
    try:
        if name.startswith("[") and name.endswith("]"):
            return ipaddress.IPv6Address(name[1:-1]).scope_id is None
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def _secret(environ: Mapping[str, str], name: str) -> str | None:
    value = environ.get(name)
    if value is None:
        return None
    if len(value) < LEAST_CHARS:
        raise UsageError(f"`{name}` has {len(value)} characters, at least {LEAST_CHARS} are needed", hint=_EXAMPLE)
    if not value.isascii() or not value.isprintable() or " " in value:
        raise UsageError(f"`{name}` has characters that no header can carry", hint=_EXAMPLE)
    return value
