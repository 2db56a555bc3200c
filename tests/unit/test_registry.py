from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.errors import LoadError
from fanout.worker.registry import Registered, load

IMPORT = "import fanout\n"


def function(name: str, *, id: str | None = None) -> str:
    declared = "" if id is None else f'id="{id}"'
    return f"@fanout.function({declared})\ndef {name}(ctx):\n    return {name!r}\n"


class Project:
    """A folder of modules. Their names begin with `shop`, which nothing else is called."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, files: dict[str, str]) -> None:
        """Write the files; every folder on the way is a package."""
        for name, code in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(code))
            for folder in list(Path(name).parents)[:-1]:
                (self.root / folder / "__init__.py").touch()

    def load(self, *modules: str) -> dict[str, Registered]:
        return load(self.root, modules)

    def refusal(self, *modules: str) -> tuple[str, str | None]:
        with pytest.raises(LoadError) as raised:
            self.load(*modules)
        return raised.value.message, raised.value.hint


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Project(tmp_path)
    for name in [name for name in sys.modules if name.startswith("shop")]:
        del sys.modules[name]


def places(registered: dict[str, Registered]) -> dict[str, tuple[str, int, str]]:
    return {id_: (each.spec.file, each.spec.line, each.spec.module) for id_, each in registered.items()}


# What is found.


def test_functions_of_a_module_are_found_by_id_with_file_and_line(project: Project) -> None:
    code = IMPORT + function("send_mail") + function("bill", id="billing") + "def other(): ...\n"
    project.write({"shop.py": code})
    registered = project.load("shop")
    assert places(registered) == {"send-mail": ("shop.py", 2, "shop"), "billing": ("shop.py", 5, "shop")}
    assert [each.code(None) for each in registered.values()] == ["send_mail", "bill"]


def test_packages_are_walked_to_their_ends(project: Project) -> None:
    project.write(
        {
            "shop/__init__.py": IMPORT + function("one"),
            "shop/mail.py": IMPORT + function("two"),
            "shop/deep/deeper/last.py": IMPORT + function("three"),
        }
    )
    assert places(project.load("shop")) == {
        "one": ("shop/__init__.py", 2, "shop"),
        "two": ("shop/mail.py", 2, "shop.mail"),
        "three": ("shop/deep/deeper/last.py", 2, "shop.deep.deeper.last"),
    }


def test_a_program_inside_a_package_is_not_run(project: Project) -> None:
    project.write({"shop/mail.py": IMPORT + function("one"), "shop/__main__.py": "raise SystemExit(1)\n"})
    assert list(project.load("shop")) == ["one"]


def test_only_what_is_listed_is_imported(project: Project) -> None:
    project.write({"shop/mail.py": IMPORT + function("one"), "shop/other.py": "raise ValueError\n"})
    assert list(project.load("shop.mail")) == ["one"]


def test_several_modules_are_one_set_of_functions(project: Project) -> None:
    project.write({"shop_one.py": IMPORT + function("one"), "shop_two.py": IMPORT + function("two")})
    assert list(project.load("shop_one", "shop_two", "shop_one")) == ["one", "two"]


def test_a_function_that_is_imported_elsewhere_counts_once(project: Project) -> None:
    project.write(
        {
            "shop/__init__.py": "from shop.mail import send, send as again\nALL = [send]\n",
            "shop/mail.py": IMPORT + function("send"),
            "shop/others.py": "from shop.mail import send\nfrom shop import mail\n",
        }
    )
    assert places(project.load("shop")) == {"send": ("shop/mail.py", 2, "shop.mail")}


def test_functions_that_a_loop_makes_are_found_in_their_list(project: Project) -> None:
    code = """\
        import fanout

        def made(number):
            @fanout.function(id=f"made-{number}")
            def run(ctx):
                return number
            return run

        MADE = [made(number) for number in range(3)]
        """
    project.write({"shop.py": code})
    registered = project.load("shop")
    assert {id_: each.code(None) for id_, each in registered.items()} == {"made-0": 0, "made-1": 1, "made-2": 2}


def test_functions_may_come_from_a_module_that_is_not_listed(project: Project) -> None:
    project.write({"shop.py": "from shop_library import *\n", "shop_library.py": IMPORT + function("one")})
    assert places(project.load("shop")) == {"one": ("shop_library.py", 2, "shop_library")}


HANDLED = """\
    import fanout

    def refund(ctx):
        return "refunded"

    @fanout.function(on_failure=refund)
    def charge(ctx):
        return "charged"

    @fanout.function(on_failure=refund)
    def bill(ctx):
        return "billed"
    """


def test_what_is_run_on_a_failure_is_a_function_too_with_the_place_of_its_own_code(project: Project) -> None:
    project.write({"shop/mail.py": HANDLED})
    registered = project.load("shop")
    assert places(registered) == {
        "charge": ("shop/mail.py", 6, "shop.mail"),
        "charge-on-failure": ("shop/mail.py", 3, "shop.mail"),
        "bill": ("shop/mail.py", 10, "shop.mail"),
        "bill-on-failure": ("shop/mail.py", 3, "shop.mail"),
    }
    assert {id_: each.code(None) for id_, each in registered.items()} == {
        "charge": "charged",
        "charge-on-failure": "refunded",
        "bill": "billed",
        "bill-on-failure": "refunded",
    }
    assert {id_: each.spec.on_failure for id_, each in registered.items()} == {
        "charge": "charge-on-failure",
        "charge-on-failure": None,
        "bill": "bill-on-failure",
        "bill-on-failure": None,
    }


def test_a_handler_that_is_a_function_itself_is_found_once_however_many_have_it(project: Project) -> None:
    project.write(
        {
            "shop/refunds.py": IMPORT + function("refund"),
            "shop/orders.py": IMPORT
            + "from shop.refunds import refund\n\n"
            + "@fanout.function(on_failure=refund)\ndef charge(ctx): ...\n\n"
            + "@fanout.function(on_failure=refund)\ndef bill(ctx): ...\n",
        }
    )
    registered = project.load("shop")
    assert places(registered) == {
        "charge": ("shop/orders.py", 4, "shop.orders"),
        "bill": ("shop/orders.py", 7, "shop.orders"),
        "refund": ("shop/refunds.py", 2, "shop.refunds"),
    }
    assert [registered[id_].spec.on_failure for id_ in ("charge", "bill")] == ["refund", "refund"]


def test_a_handler_is_found_though_no_module_has_a_name_for_it(project: Project) -> None:
    code = """\
        import fanout

        def made():
            @fanout.function(id="refunds")
            def refund(ctx): ...
            return refund

        @fanout.function(on_failure=made())
        def charge(ctx): ...
        """
    project.write({"shop.py": code})
    assert sorted(project.load("shop")) == ["charge", "refunds"]


WRAPPED = """\
    import functools
    import fanout

    class Traced:
        def __init__(self, fn):
            functools.update_wrapper(self, fn)

        def __call__(self, ctx):
            return "traced " + self.__wrapped__(ctx)

    class Copied:
        def __init__(self, fn):
            vars(self).update(vars(fn))

        def __call__(self, ctx):
            return "copied"

    def logged(fn):
        @functools.wraps(fn)
        def call(ctx):
            return "logged " + fn(ctx)
        return call

    @logged
    @Traced
    @fanout.function()
    def charge(ctx):
        return "charged"

    @Copied
    @fanout.function()
    def bill(ctx):
        return "billed"
    """


def test_a_function_with_other_decorators_around_it_is_called_through_them(project: Project) -> None:
    project.write({"shop.py": WRAPPED})
    registered = project.load("shop")
    assert {id_: each.code(None) for id_, each in registered.items()} == {
        "charge": "logged traced charged",
        "bill": "copied",
    }
    written = {id_: each.written and each.written.co_name for id_, each in registered.items()}
    assert written == {"charge": "charge", "bill": None}


# What is wrong.


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


LOAD = """
import sys
from pathlib import Path
from fanout.worker.registry import load

print(list(load(Path(sys.argv[1]), ("shop",))))
"""


def test_modules_of_the_project_come_before_all_others(project: Project) -> None:
    """In a process of its own, which has not imported Python's `colorsys` yet."""
    code = "import fanout\nimport colorsys\n" + function("send") + "colorsys.OURS\n"
    project.write({"shop/mail.py": code, "colorsys.py": "OURS = 1\n"})
    result = subprocess.run(
        [sys.executable, "-c", LOAD, str(project.root)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (result.stdout, result.stderr) == ("['send']\n", "")
