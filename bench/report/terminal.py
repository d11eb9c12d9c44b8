"""A run on the terminal: what is being done, each figure when it is there, tables at the end."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from bench.report import tables
from bench.scenarios import BY_NAME

if TYPE_CHECKING:
    from bench.figures import Figure, Note, Run
    from bench.scenarios.base import Scenario

# Of a file or a pipe nobody knows how wide it is; the widest table fits in this.
_WIDTH_ELSEWHERE = 150


class Terminal:
    """A `Watcher` that writes progress to stderr and, at the end, tables to stdout; a context manager."""

    def __init__(self) -> None:
        self._progress = Console(stderr=True, highlight=False)
        self._status = self._progress.status("preparing")
        self._doing = "preparing"
        self._began = time.monotonic()
        self._expected = 0.0

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._status.stop()

    def expected(self, seconds: float) -> None:
        """Say how long it will take, and count from now."""
        self._began, self._expected = time.monotonic(), seconds
        self._progress.print(f"this takes about {_duration(seconds)}")

    def scenario(self, scenario: Scenario, seconds: float) -> None:
        """A heading."""
        self._doing = scenario.name
        self._progress.print(f"[bold]{scenario.name}[/bold]: {scenario.title}, about {_duration(seconds)}")

    def step(self, text: str) -> None:
        """The line that moves."""
        passed = f"{_duration(time.monotonic() - self._began)} of about {_duration(self._expected)}"
        self._status.update(f"{escape(self._doing)}: {escape(text)}  [dim]{passed}[/dim]")

    def figure(self, figure: Figure) -> None:
        """One line."""
        where = f"{figure.server}, {figure.parameter}" if figure.parameter else figure.server
        spread = f" ±{figure.spread:.0%}" if len(figure.rounds) > 1 else ""
        value = f"{tables.number(figure.value)} {figure.unit}{spread}"
        self._progress.print(f"  {figure.what}, {where}: {value}", markup=False)

    def note(self, note: Note) -> None:
        """One line, marked."""
        self._progress.print(f"  [yellow]note[/yellow] {escape(str(note))}")

    def results(self, run: Run) -> None:
        """All tables."""
        console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_ELSEWHERE)
        for scenario in run.scenarios():
            title = BY_NAME[scenario].title if scenario in BY_NAME else scenario
            console.print(f"\n[bold]{escape(title)}[/bold]")
            for what in tables.quantities(run, scenario):
                _print(console, tables.of_quantity(run, scenario, what))
        console.print()
        _print(console, tables.of_targets(run))


def _print(console: Console, table: tables.Table) -> None:
    # Above and not as rich's own title, which it folds to the width of the table.
    console.print(table.title, style="italic", markup=False)
    drawn = RichTable(box=None, pad_edge=False)
    for at, name in enumerate(table.header):
        drawn.add_column(escape(name), justify="right" if at else "left")
    for row in table.rows:
        drawn.add_row(*map(escape, row))
    console.print(drawn)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
