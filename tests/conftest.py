"""What holds for all tests."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# A slow machine is no failure: nothing here is a test of time.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """Refuse an extension that is older than its sources: it would crash, some time, somewhere."""
    found = find_spec("gateway._native")
    extension = Path(found.origin) if found is not None and found.origin else None
    if extension is None or not extension.is_relative_to(ROOT / "gateway"):
        return
    newest = max((ROOT / "csrc").glob("*.[ch]"), key=lambda path: path.stat().st_mtime)
    if newest.stat().st_mtime > extension.stat().st_mtime:
        raise pytest.UsageError(
            f"{newest.name} is newer than {extension.name}: make .venv/.built, then again"
        )


@pytest.fixture(autouse=True)
def _as_if_nothing_was_configured() -> Iterator[None]:
    """A test that sets the level of the log, as `serve` does, sets it for itself alone."""
    yield
    structlog.reset_defaults()
