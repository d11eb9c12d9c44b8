"""OCSP requests and responses for stapling (RFC 6960, RFC 6066 section 8): bytes in, verified response out.

No I/O, no clock. `verify_response` takes bytes that anybody may have written and
raises `StapleError` and nothing else. What it returns says "good" about the given
certificate and was signed by its issuer or by a responder that the issuer
appointed: a client that checks it will accept it, until `expires`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from gateway import der as encoding
from gateway.errors import StapleError
from gateway.names import issuer_id, issuer_name_der, printable_der, serial_hex
from gateway.signature import certificate_fault, find_fault

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

CLOCK_SKEW = 300
"""Seconds that a responder's clock may be ahead of ours."""

MAX_AGE_WITHOUT_NEXT_UPDATE = 24 * 3600
"""Seconds after thisUpdate that a response without nextUpdate is stapled.

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


@dataclass(frozen=True)
class VerifiedResponse:
    """A response that says "good" and may be stapled until `expires`.

    Times are seconds since 1970, UTC; `next_update` is 0 where there is none.
    """

    der: bytes
    this_update: int
    next_update: int
    produced_at: int
    expires: int


def build_request(cert: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """The OCSPRequest for `cert`, DER.

    The CertID is of SHA-1, which names and protects nothing here: it is the one
    hash that every responder has to understand (RFC 5019, section 2.1.1). No nonce,
    so that the responder may answer from its cache.

    Raises:
        StapleError: a certificate that cannot be asked about.
    """
    try:
        builder = ocsp.OCSPRequestBuilder().add_certificate(cert, issuer, hashes.SHA1())  # noqa: S303 - see above
        return builder.build().public_bytes(Encoding.DER)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise StapleError(f"no OCSP request can be made for {_who(cert)}: {exc}") from exc


def responder_url(cert: x509.Certificate) -> str | None:
    """The first http or https URL of an OCSP responder in `cert` (RFC 5280, section 4.2.2.1)."""
    try:
        access = cert.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None
    for description in access:
        location = description.access_location
        if description.access_method != AuthorityInformationAccessOID.OCSP:
            continue
        if isinstance(location, x509.UniformResourceIdentifier) and location.value.lower().startswith(
            ("http://", "https://")
        ):
            return location.value
    return None


def find_issuer(cert: x509.Certificate, candidates: Iterable[x509.Certificate]) -> x509.Certificate | None:
    """The first of `candidates` that signed `cert` and has the name of its issuer."""
    return next((candidate for candidate in candidates if _issue_fault(cert, candidate) is None), None)


def verify_response(
    data: bytes, cert: x509.Certificate, issuer: x509.Certificate, *, now: int
) -> VerifiedResponse:
    """Accept the OCSP response (DER) that says at `now`, in seconds since 1970, that `cert` is good.

    As RFC 6960, section 3.2, demands: it is about `cert`; its signer is `issuer`, or
    was appointed by it (section 4.2.2.2); the signature is good; the times fit. A
    nonce is ignored. Whether a responder's own certificate was revoked is not asked.

    Raises:
        StapleError: it is not so; with `revoked` where the status is revoked.
    """
    response = _parse(data)
    try:
        singles = _about(response, cert, issuer)
        until = _check_signer(data, response, issuer, now)
        verified = [_check_single(single, now) for single in singles]
        this_update = max(times[0] for times in verified)
        next_update = min((times[1] for times in verified if times[1]), default=0)
        produced_at = _seconds(response.produced_at_utc)
        _check_extensions(response)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise StapleError(f"not an OCSP response as RFC 6960 has it: {_one_line(exc)}") from exc
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as exc:
        raise StapleError(f"extensions in the OCSP response: {_one_line(exc)}") from exc
    expires = min(next_update or min(times[0] for times in verified) + MAX_AGE_WITHOUT_NEXT_UPDATE, until)
    return VerifiedResponse(data, this_update, next_update, produced_at, expires)


def _parse(data: bytes) -> ocsp.OCSPResponse:
    try:
        response = ocsp.load_der_ocsp_response(data)
        status = response.response_status
        if status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise StapleError(f"the responder gives no answer: {_NO_ANSWER.get(status, status.name)}")
        # Clients get these very bytes, and not all of them forgive what is not DER.
        exact = response.public_bytes(Encoding.DER) == data
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        beginning = f"begins with {data[:24].decode('ascii', 'replace')!a}" if data else "is empty"
        raise StapleError(f"not an OCSP response in DER, it {beginning}: {_one_line(exc)}") from exc
    if not exact:
        raise StapleError("the OCSP response is not in DER, though it can be read")
    return response


def _about(
    response: ocsp.OCSPResponse, cert: x509.Certificate, issuer: x509.Certificate
) -> list[ocsp.OCSPSingleResponse]:
    """The answers about `cert`: CertID is hashes of issuer name and key, and the serial (section 4.1.1)."""
    name, key = issuer_name_der(cert), _key_bits(issuer)
    expected = {
        "sha1": (_sha1(name), _sha1(key), cert.serial_number),
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
        raise StapleError(f"the response is not about {_who(cert)}; it answers for serial {answered}")
    return singles


def _check_signer(data: bytes, response: ocsp.OCSPResponse, issuer: x509.Certificate, now: int) -> int:
    """Find who signed, and that they may. Until when they may, in seconds since 1970."""
    faults: list[str] = []
    for signer in (issuer, *response.certificates):
        if not _is_responder(response, signer):
            continue
        # The issuer itself needs no appointment (section 2.2).
        fault = None if signer == issuer else _delegate_fault(signer, issuer, now)
        fault = fault or _signature_fault(data, response, signer)
        if fault is None:
            return _seconds(signer.not_valid_after_utc)
        faults.append(fault)
    if faults:
        raise StapleError("; ".join(dict.fromkeys(faults)))
    raise StapleError(
        f"signed by {_responder(response)}, which is neither {_who(issuer)} nor a responder that it appointed"
    )


def _is_responder(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    """ResponderID: byName or byKey, which is the SHA-1 of the key's bits (section 4.2.1)."""
    if response.responder_name is not None:
        return response.responder_name == signer.subject
    return response.responder_key_hash == _sha1(_key_bits(signer))


