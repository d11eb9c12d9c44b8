"""Certificate revocation lists (RFC 5280, section 5): bytes in, verified list out. No I/O, no clock.

`verify_crl` takes bytes that anybody may have written and raises `CrlError` and
nothing else. What it returns was signed by one of the given CAs and is complete:
a list that covers only a part of what its issuer issued is refused, because a
certificate that is not in it would look good.

A list of a million entries is never taken apart here. `split` finds where its
parts begin; cryptography is given the list without its entries, and the signature
is checked over the bytes as they came. The entries are read when they are compiled
to a table.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from gateway import der as encoding
from gateway.der import Element, Field
from gateway.errors import CrlError
from gateway.names import IssuerId, issuer_id, printable, printable_der, serial_hex
from gateway.signature import find_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CLOCK_SKEW",
    "CrlParts",
    "IssuerId",
    "Succession",
    "UnverifiedCrl",
    "VerifiedCrl",
    "check_succession",
    "decode",
    "parse_untrusted",
    "split",
    "verify_crl",
]

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

CLOCK_SKEW = 300
"""Seconds that a CA's clock may be ahead of ours."""

# All of a list but its entries: names and extensions. Real ones have some hundred bytes.
_LARGEST_HEADER = 1 << 20
# "Conforming CRL issuers MUST NOT use CRLNumber values longer than 20 octets"
# (RFC 5280, section 5.2.3).
_LONGEST_NUMBER = 20

_NAMES_SHOWN = 5

_BEGIN = b"-----BEGIN X509 CRL-----"
_END = b"-----END X509 CRL-----"


# The structures of RFC 5280, section 5.1: what stands in them, in order.
_WHOLE = Field("CertificateList", (encoding.SEQUENCE,))
_TIME = (encoding.UTC_TIME, encoding.GENERALIZED_TIME)
_LIST = (
    Field("tbsCertList", (encoding.SEQUENCE,)),
    Field("signatureAlgorithm", (encoding.SEQUENCE,)),
    Field("signatureValue", (encoding.BIT_STRING,)),
)
_LISTED = (
    Field("version", (encoding.INTEGER,), optional=True),
    Field("signature algorithm", (encoding.SEQUENCE,)),
    Field("issuer", (encoding.SEQUENCE,)),
    Field("thisUpdate", _TIME),
    Field("nextUpdate", _TIME, optional=True),
    Field("revokedCertificates", (encoding.SEQUENCE,), optional=True),
    Field("crlExtensions", (encoding.CONTEXT_0,), optional=True),
)
_V2 = b"\x01"


class CrlParts(NamedTuple):
    """Where the parts of a CertificateList stand in its DER (RFC 5280, section 5.1)."""

    listed: Element
    """tbsCertList: what the signature covers."""
    issuer: Element
    revoked: Element
    """revokedCertificates; empty, at the place where it would be, where there is none."""
    algorithm: Element
    """The outer signatureAlgorithm."""
    signature: Element
    """signatureValue; its content without the octet that counts unused bits."""


@dataclass(frozen=True)
class UnverifiedCrl:
    """What a list says of itself. Nobody has checked who wrote it.

    Times are seconds since 1970, UTC; `next_update` is 0 where there is none.
    """

    der: bytes
    parts: CrlParts
    issuer: x509.Name
    this_update: int
    next_update: int
    number: int | None
    authority_key_id: bytes | None
    extensions: x509.Extensions

    @property
    def signature_algorithm(self) -> bytes:
        """The AlgorithmIdentifier, DER."""
        return self.der[self.parts.algorithm.whole]

    @property
    def signature(self) -> bytes:
        """The octets of signatureValue."""
        return self.der[self.parts.signature.content]

    @property
    def issuer_der(self) -> bytes:
        """The issuer's Name, DER."""
        return self.der[self.parts.issuer.whole]


@dataclass(frozen=True)
class VerifiedCrl:
    """A complete list that was signed by `issuer`.

    Times are seconds since 1970, UTC. `next_update` is 0 where the list has none
    (RFC 5280, section 5.1.2.5, demands one): such a list never expires. `revoked` is
    where revokedCertificates stands in `der`.
    """

    der: bytes
    revoked: Element
    issuer: IssuerId
    this_update: int
    next_update: int
    number: int | None
    signature: bytes

    def expired(self, now: int) -> bool:
        """Whether its issuer has promised a newer list for before `now`."""
        return 0 < self.next_update < now


