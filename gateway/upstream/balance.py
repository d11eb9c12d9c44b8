"""Which broker a client goes to, and which next if that cannot be reached. No I/O, no clock.

Every function gives the brokers' numbers in the order in which they are to be tried. A
share says how much of its part a broker gets: 1 all of it, 0 nobody, between the two while
it starts slowly.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cryptography import x509

from gateway.names import load_untrusted

if TYPE_CHECKING:
    from collections.abc import Sequence


class Turns:
    """Round-robin: each in turn, one with a share of 1/n in each nth of its turns; as csrc/front.c does."""

    def __init__(self, brokers: int) -> None:
        self._credit = [0.0] * brokers
        self._turn = 0

    def order(self, shares: Sequence[float]) -> list[int]:
        """Take the next turn."""
        count = len(shares)
        if not any(shares):
            return []
        while True:
            number = self._turn % count
            self._turn += 1
            self._credit[number] += shares[number]
            if self._credit[number] >= 1:
                self._credit[number] -= 1
                return [each for each in _from(number, count) if shares[each] > 0]


class FewestFirst:
    """Least-connections: the one with the fewest for its share; among equals each in turn."""

    def __init__(self) -> None:
        self._turn = 0

    def order(self, shares: Sequence[float], live: Sequence[int]) -> list[int]:
        """By how many connections of ours each has."""
        self._turn += 1
        candidates = [each for each in _from(self._turn, len(shares)) if shares[each] > 0]
        return sorted(candidates, key=lambda each: (live[each] + 1) / shares[each])


def by_client(identity: bytes, names: Sequence[bytes], shares: Sequence[float]) -> list[int]:
    """Rendezvous hashing: a client keeps its broker, wherever it is in the list, whatever others come or go.

    One that goes moves its own clients alone, evenly to those that are left; one that comes
    takes its part from each. Shares say who takes part; a slow start does not move clients.
    """
    weights = {
        number: hashlib.blake2b(identity, key=hashlib.sha256(name).digest(), digest_size=8).digest()
        for number, name in enumerate(names)
        if shares[number] > 0
    }
    return sorted(weights, key=weights.__getitem__, reverse=True)


def identity(certificate: bytes) -> bytes:
    """What a client is known by: its subject, which outlives the renewal of its certificate (DER).

    Without a subject it is the subjectAltName, and without either the certificate.
    """
    try:
        parsed = load_untrusted(certificate)
        subject = parsed.subject
        if subject.rdns:
            return subject.public_bytes()
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.public_bytes()
    except (
        ValueError,
        TypeError,  # a BIT STRING in any attribute but x500UniqueIdentifier
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ):
        return certificate


def _from(first: int, count: int) -> list[int]:
    return [(first + offset) % count for offset in range(count)]
