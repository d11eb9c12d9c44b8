"""How the running gateway is: one value for `/status`, `/metrics`, the status page and `tls-gateway status`.

No I/O: `Observer` is handed what the control process knows and makes a `Status` of it,
`status_text` has it in words. Field names are the JSON schema of `/status` (docs/admin.md).
Times are seconds since 1970, None where there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from gateway import __version__, names
from gateway.config.values import one_line
from gateway.extensions import must_staple
from gateway.fetch import display_url
from gateway.metrics import HANDSHAKE_TIMES, Counter
from gateway.publish import Refusal  # noqa: TC001 - msgspec looks it up

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cryptography import x509

    from gateway.config.material import ListenerMaterial
    from gateway.config.model import Config, Listener
    from gateway.metrics import Counters
    from gateway.revocation.ocsp import Responder
    from gateway.schedule import SourceState

Condition = Literal["in force", "expired", "missing"]


class BrokerStatus(msgspec.Struct, frozen=True):
    """A broker of a listener; `up` is what its health checks say, None without any."""

    address: str
    up: bool | None


class ListenerStatus(msgspec.Struct, frozen=True):
    """One listener; `connections` are from accept to end, in all workers."""

    name: str
    bind: tuple[str, ...]
    connections: int
    max_connections: int
    verify: str
    check: str
    on_unavailable: str
    stapling: bool
    brokers: tuple[BrokerStatus, ...] = ()


class CertificateStatus(msgspec.Struct, frozen=True):
    """A certificate of the configuration: `use` is "server" or "client_ca"; the serial is hexadecimal."""

    listener: str
    use: str
    subject: str
    issuer: str
    serial: str
    not_after: int


class SourceStatus(msgspec.Struct, frozen=True):
    """One URL of a list or a staple, without user name and password.

    `learnt`: from a certificate, not from the configuration. `subject` and `serial` are of a
    staple's certificate, and `revoked` means that its responder says so of it.
    `next_update` of a staple is when it is no longer stapled.
    `attempts`, `failures` and `seconds` (that attempts took together) count since the control
    process was started.
    """

    kind: Literal["list", "staple"]
    url: str
    condition: Condition
    learnt: bool
    subject: str
    serial: str
    this_update: int | None
    next_update: int | None
    number: str | None
    entries: int | None
    last_attempt: float | None
    last_success: float | None
    next_attempt: float | None
    last_error: str | None
    consecutive_failures: int
    attempts: int
    failures: int
    seconds: float
    revoked: bool


class ResponderStatus(msgspec.Struct, frozen=True):
    """An OCSP responder that was asked about clients since the control process was started.

    `given_up`: it has failed so often that clients do not wait for it.
    """

    url: str
    answers: int
    failures: int
    consecutive_failures: int
    given_up: bool
    last_error: str | None


class HandshakeTimes(msgspec.Struct, frozen=True):
    """How many completed handshakes took at most `seconds`, and all of them, for which it is None."""

    seconds: float | None
    count: int


class Status(msgspec.Struct, frozen=True):
    """All of it. `totals` are the counters of all workers by name, since the gateway was started.

    `reasons` say why it is not ready, `warnings` what is wrong and does not keep it from that.
    `refusals` are the last few clients that were refused or cut off, newest first.
    """

    version: str
    now: float
    started: float
    ready: bool
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    workers: int
    worker_restarts: int
    control_restarts: int
    totals: dict[str, int]
    handshake_times: tuple[HandshakeTimes, ...]
    listeners: tuple[ListenerStatus, ...]
    certificates: tuple[CertificateStatus, ...]
    sources: tuple[SourceStatus, ...]
    responders: tuple[ResponderStatus, ...]
    issuers: tuple[str, ...]
    local_revocations: int
    configured_revocations: int
    refusals: tuple[Refusal, ...]


# All that control keeps are in `/history`.
_REFUSALS = 5


class Known(NamedTuple):
    """A source as control knows it; `fingerprint` is of a staple's certificate (SHA-256, hexadecimal)."""

    kind: Literal["list", "staple"]
    state: SourceState
    fingerprint: str = ""