class Dated(Protocol):
    """As much of a list in force as `check_succession` needs."""

    @property
    def number(self) -> int | None:
        """CRL number, or None."""

    @property
    def this_update(self) -> int:
        """Seconds since 1970, UTC."""

    @property
    def signature(self) -> bytes:
        """The octets of signatureValue."""


class Succession(Enum):
    """What a list is to the one in force."""

    NEWER = "newer"
    SAME = "same"


def decode(data: bytes) -> bytes:
    """The DER of one CRL that is given as DER or PEM (RFC 7468), with any text around the PEM.

    Raises:
        CrlError: it is neither, or the PEM holds more than one.
    """
    # A signed list is longer than 127 bytes, so that its length has a first octet
    # that no text has: a PEM file may begin with the character "0".
    if data[:1] == b"\x30" and data[1:2] >= b"\x80":
        return data
    count = data.count(_BEGIN)
    if not count:
        raise CrlError(f'neither DER nor PEM "X509 CRL": {_beginning(data)}')
    if count > 1:
        raise CrlError(f"one CRL expected, the PEM file holds {count}")
    begin = data.index(_BEGIN) + len(_BEGIN)
    end = data.find(_END, begin)
    if end < 0:
        raise CrlError("PEM without its END line: cut off?")
    try:
        # Not the strict mode, which would want a second copy without the line ends:
        # whatever is skipped here is missed by the signature.
        return binascii.a2b_base64(memoryview(data)[begin:end])
    except binascii.Error as exc:
        raise CrlError(f"PEM with broken base64: {exc}") from exc


def split(der: bytes) -> CrlParts:
    """Find the parts of a CertificateList, without looking into names, entries or extensions.

    Raises:
        CrlError: these bytes are not exactly one DER CertificateList.
    """
    try:
        (whole,) = encoding.fields(der, Element(0, 0, len(der)), "what should be one list", _WHOLE)
        listed, algorithm, signature = encoding.fields(der, whole, _WHOLE.name, *_LIST)
        version, signed_algorithm, issuer, _, _, revoked, _ = encoding.fields(
            der, listed, _LIST[0].name, *_LISTED
        )
    except ValueError as exc:
        raise CrlError(f"not a CRL in DER: {exc}") from exc
    fault = None
    # "If present, [version] MUST be v2" (section 5.1.2.1).
    if version.end > version.at and der[version.content] != _V2:
        fault = f"byte {version.at}: the version of a certificate list is v2 or left out"
    # "This field MUST contain the same algorithm identifier as the signature field in
    # the sequence tbsCertList" (section 5.1.1.2): the outer one is not signed.
    elif der[signed_algorithm.whole] != der[algorithm.whole]:
        fault = f"byte {algorithm.at}: signatureAlgorithm differs from the one that is signed"
    elif signature.end - signature.content_at <= 1 or der[signature.content_at] != 0:
        fault = f"byte {signature.at}: signatureValue is empty or not of whole octets"
    if fault is not None:
        raise CrlError(f"not a CRL in DER: {fault}")
    octets = signature._replace(content_at=signature.content_at + 1)
    return CrlParts(listed, issuer, revoked, algorithm, octets)


