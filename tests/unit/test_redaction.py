from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.core.redaction import HIDDEN, Redaction, redaction_of

KEYS = ("password", "api_key", "token", "authorization", "größe")
HIDE = Redaction(KEYS)
SECRET = "hunter2-§-Æ"
"""Of letters that the generated text below does not have."""
PLAIN = st.text(st.characters(codec="ascii"))
OTHER_NAMES = st.text(st.sampled_from("abcxyz_-. \"'\\\n:=")).filter(lambda name: name not in KEYS)


def spelled(key: str) -> st.SearchStrategy[str]:
    return st.sampled_from([key, key.upper(), key.title()])


HIDDEN_NAMES = st.sampled_from(KEYS).flatmap(spelled)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | OTHER_NAMES
SECRETS = st.just(SECRET) | st.lists(st.just(SECRET)) | st.dictionaries(OTHER_NAMES, st.just({"x": [SECRET, '"}]']}))


def values(depth: int = 3) -> st.SearchStrategy[Any]:
    """(JSON value, the same with what is to be hidden replaced)."""
    leaf = LEAVES.map(lambda value: (value, value))
    if not depth:
        return leaf
    below = values(depth - 1)
    lists = st.lists(below, max_size=3).map(lambda pairs: ([a for a, _ in pairs], [b for _, b in pairs]))
    entry = st.one_of(
        st.tuples(OTHER_NAMES, below),
        st.tuples(HIDDEN_NAMES, SECRETS.map(lambda value: (value, HIDDEN))),
    )
    objects = st.lists(entry, max_size=4).map(
        lambda entries: ({name: a for name, (a, _) in entries}, {name: b for name, (_, b) in entries})
    )
    return leaf | lists | objects


@given(values(), st.booleans(), st.sampled_from([None, 2]), st.sampled_from([(",", ":"), (", ", " : ")]))
def test_no_value_of_a_hidden_key_survives_in_json_and_nothing_else_changes(
    pair: tuple[Any, Any], is_ascii: bool, indent: int | None, separators: tuple[str, str]
) -> None:
    def dumps(value: Any) -> str:
        return json.dumps(value, ensure_ascii=is_ascii, indent=indent, separators=separators)

    before, after = pair
    # To the letter: spaces, the way numbers are written, and the order of keys.
    assert HIDE.json_text(dumps(before)) == dumps(after)


@given(values())
def test_json_inside_of_strings_of_json_is_json_as_well(pair: tuple[Any, Any]) -> None:
    before, after = pair
    text = HIDE.json_text(json.dumps({"body": json.dumps({"deep": before}), "list": [json.dumps({"deep": before})]}))
    assert SECRET not in text
    assert json.dumps(SECRET)[1:-1] not in text
    said = json.loads(text)
    if SECRET in json.dumps(before, ensure_ascii=False):
        assert json.loads(said["body"])["deep"] == json.loads(said["list"][0])["deep"] == after


