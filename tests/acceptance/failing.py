"""A `fanout serve` to which things happen, watched from outside: what it says, what it answers, what its functions do."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .conftest import Project, until

CODE = """
@fanout.function(trigger=fanout.on("app/go"), retries=0)
def go(ctx: Context):
    n = ctx.event.data["n"]
    def effect():
        note(f"begun {n}")
        while (HERE / "closed").exists():
            time.sleep(0.005)
        note(f"done {n}")
    ctx.step.run("effect", effect)
    return n
"""


class Served:
    """The process, and all that it says, as it says it."""

    def __init__(self, project: Project, process: subprocess.Popen[str]) -> None:
        self.project = project
        self.process = process
        self.said: list[str] = []
        self.accepted: list[int] = []
        self.refused: list[int] = []
        assert process.stderr is not None
        first = process.stderr.readline()
        assert first.startswith("serving"), first + process.stderr.read()
        self.url = first.split(" at ")[1].split(";")[0].strip()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))

    def close(self) -> None:
        self._reader.join()
        for end in (self.process.stdout, self.process.stderr):
            if end is not None:
                end.close()

    def errors(self) -> list[str]:
        return [line for line in self.said if line.startswith("error:")]

    def call(self, path: str, body: Any = None) -> tuple[int, Any]:
        """The answer, or 0 if there is none."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")
        except OSError:
            return 0, None

    def health(self) -> tuple[int, Any]:
        return self.call("/health")

    def is_well(self) -> bool:
        return self.health()[0] == 200 and self.health()[1]["engine"]

    def send(self, number: int) -> bool:
        """Whether it was accepted."""
        status, _ = self.call("/e", {"name": "app/go", "data": {"n": number}})
        (self.accepted if status == 200 else self.refused).append(number)
        return status == 200

    def effects(self) -> Counter[int]:
        """How often the step of each number has come to its end."""
        return Counter(int(note[5:]) for note in self.project.notes() if note.startswith("done "))

    def until_done(self) -> None:
        """All that was accepted has its effect; none has it twice, unless `again` may."""
        until(lambda: set(self.accepted) <= set(self.effects()), f"the effects of {len(self.accepted)} events")


@contextmanager
def served(project: Project, *options: str, toml: str = "") -> Iterator[Served]:
    project.write(CODE, toml=toml)
    process = project.start("serve", "--port", "0", *options)
    it = Served(project, process)
    try:
        yield it
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        it.close()


def run_states(project: Project) -> Counter[str]:
    return Counter(state for (state,) in project.query("SELECT state FROM run"))
