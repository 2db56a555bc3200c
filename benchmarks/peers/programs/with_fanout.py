"""fanout itself, through its public way in: `fanout serve`, and a client in this process."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from driving import FUNCTIONS, drive

import fanout
from benchmarks.measure import Deadline
from benchmarks.sending import follow_to_completion, send_in_batches
from fanout.client import watched_events

_MODULES = Path(__file__).parents[2] / "project"
_FAN_OUT = {"plain": "fan_out_plain", "async": "fan_out_async"}


def main(module: str) -> None:
    """In the working directory, which is empty."""
    for name in (module, "one_step"):
        shutil.copy(_MODULES / f"{name}.py", ".")
    # The function of one step has an event of its own here.
    one_step = Path("one_step.py")
    one_step.write_text(one_step.read_text().replace("bench/event", "bench/one"))
    Path("fanout.toml").write_text(
        f'[app]\nid = "bench"\nfunctions = ["{module}", "one_step"]\n\n[pool]\nprocesses = 2\n'
    )
    with Path("serve.log").open("wb") as log:
        engine = subprocess.Popen(
            [str(Path(sys.executable).with_name("fanout")), "serve", "--no-web"], stdout=log, stderr=log
        )
    try:
        while b"serving " not in Path("serve.log").read_bytes():
            time.sleep(0.002)
        with fanout.connect("fanout.toml") as client:
            drive(lambda events: _fan_out(client, events), lambda: _one(client))
    finally:
        engine.send_signal(signal.SIGINT)
        engine.wait()


def _fan_out(client: fanout.Client, events: int) -> None:
    accepted = send_in_batches(client, events, 100)
    follow_to_completion(client, watched_events(accepted), events * FUNCTIONS, Deadline.after(600))


def _one(client: fanout.Client) -> None:
    runs = client.wait(client.send({"name": "bench/one", "data": {}}), 60)
    if [str(run.state) for run in runs] != ["completed"]:
        raise SystemExit("the run is not completed")


if __name__ == "__main__":
    main(_FAN_OUT[sys.argv[1]])
