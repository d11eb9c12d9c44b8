"""What a verdict means to people: the reason in the log, the words of the configuration in C's terms.

The decision itself is made in C, in the handshake (csrc/verify.c); this module
has no I/O and decides nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from cryptography import x509

from gateway.metrics import Counter
from gateway.names import (
    issuer_id,
    issuer_name_der,
    load_untrusted,
    printable_der,
    reason_text,
    serial_hex,
)
from gateway.native import AnswerStatus, Check, OnUnavailable, VerdictKind

if TYPE_CHECKING:
    from gateway.config.model import Listener, Revocation
    from gateway.native import Verdict
    from gateway.tls.handshake import Handshake

Level = Literal["debug", "info", "warning"]

CHECKS = {"off": Check.OFF, "leaf": Check.LEAF, "chain": Check.CHAIN}
ON_UNAVAILABLE = {
    "reject": OnUnavailable.REJECT,
    "accept": OnUnavailable.ACCEPT,
    "wait": OnUnavailable.WAIT,
}

REFUSED = {
    VerdictKind.REVOKED: Counter.REFUSED_REVOKED,
    VerdictKind.NO_LIST: Counter.REFUSED_NO_LIST,
    VerdictKind.STALE: Counter.REFUSED_STALE,
    VerdictKind.NO_ANSWER: Counter.REFUSED_NO_ANSWER,
}

_REASONS = {
    VerdictKind.REVOKED: "certificate_revoked",
    VerdictKind.NO_LIST: "no_list",
    VerdictKind.STALE: "list_expired",
    VerdictKind.NO_ANSWER: "no_ocsp_answer",
    VerdictKind.UNTRUSTED: "untrusted",
}


def rules(revocation: Revocation) -> tuple[Check, OnUnavailable, float]:
    """A listener's revocation settings as C takes them: check, on_unavailable, grace in seconds."""
    return CHECKS[revocation.check], ON_UNAVAILABLE[revocation.on_unavailable], revocation.grace


def follows(revocation: Revocation) -> bool:
    """Whether a listener wants distribution points followed."""
    return revocation.follow_distribution_points and revocation.check != "off"


def asks_responders(listener: Listener) -> bool:
    """Whether OCSP responders are asked about the clients of a listener."""
    rules = listener.revocation
    return rules.ocsp != "off" and rules.check != "off" and listener.verify != "none"


def describe_refusal(info: Handshake, error: str) -> tuple[Level, str, dict[str, object]]:
    """Level, event and values of the one log line about a client that does not come in.

    What a stranger can cause by sending garbage is `debug`; what a certificate
    of ours caused is `warning`.
    """
    if info.verdict.kind not in _REASONS:
        return "debug", "handshake failed", {"error": error or "the peer closed the connection"}
    return "warning", "client refused", describe(info)


def describe(info: Handshake) -> dict[str, object]:
    """Why a client is not simply good, and who it is."""
    values: dict[str, object] = {
        "reason": _reason(info.verdict),
        "tls": info.version,
        "resumed": info.resumed,
    }
    if info.verdict.kind is VerdictKind.UNTRUSTED:
        values["error"] = info.certificate_error
    return values | describe_client(info.leaf) | describe_verdict(info.verdict)


def verdict_text(verdict: Verdict) -> str:
    """What was found of a client: "good", "not_asked", or the reason why it is not simply good."""
    if verdict.kind is VerdictKind.NONE:
        return "not_asked"
    return "good" if verdict.kind is VerdictKind.GOOD else _reason(verdict)


def _reason(verdict: Verdict) -> str:
    unknown = verdict.kind is VerdictKind.NO_ANSWER and verdict.entry.reason == AnswerStatus.UNKNOWN
    return "unknown_to_ocsp" if unknown else _REASONS[verdict.kind]


def describe_verdict(verdict: Verdict) -> dict[str, object]:
    """Since when and why, as far as the verdict knows."""
    values: dict[str, object] = {}
    if verdict.depth:
        # The client's own certificate is at depth 0; here it is one of its CAs.
        values["depth"] = verdict.depth
    if verdict.kind is VerdictKind.REVOKED:
        values["revoked_at"] = moment(verdict.entry.revocation_date)
        values["revocation_reason"] = reason_text(verdict.entry.reason)
    if verdict.kind is VerdictKind.STALE:
        values["next_update"] = moment(verdict.next_update)
    return values


def describe_client(leaf: bytes) -> dict[str, object]:
    """Subject, issuer and serial of a client's certificate (DER), the serial as openssl prints it."""
    if not leaf:
        return {}
    try:
        certificate = load_untrusted(leaf)
        return {
            "subject": printable_der(issuer_id(certificate).name),
            "issuer": printable_der(issuer_name_der(certificate)),
            "serial": serial_hex(certificate.serial_number),
        }
    except ValueError as exc:
        return {"certificate": f"cannot be read: {exc}"}


def distribution_points(certificate: bytes) -> tuple[str, ...]:
    """The URLs where a certificate (DER) has lists and deltas (RFC 5280, sections 4.2.1.13 and 4.2.1.15)."""
    return _urls(certificate, x509.CRLDistributionPoints, x509.FreshestCRL)


def delta_points(certificate: bytes) -> tuple[str, ...]:
    """The URLs where a certificate (DER) has deltas alone (RFC 5280, section 4.2.1.15)."""
    return _urls(certificate, x509.FreshestCRL)


def _urls(certificate: bytes, *kinds: type[x509.CRLDistributionPoints | x509.FreshestCRL]) -> tuple[str, ...]:
    try:
        extensions = load_untrusted(certificate).extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return ()
    return tuple(
        name.value
        for extension in extensions
        if isinstance(extension.value, kinds)
        for point in extension.value
        for name in point.full_name or ()
        if isinstance(name, x509.UniformResourceIdentifier)
    )


def moment(seconds: int) -> str:
    """A time as people read it, in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return str(seconds)