class Moment(NamedTuple):
    """What changes from one look to the next, besides the counters."""

    now: float
    started: float
    begun: bool
    """Whether every source has had its first chance."""
    sources: Sequence[Known]
    issuers: Iterable[bytes]
    """The Names (DER) of all known CAs."""
    local_revocations: int
    configured_revocations: int
    responders: Sequence[Responder] = ()
    problems: Sequence[str] = ()
    """With what is revoked by hand, or by the configuration."""
    brokers: Mapping[str, Mapping[str, bool]] = {}
    """Whether a listener's brokers are up, by its name and their address; where there are health checks."""
    refusals: Sequence[Refusal] = ()
    """Of clients, newest last."""
    held: Iterable[str] = ()
    """Listeners that are closed until a staple is there that their certificate demands."""


class Observer:
    """Knows what does not change, and makes a `Status` of a `Moment`."""

    def __init__(self, config: Config, materials: Sequence[ListenerMaterial], counters: Counters) -> None:
        self._config = config
        self._counters = counters
        self._certificates = tuple(_certificates(config, materials))
        self._configured = {url for listener in config.listeners for url in listener.revocation.crl_urls}
        self._stapled = {
            names.fingerprint(server.leaf): server.leaf
            for listener, material in zip(config.listeners, materials, strict=True)
            if listener.stapling.enabled
            for server in material.certificates
        }
        self._staple_required = {
            names.fingerprint(server.leaf)
            for listener, material in zip(config.listeners, materials, strict=True)
            if listener.stapling.required
            for server in material.certificates
        }

    def look(self, at: Moment) -> Status:
        """How it is."""
        reasons, warnings = self._judge(at)
        counters = self._counters
        return Status(
            version=__version__,
            now=at.now,
            started=at.started,
            ready=not reasons,
            reasons=tuple(reasons),
            warnings=tuple(warnings),
            workers=counters.workers,
            worker_restarts=counters.worker_restarts,
            control_restarts=counters.control_restarts,
            totals={counter.name.lower(): counters.total(counter) for counter in Counter},
            handshake_times=tuple(
                HandshakeTimes(*pair)
                for pair in zip((*HANDSHAKE_TIMES, None), counters.handshake_times(), strict=True)
            ),
            listeners=tuple(
                _listener(listener, counters.connections(number), at.brokers.get(listener.name, {}))
                for number, listener in enumerate(self._config.listeners)
            ),
            certificates=self._certificates,
            sources=tuple(self._source(known, at.now) for known in at.sources),
            responders=tuple(map(_responder, at.responders)),
            issuers=tuple(sorted({names.printable_der(name) for name in at.issuers})),
            local_revocations=at.local_revocations,
            configured_revocations=at.configured_revocations,
            refusals=tuple(at.refusals[-1 : -_REFUSALS - 1 : -1]),
        )

    def _source(self, known: Known, now: float) -> SourceStatus:
        learnt = known.kind == "list" and known.state.url not in self._configured
        return of_source(known, now, learnt=learnt, certificate=self._stapled.get(known.fingerprint))

    def _judge(self, at: Moment) -> tuple[list[str], list[str]]:
        """Why it is not ready, and what else is wrong.

        A list is required where its clients are refused without it, a staple where its
        certificate demands one, and for the first time where its listener waits for it: a
        responder's failure must not take a whole fleet of gateways out of service.
        """
        reasons: list[str] = [] if at.begun else ["starting: lists and staples are being fetched"]
        warnings = [one_line(problem) for problem in at.problems]
        for name, brokers in at.brokers.items():
            down = [address for address, up in brokers.items() if not up]
            if len(down) == len(brokers):
                reasons.append(f"listener {name}: no broker is up")
            else:
                warnings += [f"listener {name}: broker {address} is down" for address in down]
        if self._counters.stopping:
            reasons.append("draining: nobody comes in any more")
        reasons += [f"listener {name}: closed until its staple is there" for name in at.held]
        for known in at.sources:
            condition, state = _condition(known.state, at.now), known.state
            told = f"{known.kind} {display_url(state.url)}"
            if state.revoked:
                warnings.append(f"{told}: the responder says that the certificate is revoked")
            if condition == "in force":
                continue
            if known.kind == "staple":
                certificate = self._stapled.get(known.fingerprint)
                awaited = condition == "missing" and known.fingerprint in self._staple_required
                hard = awaited or (certificate is not None and must_staple(certificate))
            else:
                hard = state.url in self._required(state, at.now)
            (reasons if hard else warnings).append(f"{told}: {condition}")
        return reasons, warnings

    def _required(self, state: SourceState, now: float) -> set[str]:
        """The lists without which clients are refused now: an expired one counts while `grace` lasts."""
        return {
            url
            for listener in self._config.listeners
            if listener.verify != "none"
            and listener.revocation.check != "off"
            and listener.revocation.on_unavailable != "accept"
            and listener.revocation.ocsp != "require"
            and (state.next_update is None or state.next_update + listener.revocation.grace <= now)
            for url in listener.revocation.crl_urls
        }


