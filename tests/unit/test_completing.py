"""What completes a command line: which words may come next, and how each shell is told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fanout.commands import completing
from fanout.commands.completing import FILES, GRAMMAR, SHELLS, Expected, answers, expected
from fanout.commands.completion import Shell
from fanout.commands.completion_word import Word
from fanout.model import CronTrigger, EventTrigger
from tests.unit.filled import NOW, Filled, event_id, run_id
from tests.unit.specs import add, spec
from tests.unit.test_imports import HEAVY, loaded, loaded_modules

OPTION: dict[str, Any] = {"help": "h"}
TOY: dict[str, Any] = {
    "": {"help": "", "options": {"--version": OPTION}, "arguments": []},
    "runs": {
        "help": "List runs.",
        "options": {
            "--status": {"help": "s", "kind": "", "choices": [["queued", ""], ["failed", "f"]], "is_many": True},
            "--function": {"help": "f", "kind": "function"},
            "--config": {"help": "c", "kind": FILES},
            "-f": OPTION,
            "--follow": OPTION,
            "--limit": {"help": "l", "kind": ""},
        },
        "arguments": [],
    },
    "runs show": {"help": "One run.", "options": {"--json": OPTION}, "arguments": [{"help": "", "kind": "run"}]},
    "cancel": {"help": "c", "options": {}, "arguments": [{"help": "", "kind": "live run", "is_many": True}]},
}


def at(line: str) -> Expected:
    """What is expected at the end of the line."""
    *words, current = line.split(" ")
    return expected(TOY, words, current)


def texts(line: str) -> list[str]:
    return [word.text for word in at(line).words]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ["runs", "cancel"]),
        ("--", ["--version"]),
        ("runs ", ["show"]),
        ("runs --failed ", ["show"]),
        ("runs --", ["--status", "--function", "--config", "--follow", "--limit"]),
        ("runs -", ["--status", "--function", "--config", "--follow", "--limit"]),
        ("runs --follow --limit 3 --status failed --", ["--status", "--function", "--config"]),
        ("runs --status ", ["queued", "failed"]),
        ("runs --status=", ["queued", "failed"]),
        ("runs --limit ", []),
        ("runs --limit 3 ", ["show"]),
        ("runs nonsense ", []),
        ("runs show --", ["--json"]),
        ("nonsense ", []),
        ("cancel -- --", []),
    ],
)
def test_the_words_that_may_come(line: str, words: list[str]) -> None:
    assert (texts(line), at(line).kind) == (words, "live run" if line.startswith("cancel") else None)


@pytest.mark.parametrize(
    ("line", "kind", "prefix"),
    [
        ("runs show ", "run", ""),
        ("runs show one ", None, ""),
        ("cancel one two ", "live run", ""),
        ("runs --function ", "function", ""),
        ("runs --function=se", "function", "--function="),
        ("runs -f --function ", "function", ""),
        ("runs --config ", FILES, ""),
        ("runs --follow=", None, ""),
    ],
)
def test_the_values_that_may_come(line: str, kind: str | None, prefix: str) -> None:
    assert (texts(line), at(line).kind, at(line).prefix) == ([], kind, prefix)


@pytest.mark.parametrize(
    "line", ["runs --config there/fanout.toml --function ", "runs --config=there/fanout.toml --function "]
)
def test_the_project_is_the_one_that_is_named(line: str) -> None:
    assert at(line).config == "there/fanout.toml"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fanout", [""]),
        ("fanout ", [""]),
        ("fanout  runs   sh", ["runs", "sh"]),
        ("fanout runs ", ["runs", ""]),
        ("fanout send --name 'a b' \"c d", ["send", "--name", "a b", "c d"]),
        (r"fanout send a\ b 'a\b' ''", ["send", "a b", r"a\b", ""]),
        ('fanout send "" x\\', ["send", "", "x"]),
    ],
)  # fmt: skip
def test_a_line_of_bash_has_words_up_to_the_cursor(line: str, words: list[str]) -> None:
    found = completing._bash_words(line)
    assert found == words or (line == "fanout" and found == [])


WORDS = [Word("app/a:b", "it: is"), Word("app/c")]


def test_each_shell_is_told_in_its_own_way() -> None:
    assert list(completing._zsh(WORDS, "", {})) == [r"app/a\:b:it: is", "app/c"]
    assert list(completing._fish(WORDS, "", {})) == ["app/a:b\tit: is", "app/c"]


def test_bash_lists_meanings_but_never_inserts_them() -> None:
    assert list(completing._bash(WORDS, "", {"COMP_TYPE": "9"})) == ["app/a:b", "app/c"]
    assert list(completing._bash(WORDS, "", {"COMP_TYPE": "63"})) == ["app/a:b  (it: is)", "app/c"]
    assert list(completing._bash(WORDS[:1], "", {"COMP_TYPE": "63"})) == ["app/a:b"]


def test_bash_gets_what_comes_behind_its_own_break_of_a_word() -> None:
    breaks = {"COMP_WORDBREAKS": " \t\n\"'><=;|&(:"}
    assert list(completing._bash(WORDS[:1], "app/a:", breaks)) == ["b"]
    assert list(completing._bash([Word("--name=app/a:b")], "--name=ap", breaks)) == ["app/a:b"]
    assert list(completing._bash([Word("--name=app/a:b")], "--name=ap", {"COMP_WORDBREAKS": " "})) == ["--name=app/a:b"]


# With a journal.


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Filled]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fanout.toml").write_text('[app]\nid = "shop"\nfunctions = ["work"]\n')
    (tmp_path / ".fanout").mkdir()
    journal = Filled(tmp_path / ".fanout" / "journal.db")
    add(journal, spec("mail", triggers=(EventTrigger("app/order.placed"), EventTrigger("app/*"))))
    add(journal, spec("nightly", triggers=(CronTrigger("0 3 * * *", "UTC", 0),)))
    add(journal, spec("gone", triggers=(EventTrigger("app/old"),)), is_present=False)
    add(journal, spec("child"))
    journal.insert("pause", function="nightly", paused_at=NOW)
    journal.event(1, "app/order.placed")
    journal.event(2, "app/other", id="sender-2")
    journal.run(1, "mail", 1, "failed")
    journal.run(2, "child", 2, "waiting")
    yield journal
    journal.close()


def complete(line: str) -> list[str]:
    """As fish is told, without meanings."""
    return [each.split("\t")[0] for each in answers("fish", line.split(" "), {})]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("invoke ", ["child", "mail", "nightly"]),
        ("invoke m", ["mail"]),
        ("runs --function=g", ["--function=gone"]),
        ("cron next ", ["nightly"]),
        ("functions resume ", ["nightly"]),
        ("functions pause ", ["child", "mail"]),
        ("runs show ", [run_id(2)[-10:], run_id(1)[-10:]]),
        ("runs show 01", [run_id(2), run_id(1)]),
        ("cancel ", [run_id(2)[-10:]]),
        ("replay ", [run_id(1)[-10:]]),
        ("events show ", ["sender-2", event_id(1)[-10:]]),
        ("events show se", ["sender-2"]),
        ("trace 01", [event_id(1), run_id(2), run_id(1)]),
        ("send --name ", ["app/order.placed", "app/other"]),
        ("runs --event app/or", ["app/order.placed"]),
        ("send ", [":files"]),
        ("runs --status c", ["completed", "cancelled"]),
        ("init --template=si", ["--template=signup"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("stats --since ", []),
    ],
)
def test_what_the_journal_knows(project: Filled, line: str, words: list[str]) -> None:
    assert project.path.exists()
    assert complete(line) == words


def test_what_the_words_mean(project: Filled) -> None:
    assert project.path.exists()
    assert list(answers("fish", ["functions", "show", ""], {})) == [
        "child\tinvoked",
        "mail\tapp/order.placed, app/*",
        "nightly\t0 3 * * *",
        "gone\tgone from the code: app/old",
    ]
    [waiting, failed] = answers("fish", ["why", ""], {})
    assert waiting.split("\t")[1].startswith("child waiting ")
    assert failed.split("\t")[1].startswith("mail failed ")


@pytest.mark.parametrize("name", ["$(reboot)", "a b", "`x`", "a;b", "-rf", "a\nb", "~root", ":files", "a'b", "*", "é"])
def test_a_name_that_a_shell_would_act_on_is_not_offered(project: Filled, name: str) -> None:
    """Events come from anywhere, and what is completed is on the command line of whoever presses enter."""
    project.event(3, name)
    assert complete("send --name ") == ["app/order.placed", "app/other"]


def test_meanings_are_printable(project: Filled) -> None:
    add(project, spec("odd", triggers=(EventTrigger("a\x1b[31m\nb\tc"),)))
    [line] = answers("fish", ["invoke", "odd"], {})
    assert line.replace("\t", "", 1).isprintable()


@pytest.mark.parametrize("line", ["runs show ", "invoke ", "send --name "])
@pytest.mark.parametrize("trouble", ["no project", "no journal", "no database", "newer"])
def test_nothing_is_said_when_something_is_wrong(
    project: Filled, capfd: pytest.CaptureFixture[str], trouble: str, line: str
) -> None:
    toml = project.path.parents[1] / "fanout.toml"
    match trouble:
        case "no project":
            toml.write_text("[app")
        case "no journal":
            toml.write_text(toml.read_text() + '[journal]\npath = "elsewhere.db"\n')
        case "no database":
            project.path.write_text("this is a text, and none of SQLite's files at all" * 20)
        case "newer":
            project.execute("PRAGMA user_version = 999")
    completing.main(line.split(" "), {"_FANOUT_COMPLETE": "fish"})
    assert capfd.readouterr() == ("", "")
    assert not (toml.parent / "elsewhere.db").exists()


def test_a_shell_that_is_not_known_gets_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    completing.main(["ru"], {"_FANOUT_COMPLETE": "tcsh"})
    completing.main([], {"_FANOUT_COMPLETE": "bash"})
    assert capfd.readouterr() == ("", "")


def test_of_many_runs_the_newest_are_found_quickly(project: Filled) -> None:
    project.execute(
        "WITH RECURSIVE n (x) AS (SELECT 10 UNION ALL SELECT x + 1 FROM n WHERE x < 100000)"
        " INSERT INTO event (key, id, is_id_given, name, ts, data, received_at)"
        " SELECT x, printf('01E%023d', x), 0, 'app/many', 0, '{}', 0 FROM n"
    )
    project.execute(
        "INSERT INTO run (key, id, function, event, event_name, rank, state, max_attempts, queued_at, ended_at)"
        " SELECT key, printf('01R%023d', key), 'mail', key, 'app/many', 0, 'completed', 1, 0, 0 FROM event WHERE key >= 10"
    )
    began = time.process_time()
    assert complete("runs show ")[0] == run_id(100_000)[-10:]
    assert complete("cancel ") == []
    assert complete("send --name ") == ["app/many", "app/order.placed"]
    assert len(complete("trace ")) > 100
    assert time.process_time() - began < 1.0  # a fence: it takes a hundredth


def test_the_grammar_is_small_and_read_at_once() -> None:
    assert GRAMMAR.stat().st_size < 64_000
    assert set(json.loads(GRAMMAR.read_bytes())["runs show"]) == {"help", "options", "arguments"}


PRINTED = """
import io, os, sys
os.environ.update({environ})
sys.argv = ["fanout", {words}]
out, sys.stdout = sys.stdout, io.StringIO()
from fanout.commands.main import main
main()
assert {found!r} in sys.stdout.getvalue(), sys.stdout.getvalue()
sys.stdout = out
"""
ASKED = {"_FANOUT_COMPLETE": "fish"}


@pytest.mark.parametrize(
    ("environ", "words", "found"),
    [(ASKED, "'ru'", "runs\t"), *(({}, f"'completion', '{shell}'", "_FANOUT_COMPLETE=") for shell in SHELLS)],
)
def test_our_own_words_and_the_scripts_cost_next_to_nothing(environ: dict[str, str], words: str, found: str) -> None:
    """Shells ask for the script whenever they start."""
    code = PRINTED.format(environ=environ, words=words, found=found)
    assert loaded(code) & (HEAVY | {"asyncio", "msgspec", "tomllib"}) == set()


def test_each_shell_has_its_script() -> None:
    assert tuple(Shell) == SHELLS


def test_what_the_journal_knows_costs_no_more_than_reading_it(project: Filled) -> None:
    assert project.path.exists()
    code = PRINTED.format(environ=ASKED, words='"invoke", ""', found="mail\t")
    assert loaded(code) & (HEAVY | {"asyncio"}) == {"apsw"}


def test_who_completes_nothing_pays_nothing() -> None:
    assert "fanout.commands.completing" not in loaded_modules("import fanout.commands.main")
