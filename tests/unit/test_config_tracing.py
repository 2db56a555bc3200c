"""Whether there are traces, and which, by what the file and the environment say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import sampling as theirs

from fanout import config_tracing
from fanout.config import Config, load
from fanout.config_tracing import has_service_name, sampling_of, service_of, warning
from fanout.core.sampling import EVERYTHING, Sampling
from fanout.errors import ConfigError

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return said(tmp_path, "")


def said(folder: Path, more: str) -> Config:
    path = folder / "fanout.toml"
    path.write_text(f'[app]\nid = "shop"\nfunctions = ["work"]\n{more}')
    return load(path)


@pytest.mark.parametrize(
    ("toml", "environment", "expected"),
    [
        ("", {}, None),
        ("", {"OTEL_SERVICE_NAME": "shop"}, None),
        ("", ENDPOINT, EVERYTHING),
        ("", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, EVERYTHING),
        ("[otel]\nenabled = true\n", {}, EVERYTHING),
        ("[otel]\nenabled = false\n", ENDPOINT, None),
        ("", {**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, None),
        ("[otel]\nenabled = true\n", {"OTEL_SDK_DISABLED": "true"}, None),
        ("", {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, None),
        ("", {**ENDPOINT, "OTEL_TRACES_EXPORTER": "otlp"}, EVERYTHING),
        ("", {**ENDPOINT, "OTEL_TRACES_SAMPLER": "parentbased_always_on"}, EVERYTHING),
        ("", {**ENDPOINT, "OTEL_TRACES_SAMPLER": "always_on"}, Sampling(1.0, False)),
        ("", {**ENDPOINT, "OTEL_TRACES_SAMPLER": "parentbased_always_off"}, Sampling(0.0, True)),
        ("", {**ENDPOINT, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, (0.25, False)),
        ("", {**ENDPOINT, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}, EVERYTHING),
        ("", {**ENDPOINT, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "7"}, (1.0, False)),
        ("", {**ENDPOINT, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "some"}, (1.0, False)),
        ("", {**ENDPOINT, "OTEL_TRACES_SAMPLER": "jaeger_remote"}, EVERYTHING),
    ],
)  # fmt: skip
def test_which_traces_are_exported(
    tmp_path: Path, toml: str, environment: dict[str, str], expected: Sampling | None
) -> None:
    assert sampling_of(said(tmp_path, toml), environment) == expected


@pytest.mark.parametrize("value", ["1", '"yes"', "[]"])
def test_it_is_on_or_off(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=r"line 5: `\[otel\] enabled` has to be true or false"):
        said(tmp_path, f"[otel]\nenabled = {value}\n")


def test_what_the_file_asks_for_has_to_be_installed(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_tracing, "_NEEDED", ("opentelemetry.that.is_not_there",))
    with pytest.raises(ConfigError) as caught:
        sampling_of(said(tmp_path, "[otel]\nenabled = true\n"), {})
    assert caught.value.hint == "`pip install 'fanout[otel]'`"
    assert sampling_of(config, ENDPOINT) is None
    assert warning(config, {}) is None
    assert warning(config, ENDPOINT) == (
        "there are no traces: OpenTelemetry is not installed; `pip install 'fanout[otel]'`"
    )


def test_another_protocol_is_not_spoken(config: Config) -> None:
    said = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert warning(config, said) is None
    assert warning(config, ENDPOINT | said) == "traces are sent as http/protobuf, not as grpc"
    assert warning(config, ENDPOINT | said | {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}) is None


def test_of_which_service_a_function_is(tmp_path: Path, config: Config) -> None:
    assert service_of(config, "charge") == "shop"
    path = tmp_path / "fanout.toml"
    path.write_text('[[apps]]\nid = "shop"\nfunctions = ["work"]\n[[apps]]\nid = "billing"\nfunctions = ["work"]\n')
    assert service_of(load(path), "billing/charge") == "billing"
    assert [
        has_service_name(environment)
        for environment in (
            {},
            {"OTEL_SERVICE_NAME": "x"},
            {"OTEL_RESOURCE_ATTRIBUTES": "a=b, service.name=x"},
            {"OTEL_RESOURCE_ATTRIBUTES": "my.service.name=x"},
        )
    ] == [False, True, True, False]


@given(st.integers(1, 2**128 - 1), st.floats(0, 1))
def test_the_share_is_that_of_opentelemetrys_own_sampler(trace: int, share: float) -> None:
    decision = theirs.TraceIdRatioBased(share).should_sample(None, trace, "x").decision
    assert Sampling(share).takes(trace) == (decision is theirs.Decision.RECORD_AND_SAMPLE)


@pytest.mark.parametrize("is_sent", [True, False])
def test_the_sender_decides_unless_it_is_not_asked(is_sent: bool) -> None:
    assert Sampling(0.0).takes(7, is_sent=is_sent) is is_sent
    assert Sampling(1.0, asks_sender=False).takes(7, is_sent=is_sent) is True
