"""Figures as tables: a row a server, a column a condition. All renderings have the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from bench.figures import OURS
from bench.targets import Absolute, judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.figures import Figure, Run
    from bench.targets import Target


@dataclass(frozen=True)
class Table:
    """Cells of text; the first column names the row."""

    title: str
    header: list[str]
    rows: list[list[str]]


def of_quantity(run: Run, scenario: str, what: str) -> Table:
    """One quantity of all servers under all conditions, with its spread and the ratio to ours."""
    figures = list(run.select(scenario, what))
    parameters = conditions(figures)
    cells = {(figure.server, figure.parameter): _cell(run, figure) for figure in figures}
    header = ["", *(parameter or "all" for parameter in parameters)]
    if parameters == [""]:
        header = ["", figures[0].unit]
    rows = [[name, *(cells.get((name, one), "-") for one in parameters)] for name in servers(figures)]
    return Table(f"{what}, {figures[0].unit}", header, rows)


def of_load(run: Run, scenario: str, what: str) -> Table | None:
    """What the generator saw beside a quantity: rate and latencies; None where there was none."""
    rows = [_load_row(figure) for figure in run.select(scenario, what) if figure.loads]
    header = ["", "a second", "p50, ms", "p99, ms", "p99.9, ms", "generator at its limit"]
    return Table(f"{what}: rate and latency", header, rows) if rows else None


def of_targets(run: Run) -> Table:
    """Every target, what was measured, and whether that is enough."""
    rows = [
        [
            verdict.target.claim,
            f"≤ {_limit(verdict.target)}",
            "-" if verdict.measured is None else _share(verdict.target, verdict.measured),
            verdict.word,
        ]
        for verdict in judge(run)
    ]
    return Table("Targets", ["", "target", "measured", "verdict"], rows)


def of_machine(run: Run) -> Table:
    """Where and with what the run was made."""
    machine = run.machine
    rows = [
        ["processors", f"{machine.processors}, {machine.cpu}"],
        ["memory", f"{machine.memory_bytes / (1 << 30):.1f} GiB"],
        ["system", f"{machine.system}, Linux {machine.kernel}"],
        ["load average before", f"{machine.load_average:.2f}"],
        ["started", run.started],
        ["took", f"{run.seconds / 60:.1f} minutes, {'quick' if run.quick else 'full'}, {run.rounds} rounds"],
        *([name, version] for name, version in run.versions.items()),
    ]
    return Table("Machine and versions", ["", ""], rows)


def servers(figures: Sequence[Figure]) -> list[str]:
    """The servers of some figures: ours first, the others in the order in which they came."""
    names = list(dict.fromkeys(figure.server for figure in figures))
    return sorted(names, key=lambda name: name != OURS)


def conditions(figures: Sequence[Figure]) -> list[str]:
    """The parameters of some figures, by their places where they have some."""
    places = {figure.parameter: figure.at for figure in figures}
    return sorted(places, key=lambda parameter: places[parameter] or 0.0)


def quantities(run: Run, scenario: str) -> list[str]:
    """The quantities that a scenario has figures of."""
    return list(dict.fromkeys(figure.what for figure in run.select(scenario)))


def number(value: float) -> str:
    """A figure with three digits that count."""
    magnitude = abs(value)
    digits = 0 if magnitude >= 100 else 1 if magnitude >= 10 else 2 if magnitude >= 1 else 3
    return f"{value:,.{digits}f}"


def _cell(run: Run, figure: Figure) -> str:
    spread = f" ±{figure.spread:.0%}" if len(figure.rounds) > 1 else ""
    ratio = run.to_ours(figure)
    return f"{number(figure.value)}{spread}" + ("" if ratio is None else f" ({number(ratio)}x)")


def _load_row(figure: Figure) -> list[str]:
    loads = figure.loads
    return [
        f"{figure.server}, {figure.parameter}" if figure.parameter else figure.server,
        number(median(result.done / result.seconds for result in loads)),
        *(
            number(median(result.latency_us[part] / 1000 for result in loads))
            for part in ("p50", "p99", "p99.9")
        ),
        "yes" if any(result.load_was_limit for result in loads) else "no",
    ]


def _limit(target: Target) -> str:
    if 0 < target.limit < 0.1:
        return f"1/{1 / target.limit:.0f}"
    return _share(target, target.limit)


def _share(target: Target, value: float) -> str:
    if isinstance(target.against, Absolute):
        return f"{number(value)} {target.against.unit}"
    return f"1/{1 / value:.0f}" if 0 < value < 0.1 else f"{value:.2f}"
