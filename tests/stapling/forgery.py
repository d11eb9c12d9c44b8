"""OCSP responses written byte by byte (RFC 6960, section 4.2.1): what cryptography's builder will not write.

    response(single(SERVER.cert, CA.cert), signer=CA)
    response(single(...), single(..., status=REVOKED), signer=CA, version=b"\\x02\\x01\\x01")

Every part can be replaced by other bytes; what is not replaced is right, signature and
lengths included.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization

from tests.authority import DAY, DER, ECDSA_SHA256, NOW, der_extension, der_integer, sign, tlv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from tests.authority import Authority, Credential

OIDS = {
    "sha1": bytes.fromhex("06052b0e03021a"),
    "sha256": bytes.fromhex("0609608648016503040201"),
    "sha512": bytes.fromhex("0609608648016503040203"),
}
BASIC = bytes.fromhex("06092b0601050507300101")
GOOD = b"\x80\x00"
UNKNOWN = b"\x82\x00"


def moment(seconds: int) -> bytes:
    """A GeneralizedTime, as all times of OCSP are."""
    return tlv(0x18, dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y%m%d%H%M%SZ").encode())


def revoked(at: int = NOW - DAY, reason: bytes = b"") -> bytes:
    """The certStatus revoked; `reason` is the whole [0]."""
    return tlv(0xA1, moment(at), reason)


def cert_id(
    cert: x509.Certificate,
    issuer: x509.Certificate,
    *,
    algorithm: str = "sha1",
    oid: bytes | None = None,
    name_hash: bytes | None = None,
    key_hash: bytes | None = None,
    serial: int | None = None,
) -> bytes:
    """A CertID."""
    key = issuer.public_key().public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    # The BIT STRING of a P-256 key ends the SubjectPublicKeyInfo; 0x04 begins an uncompressed point.
    bits = key[-65:]
    name = cert.issuer.public_bytes()
    return tlv(
        0x30,
        tlv(0x30, oid or OIDS[algorithm], b"\x05\x00"),
        tlv(0x04, name_hash or hashlib.new(algorithm, name).digest()),
        tlv(0x04, key_hash or hashlib.new(algorithm, bits).digest()),
        der_integer(cert.serial_number if serial is None else serial),
    )


def single(
    identifier: bytes,
    *,
    status: bytes = GOOD,
    this_update: bytes | None = None,
    next_update: bytes | None = None,
    extensions: bytes = b"",
) -> bytes:
    """A SingleResponse; `next_update` is the whole [0], `extensions` are whole Extension TLVs."""
    return tlv(
        0x30,
        identifier,
        status,
        moment(NOW - 60) if this_update is None else this_update,
        tlv(0xA0, moment(NOW + DAY)) if next_update is None else next_update,
        tlv(0xA1, tlv(0x30, extensions)) if extensions else b"",
    )


def response(
    *singles: bytes,
    signer: Authority | Credential,
    version: bytes = b"",
    responder: bytes | None = None,
    produced_at: bytes | None = None,
    extensions: bytes = b"",
    certs: Sequence[bytes] = (),
    algorithm: bytes = ECDSA_SHA256,
    named_algorithm: bytes | None = None,
    signature: bytes | None = None,
    response_type: bytes = BASIC,
    status: bytes = b"\x0a\x01\x00",
    behind: bytes = b"",
) -> bytes:
    """An OCSPResponse. `algorithm` signs, `named_algorithm` is said to; `behind` ends responseBytes."""
    signed = tlv(
        0x30,
        tlv(0xA0, version) if version else b"",
        tlv(0xA1, signer.cert.subject.public_bytes()) if responder is None else responder,
        moment(NOW) if produced_at is None else produced_at,
        tlv(0x30, *singles),
        tlv(0xA1, tlv(0x30, extensions)) if extensions else b"",
    )
    basic = tlv(
        0x30,
        signed,
        named_algorithm or algorithm,
        tlv(0x03, b"\0", sign(signer.key, algorithm, signed)) if signature is None else signature,
        tlv(0xA0, tlv(0x30, *certs)) if certs else b"",
    )
    return tlv(0x30, status, tlv(0xA0, tlv(0x30, response_type, tlv(0x04, basic)), behind))


def critical(oid: str) -> bytes:
    """A critical extension that nobody knows."""
    return der_extension(oid, b"\x05\x00", critical=True)


def harmless(oid: str) -> bytes:
    """One that may be passed over."""
    return der_extension(oid, b"\x05\x00")
