"""What a form has sent, and what an address asks for, as plain text by name."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from fanout.errors import UsageError

if TYPE_CHECKING:
    from starlette.requests import Request

_MOST_FIELDS = 100


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form, without those that are empty; of several with the same name, the last.

    Raises:
        UsageError: it is no such form.
    """
    body = await request.body()
    try:
        fields = parse_qsl(body.decode(), max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError:
        raise UsageError("this is no form of ours", hint="open the page again") from None
    # A form's lines end as the standard says, people's as they typed them.
    return {name: value.replace("\r\n", "\n") for name, value in fields}


def asked_of(request: Request) -> dict[str, str]:
    """The address's fields, without those that are empty."""
    return {name: value.strip() for name, value in request.query_params.items() if value.strip()}


def address(path: str, **fields: object) -> str:
    """The path with these fields; those that are None or empty are left out."""
    given = {name: value for name, value in fields.items() if value is not None and value != ""}
    return f"{path}?{urlencode(given)}" if given else path
