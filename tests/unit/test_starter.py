from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest

from fanout.config import DEFAULT_SLOTS, load
from fanout.declare import spec_of
from fanout.errors import ConfigError
from fanout.events import NewEvent, parse
from fanout.model import EventTrigger
from fanout.starter import starter, write_starter


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_text_is_whole() -> None:
    assert (
        starter(Path("/srv/shop"))
        == """\
# The settings of this fanout project.
# Lines that begin with `#` and no space are settings at their defaults: take the `#` away to change one.

[app]
id = "shop"
functions = [
    "functions",
]

#[journal]
# The file that remembers every event, run and step. Relative paths begin at this file's folder.
#path = ".fanout/journal.db"
# How long runs that are over stay in it, with all that belongs to them: at least an hour, or "never" to remove none.
#keep_completed = "7d"
#keep_failed = "30d"

#[pool]
# Worker processes, 1 to 1024. Left out, one for each CPU.
#processes = 4
# Runs that one worker process executes at once, 1 to 1024.
#slots = 64

# While developing, wait this long before each retry instead of the function's own backoff; `fanout serve` never does.
[dev]
retry_delay = "1s"
"""
    )


@pytest.mark.parametrize(
    ("name", "app_id"),
    [
        ("shop", "shop"),
        ("My shop (2)", "My-shop-2"),
        ("café_été.v2", "cafe_ete.v2"),
        ("--shop--", "shop"),
        ('quo"te\\', "quo-te"),
        ("店", "app"),
        ("..", "srv"),
    ],
)
def test_the_app_takes_its_id_from_the_folder(name: str, app_id: str) -> None:
    text = starter(Path("/srv") / "inner" / name if name == ".." else Path("/srv") / name)
    assert tomllib.loads(text)["app"]["id"] == app_id


def test_the_file_system_root_has_no_name() -> None:
    assert tomllib.loads(starter(Path("/")))["app"]["id"] == "app"


def test_what_is_written_can_be_used(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "shop"
    toml, hello, event = write_starter(folder)
    assert files(folder) == ["fanout.toml", "functions/events/hello.json", "functions/hello.py"]
    assert (toml, hello, event) == (
        folder / "fanout.toml",
        folder / "functions" / "hello.py",
        folder / "functions" / "events" / "hello.json",
    )
    assert [app.functions for app in load(toml).apps] == [("functions",)]
    spec = spec_of(runpy.run_path(str(hello))["say_hello"])
    assert spec is not None
    assert (spec.id, spec.triggers) == ("say-hello", (EventTrigger("app/hello"),))
    assert parse(event.read_bytes(), "hello.json") == [NewEvent("app/hello", '{"name":"world"}')]


def test_every_setting_that_is_commented_out_can_be_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "fanout.toml"
    path.write_text(re.sub(r"(?m)^#(?! )", "", starter(tmp_path)))
    config = load(path)
    assert (config.journal, config.processes, config.slots, config.dev_retry_delay) == (
        tmp_path / ".fanout" / "journal.db",
        4,
        DEFAULT_SLOTS,
        1.0,
    )


def test_functions_that_are_there_stay_alone(tmp_path: Path) -> None:
    (tmp_path / "functions").mkdir()
    assert write_starter(tmp_path) == [tmp_path / "fanout.toml"]
    assert files(tmp_path) == ["fanout.toml"]


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "fanout.toml").write_text("mine")
    with pytest.raises(ConfigError) as raised:
        write_starter(tmp_path)
    assert raised.value.message == f"`{tmp_path / 'fanout.toml'}` is there already"
    assert raised.value.hint == "edit it, or delete it first"
    assert files(tmp_path) == ["fanout.toml"]
    assert (tmp_path / "fanout.toml").read_text() == "mine"


def test_a_dangling_link_counts_as_there(tmp_path: Path) -> None:
    (tmp_path / "fanout.toml").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError):
        write_starter(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_cannot_be_made_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as raised:
        write_starter(tmp_path / "file" / "shop")
    assert raised.value.message == f"`{tmp_path / 'file' / 'shop'}` can't be written: Not a directory"


def test_nothing_is_left_of_a_folder_that_came_in_between(tmp_path: Path) -> None:
    """The draft of `functions/` can't be moved over a file, and goes away again."""
    from fanout.starter import _write_folder

    (tmp_path / "functions").touch()
    with pytest.raises(OSError, match="Not a directory"):
        _write_folder(tmp_path / "functions", {"hello.py": ""})
    assert files(tmp_path) == ["functions"]
