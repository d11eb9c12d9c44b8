"""Full mutual handshakes, without a CRL and with ever longer ones."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.loadgen import Plan
from bench.scenarios.base import BESIDE_ROUND, START_SECONDS, Quantity, Scenario
from bench.workbench import HANDSHAKES_AT_ONCE, entries_in_words

if TYPE_CHECKING:
    from bench.servers import Server
    from bench.workbench import Settings, Trial, Workbench

# A server that reads ten million entries in a handshake needs seconds for it, and gigabytes.
_LARGEST = 10_000_000
_TAKE_THE_LARGEST = ("gateway", "haproxy", "nginx")
# The others read a list as these do, or more slowly: a quick run does without them.
_TAKE_A_MILLION_QUICKLY = ("gateway", "haproxy", "nginx", "envoy")
_ROUNDS_OF_THE_LARGEST = 3
_SECONDS_OF_THE_LARGEST = 60.0
_START_WITH_A_MILLION = 4.0
_PATIENCE = 120.0


class Handshakes(Scenario):
    """TCP accept, handshake, connection to the broker, one byte there and back, close."""

    name = "handshakes"
    title = "Full mutual TLS 1.3 handshakes"
    quantities = (
        Quantity(
            "full handshake",
            "µs",
            "CPU time of the server for one new client with a certificate (P-256), by entries in the CRL "
            "that it checks: flat is good.",
            curve=True,
        ),
    )

    def seconds(self, settings: Settings, servers: int) -> float:
        """The rounds, the starts, and in full the largest list."""
        levels = _levels(settings)
        listed = min(servers, len(_TAKE_A_MILLION_QUICKLY)) if settings.quick else servers
        cells = servers + listed * (len(levels) - 1)
        rounds = cells * (settings.rounds + 0.5) * (settings.round_seconds + BESIDE_ROUND)
        starts = START_SECONDS * (cells - listed) + _START_WITH_A_MILLION * listed
        return rounds + starts + (0 if settings.quick else _SECONDS_OF_THE_LARGEST * len(_TAKE_THE_LARGEST))

    def measure(self, bench: Workbench) -> None:
        """All servers with all lists at once; the largest one after the other."""
        with ExitStack() as stack:
            listed = bench.pick(*_TAKE_A_MILLION_QUICKLY) if bench.settings.quick else bench.kinds
            servers: list[Server] = []
            for entries in _levels(bench.settings):
                servers += (
                    bench.unlisted()
                    if entries is None
                    else stack.enter_context(bench.servers(entries, kinds=listed))
                )
            # A kind's servers one after the other: what a list adds to a handshake is the finest difference.
            names = [kind.name for kind in bench.kinds]
            servers.sort(key=lambda server: names.index(server.kind))
            bench.interleave([trial for server in servers for trial in _trial(bench, server)])
        if not bench.settings.quick:
            for kind in bench.pick(*_TAKE_THE_LARGEST):
                with bench.servers(_LARGEST, kinds=[kind]) as started:
                    trials = [trial for server in started for trial in _trial(bench, server)]
                    bench.interleave(trials, min(bench.settings.rounds, _ROUNDS_OF_THE_LARGEST))


def _levels(settings: Settings) -> tuple[int | None, ...]:
    return (None, 1_000_000) if settings.quick else (None, 1, 10_000, 100_000, 1_000_000)


def _trial(bench: Workbench, server: Server) -> list[Trial]:
    words = entries_in_words(server.entries)
    figure = bench.figure("full handshake", "µs", server.kind, words, at=server.entries or 0)
    plan = Plan("handshakes", connections=HANDSHAKES_AT_ONCE, timeout=_PATIENCE)
    return bench.trial(figure, server, plan)
