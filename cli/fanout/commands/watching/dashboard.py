"""The web process of `fanout dev watch`: at the port that was asked for, or at the next one that is free."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from collections.abc import Callable
from typing import Protocol

from fanout.commands import text
from fanout.config import Config
from fanout.errors import UsageError
from fanout.web.process import WebProcess

_MORE_PORTS = 20


class Say(Protocol):
    """How lines get to people; those for the people here may have a token in them."""

    def __call__(self, line: str, /, *, is_for_people_here: bool = False) -> None: ...


class Dashboard:
    """Where it is, and what it shows, are as the settings say, which may change; `host` and `port` go before them."""

    def __init__(self, config: Config, host: str | None, port: int | None, say: Say) -> None:
        """Listen and start it.

        Raises:
            UsageError: the address can't be had.
        """
        self._config = config
        self._asked = host, port
        self._say = say
        self._web = _open(config, host, port, say)

    @property
    def url(self) -> str:
        return self._web.url

    def say_where(self) -> None:
        # The link has the token in it, if there is one: that is for who sits here, and for no file.
        self._say(f"dashboard: {self._web.link if sys.stderr.isatty() else self._web.url}", is_for_people_here=True)

    def show(self) -> None:
        is_opened = _show_in_browser(self._web.link)
        self._say(f"{'opening' if is_opened else 'open'} {self._web.link}", is_for_people_here=True)

    def have(self, config: Config) -> None:
        """From now on these are the settings. If the new address can't be had, it stays where it is."""
        before, self._config = self._config, config
        host, port = self._asked
        is_elsewhere = (host is None and before.host != config.host) or (port is None and before.port != config.port)
        if is_elsewhere:
            old = self._web
            try:
                self._web = _open(config, host, port, self._say)
            except UsageError as error:
                self._say(f"error: {text.printable(error.message)}")
                if error.hint:
                    self._say(f"hint: {text.printable(error.hint)}")
                self._say(f"the dashboard stays at {old.url}")
            else:
                old.close()
                self.say_where()
                return
        if before.redact != config.redact:
            self._web.renew(config)

    def look(self) -> None:
        """To be called with each tick."""
        self._web.look()

    def close(self) -> None:
        self._web.close()


def _open(config: Config, host: str | None, port: int | None, on_line: Callable[[str], None]) -> WebProcess:
    """A port that nobody has asked for just now may as well be another."""
    host = host or config.host
    first = config.port if port is None else port
    try:
        return WebProcess(config, host=host, port=first, on_line=on_line)
    except UsageError as error:
        if port is not None or not first or "in use" not in error.message:
            raise
        refused = error
    for other in range(first + 1, min(first + _MORE_PORTS, 65_535) + 1):
        try:
            web = WebProcess(config, host=host, port=other, on_line=on_line)
        except UsageError:
            continue
        on_line(f"port {first} is in use by another program: this is {other}")
        return web
    raise refused


def _show_in_browser(link: str) -> bool:
    """Whether there is a browser to ask. One in this very terminal would only be in the way."""
    has_one = sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    if has_one:
        # Some browsers are only back when they are closed.
        threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()
    return has_one
