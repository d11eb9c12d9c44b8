"""Time and an observer for the tests of everything that is refreshed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from gateway.errors import GatewayError
    from gateway.schedule import SourceState

# When a test's clock, which starts at 0, starts by the calendar (seconds since 1970).
EPOCH = 1_800_000_000.0


def wall_clock() -> float:
    return EPOCH + trio.current_time()


class Recorder:
    """What an observer was told, in order: an event, or an error with the delay to the next attempt."""

    def __init__(self) -> None:
        self.events: list[str | tuple[str, float]] = []

    def fetched(self, state: SourceState) -> None:
        self.events.append("fetched")

    def unchanged(self, state: SourceState) -> None:
        self.events.append("unchanged")

    def failed(self, state: SourceState, error: GatewayError, retry_in: float) -> None:
        self.events.append((str(error), retry_in))
