"""What is wrong in a project's modules: each refusal names the file and the line."""

from __future__ import annotations

import os
import sys

import pytest

from tests.unit.projects import IMPORT, Project, function


def test_a_handler_whose_id_another_function_has_is_named_with_both_places(project: Project) -> None:
    code = (
        IMPORT
        + function("charge_on_failure")
        + ("def refund(ctx): ...\n\n@fanout.function(on_failure=refund)\ndef charge(ctx): ...\n")
    )
    project.write({"shop.py": code})
    assert project.refusal("shop") == (
        "`shop.py` line 5: two functions have the id `charge-on-failure`",
        'the other is in `shop.py` line 2; give one of them `id="..."`',
    )


def test_a_wrong_handler_names_the_function_that_has_it(project: Project) -> None:
    project.write({"shop/mail.py": IMPORT + "\n@fanout.function(on_failure='refund')\ndef send(ctx): ...\n"})
    assert project.refusal("shop") == (
        "`shop/mail.py` line 3: `send`: `on_failure` is 'refund'",
        "give a `def` or `async def` that takes a context",
    )


def test_two_functions_with_one_id_are_named_with_both_places(project: Project) -> None:
    project.write(
        {
            "shop/onboarding.py": IMPORT + function("send_welcome_email"),
            "shop/signup.py": IMPORT + "\n" * 10 + function("mail", id="send-welcome-email"),
        }
    )
    assert project.refusal("shop") == (
        "`shop/signup.py` line 12: two functions have the id `send-welcome-email`",
        'the other is in `shop/onboarding.py` line 2; give one of them `id="..."`',
    )


@pytest.mark.parametrize("code", ["", "import fanout\n", "def one(ctx): ...\n"])
def test_no_function_at_all(project: Project, code: str) -> None:
    project.write({"shop.py": code, "shop_two.py": code})
    assert project.refusal("shop", "shop_two") == (
        "there is no function in `shop`, `shop_two`",
        "put `@fanout.function(...)` above one",
    )


NOT_NEAR = "`[app] functions` lists modules or packages beside `fanout.toml`"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("shopp", "did you mean `shop`?"),
        ("shop.mial", "did you mean `shop.mail`?"),
        ("shop.nothing.like.it", NOT_NEAR),
        ("unlike_all", NOT_NEAR),
        ("shop.mail.send", NOT_NEAR),
    ],
)
def test_a_module_that_is_not_there_is_named_with_the_nearest(project: Project, name: str, hint: str) -> None:
    project.write({"shop/mail.py": IMPORT + function("send")})
    assert project.refusal(name) == (f"`fanout.toml`: there is no module `{name}` in `{project.root}`", hint)


ERRORS = {
    "an error": ("x = 1\nraise ValueError('bad day')\n", 2, "ValueError: bad day"),
    "an error without text": ("\nraise ValueError\n", 2, "ValueError"),
    "a missing library": ("import shop_missing\n", 1, "ModuleNotFoundError: No module named 'shop_missing'"),
    "a missing name": (
        "import os\nfrom os import shop\n",
        2,
        f"ImportError: cannot import name 'shop' from 'os' ({os.__file__})",
    ),
    "an exit": ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
    "an interrupt": ("raise KeyboardInterrupt\n", 1, "KeyboardInterrupt"),
    "an error in a library": (
        "import json\n\nx = json.loads('x')\n",
        3,
        "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    ),
    "text that is compiled": ("x = 1\neval('1 +')\n", 2, "SyntaxError: invalid syntax (<string>, line 1)"),
    "a message that cannot be read": (
        "class E(Exception):\n    def __str__(self): raise KeyError\n\nraise E\n",
        4,
        "E: (its message can't be read: __str__ failed)",
    ),
    "a lone surrogate": ("raise ValueError('\\ud800')\n", 1, "ValueError: \\ud800"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_an_import_that_fails_names_the_users_file_and_line(project: Project, kind: str) -> None:
    code, line, said = ERRORS[kind]
    project.write({"shop/mail.py": code})
    assert project.refusal("shop") == (f"`shop/mail.py` line {line}: {said}", "importing `shop.mail` failed there")


def test_the_line_is_the_last_of_the_users_own_on_the_way(project: Project) -> None:
    project.write(
        {
            "shop/a.py": "from shop.b import value\n",
            "shop/b.py": "from shop.c import check\n\n\nvalue = check('x')\n",
            "shop/c.py": "def check(text):\n    return int(text)\n",
        }
    )
    assert project.refusal("shop") == (
        "`shop/c.py` line 2: ValueError: invalid literal for int() with base 10: 'x'",
        "importing `shop.a` failed there",
    )


def test_a_library_that_cannot_be_imported_names_the_line_that_wants_it(project: Project) -> None:
    """Also if the project's environment is inside the project."""
    library = ".venv/lib/python3/site-packages"
    project.write({"shop.py": "import shop_library\n"})
    (project.root / library).mkdir(parents=True)
    (project.root / library / "shop_library.py").write_text("\n\nraise OSError('no such device')\n")
    sys.path.insert(0, str(project.root / library))
    assert project.refusal("shop") == ("`shop.py` line 1: OSError: no such device", "importing `shop` failed there")


@pytest.mark.parametrize(
    ("code", "line", "said", "hint"),
    [
        ("x = 1\ny = = 2\n", 2, "SyntaxError: invalid syntax", "the line is `y = = 2`"),
        (
            "def f():\nreturn 1\n",
            2,
            "IndentationError: expected an indented block after function definition on line 1",
            "the line is `return 1`",
        ),
        ("x = (1,\n", 1, "SyntaxError: '(' was never closed", "the line is `x = (1,`"),
    ],
)
def test_what_is_no_python_names_file_line_and_text(
    project: Project, code: str, line: int, said: str, hint: str
) -> None:
    project.write({"shop/__init__.py": "from shop.mail import send\n", "shop/mail.py": code})
    assert project.refusal("shop") == (f"`shop/mail.py` line {line}: {said}", hint)


def test_a_wrong_declaration_names_the_file_as_people_know_it(project: Project) -> None:
    project.write({"shop/mail.py": IMPORT + "\n@fanout.function(retries=99)\ndef send(ctx): ...\n"})
    assert project.refusal("shop") == (
        "`shop/mail.py` line 3: `send`: `retries` is 99, not a whole number from 0 to 20",
        None,
    )


def test_a_wrong_trigger_names_the_line_where_it_is_written(project: Project) -> None:
    project.write({"shop/mail.py": IMPORT + "\n\nTRIGGER = fanout.on('a*b')\n"})
    assert project.refusal("shop") == (
        "`shop/mail.py` line 4: `a*b`: only the tail of an event name can be open",
        "write it as `app/*`",
    )
