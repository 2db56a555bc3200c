"""`/static/`: the files that come with the package, and no others. A path is looked up, never joined."""

from __future__ import annotations

import hashlib
import mimetypes
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

_FOLDER = Path(__file__).with_name("static")
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
_FOR_EVER = "public, max-age=31536000, immutable"


class _Asset(NamedTuple):
    content: bytes
    media_type: str
    version: str


def asset_url(name: str) -> str:
    """Where a page finds this file of `static/`. The address changes with the content, so browsers keep it for ever."""
    return f"/static/{name}?v={_asset(name, _written_at(name)).version}"


def routes() -> list[BaseRoute]:
    return [Route("/static/{name:path}", _file, methods=["GET"])]


async def _file(request: Request) -> Response:
    name: str = request.path_params["name"]
    if name not in _names():
        raise HTTPException(404)
    asset = _asset(name, _written_at(name))
    etag = f'"{asset.version}"'
    is_versioned = request.query_params.get("v") == asset.version
    headers = {"ETag": etag, "Cache-Control": _FOR_EVER if is_versioned else "no-cache"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers=headers, media_type=asset.media_type)


@cache
def _names() -> frozenset[str]:
    return frozenset(path.relative_to(_FOLDER).as_posix() for path in _FOLDER.rglob("*") if path.is_file())


def _written_at(name: str) -> int:
    return (_FOLDER / name).stat().st_mtime_ns


@cache
def _asset(name: str, _written_at: int) -> _Asset:
    """Read once, and again when it has been written: who works on it sees that at the next reload."""
    path = _FOLDER / name
    content = path.read_bytes()
    media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return _Asset(content, media_type, hashlib.sha256(content).hexdigest()[:16])
