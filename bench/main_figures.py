"""The main figures, ours beside haproxy's, in one run: `python -m bench.main_figures`.

CPU time of the server (its whole process tree) per full mutual TLS 1.3
handshake without a CRL, with one of 1 entry and of 1,000,000; per 64-byte round
trip; memory per idle connection. All servers are up at the same time on one
processor, the load is on the other; rounds go from server to server, so that a
noisy minute hits all of them; figures are medians of rounds.
With --compile: from a CRL's bytes to a published table (bench.compile_figures).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench import compile_figures, processes
from bench.build import RESULTS, build
from bench.errors import BenchError
from bench.loadgen import Load, Mode, Result, echo_service
from bench.material import Material
from bench.servers import Site, kinds, running

if TYPE_CHECKING:
    from bench.servers import Kind, Server

CRL_ENTRIES: tuple[int | None, ...] = (None, 1, 1_000_000)

# A round of handshakes at an unknown speed: first a few, then as many as fill this time.
_ROUND_SECONDS = 3.0
_FIRST_HANDSHAKES = 20
_MOST_HANDSHAKES = 4000
_HANDSHAKES_AT_ONCE = 16
_ECHO_CONNECTIONS = 16
_ECHO_BYTES = 64
_ECHO_ROUND_TRIPS = 100_000
_WARM_UP = 500


@dataclass(frozen=True)
class Figure:
    """One measured quantity of one server: raw rounds, and the generator's results beside them."""

    what: str
    server: str
    entries: int | None
    unit: str
    rounds: list[float] = field(default_factory=list)
    load: list[Result] = field(default_factory=list)

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return median(self.rounds)

    @property
    def spread(self) -> float:
        """Distance from the lowest to the highest round, as a share of the median."""
        return (max(self.rounds) - min(self.rounds)) / self.value


class Measurement:
    """All servers of one run, and what has been measured of them."""

    def __init__(self, site: Site, rounds: int, idle_connections: int) -> None:
        self._site = site
        self._rounds = rounds
        self._idle_connections = idle_connections
        self.figures: list[Figure] = []

    def handshakes(self, servers: list[Server]) -> None:
        """CPU per full handshake, in µs, at each number of CRL entries."""
        figures = [Figure("handshake", server.kind, server.entries, "µs") for server in servers]
        counts = [self._calibrate(server) for server in servers]
        for number in range(self._rounds):
            for server, figure, count in zip(servers, figures, counts, strict=True):
                cpu, result = self._cpu(server, "handshakes", connections=_HANDSHAKES_AT_ONCE, count=count)
                figure.rounds.append(cpu / result.done * 1e6)
                figure.load.append(result)
                _progress(f"handshakes, round {number + 1}: {_label(figure)} {figure.rounds[-1]:.0f} µs")
        self.figures += figures

    def echoes(self, servers: list[Server]) -> None:
        """CPU per 64-byte round trip over connections that stay, in µs."""
        figures = [Figure("64-byte echo", server.kind, server.entries, "µs") for server in servers]
        for number in range(self._rounds):
            for server, figure in zip(servers, figures, strict=True):
                cpu, result = self._cpu(
                    server, "echo", connections=_ECHO_CONNECTIONS, count=_ECHO_ROUND_TRIPS, size=_ECHO_BYTES
                )
                figure.rounds.append(cpu / result.done * 1e6)
                figure.load.append(result)
                _progress(f"echo, round {number + 1}: {_label(figure)} {figure.rounds[-1]:.1f} µs")
        self.figures += figures

    def idle(self, server: Server) -> None:
        """Memory of a fresh server per connection that does nothing, in KiB, without the kernel's part."""
        self._cpu(server, "handshakes", connections=_HANDSHAKES_AT_ONCE, count=_WARM_UP)
        before = processes.memory(server.pid)
        with self._load(server, "idle", connections=self._idle_connections) as load:
            held = processes.memory(server.pid)
            result = load.run()
        self._insist(server, result)
        for what, grown in (("idle, PSS", held.pss - before.pss), ("idle, RSS", held.rss - before.rss)):
            figure = Figure(what, server.kind, server.entries, "KiB", [grown / self._idle_connections / 1024])
            self.figures.append(figure)
            _progress(f"{_label(figure)}: {figure.value:.1f} KiB a connection")

    def _calibrate(self, server: Server) -> int:
        """How many handshakes fill a round; warms the server up on the way."""
        count = _FIRST_HANDSHAKES
        while True:
            _, result = self._cpu(server, "handshakes", connections=_HANDSHAKES_AT_ONCE, count=count)
            wanted = min(_MOST_HANDSHAKES, int(count / result.seconds * _ROUND_SECONDS) + 1)
            if wanted <= 2 * count or result.seconds > _ROUND_SECONDS / 2:
                return max(wanted, _FIRST_HANDSHAKES)
            count = wanted // 2

    def _cpu(
        self, server: Server, mode: Mode, *, connections: int, count: int, size: int = 1
    ) -> tuple[float, Result]:
        with self._load(server, mode, connections=connections, count=count, size=size) as load:
            before = processes.cpu_seconds(server.pid)
            result = load.run()
            cpu = processes.cpu_seconds(server.pid) - before
        self._insist(server, result)
        return cpu, result

    def _load(self, server: Server, mode: Mode, *, connections: int, count: int = 1, size: int = 1) -> Load:
        site = self._site
        return Load(
            site.load,
            site.material,
            site.load_cpu,
            server.port,
            mode,
            connections=connections,
            count=count,
            size=size,
        )

    @staticmethod
    def _insist(server: Server, result: Result) -> None:
        """A figure over failed handshakes would say nothing."""
        if result.failed:
            raise BenchError(f"{server.kind} ({server.entries} entries) failed clients: {result.failed}")


