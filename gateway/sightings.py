"""What a worker sees in certificates that control may not know: where lists are, and CAs.

Nothing of a client that is simply good comes to Python, and where the deltas are may stand in its
certificate alone: so one of those is looked at now and then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from gateway import publish
from gateway.revocation import policy
from gateway.tls import openssl

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from gateway.native import Conn, Front, Listener

# Seconds from one client of a listener that is looked at, although it is simply good, to the next.
_LOOK_AROUND = 1.0
# URLs and CAs that control has been told of.
_MOST_SEEN = 10_000


class Sightings:
    """Those of one worker, on their way to control."""

    def __init__(self, send: Callable[[publish.ToControl], bool], own: Container[bytes]) -> None:
        """`send` has control told, or says that there is no room; it knows `own` anyway, CAs (DER)."""
        self._send = send
        self._own = own
        self._seen: set[str | bytes] = set()
        self._curious: set[Listener] = set()
        """Those of whose good clients one is to be looked at."""

    def forget(self) -> None:
        """Whoever was told is gone."""
        self._seen.clear()

    async def look_around(self, doors: Sequence[tuple[Listener, Front]]) -> None:
        """Ask each of the doors for the certificate of a client now and then that is simply good."""
        while True:
            for listener, front in doors:
                self._curious.add(listener)
                front.show_one()
            await trio.sleep(_LOOK_AROUND)

    def glance(self, conn: Conn) -> None:
        """A client that is simply good."""
        if conn.listener in self._curious:
            self._curious.discard(conn.listener)
            for leaf in openssl.client(conn.ssl).chain[:1]:
                self._tell(policy.delta_points(leaf), ())

    def learn(self, chain: Sequence[bytes]) -> None:
        """The certificate of a verified client that no list covers, and those above it (DER)."""
        self._tell(policy.distribution_points(chain[0]), chain[1:])

    def _tell(self, points: Sequence[str], above: Sequence[bytes]) -> None:
        urls = tuple(url for url in points if url not in self._seen)
        cas = tuple(ca for ca in above if ca not in self._seen and ca not in self._own)
        if not urls and not cas:
            return
        if not self._send(publish.Sighting(urls, cas)):
            return  # the next such client tells it again
        if len(self._seen) > _MOST_SEEN:
            # Of a CA that puts another URL into each certificate: told again is better than never forgotten.
            self._seen.clear()
        self._seen.update(urls, cas)
