"""Keeps the OCSP response of one certificate fresh: ask, verify, put in force, keep a copy (RFC 6066, 8).

Clients never wait for it: until there is a better one the response in force is
stapled, and it is for its reader to stop at `expires`.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec
import trio

from gateway.errors import GatewayError, StapleError
from gateway.schedule import Limits, Schedule, Source, SourceState
from gateway.stapling.request import NONCE_OCTETS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.fetch import Fetched
    from gateway.schedule import Observer
    from gateway.store import Store


class StapleSource(msgspec.Struct, frozen=True):
    """Whose status is asked (SHA-256 of the certificate, hexadecimal), where and how; times in seconds."""

    fingerprint: str
    url: str
    refresh_interval: float
    http_timeout: float
    nonce: bool = False


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


class Ask(Protocol):
    """`Asker.ask`."""

    async def __call__(
        self,
        url: str,
        request: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 - as Asker.ask
        past_caches: bool,
    ) -> Fetched:
        """Send the request; raises FetchError."""


Response = TypeVar("Response", bound=VerifiedStaple)


class StapleRefresher(Generic[Response]):
    """One response under its own schedule: `restore` once, then `schedule.run` in a nursery.

    `build_request` gives the request in DER (RFC 6960, section 4.1) with a nonce or
    none, `verify` holds the answer against it, is blocking and raises StapleError for
    what may not be stapled, `install` puts in force.
    """

    def __init__(
        self,
        source: StapleSource,
        *,
        ask: Ask,
        build_request: Callable[[bytes | None], bytes],
        verify: Callable[[bytes, bytes | None], Response],
        install: Callable[[Response], Awaitable[None]],
        store: Store,
        limits: Limits,
        observer: Observer,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.state = SourceState(source.url)
        self.schedule = Source(
            self.state, self._attempt, Schedule(source.refresh_interval, half_life=True), observer, now=now
        )
        self._source = source
        self._ask = ask
        self._build_request = build_request
        self._verify = verify
        self._install = install
        self._store = store
        self._limits = limits
        self._now = now
        self._kept = b""

    @property
    def fingerprint(self) -> str:
        """Whose status it is: of the certificate, SHA-256, hexadecimal."""
        return self._source.fingerprint

    async def restore(self) -> str | None:
        """Put the stored response in force, before anything is asked; returns what an operator should read.

        It is verified like any other: the store is not trusted.
        """
        stored = await trio.to_thread.run_sync(self._store.load_staple, self._source.fingerprint)
        if stored is None:
            return None
        try:
            await self._put_in_force(stored, None)
        except GatewayError as exc:
            return f"the stored OCSP response is not used: {exc}"
        self._kept = stored
        return None

    async def _attempt(self) -> bool:
        source, state = self._source, self.state
        nonce = secrets.token_bytes(NONCE_OCTETS) if source.nonce else None
        # After a failure a cache on the way may be what has failed.
        past_caches = nonce is not None or state.consecutive_failures > 0
        async with self._limits.fetching(source.url):
            answer = await self._ask(
                source.url,
                self._build_request(nonce),
                timeout=source.http_timeout,
                past_caches=past_caches,
            )
        try:
            verified = await self._put_in_force(answer.body, nonce)
        except StapleError as exc:
            state.revoked = state.revoked or exc.revoked
            raise
        state.revoked = False
        state.max_age = answer.max_age
        if verified.der == self._kept:
            return False
        # Kept last: a full disk must not keep clients from a fresh response.
        await trio.to_thread.run_sync(self._store.save_staple, source.fingerprint, verified.der)
        self._kept = verified.der
        return True

    async def _put_in_force(self, data: bytes, nonce: bytes | None) -> Response:
        state = self.state
        verified = await trio.to_thread.run_sync(self._verify, data, nonce, limiter=self._limits.work)
        if (
            state.this_update is not None
            and state.next_update is not None
            and state.next_update > self._now()
            and state.this_update > verified.this_update
        ):
            raise StapleError(
                f"the response is {state.this_update - verified.this_update} s older than the one in force"
            )
        if verified.der != self._kept:
            await self._install(verified)
        state.this_update = verified.this_update
        state.next_update = verified.expires
        return verified
