"""What holds for all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# A slow machine is no failure: nothing here is a test of time.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


@pytest.fixture(autouse=True)
def _as_if_nothing_was_configured() -> Iterator[None]:
    """A test that sets the level of the log, as `serve` does, sets it for itself alone."""
    yield
    structlog.reset_defaults()
