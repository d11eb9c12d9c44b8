"""Who signed an OCSP response, and whether they may (RFC 6960, section 4.2.2.2). No I/O, no clock."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway import der as encoding
from gateway.errors import StapleError
from gateway.names import describe, issuer_id, issuer_name_der, one_line, printable_der
from gateway.signature import certificate_fault, find_fault

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.x509 import ocsp


def find_signer(
    data: bytes, response: ocsp.OCSPResponse, issuer: x509.Certificate, now: int
) -> tuple[int, x509.Certificate | None]:
    """Until when the response's signer may sign (seconds since 1970); its certificate if it is a delegate.

    Raises:
        StapleError: whoever signed may not, or did not.
        ValueError, TypeError: what stands there cannot be read.
    """
    faults: list[str] = []
    for signer in (issuer, *response.certificates):
        if not _is_responder(response, signer):
            continue
        # The issuer itself needs no appointment (section 2.2).
        delegate = None if signer == issuer else signer
        fault = _delegate_fault(signer, issuer) if delegate else None
        fault = fault or _validity_fault(signer, now) or _signature_fault(data, response, signer)
        if fault is None:
            return seconds(signer.not_valid_after_utc), delegate
        faults.append(fault)
    if faults:
        raise StapleError("; ".join(dict.fromkeys(faults)))
    raise StapleError(
        f"signed by {_responder(response)}, which is neither {describe(issuer)} "
        "nor a responder that it appointed"
    )


def _is_responder(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    """ResponderID: byName or byKey, which is the SHA-1 of the key's bits (section 4.2.1)."""
    if response.responder_name is not None:
        return response.responder_name == signer.subject
    return response.responder_key_hash == sha1(key_bits(signer))


def _delegate_fault(signer: x509.Certificate, issuer: x509.Certificate) -> str | None:
    """Why `signer` was not appointed by `issuer`; None when it was (section 4.2.2.2).

    "The CA SHOULD issue the certificate [...] directly": a responder that another
    CA of the same tree appointed could answer for certificates that are not its own.
    """
    who = f"the responder {describe(signer)}"
    fault = _issue_fault(signer, issuer)
    if fault is not None:
        return f"{who} was not appointed by {describe(issuer)}: {fault}"
    try:
        usages = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        usages = None
    if usages is None or ExtendedKeyUsageOID.OCSP_SIGNING not in usages:
        return f"{who} may not answer: its certificate has no extendedKeyUsage OCSPSigning"
    for extension in signer.extensions:
        if extension.critical and isinstance(extension.value, x509.UnrecognizedExtension):
            return f"{who} may not answer: its critical extension {extension.oid.dotted_string} is not known"
    return None


def _validity_fault(signer: x509.Certificate, now: int) -> str | None:
    who = f"the responder {describe(signer)}"
    if now < seconds(signer.not_valid_before_utc):
        return f"{who} may not answer yet: its certificate is not yet valid"
    if now > seconds(signer.not_valid_after_utc):
        return f"{who} may not answer any more: its certificate has expired"
    return None


def _issue_fault(cert: x509.Certificate, issuer: x509.Certificate) -> str | None:
    try:
        if issuer_name_der(cert) != issuer_id(issuer).name and cert.issuer != issuer.subject:
            return f"it was issued by {printable_der(issuer_name_der(cert))}"
    except ValueError as exc:
        return f"a name cannot be read: {one_line(exc)}"
    return certificate_fault(cert, issuer)


def _signature_fault(data: bytes, response: ocsp.OCSPResponse, signer: x509.Certificate) -> str | None:
    # signatureAlgorithm stands right behind what is signed (section 4.2.1); the
    # response is exact DER, so that these bytes are in it.
    signed = response.tbs_response_bytes
    algorithm = encoding.read(data, data.index(signed) + len(signed))
    try:
        key = signer.public_key()
    except UnsupportedAlgorithm as exc:
        return f"the key of {describe(signer)} cannot be used: {one_line(exc)}"
    fault = find_fault(key, data[algorithm.at : algorithm.end], response.signature, signed)
    return None if fault is None else f"{fault} with the key of {describe(signer)}"


def key_bits(cert: x509.Certificate) -> bytes:
    """The content of subjectPublicKey without the octet that counts unused bits."""
    info = issuer_id(cert).key
    _, bits = encoding.children(info, encoding.read(info), 2)
    return info[bits.content_at + 1 : bits.end]


def sha1(data: bytes) -> bytes:
    """What keys and names are hashed with in a ResponderID and in most CertIDs."""
    # What RFC 6960 names things by; forging it gains nothing, the signature counts.
    return hashlib.sha1(data, usedforsecurity=False).digest()


def _responder(response: ocsp.OCSPResponse) -> str:
    if response.responder_name is not None:
        return printable_der(response.responder_name.public_bytes())
    return f"the key {(response.responder_key_hash or b'').hex()}"


def seconds(moment: datetime) -> int:
    """Seconds since 1970."""
    return int(moment.timestamp())
