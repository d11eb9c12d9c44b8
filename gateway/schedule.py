"""When a source is asked again, and the loop that keeps asking: for CRLs and for OCSP responses alike.

`Schedule` is arithmetic, without clock or I/O. `Source` is one URL under one
schedule in one task. An attempt that fails on purpose (`GatewayError`) is counted,
shown and tried again; any other exception is a defect and ends the task.
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, NoReturn, Protocol

import msgspec
import trio

from gateway.errors import FetchError, GatewayError
from gateway.fetch import display_url, host_and_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

# Nobody is asked more often than this, in seconds, whatever an interval or a nextUpdate says.
FLOOR = 1.0
# However long the interval, a source that failed is tried again after this many seconds.
LONGEST_BACK_OFF = 300.0
# However long caches may hand out the same, a source is asked again after this many seconds, so
# that a revocation is heard of.
LONGEST_MAX_AGE = 3600.0
# However long a server wants to be left alone, it is asked again after this many seconds.
LONGEST_RETRY_AFTER = 3600.0
# Of the time that is left until nextUpdate: CAs publish the next list before the old one ends.
_SHARE_OF_TIME_LEFT = 0.9
# How much chance takes off a delay: sources that were asked together drift apart.
_SPREAD = 0.1
# And off the first one of a run: those that were started together part at once.
_FIRST_SPREAD = 0.5


class Schedule(msgspec.Struct, frozen=True):
    """How long to wait, in seconds, for a source that is asked every `interval` seconds.

    `half_life`: and when half of the time from thisUpdate to nextUpdate is over, as
    OCSP responders have the next response by then.
    `chance` in [0, 1) spreads each delay, always towards an earlier attempt.
    """

    interval: float
    half_life: bool = False

    def at_start(self, age: float | None, time_left: float | None, chance: float) -> float:
        """The delay before the first attempt of a run; there is a copy that is `age` seconds old, or None.

        Without one, and when it is past its end (`time_left`), at once. Else when it
        would be due had there been no restart; what is overdue is spread over a tenth
        of the interval: thousands of lists that are still good need not come in one
        second.
        """
        if age is None or (time_left is not None and time_left <= 0):
            return 0.0
        # A clock that was set back has copies from the future: the interval holds all the same.
        age = max(0.0, age)
        lifetime = None if time_left is None else time_left + age
        due = self.after_success(lifetime, chance, lifetime=lifetime or 0.0) - age
        soon = chance * _SPREAD * (self.interval if time_left is None else min(self.interval, time_left))
        return max(due, soon)

    def after_success(
        self,
        time_left: float | None,
        chance: float,
        *,
        first: bool = False,
        lifetime: float = 0.0,
        max_age: float = 0.0,
    ) -> float:
        """The delay when what was fetched is good for `time_left` seconds more; None is for ever.

        Near nextUpdate each delay is a tenth of the last one, or half of it, so that the
        next is there before the old one ends, with a handful of requests. `first`: it is
        the first attempt of this run, and others of the same moment are many. `lifetime`
        is from thisUpdate to nextUpdate. Sooner than after `max_age`, unless something
        ends before that, caches have nothing else (RFC 9111, section 4.2).
        """
        longest = math.inf
        if time_left is not None:
            longest = self._until_renewal(time_left, lifetime)
        delay = min(self.interval, longest) * (1 - chance * (_FIRST_SPREAD if first else _SPREAD))
        return max(FLOOR, delay, min(max_age, LONGEST_MAX_AGE, longest))

    def _until_renewal(self, time_left: float, lifetime: float) -> float:
        if not self.half_life:
            return time_left * _SHARE_OF_TIME_LEFT
        until_half_life = time_left - lifetime / 2
        return until_half_life if until_half_life > 0 else time_left / 2

    def after_failure(
        self,
        failures: int,
        chance: float,
        *,
        retry_after: float = 0.0,
        patience: float = LONGEST_BACK_OFF,
    ) -> float:
        """The delay after the `failures`th failure in a row.

        Doubles from one second. The spread reaches down to a half, so that
        gateways which lost the same CA together do not come back together. A server
        that wants to be left alone for longer (`retry_after`) is, for up to `patience`.
        """
        longest = min(self.interval, LONGEST_BACK_OFF)
        # 2 ** 30 seconds are past any limit, 2 ** 3000 past any float.
        back_off = min(longest, 2.0 ** min(failures - 1, 30))
        asked = min(retry_after * (1 + chance * _SPREAD), patience)
        return max(FLOOR, back_off * (1 - chance / 2), asked)


class SourceState(msgspec.Struct):
    """What is known of one source, for status; times are seconds since 1970, None where there is none yet.

    For an OCSP response `number` and `entries` stay None, `next_update` is when it is
    no longer stapled, and `revoked` means that the responder says so of the certificate.
    `max_age` is for how many seconds caches hand out the same.
    """

    url: str
    last_attempt: float | None = None
    last_success: float | None = None
    last_error: str | None = None
    next_attempt: float | None = None
    consecutive_failures: int = 0
    this_update: int | None = None
    next_update: int | None = None
    number: int | None = None
    entries: int | None = None
    etag: str | None = None
    last_modified: str | None = None
    max_age: int | None = None
    revoked: bool = False
    attempts: int = 0
    failures: int = 0
    seconds: float = 0.0
    """That all attempts took together, from the fetch until what came is in force."""


class Observer(Protocol):
    """Is told what became of each attempt, in the task of the source; must not block or raise."""

    def fetched(self, state: SourceState) -> None:
        """Something new was verified and is in force."""

    def unchanged(self, state: SourceState) -> None:
        """The source still has what is in force."""

    def failed(self, state: SourceState, error: GatewayError, retry_in: float) -> None:
        """Nothing changed; the next attempt is in `retry_in` seconds."""


class Limits:
    """What all sources share: how much is fetched and verified at once, and so how much memory that takes.

    A body is in memory from its fetch until it is in force. Small ones, of up to
    `small` bytes, are fetched `fetches` at a time, `per_host` from one host and port.
    Larger ones, of up to what their source allows, are fetched `large` at a time, one
    from one host. So no more than `fetches * small + large * max_bytes` are held, and
    a host that hangs has its own share and not that of others. Nor have URLs from
    certificates, which can name any number of hosts, the share of those that an
    operator configured: they get three quarters of the small fetches, half of the
    large ones. `work` bounds verifications: one may hold its list a second time in
    another form.
    """

    def __init__(
        self, fetches: int = 32, work: int = 2, *, per_host: int = 4, large: int = 2, small: int = 2 << 20
    ) -> None:
        self.work = trio.CapacityLimiter(work)
        self.small = small
        self._fetches = trio.CapacityLimiter(fetches)
        self._large = trio.CapacityLimiter(large)
        self._learnt = trio.CapacityLimiter(max(1, fetches * 3 // 4))
        self._large_learnt = trio.CapacityLimiter(max(1, large // 2))
        # No more of them than there are sources, which are bounded.
        self._hosts = defaultdict[str, trio.CapacityLimiter](lambda: trio.CapacityLimiter(per_host))
        self._large_hosts = defaultdict[str, trio.CapacityLimiter](lambda: trio.CapacityLimiter(1))

    @asynccontextmanager
    async def fetching(self, url: str, *, large: bool = False, learnt: bool = False) -> AsyncIterator[None]:
        """Hold it from the fetch of `url` until the body is in force; `large`: of above `small` bytes."""
        if large:
            hosts, strangers, everywhere = self._large_hosts, self._large_learnt, self._large
        else:
            hosts, strangers, everywhere = self._hosts, self._learnt, self._fetches
        # From the narrow to the wide: who waits for a host must not keep what others could use.
        async with hosts[host_and_port(url)], strangers if learnt else nullcontext(), everywhere:
            yield


class Source:
    """One URL, asked by one task on its own schedule: `run` it in a nursery.

    A `state` that was restored (`last_success`, `next_update`) puts the first attempt
    off until it is due.

    `attempt` fetches, verifies and puts in force, updates the state it is handed,
    and returns whether there was anything new; it raises GatewayError when there
    is no use in what it got. `now` is the time in seconds since 1970, `chance` a
    number in [0, 1).
    """

    def __init__(
        self,
        state: SourceState,
        attempt: Callable[[], Awaitable[bool]],
        schedule: Schedule,
        observer: Observer,
        *,
        now: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.state = state
        self.first_attempt_done = trio.Event()
        self._attempt = attempt
        self._schedule = schedule
        self._observer = observer
        self._now = now
        self._chance = chance
        self._woken = trio.Event()
        self._over = trio.Event()
        self._begun = self._ended = 0

    def wake(self) -> None:
        """Ask now rather than later; however many call, there is one attempt."""
        self._woken.set()

    async def refresh(self) -> None:
        """Wake, and return when an attempt that began after this call is over, however it ended."""
        # The attempt that is under way, if one is, may have asked too early.
        wanted = self._begun + 1
        self.wake()
        while self._ended < wanted:
            await self._over.wait()

    async def run(self) -> NoReturn:
        """Wait until an attempt is due, attempt, and again, until cancelled."""
        delay = self._delay_at_start()
        while True:
            with trio.move_on_after(delay):
                await self._woken.wait()
            self._woken = trio.Event()
            self._begun += 1
            delay = await self._attempt_once()
            self._ended = self._begun
            over, self._over = self._over, trio.Event()
            over.set()
            self.first_attempt_done.set()

    def _delay_at_start(self) -> float:
        """Seconds until the first attempt; the state says what was restored."""
        state, now = self.state, self._now()
        age = None if state.last_success is None else now - state.last_success
        time_left = None if state.next_update is None else state.next_update - now
        delay = self._schedule.at_start(age, time_left, self._chance())
        state.next_attempt = now + delay
        return delay

    async def _attempt_once(self) -> float:
        """Make one attempt; return the delay before the next, in seconds."""
        state = self.state
        state.last_attempt = self._now()
        state.attempts += 1
        begun = trio.current_time()
        try:
            changed = await self._attempt()
            time_left = self._time_left()
        except GatewayError as exc:
            return self._failed(exc)
        finally:
            state.seconds += trio.current_time() - begun
        state.last_success = self._now()
        state.last_error = None
        state.consecutive_failures = 0
        first = not self.first_attempt_done.is_set()
        lifetime = (state.next_update or 0) - (state.this_update or 0)
        delay = self._schedule.after_success(
            time_left, self._chance(), first=first, lifetime=lifetime, max_age=state.max_age or 0
        )
        state.next_attempt = state.last_success + delay
        if changed:
            self._observer.fetched(state)
        else:
            self._observer.unchanged(state)
        return delay

    def _time_left(self) -> float | None:
        """Seconds until nextUpdate; a source that offers nothing newer than that has failed."""
        if self.state.next_update is None:
            return None
        time_left = self.state.next_update - self._now()
        if time_left <= 0:
            raise GatewayError(
                f"{display_url(self.state.url)}: still offers what ended {-time_left:.0f} s ago"
            )
        return time_left

    def _patience(self) -> float:
        """Seconds for which a server that asks for it is left alone: not past the end of what is in force."""
        state = self.state
        if state.this_update is None:
            return LONGEST_BACK_OFF
        if state.next_update is None:
            return LONGEST_RETRY_AFTER
        soon = (state.next_update - self._now()) * _SHARE_OF_TIME_LEFT
        return min(max(soon, LONGEST_BACK_OFF), LONGEST_RETRY_AFTER)

    def _failed(self, error: GatewayError) -> float:
        state = self.state
        state.consecutive_failures += 1
        state.failures += 1
        state.last_error = str(error)
        retry_after = error.retry_after if isinstance(error, FetchError) else 0.0
        delay = self._schedule.after_failure(
            state.consecutive_failures, self._chance(), retry_after=retry_after, patience=self._patience()
        )
        state.next_attempt = self._now() + delay
        self._observer.failed(state, error, delay)
        return delay
