"""`ctx.step` of plain functions: durable steps in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

from fanout.codec import decode_json, encode_output
from fanout.worker.execution import Evicted, Execution, StepCall, Verdict, step_error
from fanout.worker.memory import leave_if_out_of_memory

P = ParamSpec("P")
T = TypeVar("T")


class ThreadCall:
    """A message that waits for its verdict, in a thread."""

    __slots__ = ("_lock", "_verdict")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._verdict = Verdict.EVICT

    def settle(self, verdict: Verdict) -> None:
        self._verdict = verdict
        self._lock.release()

    def wait(self) -> Verdict:
        with self._lock:  # given back at once: several threads may wait for one call
            return self._verdict


class Steps:
    """The steps of a plain function."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def run(self, name: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn(*args, **kwargs)` once and remember its result for ever.

        The value returned is the one that was recorded, now and at every replay: JSON, so a tuple comes
        back as a list. A step that raises is tried again after a while, as the function's `retries` say.

        Raises:
            StepError: the step is out of attempts.
            UsageError: the name is not usable, or this is inside another step.
        """
        execution = self._execution
        key, position = execution.reach(name)
        recorded = execution.remembered(key)
        if recorded is not None:
            return decode_json(recorded.output or "null")  # type: ignore[no-any-return]
        self._settle()
        call = ThreadCall()
        attempt = execution.begin(key, position)
        try:
            try:
                value = fn(*args, **kwargs)
            finally:
                attempt.leave()
            output = encode_output(f"step `{key}`", value)
        except Evicted:
            raise
        except BaseException as error:  # noqa: BLE001 - boundary: the user's code, sys.exit() included
            self._fail(key, attempt, error, call)
        execution.desk.link.post(attempt.completed(output, call))
        return decode_json(output)  # type: ignore[no-any-return]

    def _settle(self) -> None:
        """A step begins only when all before it are durable, and not when the execution has to leave."""
        execution = self._execution
        for number in tuple(execution.unrecorded):
            if execution.is_evicting:
                break
            # It stays in the list while this waits, so that an eviction finds it.
            call = execution.desk.calls.get(number)
            if isinstance(call, ThreadCall):
                call.wait()
            with suppress(ValueError):
                execution.unrecorded.remove(number)
        if execution.is_evicting:
            execution.has_left = True
            raise Evicted

    def _fail(self, key: str, attempt: StepCall, error: BaseException, call: ThreadCall) -> None:
        leave_if_out_of_memory(error)
        report = attempt.failed(error, call)
        self._execution.desk.link.post(report)
        if not self._execution.is_evicting and call.wait() is Verdict.GIVE_UP:
            raise step_error(key, report.failure) from error
        self._execution.has_left = True
        raise Evicted
