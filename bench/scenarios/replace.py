"""A CRL of a million entries is replaced while clients come and messages flow: and who notices."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.loadgen import Plan, Result
from bench.scenarios.base import Quantity, Scenario
from bench.servers import Source
from bench.webserver import CrlServer
from bench.workbench import insist

if TYPE_CHECKING:
    from bench.figures import Figure
    from bench.servers import Kind, Server
    from bench.workbench import Settings, Workbench

_ENTRIES = 1_000_000
# Time to fetch, verify and compile one list, and to be asked for the next: the shortest interval there is.
_INTERVAL = "1s"
_GAP = 4.0
_PATIENCE = 30.0
_SECONDS_TO_MAKE_A_LIST = 1.5
_HANDSHAKES = ("handshake", Plan("handshakes", connections=64, rate=300.0))
_ROUND_TRIPS = ("64-byte round trip", Plan("echo", connections=16, size=64, rate=2000.0))
_CONDITIONS = ("undisturbed", "list replaced")
_PARTS = ("p99.9", "max")


class Replace(Scenario):
    """Handshakes and round trips at a steady rate, with and without new lists on the web server."""

    name = "replace"
    title = "A CRL of 1,000,000 entries replaced under load"
    quantities = (
        Quantity(
            "handshake",
            "ms",
            "Latency of new clients at 300 a second, counted from when each was due: the slowest of a "
            "thousand and the slowest of all, without a new list and with one every 4 seconds.",
        ),
        Quantity(
            "64-byte round trip",
            "ms",
            "The same for messages over open connections at 2,000 a second. Fetching, verifying and "
            "compiling share the one processor with them.",
        ),
    )

    def seconds(self, settings: Settings, servers: int) -> float:  # noqa: ARG002 - ours alone
        """Both conditions in each round, and the lists."""
        lists = _replacements(settings) * _SECONDS_TO_MAKE_A_LIST
        return 6.0 + settings.few() * (2 * _phase_seconds(settings) + lists)

    def measure(self, bench: Workbench) -> None:
        """Ours: no peer fetches a list by itself."""
        for kind in (kind for kind in bench.kinds if kind.fetches):
            with CrlServer(bench.site.load_cpu) as web:
                web.publish(bench.site.material.crl(_ENTRIES))
                source = Source(web.url, _INTERVAL)
                with bench.server(kind, _ENTRIES, source=source) as server:
                    web.wait_until_accepted(_PATIENCE)
                    bench.keep(*_rounds(bench, kind, server, web))


def _rounds(bench: Workbench, kind: Kind, server: Server, web: CrlServer) -> list[Figure]:
    figures = {
        (what, part, condition): bench.figure(what, "ms", kind.name, f"{_in_words(part)}, {condition}", at)
        for what, _ in (_HANDSHAKES, _ROUND_TRIPS)
        for at, (part, condition) in enumerate(
            (part, condition) for part in _PARTS for condition in _CONDITIONS
        )
    }
    count, number = _replacements(bench.settings), 1
    for _ in range(bench.settings.few()):
        bench.watcher.step("undisturbed")
        results = [_phase(bench, server, web, [])]
        bench.watcher.step(f"writing {count} lists of {_ENTRIES:,} entries")
        lists = [bench.site.material.crl(_ENTRIES, number=number + step + 1) for step in range(count)]
        number += count
        bench.watcher.step("replacing the list")
        results.append(_phase(bench, server, web, lists))
        for condition, by_what in zip(_CONDITIONS, results, strict=True):
            for what, result in by_what.items():
                for part in _PARTS:
                    figure = figures[what, part, condition]
                    figure.rounds.append(result.latency_us[part] / 1000)
                    figure.loads.append(result)
    return list(figures.values())


def _phase(bench: Workbench, server: Server, web: CrlServer, lists: list[bytes]) -> dict[str, Result]:
    """Both loads at once for a while, in which `lists` are published one by one."""
    seconds = _phase_seconds(bench.settings)
    with (
        bench.load(server, _for(_HANDSHAKES[1], seconds)) as handshakes,
        bench.load(server, _for(_ROUND_TRIPS[1], seconds)) as round_trips,
    ):
        began = time.monotonic()
        handshakes.start()
        round_trips.start()
        for at, document in enumerate(lists):
            time.sleep(max(0.0, began + at * _GAP - time.monotonic()))
            web.publish(document)
            web.wait_until_accepted(_PATIENCE)
            if time.monotonic() > began + seconds:
                raise BenchError(f"list {at + 1} of {len(lists)} was not in force when the load ended")
        return {
            what: insist(load.wait(), plan)
            for (what, plan), load in ((_HANDSHAKES, handshakes), (_ROUND_TRIPS, round_trips))
        }


def _for(plan: Plan, seconds: float) -> Plan:
    return Plan(plan.mode, connections=plan.connections, size=plan.size, rate=plan.rate, seconds=seconds)


def _in_words(part: str) -> str:
    return "worst" if part == "max" else part


def _replacements(settings: Settings) -> int:
    return 1 if settings.quick else 4


def _phase_seconds(settings: Settings) -> float:
    return (_replacements(settings) + 0.5) * _GAP
