"""What functions print and log arrives in whole lines, each with its run, its step and its attempt."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

from fanout.engine.pool import Codebase, LocalPool, Lost
from fanout.model import StepState
from fanout.protocol import (
    Described,
    Load,
    Logged,
    Parked,
    Recorded,
    RunCompleted,
    RunFailed,
    Start,
    StepCompleted,
    StepFailed,
)
from tests.worker.conftest import CLAIM, FENCE_S, Worker, changed, recorded

CODE = """
import logging
import logging.config
import os
import queue
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

LOG = logging.getLogger("shop")


def say(*words, **how):
    print(*words, **how)


@fanout.function()
def streams(ctx):
    print("before")
    ctx.step.run("one", say, "in", "one")
    print("between")
    ctx.step.run("one", say, "again", file=sys.stderr)
    sys.stdout.writelines(["a\\n", "b\\n"])
    print("three\\nlines\\n")
    print("no", end=" ")
    print("end", end="")


@fanout.function()
def logs(ctx):
    def step():
        LOG.debug("nobody wants to know")
        LOG.info("for %s", "Ada")
        logging.warning("at the root")
    ctx.step.run("step", step)
    ctx.logger.info("of the function")
    try:
        raise ValueError("no")
    except ValueError:
        ctx.logger.exception("it failed")
    LOG.info("%d", "no number")
    class Odd:
        def __str__(self): raise RuntimeError
    LOG.error(Odd())
    logging.raiseExceptions = False


@fanout.function()
def handlers(ctx):
    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG, format="theirs %(message)s", force=True)
    LOG.debug("once")
    warnings.warn("a warning")


def print_slowly(word):
    for number in range(200):
        print(word, end=" ")
        if number % 20 == 0:
            time.sleep(0)
        print(number)


@fanout.function()
def slow(ctx):
    word = ctx.event.data["word"]
    print_slowly(word)
    ctx.step.run("slow", print_slowly, word)


async def print_in_turns(word):
    for number in range(50):
        print(word, end=" ")
        await asyncio.sleep(0)
        print(number)


@fanout.function()
async def turns(ctx):
    word = ctx.event.data["word"]
    await print_in_turns(word)
    await asyncio.gather(*(ctx.step.run(f"{word}{i}", print_in_turns, f"{word}{i}") for i in range(3)))
    await ctx.step.run("thread", print_slowly, word)


@fanout.function()
def branches(ctx):
    def branch(name):
        def go():
            print_slowly(f"body {name}")
            ctx.step.run(name, print_slowly, name)
        return go
    ctx.step.parallel(*(branch(name) for name in "abc"))


@fanout.function()
def flaky(ctx):
    def step():
        print("half a", end="")
        raise ValueError
    ctx.step.run("flaky", step)


@fanout.function()
def odd(ctx):
    print("x" * 100_000)
    print("é" * 8192)
    print("y" * 8192)
    print("\\x1b[2J\\x00\\u2028[bold]\\r")
    sys.stderr.write(os.fsdecode(b"\\xff") + "\\n")
    sys.stdout.buffer.write(b"\\xff raw\\n")
    sys.stdout.flush()
    for _ in range(100):
        print("." * 1000, end="")
    print()


def answer():
    while True:
        print(ASKED.get())
        ASKED.task_done()


ASKED = queue.Queue()
threading.Thread(target=answer, daemon=True).start()
BEFORE = ThreadPoolExecutor(1)
BEFORE.submit(int).result()


class Library(threading.Thread):
    def run(self):
        LOG.info("in a thread")


def in_threads():
    begun = threading.Thread(target=LOG.warning, args=("begun here",))
    begun.start()
    begun.join()
    library = Library()
    library.start()
    library.join()
    timer = threading.Timer(0, print, ["a timer"])
    timer.start()
    timer.join()
    with ThreadPoolExecutor(1) as pool:
        list(pool.map(print, ["in a pool"]))


@fanout.function()
def threads(ctx):
    ctx.step.run("step", in_threads)
    in_threads()


@fanout.function()
def refused(ctx):
    thread = threading.Thread(target=print, args=("at last",))
    begin = getattr(threading, BEGIN)
    setattr(threading, BEGIN, no_more_threads)
    try:
        thread.start()
    except RuntimeError:
        setattr(threading, BEGIN, begin)
        thread.start()
        thread.join()


BEGIN = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"


def no_more_threads(*_, **__):
    raise RuntimeError("can't start new thread")


