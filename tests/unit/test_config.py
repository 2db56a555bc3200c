from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.config import App, Config, find, load, usable_cpus
from fanout.config_text import line_of
from fanout.errors import ConfigError

MINIMAL = '[app]\nid = "shop"\nfunctions = ["functions"]\n'


@pytest.fixture(autouse=True)
def _in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str | bytes) -> Path:
    path = Path.cwd() / "fanout.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refusal(text: str | bytes) -> tuple[str, str | None]:
    path = written(text)
    with pytest.raises(ConfigError) as raised:
        load(path)
    return raised.value.message, raised.value.hint


def test_the_defaults_are_filled_in(tmp_path: Path) -> None:
    assert load(written(MINIMAL)) == Config(
        path=tmp_path / "fanout.toml",
        root=tmp_path,
        apps=(App(id="shop", root=tmp_path, python=sys.executable, functions=("functions",)),),
        journal=tmp_path / ".fanout" / "journal.db",
        processes=usable_cpus(),
        slots=64,
        park=5.0,
        dev_retry_delay=None,
    )


def test_every_setting_is_read(tmp_path: Path) -> None:
    text = """\
[app]
id = "My.shop_2-eu"
functions = ["functions", "shop.orders"]
path = "./shop"
python = "/opt/shop/bin/python3"
[journal]
path = "../data/./shop.db"
[pool]
processes = 1024
slots = 1
park = "1m30s"
[dev]
retry_delay = "500ms"
"""
    assert load(written(text)) == Config(
        path=tmp_path / "fanout.toml",
        root=tmp_path,
        apps=(
            App(
                id="My.shop_2-eu",
                root=tmp_path / "shop",
                python="/opt/shop/bin/python3",
                functions=("functions", "shop.orders"),
            ),
        ),
        journal=tmp_path.parent / "data" / "shop.db",
        processes=1024,
        slots=1,
        park=90.0,
        dev_retry_delay=0.5,
    )


@pytest.mark.parametrize(("value", "seconds"), [('"1h30m"', 5400.0), ("2", 2.0), ("0.25", 0.25), ("0", 0.0)])
def test_a_retry_delay_is_text_or_seconds(value: str, seconds: float) -> None:
    assert load(written(f"{MINIMAL}[dev]\nretry_delay = {value}\n")).dev_retry_delay == seconds


@pytest.mark.parametrize(("value", "seconds"), [("0", 0.0), ("2.5", 2.5), ('"250ms"', 0.25), ('"366d"', 31_622_400.0)])
def test_how_long_the_waiting_are_kept_warm_is_text_or_seconds(value: str, seconds: float) -> None:
    assert load(written(f"{MINIMAL}[pool]\npark = {value}\n")).park == seconds


def test_a_journal_elsewhere_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert load(written(f'{MINIMAL}[journal]\npath = "/srv/j.db"\n')).journal == Path("/srv/j.db")
    assert load(written(f'{MINIMAL}[journal]\npath = "~/j.db"\n')).journal == Path("/home/ada/j.db")


def test_dotted_keys_inline_tables_and_a_byte_order_mark_are_fine() -> None:
    config = load(written(b'\xef\xbb\xbfapp = {id = "shop", functions = ["functions"]}\npool.slots = 4\r\n'))
    assert ([app.id for app in config.apps], config.slots) == (["shop"], 4)


# Several apps.


def test_each_app_has_its_folder_and_its_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    (tmp_path / "billing" / "venv").mkdir(parents=True)
    (tmp_path / "tools").mkdir()
    found = tmp_path / "tools" / "python3.99"
    found.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "tools"))
    text = """\
pool.slots = 2
[[apps]]
id = "shop"
functions = ["functions"]
[[apps]]
id = "billing"
path = "billing"
python = "./venv"
functions = ["invoices", "reminders"]
[[apps]]
id = "mail"
path = "../mail/."
python = "python3.99"
functions = ["functions"]
[[apps]]
id = "away"
path = "~/away"
python = "~/env/bin/python"
functions = ["functions"]
[[apps]]
id = "gone"
python = "python-that-is-nowhere"
functions = ["functions"]
"""
    config = load(written(text))
    assert (config.root, config.slots, config.has_prefixes) == (tmp_path, 2, True)
    assert config.apps == (
        App(id="shop", root=tmp_path, python=sys.executable, functions=("functions",)),
        App(
            id="billing",
            root=tmp_path / "billing",
            python=str(tmp_path / "billing" / "venv" / "bin" / "python"),
            functions=("invoices", "reminders"),
        ),
        App(id="mail", root=tmp_path.parent / "mail", python=str(found), functions=("functions",)),
        App(id="away", root=Path("/home/ada/away"), python="/home/ada/env/bin/python", functions=("functions",)),
        App(id="gone", root=tmp_path, python="python-that-is-nowhere", functions=("functions",)),
    )


