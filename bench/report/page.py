"""A run as one HTML page that needs nothing else: charts, tables, targets, machine."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from bench.figures import OURS
from bench.report import charts, tables
from bench.scenarios import BY_NAME, quantity

if TYPE_CHECKING:
    from bench.figures import Run
    from bench.report.tables import Table

_STYLE = Path(__file__).with_name("page.css")
# A table with more stands under its chart.
_COLUMNS_BESIDE = 4
_LEAD = (
    "All servers had one worker on one processor unless said otherwise; the load generator and the echo "
    "service behind them had the other. Figures are medians of rounds that went from server to server; ± is "
    "half the distance from the lowest to the highest round. In brackets: how many times the gateway's "
    "figure. Less is better everywhere."
)


def render(run: Run) -> str:
    """The page."""
    names = run.scenarios()
    links = "".join(f'<a href="#{escape(name)}">{escape(_title(name))}</a> ' for name in names)
    body = [
        "<h1>tls-gateway: benchmarks</h1>",
        f'<p class="faint">{escape(_summary(run))}</p>',
        f"<p>{escape(_LEAD)}</p>",
        f"<nav>{links}</nav>",
        '<h2 id="targets">Targets</h2>',
        _table(tables.of_targets(run), prose=True),
        *(_scenario(run, name) for name in names),
        '<h2 id="notes">Notes</h2>' if run.notes else "",
        "".join(f"<p>{escape(str(note))}</p>" for note in run.notes),
        '<h2 id="machine">Machine and versions</h2>',
        _table(tables.of_machine(run), prose=True),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>tls-gateway: benchmarks</title>\n<style>\n{_STYLE.read_text()}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def _scenario(run: Run, name: str) -> str:
    quantities = tables.quantities(run, name)
    parts = [_quantity(run, name, what, number) for number, what in enumerate(quantities)]
    return "\n".join([f'<h2 id="{escape(name)}">{escape(_title(name))}</h2>', *parts])


def _quantity(run: Run, scenario: str, what: str, number: int) -> str:
    figures = list(run.select(scenario, what))
    known = quantity(scenario, what)
    chart = charts.draw(
        figures, curve=known is not None and known.curve, identity=f"{scenario}-chart-{number}"
    )
    says = known.says if known is not None else ""
    table = tables.of_quantity(run, scenario, what)
    kind = "quantity" if len(table.header) <= _COLUMNS_BESIDE else "quantity wide"
    load = tables.of_load(run, scenario, what)
    beside = "" if load is None else f"<details><summary>Rate and latency</summary>{_table(load)}</details>"
    return (
        f"<h3>{escape(what[0].upper() + what[1:])}</h3>\n"
        f'<div class="{kind}"><figure>{chart}<figcaption>{escape(says)}</figcaption></figure>\n'
        f"<div>{_table(table)}{beside}</div></div>"
    )


def _table(table: Table, *, prose: bool = False) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.header)
    rows = "".join(
        f"<tr{_row_class(row)}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n"
        for row in table.rows
    )
    kind = "table prose" if prose else "table"
    return f'<div class="{kind}"><table>\n<tr>{head}</tr>\n{rows}</table></div>'


def _row_class(row: list[str]) -> str:
    if row[0] == OURS:
        return ' class="ours"'
    return {"met": ' class="met"', "not met": ' class="not-met"'}.get(row[-1], "")


def _title(scenario: str) -> str:
    return BY_NAME[scenario].title if scenario in BY_NAME else scenario


def _summary(run: Run) -> str:
    machine, kind = run.machine, "quick" if run.quick else "full"
    return (
        f"{run.started}, {kind} run of {run.seconds / 60:.0f} minutes on {machine.processors} processors "
        f"({machine.cpu}), {machine.memory_bytes / (1 << 30):.0f} GiB, Linux {machine.kernel}"
    )
