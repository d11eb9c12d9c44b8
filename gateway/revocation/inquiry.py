"""Is this serial revoked? What the lists in force say of it, for people. No I/O.

The handshake asks with the certificate itself (csrc/verify.c), and so knows which
lists are about it; here a serial is looked up in every list of its issuer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gateway.names import canonical_name, printable_der, reason_text, serial_octets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gateway.names import CanonicalName
    from gateway.native import Entry
    from gateway.revocation.coverage import Coverage

_REMOVE_FROM_CRL = 8


class Finding(msgspec.Struct, frozen=True):
    """What one list says: `by` is "list" or "hand"; times are seconds since 1970, 0 where there is none."""

    issuer: str
    revoked: bool
    by: str
    revoked_at: int
    reason: str
    this_update: int
    next_update: int


def ask(coverages: Iterable[Coverage], serial: int, issuer: bytes | None) -> list[Finding]:
    """What each list of `issuer` (a Name in DER; None is every issuer) says, those that revoke first.

    Without `issuer` only those that revoke. What is revoked by hand covers nothing: it is
    told where it revokes.
    """
    wanted = None if issuer is None else canonical_name(issuer)
    found = dict.fromkeys(_findings(coverages, serial, wanted))
    return sorted(found, key=lambda each: not each.revoked)


def _findings(coverages: Iterable[Coverage], serial: int, wanted: CanonicalName | None) -> Iterator[Finding]:
    octets = serial_octets(serial)
    for coverage in coverages:
        by_hand = coverage.scope.reasons == 0
        entry = _entry(coverage, octets)
        for name in dict.fromkeys(each.name for each in coverage.issuers):
            if wanted is not None and canonical_name(name) != wanted:
                continue
            if entry is not None or (wanted is not None and not by_hand):
                yield Finding(
                    issuer=printable_der(name),
                    revoked=entry is not None,
                    by="hand" if by_hand else "list",
                    revoked_at=0 if entry is None else entry.revocation_date,
                    reason="" if entry is None else reason_text(entry.reason),
                    this_update=coverage.this_update,
                    next_update=coverage.next_update,
                )


def _entry(coverage: Coverage, octets: bytes) -> Entry | None:
    """The entry that revokes: what a delta says goes before (RFC 5280, section 6.3.3 (i) to (k))."""
    if coverage.delta is not None:
        entry = coverage.delta.table.find(octets)
        if entry is not None:
            return None if entry.reason == _REMOVE_FROM_CRL else entry
    entry = coverage.table.table.find(octets)
    return None if entry is not None and entry.reason == _REMOVE_FROM_CRL else entry
