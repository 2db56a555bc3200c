"""A document was uploaded: three functions read it at once. No model, no network, nothing to download.

The event carries the document's path, and so do the steps. A step's result is kept in the journal for ever:
a path, a score or a sentence belongs there, a whole text doesn't, so each step reads the file for itself.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from pathlib import Path

import fanout
from fanout import AsyncContext, Context, Event, NonRetriableError

SUMMARY_SENTENCES = 3
SUMMARY_WORDS = 30
FEW_WORDS = 8
ENTITIES_OF_A_KIND = 50

LABELS = {
    "invoice": "invoice bill due payment payable subtotal total vat tax iban remit net quantity",
    "contract": "contract agreement party hereby shall term termination liability clause governing law signature",
    "report": "report quarter quarterly results revenue growth margin compared outlook forecast increase decrease",
    "support": "support ticket issue error help problem crash broken cannot reproduce login screenshot please",
}

COMMON_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a about after again all also an and any are as at be been before but by can could did do does for from had has
        have he her here his how if in into is it its may more most no nor not now of on one only or other our out over
        she so some such than that the their them then there these they this those to under up was we were what when
        where which while who will with would you your two three hundred thousand million billion percent
        """,
    ),
)

MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
ENTITIES = {
    "dates": rf"\b(?:\d{{4}}-\d\d-\d\d|\d{{1,2}} {MONTH} \d{{4}}|{MONTH} \d{{1,2}}, \d{{4}})\b",
    "money": rf"[$€£]{NUMBER}(?: (?:thousand|million|billion)\b)?|\b{NUMBER} (?:USD|EUR|GBP)\b",
    "emails": r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b",
    "urls": r"https?://[^\s<>\"]*[\w/]",
    "names": r"\b[A-ZÀ-ÖØ-Þ][a-zß-öø-ÿ]+(?: [A-ZÀ-ÖØ-Þ][a-zß-öø-ÿ]+)+\b",
}


# Two steps, each with a small result: the first gives the second thirty words, not the text that it found them in.
@fanout.function(trigger=fanout.on("document/uploaded"))
def summarize_document(ctx: Context) -> dict[str, list[str]]:
    path = path_of(ctx.event)
    weights = ctx.step.run("weigh-words", weigh_words, path)
    sentences = ctx.step.run("pick-sentences", pick_sentences, path, weights)
    return {"summary": sentences, "keywords": list(weights)[:5]}


# Code outside a step may run again at any time. This here is quick and always gives the same, so that is fine.
@fanout.function(trigger=fanout.on("document/uploaded"))
def classify_document(ctx: Context) -> dict[str, str | dict[str, float]]:
    path = path_of(ctx.event)
    scores = ctx.step.run("score-labels", score_labels, path)
    best = max(scores, key=lambda label: scores[label])
    return {"label": best if scores[best] > 0 else "unknown", "scores": scores}


# Steps of an async function go side by side with `asyncio.gather`. Each has a record and retries of its own.
@fanout.function(trigger=fanout.on("document/uploaded"))
async def extract_entities(ctx: AsyncContext) -> dict[str, list[str]]:
    path = path_of(ctx.event)
    found = await asyncio.gather(*(ctx.step.run(f"find-{kind}", find, path, kind) for kind in ENTITIES))
    return dict(zip(ENTITIES, found, strict=True))


def path_of(event: Event) -> str:
    path = event.data.get("path")
    if not isinstance(path, str) or not path:
        raise NonRetriableError(f"`data.path` has to be a file's path, not {path!r}")
    return path


def paragraphs(path: str) -> list[str]:
    """The text's paragraphs, each on one line. A relative path begins at the folder of `fanout.toml`.

    A disk that fails for a moment is worth another attempt; a file that isn't there, or isn't text, is not.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise NonRetriableError(f"there is no file `{path}` in `{Path.cwd()}`") from None
    except UnicodeDecodeError:
        raise NonRetriableError(f"`{path}` is not UTF-8 text") from None
    return [" ".join(block.split()) for block in re.split(r"\n\s*\n", text) if block.strip()]


def words(text: str) -> list[str]:
    """The words that say something. Those inside an address of the mail or the web say nothing."""
    text = re.sub(r"\S*(?:@|://)\S*", "", text.lower())
    return [word for word in re.findall(r"[^\W\d_]{3,}", text) if word not in COMMON_WORDS]


def weigh_words(path: str) -> dict[str, float]:
    """The text's most frequent words, each with its frequency relative to the first."""
    counts = Counter(words(" ".join(paragraphs(path)))).most_common(SUMMARY_WORDS)
    return {word: round(count / counts[0][1], 3) for word, count in counts}


def pick_sentences(path: str, weights: dict[str, float]) -> list[str]:
    """The sentences with the weightiest words, in the text's order.

    A headline is no sentence. The root keeps a long one from winning by its length alone,
    and the least divisor keeps a very short one from winning by a single word.
    """
    split = [re.split(r"(?<=[.!?]) (?=[^a-z])", block) for block in paragraphs(path)]
    sentences = [sentence for block in split for sentence in block if sentence.endswith((".", "!", "?"))]

    def score(place: int) -> float:
        found = words(sentences[place])
        return sum(weights.get(word, 0.0) for word in found) / math.sqrt(max(len(found), FEW_WORDS))

    best = sorted(range(len(sentences)), key=score, reverse=True)[:SUMMARY_SENTENCES]
    return [sentences[place] for place in sorted(best)]


def score_labels(path: str) -> dict[str, float]:
    """Each label's share of all the labels' words in the text."""
    counts = Counter(words(" ".join(paragraphs(path))))
    hits = {label: sum(counts[word] for word in vocabulary.split()) for label, vocabulary in LABELS.items()}
    return {label: round(count / (sum(hits.values()) or 1), 3) for label, count in hits.items()}


def find(path: str, kind: str) -> list[str]:
    """What of this kind is in the text, each once, in the text's order."""
    found = [match for block in paragraphs(path) for match in re.findall(ENTITIES[kind], block)]
    if kind == "names":
        found = [name for each in found if " " in (name := without_common_start(each))]
    return list(dict.fromkeys(found))[:ENTITIES_OF_A_KIND]


def without_common_start(name: str) -> str:
    """`The Berlin Office` is capitalised three times, but only as a sentence's first word the first time."""
    first, _, rest = name.partition(" ")
    return rest if first.lower() in COMMON_WORDS else name
