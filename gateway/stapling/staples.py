"""The staples of all server certificates: who is asked about which, and whose certificate has none.

One refresher a certificate, however many listeners present it. A certificate that
names no responder, as those of many public CAs do not any more, is told of once
and never asked about.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from gateway.errors import StapleError
from gateway.extensions import must_staple
from gateway.fetch import display_url
from gateway.names import describe, fingerprint
from gateway.publish import Staple
from gateway.revocation.policy import moment
from gateway.stapling import request, response
from gateway.stapling.refresh import StapleRefresher, StapleSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cryptography import x509
    from structlog.typing import FilteringBoundLogger

    from gateway.config.certificates import ServerCertificate
    from gateway.config.material import ListenerMaterial
    from gateway.config.model import Listener
    from gateway.errors import GatewayError
    from gateway.names import IssuerId
    from gateway.schedule import Limits, SourceState
    from gateway.stapling.refresh import Ask
    from gateway.stapling.response import VerifiedResponse
    from gateway.store import Store


class Change(Protocol):
    """Tells the workers."""

    def __call__(self, staples: Mapping[str, Staple | None], held: Mapping[str, None]) -> None:
        """Of staples by fingerprint, and of listeners that are held back no longer."""


class Staples:
    """Iterate over it for the refreshers."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        materials: Sequence[ListenerMaterial],
        *,
        ask: Ask,
        store: Store,
        limits: Limits,
        change: Change,
        revoked: Callable[[x509.Certificate, IssuerId], bool],
        log: FilteringBoundLogger,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._ask = ask
        self._store = store
        self._limits = limits
        self._change = change
        self._revoked = revoked
        self._log = log
        self._now = now
        self._refreshers: dict[str, StapleRefresher[VerifiedResponse]] = {}
        self._silent: dict[str, tuple[str, str]] = {}
        """Certificates without a responder: listener and certificate, by fingerprint."""
        self._demanding: dict[str, tuple[str, str]] = {}
        """Certificates that demand a staple, likewise."""
        self._missed: set[str] = set()
        """Those of them of which was told that they have none."""
        self._expires: dict[str, int] = {}
        """Of the staples in force, by fingerprint."""
        self._held: dict[str, set[str]] = {}
        """The staples for which listeners wait: fingerprints by listener."""
        self._waiting: set[str] = set()
        """Those listeners of which was told that they wait."""
        for listener, material in zip(listeners, materials, strict=True):
            if not listener.stapling.enabled:
                continue
            for server in material.certificates:
                key = fingerprint(server.leaf)
                if server.ocsp_issuer is None or server.ocsp_responder_url is None:
                    self._silent.setdefault(key, (listener.name, describe(server.leaf)))
                    continue
                if key not in self._refreshers:
                    self._refreshers[key] = self._refresher(listener, server, key)
                if must_staple(server.leaf):
                    self._demanding.setdefault(key, (listener.name, describe(server.leaf)))
                if listener.stapling.required:
                    self._held.setdefault(listener.name, set()).add(key)

    def __iter__(self) -> Iterator[StapleRefresher[VerifiedResponse]]:
        return iter(self._refreshers.values())

    @property
    def held(self) -> tuple[str, ...]:
        """The listeners that must not begin to accept: `required` is set and a staple is missing."""
        return tuple(self._held)

    def begin(self) -> None:
        """Tell of what is never asked about; once, before all else."""
        for listener, certificate in self._silent.values():
            self._log.info(
                "certificate without responder",
                listener=listener,
                certificate=certificate,
                consequence="nothing is stapled for it",
            )

    def look(self) -> None:
        """Tell of what is missing, when the responders have been tried and from time to time."""
        good = self._in_force()
        for name in self._held.keys() - self._waiting:
            self._waiting.add(name)
            self._log.warning(
                "listener waits for staple",
                listener=name,
                missing=len(self._held[name] - good),
                consequence="it accepts nobody until its certificates have good responses",
            )
        missed = self._demanding.keys() - good
        for key in missed - self._missed:
            listener, certificate = self._demanding[key]
            self._log.warning(
                "must-staple without staple",
                listener=listener,
                certificate=certificate,
                consequence="clients that insist refuse it until a responder answers",
            )
        self._missed = missed

    def _in_force(self) -> set[str]:
        now = self._now()
        return {key for key, expires in self._expires.items() if expires > now}

    def _installed(self, key: str, staple: Staple) -> None:
        self._expires[key] = staple.expires
        good = self._in_force()
        released = [name for name, keys in self._held.items() if keys <= good]
        for name in released:
            del self._held[name]
        self._change({key: staple}, dict.fromkeys(released))
        for name in released:
            if name in self._waiting:
                self._log.info("listener has its staple", listener=name)

    def _refresher(
        self, listener: Listener, server: ServerCertificate, key: str
    ) -> StapleRefresher[VerifiedResponse]:
        certificate, issuer, stapling = server.leaf, server.ocsp_issuer, listener.stapling
        assert issuer is not None
        assert server.ocsp_responder_url is not None

        def verify(data: bytes, nonce: bytes | None) -> VerifiedResponse:
            found = response.verify_staple(data, certificate, issuer, now=int(self._now()), nonce=nonce)
            response.check_delegate(found, issuer, self._revoked)
            return found

        async def install(verified: VerifiedResponse) -> None:
            self._installed(key, Staple(verified.der, verified.expires))

        return StapleRefresher(
            StapleSource(
                key,
                server.ocsp_responder_url,
                stapling.refresh_interval,
                stapling.http_timeout,
                nonce=stapling.nonce,
            ),
            ask=self._ask,
            build_request=lambda nonce: request.build_request(
                certificate, issuer, cert_id_hash=stapling.cert_id_hash, nonce=nonce
            ),
            verify=verify,
            install=install,
            store=self._store,
            limits=self._limits,
            observer=_Observer(
                self._log.bind(listener=listener.name, certificate=describe(certificate)), self._now
            ),
            now=self._now,
        )


class _Observer:
    """Logs what became of a staple's requests."""

    def __init__(self, log: FilteringBoundLogger, now: Callable[[], float]) -> None:
        self._log = log
        self._now = now

    def fetched(self, state: SourceState) -> None:
        self._log.info("staple in force", url=display_url(state.url), expires=moment(state.next_update or 0))

    def unchanged(self, state: SourceState) -> None:
        self._log.debug("staple unchanged", url=display_url(state.url))

    def failed(self, state: SourceState, error: GatewayError, retry_in: float) -> None:
        # A server certificate that is revoked is the operator's business at once.
        urgent = isinstance(error, StapleError) and error.revoked
        (self._log.error if urgent else self._log.warning)(
            "staple not refreshed",
            url=display_url(state.url),
            error=str(error),
            failures=state.consecutive_failures,
            retry_in=f"{retry_in:.1f}s",
            consequence=self._consequence(state),
        )

    def _consequence(self, state: SourceState) -> str:
        if state.next_update is None or state.next_update <= self._now():
            return "nothing is stapled"
        return f"the one in force is stapled until {moment(state.next_update)}"
