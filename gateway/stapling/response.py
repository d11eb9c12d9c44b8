"""OCSP responses (RFC 6960): bytes in, verified status out.

No I/O, no clock. The bytes may be anybody's: `StapleError` is raised for them and
nothing else. What `verify_response` returns was signed by the certificate's issuer or
by a responder that the issuer appointed, and is in its time. What `verify_staple`
returns also says "good": a client that checks it accepts it, until `expires`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from gateway import der as encoding
from gateway.errors import StapleError
from gateway.extensions import has_nocheck
from gateway.names import describe, issuer_id, issuer_name_der, one_line, serial_hex
from gateway.revocation.policy import moment
from gateway.stapling.signer import find_signer, key_bits, seconds, sha1

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateway.names import IssuerId

CLOCK_SKEW = 300
"""Seconds that a responder's clock may be ahead of ours."""

MAX_AGE_WITHOUT_NEXT_UPDATE = 24 * 3600
"""Seconds after thisUpdate that a response without nextUpdate is used.

Such a responder says that newer information is available at any time (RFC 6960,
section 4.2.2.1); it is asked again at each refresh, this bounds an outage.
"""

# What a responder says instead of an answer (RFC 6960, section 2.3).
_NO_ANSWER = {
    ocsp.OCSPResponseStatus.MALFORMED_REQUEST: "malformedRequest: it does not understand the request",
    ocsp.OCSPResponseStatus.INTERNAL_ERROR: "internalError",
    ocsp.OCSPResponseStatus.TRY_LATER: "tryLater",
    ocsp.OCSPResponseStatus.SIG_REQUIRED: "sigRequired: it wants signed requests, which are not supported",
    ocsp.OCSPResponseStatus.UNAUTHORIZED: "unauthorized: it does not answer for this issuer",
}
# Of SingleResponse (RFC 6960, section 4.2.1).
_CERT_STATUS = (0x80, 0xA1, 0x82)
_CONTEXT_1, _CONTEXT_2 = 0xA1, 0xA2
_BOOLEAN, _OCTET_STRING, _OID = 0x01, 0x04, 0x06

_WORST_FIRST = (ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN, ocsp.OCSPCertStatus.GOOD)

CertStatus = Literal["good", "revoked", "unknown"]
"""CertStatus (RFC 6960, section 4.2.1)."""


@dataclass(frozen=True)
class VerifiedResponse:
    """What a responder that may say so says of one certificate.

    Times are seconds since 1970, UTC; `next_update` is 0 where there is none. `expires`
    is when the response must not be used any more: nextUpdate, or the end of its
    signer's certificate. `revoked_at` and `reason` (CRLReason) count where the status is
    "revoked". `delegate` signed in the issuer's place (RFC 6960, section 4.2.2.2).
    """

    der: bytes
    status: CertStatus
    this_update: int
    next_update: int
    produced_at: int
    expires: int
    revoked_at: int = 0
    reason: str = "unspecified"
    delegate: x509.Certificate | None = None


def verify_staple(
    data: bytes, cert: x509.Certificate, issuer: x509.Certificate, *, now: int, nonce: bytes | None = None
) -> VerifiedResponse:
    """`verify_response`, and the certificate is good (RFC 6066, section 8).

    Raises:
        StapleError: it is not so; with `revoked` where the status is revoked.
    """
    verified = verify_response(data, cert, issuer, now=now, nonce=nonce)
    if verified.status == "revoked":
        when = moment(verified.revoked_at)
        raise StapleError(f"the certificate is revoked since {when} (reason {verified.reason})", revoked=True)
    if verified.status == "unknown":
        raise StapleError("the responder does not know the certificate (status unknown)")
    return verified