@given(st.text(), st.text())
def test_without_keys_or_a_mention_of_one_text_is_the_same_object(before: str, after: str) -> None:
    text = f"{before}nothing{after}"
    assert Redaction().text(text) is text
    assert Redaction().json_text(text) is text
    if not any(key in text.casefold() for key in KEYS):
        assert HIDE.text(text) is text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        # Words and signs.
        ("login password=hunter2 user=joe", "login password=[redacted] user=joe"),
        ("login PassWord = hunter2, user=joe", "login PassWord = [redacted], user=joe"),
        ("login password:hunter2.", "login password:[redacted]."),
        ("login (password: hunter2) failed", "login (password: [redacted]) failed"),
        ("password=a;b,c&d,user=joe", "password=[redacted],user=joe"),
        ("the password is wrong", "the password is wrong"),
        ("password", "password"),
        ("password=", "password="),
        ("a password: \nb", "a password: \nb"),
        ("password == hunter2", "password == [redacted]"),
        ("run --password hunter2 --token=abc --verbose", "run --password [redacted] --token=[redacted] --verbose"),
        # Names that only look alike.
        ("my_password=1 x-token=2 tokens=3 token_id=4 password-hash=5", "my_password=1 x-token=2 tokens=3 token_id=4 password-hash=5"),
        ("event.data.password=hunter2", "event.data.password=[redacted]"),
        # As Python and JSON show values.
        ("{'user': 1, 'password': 'hun ter', 'x': 2}", "{'user': 1, 'password': '[redacted]', 'x': 2}"),
        ("{'password': b'hun\\'ter', 'x': 2}", "{'password': '[redacted]', 'x': 2}"),
        ('{"password": "hun\\"ter", "x": 2}', '{"password": "[redacted]", "x": 2}'),
        ('{"password": 1234, "x": 2}', '{"password": "[redacted]", "x": 2}'),
        ('{"password":{"a":["}",1]},"x":2}', '{"password":"[redacted]","x":2}'),
        ('said "{\\"password\\": \\"hunter2\\", \\"x\\": 2}"', 'said "{\\"password\\": \\"[redacted]\\", \\"x\\": 2}"'),
        ('{"gr\\u00f6\\u00dfe": "hunter2", "x": 2}', '{"gr\\u00f6\\u00dfe": "[redacted]", "x": 2}'),
        ("Login(password=SecretStr('a b'), user='joe')", "Login(password=[redacted], user='joe')"),
        ("[('token', 'a b'), ('x', 'y')]", "[('token', '[redacted]'), ('x', 'y')]"),
        ("['token', 'x']", "['token', 'x']"),
        ("KeyError: 'token'", "KeyError: 'token'"),
        ('"password=hunter2"', '"password=[redacted]"'),
        # Source code, as tracebacks have it.
        ('  session["token"] = "a b"', '  session["token"] = "[redacted]"'),
        ('def f(password: str = "a b", n=1):', 'def f(password: str = "[redacted]", n=1):'),
        ('x = login(password="""a"b""", n=1)', 'x = login(password="""[redacted]""", n=1)'),
        # URLs and headers.
        ("GET /in?token=abc%20&next=/ HTTP/1.1", "GET /in?token=[redacted]&next=/ HTTP/1.1"),
        ("Authorization: Bearer abc def, ghi", "Authorization: [redacted]"),
        ("> authorization: abc; d=e\n> host: x", "> authorization: [redacted]\n> host: x"),
        ("sent Authorization: Bearer abc to it", "sent Authorization: [redacted] to it"),
        ("curl -H 'Authorization: Bearer abc' url", "curl -H 'Authorization: [redacted]' url"),
        # Where no end is to be found, nothing is left.
        ("{'password': 'hunter2 and mo", "{'password': '[redacted]'"),
        ("{'password': ['hunter2', 'and mo", "{'password': '[redacted]'"),
        # What is hidden stays so.
        ("password=[redacted] 'token': '[redacted]'", "password=[redacted] 'token': '[redacted]'"),
    ],
)  # fmt: skip
def test_text(text: str, shown: str) -> None:
    assert HIDE.text(text) == shown
    assert HIDE.text(shown) == shown


FORMS = [
    "{key}={secret} rest=1",
    "{key}: {secret}\nrest=1",
    "x, {key}: {secret}, rest=1",
    "{{'{key}': '{secret}', 'rest=1': 2}}",
    '{{"{key}": "{secret}", "rest=1": 2}}',
    "https://host/?{key}={secret}&rest=1",
    "f({key}={secret!r}, rest=1)",
    "--{key} {secret} --rest=1",
    "[('{key}', '{secret}'), 'rest=1']",
]


@given(PLAIN, HIDDEN_NAMES, st.sampled_from(FORMS), PLAIN)
def test_no_secret_survives_in_text_of_a_known_form(before: str, key: str, form: str, after: str) -> None:
    shown = HIDE.text(f"{before} {form.format(key=key, secret=SECRET)} {after}")
    assert SECRET not in shown


@given(HIDDEN_NAMES, st.sampled_from(FORMS))
def test_what_is_beside_a_secret_stays(key: str, form: str) -> None:
    shown = HIDE.text(f"before {form.format(key=key, secret=SECRET)} after")
    assert (shown.startswith("before "), "rest=1" in shown, shown.endswith(" after")) == (True, True, True)


@given(st.text(st.sampled_from("pastoken word:='\"\\[({})]}, \nßö-")))
def test_whatever_the_text_it_ends_and_twice_is_once(text: str) -> None:
    once = HIDE.text(f"{text}password{text}")
    assert HIDE.text(once) == once


def test_letters_that_json_escapes_are_read() -> None:
    assert HIDE.json_text('{"p\\u0061ssword" : 1e400 , "x":1E5}') == '{"p\\u0061ssword" : "[redacted]" , "x":1E5}'


def test_half_a_character_in_json_does_not_stop_it() -> None:
    assert "hunter2" not in HIDE.json_text('{"x": "\\ud800 password=hunter2"}')


@pytest.mark.parametrize(
    ("expression", "is_about"),
    [
        ("data.token", True),
        ("event.data.Token + event.user.id", True),
        ('event.data["api_key"]', True),
        ("data.tokens", False),
        ("data.user_id", False),
    ],
)
def test_an_expression_is_about_a_hidden_key(expression: str, is_about: bool) -> None:
    assert HIDE.is_about(expression) is is_about


def test_the_same_keys_make_one_redaction() -> None:
    assert redaction_of(("a", "b")) is redaction_of(("a", "b"))
    assert not Redaction()
    assert Redaction(["a"])
