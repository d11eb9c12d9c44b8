"""The certificates that a listener presents, and which of them to whom. No I/O.

A client names the host that it wants (RFC 6066, section 3) and the signatures that
it can verify. For each name there is a choice: at most one certificate for each kind
of key, from which OpenSSL takes one that the client can verify. A name is first of
the certificates that have it as it stands, then of those with a wildcard for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PrivateKey = (
    ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
)
"""The keys that a TLS 1.2 or 1.3 server can sign with."""

# A wildcard is the whole of the leftmost label (RFC 9525, section 6.3); underscores are in use.
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


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

    @property
    def kind(self) -> str:
        """Of its key; a client has one certificate of each kind to take from."""
        match self.private_key:
            case ec.EllipticCurvePrivateKey():
                return "ECDSA"
            case rsa.RSAPrivateKey():
                return "RSA"
            case ed25519.Ed25519PrivateKey():
                return "Ed25519"
            case ed448.Ed448PrivateKey():
                return "Ed448"


Choice = tuple[ServerCertificate, ...]
"""Certificates of which one is presented, each of another kind."""


@dataclass(frozen=True)
class Presentation:
    """Who is presented what: `choices` by name, `default` where a client names none or an unknown one.

    Names are lower case, without a dot at their end; "*.example.com" is for every name
    that has one label more than example.com, unless it is there itself.
    """

    default: Choice
    choices: dict[str, Choice]

    def lost(self, certificate: ServerCertificate) -> list[tuple[str, ServerCertificate]]:
        """Its names for which another one of its kind is presented, with that one."""
        return [
            (name, next(one for one in self.choices[name] if one.kind == certificate.kind))
            for name in server_names(certificate.leaf)
            if certificate not in self.choices[name]
        ]


def present(certificates: Sequence[ServerCertificate]) -> Presentation:
    """Who is presented which of `certificates`; where several could be, the first is."""
    named: dict[str, list[ServerCertificate]] = {}
    for certificate in certificates:
        for name in server_names(certificate.leaf):
            named.setdefault(name, []).append(certificate)
    choices = {
        name: _one_of_each_kind([*those, *named.get(_wildcard_for(name), ())])
        for name, those in named.items()
    }
    first = certificates[0]
    of_first = next((choices[name] for name in server_names(first.leaf)), (first,))
    return Presentation(of_first, choices)


def server_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The host names that it is for, each once: its dNSNames, or its common name where it has none.

    The latter as older clients do. What is no host name is left out; addresses are not
    asked for by name (RFC 6066, section 3).
    """
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        found = extension.value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        found = []
    if not found:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        found = [value for name in common if isinstance(value := name.value, str)]
    hosts = (name.lower().removesuffix(".") for name in found)
    return tuple(dict.fromkeys(host for host in hosts if _HOST.fullmatch(host)))


def completed(
    chain: tuple[x509.Certificate, ...], known: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """`chain` with the intermediate CAs behind it that are missing and known, as far as they are.

    OpenSSL would look for them among the client CAs in each handshake anew, for a tenth
    of its time, and send the root with them, which clients have or do not trust.
    """
    while True:
        above = [ca for ca in known if issued_by(chain[-1], ca)]
        if not above or any(issued_by(ca, ca) for ca in above) or above[0] in chain:
            return chain
        chain = (*chain, above[0])


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` has this name and signed it."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _wildcard_for(name: str) -> str:
    return f"*.{name.partition('.')[2]}"


def _one_of_each_kind(certificates: Iterable[ServerCertificate]) -> Choice:
    chosen: dict[str, ServerCertificate] = {}
    for certificate in certificates:
        chosen.setdefault(certificate.kind, certificate)
    return tuple(chosen.values())
