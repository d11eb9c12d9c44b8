"""What open connections and the number of workers add to the cost of a handshake."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.loadgen import Plan
from bench.scenarios.base import BESIDE_ROUND, OPEN_SECONDS, START_SECONDS, Quantity, Scenario
from bench.workbench import HANDSHAKES_AT_ONCE, Trial, connections_in_words

if TYPE_CHECKING:
    from bench.servers import Server
    from bench.workbench import Settings, Workbench

_SCALE_KINDS = ("gateway", "haproxy", "envoy")
_SCALE_KINDS_QUICKLY = ("gateway",)
_WORKERS_KINDS = ("gateway", "haproxy", "nginx", "envoy")
_WORKERS_KINDS_QUICKLY = ("gateway", "haproxy")


class Scale(Scenario):
    """Handshakes while another generator holds ever more connections."""

    name = "scale"
    title = "Handshakes beside open connections"
    quantities = (
        Quantity(
            "full handshake beside idle connections",
            "µs",
            "CPU time of the server for one new client while thousands of others are connected and idle: "
            "flat is good.",
            curve=True,
        ),
    )

    def seconds(self, settings: Settings, servers: int) -> float:
        """Connections are opened once for the rounds of a server."""
        held = _held(settings)
        rounds = len(held) * (settings.few() + 0.5) * (settings.round_seconds + BESIDE_ROUND)
        kinds = _SCALE_KINDS_QUICKLY if settings.quick else _SCALE_KINDS
        return min(servers, len(kinds)) * (sum(held) * OPEN_SECONDS + rounds)

    def measure(self, bench: Workbench) -> None:
        """One server after the other: all with all their connections would be too many descriptors."""
        kinds = _SCALE_KINDS_QUICKLY if bench.settings.quick else _SCALE_KINDS
        for server in (server for server in bench.unlisted() if server.kind in kinds):
            for connections in _held(bench.settings):
                try:
                    _beside(bench, server, connections)
                except BenchError as exc:
                    bench.failed(exc, server.kind)


def _beside(bench: Workbench, server: Server, connections: int) -> None:
    words = connections_in_words(connections)
    bench.watcher.step(f"opening {words} to {server.kind}")
    figure = bench.figure("full handshake beside idle connections", "µs", server.kind, words, at=connections)
    with bench.load(server, Plan("idle", connections=connections)):
        plan = Plan("handshakes", connections=HANDSHAKES_AT_ONCE)
        bench.interleave(bench.trial(figure, server, plan), bench.settings.few())


def _held(settings: Settings) -> tuple[int, ...]:
    return (100, 1000) if settings.quick else (100, 1000, 4000, 8000)


class Workers(Scenario):
    """One worker on one processor, then as many as there are processors on all of them."""

    name = "workers"
    title = "One worker, and one for each processor"
    quantities = (
        Quantity(
            "full handshake by workers",
            "µs",
            "CPU time of the server for one new client with one worker and with one for each processor. The "
            "generator shares the processors with the latter, so that the rate is not twice as high; CPU "
            "time tells whether workers are in each other's way.",
        ),
        Quantity(
            "64-byte round trip by workers",
            "µs",
            "The same for a message over one of 64 connections.",
        ),
    )

    def seconds(self, settings: Settings, servers: int) -> float:
        """Both counts, both quantities."""
        kinds = _WORKERS_KINDS_QUICKLY if settings.quick else _WORKERS_KINDS
        present = min(servers, len(kinds))
        rounds = 4 * (settings.few() + 0.3) * (settings.round_seconds + BESIDE_ROUND)
        return present * (START_SECONDS * 2 + rounds)

    def measure(self, bench: Workbench) -> None:
        """All servers at once, rounds in turns."""
        kinds = bench.pick(*(_WORKERS_KINDS_QUICKLY if bench.settings.quick else _WORKERS_KINDS))
        counts = sorted({1, len(os.sched_getaffinity(0))})
        with ExitStack() as stack:
            served = {
                count: stack.enter_context(bench.servers(kinds=kinds, workers=count)) for count in counts
            }
            bench.interleave(
                [
                    trial
                    for count, servers in served.items()
                    for server in servers
                    for trial in _trials(bench, server, count)
                ],
                bench.settings.few(),
            )


def _trials(bench: Workbench, server: Server, workers: int) -> list[Trial]:
    words = "1 worker" if workers == 1 else f"{workers} workers"
    handshake = bench.figure("full handshake by workers", "µs", server.kind, words)
    echo = bench.figure("64-byte round trip by workers", "µs", server.kind, words)
    messages = Plan("echo", connections=64, size=64, seconds=bench.settings.round_seconds)
    return [
        *bench.trial(handshake, server, Plan("handshakes", connections=64)),
        Trial(echo, server, messages),
    ]