def _delegate_fault(signer: x509.Certificate, issuer: x509.Certificate, now: int) -> str | None:
    """Why `signer` may not answer for `issuer`; None when it may (section 4.2.2.2).

    "The CA SHOULD issue the certificate [...] directly": a responder that another
    CA of the same tree appointed could answer for certificates that are not its own.
    """
    who = f"the responder {_who(signer)}"
    fault = _issue_fault(signer, issuer)
    if fault is not None:
        return f"{who} was not appointed by {_who(issuer)}: {fault}"
    try:
        usages = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        usages = None
    if usages is None or ExtendedKeyUsageOID.OCSP_SIGNING not in usages:
        return f"{who} may not answer: its certificate has no extendedKeyUsage OCSPSigning"
    if now < _seconds(signer.not_valid_before_utc):
        return f"{who} may not answer yet: its certificate is not yet valid"
    if now > _seconds(signer.not_valid_after_utc):
        return f"{who} may not answer any more: its certificate has expired"
    return None


def _issue_fault(cert: x509.Certificate, issuer: x509.Certificate) -> str | None:
    try:
        if issuer_name_der(cert) != issuer_id(issuer).name and cert.issuer != issuer.subject:
            return f"it was issued by {printable_der(issuer_name_der(cert))}"
    except ValueError as exc:
        return f"a name cannot be read: {_one_line(exc)}"
    return certificate_fault(cert, issuer)


def _signature_fault(data: bytes, response: ocsp.OCSPResponse, signer: x509.Certificate) -> str | None:
    # signatureAlgorithm stands right behind what is signed (section 4.2.1); the
    # response is exact DER, so that these bytes are in it.
    signed = response.tbs_response_bytes
    algorithm = encoding.read(data, data.index(signed) + len(signed))
    try:
        key = signer.public_key()
    except UnsupportedAlgorithm as exc:
        return f"the key of {_who(signer)} cannot be used: {_one_line(exc)}"
    fault = find_fault(key, data[algorithm.at : algorithm.end], response.signature, signed)
    return None if fault is None else f"{fault} with the key of {_who(signer)}"


def _check_single(single: ocsp.OCSPSingleResponse, now: int) -> tuple[int, int]:
    """Give thisUpdate and nextUpdate (0 for none) of an answer that is good and fresh (section 4.2.2.1)."""
    this_update = _seconds(single.this_update_utc)
    next_update = _seconds(single.next_update_utc) if single.next_update_utc is not None else 0
    if this_update > now + CLOCK_SKEW:
        raise StapleError(f"thisUpdate is {this_update - now} s in the future: whose clock is wrong?")
    if 0 < next_update < now:
        raise StapleError(f"the response has expired: nextUpdate was {now - next_update} s ago")
    if not next_update and this_update + MAX_AGE_WITHOUT_NEXT_UPDATE < now:
        raise StapleError(f"the response is too old: no nextUpdate, thisUpdate was {now - this_update} s ago")
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        when = single.revocation_time_utc
        reason = single.revocation_reason
        text = "unspecified" if reason is None else reason.value
        raise StapleError(
            f"the certificate is revoked since {when:%Y-%m-%dT%H:%M:%SZ} (reason {text})", revoked=True
        )
    if single.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        raise StapleError("the responder does not know the certificate (status unknown)")
    return this_update, next_update


def _check_extensions(response: ocsp.OCSPResponse) -> None:
    for extension in response.extensions:
        if extension.critical and not isinstance(extension.value, x509.OCSPNonce):
            raise StapleError(
                f"critical extension {extension.oid.dotted_string} of the response is not known"
            )


def _key_bits(cert: x509.Certificate) -> bytes:
    """The content of subjectPublicKey without the octet that counts unused bits."""
    info = issuer_id(cert).key
    _, bits = encoding.children(info, encoding.read(info), 2)
    return info[bits.content_at + 1 : bits.end]


def _sha1(data: bytes) -> bytes:
    # What RFC 6960 names things by; forging it gains nothing, the signature counts.
    return hashlib.sha1(data, usedforsecurity=False).digest()


def _responder(response: ocsp.OCSPResponse) -> str:
    if response.responder_name is not None:
        return printable_der(response.responder_name.public_bytes())
    return f"the key {(response.responder_key_hash or b'').hex()}"


def _who(cert: x509.Certificate) -> str:
    return f"{printable_der(issuer_id(cert).name)} (serial {serial_hex(cert.serial_number)})"


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _one_line(error: Exception) -> str:
    text = str(error)
    return "".join(character if character.isprintable() else " " for character in text)[:200]
