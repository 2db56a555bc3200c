"""Who sends events, one after another, each way that there is, and remembers what was accepted. Nobody sends a number twice."""

from __future__ import annotations

import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from tests.crashes.product import Product

EVENTS = ("go", "fail", "nap", "ask", "tree", "place", "branch")
HTTP, COMMAND, CLIENT = 1_000_000, 2_000_000, 3_000_000
_A_CLIENT = 10_000
"""So many numbers each process of clients has for itself."""
_TOP = Path(__file__).parents[2]


class Answer(NamedTuple):
    """An event that was accepted: its number, and its id as the answer says."""

    number: int
    id: str


def an_event(number: int) -> dict[str, object]:
    return {"name": f"app/{EVENTS[number % len(EVENTS)]}", "data": {"n": number, "key": f"key {number % 3}"}}


class Senders:
    """Two threads that post, one that runs commands, and a process with a client."""

    def __init__(self, product: Product, chance: random.Random, pause_s: float) -> None:
        self.answers: list[Answer] = []
        self.complaints: list[str] = []
        self._product = product
        self._pause_s = pause_s
        self._is_over = threading.Event()
        self._command: subprocess.Popen[bytes] | None = None
        self._client: subprocess.Popen[bytes] | None = None
        self._clients = 0
        works = (lambda: self._post(HTTP), lambda: self._post(HTTP + HTTP // 2), self._run_commands)
        self._chance = random.Random(chance.random())
        self._threads = [threading.Thread(target=work) for work in works]
        for thread in self._threads:
            thread.start()
        self.start_client()

    def close(self) -> None:
        """Returns when the last has its answer, or has given up."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        self.kill_client()
        for line in self._said_by_clients().splitlines():
            number, id_ = line.split()
            self.answers.append(Answer(int(number), id_))

    def _said_by_clients(self) -> str:
        path = self._product.root / "answers.txt"
        return path.read_text() if path.exists() else ""

    def _post(self, number: int) -> None:
        """Every other event has an id of its own, and is posted until it is answered."""
        connection = http.client.HTTPConnection("127.0.0.1", self._product.port, timeout=10)
        while not self._is_over.is_set():
            number += 1
            event = an_event(number)
            if number % 2:
                event["id"] = f"given-{number}"
            answer = self._post_once(connection, event)
            while answer is None and "id" in event and not self._is_over.wait(0.05):
                answer = self._post_once(connection, event)
            if answer is not None:
                self.answers.append(Answer(number, answer))
            self._is_over.wait(self._pause_s)
        connection.close()

    def _post_once(self, connection: http.client.HTTPConnection, event: dict[str, object]) -> str | None:
        try:
            connection.request("POST", "/e/k", json.dumps(event), {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            connection.close()
            return None
        if response.status != 200:
            self.complaints.append(f"an event was answered with {response.status}: {answer}")
            return None
        [id_] = answer["ids"]
        return str(id_)

    def _run_commands(self) -> None:
        number = COMMAND
        while not self._is_over.wait(self._pause_s * 10):
            number += 1
            event = an_event(number)
            waiting = ("--timeout", "1") if self._chance.random() < 0.2 else ("--no-wait",)
            name, data = str(event["name"]), json.dumps(event["data"])
            self._command = process = self._product.command(
                "send", "--name", name, "--data", data, "--json", *waiting, out=subprocess.PIPE
            )
            out, _ = process.communicate()
            if process.returncode < 0:
                continue  # It was killed; its event is there or not.
            if process.returncode not in (0, 1, 5):
                self.complaints.append(f"`fanout send` ended with code {process.returncode}")
                continue
            [told] = json.loads(out)["events"]
            self.answers.append(Answer(number, told["id"]))

    def kill_command(self) -> None:
        process = self._command
        if process is not None and process.poll() is None:
            process.kill()

    def start_client(self) -> None:
        first = CLIENT + self._clients * _A_CLIENT
        self._clients += 1
        self._client = subprocess.Popen(
            [sys.executable, "-m", "tests.crashes.senders", str(self._product.root), str(first), str(self._pause_s)],
            cwd=_TOP, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def kill_client(self) -> None:
        if self._client is not None:
            if (code := self._client.poll()) is not None:
                self.complaints.append(f"the process of clients has ended by itself, with code {code}")
            self._client.kill()
            self._client.wait()


def send_as_a_client(root: Path, first: int, pause_s: float) -> None:
    """Until it is killed. What has been accepted is in the file `answers.txt`, as soon as it is known."""
    import fanout

    file = os.open(root / "answers.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    while not (root / ".fanout" / "journal.db").exists():
        time.sleep(0.01)
    with fanout.connect(root / "fanout.toml") as client:
        for start in range(first, first + _A_CLIENT, 3):
            accepted = client.send(*(an_event(number) for number in range(start, start + 3)))
            lines = (f"{start + place} {event.id}\n" for place, event in enumerate(accepted))
            os.write(file, "".join(lines).encode())
            time.sleep(pause_s * 3)


if __name__ == "__main__":
    send_as_a_client(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