def parse_untrusted(data: bytes) -> UnverifiedCrl:
    """Read a CRL, PEM or DER, without its entries and without trusting it.

    Raises:
        CrlError: it is none, or something in it is not as RFC 5280, section 5, says.
    """
    der = decode(data)
    parts = split(der)
    # The parts before and behind the entries, joined to a list without entries.
    view = memoryview(der)
    before = view[parts.listed.content_at : parts.revoked.at]
    behind = view[parts.revoked.end : parts.listed.end]
    if len(before) + len(behind) > _LARGEST_HEADER:
        raise CrlError(
            f"names and extensions have {len(before) + len(behind)} bytes, at most {_LARGEST_HEADER}"
        )
    rest = view[parts.listed.end :]
    listed = encoding.encode(encoding.SEQUENCE, before, behind)
    try:
        header = x509.load_der_x509_crl(encoding.encode(encoding.SEQUENCE, listed, rest))
        next_update = header.next_update_utc
        return UnverifiedCrl(
            der=der,
            parts=parts,
            issuer=header.issuer,
            this_update=int(header.last_update_utc.timestamp()),
            next_update=int(next_update.timestamp()) if next_update is not None else 0,
            number=_number(header.extensions),
            authority_key_id=_authority_key_id(header.extensions),
            extensions=header.extensions,
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise CrlError(f"not a CRL as RFC 5280 has it: {_one_line(exc)}") from exc
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as exc:
        raise CrlError(f"CRL extensions: {_one_line(exc)}") from exc


def verify_crl(data: bytes, issuers: Sequence[x509.Certificate], *, now: int) -> VerifiedCrl:
    """Accept a CRL, PEM or DER, that one of `issuers` signed; `now` is in seconds since 1970.

    One that has expired is accepted: it may be newer than the one in force, and
    what a stale list is worth is for the policy to say.

    Raises:
        CrlError: it is malformed, incomplete or from the future, has a critical
            extension that is not known (RFC 5280, section 5.2), or none of
            `issuers` signed it.
    """
    crl = parse_untrusted(data)
    _check_scope(crl)
    if crl.this_update > now + CLOCK_SKEW:
        name, ahead = printable(crl.issuer), crl.this_update - now
        raise CrlError(f"CRL of {name}: thisUpdate is {ahead} s in the future: whose clock is wrong?")
    return VerifiedCrl(
        der=crl.der,
        revoked=crl.parts.revoked,
        issuer=issuer_id(_find_signer(crl, issuers, now)),
        this_update=crl.this_update,
        next_update=crl.next_update,
        number=crl.number,
        signature=crl.signature,
    )


def check_succession(new: VerifiedCrl, current: Dated) -> Succession:
    """Refuse a list that is older than the one in force: replayed, it would make a revocation forgotten.

    A list of the same number and time but another content is newer: `openssl ca`
    without a crlnumber file writes two such in one second.

    Raises:
        CrlError: its CRL number or thisUpdate is older, or it lost its number
            (RFC 5280, section 5.2.3: numbers increase).
    """
    if new.signature == current.signature:
        return Succession.SAME
    fault = None
    if current.number is not None and new.number is None:
        fault = f"has no CRL number, the one in force has {current.number}"
    elif current.number is not None and new.number is not None and new.number < current.number:
        fault = f"CRL number {new.number} is below {current.number} of the one in force"
    elif new.this_update < current.this_update:
        fault = f"thisUpdate is {current.this_update - new.this_update} s before that of the one in force"
    if fault is not None:
        raise CrlError(f"CRL of {new.issuer}: {fault}: rollback?")
    return Succession.NEWER


def _check_scope(crl: UnverifiedCrl) -> None:
    name = printable(crl.issuer)
    for extension in crl.extensions:
        match extension.value:
            case x509.DeltaCRLIndicator():
                raise CrlError(f"CRL of {name}: delta CRLs are not supported yet")
            case x509.IssuingDistributionPoint() as point:
                raise CrlError(f"CRL of {name}: covers {_scope(point)}, which is not supported yet")
            case x509.CRLNumber() | x509.AuthorityKeyIdentifier():
                continue
        # "If a CRL contains a critical extension that the application cannot process,
        # then the application MUST NOT use that CRL to determine the status of
        # certificates" (RFC 5280, section 5.2).
        if extension.critical:
            raise CrlError(f"CRL of {name}: critical extension {extension.oid.dotted_string} is not known")


def _scope(point: x509.IssuingDistributionPoint) -> str:
    """What a list with this extension is about (RFC 5280, section 5.2.5)."""
    limits = [
        text
        for limited, text in (
            (point.only_contains_user_certs, "end-entity certificates only"),
            (point.only_contains_ca_certs, "CA certificates only"),
            (point.only_contains_attribute_certs, "attribute certificates only"),
            (point.indirect_crl, "other issuers' certificates (indirect CRL)"),
            (point.only_some_reasons is not None, "some reasons only"),
        )
        if limited
    ]
    # The name of a point alone limits a list as well: it may be one of many that a
    # CA has spread its certificates over.
    return ", ".join(limits) or "one distribution point, maybe not all certificates"


def _find_signer(crl: UnverifiedCrl, issuers: Sequence[x509.Certificate], now: int) -> x509.Certificate:
    """The one of `issuers` that signed, or CrlError with what is wrong with each that has the name."""
    name = printable(crl.issuer)
    named = [issuer for issuer in dict.fromkeys(issuers) if _has_name(issuer, crl)]
    if not named:
        raise CrlError(
            f"CRL of {name}: no CA of that name is trusted here, expected one of {_known(issuers)}"
        )
    faults: list[str] = []
    for issuer in named:
        fault = _unfit(issuer, crl, now) or _signature_fault(issuer, crl)
        if fault is None:
            return issuer
        faults.append(fault)
    raise CrlError(f"CRL of {name}: {'; '.join(faults)}")


def _has_name(issuer: x509.Certificate, crl: UnverifiedCrl) -> bool:
    if issuer_id(issuer).name == crl.issuer_der:
        return True
    # The same name may be a PrintableString here and an UTF8String there.
    try:
        return issuer.subject == crl.issuer
    except ValueError:
        return False


def _unfit(issuer: x509.Certificate, crl: UnverifiedCrl, now: int) -> str | None:
    """Why this CA cannot have signed, or must not sign CRLs; None when it may."""
    who = _who(issuer)
    try:
        extensions = issuer.extensions
        begins, ends = issuer.not_valid_before_utc.timestamp(), issuer.not_valid_after_utc.timestamp()
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as exc:
        return f"{who} cannot be read: {_one_line(exc)}"
    key_id = _find(extensions, x509.SubjectKeyIdentifier)
    constraints = _find(extensions, x509.BasicConstraints)
    usage = _find(extensions, x509.KeyUsage)
    # A version 1 root has no extensions to say that it is a CA; that it is trusted says it.
    is_ca = issuer.version is x509.Version.v1 if constraints is None else constraints.ca
    if crl.authority_key_id is not None and key_id is not None and crl.authority_key_id != key_id.digest:
        fault = f"signed with the key {crl.authority_key_id.hex()}, but {who} has {key_id.digest.hex()}"
    elif not is_ca:
        fault = f"{who} is not a CA (basicConstraints)"
    elif usage is not None and not usage.crl_sign:
        fault = f"{who} may not sign CRLs (keyUsage without cRLSign)"
    elif not begins <= now <= ends:
        fault = f"{who} is {'not yet valid' if now < begins else 'expired'}"
    else:
        fault = None
    return fault


def _signature_fault(issuer: x509.Certificate, crl: UnverifiedCrl) -> str | None:
    try:
        key = issuer.public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        return f"the key of {_who(issuer)} cannot be used: {_one_line(exc)}"
    signed = memoryview(crl.der)[crl.parts.listed.whole]
    fault = find_fault(key, crl.signature_algorithm, crl.signature, signed)
    return None if fault is None else f"{fault} with the key of {_who(issuer)}"


def _who(issuer: x509.Certificate) -> str:
    return f"{printable_der(issuer_id(issuer).name)} (serial {serial_hex(issuer.serial_number)})"


def _known(issuers: Sequence[x509.Certificate]) -> str:
    names = list(dict.fromkeys(printable_der(issuer_id(issuer).name) for issuer in issuers))
    more = len(names) - _NAMES_SHOWN
    return (", ".join(names[:_NAMES_SHOWN]) or "none") + (f" and {more} more" if more > 0 else "")


def _number(extensions: x509.Extensions) -> int | None:
    extension = _find(extensions, x509.CRLNumber)
    if extension is None:
        return None
    if extension.crl_number.bit_length() > 8 * _LONGEST_NUMBER:
        raise CrlError(f"CRL number has more than {_LONGEST_NUMBER} octets")
    return extension.crl_number


def _authority_key_id(extensions: x509.Extensions) -> bytes | None:
    extension = _find(extensions, x509.AuthorityKeyIdentifier)
    return None if extension is None else extension.key_identifier


def _find(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _beginning(data: bytes) -> str:
    if not data:
        return "it is empty"
    return f"it begins with {data[:24].decode('ascii', 'replace')!a}"


def _one_line(error: Exception) -> str:
    text = str(error)
    return "".join(character if character.isprintable() else " " for character in text)[:200]
