"""What a scenario works with: servers that come and go, runs of the generator, rounds, notes.

All servers of a comparison are up at the same time and rounds go from server to
server, so that a noisy second hits all of them. A server that does not start or
fails a client loses its figure and gets a note; the run goes on.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, Self

from bench import machine, processes
from bench.errors import BenchError
from bench.figures import Figure, Note
from bench.loadgen import Load, LoadSite, Plan, Result
from bench.servers import Source, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bench.figures import Run
    from bench.scenarios.base import Scenario
    from bench.servers import Kind, Server, Site

HANDSHAKES_AT_ONCE = 16
_FIRST_HANDSHAKES = 2
_MOST_HANDSHAKES = 8000
# What a server may need in memory for a CRL's entry, ours apart; measured at 300 to 500.
_BYTES_AN_ENTRY = 600


class Watcher(Protocol):
    """Is told how a run goes on."""

    def expected(self, seconds: float) -> None:
        """The whole run is expected to take so long."""

    def scenario(self, scenario: Scenario, seconds: float) -> None:
        """A scenario begins, and is expected to take so long."""

    def step(self, text: str) -> None:
        """What is being done now."""

    def figure(self, figure: Figure) -> None:
        """All rounds of a figure are there."""

    def note(self, note: Note) -> None:
        """Something could not be measured, or has to be known."""


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    quick: bool
    rounds: int

    @property
    def round_seconds(self) -> float:
        """How long a round of one server is to take."""
        return 0.5 if self.quick else 2.0

    def few(self, quick: int = 1, full: int = 3) -> int:
        """Rounds of what takes long: so many at most."""
        return min(self.rounds, quick if self.quick else full)


@dataclass(frozen=True)
class Trial:
    """A figure to be made: CPU time of a server, in µs, per what the generator has done by a plan."""

    figure: Figure
    server: Server
    plan: Plan


class Workbench:
    """One run's servers and records; a context manager that stops what it has started."""

    def __init__(
        self, settings: Settings, site: Site, kinds: Sequence[Kind], run: Run, watcher: Watcher
    ) -> None:
        self.settings = settings
        self.site = site
        self.kinds = list(kinds)
        self.watcher = watcher
        self._run = run
        self._scenario = ""
        self._stack = ExitStack()
        self._unlisted: list[Server] | None = None
        self._crls: dict[int, Path] = {}
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def begin(self, scenario: str) -> None:
        """Figures and notes from now on are this scenario's."""
        self._scenario = scenario

    # Records.

    def figure(
        self, what: str, unit: str, server: str, parameter: str = "", at: float | None = None
    ) -> Figure:
        """An empty figure of the scenario that is running."""
        return Figure(self._scenario, what, server, unit, parameter, at)

    def keep(self, *figures: Figure) -> None:
        """Put figures into the run's results; those without a round are not."""
        self._run.measured(figures)
        for figure in figures:
            if figure.rounds:
                self.watcher.figure(figure)

    def note(self, text: str, server: str = "") -> None:
        """Put a note into the run's results."""
        note = Note(self._scenario, server, text)
        self._run.notes.append(note)
        self.watcher.note(note)

    def failed(self, error: BenchError, server: str = "") -> None:
        """Put an error into the notes: a server's log behind its first line is not for them."""
        self.note(str(error).partition("\n")[0], server)

    # Servers.

    def pick(self, *names: str) -> list[Kind]:
        """Those of the kinds that take part which have one of these names."""
        return [kind for kind in self.kinds if kind.name in names]

    def directory(self, name: str) -> Path:
        """A path of its own for something of this run; not made yet."""
        return self.site.material.directory / f"{next(self._numbers)}-{name}"

    def crl(self, entries: int) -> Path:
        """A CRL with so many entries (PEM), made when it is first asked for."""
        if entries not in self._crls:
            self.watcher.step(f"writing a CRL of {entries:,} entries")
            self._crls[entries] = self.site.material.write_crl(entries)
        return self._crls[entries]

    def unlisted(self) -> list[Server]:
        """Servers of every kind without a CRL, shared by all scenarios that change nothing in them."""
        if self._unlisted is None:
            self._unlisted = self._stack.enter_context(self.servers())
        return self._unlisted

    @contextmanager
    def servers(
        self, entries: int | None = None, *, kinds: Sequence[Kind] | None = None, workers: int = 1
    ) -> Iterator[list[Server]]:
        """Fresh servers of every kind that can do it; one that does not start, or has no room, is a note."""
        with ExitStack() as stack:
            started = []
            for kind in self.kinds if kinds is None else kinds:
                if kind.crl or entries is None:
                    try:
                        started.append(stack.enter_context(self.server(kind, entries, workers=workers)))
                    except BenchError as exc:
                        self.failed(exc, kind.name)
            yield started

    @contextmanager
    def server(
        self, kind: Kind, entries: int | None = None, *, workers: int = 1, source: Source | None = None
    ) -> Iterator[Server]:
        """One fresh server.

        Raises:
            BenchError: it does not start, or there is not enough memory for its list.
        """
        needed = (entries or 0) * _BYTES_AN_ENTRY
        if needed > machine.memory_available():
            raise BenchError(f"{entries:,} entries need {needed / 1e9:.1f} GB of free memory")
        crl = None if entries is None or source is not None else self.crl(entries)
        self.watcher.step(f"starting {kind.name} with {entries_in_words(entries)}")
        started = running(
            kind,
            self.site,
            self.directory(kind.name),
            crl=crl,
            entries=entries,
            workers=workers,
            source=source,
        )
        with started as server:
            yield server

    # Measurements.

    def load(self, server: Server, plan: Plan) -> Load:
        """The generator with a plan against a server; not started."""
        site = self.site
        return Load(LoadSite(site.load, site.material, site.load_cpu), server.port, plan)

    def run(self, server: Server, plan: Plan) -> Result:
        """One run of the generator without a failed client.

        Raises:
            BenchError: there was one: a figure over failures would say nothing.
        """
        with self.load(server, plan) as load:
            return insist(load.run(), plan)

    def cpu(self, server: Server, plan: Plan) -> tuple[float, Result]:
        """As `run`; the server's CPU seconds from the start to the end of it, and the result."""
        with self.load(server, plan) as load:
            before = _cpu_seconds(server)
            result = load.run()
            return _cpu_seconds(server) - before, insist(result, plan)

    def sized(self, server: Server, plan: Plan) -> Plan:
        """`plan` of handshakes with the count that fills a round; warms the server up on the way.

        By count and not by time, because of a handshake that takes a second the
        part that a bound in time cuts off would be half of the round.
        """
        count = _FIRST_HANDSHAKES
        while True:
            trial = replace(plan, count=count, connections=min(plan.connections, count))
            result = self.run(server, trial)
            fitting = int(count / result.seconds * self.settings.round_seconds) + 1
            if fitting <= 3 * count:
                return replace(trial, count=max(count, min(fitting, _MOST_HANDSHAKES)))
            count = min(fitting // 2, 16 * count)

    def trial(self, figure: Figure, server: Server, plan: Plan) -> list[Trial]:
        """A trial of handshakes in a list, sized; or, with a note, an empty list."""
        try:
            return [Trial(figure, server, self.sized(server, plan))]
        except BenchError as exc:
            self.failed(exc, server.kind)
            return []

    def interleave(self, trials: Sequence[Trial], rounds: int | None = None) -> None:
        """Take the rounds of all trials in turns, and keep their figures."""
        standing = list(trials)
        for number in range(rounds or self.settings.rounds):
            for trial in tuple(standing):
                self.watcher.step(f"round {number + 1}: {trial.server.kind} {trial.figure.parameter}")
                try:
                    cpu, result = self.cpu(trial.server, trial.plan)
                except BenchError as exc:
                    self.failed(exc, trial.server.kind)
                    standing.remove(trial)
                    continue
                trial.figure.rounds.append(cpu / result.done * 1e6)
                trial.figure.loads.append(result)
        self.keep(*(trial.figure for trial in standing))


def _cpu_seconds(server: Server) -> float:
    try:
        return processes.cpu_seconds(server.pid)
    except (FileNotFoundError, ProcessLookupError) as exc:
        raise BenchError("it has died") from exc


def insist(result: Result, plan: Plan) -> Result:
    """The result, if every client was served as the plan has it.

    Raises:
        BenchError: some were not.
    """
    if result.failed:
        raise BenchError(f"clients failed: {', '.join(f'{n} x {why}' for why, n in result.failed.items())}")
    if not result.done:
        raise BenchError("no client was served")
    if plan.resume and result.resumed < result.done * 0.99:
        raise BenchError(f"only {result.resumed} of {result.done} handshakes were resumed")
    return result


def entries_in_words(count: int | None) -> str:
    """A CRL by its size."""
    return "no CRL" if count is None else "1 entry" if count == 1 else f"{count:,} entries"


def connections_in_words(count: int) -> str:
    """So many connections."""
    return f"{count:,} connections"
