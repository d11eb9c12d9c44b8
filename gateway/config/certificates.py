"""The certificates that a listener presents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

if TYPE_CHECKING:
    from cryptography import x509

PrivateKey = (
    ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
)
"""The keys that a TLS 1.2 or 1.3 server can sign with."""


@dataclass(frozen=True)
class ServerCertificate:
    """A certificate that a listener can present, with its key.

    `chain` begins with it, its issuers come behind; `ocsp_issuer` and
    `ocsp_responder_url` are None unless stapling is enabled.
    """

    chain: tuple[x509.Certificate, ...]
    private_key: PrivateKey
    ocsp_issuer: x509.Certificate | None = None
    ocsp_responder_url: str | None = None

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate itself."""
        return self.chain[0]
