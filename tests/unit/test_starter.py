from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest

from fanout.attached import spec_of
from fanout.config import DEFAULT_PORT, DEFAULT_SLOTS, load
from fanout.errors import ConfigError, UsageError
from fanout.events import NewEvent, parse
from fanout.model import EventTrigger
from fanout.starter import TEMPLATES, starter, write_starter


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def names(folder: Path) -> list[str]:
    """All that is there, folders and links too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


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

#[web]
# Where `fanout dev watch` and `fanout serve` have the dashboard and the event API.
#port = 8288

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


def test_the_app_can_be_named(tmp_path: Path) -> None:
    started = write_starter(tmp_path, name="Shop_2.x")
    assert started.name == "Shop_2.x"
    assert tomllib.loads((tmp_path / "fanout.toml").read_text())["app"]["id"] == "Shop_2.x"


@pytest.mark.parametrize("name", ["", "my shop", 'quo"te', "a/b", "é"])
def test_a_name_that_no_app_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as raised:
        write_starter(tmp_path / "new", name=name)
    assert raised.value.message == "`--name` has to be letters, digits, dashes, underscores and dots"
    assert names(tmp_path) == []


def test_what_is_written_can_be_used(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "shop"
    started = write_starter(folder, "minimal")
    assert (started.name, started.template, started.kept) == ("shop", "minimal", [])
    assert [str(path.relative_to(folder)) for path in started.written] == [
        "fanout.toml",
        "functions/hello.py",
        "functions/events/hello.json",
        "tests/test_hello.py",
        "functions/__init__.py",
        "tests/__init__.py",
        ".gitignore",
    ]
    assert files(folder) == sorted(str(path.relative_to(folder)) for path in started.written)
    assert [app.functions for app in load(folder / "fanout.toml").apps] == [("functions",)]
    spec = spec_of(runpy.run_path(str(folder / "functions" / "hello.py"))["say_hello"])
    assert spec is not None
    assert (spec.id, spec.triggers) == ("say-hello", (EventTrigger("app/hello"),))
    event = (folder / "functions" / "events" / "hello.json").read_bytes()
    assert parse(event, "hello.json") == [NewEvent("app/hello", '{"name":"world"}')]
    assert ".fanout/" in (folder / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_has_functions_an_event_and_a_test(tmp_path: Path, template: str) -> None:
    write_starter(tmp_path, template)
    [module] = [name for name in files(tmp_path) if re.fullmatch(r"functions/(?!__init__)\w+\.py", name)]
    [event] = [name for name in files(tmp_path) if name.endswith(".json")]
    assert f"tests/test_{Path(module).stem}.py" in files(tmp_path)
    [sent] = parse((tmp_path / event).read_bytes(), event)
    specs = [spec_of(value) for value in runpy.run_path(str(tmp_path / module)).values()]
    heard = [each.name for spec in specs if spec for each in spec.triggers if isinstance(each, EventTrigger)]
    assert sent.name in heard
    # What the module says to type is what there is.
    assert f"fanout send {event}" in (tmp_path / module).read_text()


def test_the_first_template_is_the_one_that_is_written_by_default(tmp_path: Path) -> None:
    assert write_starter(tmp_path).template == next(iter(TEMPLATES)) == "signup"
    assert (tmp_path / "functions" / "signup.py").exists()


def test_a_template_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        write_starter(tmp_path / "new", "../shared")
    assert raised.value.message == "there is no template `../shared`"
    assert raised.value.hint == "it is one of `signup`, `documents`, `cron`, `minimal`"
    assert names(tmp_path) == []


def test_every_setting_that_is_commented_out_can_be_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "fanout.toml"
    path.write_text(re.sub(r"(?m)^#(?! )", "", starter(tmp_path)))
    config = load(path)
    assert (config.journal, config.processes, config.slots, config.port, config.dev_retry_delay) == (
        tmp_path / ".fanout" / "journal.db",
        4,
        DEFAULT_SLOTS,
        DEFAULT_PORT,
        1.0,
    )


def test_functions_that_are_there_stay_alone(tmp_path: Path) -> None:
    (tmp_path / "functions").mkdir()
    started = write_starter(tmp_path)
    assert (started.template, started.written) == (None, [tmp_path / "fanout.toml", tmp_path / ".gitignore"])
    assert files(tmp_path) == [".gitignore", "fanout.toml"]


def test_a_template_that_is_asked_for_comes_beside_functions_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "mine.py").write_text("mine")
    write_starter(tmp_path, "minimal")
    assert (tmp_path / "functions" / "mine.py").read_text() == "mine"
    assert (tmp_path / "functions" / "hello.py").exists()


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "fanout.toml").write_text("mine")
    with pytest.raises(ConfigError) as raised:
        write_starter(tmp_path)
    assert raised.value.message == f"`{tmp_path / 'fanout.toml'}` is there already"
    other = "another one has a folder of its own: `fanout init FOLDER`"
    assert raised.value.hint == f"nothing was written; this is a project; {other}"
    assert names(tmp_path) == ["fanout.toml"]
    assert (tmp_path / "fanout.toml").read_text() == "mine"


def test_all_files_in_the_way_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "functions" / "events").mkdir(parents=True)
    there = [tmp_path / "functions" / name for name in ("hello.py", "events/hello.json")]
    there[0].write_text("mine")
    before = names(tmp_path)
    for named in (f"`{there[0]}` is", f"`{there[0]}`, `{there[1]}` are"):
        with pytest.raises(ConfigError) as raised:
            write_starter(tmp_path, "minimal")
        assert raised.value.message == f"{named} there already"
        them = "it" if named.endswith("is") else "them"
        hint = f"nothing was written; move {them} away, or begin in another folder: `fanout init FOLDER`"
        assert raised.value.hint == hint
        assert names(tmp_path) == before
        there[1].write_text("mine")
        before = names(tmp_path)


def test_files_that_do_as_well_are_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    for name in (".gitignore", "tests/__init__.py"):
        (tmp_path / name).write_text("# mine\n")
    started = write_starter(tmp_path)
    assert started.kept == [tmp_path / "tests" / "__init__.py", tmp_path / ".gitignore"]
    assert not set(started.kept) & set(started.written)
    assert {path.read_text() for path in started.kept} == {"# mine\n"}


@pytest.mark.parametrize(("mine", "is_made"), [("test_mine.py", False), ("unit/helpers.py", False), ("README", True)])
def test_tests_that_are_no_package_are_not_made_one(tmp_path: Path, mine: str, is_made: bool) -> None:
    """They would be imported by other names, and would not find each other."""
    (tmp_path / "tests" / mine).parent.mkdir(parents=True)
    (tmp_path / "tests" / mine).touch()
    started = write_starter(tmp_path)
    assert (tmp_path / "tests" / "__init__.py").exists() == is_made
    assert tmp_path / "tests" / "test_signup.py" in started.written


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


def test_a_folder_that_cannot_be_written_is_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ConfigError) as raised:
        write_starter(tmp_path)
    assert raised.value.message == f"`{tmp_path}` can't be written: Permission denied"


def test_a_file_where_a_folder_has_to_be_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "tests").touch()
    with pytest.raises(ConfigError) as raised:
        write_starter(tmp_path)
    assert raised.value.message == f"`{tmp_path / 'tests'}` can't be written: Not a directory"
    assert names(tmp_path) == ["tests"]


def test_nothing_is_left_when_a_file_came_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the last are written already when someone else's `fanout.toml` turns out to be there."""
    folder = tmp_path / "new" / "shop"
    link = Path.hardlink_to

    def link_late(self: Path, target: Path) -> None:
        if self.name == "fanout.toml":
            self.write_text("theirs")
        link(self, target)

    monkeypatch.setattr(Path, "hardlink_to", link_late)
    with pytest.raises(ConfigError) as raised:
        write_starter(folder)
    assert raised.value.message == f"`{folder / 'fanout.toml'}` is there already"
    assert files(tmp_path) == ["new/shop/fanout.toml"]
    assert names(folder) == ["fanout.toml"]
    assert (folder / "fanout.toml").read_text() == "theirs"


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Path, _target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    started = write_starter(tmp_path)
    assert files(tmp_path) == sorted(str(path.relative_to(tmp_path)) for path in started.written)
    assert load(tmp_path / "fanout.toml").apps[0].id