def verify_response(
    data: bytes, cert: x509.Certificate, issuer: x509.Certificate, *, now: int, nonce: bytes | None = None
) -> VerifiedResponse:
    """Accept the OCSP response (DER) that says at `now`, in seconds since 1970, what `cert` is.

    As RFC 6960, section 3.2, demands: it is about `cert`; its signer is `issuer`, or
    was appointed by it (section 4.2.2.2); the signature is good; the times fit. `nonce`
    is that of the request: a response with another one is refused, one without is not,
    because responders that answer from a store have none (RFC 9654, section 2.1).
    Whether a delegate was itself revoked is for `check_delegate`.

    Raises:
        StapleError: it is not so.
    """
    response = _parse(data)
    try:
        singles = _about(response, cert, issuer)
        until, delegate = find_signer(data, response, issuer, now)
        times = [_check_times(single, now) for single in singles]
        _check_extensions(response, nonce)
        _check_single_extensions(response.tbs_response_bytes)
        # Where it says two things of one certificate, the worse counts.
        worst = min(singles, key=lambda single: _WORST_FIRST.index(single.certificate_status))
        status, revoked_at, reason = _status(worst)
        produced_at = seconds(response.produced_at_utc)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise StapleError(f"not an OCSP response as RFC 6960 has it: {one_line(exc)}") from exc
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as exc:
        raise StapleError(f"extensions in the OCSP response: {one_line(exc)}") from exc
    next_update = min((end for _, end in times if end), default=0)
    return VerifiedResponse(
        der=data,
        status=status,
        this_update=max(begin for begin, _ in times),
        next_update=next_update,
        produced_at=produced_at,
        expires=min(next_update or min(begin for begin, _ in times) + MAX_AGE_WITHOUT_NEXT_UPDATE, until),
        revoked_at=revoked_at,
        reason=reason,
        delegate=delegate,
    )


def is_answer(data: bytes) -> bool:
    """Whether a responder answers at all, be it what it may (RFC 6960, section 4.2.1: successful)."""
    try:
        _parse(data)
    except StapleError:
        return False
    return True


def check_delegate(
    verified: VerifiedResponse,
    issuer: x509.Certificate,
    revoked: Callable[[x509.Certificate, IssuerId], bool],
) -> None:
    """Refuse what a `revoked` delegate signed; one with id-pkix-ocsp-nocheck is trusted while it lasts.

    Raises:
        StapleError: it was revoked (RFC 6960, section 4.2.2.2.1).
    """
    delegate = verified.delegate
    if delegate is not None and not has_nocheck(delegate) and revoked(delegate, issuer_id(issuer)):
        raise StapleError(f"the responder {describe(delegate)} was revoked by its CA")


def _parse(data: bytes) -> ocsp.OCSPResponse:
    try:
        response = ocsp.load_der_ocsp_response(data)
        status = response.response_status
        if status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise StapleError(f"the responder gives no answer: {_NO_ANSWER.get(status, status.name)}")
        # Clients get these very bytes, and not all of them forgive what is not DER.
        exact = response.public_bytes(Encoding.DER) == data
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        if data.startswith(b"\x30"):
            raise StapleError(f"not an OCSP response in DER: {one_line(exc)}") from exc
        beginning = f"begins with {data[:24].decode('ascii', 'replace')!a}" if data else "is empty"
        raise StapleError(f"not an OCSP response, it {beginning}") from exc
    if not exact:
        raise StapleError("the OCSP response is not in DER, though it can be read")
    return response


def _about(
    response: ocsp.OCSPResponse, cert: x509.Certificate, issuer: x509.Certificate
) -> list[ocsp.OCSPSingleResponse]:
    """The answers about `cert`: CertID is hashes of issuer name and key, and the serial (section 4.1.1)."""
    name, key = issuer_name_der(cert), key_bits(issuer)
    expected = {
        "sha1": (sha1(name), sha1(key), cert.serial_number),
        "sha256": (hashlib.sha256(name).digest(), hashlib.sha256(key).digest(), cert.serial_number),
    }
    others: list[str] = []
    singles: list[ocsp.OCSPSingleResponse] = []
    for single in response.responses:
        found = (single.issuer_name_hash, single.issuer_key_hash, single.serial_number)
        if found == expected.get(single.hash_algorithm.name):
            singles.append(single)
        elif single.serial_number == cert.serial_number:
            others.append(f"{serial_hex(single.serial_number)} of another issuer")
        else:
            others.append(serial_hex(single.serial_number))
    if not singles:
        answered = ", ".join(others[:3]) or "none"
        raise StapleError(f"the response is not about {describe(cert)}; it answers for serial {answered}")
    return singles


