from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functions.evaluate import Answer, Place, call_model, judge

if TYPE_CHECKING:
    from tests.functions.conftest import Examples

LONGEST = (
    "In winter the second ferry is often cancelled, because the wind turns the harbour into a cauldron and the "
    "captain, who has been doing this for thirty years, does not like to be told when to sail."
)
TELEGRAM = {"model": "telegram", "score": 0.25, "text": "ferry island winter second harbour plan hotel leaves"}
FIRST = {"model": "first", "score": 0.073, "text": "The ferry to the island leaves twice a day."}
RANKING = [TELEGRAM, {"model": "longest", "score": 0.14, "text": LONGEST}, FIRST]
MISSING = "there is no model `oracle`; there are first, longest, telegram"


def test_the_models_are_ranked(examples: Examples) -> None:
    result = examples.send_file("evaluate.json", failure_rate=0)

    assert result.code == 0
    parent, *children = result.json()["runs"]
    assert parent["output"] == RANKING
    assert [(step["name"], step["kind"]) for step in parent["steps"]] == [("ask-models", "map"), ("judge", "run")]
    assert [child["output"]["model"] for child in children] == ["first", "longest", "telegram"]
    assert {child["parent"] for child in children} == {parent["id"]}


def test_a_model_that_fails_for_good_is_ranked_last(examples: Examples) -> None:
    result = examples.send_file("evaluate_missing.json", failure_rate=0)

    assert result.code == 1
    parent, *children = result.json()["runs"]
    assert parent["state"] == "completed"
    assert [place["model"] for place in parent["output"]] == ["telegram", "first", "oracle"]
    assert parent["output"][:2] == [TELEGRAM, FIRST]
    last = parent["output"][2]
    assert (last["score"], last["text"].endswith(MISSING)) == (None, True)
    assert [(child["state"], child["steps"][0]["attempts"]) for child in children] == [
        ("completed", 1),
        ("failed", 1),
        ("completed", 1),
    ]


def test_a_model_that_is_overloaded_for_a_moment_is_asked_again(examples: Examples) -> None:
    examples.disturb("""
        from functions import evaluate

        fn = evaluate.call_model

        @wraps(fn)
        def overloaded(name, prompt, failure_rate):
            return fn(name, prompt, 1 if is_first(name) else 0)

        evaluate.call_model = overloaded
    """)
    result = examples.send_file("evaluate.json")

    assert result.code == 0
    parent, *children = result.json()["runs"]
    assert parent["output"] == RANKING
    assert [child["steps"][0]["attempts"] for child in children] == [2, 2, 2]


def test_where_all_models_fail_each_has_its_place(examples: Examples) -> None:
    result = examples.send("prompt/evaluate", {"prompt": "Tea.", "models": ["oracle", "sphinx"]})

    assert result.code == 1
    [parent, *_] = result.json()["runs"]
    assert [(place["model"], place["score"]) for place in parent["output"]] == [("oracle", None), ("sphinx", None)]


@pytest.mark.parametrize("prompt", [None, " ", 7])
def test_an_event_without_a_prompt_fails_at_once(examples: Examples, prompt: object) -> None:
    result = examples.send("prompt/evaluate", {"prompt": prompt})

    [run] = result.json()["runs"]
    assert (result.code, run["attempts"], run["steps"]) == (1, 1, [])
    assert run["error"]["message"] == f"`data.prompt` has to be text, not {prompt!r}"


def test_money_and_words_cost_places() -> None:
    prompt = "Rain, rain, rain. Then there was some sunshine."
    answers = [Answer("dear", "Rain.", 5), Answer("cheap", "Rain.", 1), Answer("long", "Rain. Such rain it was!", 1)]

    assert [place.model for place in judge(prompt, answers)] == ["cheap", "dear", "long"]
    assert judge(prompt, []) == []
    assert judge("?!", [Answer("first", "?!", 0)]) == [Place("first", -1.0, "?!")]


def test_a_model_fails_as_often_as_is_said() -> None:
    with pytest.raises(ConnectionError, match="`first` is overloaded"):
        call_model("first", "It rained. It snowed.", 1)
    assert call_model("first", "It rained. It snowed.", 0) == Answer("first", "It rained.", 0.1)
