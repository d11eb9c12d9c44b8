"""From the start of a server that has a list of a million entries to its first client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.scenarios.base import Quantity, Scenario
from bench.servers import Source
from bench.webserver import CrlServer

if TYPE_CHECKING:
    from bench.servers import Kind
    from bench.workbench import Settings, Workbench

_ENTRIES = 1_000_000
# The shortest there is: the list is stored when the server is asked again.
_INTERVAL = "1s"
_PATIENCE = 30.0
_SECONDS = 4.0
_KINDS_QUICKLY = ("gateway", "haproxy")


class Start(Scenario):
    """Process start to first served client, with the CA's web server out of order."""

    name = "start"
    title = "Start with a CRL of 1,000,000 entries"
    quantities = (
        Quantity(
            "start to the first client served",
            "s",
            "Wall time from starting the process to the end of the first client's handshake and round trip. "
            "The gateway has the list in its store and its web server accepts connections and never "
            "answers; the others read it from a file.",
        ),
    )

    def seconds(self, settings: Settings, servers: int) -> float:
        """A start each round."""
        return (len(_KINDS_QUICKLY) if settings.quick else servers) * settings.few() * _SECONDS

    def measure(self, bench: Workbench) -> None:
        """Fresh servers, one after the other."""
        kinds = bench.pick(*_KINDS_QUICKLY) if bench.settings.quick else bench.kinds
        able = [kind for kind in kinds if kind.crl]
        figures = {
            kind.name: bench.figure("start to the first client served", "s", kind.name) for kind in able
        }
        with CrlServer(bench.site.load_cpu) as web:
            web.publish(bench.site.material.crl(_ENTRIES))
            sources: dict[str, Source] = {}
            for kind in (kind for kind in able if kind.fetches):
                sources[kind.name] = _warm(bench, kind, web)
            web.fall_silent()
            for _ in range(bench.settings.few()):
                for kind in able:
                    try:
                        with bench.server(kind, _ENTRIES, source=sources.get(kind.name)) as server:
                            figures[kind.name].rounds.append(server.start_seconds)
                    except BenchError as exc:
                        bench.failed(exc, kind.name)
        bench.keep(*figures.values())


def _warm(bench: Workbench, kind: Kind, web: CrlServer) -> Source:
    """Let a server fetch the list once; where the next one finds it."""
    source = Source(web.url, _INTERVAL, bench.directory(f"{kind.name}-state"))
    with bench.server(kind, _ENTRIES, source=source):
        web.wait_until_accepted(_PATIENCE)
    return source
