"""What an operator revokes before a CA publishes it: values, their file's payload, and CRL entries. No I/O.

A revocation is of a serial of an issuer. Issuers compare as names do
(`names.canonical_name`): a CA that writes its name in another string type is the same.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import msgspec

from gateway import der, names
from gateway.errors import UNREADABLE, CrlError
from gateway.names import canonical_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.names import CanonicalName

_OID_REASON = bytes.fromhex("0603551d15")
_ENUMERATED = 0x0A
_OCTET_STRING = 0x04
# Years before it are UTCTime, it and later ones GeneralizedTime (RFC 5280, section 5.1.2.4).
_GENERALIZED_FROM = 2050
_LONGEST_NOTE = 500
# The end of the year 9999: GeneralizedTime has four digits.
LAST_MOMENT = 253_402_300_799

REASONS = {name: code for code, name in names.REASONS.items() if name != "removeFromCRL"}
"""Names and codes of CRLReason (RFC 5280, section 5.3.1); removeFromCRL revokes nothing."""


class LocalRevocation(msgspec.Struct, frozen=True):
    """One certificate that is revoked here: `issuer` is the Name (DER) as the certificate has it.

    `revoked_at` is in seconds since 1970; `by` and `note` are for people.
    """

    issuer: bytes
    serial: int
    reason: str
    revoked_at: int
    by: str
    note: str = ""


class _Kept(msgspec.Struct, frozen=True):
    """A revocation as the file has it: JSON has no bytes, and no integers as long as a serial."""

    issuer: str
    serial: str
    reason: str
    revoked_at: int
    by: str
    note: str = ""


def checked(revocation: LocalRevocation) -> LocalRevocation:
    """The revocation itself, if it can be put in force.

    Raises:
        CrlError: it cannot; the line says what was expected.
    """
    if revocation.reason not in REASONS:
        raise CrlError(
            f"reason {revocation.reason[:40]!r}: expected one of {', '.join(REASONS)}; nothing is revoked"
        )
    if len(names.serial_octets(revocation.serial)) > names.LONGEST_SERIAL:
        raise CrlError(f"serial: expected at most {names.LONGEST_SERIAL} octets; nothing is revoked")
    if len(revocation.note) > _LONGEST_NOTE:
        raise CrlError(f"note: expected at most {_LONGEST_NOTE} characters; nothing is revoked")
    if not 0 <= revocation.revoked_at <= LAST_MOMENT:
        raise CrlError(
            f"time {revocation.revoked_at}: expected one before the year 10000; nothing is revoked"
        )
    if isinstance(canonical_name(revocation.issuer), bytes):
        raise CrlError("issuer: expected a Name in DER; nothing is revoked")
    return revocation


def add(revocations: tuple[LocalRevocation, ...], new: LocalRevocation) -> tuple[LocalRevocation, ...]:
    """With `new`, which takes the place of an earlier one of the same certificate."""
    return (*remove(revocations, new.issuer, new.serial), new)


def remove(
    revocations: tuple[LocalRevocation, ...], issuer: bytes, serial: int
) -> tuple[LocalRevocation, ...]:
    """Without the one of this certificate; all of them if there is none."""
    name = canonical_name(issuer)
    return tuple(each for each in revocations if each.serial != serial or canonical_name(each.issuer) != name)


def find(revocations: Iterable[LocalRevocation], issuer: bytes, serial: int) -> LocalRevocation | None:
    """The first one of this certificate."""
    name = canonical_name(issuer)
    found = (each for each in revocations if each.serial == serial and canonical_name(each.issuer) == name)
    return next(found, None)


def entries(revocations: Iterable[LocalRevocation]) -> dict[bytes, bytes]:
    """By issuer's Name (DER): content of revokedCertificates (RFC 5280, section 5.1), in the order given.

    Issuers that compare equal are one, under the name that came first.
    """
    first: dict[CanonicalName, bytes] = {}
    found: dict[bytes, list[bytes]] = {}
    for each in revocations:
        name = first.setdefault(canonical_name(each.issuer), each.issuer)
        found.setdefault(name, []).append(_entry(each))
    return {name: b"".join(pieces) for name, pieces in found.items()}


def encode(revocations: tuple[LocalRevocation, ...]) -> bytes:
    """What `StateStore.save_local` keeps."""
    return msgspec.json.encode(
        [
            _Kept(each.issuer.hex(), f"{each.serial:x}", each.reason, each.revoked_at, each.by, each.note)
            for each in revocations
        ]
    )


def decode(data: bytes) -> tuple[LocalRevocation, ...]:
    """What `encode` was given.

    Raises:
        CrlError: it is nothing that `encode` made.
    """
    try:
        return tuple(
            checked(
                LocalRevocation(
                    bytes.fromhex(each.issuer),
                    int(each.serial, 16),
                    each.reason,
                    each.revoked_at,
                    each.by,
                    each.note,
                )
            )
            for each in msgspec.json.decode(data, type=list[_Kept])
        )
    except (*UNREADABLE, ValueError) as exc:
        raise CrlError(f"local revocations cannot be read: {exc}; none of them is in force") from exc


def _entry(one: LocalRevocation) -> bytes:
    reason = b""
    if one.reason != "unspecified":
        value = der.encode(_OCTET_STRING, der.encode(_ENUMERATED, bytes([REASONS[one.reason]])))
        extension = der.encode(der.SEQUENCE, _OID_REASON, value)
        reason = der.encode(der.SEQUENCE, extension)
    serial = der.encode(der.INTEGER, names.serial_octets(one.serial))
    return der.encode(der.SEQUENCE, serial, _time(one.revoked_at), reason)


def _time(seconds: int) -> bytes:
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    if moment.year < _GENERALIZED_FROM:
        return der.encode(der.UTC_TIME, f"{moment:%y%m%d%H%M%SZ}".encode())
    return der.encode(der.GENERALIZED_TIME, f"{moment:%Y%m%d%H%M%SZ}".encode())
