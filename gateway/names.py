"""How certificates are named: for people in messages, for lookups by the bytes in them, and compared.

The texts are safe to log whatever a certificate says of itself: one line, no
control characters, bounded, and never an exception.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import warnings
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning

from gateway import der

if TYPE_CHECKING:
    from collections.abc import Iterable

# cryptography warns the programmer of what stands in a certificate: a negative
# serial, a country of three letters. Here that is foreign input, and none of stderr's business.
warnings.filterwarnings("ignore", category=CryptographyDeprecationWarning)
warnings.filterwarnings("ignore", message="Attribute's length must be", category=UserWarning)

# A Name may be as long as the message that brought it; a log line may not.
_LONGEST = 512
_LONGEST_ERROR = 200

# Of a serial: 20 octets are a CA's limit (RFC 5280, section 4.1.2.2); some CAs exceed it.
LONGEST_SERIAL = 64
# int() alone would take underscores and spaces, too.
_SERIAL = re.compile(r"(-?)(?:0[xX])?([0-9A-Fa-f]+(?::[0-9A-Fa-f]+)*)")

# A Name of real life has some hundred octets. What a stranger sends in longer ones is compared
# all the same, but does not stay in memory.
_LONGEST_REMEMBERED = 2048
_REMEMBERED = 4096

CanonicalName: TypeAlias = "tuple[frozenset[tuple[str, str | bytes]], ...] | bytes"
"""RDN by RDN, each a set of attribute types and values; the octets of a Name that cannot be read."""

REASONS = {
    0: "unspecified",
    1: "keyCompromise",
    2: "cACompromise",
    3: "affiliationChanged",
    4: "superseded",
    5: "cessationOfOperation",
    6: "certificateHold",
    8: "removeFromCRL",
    9: "privilegeWithdrawn",
    10: "aACompromise",
}
"""Codes and names of CRLReason (RFC 5280, section 5.3.1); 7 is not used."""


@dataclass(frozen=True)
class IssuerId:
    """Who signs: name and key together, never the name alone (RFC 5280, section 6.3.3).

    `name` is the DER of the subject, `key` of the SubjectPublicKeyInfo, both as they
    stand in the certificate.
    """

    name: bytes
    key: bytes

    def __str__(self) -> str:
        return printable_der(self.name)


def load_untrusted(certificate: bytes) -> x509.Certificate:
    """A certificate (DER) that a peer sent; of its names, `printable_der` reads any.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return x509.load_der_x509_certificate(certificate)
    except x509.InvalidVersion as exc:
        # No ValueError, unlike all else that cryptography may find in it.
        raise ValueError(str(exc)) from exc


def fingerprint(certificate: x509.Certificate) -> str:
    """A certificate's SHA-256, hexadecimal: the key of its staple."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def issuer_id(certificate: x509.Certificate) -> IssuerId:
    """The identity of a CA, from its own certificate."""
    data = certificate.public_bytes(Encoding.DER)
    fields = _fields(data)
    return IssuerId(_slice(data, fields[3]), _slice(data, fields[4]))


def issuer_name_der(certificate: x509.Certificate) -> bytes:
    """The DER of the issuer's Name as it stands in `certificate`."""
    data = certificate.public_bytes(Encoding.DER)
    return _slice(data, _fields(data)[1])


def canonical_name(name: bytes) -> CanonicalName:
    """What two Names (DER) have in common just when they are one name (RFC 5280, section 7.1).

    Attributes of one RDN are a set. Values of whatever string type compare as text: after
    Unicode's compatibility composition (NFKC), without regard to case, with one space for white
    space within and none around. Bytes that are no Name are equal to themselves alone.
    """
    return (_canonical if len(name) <= _LONGEST_REMEMBERED else _canonical.__wrapped__)(name)


@lru_cache(_REMEMBERED)
def _canonical(name: bytes) -> CanonicalName:
    try:
        rdns = x509.Name.from_bytes(name).rdns
    except (ValueError, TypeError):
        return name
    return tuple(
        frozenset((attribute.oid.dotted_string, _prepared(attribute.value)) for attribute in rdn)
        for rdn in rdns
    )


