"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# A slow machine is no failure: nothing here is a test of time.
settings.register_profile("project", deadline=None)
settings.load_profile("project")
