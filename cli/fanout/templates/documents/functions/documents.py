"""A document has come in: one function takes it apart into one run a section, another looks for facts in it.

fanout send functions/events/document.json
"""

import asyncio
import re
from pathlib import Path
from typing import TypedDict

import fanout
from fanout import AsyncContext, Context, NonRetriableError


class Section(TypedDict):
    title: str
    words: int


# `map` is one run of the other function for each item, all at the same time, and their results in the items' order.
@fanout.function(trigger=fanout.on("document/uploaded"))
def index_document(ctx: Context) -> dict[str, int]:
    path = ctx.event.data["path"]
    titles = ctx.step.run("find-titles", find_titles, path)
    sections = ctx.step.map("sections", index_section, [{"path": path, "title": title} for title in titles])
    return {section["title"]: section["words"] for section in sections}


# No trigger: it only runs when it is asked for. Two at a time, however many sections there are.
@fanout.function(concurrency=fanout.Concurrency(2))
def index_section(ctx: Context) -> Section:
    path, title = ctx.event.data["path"], ctx.event.data["title"]
    return {"title": title, "words": ctx.step.run("count-words", count_words, path, title)}


# Steps of an async function go side by side with `asyncio.gather`.
@fanout.function(trigger=fanout.on("document/uploaded"))
async def find_facts(ctx: AsyncContext) -> dict[str, list[str]]:
    path = ctx.event.data["path"]
    emails, dates = await asyncio.gather(
        ctx.step.run("find-emails", find_all, path, r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
        ctx.step.run("find-dates", find_all, path, r"\b\d{4}-\d\d-\d\d\b"),
    )
    return {"emails": emails, "dates": dates}


# What the steps do. A step's result is kept in the journal: give paths and findings to each other, not whole texts.


def read(path: str) -> str:
    """The text. A relative path begins at the folder of `fanout.toml`."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        # Another attempt would not find it either.
        raise NonRetriableError(f"there is no file `{path}`") from None


def sections_of(text: str) -> dict[str, str]:
    """The text below each line that begins with `# `."""
    return dict(re.findall(r"^# (.+)\n((?:(?!# ).*\n?)*)", text, re.MULTILINE))


def find_titles(path: str) -> list[str]:
    return list(sections_of(read(path)))


def count_words(path: str, title: str) -> int:
    return len(sections_of(read(path))[title].split())


def find_all(path: str, pattern: str) -> list[str]:
    return sorted(set(re.findall(pattern, read(path))))
