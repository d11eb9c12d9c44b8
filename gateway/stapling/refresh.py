"""Keeps the OCSP response of one certificate fresh: ask, verify, put in force, keep a copy (RFC 6066, 8).

Clients never wait for it: until there is a better one the response in force is
stapled, and it is for its reader to stop at `expires`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec
import trio

from gateway.errors import GatewayError
from gateway.schedule import Limits, Schedule, Source, SourceState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.fetch import Fetched
    from gateway.schedule import Observer
    from gateway.store import Store

REQUEST_TYPE = "application/ocsp-request"
# RFC 6960 sets no bound; a response is 200 bytes to some KB, with its responder's certificates.
MAX_BYTES = 64 << 10


class StapleSource(msgspec.Struct, frozen=True):
    """Whose status is asked (SHA-256 of the certificate, hexadecimal), and where; times in seconds."""

    fingerprint: str
    url: str
    refresh_interval: float
    http_timeout: float


class VerifiedStaple(Protocol):
    """What is read of a verified response; times are seconds since 1970 (RFC 6960, section 4.2.2.1)."""

    @property
    def der(self) -> bytes:
        """The whole response."""

    @property
    def this_update(self) -> int:
        """The time at which the status was known to be right."""

    @property
    def expires(self) -> int:
        """When it must no longer be stapled."""


class PostRequest(Protocol):
    """`Fetcher.post`."""

    async def __call__(
        self,
        url: str,
        body: bytes,
        content_type: str,
        *,
        timeout: float,  # noqa: ASYNC109 - as Fetcher.post
        max_bytes: int,
    ) -> Fetched:
        """Post the request; raises FetchError."""


Response = TypeVar("Response", bound=VerifiedStaple)


class StapleRefresher(Generic[Response]):
    """One response under its own schedule: `restore` once, then `schedule.run` in a nursery.

    `build_request` gives the request in DER (RFC 6960, section 4.1), `verify` is
    blocking and raises StapleError for what may not be stapled, `install` puts in
    force.
    """

    def __init__(
        self,
        source: StapleSource,
        *,
        post: PostRequest,
        build_request: Callable[[], bytes],
        verify: Callable[[bytes], Response],
        install: Callable[[Response], Awaitable[None]],
        store: Store,
        limits: Limits,
        observer: Observer,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.state = SourceState(source.url)
        self.schedule = Source(
            self.state, self._attempt, Schedule(source.refresh_interval), observer, now=now
        )
        self._source = source
        self._post = post
        self._build_request = build_request
        self._verify = verify
        self._install = install
        self._store = store
        self._limits = limits
        # What is in force and kept.
        self._in_force = b""

    async def restore(self) -> str | None:
        """Put the stored response in force, before anything is asked; returns what an operator should read.

        It is verified like any other: the store is not trusted.
        """
        stored = await trio.to_thread.run_sync(self._store.load_staple, self._source.fingerprint)
        if stored is None:
            return None
        try:
            await self._put_in_force(stored)
        except GatewayError as exc:
            return f"the stored OCSP response is not used: {exc}"
        self._in_force = stored
        return None

    async def _attempt(self) -> bool:
        source = self._source
        async with self._limits.fetching(source.url):
            answer = await self._post(
                source.url,
                self._build_request(),
                REQUEST_TYPE,
                timeout=source.http_timeout,
                max_bytes=MAX_BYTES,
            )
        if answer.body == self._in_force:
            return False
        verified = await self._put_in_force(answer.body)
        # Kept last: a full disk must not keep clients from a fresh response.
        await trio.to_thread.run_sync(self._store.save_staple, source.fingerprint, verified.der)
        self._in_force = answer.body
        return True

    async def _put_in_force(self, data: bytes) -> Response:
        verified = await trio.to_thread.run_sync(self._verify, data, limiter=self._limits.work)
        await self._install(verified)
        self.state.this_update = verified.this_update
        self.state.next_update = verified.expires
        return verified
