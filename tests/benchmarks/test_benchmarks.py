"""Each workload at a tiny scale, through the real command line: it runs to its end and prints its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks import measure
from benchmarks.catalogue import WORKLOADS
from benchmarks.crowd import check_limits
from benchmarks.measure import BenchmarkError, Deadline, figure, percentile
from benchmarks.report import json_line, table
from benchmarks.sending import check_counts, check_runs
from benchmarks.settings import Options, Result, Sample
from benchmarks.waits import resolved_at
from fanout.model import Run, RunState, Step, StepKind, StepState

FENCE_S = 120
TOP = Path(__file__).parents[2]
SETTINGS = {"cores", "processes", "slots", "synchronous", "payload_bytes", "fanout", "python", "sqlite", "system"}
FAN_OUT = {"events_per_s", "runs_per_s", "steps_per_s", "wall_s", "cpu_s"}
PEAK, MEMORY = ({"peak_mb"}, {"memory_mb"}) if measure.can_see_processes() else (set[str](), set[str]())
CROWD = {"start_s", "start_empty_s", "bytes_a_run", "waiting_per_s"} | ({"memory_mb", "making_mb"} if MEMORY else set())
MAPPED = {"cpu_s", "engine_peak_mb", "parent_peak_mb", "parent_10_mb", "parent_50_mb", "parent_90_mb"}
FIGURES = {
    "W1": FAN_OUT | PEAK,
    "W1a": FAN_OUT | PEAK,
    "W2": {"p50_ms", "p99_ms", "wall_s"},
    "W3": {"wall_s", "cpu_s", "python_s", "version_s", "no_op_s", "help_s", "runs_s", "no_wait_s"},
    "W4": {"items_per_s", "wall_s"} | (MAPPED if MEMORY else set()),
    "W5": {"ended_p50_ms", "ended_p99_ms", "resolved_p50_ms", "resolved_p99_ms"} | CROWD,
    "W6": {"mb_per_s", "wall_s"} | PEAK,
    "W7": {"start_s", "start_empty_s", "runs_per_s", "w1_runs_per_s", "ratio", "wall_s", "prepare_s"}
    | MEMORY
    | ({"memory_200k_mb"} if MEMORY else set()),
    "W8": {"runs_per_s", "steps_per_s", "ratio", "wall_s", "wal_mb", "samples"}
    | MEMORY
    | ({"cpu_ratio", "descriptors", "processes"} if MEMORY else set()),
    "W9": {"late_p50_ms", "late_p99_ms", "late_max_ms"} | CROWD,
    "W10": {f"{limit}_{what}" for limit in ("one", "roomy") for what in ("few_us", "many_us", "ratio", "begin_ms")},
    "W11": {f"{limit}_{what}" for limit in ("one", "two", "roomy") for what in ("alone_ms", "beside_ms", "ratio")},
    "W12": {"few_us", "many_us", "tails_us"},
    "W13": {"tick_p50_ms", "tick_p99_ms", "tick_max_ms", "quiet_tick_p99_ms", "late_p50_ms", "late_p99_ms"}
    | {"late_max_ms", "runs_per_s", "wall_s", "prepare_s", "journal_mb"},
    "W14": {"events_per_s", "p50_ms", "p99_ms", "max_ms", "lag_s"} | PEAK,
}


def benchmarks(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(TOP)}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=TOP, env=environment, capture_output=True, text=True, timeout=FENCE_S, check=False,
    )  # fmt: skip


def figures_of(folder: Path, name: str, *arguments: str) -> dict[str, Any]:
    done = benchmarks(folder, name, "--json", "--rounds", "1", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    line: dict[str, Any] = json.loads(done.stdout)
    assert line["workload"] == name
    assert set(line["figures"]) == FIGURES[name]
    assert set(line["settings"]) >= SETTINGS
    assert line["settings"]["synchronous"] == "FULL"
    assert line["settings"]["processes"] == 2
    assert list(folder.iterdir()) == []
    figures: dict[str, Any] = line["figures"]
    return figures


@pytest.mark.parametrize("name", ["W1", "W1a"])
def test_a_fan_out_gives_its_throughput(tmp_path: Path, name: str) -> None:
    figures = figures_of(tmp_path, name, "--scale", "0.01")
    assert figures["runs_per_s"] == pytest.approx(3 * figures["events_per_s"], rel=0.001)
    assert figures["steps_per_s"] == pytest.approx(2 * figures["runs_per_s"], rel=0.001)


def test_latency_has_a_median_and_a_tail(tmp_path: Path) -> None:
    figures = figures_of(tmp_path, "W2", "--scale", "0.05")
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]


def test_a_cold_send_is_a_whole_process(tmp_path: Path) -> None:
    figures = figures_of(tmp_path, "W3", "--scale", "0.1")
    assert figures["wall_s"] > figures["version_s"] > 0


def test_a_map_gives_its_items_a_second(tmp_path: Path) -> None:
    figures = figures_of(tmp_path, "W4", "--scale", "0.02")
    assert figures["items_per_s"] == pytest.approx(1000 / figures["wall_s"], rel=0.01)
    if MEMORY:
        assert figures["parent_peak_mb"] >= figures["parent_10_mb"] > 1


def test_an_event_wakes_the_run_that_waits_for_it(tmp_path: Path) -> None:
    figures = figures_of(tmp_path, "W5", "--scale", "0.02")
    assert 0 < figures["ended_p50_ms"] <= figures["ended_p99_ms"]
    assert figures["resolved_p50_ms"] < figures["ended_p50_ms"]
    assert 0 < figures["bytes_a_run"] < 2000


def test_payload_gives_megabytes_a_second(tmp_path: Path) -> None:
    figures = figures_of(tmp_path, "W6", "--scale", "0.02")
    assert figures["mb_per_s"] == pytest.approx(4 / figures["wall_s"], rel=0.01)


def test_a_backlog_is_compared_with_an_empty_journal(tmp_path: Path) -> None:
    figures = figures_of(tmp_path, "W7", "--scale", "0.002")
    assert figures["ratio"] == pytest.approx(figures["runs_per_s"] / figures["w1_runs_per_s"], rel=0.01)


def test_posting_gives_events_a_second_and_how_far_the_engine_is_behind(tmp_path: Path) -> None:
    figures = figures_of(tmp_path, "W14", "--scale", "0.01")
    assert figures["events_per_s"] > 1
    assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]


def test_a_soak_is_sampled_ten_times(tmp_path: Path) -> None:
    figures = figures_of(tmp_path, "W8", "--runs", "90")
    assert [sample["runs"] for sample in figures["samples"]] == [9 * number for number in range(1, 11)]


def test_an_engine_holds_no_more_after_many_runs_than_after_some(tmp_path: Path) -> None:
    """The first tenth has warmed it up. What 6,000 runs leave is far less than a kilobyte each would be."""
    figures = figures_of(tmp_path, "W8", "--runs", "6000")
    assert figures["wal_mb"] < 16
    if MEMORY:
        assert (figures["descriptors"], figures["processes"]) == (0, 0)
        assert figures["memory_mb"] < 4


def test_sleepers_are_woken_beside_others_that_sleep_on(tmp_path: Path) -> None:
    figures = figures_of(tmp_path, "W9", "--scale", "0.01")
    assert 0 <= figures["late_p50_ms"] <= figures["late_p99_ms"] <= figures["late_max_ms"]
    assert 0 < figures["bytes_a_run"] < 2000


def test_a_choice_is_compared_with_one_among_fewer_keys(tmp_path: Path) -> None:
    figures = figures_of(tmp_path, "W10", "--scale", "0.01")
    for limit in ("one", "roomy"):
        assert figures[f"{limit}_ratio"] == pytest.approx(
            figures[f"{limit}_many_us"] / figures[f"{limit}_few_us"], rel=0.01
        )


def test_a_key_beside_another_is_compared_with_itself_alone(tmp_path: Path) -> None:
    figures = figures_of(tmp_path, "W11", "--scale", "0.01")
    assert figures["one_alone_ms"] >= 10 * 20
    assert figures["two_alone_ms"] >= 5 * 20
    assert figures["roomy_ratio"] == pytest.approx(figures["roomy_beside_ms"] / figures["roomy_alone_ms"], rel=0.01)


def test_matching_is_timed_with_and_without_open_tails(tmp_path: Path) -> None:
    figures = figures_of(tmp_path, "W12", "--scale", "0.1")
    assert all(took > 0 for took in figures.values())


def test_no_argument_lists_the_workloads(tmp_path: Path) -> None:
    done = benchmarks(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(WORKLOADS) == list(FIGURES)


def test_an_unknown_workload_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    done = benchmarks(tmp_path, "W1", "W0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: there is no workload `W0`\nhint: there are W1, W1a, W2, W3, W4, W5, W6, W7, W8, W9, W10, W11, W12, W13, W14\n"
    )


def test_a_workload_that_takes_too_long_fails(tmp_path: Path) -> None:
    done = benchmarks(tmp_path, "W1", "--timeout", "0.001")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: W1: the time is over; `--timeout` allows more\n"
    assert list(tmp_path.iterdir()) == []


def a_run(state: RunState = RunState.COMPLETED, *outputs: bytes) -> Run:
    steps = tuple(
        Step(
            name=str(number), kind=StepKind.RUN, state=StepState.COMPLETED, attempts=1, started_at=1, ended_at=2,
            output=msgspec.Raw(output),
        )
        for number, output in enumerate(outputs)
    )  # fmt: skip
    return Run(
        key=1, id="R", function="first", event_id="E", event_name="bench/event", state=state, reason=None, attempts=1,
        max_attempts=5, queued_at=1, due_at=None, started_at=1, ended_at=2, steps=steps,
    )  # fmt: skip


def test_runs_as_they_should_be_pass() -> None:
    check_runs([a_run(RunState.COMPLETED, b'"x"', b'"y"')], expected=1, steps=2, payload_bytes=3)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "there should be 1 runs, there are 0"),
        ([a_run(RunState.FAILED, b'"x"')], "run `R` of `first` is failed, with 1 of 1 steps as they should be"),
        ([a_run(RunState.COMPLETED)], "run `R` of `first` is completed, with 0 of 1 steps as they should be"),
        (
            [a_run(RunState.COMPLETED, b'"x"', b'"y"')],
            "run `R` of `first` is completed, with 2 of 1 steps as they should be",
        ),
        ([a_run(RunState.COMPLETED, b'""')], "run `R` of `first` is completed, with 0 of 1 steps as they should be"),
    ],
)
def test_a_workload_can_fail(runs: list[Run], message: str) -> None:
    with pytest.raises(BenchmarkError) as caught:
        check_runs(runs, expected=1, steps=1, payload_bytes=3)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "there should be 2 completed runs, there are: none"),
        (
            {RunState.COMPLETED: 1, RunState.WAITING: 1},
            "there should be 2 completed runs, there are: 1 completed, 1 waiting",
        ),
    ],
)
def test_other_states_than_expected_are_an_error(counts: dict[RunState, int], message: str) -> None:
    with pytest.raises(BenchmarkError) as caught:
        check_counts(counts, {RunState.COMPLETED: 2, RunState.WAITING: 0})
    assert str(caught.value) == message


ANSWER = b'{"id":"E","name":"bench/answer","ts":1,"data":{"n":7}}'


def test_a_wait_was_resolved_by_its_own_event() -> None:
    assert resolved_at([a_run(RunState.COMPLETED, ANSWER)], 7) == 2.5


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [a_run(RunState.WAITING, ANSWER)],
        [a_run(RunState.COMPLETED, b"null")],
        [a_run(RunState.COMPLETED, ANSWER.replace(b"7", b"8"))],
        [a_run(RunState.COMPLETED, ANSWER), a_run(RunState.COMPLETED, ANSWER)],
    ],
)
def test_a_wait_that_was_not_is_an_error(runs: list[Run]) -> None:
    with pytest.raises(BenchmarkError, match="the run of event 7 was not completed by the event that it waited for"):
        resolved_at(runs, 7)


def test_limits_are_for_medians_at_the_whole_size() -> None:
    limits = {"start_s": 2.0, "not_measured_here": 1.0}
    check_limits({"start_s": figure(1, 1.9, 9)}, limits, Options())
    check_limits({"start_s": figure(9)}, limits, Options(scale=0.5))
    with pytest.raises(BenchmarkError, match=r"^`start_s` is 2, it has to be below 2$"):
        check_limits({"start_s": figure(1, 2, 2)}, limits, Options())


def test_figures_are_medians_with_their_extremes() -> None:
    assert figure(3, 1, 2) == measure.Figure(2, 1, 3)
    assert [percentile(range(1, 201), percent) for percent in (50, 99, 100)] == [100, 198, 200]
    assert percentile([7.0], 99) == 7.0


def test_a_deadline_that_is_over_raises() -> None:
    assert 0 < Deadline.after(10).remaining_s() <= 10
    with pytest.raises(BenchmarkError):
        Deadline.after(0).remaining_s()


@pytest.mark.skipif(not measure.can_see_processes(), reason="only where the system has /proc")
def test_a_tree_counts_children_that_live_and_that_have_ended() -> None:
    burn = "import time\nwhile time.process_time() < 0.1: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}]); print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 0.09 <= measure.tree_cpu_s(process.pid) < 5
        assert measure.tree_peak_mb(process.pid) == measure.peak_mb(process.pid) > 1
        process.communicate(b"\n")
    assert (measure.tree_cpu_s(process.pid), measure.tree_peak_mb(process.pid)) == (0.0, 0.0)


RESULT = Result(
    {"runs_per_s": figure(1000, 1234.56789, 2000), "wall_s": figure(12.3456)},
    {"cores": 2, "synchronous": "FULL"},
    (Sample(3000, 999.5, 0.125, 20.25, 4.5, 18, 3),),
)


def test_the_table_is_aligned() -> None:
    assert table("W0", "a title", RESULT) == (
        "W0  a title\n"
        "                median  lowest  highest\n"
        "    runs_per_s   1,235   1,000    2,000\n"
        "    wall_s        12.3\n"
        "\n"
        "    runs   runs/s  engine s/1,000  engine MB  WAL MB  descriptors  processes\n"
        "    3,000   1,000           0.125       20.2   4.500           18          3\n"
        "    (cores 2, synchronous FULL)"
    )


def test_the_line_of_json_has_medians_and_ranges() -> None:
    assert json.loads(json_line("W0", RESULT)) == {
        "workload": "W0",
        "figures": {
            "runs_per_s": 1234.5679,
            "wall_s": 12.3456,
            "samples": [
                {
                    "runs": 3000,
                    "runs_per_s": 999.5,
                    "cpu_s": 0.125,
                    "memory_mb": 20.25,
                    "wal_mb": 4.5,
                    "descriptors": 18,
                    "processes": 3,
                }
            ],
        },
        "ranges": {"runs_per_s": [1000, 2000]},
        "settings": {"cores": 2, "synchronous": "FULL"},
    }
