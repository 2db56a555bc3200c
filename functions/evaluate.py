"""One prompt for several models, and a ranking of their answers: `step.map` calls a function for each of them.

    fanout send functions/events/evaluate.json
    fanout invoke evaluate-prompt --data '{"prompt": "It rained. It rained all day. The roof is new."}'

The models are small functions on this machine that shorten a text, each in its own way. Like those behind an API they
take a moment, cost something and fail now and then, which retries absorb. Here one is asked for that does not exist:
it comes last, with its error, and the others are compared all the same. (Its run has failed, so `send` ends with 1.)

    fanout send functions/events/evaluate_missing.json
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import fanout
from fanout import Backoff, Context, InvokeError, NonRetriableError

FAILURE_RATE = 0.3


@dataclass
class Answer:
    model: str
    text: str
    cents: float


@dataclass
class Place:
    model: str
    score: float | None
    text: str


@fanout.function(trigger=fanout.on("prompt/evaluate"))
def evaluate_prompt(ctx: Context) -> list[Place]:
    prompt, models = ctx.event.data.get("prompt"), ctx.event.data.get("models", list(MODELS))
    if not isinstance(prompt, str) or not prompt.strip():
        raise NonRetriableError(f"`data.prompt` has to be text, not {prompt!r}")
    failure_rate = ctx.event.data.get("failure_rate", FAILURE_RATE)
    asked = [{"model": model, "prompt": prompt, "failure_rate": failure_rate} for model in models]
    # In the order of the items, each an Answer, as `ask_model` says it returns. What has failed is an InvokeError in
    # its place; without `collect` the first one would fail this step, and cancel the others.
    answers: list[Answer | InvokeError] = ctx.step.map("ask-models", ask_model, asked, on_error="collect")
    ranking = ctx.step.run("judge", judge, prompt, [each for each in answers if isinstance(each, Answer)])
    pairs = zip(models, answers, strict=True)
    return ranking + [Place(model, None, str(error)) for model, error in pairs if isinstance(error, InvokeError)]


# Without a trigger it is only called. A function of its own gives each model a run, with retries of its own.
# In development `[dev] retry_delay` replaces the backoff; `fanout serve` waits 0.2 s, 0.4 s, 0.8 s and so on.
@fanout.function(retries=8, backoff=Backoff(initial=0.2, maximum=10, jitter=0.1))
def ask_model(ctx: Context) -> Answer:
    data = ctx.event.data
    return ctx.step.run("call-model", call_model, data["model"], data["prompt"], data["failure_rate"])


def call_model(name: str, prompt: str, failure_rate: float) -> Answer:
    if name not in MODELS:
        raise NonRetriableError(f"there is no model `{name}`; there are {', '.join(MODELS)}")
    model = MODELS[name]
    time.sleep(model.seconds)
    if random.random() < failure_rate:  # noqa: S311 - a game of chance, not a secret
        raise ConnectionError(f"`{name}` is overloaded")
    return Answer(name, model.shorten(prompt), model.cents)


def judge(prompt: str, answers: list[Answer]) -> list[Place]:
    """The best first: the one that keeps what the text says most often, in few words and for little money."""
    weights = Counter(words(prompt))

    def score(answer: Answer) -> float:
        kept = sum(weights[word] for word in set(words(answer.text))) / max(weights.total(), 1)
        return round(kept - len(answer.text) / len(prompt) - answer.cents / 100, 3)

    best_first = sorted(answers, key=score, reverse=True)
    return [Place(answer.model, score(answer), answer.text) for answer in best_first]


def first_sentence(text: str) -> str:
    return sentences(text)[0]


def longest_sentence(text: str) -> str:
    return max(sentences(text), key=len)


def telegram(text: str) -> str:
    return " ".join(word for word, _ in Counter(words(text)).most_common(8))


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+", text.strip())


def words(text: str) -> list[str]:
    return re.findall(r"\w{4,}", text.lower())


class Model(NamedTuple):
    shorten: Callable[[str], str]
    cents: float
    seconds: float


MODELS = {
    "first": Model(first_sentence, cents=0.1, seconds=0.1),
    "longest": Model(longest_sentence, cents=0.5, seconds=0.2),
    "telegram": Model(telegram, cents=1.0, seconds=0.3),
}
