"""One run: prepares what all scenarios share, lets them measure, saves after each."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import figures, machine
from bench.build import RESULTS, build
from bench.errors import BenchError
from bench.figures import Note, Run
from bench.loadgen import echo_service
from bench.material import Material
from bench.scenarios import BY_NAME, SCENARIOS
from bench.servers import Site, kinds
from bench.workbench import Settings, Workbench

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.scenarios.base import Scenario
    from bench.servers import Kind
    from bench.workbench import Watcher

DEFAULT_OUTPUT = RESULTS
RESULTS_FILE = "results.json"
_PREPARATION_SECONDS = 4.0


@dataclass(frozen=True)
class Wanted:
    """What is to be run; `only` and `peers` are names, none are all."""

    quick: bool = False
    rounds: int | None = None
    only: Sequence[str] = ()
    peers: Sequence[str] = ()

    @property
    def settings(self) -> Settings:
        """With the number of rounds that fits."""
        return Settings(self.quick, self.rounds or (2 if self.quick else 5))

    def scenarios(self) -> list[Scenario]:
        """Those that are wanted, in the order in which they run.

        Raises:
            BenchError: one is unknown.
        """
        _known("scenario", self.only, BY_NAME)
        return [scenario for scenario in SCENARIOS if not self.only or scenario.name in self.only]

    def kinds(self) -> list[Kind]:
        """Those that are wanted, installed or not.

        Raises:
            BenchError: one is unknown.
        """
        found = kinds()
        _known("server", self.peers, [kind.name for kind in found])
        return [kind for kind in found if not self.peers or kind.name in self.peers]


def expected_seconds(scenarios: Sequence[Scenario], settings: Settings, servers: int) -> float:
    """About how long a run takes."""
    return _PREPARATION_SECONDS + sum(scenario.seconds(settings, servers) for scenario in scenarios)


def split(found: Sequence[Kind]) -> tuple[list[Kind], list[Note]]:
    """The kinds that are there, and a note for each that is not and for each that has one.

    Raises:
        BenchError: none is there.
    """
    present = [kind for kind in found if not kind.missing]
    if not present:
        raise BenchError("there is no server to measure: " + "; ".join(kind.missing for kind in found))
    missing = [Note("", kind.name, f"left out: {kind.missing}") for kind in found if kind.missing]
    return present, missing + [Note("", kind.name, kind.note) for kind in present if kind.note]


def make(wanted: Wanted, output: Path, watcher: Watcher) -> Run:
    """Measure; the run is in `output` after each scenario, whatever becomes of the next.

    Raises:
        BenchError: nothing can be measured.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise BenchError("two processors are needed: one for the servers, one for the load")
    scenarios, settings = wanted.scenarios(), wanted.settings
    present, notes = split(wanted.kinds())
    run = Run(
        started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        quick=settings.quick,
        rounds=settings.rounds,
        machine=machine.describe(),
        versions=machine.versions() | {kind.name: kind.version for kind in present},
        notes=notes,
    )
    for note in notes:
        watcher.note(note)
    watcher.expected(expected_seconds(scenarios, settings, len(present)))
    programs = build()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        revoked = max(scenario.revoked_clients(settings) for scenario in scenarios)
        material = Material.make(Path(name), revoked=revoked)
        with echo_service(programs, cpus[1]) as port:
            site = Site(material, programs.load, port, cpus[0], cpus[1])
            with Workbench(settings, site, present, run, watcher) as bench:
                for scenario in scenarios:
                    watcher.scenario(scenario, scenario.seconds(settings, len(present)))
                    bench.begin(scenario.name)
                    try:
                        scenario.measure(bench)
                    except BenchError as exc:
                        bench.failed(exc)
                    run.seconds = time.monotonic() - began
                    figures.save(run, output / RESULTS_FILE)
    return run


def _known(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise BenchError(f"there is no {kind} {name!r}: {', '.join(known)}")
