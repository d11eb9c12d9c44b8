"""From a new CRL to the last closed connection of a revoked client."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.loadgen import Plan
from bench.scenarios.base import OPEN_SECONDS, START_SECONDS, Quantity, Scenario
from bench.servers import Source
from bench.webserver import CrlServer
from bench.workbench import entries_in_words, insist

if TYPE_CHECKING:
    from bench.figures import Figure
    from bench.servers import Kind
    from bench.workbench import Settings, Workbench

_MILLION = 1_000_000
# The gateway asks for a list every second at most; the wait for that is not in the figure.
_INTERVAL = "1s"
_PATIENCE = 60.0
_SECONDS_TO_MAKE_LISTS = 4.0


class Revoke(Scenario):
    """Thousands of live connections, each with a certificate of its own, all revoked by the next list."""

    name = "revoke"
    title = "Revoke to closed"
    quantities = (
        Quantity(
            "revoke to closed",
            "s",
            "Wall time from when the CA's web server has sent the last byte of the new CRL until the last "
            "live connection of a revoked client is closed: verify, compile, publish, look all up, close. "
            "How often the CA is asked is a setting and not in it. By entries in the CRL besides the revoked "
            "clients.",
        ),
    )

    def seconds(self, settings: Settings, servers: int) -> float:  # noqa: ARG002 - ours alone
        """Both sizes of list, in each round a fresh server and its connections."""
        one = START_SECONDS + self.revoked_clients(settings) * OPEN_SECONDS + 3.0
        return settings.few() * (len(_entries(settings)) * one + _SECONDS_TO_MAKE_LISTS)

    def revoked_clients(self, settings: Settings) -> int:
        """One for each connection."""
        return 1000 if settings.quick else 5000

    def measure(self, bench: Workbench) -> None:
        """Ours: no peer looks at live connections."""
        clients = self.revoked_clients(bench.settings)
        for kind in (kind for kind in bench.kinds if kind.fetches):
            for entries in _entries(bench.settings):
                words = f"{clients:,} of {entries_in_words(entries + clients)}"
                figure = bench.figure("revoke to closed", "s", kind.name, words, at=entries)
                for _ in range(bench.settings.few()):
                    _round(bench, kind, entries, clients, figure)
                bench.keep(figure)


def _round(bench: Workbench, kind: Kind, entries: int, clients: int, figure: Figure) -> None:
    material = bench.site.material
    plan = Plan("idle", connections=clients, revoked=True, until_closed=True, timeout=_PATIENCE)
    with CrlServer(bench.site.load_cpu) as web:
        web.publish(material.crl(entries, number=1))
        revoking = material.crl(entries, number=2, listing=material.revoked_serials)
        with bench.server(kind, entries, source=Source(web.url, _INTERVAL)) as server:
            web.wait_until_accepted(_PATIENCE)
            bench.watcher.step(f"opening {clients:,} connections")
            with bench.load(server, plan) as load:
                load.start()
                web.publish(revoking)
                result = insist(load.wait(), plan)
                ended = time.monotonic()
            sent = web.wait_until_sent(timeout=0.0)
    if result.done != clients:
        raise BenchError(f"{result.done} of {clients} connections were closed")
    figure.rounds.append(ended - sent)
    figure.loads.append(result)


def _entries(settings: Settings) -> tuple[int, ...]:
    """Of the lists, besides the clients that are revoked."""
    return (_MILLION,) if settings.quick else (0, _MILLION)
