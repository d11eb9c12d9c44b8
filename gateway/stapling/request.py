"""OCSP requests: how to ask about a certificate (RFC 6960, section 4.1; RFC 5019). No I/O."""

from __future__ import annotations

import base64
from typing import Literal
from urllib.parse import quote, urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from gateway.errors import StapleError
from gateway.names import describe, one_line

CertIdHash = Literal["sha1", "sha256"]
"""What the names in a CertID are hashed with (RFC 6960, section 4.1.1)."""

NONCE_OCTETS = 32
"""What clients should send (RFC 9654, section 2.1), and the most that RFC 8954 has."""

# "less than 255 bytes in total (after encoding)" (RFC 5019, section 5).
_LONGEST_URL = 254

_HASHES: dict[CertIdHash, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - it names and protects nothing
    "sha256": hashes.SHA256(),
}


def build_request(
    cert: x509.Certificate,
    issuer: x509.Certificate,
    *,
    cert_id_hash: CertIdHash = "sha1",
    nonce: bytes | None = None,
) -> bytes:
    """The OCSPRequest for `cert`, DER.

    SHA-1 is the one hash that every responder has to understand (RFC 5019, section
    2.1.1). Without a nonce the responder may answer from its store.

    Raises:
        StapleError: a certificate that cannot be asked about.
    """
    try:
        builder = ocsp.OCSPRequestBuilder().add_certificate(cert, issuer, _HASHES[cert_id_hash])
        if nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
        return builder.build().public_bytes(Encoding.DER)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise StapleError(f"no OCSP request can be made for {describe(cert)}: {one_line(exc)}") from exc


def get_url(responder: str, request: bytes) -> str | None:
    """The URL to GET for the answer to `request`; None where RFC 5019, section 5, has it posted.

    It is posted where the URL would be longer than caches take, and to a responder
    whose own URL leaves no room for a path behind it.
    """
    try:
        parts = urlsplit(responder)
    except ValueError:
        return None
    if parts.query or parts.fragment:
        return None
    url = f"{responder.rstrip('/')}/{quote(base64.b64encode(request), safe='')}"
    return url if len(url) <= _LONGEST_URL else None
