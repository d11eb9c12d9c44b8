"""Certificates that are about to expire, or have. No I/O, no clock.

When the certificate of a server or the CA of its clients expires nobody comes in any
more. Each certificate is told of once for each of the two.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509

Event = Literal["certificate about to expire", "certificate has expired"]

# The last sixth of its life, but no more than 30 days: whoever renews in time, by hand or
# as ACME clients do with a third of it left, is never told.
_SHARE_OF_LIFE = 6
_LONGEST = dt.timedelta(days=30)


def ending(certificate: x509.Certificate, now: dt.datetime) -> Event | None:
    """What there is to tell of its end; None where that is far away."""
    end = certificate.not_valid_after_utc
    if end < now:
        return "certificate has expired"
    if end - now < min(_LONGEST, (end - certificate.not_valid_before_utc) / _SHARE_OF_LIFE):
        return "certificate about to expire"
    return None


class ValidityWatch:
    """Remembers what has been told; what there was to tell at `now` has been, by who read the files."""

    def __init__(self, certificates: Iterable[x509.Certificate], now: dt.datetime) -> None:
        self._certificates = {certificate: ending(certificate, now) for certificate in certificates}

    def look(self, now: dt.datetime) -> list[tuple[x509.Certificate, Event]]:
        """Those whose end there is something to tell of, at `now`, that was not told yet."""
        found = []
        for certificate, told in self._certificates.items():
            event = ending(certificate, now)
            if event is not None and event != told:
                self._certificates[certificate] = event
                found.append((certificate, event))
        return found
