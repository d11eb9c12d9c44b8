"""What a list is about: issuingDistributionPoint as the lookup has it (RFC 5280, section 5.2.5). No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from gateway import der, names
from gateway.errors import CrlError
from gateway.fetch import display_url
from gateway.native import ALL_REASONS, Subjects, name_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

_DIRECTORY_NAME = 0xA4
_RELATIVE_NAME = 0x31
# The GeneralNames of one string (RFC 5280, section 4.2.1.6).
_STRINGS: dict[type[x509.GeneralName], int] = {
    x509.RFC822Name: 0x81,
    x509.DNSName: 0x82,
    x509.UniformResourceIdentifier: 0x86,
}
REASON_FLAGS = (
    x509.ReasonFlags.key_compromise,
    x509.ReasonFlags.ca_compromise,
    x509.ReasonFlags.affiliation_changed,
    x509.ReasonFlags.superseded,
    x509.ReasonFlags.cessation_of_operation,
    x509.ReasonFlags.certificate_hold,
    x509.ReasonFlags.privilege_withdrawn,
    x509.ReasonFlags.aa_compromise,
)
"""ReasonFlags (section 4.2.1.13), bit by bit from 1 on."""


@dataclass(frozen=True)
class Scope:
    """For which certificates a list speaks, and for which reasons.

    `points` has digests of the names of its distribution point: it speaks for
    certificates that name one of them; empty for all. `reasons` is a mask of ReasonFlags.
    `octets` is the extension itself (DER), empty where there is none: lists of one
    issuer with the same octets follow one another.
    """

    points: frozenset[int] = frozenset()
    reasons: int = ALL_REASONS
    subjects: Subjects = Subjects.ALL
    indirect: bool = False
    octets: bytes = b""


def read_scope(point: x509.IssuingDistributionPoint, issuer_der: bytes) -> Scope:
    """The scope that a CRL of this issuer (its Name, DER) states.

    Raises:
        CrlError: it speaks for no certificate of public keys, or for a point that nothing can name.
    """
    if point.only_contains_attribute_certs:
        raise CrlError("covers attribute certificates alone, which no client presents")
    if point.only_contains_user_certs and point.only_contains_ca_certs:
        raise CrlError("covers only end-entity and only CA certificates: none")
    subjects = Subjects.ALL
    if point.only_contains_user_certs:
        subjects = Subjects.USERS
    if point.only_contains_ca_certs:
        subjects = Subjects.CAS
    reasons = ALL_REASONS
    if (some := point.only_some_reasons) is not None:
        reasons = sum(1 << bit for bit, flag in enumerate(REASON_FLAGS, 1) if flag in some)
    points = frozenset(_points(point, issuer_der))
    if not points and (point.full_name is not None or point.relative_name is not None):
        raise CrlError("covers a distribution point whose name is of a kind that is not known")
    if not reasons:
        raise CrlError("covers no reason")
    return Scope(points, reasons, subjects, point.indirect_crl, point.public_bytes())


def in_words(point: x509.IssuingDistributionPoint | None) -> str:
    """What a list says of its scope, in one printable line; None is a list without the extension."""
    if point is None:
        return "all certificates"
    subjects = {
        "end entities alone": point.only_contains_user_certs,
        "CAs alone": point.only_contains_ca_certs,
        "attribute certificates alone": point.only_contains_attribute_certs,
    }
    said = [words for words, alone in subjects.items() if alone] or ["all certificates"]
    if point.full_name is not None:
        said.append("of the distribution point " + " or ".join(map(_name_in_words, point.full_name)))
    if point.relative_name is not None:
        relative = names.printable(x509.Name([point.relative_name]))
        said.append(f"of the distribution point {relative} below its issuer")
    if point.only_some_reasons is not None:
        said.append("for " + ", ".join(sorted(flag.value for flag in point.only_some_reasons)))
    if point.indirect_crl:
        said.append("indirect")
    return ", ".join(said)


def _name_in_words(name: x509.GeneralName) -> str:
    if isinstance(name, x509.DirectoryName):
        return names.printable(name.value)
    return display_url(str(name.value))


def issuer_digest(name_der: bytes) -> int:
    """The digest of a Name (DER), as cRLIssuer and directoryName have it."""
    name = der.read(name_der)
    return name_digest(_DIRECTORY_NAME, name_der[name.content])


def _points(point: x509.IssuingDistributionPoint, issuer_der: bytes) -> Iterable[int]:
    issuer = issuer_der[der.read(issuer_der).content]
    if point.relative_name is not None:
        relative = x509.Name([point.relative_name]).public_bytes()
        yield from _below(issuer, issuer + relative[der.read(relative).content])
    for full in point.full_name or ():
        if isinstance(full, x509.DirectoryName):
            name = full.value.public_bytes()
            yield from _below(issuer, name[der.read(name).content])
        elif isinstance(full, x509.RFC822Name | x509.DNSName | x509.UniformResourceIdentifier):
            yield name_digest(_STRINGS[type(full)], full.value.encode())


def _below(issuer: bytes, name: bytes) -> Iterable[int]:
    """The digests of a directory name: certificates have the whole, or what it adds to the CRL issuer's.

    Both are what an RDNSequence contains. What is relative is one RDN (section 4.2.1.13).
    """
    yield name_digest(_DIRECTORY_NAME, name)
    if name.startswith(issuer) and len(name) > len(issuer):
        rdn = der.read(name, len(issuer))
        if rdn.end == len(name):
            yield name_digest(_RELATIVE_NAME, name[rdn.content])
