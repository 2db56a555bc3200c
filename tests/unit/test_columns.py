"""Tables that fit into a terminal, and have all of it elsewhere."""

from __future__ import annotations

from rich.text import Text

from fanout.commands.columns import Column, lines

COLUMNS = (Column("id"), Column("name", least=6), Column("number", is_right=True, rank=1))
ROWS = [(Text("01"), Text("a longer name"), Text("7")), (Text("0200"), Text("b"), Text("1,000"))]


def table(width: int | None) -> list[str]:
    return [line.plain for line in lines(COLUMNS, ROWS, width)]


def test_where_there_is_room_nothing_is_cut_nor_padded() -> None:
    expected = ["id    name           number", "01    a longer name       7", "0200  b               1,000"]
    assert table(None) == expected
    assert table(80) == expected


def test_what_may_be_cut_is_cut_first() -> None:
    assert table(22) == ["id    name      number", "01    a longe…       7", "0200  b          1,000"]


def test_then_the_least_important_column_is_left_out() -> None:
    assert table(19) == ["id    name", "01    a longer name", "0200  b"]
    assert table(12) == ["id    name", "01    a lon…", "0200  b"]


def test_what_is_useless_in_parts_is_never_cut() -> None:
    assert table(3) == ["id    name", "01    a lon…", "0200  b"]


def test_wide_characters_count_as_two() -> None:
    rows = [(Text("日本語"), Text("x")), (Text("ab"), Text("y"))]
    found = [line.plain for line in lines((Column("n", least=3), Column("m")), rows, 6)]
    assert found == ["n    m", "日…  x", "ab   y"]
