"""A run that nobody made, with figures of every scenario, for tests of what is done with one."""

from __future__ import annotations

from bench.figures import Figure, Machine, Note, Run
from bench.loadgen import Result
from bench.scenarios import SCENARIOS

SERVERS = {"gateway": 1.0, "haproxy": 2.0, "envoy": 1.2}
MACHINE = Machine("Example <CPU> & more", 2, 8 << 30, "6.1.0", "Example Linux 1", 0.25)


def load_result(latency: float = 1000.0) -> Result:
    return Result(
        done=1000,
        resumed=0,
        refused=0,
        failed={},
        seconds=2.0,
        cpu_seconds=1.0,
        load_was_limit=False,
        late=0,
        late_no_slot=0,
        latency_us=dict.fromkeys(("p50", "p90", "p99", "p99.9", "max"), latency),
        refused_latency_us={},
    )


def figure(
    scenario: str,
    what: str,
    server: str,
    *rounds: float,
    parameter: str = "",
    at: float | None = None,
    unit: str = "µs",
) -> Figure:
    loads = [load_result() for _ in rounds]
    return Figure(scenario, what, server, unit, parameter, at, list(rounds), loads)


def a_run(*figures: Figure, notes: list[Note] | None = None) -> Run:
    versions = {"Python": "3.11.2", "haproxy": "HAProxy version 2.6"}
    return Run(
        started="2026-01-01T00:00:00Z",
        quick=True,
        rounds=3,
        machine=MACHINE,
        versions=versions,
        figures=list(figures),
        notes=notes or [],
        seconds=61.0,
    )


def a_full_run() -> Run:
    """Every quantity of every scenario, of three servers, under two conditions."""
    return a_run(
        *(
            figure(
                scenario.name,
                quantity.what,
                server,
                *(share * 10 * wiggle * (place or 1) for wiggle in (0.9, 1.0, 1.1)),
                parameter=parameter,
                at=place,
                unit=quantity.unit,
            )
            for scenario in SCENARIOS
            for quantity in scenario.quantities
            for server, share in SERVERS.items()
            for parameter, place in (("no CRL", 0.0), ("1,000 entries", 1000.0))
        ),
        notes=[Note("", "nginx", "left out: apt-get install nginx libnginx-mod-stream")],
    )
