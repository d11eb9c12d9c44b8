"""What the log says of lists and certificates: in force, refused, about to expire."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING

from gateway import names
from gateway.config.validity import ValidityWatch
from gateway.fetch import display_url
from gateway.revocation import policy
from gateway.revocation.crl import Succession
from gateway.revocation.watch import Watch, shrank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cryptography import x509
    from structlog.typing import FilteringBoundLogger

    from gateway.config.model import CrlCache
    from gateway.errors import GatewayError
    from gateway.revocation.coverage import Coverage, Listed, Stream
    from gateway.schedule import SourceState


class Journal:
    """Writes it: a `revocation.table.Observer`, which hands on to `publish` what is in force.

    `lists` gives the lists in force, `certificates` are those of the configuration.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        cache: CrlCache,
        certificates: Iterable[x509.Certificate],
        lists: Callable[[], Iterable[Listed]],
        publish: Callable[[Sequence[Coverage]], None],
    ) -> None:
        self._log = log
        self._shrink_warning = cache.shrink_warning
        self._watch = Watch(cache.expiry_warning)
        self._validity = ValidityWatch(certificates, dt.datetime.now(dt.UTC))
        self._lists = lists
        self._publish = publish

    def published(self, coverages: Sequence[Coverage]) -> None:
        """`revocation.table.Observer`."""
        self._publish(coverages)

    def in_force(self, one: Listed, before: Listed | None, succession: Succession) -> None:
        """`revocation.table.Observer`."""
        values = {
            "issuer": one.issuer,
            "number": one.number,
            "entries": one.entries,
            "this_update": policy.moment(one.this_update),
            "next_update": policy.moment(one.next_update) if one.next_update else "none",
        }
        if one.base is not None:
            values["delta_of"] = one.base
        self._log.info("list in force", **values)
        if succession is Succession.OLDER:
            self._log.warning(
                "older list in force",
                issuer=one.issuer,
                number=one.number,
                reason="the newer one has expired; what it alone revoked is forgotten",
            )
        if before is not None and shrank(before.entries, one.entries, self._shrink_warning):
            self._log.warning(
                "list shrank",
                issuer=one.issuer,
                number=one.number,
                entries=one.entries,
                before=before.entries,
            )
        self.watch_lists()

    def watch_lists(self) -> None:
        """Warn of lists that are about to expire, or have."""
        for one, event, left in self._watch.look(self._lists(), int(time.time())):
            values = {
                "issuer": one.issuer,
                "number": one.number,
                "next_update": policy.moment(one.next_update),
            }
            if event == "list has expired":
                self._log.warning("list has expired", **values)
            else:
                self._log.warning("list about to expire", **values, seconds_left=left)

    def watch_certificates(self) -> None:
        """Warn of certificates that are about to expire, or have."""
        for certificate, event in self._validity.look(dt.datetime.now(dt.UTC)):
            values = {
                "certificate": names.describe(certificate),
                "not_after": policy.moment(int(certificate.not_valid_after_utc.timestamp())),
            }
            if event == "certificate has expired":
                self._log.error("certificate has expired", **values)
            else:
                self._log.warning("certificate about to expire", **values)

    def left_out(self, stream: Stream, reason: str) -> None:
        """`revocation.table.Observer`."""
        issuer = min(stream.issuer, key=lambda issuer: (issuer.name, issuer.key))
        self._log.warning("list does not count", issuer=issuer, reason=reason)


class ListObserver:
    """Logs what became of a list's fetches."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log

    def fetched(self, state: SourceState) -> None:
        """`schedule.Observer`, as the others."""
        self._log.debug("list fetched", url=display_url(state.url), entries=state.entries)

    def unchanged(self, state: SourceState) -> None:
        """The one at hand is still the newest."""
        self._log.debug("list unchanged", url=display_url(state.url))

    def failed(self, state: SourceState, error: GatewayError, retry_in: float) -> None:
        """Nothing has come of it, and nothing is lost."""
        self._log.warning(
            "list not refreshed",
            url=display_url(state.url),
            error=str(error),
            failures=state.consecutive_failures,
            retry_in=f"{retry_in:.1f}s",
            consequence="the one in force stays" if state.this_update else "there is none in force from here",
        )
