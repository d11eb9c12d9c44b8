"""A run as Markdown tables, for a document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.report import tables
from bench.scenarios import BY_NAME

if TYPE_CHECKING:
    from bench.figures import Run
    from bench.report.tables import Table


def render(run: Run) -> str:
    """All tables: targets, scenarios, machine, notes."""
    parts = [_section(tables.of_targets(run))]
    for scenario in run.scenarios():
        title = BY_NAME[scenario].title if scenario in BY_NAME else scenario
        found = [tables.of_quantity(run, scenario, what) for what in tables.quantities(run, scenario)]
        parts.append(f"### {title}\n\n" + "\n".join(f"{table.title}:\n\n{_table(table)}" for table in found))
    parts.append(_section(tables.of_machine(run)))
    if run.notes:
        parts.append("### Notes\n\n" + "".join(f"- {note}\n" for note in run.notes))
    return "\n".join(parts)


def _section(table: Table) -> str:
    return f"### {table.title}\n\n{_table(table)}"


def _table(table: Table) -> str:
    rule = ["---", *("---:" for _ in table.header[1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in (table.header, rule, *table.rows))