def test_an_environments_interpreter_is_not_resolved(tmp_path: Path) -> None:
    """Through its link it finds what is installed there; where the link leads, it would not."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    (app,) = load(written(MINIMAL + 'python = "venv/bin/python"\n')).apps
    assert app.python == str(tmp_path / "venv" / "bin" / "python")


SHOP = '[[apps]]\nid = "shop"\nfunctions = ["functions"]\n'


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            SHOP + MINIMAL,
            "`fanout.toml` line 4: there are both `[app]` and `[[apps]]`",
            "leave one of them out",
        ),
        (SHOP + SHOP, "`fanout.toml` line 1: two of the `[[apps]]` have the id `shop`", None),
        ("apps = []\n", "`fanout.toml` line 1: `apps` has to be tables, not []", "begin each with `[[apps]]`"),
        ("apps = 7\n", "`fanout.toml` line 1: `apps` has to be tables, not 7", "begin each with `[[apps]]`"),
        (
            "[apps]\nid = 'shop'\n",
            "`fanout.toml` line 1: `apps` has to be tables, not a table",
            "begin each with `[[apps]]`",
        ),
    ],
)
def test_what_is_wrong_with_several_apps_is_named(text: str, message: str, hint: str | None) -> None:
    assert refusal(text) == (message, hint)


def test_a_mistake_in_one_of_several_apps_says_in_which() -> None:
    message, hint = refusal(SHOP + '[[apps]]\nid = "billing"\n')
    assert message.endswith("`[[apps]]` number 2: `functions` is missing"), message
    message, hint = refusal(SHOP + '[[apps]]\nid = "billing"\nfunction = ["f"]\n')
    assert (message.endswith("`[[apps]]` number 2: `function` is not a setting"), hint) == (
        True,
        "did you mean `functions`?",
    ), message


NEEDS_WHOLE = "has to be a whole number from 1 to 1024, not"
NEEDS_DELAY = 'has to be seconds or text like "500ms" or "1h30m", up to 366 days, not'
NEEDS_MODULE = "which is no dotted module name like `functions.signup`"
NEEDS_ID = "has to be letters, digits, dashes, underscores and dots, not"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            MINIMAL + "\n[pool]\n# more\nslotz = 3\n",
            "`fanout.toml` line 7: `[pool] slotz` is not a setting",
            "did you mean `slots`?",
        ),
        (
            MINIMAL + "pool.slotz = 3\n",  # still inside of [app]
            "`fanout.toml` line 4: `[app] pool` is not a setting",
            "`[app]` has `id`, `functions`, `path`, `python`",
        ),
        (
            "pool = {slots = 3, zeal = 2}\n" + MINIMAL,
            "`fanout.toml` line 1: `[pool] zeal` is not a setting",
            "`[pool]` has `processes`, `slots`, `park`",
        ),
        (
            "pool.Slots = 3\n" + MINIMAL,
            "`fanout.toml` line 1: `[pool] Slots` is not a setting",
            "did you mean `slots`?",
        ),
        (MINIMAL + '[pool]\n"slots" = 0\n', f"`fanout.toml` line 5: `[pool] slots` {NEEDS_WHOLE} 0", None),
        (MINIMAL + "[pool]\nslots = true\n", f"`fanout.toml` line 5: `[pool] slots` {NEEDS_WHOLE} true", None),
        (MINIMAL + "[pool]\nslots = 2.0\n", f"`fanout.toml` line 5: `[pool] slots` {NEEDS_WHOLE} 2.0", None),
        (MINIMAL + "[pool]\nslots = 1025\n", f"`fanout.toml` line 5: `[pool] slots` {NEEDS_WHOLE} 1025", None),
        (
            MINIMAL + '[pool]\nprocesses = "all"\n',
            f'`fanout.toml` line 5: `[pool] processes` {NEEDS_WHOLE} "all"',
            None,
        ),
        (
            MINIMAL + f"[pool]\nslots = 0x{'f' * 5000}\n",
            f"`fanout.toml` line 5: `[pool] slots` {NEEDS_WHOLE} a huge number",
            None,
        ),
        (
            MINIMAL + '[dev]\nretry_delay = "soon"\n',
            f'`fanout.toml` line 5: `[dev] retry_delay` {NEEDS_DELAY} "soon"',
            None,
        ),
        (MINIMAL + "[dev]\nretry_delay = -1\n", f"`fanout.toml` line 5: `[dev] retry_delay` {NEEDS_DELAY} -1", None),
        (MINIMAL + "[dev]\nretry_delay = nan\n", f"`fanout.toml` line 5: `[dev] retry_delay` {NEEDS_DELAY} nan", None),
        (
            MINIMAL + "[dev]\nretry_delay = true\n",
            f"`fanout.toml` line 5: `[dev] retry_delay` {NEEDS_DELAY} true",
            None,
        ),
        (
            MINIMAL + '[dev]\nretry_delay = "367d"\n',
            f'`fanout.toml` line 5: `[dev] retry_delay` {NEEDS_DELAY} "367d"',
            None,
        ),
        (
            MINIMAL + '[pool]\npark = "for ever"\n',
            f'`fanout.toml` line 5: `[pool] park` {NEEDS_DELAY} "for ever"',
            None,
        ),
        (MINIMAL + "[pool]\npark = -1\n", f"`fanout.toml` line 5: `[pool] park` {NEEDS_DELAY} -1", None),
        (MINIMAL + "[pool]\npark = false\n", f"`fanout.toml` line 5: `[pool] park` {NEEDS_DELAY} false", None),
        (MINIMAL + '[pool]\npark = "367d"\n', f'`fanout.toml` line 5: `[pool] park` {NEEDS_DELAY} "367d"', None),
        (
            MINIMAL + '[pool]\nparking = "1s"\n',
            "`fanout.toml` line 5: `[pool] parking` is not a setting",
            "did you mean `park`?",
        ),
        (
            MINIMAL + "[journal]\npath = []\n",
            "`fanout.toml` line 5: `[journal] path` has to be the path of a file, not []",
            None,
        ),
        (
            MINIMAL + '[journal]\npath = ""\n',
            '`fanout.toml` line 5: `[journal] path` has to be the path of a file, not ""',
            None,
        ),
        (
            MINIMAL + '[journal]\npath = "a\\u0000b"\n',
            '`fanout.toml` line 5: `[journal] path` has to be the path of a file, not "a\\u0000b"',
            None,
        ),
        ('[app]\nid = "a b"\nfunctions = ["f"]\n', f'`fanout.toml` line 2: `[app] id` {NEEDS_ID} "a b"', None),
        ('[app]\nid = ""\nfunctions = ["f"]\n', f'`fanout.toml` line 2: `[app] id` {NEEDS_ID} ""', None),
        ('[app]\nid = "straße"\nfunctions = ["f"]\n', f'`fanout.toml` line 2: `[app] id` {NEEDS_ID} "straße"', None),
        (
            '[app]\nid = 1979-05-27\nfunctions = ["f"]\n',
            f"`fanout.toml` line 2: `[app] id` {NEEDS_ID} 1979-05-27",
            None,
        ),
        ('[app]\nid = {a = 1}\nfunctions = ["f"]\n', f"`fanout.toml` line 2: `[app] id` {NEEDS_ID} a table", None),
        (
            '[app]\nid = "shop"\nfunctions = []\n',
            '`fanout.toml` line 3: `[app] functions` has to be a list of modules like ["functions"], not []',
            None,
        ),
        (
            '[app]\nid = "shop"\nfunctions = "functions"\n',
            '`fanout.toml` line 3: `[app] functions` has to be a list of modules like ["functions"], not "functions"',
            None,
        ),
        (
            '[app]\nid = "shop"\nfunctions = [\n  "ok",\n  "functions/signup.py",\n]\n',
            f'`fanout.toml` line 3: `[app] functions` has "functions/signup.py", {NEEDS_MODULE}',
            None,
        ),
        (
            '[app]\nid = "shop"\nfunctions = [7]\n',
            f"`fanout.toml` line 3: `[app] functions` has 7, {NEEDS_MODULE}",
            None,
        ),
        (
            '[app]\nid = "shop"\nfunctions = ["a.b", "a.b"]\n',
            "`fanout.toml` line 3: `[app] functions` has `a.b` twice",
            None,
        ),
        ("", "`fanout.toml`: `[app] id` is missing", 'write `id = "my-app"` under `[app]`'),
        (
            '# mine\n[app]\nid = "shop"\n',
            "`fanout.toml` line 2: `[app] functions` is missing",
            'write `functions = ["functions"]` under `[app]`',
        ),
        (MINIMAL + "[pol]\n", "`fanout.toml` line 4: `[pol]` is not a table of settings", "did you mean `[pool]`?"),
        (
            MINIMAL + "[zzz.y]\n",
            "`fanout.toml` line 4: `[zzz]` is not a table of settings",
            "the tables are `[app]`, `[journal]`, `[pool]`, `[dev]`, `[web]`, `[redact]`, `[otel]`",
        ),
        ("slots = 4\n" + MINIMAL, "`fanout.toml` line 1: `slots` stands outside of a table", "put it under `[pool]`"),
        (
            "quux = 4\n" + MINIMAL,
            "`fanout.toml` line 1: `quux` stands outside of a table",
            "the tables are `[app]`, `[journal]`, `[pool]`, `[dev]`, `[web]`, `[redact]`, `[otel]`",
        ),
        ("pool = 3\n" + MINIMAL, "`fanout.toml` line 1: `[pool]` has to be a table, not 3", None),
        (MINIMAL + "[[pool]]\n", "`fanout.toml` line 4: `[pool]` has to be a table, not [a table]", None),
        (
            MINIMAL + "[pool\n",
            "`fanout.toml` line 4 column 6: this is not TOML: expected ']' at the end of a table declaration",
            None,
        ),
        (MINIMAL + "x =", "`fanout.toml` line 4: this is not TOML: invalid value", None),
        (
            MINIMAL.encode() + b"# caf\xe9\n",
            "`fanout.toml` line 4: this is not UTF-8 text",
            "save the file as UTF-8",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str | bytes, message: str, hint: str | None) -> None:
    assert refusal(text) == (message, hint)


@pytest.mark.parametrize("text", [f"x = {'9' * 5000}\n", f"x = {'[' * 5000}{']' * 5000}\n"])
def test_absurd_values_are_refused_like_any_other(text: str) -> None:
    message, _hint = refusal(text)
    assert message.startswith("`fanout.toml`: this is not TOML: ")  # the rest is Python's


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path)
    assert raised.value.message == "`.` can't be read: Is a directory"


def test_the_path_in_a_message_is_the_shorter_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written("x")
    deep = tmp_path.joinpath(*"abcdefghij" * 20)
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert raised.value.message == f"`{path}` line 1: this is not TOML: expected '=' after a key in a key/value pair"


def test_keys_in_long_strings_and_lists_are_passed_over() -> None:
    text = 'note = """\n[pool]\nslots = 1\n"""\nfiles = [\n  "a",\n]\n[pool]\nother = {slots = 2}\nslots = 3\n'
    assert line_of(text, ("pool", "slots")) == 10


@given(st.text(alphabet="[]{}=\"'.# \n\tab"))
def test_looking_for_a_line_never_fails(text: str) -> None:
    assert line_of(text, ("a", "b")) in {None, *range(1, text.count("\n") + 2)}


def test_the_nearest_file_upwards_is_found(tmp_path: Path) -> None:
    path = written(MINIMAL)
    inner = tmp_path / "shop" / "orders"
    inner.mkdir(parents=True)
    assert find(inner, environ={}) == path
    (tmp_path / "shop" / "fanout.toml").touch()
    assert find(inner, environ={}) == tmp_path / "shop" / "fanout.toml"
    assert find(Path("shop/../shop/orders"), environ={}) == tmp_path / "shop" / "fanout.toml"


def test_a_folder_of_that_name_is_not_the_file(tmp_path: Path) -> None:
    path = written(MINIMAL)
    (tmp_path / "inner" / "fanout.toml").mkdir(parents=True)
    assert find(tmp_path / "inner", environ={}) == path


def test_an_explicit_file_goes_before_the_variable_and_that_before_the_search(tmp_path: Path) -> None:
    written(MINIMAL)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "fanout.toml").touch()
    assert find(tmp_path, "a", {"FANOUT_CONFIG": "b"}) == tmp_path / "a" / "fanout.toml"
    assert find(tmp_path, None, {"FANOUT_CONFIG": "b/fanout.toml"}) == tmp_path / "b" / "fanout.toml"
    assert find(tmp_path, None, {"FANOUT_CONFIG": ""}) == tmp_path / "fanout.toml"


@pytest.mark.parametrize(
    ("explicit", "environ", "message"),
    [
        ("other.toml", {}, "`other.toml` does not exist"),
        ("empty", {}, "`empty/fanout.toml` does not exist"),
        (None, {"FANOUT_CONFIG": "other.toml"}, "`FANOUT_CONFIG` names `other.toml`, which does not exist"),
    ],
)
def test_a_named_file_has_to_be_there(
    tmp_path: Path, explicit: str | None, environ: dict[str, str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError) as raised:
        find(tmp_path, explicit, environ)
    assert (raised.value.message, raised.value.hint) == (message, "`fanout init` makes one")


def test_without_any_file_the_hint_is_how_to_get_one() -> None:
    root = Path(Path.cwd().anchor)
    with pytest.raises(ConfigError) as raised:
        find(root, environ={})
    assert (raised.value.message, raised.value.hint) == ("no `fanout.toml` in `/` or above it", "run `fanout init`")


def test_importing_it_is_light() -> None:
    heavy = {"difflib", "json.decoder", "tempfile", "tomli_w"}
    code = f"import sys, fanout.config; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "[]\n"
