"""What holds for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The machine's load is not ours to judge.
settings.register_profile("fanout", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fanout")
