"""All clients come back at once: how long until they are served, and who else notices."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.loadgen import Plan, Result
from bench.scenarios.base import OPEN_SECONDS, Quantity, Scenario
from bench.workbench import insist

if TYPE_CHECKING:
    from bench.figures import Figure
    from bench.servers import Server
    from bench.workbench import Settings, Workbench

_PEERS = ("gateway", "haproxy", "nginx", "envoy")
_PEERS_QUICKLY = ("gateway", "haproxy")
_PATIENCE = 60.0
# The client that is connected already: low, so that it asks how long it waits, and adds nothing itself.
_CONNECTED = 4
_RATE = 500.0
_BYTES = 64
# It ends before the storm does, whose length is known from the one before.
_SHARE_OF_STORM = 0.8
_AHEAD = 0.05


class Storm(Scenario):
    """Thousands of full handshakes at once beside a client that exchanges messages at a steady rate."""

    name = "storm"
    title = "Reconnect storm"
    quantities = (
        Quantity(
            "time until all are served",
            "s",
            "From the first of thousands of clients that connect at once to the last one's first byte; wall "
            "time, in which the generator's own part, on its processor, is contained.",
        ),
        Quantity(
            "p99 of a connected client",
            "ms",
            "99 of 100 round trips of a client that was connected before take less than this, counted from "
            "when each was due, without a storm and during one.",
        ),
    )

    def seconds(self, settings: Settings, servers: int) -> float:
        """A storm to warm up, then storms with the connected client beside."""
        storm = _clients(settings) * OPEN_SECONDS + 0.5
        return min(servers, len(_peers(settings))) * (storm + settings.few() * (storm + _alone(settings)))

    def measure(self, bench: Workbench) -> None:
        """Rounds over shared servers; the storms of a server tell how long its next is."""
        storm = Plan("storm", connections=_clients(bench.settings), timeout=_PATIENCE)
        peers = _peers(bench.settings)
        standing: list[tuple[Server, dict[str, Figure]]] = []
        lengths: dict[str, float] = {}
        for server in (server for server in bench.unlisted() if server.kind in peers):
            bench.watcher.step(f"first storm: {server.kind}")
            try:
                lengths[server.kind] = bench.run(server, storm).seconds
            except BenchError as exc:
                bench.failed(exc, server.kind)
                continue
            standing.append((server, _figures(bench, server)))
        for number in range(bench.settings.few()):
            for server, figures in tuple(standing):
                bench.watcher.step(f"storm {number + 1}: {server.kind}")
                try:
                    lengths[server.kind] = _round(bench, server, storm, figures, lengths[server.kind])
                except BenchError as exc:
                    bench.failed(exc, server.kind)
                    standing.remove((server, figures))
        bench.keep(*(figure for _, figures in standing for figure in figures.values()))


def _figures(bench: Workbench, server: Server) -> dict[str, Figure]:
    p99 = "p99 of a connected client"
    return {
        "all": bench.figure("time until all are served", "s", server.kind),
        "alone": bench.figure(p99, "ms", server.kind, "without a storm", at=0),
        "during": bench.figure(p99, "ms", server.kind, "during the storm", at=1),
    }


def _round(
    bench: Workbench, server: Server, storm: Plan, figures: dict[str, Figure], expected: float
) -> float:
    """One measurement of all three; returns how long the storm was."""
    alone = bench.run(server, _connected(_alone(bench.settings)))
    _add(figures["alone"], alone)
    plan = _connected(expected * _SHARE_OF_STORM)
    with bench.load(server, plan) as connected, bench.load(server, storm) as load:
        connected.start()
        time.sleep(_AHEAD)
        result = insist(load.run(), storm)
        _add(figures["during"], insist(connected.wait(), plan))
    figures["all"].rounds.append(result.seconds)
    figures["all"].loads.append(result)
    return result.seconds


def _add(figure: Figure, result: Result) -> None:
    figure.rounds.append(result.latency_us["p99"] / 1000)
    figure.loads.append(result)


def _connected(seconds: float) -> Plan:
    return Plan("echo", connections=_CONNECTED, size=_BYTES, rate=_RATE, seconds=seconds, timeout=_PATIENCE)


def _peers(settings: Settings) -> tuple[str, ...]:
    return _PEERS_QUICKLY if settings.quick else _PEERS


def _clients(settings: Settings) -> int:
    return 1000 if settings.quick else 5000


def _alone(settings: Settings) -> float:
    return 1.0 if settings.quick else 3.0
