"""Handshakes that resume a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.loadgen import Plan
from bench.scenarios.base import BESIDE_ROUND, Quantity, Scenario
from bench.workbench import HANDSHAKES_AT_ONCE

if TYPE_CHECKING:
    from bench.workbench import Settings, Workbench


_ENTRIES = 10_000


class Resumed(Scenario):
    """As full handshakes, each with the session of the connection before it."""

    name = "resumed"
    title = "Resumed TLS 1.3 handshakes"
    quantities = (
        Quantity(
            "resumed handshake",
            "µs",
            "CPU time of the server for a client that comes back with a session ticket. The gateway looks "
            "its certificate up again, in a list of 10,000 entries; the others have no list, and would not.",
        ),
    )

    def seconds(self, settings: Settings, servers: int) -> float:
        """The rounds."""
        return servers * (settings.rounds + 0.5) * (settings.round_seconds + BESIDE_ROUND)

    def measure(self, bench: Workbench) -> None:
        """Rounds over the shared servers, with a gateway that has a list in place of the one without."""
        plan = Plan("handshakes", connections=HANDSHAKES_AT_ONCE, resume=True)
        with bench.servers(_ENTRIES, kinds=bench.pick("gateway")) as ours:
            others = [server for server in bench.unlisted() if server.kind != "gateway"]
            trials = [
                trial
                for server in (*ours, *others)
                for trial in bench.trial(bench.figure("resumed handshake", "µs", server.kind), server, plan)
            ]
            bench.interleave(trials)
