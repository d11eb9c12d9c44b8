"""Small and large messages over connections that stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.loadgen import Plan
from bench.scenarios.base import BESIDE_ROUND, OPEN_SECONDS, Quantity, Scenario
from bench.workbench import Trial, connections_in_words

if TYPE_CHECKING:
    from bench.workbench import Settings, Workbench

_WHAT = "64-byte round trip"
_CONNECTIONS = (16, 1000)
_SMALL = 64
_LARGE = 1 << 20
_BULK_CONNECTIONS = 4


class Echo(Scenario):
    """Round trips as a broker's small messages are."""

    name = "echo"
    title = "64-byte round trips"
    quantities = (
        Quantity(
            _WHAT,
            "µs",
            "CPU time of the server to take 64 bytes from a client to the broker and 64 back, over 16 "
            "connections and over 1,000 that are all busy.",
        ),
    )

    def seconds(self, settings: Settings, servers: int) -> float:
        """The rounds, and the connections of each."""
        return servers * sum(
            _rounds(settings, connections)
            * (settings.round_seconds + BESIDE_ROUND + connections * OPEN_SECONDS)
            for connections in _CONNECTIONS
        )

    def measure(self, bench: Workbench) -> None:
        """Rounds over the shared servers."""
        for connections in _CONNECTIONS:
            words = connections_in_words(connections)
            plan = Plan("echo", connections=connections, size=_SMALL, seconds=bench.settings.round_seconds)
            trials = [
                Trial(bench.figure(_WHAT, "µs", server.kind, words, connections), server, plan)
                for server in bench.unlisted()
            ]
            bench.interleave(trials, _rounds(bench.settings, connections))


def _rounds(settings: Settings, connections: int) -> int:
    """A thousand connections take longer to open than to measure."""
    return settings.rounds if connections < _CONNECTIONS[-1] else settings.few(1, 5)


class Bulk(Scenario):
    """Round trips that are all about moving and encrypting bytes."""

    name = "bulk"
    title = "1 MiB round trips"
    quantities = (
        Quantity(
            "1 MiB round trip",
            "µs",
            "CPU time of the server to take 1 MiB from a client to the broker and 1 MiB back, over 4 "
            "connections.",
        ),
    )

    def seconds(self, settings: Settings, servers: int) -> float:
        """The rounds."""
        return servers * settings.rounds * (settings.round_seconds + BESIDE_ROUND)

    def measure(self, bench: Workbench) -> None:
        """Rounds over the shared servers."""
        plan = Plan("echo", connections=_BULK_CONNECTIONS, size=_LARGE, seconds=bench.settings.round_seconds)
        bench.interleave(
            [
                Trial(bench.figure("1 MiB round trip", "µs", server.kind), server, plan)
                for server in bench.unlisted()
            ]
        )