def _prepared(value: str | bytes) -> str | bytes:
    """A value as it is compared: RFC 4518's steps as far as certificates use them."""
    if isinstance(value, bytes):
        return value
    # Folding may undo the composition, and the first composition makes letters that fold.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).casefold())
    return " ".join(folded.split())


def _fields(data: bytes) -> list[der.Element]:
    """Of tbsCertificate (RFC 5280, section 4.1): signature, issuer, validity, subject, key."""
    listed = der.read(data, der.read(data).content_at)
    # version is left out in v1: then serialNumber comes first.
    before = 2 if data[listed.content_at] == der.CONTEXT_0 else 1
    return der.children(data, listed, before + 5)[before:]


def _slice(data: bytes, element: der.Element) -> bytes:
    return data[element.at : element.end]


def printable(name: x509.Name) -> str:
    """RFC 4514 text on one line: what cannot be printed is escaped as its UTF-8 octets."""
    text = name.rfc4514_string() or "(empty name)"
    return _bounded(character if character.isprintable() else _escape(character) for character in text)


def printable_der(name: bytes) -> str:
    """`printable` of a Name in DER, or its beginning in hexadecimal where it cannot be read."""
    try:
        return printable(x509.Name.from_bytes(name))
    # TypeError: a BIT STRING in any attribute but x500UniqueIdentifier.
    except (ValueError, TypeError):
        return _bounded(f"#{name.hex()}")


def describe(certificate: x509.Certificate) -> str:
    """Subject and serial number of a certificate, for the middle of a sentence."""
    return f"{printable_der(issuer_id(certificate).name)} (serial {serial_hex(certificate.serial_number)})"


def one_line(error: Exception) -> str:
    """What an exception says, which may quote what a stranger wrote."""
    text = str(error)
    return "".join(character if character.isprintable() else " " for character in text)[:_LONGEST_ERROR]


def serial_hex(serial: int) -> str:
    """A serial number as openssl prints it: upper-case octets, "-" before a negative one."""
    digits = f"{abs(serial):X}"
    return ("-" if serial < 0 else "") + ("0" if len(digits) % 2 else "") + digits


def parse_serial(text: str) -> int:
    """A serial number from hexadecimal digits, with or without 0x and colons: what `serial_hex` wrote, too.

    Raises:
        ValueError: it is none, or is longer than any CA's; the text begins with "expected".
    """
    match = _SERIAL.fullmatch(text)
    if match is None:
        raise ValueError("expected a serial number in hexadecimal digits")
    serial = int(match[2].replace(":", ""), 16)
    if len(serial_octets(serial)) > LONGEST_SERIAL:
        raise ValueError(f"expected a serial number of at most {LONGEST_SERIAL} octets")
    return -serial if match[1] else serial


def serial_octets(serial: int) -> bytes:
    """The content of a serial number's INTEGER (X.690, section 8.3)."""
    # One bit for the sign; ~ makes as many bits of -128 as of 127.
    bits = (serial if serial >= 0 else ~serial).bit_length() + 1
    return serial.to_bytes((bits + 7) // 8, signed=True)


def parse_name(text: str) -> bytes:
    """The Name (DER) that RFC 4514 writes like this: what `printable` wrote, if that was not cut short.

    Raises:
        ValueError: it is none, or is the empty one; the text begins with "expected".
    """
    try:
        name = x509.Name.from_rfc4514_string(text)
        encoded = name.public_bytes()
    except (ValueError, TypeError) as exc:
        raise ValueError("expected a name as RFC 4514 writes it, such as CN=Fleet CA,O=Example") from exc
    # Read again: it is written without a look at which characters its string types have.
    if not name.rdns or isinstance(canonical_name(encoded), bytes):
        raise ValueError("expected a name as RFC 4514 writes it, such as CN=Fleet CA,O=Example")
    return encoded


def reason_text(code: int) -> str:
    """The name of a CRLReason; one that is not given (-1) means unspecified (RFC 5280, section 5.3.1)."""
    return REASONS[0] if code < 0 else REASONS.get(code, f"reason {code}")


def _escape(character: str) -> str:
    return "".join(f"\\{octet:02X}" for octet in character.encode("utf-8", "surrogatepass"))


def _bounded(pieces: Iterable[str]) -> str:
    # No piece is empty: what is cut off is not looked at, however much it is.
    text = "".join(islice(pieces, _LONGEST + 1))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
