"""What a connection costs that does nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import processes
from bench.errors import BenchError
from bench.loadgen import Plan
from bench.scenarios.base import OPEN_SECONDS, START_SECONDS, Quantity, Scenario
from bench.workbench import HANDSHAKES_AT_ONCE

if TYPE_CHECKING:
    from bench.servers import Kind
    from bench.workbench import Settings, Workbench

# So that what the first clients make a server allocate once is not counted to the connections.
_WARM_UP = 250


class Idle(Scenario):
    """Memory per connection that has made one round trip and then waits."""

    name = "idle"
    title = "Memory of idle connections"
    quantities = (
        Quantity(
            "memory an idle connection",
            "KiB",
            "How much a fresh server grows by one of thousands of connections that have made a round trip "
            "and wait; PSS divides what processes share, RSS counts it in each. The kernel's buffers are "
            "not in it.",
        ),
    )

    def seconds(self, settings: Settings, servers: int) -> float:
        """A fresh server for each round."""
        opened = (_connections(settings) + _WARM_UP) * OPEN_SECONDS
        return servers * settings.few() * (START_SECONDS + opened)

    def measure(self, bench: Workbench) -> None:
        """Fresh servers, one after the other."""
        figures = {
            (kind.name, name): bench.figure("memory an idle connection", "KiB", kind.name, name)
            for kind in bench.kinds
            for name in ("PSS", "RSS")
        }
        for _ in range(bench.settings.few()):
            for kind in bench.kinds:
                try:
                    grown = _growth(bench, kind)
                except BenchError as exc:
                    bench.failed(exc, kind.name)
                    continue
                for name, value in grown.items():
                    figures[kind.name, name].rounds.append(value / 1024)
        bench.keep(*figures.values())


def _growth(bench: Workbench, kind: Kind) -> dict[str, float]:
    """Bytes per connection, by how they are counted."""
    connections = _connections(bench.settings)
    with bench.server(kind) as server:
        bench.run(server, Plan("handshakes", connections=HANDSHAKES_AT_ONCE, count=_WARM_UP))
        before = processes.memory(server.pid)
        with bench.load(server, Plan("idle", connections=connections)) as load:
            held = processes.memory(server.pid)
            load.run()
    return {
        "PSS": (held.pss - before.pss) / connections,
        "RSS": (held.rss - before.rss) / connections,
    }


def _connections(settings: Settings) -> int:
    return 1000 if settings.quick else 5000