def measure(rounds: int, idle_connections: int, entries: tuple[int | None, ...]) -> list[Figure]:
    """Start everything, measure everything, stop everything.

    Raises:
        BenchError: something is missing or does not serve.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise BenchError("two processors are needed: one for the servers, one for the load")
    present = _present(kinds())
    programs = build()
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        directory = Path(name)
        material = Material.make(directory)
        _progress("writing CRLs")
        crls = {count: None if count is None else material.write_crl(count) for count in entries}
        port = stack.enter_context(echo_service(programs, cpus[1]))
        site = Site(material, programs.load, port, cpus[0], cpus[1])
        measurement = Measurement(site, rounds, idle_connections)
        for kind in present:
            with running(kind, site, directory / f"{kind.name}-idle", crl=None, entries=None) as server:
                measurement.idle(server)
        servers = []
        for count, crl in crls.items():
            for kind in present:
                _progress(f"starting {kind.name} with {_entries(count)}")
                place = directory / f"{kind.name}-{count}"
                servers.append(stack.enter_context(running(kind, site, place, crl=crl, entries=count)))
        measurement.handshakes(servers)
        measurement.echoes([server for server in servers if server.entries is None])
        return measurement.figures


def _present(found: list[Kind]) -> list[Kind]:
    for kind in found:
        if kind.missing:
            print(f"{kind.name} is left out: {kind.missing}", file=sys.stderr)
    present = [kind for kind in found if not kind.missing]
    if not present:
        raise BenchError("there is no server to measure")
    return present


def _progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def _entries(count: int | None) -> str:
    return "no CRL" if count is None else f"{count:,} entries" if count != 1 else "1 entry"


def _label(figure: Figure) -> str:
    return f"{figure.server}, {_entries(figure.entries)}"


def table(figures: list[Figure]) -> str:
    """The figures as lines for a terminal: a row a quantity, a column a server."""
    names = list(dict.fromkeys(figure.server for figure in figures))
    cells = {(figure.what, figure.entries, figure.server): figure for figure in figures}
    lines = [f"{'':34}" + "".join(f"{name:>26}" for name in names)]
    for what, entries in dict.fromkeys((figure.what, figure.entries) for figure in figures):
        row = [_cell(cells.get((what, entries, name))) for name in names]
        lines.append(f"{what + ', ' + _entries(entries):34}" + "".join(f"{cell:>26}" for cell in row))
    return "\n".join(lines)


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    spread = f" (±{figure.spread * 50:.0f} %)" if len(figure.rounds) > 1 else ""
    return f"{figure.value:,.1f} {figure.unit}{spread}"


def _machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _save(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"raw rounds: {path}", file=sys.stderr)


def main() -> int:
    """The command line; 0, or 1 with one line that says what is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.main_figures", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each figure is taken (5)")
    parser.add_argument("--idle", type=int, default=5000, help="idle connections held (5000)")
    parser.add_argument("--compile", action="store_true", help="only: CRL to table, and lookups in it")
    arguments = parser.parse_args()
    try:
        if arguments.compile:
            made = compile_figures.measure(arguments.rounds)
            print(compile_figures.table(made))
            lookups = compile_figures.lookups()
            print(lookups)
            raw = {"rounds": [asdict(one) for one in made], "lookups": lookups.splitlines()}
            _save(RESULTS / "compile.json", {"machine": _machine()} | raw)
            return 0
        figures = measure(arguments.rounds, arguments.idle, CRL_ENTRIES)
    except BenchError as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    print(table(figures))
    content = [asdict(figure) | {"median": figure.value} for figure in figures]
    _save(RESULTS / "main_figures.json", {"machine": _machine(), "figures": content})
    return 0


if __name__ == "__main__":
    sys.exit(main())
