"""What a program may send: the same as a step."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest

from fanout.client import Client
from fanout.errors import OutputError
from fanout.journal.sqlite_reader import JournalReader


@dataclass
class OrderData:
    id: int


class OrderStruct(msgspec.Struct):
    id: int


class OrderModel(pydantic.BaseModel):
    id: int


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def client(journal: Path) -> Iterator[Client]:
    with Client(journal) as client:
        yield client


@pytest.mark.parametrize("data", [{"id": 7}, OrderData(7), OrderStruct(7), OrderModel(id=7)])
def test_data_may_be_of_any_type_that_is_an_object(client: Client, journal: Path, data: Any) -> None:
    [sent] = client.send({"name": "shop/order", "data": data})
    with JournalReader(journal) as reader:
        assert json.loads(reader.event(sent.id).data) == {"id": 7}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"price": math.nan}, "the events have nan at `$[0].data.price`, which JSON does not have"),
        ({"price": object()}, "the events have a `object` at `$[0].data.price`, which can't be recorded as JSON"),
    ],
)
def test_what_is_not_json_is_named(client: Client, data: Any, words: str) -> None:
    with pytest.raises(OutputError) as raised:
        client.send({"name": "shop/order", "data": data})
    assert raised.value.message == words
