"""Which functions are found in a project's modules, and with which code."""

from __future__ import annotations

import subprocess
import sys

from fanout.worker.registry import Registered
from tests.unit.projects import IMPORT, Project, function


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
