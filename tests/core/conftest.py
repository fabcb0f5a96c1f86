"""Hypothesis for this tier: the same examples on every run, nothing kept on disk, no stopwatch."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("core", derandomize=True, database=None, deadline=None)
settings.load_profile("core")
