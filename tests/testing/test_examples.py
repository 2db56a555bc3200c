"""The examples of this repository, run both ways: by the real command with worker processes, and by the testing kit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fanout.journal.sqlite_reader import JournalReader
from fanout.model import Failure, Run
from fanout.testing import Project
from tests.functions.conftest import ROOT, Examples

EVENTS = ROOT / "functions" / "events"
TS = 1_760_000_000_000
"""9 October 2025: what the examples compute from an event's time is the same each time."""


def event(name: str, number: int = 1, **data: Any) -> dict[str, Any]:
    read = json.loads((EVENTS / name).read_text())
    return {"name": read["name"], "data": {**read["data"], **data}, "id": f"evt_{number}", "ts": TS + number}


def lines(name: str) -> list[dict[str, Any]]:
    read = [json.loads(line) for line in (EVENTS / name).read_text().splitlines()]
    return [{**each, "id": f"evt_{number}", "ts": TS} for number, each in enumerate(read)]


TIM = {"id": "usr_3", "name": "Tim", "email": "tim"}
# Each is what is sent, one request after another.
STORIES: dict[str, list[list[dict[str, Any]]]] = {
    "a signup": [[event("signup.json")]],
    "a signup without a user": [[event("signup.json", user=None)]],
    "a signup with a plan that is none": [[event("signup.json", plan="gold")]],
    "many signups": [lines("signups.ndjson")],
    "a document": [[event("document.json")]],
    "a document that is not there": [[event("document.json", path="nowhere.txt")]],
    "models": [[event("evaluate.json", failure_rate=0)]],
    "a model that is none": [[event("evaluate_missing.json", failure_rate=0)]],
    "a model that always fails": [[event("evaluate.json", failure_rate=1, models=["first"])]],
    "weekly activity": [[event("weekly_activity.json")]],
    "weekly activity, asked for twice": [[event("weekly_activity.json")], [event("weekly_activity.json", 2)]],
    "a user who waits": [[event("onboarding.json")]],
    "a user who begins": [[event("onboarding.json")], [event("onboarding_activated.json", 2)]],
    "a user who is deleted": [[event("onboarding.json")], [event("onboarding_deleted.json", 2)]],
    "a user who is nudged": [[event("onboarding_impatient.json", patience="50ms")]],
    "a user without an address": [[event("onboarding.json", user=TIM)]],
}


class Story:
    """What runs and events there were, without what differs each time: ids, times, and the folder."""

    def __init__(self, runs: list[Run], events: list[tuple[str, str, str | None]], root: Path) -> None:
        self._names = {run.id: f"<{run.function}>" for run in runs}
        self._root = str(root)
        self.runs = sorted(
            (_settled(self._shown(run)) for run in runs), key=lambda run: json.dumps(run, sort_keys=True)
        )
        self.events = sorted(
            (name, self._text(data), id_ if id_ and len(id_) != 26 else "") for name, data, id_ in events
        )

    def _text(self, text: str) -> str:
        for id_, name in self._names.items():
            text = text.replace(id_, name)
        return text.replace(self._root, "<root>").replace(str(ROOT), "<root>")

    def _json(self, value: msgspec.Raw | None) -> Any:
        return None if value is None else json.loads(self._text(bytes(value).decode()))

    def _error(self, error: Failure | None) -> Any:
        return None if error is None else [error.type, self._text(error.message), self._text(error.traceback)]

    def _shown(self, run: Run) -> dict[str, Any]:
        steps = [
            {
                "name": step.name, "kind": step.kind, "state": step.state, "attempts": step.attempts,
                "output": self._json(step.output) if step.kind != "send" else None, "error": self._error(step.error),
            }
            for step in run.steps
        ]  # fmt: skip
        return {
            "function": run.function, "event": run.event_name, "state": run.state, "reason": run.reason,
            "attempts": run.attempts, "output": self._json(run.output), "error": self._error(run.error),
            "steps": sorted(steps, key=lambda step: str(step["name"])),
        }  # fmt: skip


def _settled(run: dict[str, Any]) -> dict[str, Any]:
    """Which of several branches fails first, and how far the others come, is a race of threads in a worker."""
    is_race = run["function"] == "extract-entities" and run["state"] == "failed"
    return {**run, "error": None, "steps": None} if is_race else run


def by_the_command(examples: Examples, requests: list[list[dict[str, Any]]]) -> Story:
    for number, request in enumerate(requests):
        file = examples.root / f"request-{number}.ndjson"
        file.write_text("".join(f"{json.dumps(each)}\n" for each in request))
        examples.fanout("send", str(file), "--json").json()
    with JournalReader(examples.journal) as reader:
        keys = [run.key for run in reader.runs(limit=1_000)]
        runs = list(reader.runs_with_steps(keys, outputs=True).values())
    sql = "SELECT name, data, id FROM event WHERE origin IS NOT NULL AND key > 0"
    return Story(runs, [(row[0], row[1], row[2]) for row in examples.query(sql)], examples.root)


def by_the_kit(root: Path, requests: list[list[dict[str, Any]]]) -> Story:
    with Project(ROOT) as project:
        for request in requests:
            project.send(*request)
            project.advance("30s")  # The command sits out waits that are no longer, with the delays of `[dev]`.
        journal = project._stage.journal
        until = project.now + 86_400_000
        while any(step.state == "retrying" for key in journal.run_keys() for step in journal.run_with_steps(key).steps):
            assert project.now < until
            project.advance("1h")
        runs = [journal.run_with_steps(key) for key in journal.run_keys()]
        sent = [each for each in journal.received() if each.origin is not None and each.key > 0]
        texts: list[tuple[str, str, str | None]] = [
            (each.event.name, msgspec.json.encode(each.event.data).decode(), each.event.id) for each in sent
        ]
    return Story(runs, texts, root)


@pytest.mark.parametrize("name", STORIES)
def test_an_example_comes_to_the_same_both_ways(
    name: str, examples: Examples, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SMTP_HOST", raising=False)
    really = by_the_command(examples, STORIES[name])
    here = Examples(tmp_path_factory.mktemp("kit"))
    here.journal.parent.mkdir()
    monkeypatch.chdir(here.root)

    kit = by_the_kit(here.root, STORIES[name])

    assert kit.runs == really.runs
    assert kit.events == really.events
    assert really.runs


def test_every_example_has_a_story() -> None:
    with Project(ROOT) as project:
        functions = set(project._ids)
    sent = {each["name"] for requests in STORIES.values() for request in requests for each in request}
    for file in EVENTS.glob("*.json"):
        assert json.loads(file.read_text())["name"] in sent
    assert functions == {
        "add-to-mailing-list", "ask-model", "classify-document", "evaluate-prompt", "extract-entities", "onboard-user",
        "onboard-user-on-failure", "send-welcome-email", "start-trial", "summarize-document", "sync-crm",
        "weekly-activity-load-users", "weekly-activity-send-email",
    }  # fmt: skip