@fanout.function()
def lends(ctx):
    LENT.submit(print, "of the run").result()
    BESIDE.put(print)
    BESIDE.join()


def work():
    while True:
        LENT.submit(BESIDE.get(), "nobody's, in a thread that a run's work has started").result()
        BESIDE.task_done()


LENT = ThreadPoolExecutor(1)
BESIDE = queue.Queue()
threading.Thread(target=work, daemon=True).start()


@fanout.function()
async def tasks(ctx):
    async def log(word):
        LOG.info(word)
    async def step():
        await asyncio.gather(log("gathered"), log("too"))
        await asyncio.create_task(log("a task"))
        await asyncio.to_thread(LOG.info, "to a thread")
        await asyncio.get_running_loop().run_in_executor(None, LOG.info, "in an executor")
    await ctx.step.run("step", step)
    await step()


@fanout.function()
def outlives(ctx):
    gate = threading.Event()
    LEFT.append((gate, threading.Thread(target=lambda: (gate.wait(), print("too late")))))
    LEFT[-1][1].start()


@fanout.function()
def follows(ctx):
    gate, thread = LEFT.pop()
    gate.set()
    thread.join()
    print("mine")


LEFT = []


@fanout.function()
def configures(ctx):
    ctx.logger.info("before")
    logging.config.dictConfig({
        "version": 1,
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "f"}},
        "formatters": {"f": {"format": "theirs %(message)s"}},
        "root": {"level": "WARNING", "handlers": ["console"]},
        "loggers": {"quiet": {"level": "ERROR"}, "loud": {"level": 5, "propagate": False, "handlers": []}},
    })
    logging.getLogger("quiet").warning("not wanted")
    logging.getLogger("loud").log(7, "between levels")
    logging.getLogger("new").info("below the root's level")
    logging.getLogger("new").critical("new")
    LOG.error("one that was there, and is disabled")
    ctx.logger.info("after")


@fanout.function()
def elsewhere(ctx):
    BEFORE.submit(print, "from a run, in a thread of before").result()
    BEFORE.submit(lambda: BEFORE.submit(print, "and from there")).result().result()
    ASKED.put("somebody's own thread")
    ASKED.join()
    subprocess.run(["echo", "a child"])
    if os.fork() == 0:
        print("a fork")
        os._exit(0)
    os.wait()
    print("here")


@fanout.function()
def crashes(ctx):
    def step():
        for number in range(100):
            print(number)
        os.kill(os.getpid(), 11)
    ctx.step.run("crash", step)


@fanout.function()
def chatty(ctx):
    def step():
        for number in range(100_000):
            print("line", number)
    ctx.step.run("chat", step)

