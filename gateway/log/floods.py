"""Which of the lines that strangers cause are written. No I/O, and no clock of its own.

A storm of refusals must not fill the disk: of each kind a few lines a second are
written, and of the others it is told how many there were. Errors are never left
out, nor is what operators or the CA cause.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCESS = "connection over"
"""The event of the access log."""

STRANGERS = frozenset(
    {
        "client refused",
        "client let in unchecked",
        "handshake failed",
        "handshake timed out",
        "PROXY header refused",
        "connection ended",
        "broker unreachable",
        "max_connections reached",
    }
)
"""The events that whoever can connect causes at will, where they are no errors."""


def by_stranger(event: Mapping[str, object], level: str) -> bool:
    """Whether lines like this may be left out; those of the access log where the client came to no broker."""
    name = event["event"]
    if name == ACCESS:
        return not event.get("broker")
    return name in STRANGERS and level in ("debug", "info", "warning")


class LeftOut(NamedTuple):
    """Lines that were not written."""

    event: str
    listener: str
    lines: int


@dataclass(slots=True)
class _Kind:
    began: float
    written: int = 0
    left_out: int = 0


class Floods:
    """At most `limit` lines of one event and listener begin in any second; 0: all. Threads may share it.

    `now` is in seconds, of a clock that does not go back.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kinds: dict[tuple[str, str], _Kind] = {}
        self._lock = threading.Lock()

    def admits(self, event: str, listener: str, now: float) -> bool:
        """Whether one more is written; if not, it is counted."""
        if not self._limit:
            return True
        with self._lock:
            kind = self._kinds.setdefault((event, listener), _Kind(now))
            if now - kind.began >= 1.0:
                kind.began, kind.written = now, 0
            if kind.written < self._limit:
                kind.written += 1
                return True
            kind.left_out += 1
            return False

    def left_out(self) -> list[LeftOut]:
        """What was not written since the last call."""
        with self._lock:
            found = [LeftOut(*kind, counts.left_out) for kind, counts in self._kinds.items()]
            for counts in self._kinds.values():
                counts.left_out = 0
        return [each for each in found if each.lines]
