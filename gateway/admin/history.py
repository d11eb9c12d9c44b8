"""The last hour, sampled from the shared counters: what the charts of the status page show. No I/O.

The samples are in memory that control shares with its successor: a reload, or a control
process that is started again, goes on where the one before has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.metrics import Counter

if TYPE_CHECKING:
    from gateway.metrics import Counters

# Seconds between two samples, and how many make an hour.
PACE = 10.0
KEPT = 361

_COLUMNS: dict[str, tuple[Counter, ...]] = {
    "live": (Counter.LIVE,),
    "accepted": (Counter.ACCEPTED,),
    "handshakes": (Counter.HANDSHAKES,),
    "refused": (
        Counter.REFUSED_REVOKED,
        Counter.REFUSED_NO_LIST,
        Counter.REFUSED_STALE,
        Counter.REFUSED_NO_ANSWER,
    ),
    "failed": (Counter.FAILED, Counter.TIMED_OUT),
    "bytes_in": (Counter.BYTES_IN,),
    "bytes_out": (Counter.BYTES_OUT,),
}
_WIDTH = 1 + len(_COLUMNS)


class History:
    """A ring of samples. All but `live` are counted since the gateway was started."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        # How many were taken, then the ring, sample by sample.
        self._room = counters.samples
        assert len(self._room) > KEPT * _WIDTH

    def sample(self, now: float) -> None:
        """Take one, at `now` seconds since 1970."""
        taken = int(self._room[0])
        counted = (sum(map(self._counters.total, counters)) for counters in _COLUMNS.values())
        for place, value in enumerate((now, *counted), 1 + taken % KEPT * _WIDTH):
            self._room[place] = value
        # Last: one that was cut short does not count.
        self._room[0] = taken + 1

    def columns(self) -> dict[str, list[float]]:
        """The samples by what they are of, oldest first; `at` is when they were taken."""
        taken = int(self._room[0])
        begins = [1 + number % KEPT * _WIDTH for number in range(max(0, taken - KEPT), taken)]
        names = ("at", *_COLUMNS)
        return {name: [self._room[begin + i] for begin in begins] for i, name in enumerate(names)}
