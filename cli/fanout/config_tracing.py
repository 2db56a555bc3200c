"""Whether traces are exported, and which: by `fanout.toml` and by OpenTelemetry's own variables in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec

from fanout.config import Config
from fanout.config_text import shown_path
from fanout.core.sampling import EVERYTHING, Sampling
from fanout.errors import ConfigError

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_NEEDED = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_BY_PARENT = "parentbased_"


def sampling_of(config: Config, environ: Mapping[str, str] = os.environ) -> Sampling | None:
    """Which traces are exported; None if none are, as nobody has asked for any, or what it takes is not installed.

    Raises:
        ConfigError: the file asks for them, and the packages are not there.
    """
    if not _is_wanted(config, environ):
        return None
    if is_installed():
        return _sampling(environ)
    if config.otel:
        raise ConfigError(
            f"`{shown_path(config.path)}` has `[otel] enabled = true`, and OpenTelemetry is not installed",
            hint="`pip install 'fanout[otel]'`",
        )
    return None


def warning(config: Config, environ: Mapping[str, str] = os.environ) -> str | None:
    """What the environment asks for and does not get."""
    if not _is_wanted(config, environ):
        return None
    if not is_installed():
        return "there are no traces: OpenTelemetry is not installed; `pip install 'fanout[otel]'`"
    protocol = next((said for name in _PROTOCOLS if (said := environ.get(name, "").strip())), _PROTOCOL)
    return None if protocol == _PROTOCOL else f"traces are sent as {_PROTOCOL}, not as {protocol}"


def has_service_name(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment says of which service traces are; else each app is one."""
    attributes = environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")
    return bool(environ.get("OTEL_SERVICE_NAME")) or any(
        each.partition("=")[0].strip() == "service.name" for each in attributes
    )


def service_of(config: Config, function: str) -> str:
    """The app that a function, by its id, belongs to."""
    return function.partition("/")[0] if config.has_prefixes else config.apps[0].id


def _is_wanted(config: Config, environ: Mapping[str, str]) -> bool:
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return False
    return any(environ.get(name) for name in _ENDPOINTS) if config.otel is None else config.otel


def is_installed() -> bool:
    """Whether this interpreter has what exporting takes."""
    try:
        return all(find_spec(name) is not None for name in _NEEDED)
    except ModuleNotFoundError:
        return False


def _sampling(environ: Mapping[str, str]) -> Sampling:
    """As OpenTelemetry's variables say; what can't be understood is all of them there, too."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    kind = name.removeprefix(_BY_PARENT)
    if kind not in ("always_on", "always_off", "traceidratio"):
        return EVERYTHING
    return Sampling({"always_on": 1.0, "always_off": 0.0}.get(kind, _share(environ)), name.startswith(_BY_PARENT))


def _share(environ: Mapping[str, str]) -> float:
    try:
        share = float(environ.get("OTEL_TRACES_SAMPLER_ARG", "1"))
    except ValueError:
        return 1.0
    return share if 0 <= share <= 1 else 1.0
