"""Counters that all processes share: one page per worker, mapped before the fork.

A page has the counters of `Counter`, the buckets of handshake times, then one gauge per
listener: its connections, from accept to end. Counting is an atomic add by C; anyone may
read. One more page is the supervisor's, who alone writes there.
"""

from __future__ import annotations

import mmap
from enum import IntEnum
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH = 8


class Counter(IntEnum):
    """The counters of csrc/counters.h, which says what each counts, in the order of a page."""

    ACCEPTED = 0
    HANDSHAKES = 1
    RESUMED = 2
    FAILED = 3
    TIMED_OUT = 4
    REFUSED_REVOKED = 5
    REFUSED_NO_LIST = 6
    REFUSED_STALE = 7
    ACCEPTED_UNCHECKED = 8
    LOOKUPS = 9
    LIVE = 10
    RELAYED = 11
    DISCONNECTED = 12
    BYTES_IN = 13
    BYTES_OUT = 14
    UPSTREAM_FAILED = 15
    STAPLED = 16
    HANDSHAKING = 17
    THROTTLED = 18
    TLS12 = 19
    HANDSHAKE_MS = 20


HANDSHAKE_TIMES = tuple(0.001 * 2**i for i in range(14))
"""Seconds: the upper ends of the buckets of handshake times; one more has no end."""

_FIRST_BUCKET = len(Counter)
_FIRST_GAUGE = _FIRST_BUCKET + len(HANDSHAKE_TIMES) + 1


class Counters:
    """The pages of all workers, and how often a process was started again."""

    def __init__(self, workers: int, listeners: int) -> None:
        size = (_FIRST_GAUGE + listeners) * _WIDTH
        pages = [mmap.mmap(-1, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE) for _ in range(workers)]
        self.pages: Sequence[mmap.mmap] = pages
        self._numbers = [memoryview(page).cast("Q") for page in pages]
        self._restarts = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")

    @property
    def workers(self) -> int:
        """How many there are."""
        return len(self.pages)

    @property
    def worker_restarts(self) -> int:
        """How often a worker that died was started again."""
        return self._restarts[0]

    @property
    def control_restarts(self) -> int:
        """How often the control process was."""
        return self._restarts[1]

    def note_restart(self, *, worker: bool) -> None:
        """A child has died and is started again; for the supervisor alone."""
        self._restarts[0 if worker else 1] += 1

    def handshake_times(self) -> list[int]:
        """How many handshakes took no longer than each of HANDSHAKE_TIMES, then all of them."""
        ends = range(_FIRST_BUCKET, _FIRST_GAUGE)
        return list(accumulate(sum(numbers[end] for numbers in self._numbers) for end in ends))

    def total(self, which: Counter) -> int:
        """A counter, added up over all workers."""
        return sum(numbers[which] for numbers in self._numbers)

    def connections(self, listener: int) -> int:
        """The connections of a listener in all workers, handshakes included."""
        return sum(numbers[gauge_index(listener)] for numbers in self._numbers)

    def clear_gauges(self, worker: int) -> None:
        """Forget the connections of a worker that has died."""
        numbers = self._numbers[worker]
        numbers[Counter.LIVE] = numbers[Counter.HANDSHAKING] = 0
        for index in range(_FIRST_GAUGE, len(numbers)):
            numbers[index] = 0


def time_index(milliseconds: int) -> int:
    """Where in a page handshakes that took so long are counted, as csrc/front.c does."""
    return _FIRST_BUCKET + min(milliseconds.bit_length(), len(HANDSHAKE_TIMES))


def gauge_index(listener: int) -> int:
    """Where in a page the gauge of listener number `listener` stands."""
    return _FIRST_GAUGE + listener
