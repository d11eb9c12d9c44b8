"""The last hour, sampled from the shared counters: what the charts of the status page show. No I/O."""

from __future__ import annotations

from collections import deque
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
    "refused": (Counter.REFUSED_REVOKED, Counter.REFUSED_NO_LIST, Counter.REFUSED_STALE),
    "failed": (Counter.FAILED, Counter.TIMED_OUT),
    "bytes_in": (Counter.BYTES_IN,),
    "bytes_out": (Counter.BYTES_OUT,),
}


class History:
    """A ring of samples. All but `live` are counted since the gateway was started."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._at = deque[float](maxlen=KEPT)
        self._columns = {name: deque[int](maxlen=KEPT) for name in _COLUMNS}

    def sample(self, now: float) -> None:
        """Take one, at `now` seconds since 1970."""
        self._at.append(now)
        for name, counted in _COLUMNS.items():
            self._columns[name].append(sum(map(self._counters.total, counted)))

    def columns(self) -> dict[str, list[float]]:
        """The samples by what they are of, oldest first; `at` is when they were taken."""
        return {"at": list(self._at), **{name: list(column) for name, column in self._columns.items()}}
