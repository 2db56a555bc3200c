"""`/api`: the calls of the JSON API, for people to read. Programs have the same as OpenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fanout.web.pages.rendering import page

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_JSON = "application/json"


class Field(NamedTuple):
    """What a call can be given: where it stands, what it may be, and what it is without."""

    name: str
    where: str
    type: str
    default: str
    meaning: str


class Described(NamedTuple):
    name: str
    method: str
    path: str
    summary: str
    meaning: str
    fields: list[Field]


def show(request: Request, document: dict[str, Any]) -> Response:
    calls = [
        _call(document, method, path, call)
        for path, methods in document["paths"].items()
        for method, call in methods.items()
    ]
    origin = str(request.base_url).rstrip("/")
    return page(request, "api.html", about=document["info"]["description"], calls=calls, origin=origin)


def _call(document: dict[str, Any], method: str, path: str, call: dict[str, Any]) -> Described:
    given = [_field(each["name"], each["in"], each["schema"], each.get("description")) for each in call["parameters"]]
    body = call.get("requestBody", {}).get("content", {}).get(_JSON, {}).get("schema", {})
    body = next(iter(body.get("oneOf", ())), body)
    properties = _resolved(document, body).get("properties", {})
    given += [_field(name, "body", schema) for name, schema in properties.items()]
    return Described(call["operationId"], method.upper(), path, call["summary"], call.get("description", ""), given)


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    found: dict[str, Any] = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return found


def _field(name: str, where: str, schema: dict[str, Any], description: str | None = None) -> Field:
    default = schema.get("default")
    said = str(default).lower() if isinstance(default, bool) else str(default) if default else ""
    return Field(name, where, _type(schema), said, description or schema.get("description") or "")


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(said for each in schema["anyOf"] if (said := _type(each)) != "null"))
    if "enum" in schema:
        return ", ".join(str(each) for each in schema["enum"])
    if "$ref" in schema:
        return "state" if schema["$ref"].endswith("RunState") else "object"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if schema.get("items") else "list"
    return str(schema.get("type", "any JSON"))
