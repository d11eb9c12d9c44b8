"""Counters that all processes share: one page per worker, mapped before the fork.

A page has the counters of `Counter`, the buckets of handshake times, whether the worker
accepts, then one gauge per listener: its connections, from accept to end. Counting is an
atomic add by C; anyone may read. One more page is the supervisor's, who alone writes there.
A reload makes new pages; those before go on counting for as long as their workers live.
"""

from __future__ import annotations

import mmap
from enum import IntEnum
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WIDTH = 8
# Bytes for an hour of samples (gateway/admin/history.py).
_SAMPLES = 32 << 10


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
    REFUSED_NO_ANSWER = 21
    UNLOGGED = 22


HANDSHAKE_TIMES = tuple(0.001 * 2**i for i in range(14))
"""Seconds: the upper ends of the buckets of handshake times; one more has no end."""

_GAUGES = (Counter.LIVE, Counter.HANDSHAKING)
_FIRST_BUCKET = len(Counter)
_ACCEPTING = _FIRST_BUCKET + len(HANDSHAKE_TIMES) + 1
_FIRST_GAUGE = _ACCEPTING + 1


class Counters:
    """The pages of all workers, and how often a process was started again."""

    def __init__(self, workers: int, listeners: int) -> None:
        size = (_FIRST_GAUGE + listeners) * _WIDTH
        pages = [mmap.mmap(-1, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE) for _ in range(workers)]
        self.pages: Sequence[mmap.mmap] = pages
        self._numbers = [memoryview(page).cast("Q") for page in pages]
        self._restarts = _page_of_numbers()
        self._past = _page_of_numbers()
        self.samples: memoryview[float] = memoryview(mmap.mmap(-1, _SAMPLES)).cast("d")
        """Control's own, for its successor to go on with."""
        self._before: list[tuple[Counters, Mapping[int, int]]] = []
        """Those of earlier configurations, with which of their listeners is which of ours."""
        self.retired = False

    def succeed(self, workers: int, listeners: int, same: Mapping[int, int]) -> Counters:
        """Those of the next configuration, in which our listener `number` is `same[number]`.

        For the supervisor alone.
        """
        after = Counters(workers, listeners)
        after._restarts, after._past, after.samples = self._restarts, self._past, self.samples
        ours = {new: old for old, new in same.items()}
        everybody = [(self, {old: old for old in same}), *self._before]
        after._before = [
            (counters, {new: known[old] for new, old in ours.items() if old in known})
            for counters, known in everybody
            if not counters.retired
        ]
        return after

    def take_back(self, after: Counters, same: Mapping[int, int]) -> None:
        """`after` was to succeed us, and ends instead; our listener `number` is its `same[number]`.

        For the supervisor alone.
        """
        self._before = [each for each in self._before if not each[0].retired]
        ours = [self, *(counters for counters, _ in self._before)]
        for counters, known in [(after, {new: new for new in same.values()}), *after._before]:
            if counters not in ours and not counters.retired:
                self._before.append(
                    (counters, {old: known[new] for old, new in same.items() if new in known})
                )

    def retire(self) -> None:
        """All our workers have ended: what they counted is past; for the supervisor."""
        for numbers in self._numbers:
            for which in range(_ACCEPTING):
                if which not in _GAUGES:
                    self._past[which] += numbers[which]
                numbers[which] = 0
        # Each would keep those before it, and their pages, for ever.
        self._before = []
        self.retired = True

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

    @property
    def stopping(self) -> bool:
        """Whether the gateway drains, to end."""
        return bool(self._restarts[2])

    def note_stopping(self) -> None:
        """It does from now on; for the supervisor alone."""
        self._restarts[2] = 1

    def note_restart(self, *, worker: bool) -> None:
        """A child has died and is started again; for the supervisor alone."""
        self._restarts[0 if worker else 1] += 1

    def handshake_times(self) -> list[int]:
        """How many handshakes took no longer than each of HANDSHAKE_TIMES, then all of them."""
        return list(accumulate(self._sum(end) for end in range(_FIRST_BUCKET, _ACCEPTING)))

    def own(self, which: int) -> int:
        """What stands at one place of a page, added up over the workers of this configuration."""
        return sum(numbers[which] for numbers in self._numbers)

    def total(self, which: Counter) -> int:
        """A counter, added up over all workers."""
        return self._sum(which)

    def connections(self, listener: int) -> int:
        """The connections of a listener in all workers, handshakes included."""
        before = ((each, known[listener]) for each, known in self._before if listener in known)
        return self.own(gauge_index(listener)) + sum(each.own(gauge_index(theirs)) for each, theirs in before)

    @property
    def accepting(self) -> bool:
        """Whether all workers of this configuration let clients come in."""
        return all(map(self.accepts, range(self.workers)))

    def accepts(self, worker: int) -> bool:
        """Whether one of them does."""
        return bool(self._numbers[worker][_ACCEPTING])

    def serves(self, worker: int) -> bool:
        """Whether it has any connection."""
        return any(self._numbers[worker][_FIRST_GAUGE:])

    def note_accepting(self, worker: int) -> None:
        """A worker has opened all its doors."""
        self._numbers[worker][_ACCEPTING] = 1

    def note_silent(self, worker: int) -> None:
        """A worker lets nobody in any more."""
        self._numbers[worker][_ACCEPTING] = 0

    def clear_gauges(self, worker: int) -> None:
        """Forget the connections of a worker that has died."""
        numbers = self._numbers[worker]
        for gauge in _GAUGES:
            numbers[gauge] = 0
        for index in range(_ACCEPTING, len(numbers)):
            numbers[index] = 0

    def _sum(self, which: int) -> int:
        everybody = (self, *(counters for counters, _ in self._before))
        return self._past[which] + sum(each.own(which) for each in everybody)


def _page_of_numbers() -> memoryview[int]:
    return memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")


def time_index(milliseconds: int) -> int:
    """Where in a page handshakes that took so long are counted, as csrc/front.c does."""
    return _FIRST_BUCKET + min(milliseconds.bit_length(), len(HANDSHAKE_TIMES))


def gauge_index(listener: int) -> int:
    """Where in a page the gauge of listener number `listener` stands."""
    return _FIRST_GAUGE + listener
