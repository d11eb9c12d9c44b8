"""What one CA certificate says of itself: whose it is, what it may sign, and when. No I/O, no clock.

`read` takes a certificate that anybody may have made; what it returns raises
nothing any more. Nobody has checked who signed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID

from gateway.names import canonical_name, describe, issuer_id, issuer_name_der, one_line

if TYPE_CHECKING:
    from gateway.names import CanonicalName, IssuerId
    from gateway.revocation.entities import Holder

__all__ = ["Known", "find_extension", "read"]

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

# What may be critical here (RFC 5280, section 4.2). Name and policy constraints are not
# enforced: a chain only decides whose lists count, never who may come in, which OpenSSL does.
# Whoever wants to abuse that needs a certificate for the very name of the issuer of a list.
_UNDERSTOOD = {
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.CRL_DISTRIBUTION_POINTS,
    ExtensionOID.CERTIFICATE_POLICIES,
    ExtensionOID.POLICY_MAPPINGS,
    ExtensionOID.POLICY_CONSTRAINTS,
    ExtensionOID.INHIBIT_ANY_POLICY,
    ExtensionOID.NAME_CONSTRAINTS,
}


# Not equal to another of the same content: it is a key of many tables, and hashing names is slow.
@dataclass(frozen=True, eq=False)
class Known:
    """A certificate, read once. Times are seconds since 1970, UTC; texts are fit for a log."""

    certificate: x509.Certificate
    anchor: bool
    """Trusted as it is: no path leads to it (RFC 5280, section 6.1)."""
    identity: IssuerId
    name: CanonicalName
    issuer: CanonicalName
    key_id: bytes | None
    authority_key_id: bytes | None
    ca: bool
    issues: bool
    """May sign certificates: a CA, with keyCertSign where it has a keyUsage."""
    signs_lists: bool
    """May sign CRLs: with cRLSign, or a CA without keyUsage (RFC 5280, section 6.3.3, (f))."""
    path_length: int | None
    begins: float
    ends: float
    not_understood: str | None
    """The first critical extension that is not known."""

    def __str__(self) -> str:
        return describe(self.certificate)

    @cached_property
    def holder(self) -> Holder:
        """Name and key, however the name is encoded."""
        return self.identity.key, self.name

    @property
    def authority(self) -> bool:
        """Whether it may sign anything that matters here."""
        return self.ca or self.signs_lists

    @property
    def self_issued(self) -> bool:
        """Whether issuer and subject are one name (RFC 5280, section 6.1)."""
        return self.name == self.issuer

    def fits(self, child: Known) -> bool:
        """Whether the key that issued `child` may be this one, by what both say of it."""
        return child.authority_key_id is None or self.key_id in (None, child.authority_key_id)

    def key_fault(self, key_id: bytes | None) -> str | None:
        """Why this is not the key that a list names as its own; None when it may be."""
        if key_id is None or self.key_id in (None, key_id):
            return None
        return f"signed with the key {key_id.hex()}, but {self} has {(self.key_id or b'').hex()}"

    def list_fault(self) -> str | None:
        """Why it may not sign CRLs; None when it may."""
        if self.signs_lists:
            return None
        if self.ca:
            return f"{self} may not sign CRLs (keyUsage without cRLSign)"
        return f"{self} is not a CA (basicConstraints)"

    def time_fault(self, now: float) -> str | None:
        """Why it does not count at `now`; None when it does."""
        if self.begins <= now <= self.ends:
            return None
        return f"{self} is {'not yet valid' if now < self.begins else 'expired'}"

    def fault(self, now: float | None) -> str | None:
        """Why no path may have it in it, whenever where `now` is None (RFC 5280, section 6.1.3 and 6.1.4)."""
        if self.not_understood is not None:
            return f"{self} has a critical extension {self.not_understood}, which is not known"
        return None if now is None else self.time_fault(now)


def read(certificate: x509.Certificate, *, anchor: bool = False) -> Known:
    """Read all of it that matters.

    Raises:
        ValueError: it, or its key, cannot be read or used; one line, to end a sentence with.
    """
    try:
        certificate.public_key()
        extensions = certificate.extensions
        constraints = find_extension(extensions, x509.BasicConstraints)
        usage = find_extension(extensions, x509.KeyUsage)
        own = find_extension(extensions, x509.SubjectKeyIdentifier)
        above = find_extension(extensions, x509.AuthorityKeyIdentifier)
        # A version 1 root has no extensions to say that it is a CA; that it is trusted says it.
        trusted = anchor and certificate.version is x509.Version.v1
        ca = trusted if constraints is None else constraints.ca
        identity = issuer_id(certificate)
        return Known(
            certificate=certificate,
            anchor=anchor,
            identity=identity,
            name=canonical_name(identity.name),
            issuer=canonical_name(issuer_name_der(certificate)),
            key_id=None if own is None else own.digest,
            authority_key_id=None if above is None else above.key_identifier,
            ca=ca,
            issues=ca and (usage is None or usage.key_cert_sign),
            signs_lists=ca if usage is None else usage.crl_sign,
            path_length=None if constraints is None else constraints.path_length,
            begins=certificate.not_valid_before_utc.timestamp(),
            ends=certificate.not_valid_after_utc.timestamp(),
            not_understood=next(
                (
                    each.oid.dotted_string
                    for each in extensions
                    if each.critical and each.oid not in _UNDERSTOOD
                ),
                None,
            ),
        )
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as exc:
        raise ValueError(one_line(exc)) from exc


def find_extension(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    """The one extension of this kind, or None."""
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
