"""The OpenAPI document of the JSON API, made from the declarations of its calls."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any, get_type_hints

import msgspec

from fanout import __version__
from fanout.web.api.action_shapes import AcceptedShape, SentEventsShape
from fanout.web.api.call import Call
from fanout.web.api.inputs import Nothing
from fanout.web.api.shapes import FieldProblem

_REF = "#/components/schemas/{name}"
_JSON = "application/json"
_MEANINGS = {
    "400": "A parameter or the body is not right; `field` says which part of it",
    "401": "The token is missing",
    "403": "Another site's page asks",
    "404": "There is no such thing, or no journal yet",
    "405": "This path is not for that method",
    "408": "The request took too long to come",
    "409": "It can't be done as things stand",
    "413": "The request is too large",
    "415": "The body is not of a kind that is understood",
    "421": "The site has another name",
    "503": "The journal can't be read or written now",
}
_PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")


def document(calls: Sequence[Call]) -> dict[str, Any]:
    """All calls, the shapes of what they take and give, and the errors that each can answer with."""
    types = [call.gives for call in calls] + [call.body for call in calls if call.body] + [
        call.query for call in calls
    ]  # fmt: skip
    of_types, components = _schemas([*types, FieldProblem, AcceptedShape, SentEventsShape])
    paths: dict[str, Any] = {}
    for call in calls:
        path = _PARAMETER.sub(r"{\1}", call.path)
        paths.setdefault(path, {})[call.method.lower()] = _operation(call, of_types, components)
    paths["/api/events"]["post"] = _send_events(of_types)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fanout",
            "version": __version__,
            "description": "What has happened and what goes on in a project, and what can be asked of its engine. Times"
            " are milliseconds UTC, durations milliseconds. Where `FANOUT_TOKEN` is set it is sent as a bearer token.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _schemas(types: list[Any]) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    unique = list(dict.fromkeys(types))
    found, components = msgspec.json.schema_components(unique, ref_template=_REF)
    return dict(zip(unique, found, strict=True)), components


def _operation(call: Call, of_types: dict[Any, dict[str, Any]], components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": call.name,
        "summary": call.summary,
        "parameters": [*_path_parameters(call), *_query_parameters(call, components)],
        "responses": {
            str(call.status): _content("What was asked for", of_types[call.gives]),
            **_problems(of_types, has_body=call.body is not None),
        },
    }
    said = inspect.getdoc(call.query if call.query is not Nothing else call.body)
    if said and not said.startswith(("Nothing", "No parameters")):
        operation["description"] = said
    if call.body is not None:
        operation["requestBody"] = {"required": False, "content": {_JSON: {"schema": of_types[call.body]}}}
    return operation


def _path_parameters(call: Call) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": "An id, or enough of its beginning or end" if "functions" not in call.path else "An id",
            "schema": {"type": "string", "minLength": 1},
        }
        for name in _PARAMETER.findall(call.path)
    ]


def _query_parameters(call: Call, components: dict[str, Any]) -> list[dict[str, Any]]:
    properties = components[call.query.__name__]["properties"]
    return [
        {"name": name, "in": "query", "required": False, "schema": _without_null(properties[name])}
        for name in get_type_hints(call.query)
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """As a parameter has it: what is left out can't be written as null."""
    kept = {name: value for name, value in schema.items() if name != "default" or value is not None}
    choices = [each for each in kept.get("anyOf", ()) if each != {"type": "null"}]
    if "anyOf" in kept and len(choices) == 1:
        del kept["anyOf"]
        kept |= choices[0]
    return kept


def _problems(of_types: dict[Any, dict[str, Any]], *, has_body: bool) -> dict[str, Any]:
    codes = ["400", "401", "403", "404", "405", "421", "503"] + (["408", "409", "413", "415"] if has_body else [])
    return {code: _content(_MEANINGS[code], of_types[FieldProblem]) for code in sorted(codes)}


def _send_events(of_types: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    """As `POST /e/{key}`, whose own documentation says what a body may be."""
    event = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string"},
            "data": {"type": "object"},
            "id": {"type": "string"},
            "ts": {"type": "integer"},
            "user": {"type": "object"},
            "v": {"type": "string"},
        },
    }
    problems = {code: said for code, said in _problems(of_types, has_body=True).items() if code not in ("404", "409")}
    return {
        "operationId": "sendEvents",
        "summary": "Send one event, or a list: all are stored, or none",
        "parameters": [],
        "requestBody": {
            "required": True,
            "content": {_JSON: {"schema": {"oneOf": [event, {"type": "array", "items": event}]}}},
        },
        "responses": {"200": _content("They are durable", of_types[SentEventsShape]), **problems},
    }


def _content(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {_JSON: {"schema": schema}}}
