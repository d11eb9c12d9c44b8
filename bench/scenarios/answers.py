"""Handshakes of clients about whom an OCSP responder has been asked before."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.loadgen import Plan
from bench.responder import Responder
from bench.scenarios.base import BESIDE_ROUND, START_SECONDS, Quantity, Scenario
from bench.servers import Source
from bench.workbench import HANDSHAKES_AT_ONCE

if TYPE_CHECKING:
    from bench.workbench import Settings, Workbench

_ENTRIES = 10_000
LIST, BOTH = "list alone", "list and OCSP"


class Answers(Scenario):
    """The same list in two gateways, of which one wants a responder's word besides, and has it."""

    name = "answers"
    title = "Handshakes with OCSP"
    quantities = (
        Quantity(
            "full handshake, OCSP",
            "µs",
            "CPU time of the gateway for one new client with a certificate (P-256), 10,000 entries in a CRL, "
            "without and with an OCSP answer about the client that was fetched before.",
        ),
    )

    def seconds(self, settings: Settings, servers: int) -> float:  # noqa: ARG002 - ours alone
        """The rounds of two gateways; a quick run has no time for them."""
        return (
            0.0
            if settings.quick
            else 2 * (START_SECONDS + (settings.rounds + 0.5) * (settings.round_seconds + BESIDE_ROUND))
        )

    def measure(self, bench: Workbench) -> None:
        """Ours: no peer asks a responder about its clients."""
        if bench.settings.quick:
            bench.note("left out of a quick run")
            return
        plan = Plan("handshakes", connections=HANDSHAKES_AT_ONCE)
        for kind in bench.pick("gateway"):
            with ExitStack() as stack:
                responder = stack.enter_context(Responder(bench.site.material, bench.site.load_cpu))
                url = bench.crl(_ENTRIES).as_uri()
                sources = {LIST: Source(url), BOTH: Source(url, responder=responder.url)}
                trials = []
                for words, source in sources.items():
                    server = stack.enter_context(bench.server(kind, _ENTRIES, source=source))
                    figure = bench.figure("full handshake, OCSP", "µs", server.kind, words)
                    trials += bench.trial(figure, server, plan)
                warm = responder.answers
                bench.interleave(trials)
                if not warm or responder.answers > warm:
                    raise BenchError(
                        f"the responder was asked {warm} times before the rounds, {responder.answers} in all"
                    )
