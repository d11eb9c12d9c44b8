"""Certificate revocation lists (RFC 5280, section 5): bytes in, verified list out. No I/O, no clock.

`verify_crl` takes bytes that anybody may have written and raises `CrlError` and
nothing else. What it returns was signed by somebody who may sign for the given
trust anchors, and says for which certificates it speaks: all of its issuer's, a
part of them, those of others (an indirect CRL), or what has changed (a delta CRL).

A list of a million entries is never taken apart here. `split` finds where its
parts begin; cryptography is given the list without its entries, and the signature
is checked over the bytes as they came. The entries are read when they are compiled
to a table.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from gateway import der as encoding
from gateway.der import Element, Field
from gateway.errors import CrlError
from gateway.names import IssuerId, describe, issuer_id, one_line, printable, printable_der
from gateway.revocation.known import find_extension
from gateway.revocation.scope import Scope, issuer_digest, read_scope
from gateway.signature import find_fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.revocation.authorities import Authorities

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
    """A list that was signed by `issuer`: who signs is not always who issued the certificates.

    Times are seconds since 1970, UTC. `next_update` is 0 where the list has none
    (RFC 5280, section 5.1.2.5, demands one): such a list never expires. `revoked` is
    where revokedCertificates stands in `der`. `base` is the number of the list that a
    delta changes, None for a complete one (section 5.2.4). `signer_name` is the digest
    of the issuer's name as the list has it; `freshest` are URLs of deltas (section 5.2.6).
    """

    der: bytes
    revoked: Element
    issuer: IssuerId
    this_update: int
    next_update: int
    number: int | None
    signature: bytes
    scope: Scope
    base: int | None
    signer_name: int
    freshest: tuple[str, ...]

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
    def next_update(self) -> int:
        """Seconds since 1970, UTC; 0 where there is none."""

    @property
    def signature(self) -> bytes:
        """The octets of signatureValue."""


class Succession(Enum):
    """What a list is to the one in force."""

    NEWER = "newer"
    SAME = "same"
    OLDER = "older"
    """Older, but the one in force has expired and it has not."""


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
        raise CrlError(f"not a CRL as RFC 5280 has it: {one_line(exc)}") from exc
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as exc:
        raise CrlError(f"CRL extensions: {one_line(exc)}") from exc


def verify_crl(data: bytes, authorities: Authorities, *, now: int) -> VerifiedCrl:
    """Accept a CRL, PEM or DER, that one of `authorities` signed; `now` is in seconds since 1970.

    One that has expired is accepted: it may be newer than the one in force, and
    what a stale list is worth is for the policy to say. Whether its signer has been
    revoked is asked where it is put in force.

    Raises:
        CrlError: it is malformed or from the future, covers nothing, has a critical
            extension that is not known (RFC 5280, section 5.2), or nobody who may
            has signed it (section 6.3.3 (f), (g)).
    """
    crl = parse_untrusted(data)
    name = printable(crl.issuer)
    scope, base = _read_extensions(crl, name)
    if crl.this_update > now + CLOCK_SKEW:
        ahead = crl.this_update - now
        raise CrlError(f"CRL of {name}: thisUpdate is {ahead} s in the future: whose clock is wrong?")
    if base is not None and (crl.number is None or crl.number <= base):
        raise CrlError(
            f"CRL of {name}: a delta of base {base} needs a greater CRL number, but has {crl.number}"
        )
    return VerifiedCrl(
        der=crl.der,
        revoked=crl.parts.revoked,
        issuer=issuer_id(_find_signer(crl, authorities, now)),
        this_update=crl.this_update,
        next_update=crl.next_update,
        number=crl.number,
        signature=crl.signature,
        scope=scope,
        base=base,
        signer_name=issuer_digest(crl.issuer_der),
        freshest=_urls(find_extension(crl.extensions, x509.FreshestCRL) or ()),
    )


def check_succession(new: VerifiedCrl, current: Dated, *, now: int) -> Succession:
    """Refuse a list that is older than the one in force: replayed, it would make a revocation forgotten.

    A list of the same number and time but another content is newer: `openssl ca`
    without a crlnumber file writes two such in one second. Once the one in force
    has expired, an older one that has not is better than none.

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
    if fault is None:
        return Succession.NEWER
    if 0 < current.next_update < now and not new.expired(now):
        return Succession.OLDER
    raise CrlError(f"CRL of {new.issuer}: {fault}: rollback?")


