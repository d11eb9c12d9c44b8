"""The clients that a worker refused last, on their way to control: bounded in number and in rate."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

import trio

from gateway.publish import Refusal, Sighting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST = 50
"""That are kept, here and by control: older ones are in the log."""
# Seconds between two messages to control.
PAUSE = 1.0


class Refusals:
    """A storm of refusals costs a message a second, of the last ones; the counters have them all."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._waiting = deque[Refusal](maxlen=MOST)
        self._added = trio.Event()

    def add(self, event: str, values: Mapping[str, object]) -> None:
        """Take note of one, with the values of its log line."""
        text = {name: str(values.get(name, "")) for name in _TEXTS}
        self._waiting.append(Refusal(self._now(), event, **text, resumed=bool(values.get("resumed"))))
        self._added.set()

    async def tell(self, channel: trio.MemorySendChannel[Sighting]) -> None:
        """Hand them on until cancelled; those for which there is no room are forgotten."""
        while True:
            await self._added.wait()
            self._added = trio.Event()
            batch = Sighting(refusals=tuple(self._waiting))
            self._waiting.clear()
            with contextlib.suppress(trio.WouldBlock):
                channel.send_nowait(batch)
            await trio.sleep(PAUSE)


_TEXTS = ("listener", "peer", "reason", "subject", "issuer", "serial", "tls")
