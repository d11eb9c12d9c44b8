"""The command line: `python -m bench`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.errors import BenchError

try:
    from bench import figures, run
    from bench.report import markdown, page
    from bench.report.terminal import Terminal
    from bench.scenarios import SCENARIOS
    from bench.servers import kinds
except ModuleNotFoundError as exc:
    sys.exit(f"bench: {exc.name} is missing: pip install -e .[bench]")

_FILE = click.Path(path_type=Path, dir_okay=False)
_PAGE = "report.html"


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


@click.command()
@click.option("--quick", is_flag=True, help="Fewer and shorter rounds, shorter lists: three minutes.")
@click.option("--only", default="", callback=_names, help="Scenarios, separated by commas.")
@click.option("--peers", default="", callback=_names, help="Servers, separated by commas.")
@click.option("--rounds", type=click.IntRange(min=1), help="How often each figure is taken.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=run.DEFAULT_OUTPUT,
    help="Where results.json and report.html go.  [bench/results]",
)
@click.option(
    "--list", "listing", is_flag=True, help="Name the scenarios and the servers, and measure nothing."
)
@click.option("--markdown", "as_markdown", type=_FILE, help="Print the tables of an earlier results.json.")
@click.option("--page", "as_page", type=_FILE, help="Print the page of an earlier results.json.")
def main(
    *,
    quick: bool,
    only: tuple[str, ...],
    peers: tuple[str, ...],
    rounds: int | None,
    output: Path,
    listing: bool,
    as_markdown: Path | None,
    as_page: Path | None,
) -> None:
    """Measure the gateway beside every installed peer."""
    try:
        if listing:
            _list()
        elif as_markdown is not None:
            click.echo(markdown.render(figures.load(as_markdown)), nl=False)
        elif as_page is not None:
            click.echo(page.render(figures.load(as_page)), nl=False)
        else:
            _measure(run.Wanted(quick=quick, rounds=rounds, only=only, peers=peers), output)
    except BenchError as exc:
        click.echo(f"bench: {exc}", err=True)
        sys.exit(1)


def _measure(wanted: run.Wanted, output: Path) -> None:
    with Terminal() as terminal:
        made = run.make(wanted, output, terminal)
    terminal.results(made)
    report = output / _PAGE
    report.write_text(page.render(made))
    click.echo(f"{report}\n{output / run.RESULTS_FILE}", err=True)
    if not made.figures:
        raise BenchError("nothing could be measured; the notes above say why")


def _list() -> None:
    for scenario in SCENARIOS:
        click.echo(f"{scenario.name:12} {scenario.title}")
    click.echo()
    for kind in kinds():
        click.echo(f"{kind.name:12} {'missing: ' + kind.missing if kind.missing else kind.version}")


if __name__ == "__main__":
    main()
