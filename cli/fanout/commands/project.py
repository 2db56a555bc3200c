"""The project that a command is about."""

from __future__ import annotations

from pathlib import Path

from fanout import config as config_
from fanout.commands import app
from fanout.config import Config


def project(explicit: str | None) -> Config:
    """The project's settings: of `--config`, of FANOUT_CONFIG, or of the nearest fanout.toml."""
    settings = config_.load(config_.find(Path.cwd(), explicit))
    app.hide(settings.redact)
    return settings
