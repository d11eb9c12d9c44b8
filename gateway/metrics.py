"""Counters that all processes share: one page per worker, mapped before the fork.

A page has the counters of `Counter`, then one gauge per listener: its
connections, from accept to end. Counting is an atomic add by C; anyone may read.
"""

from __future__ import annotations

import mmap
from enum import IntEnum
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


class Counters:
    """The pages of all workers."""

    def __init__(self, workers: int, listeners: int) -> None:
        size = (len(Counter) + listeners) * _WIDTH
        pages = [mmap.mmap(-1, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE) for _ in range(workers)]
        self.pages: Sequence[mmap.mmap] = pages
        self._numbers = [memoryview(page).cast("Q") for page in pages]

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
        for index in range(len(Counter), len(numbers)):
            numbers[index] = 0


def gauge_index(listener: int) -> int:
    """Where in a page the gauge of listener number `listener` stands."""
    return len(Counter) + listener
