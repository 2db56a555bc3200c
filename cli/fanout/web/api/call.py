"""A call of the JSON API: its path, what it takes and gives, as one declaration that answers and documents itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, get_origin, get_type_hints

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from fanout.errors import FanoutError, UsageError
from fanout.web.api.inputs import Nothing
from fanout.web.problems import status_of
from fanout.web.site import Site, site_of

if TYPE_CHECKING:
    from starlette.requests import Request


class InputError(UsageError):
    """A parameter, or a field of the body, is not what it has to be."""

    def __init__(self, field: str | None, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.field = field


class ConflictError(FanoutError):
    """What is asked for can't be done as things stand."""


class Asked(NamedTuple):
    """What came with a request: `path` has the parameters of the path, `query` and `body` are what the call takes."""

    site: Site
    path: Mapping[str, str]
    query: Any
    body: Any


class Call(NamedTuple):
    """`gives` is the type of the answer, and `status` its status. A body that may be left out `is_body_optional`."""

    method: str
    path: str
    name: str
    summary: str
    answer: Callable[[Asked], Awaitable[Any]]
    gives: Any
    query: type[msgspec.Struct] = Nothing
    body: type[msgspec.Struct] | None = None
    status: int = 200

    def route(self) -> Route:
        async def respond(request: Request) -> Response:
            try:
                asked = Asked(site_of(request), request.path_params, self._query(request), await self._body(request))
                answer = await self.answer(asked)
            except FanoutError as error:
                return _refusal(error)
            return json(self.status, answer)

        return Route(self.path, respond, methods=[self.method], name=f"api:{self.name}")

    def _query(self, request: Request) -> Any:
        kinds = get_type_hints(self.query)
        given: dict[str, Any] = {}
        for name, value in request.query_params.multi_items():
            if name not in kinds:
                known = ", ".join(f"`{each}`" for each in kinds)
                hint = f"it takes {known}" if known else "it takes none"
                raise InputError(cut(name), f"there is no parameter `{cut(name)}`", hint=hint)
            if get_origin(kinds[name]) is tuple:
                given.setdefault(name, []).append(value)
            elif name in given:
                raise InputError(name, f"`{name}` is there more than once", hint="give it once")
            else:
                given[name] = value
        return converted(given, self.query, is_text=True)

    async def _body(self, request: Request) -> Any:
        if self.body is None:
            return None
        text = await request.body()
        if not text.strip():
            return self.body()
        kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
        if kind != "application/json":
            raise MediaTypeError(f"the body is JSON, not `{cut(kind)}`", hint="send it with `application/json`")
        try:
            return msgspec.json.decode(text, type=self.body)
        except msgspec.ValidationError as error:
            raise _invalid(error) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(None, f"the body is not JSON: {error}", hint="send an object") from None
        except RecursionError:
            raise InputError(None, "the body is nested too deeply") from None


class MediaTypeError(UsageError):
    """The body is of a kind that is not understood."""


def converted(given: Mapping[str, Any], into: type[Any], *, is_text: bool = False) -> Any:
    """The values as this type.

    Raises:
        InputError: one is not what it has to be.
    """
    try:
        return msgspec.convert(given, into, strict=not is_text)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: msgspec.ValidationError) -> InputError:
    said, _, place = str(error).partition(" - at `")
    field = place.removesuffix("`").removeprefix("$").removeprefix(".").partition("[")[0] or None
    what = "the body" if field is None else f"`{field}`"
    return InputError(field, f"{what} is not right: {said[:1].lower()}{said[1:]}", hint="`/api` says what it takes")


def json(status: int, answer: object, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(answer), status, headers, "application/json")


def _refusal(error: FanoutError) -> Response:
    match error:
        case ConflictError():
            status = HTTPStatus.CONFLICT
        case MediaTypeError():
            status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        case _:
            status = HTTPStatus(status_of(error))
    answer: dict[str, Any] = {"status": status.value, "error": error.message}
    if error.hint is not None:
        answer["hint"] = error.hint
    if isinstance(error, InputError) and error.field is not None:
        answer["field"] = error.field
    return json(status, answer, {"Retry-After": "1"} if status is HTTPStatus.SERVICE_UNAVAILABLE else None)


def cut(text: str) -> str:
    """Of what a stranger has sent, as much as an answer may repeat."""
    return ascii(text[:80])[1:-1]