"""


def start(worker: Worker, function: str, run: str = "run", claim: int = CLAIM, data: str = "{}") -> None:
    worker.send(Start(claim, run, function, 0, ("id", "e", 1, data, None, None)))


def finish(worker: Worker, number: int = 1) -> None:
    """Acknowledge steps until so many runs have ended."""
    while number:
        match worker.next():
            case StepCompleted() as step:
                worker.send(Recorded((step.call,)))
            case RunCompleted():
                number -= 1


def said(worker: Worker, run: str = "run") -> list[tuple[str | None, str, str]]:
    return [(line.step, line.source, line.text) for line in worker.printed if line.run_id == run]


def test_lines_of_steps_and_of_what_is_between_them(worker: Worker) -> None:
    start(worker, "streams")
    finish(worker)
    assert said(worker) == [
        (None, "stdout", "before"),
        ("one", "stdout", "in one"),
        (None, "stdout", "between"),
        ("one#2", "stderr", "again"),
        (None, "stdout", "a"),
        (None, "stdout", "b"),
        (None, "stdout", "three"),
        (None, "stdout", "lines"),
        (None, "stdout", ""),
        (None, "stdout", "no end"),
    ]


def test_all_lines_are_there_when_the_end_of_their_run_is(worker: Worker) -> None:
    for claim in range(1, 300):
        start(worker, "streams", f"run {claim}", claim)
        while not isinstance(message := worker.next(), RunCompleted):
            if isinstance(message, StepCompleted):
                worker.send(Recorded((message.call,)))
        assert len(said(worker, f"run {claim}")) == 10


def test_records(worker: Worker) -> None:
    start(worker, "logs")
    finish(worker)
    first, second, third, fourth, fifth, sixth = worker.printed
    about = [(line.step, line.source, line.logger, line.text) for line in (first, second, third, fifth, sixth)]
    assert about == [
        ("step", "info", "shop", "for Ada"),
        ("step", "warning", "root", "at the root"),
        (None, "info", "fanout.logs", "of the function"),
        (None, "info", "shop", "a message that can't be shown: TypeError"),
        (None, "error", "shop", "a message that can't be shown: RuntimeError"),
    ]
    assert fourth.source == "error"
    assert fourth.text.splitlines()[:2] == ["it failed", "Traceback (most recent call last):"]
    assert fourth.text.splitlines()[-1] == "ValueError: no"


def test_what_the_codes_own_handlers_print_is_not_taken_twice(worker: Worker) -> None:
    start(worker, "handlers")
    finish(worker)
    assert said(worker)[0] == (None, "debug", "once")
    assert [source for _, source, _ in said(worker)[1:]] == ["stderr", "stderr"]
    assert "UserWarning: a warning" in said(worker)[1][2]


@pytest.mark.parametrize("function", ["slow", "turns"])
def test_runs_that_print_at_once_do_not_mix(worker: Worker, function: str) -> None:
    words = ["north", "east", "south", "west"]
    for claim, word in enumerate(words, 1):
        start(worker, function, word, claim, f'{{"word":"{word}"}}')
    finish(worker, len(words))
    for word in words:
        lines = said(worker, word)
        steps = {"slow": [(None, 200), ("slow", 200)]}.get(
            function, [(None, 50), *((f"{word}{i}", 50) for i in range(3)), ("thread", 200)]
        )
        for step, number in steps:
            name = word if step in (None, "slow", "thread") else step
            assert [text for where, _, text in lines if where == step] == [f"{name} {i}" for i in range(number)]


def test_branches_that_print_at_once_do_not_mix(worker: Worker) -> None:
    start(worker, "branches")
    finish(worker)
    lines = said(worker)
    for name in "abc":
        assert [text for step, _, text in lines if step == name] == [f"{name} {i}" for i in range(200)]
        body = [text for step, _, text in lines if step is None and text.startswith(f"body {name}")]
        assert body == [f"body {name} {i}" for i in range(200)]


def test_each_attempt_has_its_lines_and_a_step_ends_its_last_one(worker: Worker) -> None:
    start(worker, "flaky")
    worker.expect(StepFailed)
    worker.expect(Parked)
    worker.send(changed("flaky", StepState.RETRYING))
    worker.expect(StepFailed)
    worker.expect(Parked)
    worker.send(changed("flaky", StepState.FAILED, attempts=2))
    worker.expect(RunFailed)
    about = [(line.step, line.attempt, line.text) for line in worker.printed]
    assert about == [("flaky", 0, "half a"), ("flaky", 1, "half a")]


def test_a_run_that_goes_on_knows_how_often_its_step_was_tried(worker: Worker) -> None:
    worker.start("flaky", recorded("flaky", StepState.RETRYING, attempts=3))
    worker.expect(StepFailed)
    assert [line.attempt for line in worker.printed] == [3]


def test_long_lines_are_cut_and_odd_ones_are_text(worker: Worker) -> None:
    start(worker, "odd")
    finish(worker)
    texts = [line.text for line in worker.printed]
    assert texts == [
        "x" * 8192 + " ... (cut: it has 100,000 characters)",
        "é" * 4096 + " ... (cut: it has 8,192 characters)",
        "y" * 8192,
        "\x1b[2J\x00\u2028[bold]",
        "\\udcff",
        "." * 8192 + " ... (cut: it has 100,000 characters)",
    ]


def test_threads_speak_for_whoever_has_started_them(worker: Worker) -> None:
    start(worker, "threads")
    finish(worker)
    lines = [("warning", "begun here"), ("info", "in a thread"), ("stdout", "a timer"), ("stdout", "in a pool")]
    assert said(worker) == [(step, *line) for step in ("step", None) for line in lines]


def test_a_thread_that_could_not_be_started_can_be_started_later(worker: Worker) -> None:
    start(worker, "refused")
    finish(worker)
    assert said(worker) == [(None, "stdout", "at last")]


def test_a_thread_of_a_pool_is_not_for_ever_whose_work_has_started_it(worker: Worker) -> None:
    start(worker, "lends")
    finish(worker)
    assert said(worker) == [(None, "stdout", "of the run")]


def test_tasks_speak_for_whoever_has_started_them(worker: Worker) -> None:
    start(worker, "tasks")
    finish(worker)
    words = ["gathered", "too", "a task", "to a thread", "in an executor"]
    assert said(worker) == [(step, "info", word) for step in ("step", None) for word in words]


def test_a_thread_that_outlives_its_run_has_nothing_more_to_say(worker: Worker) -> None:
    start(worker, "outlives")
    finish(worker)
    start(worker, "follows", "another")
    finish(worker)
    assert (said(worker), said(worker, "another")) == ([], [(None, "stdout", "mine")])


def test_logging_that_the_code_sets_up_is_as_it_says(worker: Worker) -> None:
    start(worker, "configures")
    finish(worker)
    logged = [(line.source, line.logger, line.text) for line in worker.printed if line.logger is not None]
    assert logged == [
        ("info", "fanout.configures", "before"),
        ("level 7", "loud", "between levels"),
        ("critical", "new", "new"),
        ("info", "fanout.configures", "after"),
    ]


def test_what_is_not_known_to_be_of_a_run_is_left_alone(worker: Worker) -> None:
    start(worker, "elsewhere")
    finish(worker)
    texts = [text for _, _, text in said(worker)]
    assert texts == ["from a run, in a thread of before", "and from there", "here"]


def test_code_that_closes_what_it_has_not_opened_loses_only_its_log(tmp_path: Path) -> None:
    """Unless it closes the way to the engine as well."""
    code = "import os, fanout\n@fanout.function()\ndef closes(ctx):\n    os.close(PRINTED)\n    print('gone')\n    return 1\n"
    find = "import sys\nPRINTED = int(sys.argv[2])\n"
    (tmp_path / "work.py").write_text(find + code)
    worker = Worker(tmp_path, find + code)
    start(worker, "closes")
    assert worker.expect(RunCompleted).output == "1"
    assert worker.printed == []
    worker.close()


class Pool:
    """One worker, that may end."""

    def __init__(self, folder: Path, function: str) -> None:
        (folder / "work.py").write_text("import asyncio, threading, time, fanout\n" + CODE)
        self.shown: list[str] = []
        self.pool = LocalPool(
            {"": Codebase(sys.executable, Load(str(folder), ("work",), 4))}, on_output=self.shown.append
        )
        self.printed: list[Logged] = []
        self.pool.on_printed = self.printed.extend
        self.pool.start("")
        self._function = function

    def until(self, kind: type[object]) -> object:
        fence = time.monotonic() + FENCE_S
        while True:
            assert time.monotonic() < fence
            for _, message in self.pool.wait(0.1):
                if isinstance(message, Described):
                    self.pool.send(1, [Start(CLAIM, "run", self._function, 0, ("id", "e", 1, "{}", None, None))])
                elif isinstance(message, StepCompleted):
                    self.pool.send(1, [Recorded((message.call,))])
                if isinstance(message, kind):
                    return message


def test_a_crash_loses_no_line_that_was_written(tmp_path: Path) -> None:
    made = Pool(tmp_path, "crashes")
    lost = made.until(Lost)
    assert isinstance(lost, Lost)
    assert "SIGSEGV" in lost.reason
    assert [(line.step, line.text) for line in made.printed] == [("crash", str(number)) for number in range(100)]
    assert "99" in lost.tail  # and as before it is in the worker's last words
    made.pool.shut_down()


def test_a_hundred_thousand_lines_all_come_and_are_shown_as_before(tmp_path: Path) -> None:
    made = Pool(tmp_path, "chatty")
    made.until(RunCompleted)
    assert [line.text for line in made.printed] == [f"line {number}" for number in range(100_000)]
    made.pool.shut_down()
    assert [line for line in made.shown if re.match("line", line)] == [f"line {number}" for number in range(100_000)]


def test_megabytes_without_an_end_of_line_are_shown_in_parts_and_are_no_ones_last_words(tmp_path: Path) -> None:
    made = Pool(tmp_path, "crashes")
    with (tmp_path / "work.py").open("a") as file:
        file.write("\nimport os, sys\nsys.stdout.write('x' * 5_000_000)\nsys.stdout.flush()\nos._exit(1)\n")
    lost = made.until(Lost)
    assert isinstance(lost, Lost)
    assert sum(map(len, made.shown)) == 5_000_000
    assert max(map(len, made.shown)) <= 16 * 1024
    assert sum(map(len, lost.tail)) < 100_000
    made.pool.shut_down()
