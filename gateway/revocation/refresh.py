"""Keeps one CRL fresh: fetch, verify, put in force, keep a copy; a bad one replaces nothing.

`CrlRefresher` is one URL, whoever asks for it. It is handed everything that does
the work: `fetch` (Fetcher.get), `verify` (blocking; raises CrlError for a list
that may not replace the one in force), `install` (compiles, publishes, returns
the number of entries) and a `Store`.
"""

from __future__ import annotations

import hashlib
import random
import time
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec
import trio

from gateway.errors import GatewayError, TooLargeError
from gateway.fetch import NotModified
from gateway.schedule import Limits, Schedule, Source, SourceState
from gateway.store import StoredCrl

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.fetch import Fetched
    from gateway.schedule import Observer
    from gateway.store import Store


class CrlSource(msgspec.Struct, frozen=True):
    """Where a list comes from, and the bounds of its fetch: seconds, bytes. `learnt` is for `Fetcher`."""

    url: str
    refresh_interval: float
    http_timeout: float
    max_bytes: int
    learnt: bool = False


class VerifiedList(Protocol):
    """What is read of a verified list; times are seconds since 1970 (RFC 5280, section 5.1.2)."""

    @property
    def der(self) -> bytes:
        """The whole list."""

    @property
    def this_update(self) -> int:
        """When it was issued."""

    @property
    def next_update(self) -> int:
        """By when there will be another; 0 where the list does not say."""

    @property
    def number(self) -> int | None:
        """Its CRL number (RFC 5280, section 5.2.3)."""


class FetchList(Protocol):
    """`Fetcher.get`."""

    async def __call__(
        self,
        url: str,
        *,
        timeout: float,  # noqa: ASYNC109 - as Fetcher.get
        max_bytes: int,
        etag: str | None,
        last_modified: str | None,
        learnt: bool,
    ) -> Fetched | NotModified:
        """Get the list, or nothing when the validators still hold; raises FetchError."""


List = TypeVar("List", bound=VerifiedList)


class CrlRefresher(Generic[List]):
    """One CRL under its own schedule: `restore` once, then `schedule.run` in a nursery."""

    def __init__(
        self,
        source: CrlSource,
        *,
        fetch: FetchList,
        verify: Callable[[bytes], List],
        install: Callable[[List], Awaitable[int]],
        store: Store,
        limits: Limits,
        observer: Observer,
        now: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.state = SourceState(source.url)
        schedule = Schedule(source.refresh_interval)
        self.schedule = Source(self.state, self._attempt, schedule, observer, now=now, chance=chance)
        self._source = source
        self._fetch = fetch
        self._verify = verify
        self._install = install
        self._store = store
        self._limits = limits
        self._now = now
        # SHA-256 of what is in force and kept, as it was fetched.
        self._in_force = b""
        # Whether the last body that was seen was too large for a small fetch.
        self._large = False

    async def restore(self) -> str | None:
        """Put the stored list in force, before anything is fetched; returns what an operator should read.

        It is verified like any other: the store is not trusted.
        """
        restored = await trio.to_thread.run_sync(self._store.load_crl, self._source.url)
        stored = restored.crl
        if stored is None:
            return restored.problem
        try:
            await self._put_in_force(stored.der)
        except GatewayError as exc:
            return f"the stored list is not used: {exc}"
        self._in_force = await trio.to_thread.run_sync(_digest, stored.der)
        self._large = len(stored.der) > self._limits.small
        self._remember(stored)
        return None

    async def _attempt(self) -> bool:
        small, max_bytes = self._limits.small, self._source.max_bytes
        if not self._large:
            try:
                return await self._fetch_and_accept(min(small, max_bytes), large=False)
            except TooLargeError:
                if max_bytes <= small:
                    raise
                self._large = True
        return await self._fetch_and_accept(max_bytes, large=True)

    async def _fetch_and_accept(self, max_bytes: int, *, large: bool) -> bool:
        """Returns whether there was anything new; raises TooLargeError when it has more than `max_bytes`."""
        source, state = self._source, self.state
        async with self._limits.fetching(source.url, large=large, learnt=source.learnt):
            # Past nextUpdate a validator would only have a cache confirm what has ended.
            ended = state.next_update is not None and state.next_update <= self._now()
            answer = await self._fetch(
                source.url,
                timeout=source.http_timeout,
                max_bytes=max_bytes,
                etag=None if ended else state.etag,
                last_modified=None if ended else state.last_modified,
                learnt=source.learnt,
            )
            if isinstance(answer, NotModified):
                return False
            self._large = len(answer.body) > self._limits.small
            return await self._accept(answer)

    async def _accept(self, answer: Fetched) -> bool:
        """Put in force and keep what is new; returns whether it was."""
        digest = await trio.to_thread.run_sync(_digest, answer.body)
        if digest == self._in_force:
            return False
        verified = await self._put_in_force(answer.body)
        # Until this one is kept, too, the next answer counts as new, whatever it is.
        self._in_force = b""
        stored = StoredCrl(verified.der, answer.etag, answer.last_modified, self._now(), self._source.learnt)
        # Kept last: a full disk must not keep a revocation from taking effect.
        await trio.to_thread.run_sync(self._store.save_crl, self._source.url, stored)
        self._in_force = digest
        self._remember(stored)
        return True

    async def _put_in_force(self, data: bytes) -> List:
        verified = await trio.to_thread.run_sync(self._verify, data, limiter=self._limits.work)
        self.state.entries = await self._install(verified)
        self.state.this_update = verified.this_update
        self.state.next_update = verified.next_update or None
        self.state.number = verified.number
        return verified

    def _remember(self, stored: StoredCrl) -> None:
        self.state.etag = stored.etag
        self.state.last_modified = stored.last_modified
        self.state.last_success = stored.fetched_at


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
