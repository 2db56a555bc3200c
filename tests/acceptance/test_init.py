"""`fanout init`: what it says. What it writes is tried in test_newcomer.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanout.starter import TEMPLATES
from tests.acceptance.conftest import Project

WRITTEN = """\
fanout.toml
functions/signup.py
functions/events/signup.json
tests/test_signup.py
functions/__init__.py
tests/__init__.py
.gitignore
"""


def below(folder: str, names: str) -> str:
    return "".join(f"{folder}/{name}\n" for name in names.splitlines())


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_an_empty_folder(project: Project) -> None:
    assert project.fanout("init") == (
        0,
        WRITTEN,
        """
next:
  fanout send functions/events/signup.json  send an event, and see what it starts
  fanout dev watch                          run everything, and load the code again when it is saved
  pytest                                    test the functions
""",
    )
    assert sorted(WRITTEN.splitlines()) == [each for each in files(project.root) if (project.root / each).is_file()]


def test_a_folder_that_is_named_like_a_template_in_a_narrow_terminal(project: Project) -> None:
    done = project.fanout("init", "my shop/cron", COLUMNS="40")
    assert done.out == below("my shop/cron", WRITTEN)
    assert (
        done.err
        == """
next:
  cd 'my shop/cron'
  fanout send functions/events/signup.json
    send an event, and see what it starts
  fanout dev watch
    run everything, and load the code again when it is saved
  pytest
    test the functions

hint: `cron` is the folder; a template is named by `--template cron`
"""
    )


def test_a_folder_with_functions_and_tests_of_its_own(project: Project) -> None:
    for name in ("functions/work.py", "tests/test_work.py", ".gitignore"):
        (project.root / name).parent.mkdir(exist_ok=True)
        (project.root / name).write_text("mine = 1\n")
    assert project.fanout("init") == (
        0,
        "fanout.toml\n",
        """\
kept as they were: .gitignore
hint: add a line `.fanout/` to `.gitignore`: the journal is for this machine
`functions` was there already: no example was put into it

next:
  fanout check  load the functions, and say what is wrong
""",
    )
    assert {(project.root / each).read_text() for each in files(project.root) if "." in each} == {
        "mine = 1\n",
        (project.root / "fanout.toml").read_text(),
    }


def test_an_example_among_tests_of_ones_own(project: Project) -> None:
    (project.root / "tests").mkdir()
    (project.root / "tests" / "test_work.py").touch()
    (project.root / ".gitignore").write_text("/.fanout\n")
    done = project.fanout("init", "--template", "cron")
    assert done.out.splitlines() == [
        "fanout.toml",
        "functions/digest.py",
        "functions/events/digest.json",
        "tests/test_digest.py",
        "functions/__init__.py",
    ]
    assert (
        done.err
        == """\
kept as they were: .gitignore

next:
  fanout send functions/events/digest.json  send an event, and see what it starts
  fanout cron list                          see when the schedule ticks
  fanout dev watch                          run everything, and load the code again when it is saved
  python -m pytest                          test the functions
"""
    )


def test_a_gitignore_that_cannot_be_read(project: Project) -> None:
    (project.root / ".gitignore").mkdir()
    done = project.fanout("init")
    assert (done.code, done.err.splitlines()[0]) == (0, "kept as they were: .gitignore")


def test_as_json(project: Project) -> None:
    done = project.fanout("init", "shop", "--template", "minimal", "--json")
    assert done.err == ""
    assert done.json() == {
        "folder": str(project.root / "shop"),
        "name": "shop",
        "template": "minimal",
        "written": below("shop", WRITTEN.replace("signup", "hello")).splitlines(),
        "kept": [],
        "next": ["cd shop", "fanout send functions/events/hello.json", "fanout dev watch", "pytest"],
    }


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            ("--template", "sinup"),
            "there is no template `sinup`",
            "it is one of " + ", ".join(f"`{each}`" for each in TEMPLATES),
        ),
        (
            ("there",),
            "`there/fanout.toml` is there already",
            "nothing was written; this is a project; another one has a folder of its own: `fanout init FOLDER`",
        ),
    ],
)
def test_what_it_refuses(project: Project, arguments: tuple[str, ...], message: str, hint: str) -> None:
    (project.root / "there").mkdir()
    (project.root / "there" / "fanout.toml").touch()
    assert project.fanout("init", *arguments) == (2, "", f"error: {message}\nhint: {hint}\n")
    assert files(project.root) == ["there", "there/fanout.toml"]