def of_source(
    known: Known, now: float, *, learnt: bool = False, certificate: x509.Certificate | None = None
) -> SourceStatus:
    """How a source is; `certificate` is the one that a staple is about."""
    state = known.state
    return SourceStatus(
        kind=known.kind,
        url=display_url(state.url),
        condition=_condition(state, now),
        learnt=learnt,
        subject="" if certificate is None else names.printable(certificate.subject),
        serial="" if certificate is None else names.serial_hex(certificate.serial_number),
        this_update=state.this_update,
        next_update=state.next_update,
        # Up to 20 octets (RFC 5280, section 5.2.3): more than a number of JSON holds.
        number=None if state.number is None else str(state.number),
        entries=state.entries,
        last_attempt=state.last_attempt,
        last_success=state.last_success,
        next_attempt=state.next_attempt,
        last_error=None if state.last_error is None else one_line(state.last_error),
        consecutive_failures=state.consecutive_failures,
        attempts=state.attempts,
        failures=state.failures,
        seconds=state.seconds,
        revoked=state.revoked,
    )


def _responder(one: Responder) -> ResponderStatus:
    return ResponderStatus(
        url=display_url(one.url),
        answers=one.answers,
        failures=one.failures,
        consecutive_failures=one.consecutive_failures,
        given_up=one.broken,
        last_error=None if one.last_error is None else one_line(one.last_error),
    )


def _condition(state: SourceState, now: float) -> Condition:
    if state.this_update is None:
        return "missing"
    return "expired" if state.next_update is not None and state.next_update <= now else "in force"


def _listener(listener: Listener, connections: int, up: Mapping[str, bool]) -> ListenerStatus:
    return ListenerStatus(
        name=listener.name,
        bind=tuple(map(str, listener.bind)),
        connections=connections,
        max_connections=listener.max_connections,
        verify=listener.verify,
        check=listener.revocation.check,
        on_unavailable=listener.revocation.on_unavailable,
        stapling=listener.stapling.enabled,
        brokers=tuple(BrokerStatus(address, up.get(address)) for address in map(str, listener.upstreams)),
    )


def _certificates(config: Config, materials: Sequence[ListenerMaterial]) -> Iterator[CertificateStatus]:
    for listener, material in zip(config.listeners, materials, strict=True):
        servers = tuple(server.leaf for server in material.certificates)
        for use, certificates in (("server", servers), ("client_ca", material.client_cas)):
            for certificate in dict.fromkeys(certificates):
                yield CertificateStatus(
                    listener=listener.name,
                    use=use,
                    subject=names.printable(certificate.subject),
                    issuer=names.printable(certificate.issuer),
                    serial=names.serial_hex(certificate.serial_number),
                    not_after=int(certificate.not_valid_after_utc.timestamp()),
                )
