"""A `Status` in words, for a terminal of 80 columns: what `tls-gateway status` prints. No I/O."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from gateway.revocation.policy import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gateway.publish import Refusal
    from gateway.status import CertificateStatus, ListenerStatus, ResponderStatus, SourceStatus, Status

_COLUMNS = 79
_BAR = 20
_REFUSED = {
    "revoked": "revoked",
    "no_list": "without a list",
    "stale": "with an expired list",
    "no_answer": "without an OCSP answer",
}


def lines(status: Status) -> list[str]:
    """The status in text, a line each; what is about one thing is set in below its name."""
    ready = "ready" if status.ready else "NOT READY"
    up = _span(status.now - status.started)
    told = [
        f"tls-gateway {status.version}: {ready}, {status.workers} workers, control up {up}",
        *(f"not ready: {reason}" for reason in status.reasons),
        *(f"warning: {warning}" for warning in status.warnings),
        *_clients(status),
    ]
    lists = (each for each in status.sources if each.kind == "list")
    staples = (each for each in status.sources if each.kind == "staple")
    return [
        *(line for text in told for line in _wrapped(text, "")),
        *_section("LISTENERS", map(_listener, status.listeners)),
        *_section("LISTS", (_source(each, status.now) for each in lists)),
        *_section("STAPLES", (_source(each, status.now) for each in staples)),
        *_section("OCSP RESPONDERS", map(_responder, status.responders)),
        *_section("CERTIFICATES", (_certificate(each, status.now) for each in status.certificates)),
        *_section("LAST REFUSED", (_refusal(each, status.now) for each in status.refusals)),
    ]


def _clients(status: Status) -> Iterator[str]:
    totals = status.totals
    live, begun = totals["live"], totals["handshaking"]
    yield f"clients: {live:,} live, {begun:,} in handshake, {totals['accepted']:,} accepted"
    yield (
        f"handshakes: {totals['handshakes']:,}, {totals['resumed']:,} of them resumed; "
        f"{totals['failed']:,} failed, {totals['timed_out']:,} timed out"
    )
    refused = {words: totals[f"refused_{name}"] for name, words in _REFUSED.items()}
    why = "".join(f", {count:,} {words}" for words, count in refused.items() if count)
    yield f"refused: {sum(refused.values()):,}{why}; {totals['disconnected']:,} cut off while connected"
    by_hand, configured = status.local_revocations, status.configured_revocations
    yield f"revoked by hand: {by_hand:,}; by the configuration: {configured:,}"
    if status.worker_restarts or status.control_restarts:
        yield f"restarted: workers {status.worker_restarts}, control {status.control_restarts} times"


def _section(title: str, entries: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """The title, and of each entry its name and what there is to say of it; nothing without entries."""
    for number, (name, *rest) in enumerate(entries):
        if number == 0:
            yield from ("", title)
        yield from _wrapped(name, "  ")
        for text in rest:
            yield from _wrapped(text, "    ")


def _wrapped(text: str, indent: str) -> list[str]:
    # A URL, a subject or a serial number that is longer stays whole, to be copied.
    return textwrap.wrap(
        text, _COLUMNS, initial_indent=indent, subsequent_indent=f"{indent}  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _bar(share: float) -> str:
    full = round(_BAR * min(1.0, max(0.0, share)))
    return f"[{'#' * full}{'.' * (_BAR - full)}]"


def _listener(listener: ListenerStatus) -> tuple[str, ...]:
    live = f"{listener.connections:,} of {listener.max_connections:,} connections"
    checked = [each for each in listener.brokers if each.up is not None]
    brokers = ", ".join(f"{each.address} {'up' if each.up else 'DOWN'}" for each in checked)
    return (
        f"{listener.name} {' '.join(listener.bind)}",
        f"{_bar(listener.connections / max(1, listener.max_connections))} {live}",
        *([f"brokers: {brokers}"] if brokers else []),
    )


def _source(source: SourceStatus, now: float) -> tuple[str, ...]:
    """Its bar is its age, of its life."""
    begun, end = source.this_update, source.next_update
    words: list[str] = [source.condition if source.condition == "in force" else source.condition.upper()]
    if begun is not None:
        words.append(f"{_span(now - begun)} old")
    if end is not None:
        words.append(_left(end, now))
    bar = f"{_bar((now - begun) / max(1, end - begun))} " if begun is not None and end is not None else ""
    what = [f"for {source.subject} (serial {source.serial})"] if source.kind == "staple" else []
    what += ["learnt from a certificate"] if source.learnt else []
    what += ["the certificate is REVOKED"] if source.revoked else []
    what += [f"number {source.number}"] if source.number is not None else []
    what += [f"{source.entries:,} entries"] if source.entries is not None else []
    what += [f"until {moment(end)}"] if end is not None else []
    error = source.last_error
    return (
        source.url,
        bar + ", ".join(words),
        *([", ".join(what)] if what else []),
        *([f"failed {source.consecutive_failures} times: {error}"] if error is not None else []),
    )


def _responder(responder: ResponderStatus) -> tuple[str, ...]:
    given_up = ", GIVEN UP for now" if responder.given_up else ""
    error = responder.last_error
    return (
        responder.url,
        f"{responder.answers:,} answers, {responder.failures:,} failures{given_up}",
        *([f"the last error: {error}"] if error is not None else []),
    )


def _certificate(certificate: CertificateStatus, now: float) -> tuple[str, ...]:
    end = certificate.not_after
    return (
        f"{certificate.subject} ({certificate.use} of {certificate.listener})",
        f"{_left(end, now)}, until {moment(end)}, serial {certificate.serial}",
    )


def _refusal(refusal: Refusal, now: float) -> tuple[str, ...]:
    when = f"{_span(now - refusal.at)} ago: {refusal.reason.replace('_', ' ')}"
    cut_off = ", while connected" if refusal.event == "client disconnected" else ""
    return (
        f"{when}{cut_off}, {refusal.listener}, from {refusal.peer}",
        ", ".join(
            each
            for each in (refusal.subject, f"serial {refusal.serial}" if refusal.serial else "", refusal.tls)
            if each
        )
        or "no certificate",
    )


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
