"""Asks OCSP responders about clients' certificates, for all workers: each certificate once at a time.

Whatever comes of it is put into the shared answers: a response, or that there is
none. A responder that is dead or slow costs each client no more than its own
timeout, and, once it has failed a few times, nothing (`ocsp.Responder`).
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Protocol

import trio

from gateway.errors import FetchError, GatewayError
from gateway.names import issuer_id
from gateway.native import AnswerStatus
from gateway.revocation import ocsp
from gateway.stapling.request import build_request
from gateway.stapling.response import check_delegate, verify_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cryptography import x509

    from gateway.fetch import Fetched
    from gateway.names import IssuerId
    from gateway.native import Answer
    from gateway.revocation.ocsp import Responder
    from gateway.revocation.subjects import Subject
    from gateway.stapling.response import VerifiedResponse

# Requests at a time to one responder; each is a connection of its own.
_AT_ONCE = 16
# Certificates that are being asked about, or wait for that.
_MOST_FLIGHTS = 10_000
# URLs of responders stand in certificates: of any number.
_MOST_RESPONDERS = 1000
# A certificate that names no responder will name none tomorrow; its CA's may be configured.
_WITHOUT_RESPONDER = 3600


class Cache(Protocol):
    """`native.Answers`, as far as it is needed here."""

    @property
    def round(self) -> int:
        """What was asked in an earlier one is due."""

    def find(self, issuer: IssuerId, serial: int, now: int) -> Answer | None:
        """What is known."""

    def put(self, issuer: IssuerId, serial: int, answer: Answer) -> None:
        """Put an answer in its place."""


class Ask(Protocol):
    """`stapling.ask.Asker.ask`."""

    async def __call__(
        self,
        url: str,
        request: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 - as Asker.ask
        past_caches: bool = False,
        learnt: bool = False,
    ) -> Fetched:
        """Whatever the responder answers; raises FetchError."""


class Observer(Protocol):
    """Is told what matters to an operator; must not block or raise."""

    def revoked(self, subject: Subject, answer: Answer) -> None:
        """A certificate that was not known to be revoked is: whoever is connected with it has to go."""

    def useless(self, subject: Subject, error: GatewayError) -> None:
        """A responder answered what cannot be used."""

    def unknown(self, subject: Subject) -> None:
        """A responder does not know the certificate."""

    def given_up(self, responder: Responder) -> None:
        """A responder failed so often that clients do not wait for it any more."""

    def is_back(self, responder: Responder) -> None:
        """A responder that was given up answers."""


class Responders:
    """All of them. `nursery` is where requests live: they outlast whoever wanted the answer."""

    def __init__(
        self,
        nursery: trio.Nursery,
        ask: Ask,
        cache: Cache,
        observer: Observer,
        *,
        revoked: Callable[[x509.Certificate, IssuerId], bool],
        work: trio.CapacityLimiter | None = None,
        now: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._nursery = nursery
        self._ask = ask
        self._cache = cache
        self._observer = observer
        self._revoked = revoked
        self._work = work
        self._now = now
        self._chance = chance
        self._flights: dict[tuple[IssuerId, int], trio.Event] = {}
        self._known: dict[str, tuple[Responder, trio.CapacityLimiter]] = {}

    def states(self) -> list[Responder]:
        """Those that were asked since the start, for status."""
        return [responder for responder, _ in self._known.values()]

    async def settle(self, subjects: Iterable[Subject]) -> None:
        """Return when something is known of each: what a responder says, or that none has anything to say."""
        async with trio.open_nursery() as nursery:
            for subject in subjects:
                nursery.start_soon(self._settle, subject)

    async def _settle(self, subject: Subject) -> None:
        key = issuer_id(subject.issuer), subject.certificate.serial_number
        now = int(self._now())
        known = self._cache.find(*key, now)
        if known is not None and known.due > now:
            # Another worker has asked meanwhile.
            return
        over = self._flights.get(key)
        if over is None:
            if len(self._flights) >= _MOST_FLIGHTS:
                return
            over = self._flights[key] = trio.Event()
            self._nursery.start_soon(self._fly, key, subject, known, over)
        await over.wait()

    async def _fly(
        self, key: tuple[IssuerId, int], subject: Subject, before: Answer | None, over: trio.Event
    ) -> None:
        try:
            asked_in = self._cache.round
            answer = (await self._answer(subject, before))._replace(round=asked_in)
            for identity in subject.identities:
                self._cache.put(identity, key[1], answer)
            was_revoked = before is not None and before.status is AnswerStatus.REVOKED
            if answer.status is AnswerStatus.REVOKED and not was_revoked:
                self._observer.revoked(subject, answer)
        finally:
            del self._flights[key]
            over.set()

    async def _answer(self, subject: Subject, before: Answer | None) -> Answer:
        if subject.url is None:
            return ocsp.in_vain(before, int(self._now()) + _WITHOUT_RESPONDER)
        responder, limiter = self._responder(subject.url)
        queued = True
        # Who queues for as long as a client would wait has nothing to gain any more.
        with trio.move_on_after(subject.timeout):
            await limiter.acquire()
            queued = False
        if not queued:
            try:
                if responder.admit(self._now()):
                    return await self._request(subject, subject.url, responder, before)
            finally:
                limiter.release()
        return ocsp.in_vain(before, responder.worth_asking_at(self._now()))

    async def _request(
        self, subject: Subject, url: str, responder: Responder, before: Answer | None
    ) -> Answer:
        try:
            request = build_request(subject.certificate, subject.issuer)
            # Whoever has an answer wants a newer one: a cache on the way would hand out the same.
            fetched = await self._ask(
                url, request, timeout=subject.timeout, past_caches=before is not None, learnt=subject.learnt
            )
            was_broken = responder.broken
            responder.answered()
            if was_broken:
                self._observer.is_back(responder)
            now = int(self._now())
            response = await trio.to_thread.run_sync(
                self._verify, fetched.body, subject, now, limiter=self._work
            )
            answer = ocsp.understand(response, before, now, self._chance())
        except FetchError as exc:
            if responder.failed(self._now(), str(exc), self._chance(), exc.retry_after):
                self._observer.given_up(responder)
            return ocsp.in_vain(before, responder.worth_asking_at(self._now()))
        except GatewayError as exc:
            responder.answered_in_vain(str(exc))
            self._observer.useless(subject, exc)
            return ocsp.in_vain(before, ocsp.in_vain_until(self._now()))
        if response.status == "unknown":
            self._observer.unknown(subject)
        return answer

    def _verify(self, data: bytes, subject: Subject, now: int) -> VerifiedResponse:
        response = verify_response(data, subject.certificate, subject.issuer, now=now)
        check_delegate(response, subject.issuer, self._revoked)
        return response

    def _responder(self, url: str) -> tuple[Responder, trio.CapacityLimiter]:
        found = self._known.get(url)
        if found is None:
            if len(self._known) >= _MOST_RESPONDERS:
                idle = (each for each, (_, limiter) in self._known.items() if not limiter.borrowed_tokens)
                self._known.pop(next(idle, ""), None)
            found = self._known[url] = ocsp.Responder(url), trio.CapacityLimiter(_AT_ONCE)
        return found
