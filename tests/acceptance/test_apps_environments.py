"""Two apps, each in a virtual environment of its own, that need different versions of one library."""

from __future__ import annotations

import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project

TOML = """
[[apps]]
id = "shop"
path = "shop"
python = ".venv"
functions = ["work"]

[[apps]]
id = "billing"
path = "billing"
python = ".venv/bin/python"
functions = ["work"]
"""
REPORT = """
import sys
from importlib.metadata import version
import fanout
import shade

def versions():
    return {"metadata": version("shade"), "code": shade.blend(), "prefix": sys.prefix}

"""
SHOP = """
@fanout.function(trigger=fanout.on("app/paint"))
def paint(ctx):
    mine = ctx.step.run("look", versions)
    return {"mine": mine, "theirs": ctx.step.invoke("charge", "billing/charge", data={"n": 2})}
"""
BILLING = """
@fanout.function(trigger=fanout.on("app/paint"))
async def count(ctx):
    return versions()

@fanout.function()
def charge(ctx):
    return versions() | {"n": ctx.event.data["n"]}
"""


def make_environment(folder: Path, shade: str) -> None:
    """An environment with this version of the library `shade`; fanout comes from the one that the tests run in."""
    venv.create(folder, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    ours = sysconfig.get_path("purelib")
    # Not a plain path: the .pth files there count as well, as those of an editable fanout do.
    (packages / "fanout_from_the_tests.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    (packages / "shade.py").write_text(f"def blend():\n    return 'blended by {shade}'\n")
    metadata = packages / f"shade-{shade}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: shade\nVersion: {shade}\n")


@pytest.fixture
def two_environments(project: Project) -> Project:
    (project.root / "fanout.toml").write_text(TOML)
    for app, shade, code in (("shop", "1.0", SHOP), ("billing", "2.0", BILLING)):
        (project.root / app).mkdir()
        (project.root / app / "work.py").write_text(REPORT + code)
        make_environment(project.root / app / ".venv", shade)
    return project


def test_each_app_has_its_own_version_of_a_library_also_when_one_invokes_the_other(two_environments: Project) -> None:
    result = two_environments.send("app/paint")
    assert (result.code, result.err) == (0, "")
    shop, billing = (
        {
            "metadata": shade,
            "code": f"blended by {shade}",
            "prefix": str(two_environments.root / app / ".venv"),
        }
        for app, shade in (("shop", "1.0"), ("billing", "2.0"))
    )
    outputs = {run["function"]: run["output"] for run in result.json()["runs"]}
    assert outputs == {
        "shop/paint": {"mine": shop, "theirs": billing | {"n": 2}},
        "billing/count": billing,
        "billing/charge": billing | {"n": 2},
    }
    assert sys.prefix not in {shop["prefix"], billing["prefix"]}


def test_an_environment_without_fanout_is_named_and_stops_no_other_app(two_environments: Project) -> None:
    for added in (two_environments.root / "billing").rglob("fanout_from_the_tests.pth"):
        added.unlink()
    result = two_environments.fanout("send", "--name", "app/paint")
    assert "warning: app `billing`: worker " in result.err
    assert "hint: install fanout in the environment of `python`\n" in result.err
    # What it invokes is not known, as its app never was.
    assert result.code == 1
    told = two_environments.query("SELECT function, message FROM run JOIN failure ON failure.run = run.key")
    assert {(function, "billing/charge" in message) for function, message in told} == {("shop/paint", True)}