def _check_times(single: ocsp.OCSPSingleResponse, now: int) -> tuple[int, int]:
    """Give thisUpdate and nextUpdate (0 for none) of an answer that is fresh (section 4.2.2.1)."""
    this_update = seconds(single.this_update_utc)
    next_update = seconds(single.next_update_utc) if single.next_update_utc is not None else 0
    if this_update > now + CLOCK_SKEW:
        raise StapleError(f"thisUpdate is {this_update - now} s in the future: whose clock is wrong?")
    if single.next_update_utc is not None and next_update < this_update:
        raise StapleError(f"nextUpdate is {this_update - next_update} s before thisUpdate")
    if 0 < next_update < now:
        raise StapleError(f"the response has expired: nextUpdate was {now - next_update} s ago")
    if not next_update and this_update + MAX_AGE_WITHOUT_NEXT_UPDATE < now:
        raise StapleError(f"the response is too old: no nextUpdate, thisUpdate was {now - this_update} s ago")
    return this_update, next_update


def _status(single: ocsp.OCSPSingleResponse) -> tuple[CertStatus, int, str]:
    """CertStatus, and of a revoked certificate when and why."""
    match single.certificate_status:
        case ocsp.OCSPCertStatus.REVOKED:
            when, reason = single.revocation_time_utc, single.revocation_reason
            return (
                "revoked",
                0 if when is None else seconds(when),
                "unspecified" if reason is None else reason.value,
            )
        case ocsp.OCSPCertStatus.GOOD:
            return "good", 0, "unspecified"
        case _:
            return "unknown", 0, "unspecified"


def _check_extensions(response: ocsp.OCSPResponse, nonce: bytes | None) -> None:
    for extension in response.extensions:
        if isinstance(extension.value, x509.OCSPNonce):
            if nonce is not None and extension.value.nonce != nonce:
                raise StapleError("the nonce is that of another request: an old response, sent again")
        elif extension.critical:
            raise StapleError(
                f"critical extension {extension.oid.dotted_string} of the response is not known"
            )


def _check_single_extensions(signed: bytes) -> None:
    """Refuse critical singleExtensions (section 4.4): cryptography does not look, and none is known here."""
    field = encoding.Field
    *_, responses, _ = encoding.fields(
        signed,
        encoding.read(signed),
        "ResponseData",
        field("version", (encoding.CONTEXT_0,), optional=True),
        field("responderID", (_CONTEXT_1, _CONTEXT_2)),
        field("producedAt", (encoding.GENERALIZED_TIME,)),
        field("responses", (encoding.SEQUENCE,)),
        field("responseExtensions", (_CONTEXT_1,), optional=True),
    )
    for single in _each(signed, responses):
        *_, wrapped = encoding.fields(
            signed,
            single,
            "SingleResponse",
            field("certID", (encoding.SEQUENCE,)),
            field("certStatus", _CERT_STATUS),
            field("thisUpdate", (encoding.GENERALIZED_TIME,)),
            field("nextUpdate", (encoding.CONTEXT_0,), optional=True),
            field("singleExtensions", (_CONTEXT_1,), optional=True),
        )
        for extensions in _each(signed, wrapped):
            for extension in _each(signed, extensions):
                oid, critical, _ = encoding.fields(
                    signed,
                    extension,
                    "Extension",
                    field("extnID", (_OID,)),
                    field("critical", (_BOOLEAN,), optional=True),
                    field("extnValue", (_OCTET_STRING,)),
                )
                if any(signed[critical.content]):
                    raise StapleError(
                        f"critical extension {signed[oid.content].hex()} of the answer is not known"
                    )


def _each(data: bytes, parent: encoding.Element) -> Iterator[encoding.Element]:
    at = parent.content_at
    while at < parent.end:
        yield encoding.read(data, at, parent.end)
        at = encoding.read(data, at, parent.end).end
