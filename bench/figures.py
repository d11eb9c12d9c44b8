"""What a run has measured: figures, notes, the machine; as JSON and back.

A `Figure` is one quantity of one server under one condition, with its raw
rounds. In all figures less is better, so a ratio below one means that the first
of two is the better.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - msgspec reads the annotations when it runs
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from bench.errors import BenchError
from bench.loadgen import Result  # noqa: TC001 - as above

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OURS = "gateway"
"""The server that all others are compared with."""


@dataclass(frozen=True)
class Figure:
    """One quantity of one server: a value a round, and beside each the load generator's result.

    `parameter` names the condition ("1,000,000 entries"), `at` places it on an
    axis where conditions are in an order.
    """

    scenario: str
    what: str
    server: str
    unit: str
    parameter: str = ""
    at: float | None = None
    rounds: list[float] = field(default_factory=list)
    loads: list[Result] = field(default_factory=list)

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return median(self.rounds)

    @property
    def spread(self) -> float:
        """Half the distance from the lowest to the highest round, as a share of the median."""
        return (max(self.rounds) - min(self.rounds)) / 2 / self.value if self.value else 0.0


@dataclass(frozen=True)
class Note:
    """What could not be measured, or has to be known of a figure; `server` is empty where it is about all."""

    scenario: str
    server: str
    text: str

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.scenario, self.server) if part)
        return f"{where}: {self.text}" if where else self.text


@dataclass(frozen=True)
class Machine:
    """Where a run was made; `load_average` is that of the minute before it."""

    cpu: str
    processors: int
    memory_bytes: int
    kernel: str
    system: str
    load_average: float


@dataclass
class Run:
    """One whole run; grows while it is made."""

    started: str
    quick: bool
    rounds: int
    machine: Machine
    versions: dict[str, str]
    figures: list[Figure] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    seconds: float = 0.0

    def scenarios(self) -> list[str]:
        """Those that have figures, in the order in which they ran."""
        return list(dict.fromkeys(figure.scenario for figure in self.figures))

    def select(self, scenario: str, what: str | None = None) -> Iterator[Figure]:
        """The figures of a scenario, or of one quantity in it."""
        for figure in self.figures:
            if figure.scenario == scenario and what in (None, figure.what):
                yield figure

    def find(self, scenario: str, what: str, server: str, parameter: str) -> Figure | None:
        """The figure of one server under one condition, if it was measured."""
        for figure in self.select(scenario, what):
            if figure.server == server and figure.parameter == parameter:
                return figure
        return None

    def peers(self, scenario: str, what: str, parameter: str) -> list[Figure]:
        """What all but ours measured under one condition."""
        found = self.select(scenario, what)
        return [figure for figure in found if figure.parameter == parameter and figure.server != OURS]

    def to_ours(self, figure: Figure) -> float | None:
        """How many times our figure this one is; None for ours, or where ours is missing."""
        ours = self.find(figure.scenario, figure.what, OURS, figure.parameter)
        if figure.server == OURS or ours is None or not ours.value:
            return None
        return figure.value / ours.value

    def measured(self, figures: Iterable[Figure]) -> None:
        """Add what has at least one round."""
        self.figures += [figure for figure in figures if figure.rounds]


def save(run: Run, path: Path) -> None:
    """Write a run as JSON; the directory is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")


def load(path: Path) -> Run:
    """Read a run that `save` wrote.

    Raises:
        BenchError: there is none.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Run)
    except OSError as exc:
        raise BenchError(f"{path}: cannot be read: {exc.strerror}") from exc
    except msgspec.DecodeError as exc:
        raise BenchError(f"{path}: not the results of a run: {exc}") from exc
