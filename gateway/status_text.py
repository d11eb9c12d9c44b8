"""A `Status` in words, a line each: what `tls-gateway status` prints. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.revocation.policy import moment

if TYPE_CHECKING:
    from gateway.status import ListenerStatus, ResponderStatus, SourceStatus, Status


def lines(status: Status) -> list[str]:
    """The status in text, a line each."""
    totals = status.totals
    ready = "ready" if status.ready else "not ready"
    up = _span(status.now - status.started)
    refused = [totals[f"refused_{name}"] for name in ("revoked", "no_list", "stale", "no_answer")]
    causes = "{} revoked, {} without a list, {} with an expired list, {} without an OCSP answer".format(
        *refused
    )
    told = [
        f"tls-gateway {status.version}: {ready}, {status.workers} workers, control up {up}",
        *(f"not ready: {reason}" for reason in status.reasons),
        *(f"warning: {warning}" for warning in status.warnings),
        f"clients: {totals['live']} live, {totals['accepted']} accepted; {_handshakes(totals)}",
        f"refused: {sum(refused)}: {causes}",
    ]
    if status.worker_restarts or status.control_restarts:
        told.append(f"restarted: workers {status.worker_restarts}, control {status.control_restarts} times")
    told += [f"listener {each.name} {' '.join(each.bind)}: {_connections(each)}" for each in status.listeners]
    told += [f"{each.kind} {each.url}: {_source_words(each, status.now)}" for each in status.sources]
    told += [f"responder {each.url}: {_responder_words(each)}" for each in status.responders]
    told += [
        f"certificate {each.subject} (serial {each.serial}, {each.use} of {each.listener}): "
        f"until {moment(each.not_after)}, {_left(each.not_after, status.now)}"
        for each in status.certificates
    ]
    told.append(
        f"revoked by hand: {status.local_revocations}; by the configuration: {status.configured_revocations}"
    )
    return told


def _connections(listener: ListenerStatus) -> str:
    """How many, and where health checks say that they can go."""
    live = f"{listener.connections} live of {listener.max_connections}"
    checked = [each for each in listener.brokers if each.up is not None]
    words = ", ".join(f"{each.address} {'up' if each.up else 'DOWN'}" for each in checked)
    return f"{live}; brokers: {words}" if words else live


def _handshakes(totals: dict[str, int]) -> str:
    done, resumed, failed = (totals[name] for name in ("handshakes", "resumed", "failed"))
    return f"{done} handshakes, {resumed} of them resumed, {failed} failed"


def _source_words(source: SourceStatus, now: float) -> str:
    words: list[str] = [source.condition]
    if source.revoked:
        words.append("the certificate is revoked")
    if source.number is not None:
        words.append(f"number {source.number}")
    if source.entries is not None:
        words.append(f"{source.entries} entries")
    if source.this_update is not None:
        words.append(f"{_span(now - source.this_update)} old")
    if source.next_update is not None:
        words.append(f"until {moment(source.next_update)}, {_left(source.next_update, now)}")
    if source.last_error is not None:
        words.append(f"failed {source.consecutive_failures} times: {source.last_error}")
    return ", ".join(words)


def _responder_words(responder: ResponderStatus) -> str:
    words = [f"{responder.answers} answers, {responder.failures} failures"]
    if responder.given_up:
        words.append("given up for now")
    if responder.last_error is not None:
        words.append(f"the last error: {responder.last_error}")
    return ", ".join(words)


def _left(end: float, now: float) -> str:
    return f"{_span(end - now)} left" if end > now else f"ended {_span(now - end)} ago"


def _span(seconds: float) -> str:
    """A time span in its two largest units."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])