def _read_extensions(crl: UnverifiedCrl, name: str) -> tuple[Scope, int | None]:
    """What the list is about, and of a delta the number of its base."""
    scope, base = Scope(), None
    for extension in crl.extensions:
        match extension.value:
            case x509.DeltaCRLIndicator() as indicator:
                base = indicator.crl_number
            case x509.IssuingDistributionPoint() as point:
                try:
                    scope = read_scope(point, crl.issuer_der)
                except CrlError as exc:
                    raise CrlError(f"CRL of {name}: {exc}") from exc
            case x509.CRLNumber() | x509.AuthorityKeyIdentifier() | x509.FreshestCRL():
                continue
            # "If a CRL contains a critical extension that the application cannot process,
            # then the application MUST NOT use that CRL to determine the status of
            # certificates" (RFC 5280, section 5.2).
            case _ if extension.critical:
                oid = extension.oid.dotted_string
                raise CrlError(f"CRL of {name}: critical extension {oid} is not known")
    return scope, base


def _find_signer(crl: UnverifiedCrl, authorities: Authorities, now: int) -> x509.Certificate:
    """Who signed; or CrlError with what is wrong with each that has the name."""
    name = printable(crl.issuer)
    faults: list[str] = []
    for signer in authorities.signers(crl.issuer_der, crl.authority_key_id):
        fault = None if authorities.paths(signer, now) else "has no valid path to a trusted CA"
        fault = f"{describe(signer)} {fault}" if fault is not None else _signature_fault(signer, crl)
        if fault is None:
            return signer
        faults.append(fault)
    faults = faults or authorities.faults(crl.issuer_der, crl.authority_key_id, now)
    if not faults:
        known = _known(authorities)
        raise CrlError(f"CRL of {name}: no CA of that name is trusted here, expected one of {known}")
    raise CrlError(f"CRL of {name}: {'; '.join(dict.fromkeys(faults))}")


def _signature_fault(issuer: x509.Certificate, crl: UnverifiedCrl) -> str | None:
    try:
        key = issuer.public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        return f"the key of {describe(issuer)} cannot be used: {one_line(exc)}"
    signed = memoryview(crl.der)[crl.parts.listed.whole]
    fault = find_fault(key, crl.signature_algorithm, crl.signature, signed)
    return None if fault is None else f"{fault} with the key of {describe(issuer)}"


def _known(authorities: Authorities) -> str:
    names = sorted({printable_der(identity.name) for identity in authorities.identities()})
    more = len(names) - _NAMES_SHOWN
    return (", ".join(names[:_NAMES_SHOWN]) or "none") + (f" and {more} more" if more > 0 else "")


def _urls(points: Iterable[x509.DistributionPoint]) -> tuple[str, ...]:
    """The URLs of distribution points (RFC 5280, section 4.2.1.13)."""
    return tuple(
        name.value
        for point in points
        for name in point.full_name or ()
        if isinstance(name, x509.UniformResourceIdentifier)
    )


def _number(extensions: x509.Extensions) -> int | None:
    extension = find_extension(extensions, x509.CRLNumber)
    if extension is None:
        return None
    if extension.crl_number.bit_length() > 8 * _LONGEST_NUMBER:
        raise CrlError(f"CRL number has more than {_LONGEST_NUMBER} octets")
    return extension.crl_number


def _authority_key_id(extensions: x509.Extensions) -> bytes | None:
    extension = find_extension(extensions, x509.AuthorityKeyIdentifier)
    return None if extension is None else extension.key_identifier


def _beginning(data: bytes) -> str:
    if not data:
        return "it is empty"
    return f"it begins with {data[:24].decode('ascii', 'replace')!a}"
