from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from bench import figures
from bench.__main__ import main
from bench.errors import BenchError
from bench.figures import Note
from bench.report import markdown, tables
from bench.report.terminal import Terminal
from bench.scenarios import SCENARIOS
from tests.bench.fabricated import SERVERS, a_full_run, a_run, figure

if TYPE_CHECKING:
    from pathlib import Path

charts = pytest.importorskip("bench.report.charts", reason="pip install -e .[bench]", exc_type=ImportError)
from bench.report import page  # noqa: E402 - it needs what may not be there

VOID = {"meta"}
MISSING = "left out: apt-get install nginx libnginx-mod-stream"


class Document(HTMLParser):
    """Reads a page and fails where an element is closed that is not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.targets: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "xlink:href", "src", "srcset", "action", "data"):
                self.references.append(value or "")
            if name in ("clip-path", "style", "fill"):
                self.targets += re.findall(r"url\(([^)]*)\)", value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


@pytest.fixture(scope="module")
def rendered() -> str:
    return page.render(a_full_run())


@pytest.fixture(scope="module")
def document(rendered: str) -> Document:
    return Document(rendered)


def test_the_page_is_well_formed_and_its_ids_are_unique(document: Document) -> None:
    assert len(document.ids) == len(set(document.ids))


def test_the_page_refers_to_nothing_outside_of_itself(document: Document, rendered: str) -> None:
    inside = {f"#{name}" for name in document.ids}
    assert set(document.references) <= inside
    assert set(document.targets) <= inside
    assert "<script" not in rendered
    assert "@import" not in rendered
    assert "@font-face" not in rendered


def test_the_page_has_a_chart_a_sentence_and_a_table_for_each_quantity(rendered: str) -> None:
    quantities = [quantity for scenario in SCENARIOS for quantity in scenario.quantities]
    assert rendered.count("<svg") == len(quantities)
    for quantity in quantities:
        assert quantity.says.replace("'", "&#x27;") in rendered
    # One for each quantity, one with what the generator saw, the targets, the machine.
    assert rendered.count("<table>") == 2 * len(quantities) + 2


def test_charts_take_the_colour_of_the_text_around_them(rendered: str) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", rendered, re.DOTALL))
    assert "currentColor" in drawn
    assert not re.search(r"(fill|stroke): #(000000|ffffff)\b", drawn)
    assert "prefers-color-scheme: dark" in rendered


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2.1."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("paper", ["#ffffff", "#15181c"])
def test_every_colour_stands_out_on_light_and_on_dark(paper: str) -> None:
    for colour in (*charts._COLOURS.values(), *charts._OTHERS):
        assert contrast(colour, paper) >= 3, colour


def test_a_phone_is_told_to_use_its_own_width_and_charts_scale(rendered: str) -> None:
    assert '<meta name="viewport" content="width=device-width' in rendered
    for start in re.findall(r"<svg[^>]*>", rendered):
        assert "viewBox" in start
        assert " width=" not in start


def test_a_missing_peer_is_a_line_in_every_rendering(capsys: pytest.CaptureFixture[str]) -> None:
    run = a_full_run()
    assert f"<p>nginx: {MISSING}</p>" in page.render(run)
    assert f"- nginx: {MISSING}\n" in markdown.render(run)
    with Terminal() as terminal:
        terminal.note(run.notes[0])
    assert f"nginx: {MISSING}" in capsys.readouterr().err


def test_what_a_note_or_a_machine_says_is_text_and_no_markup() -> None:
    text = page.render(a_run(notes=[Note("echo", "", "<b>loud</b>")]))
    assert "&lt;b&gt;loud&lt;/b&gt;" in text
    assert "Example &lt;CPU&gt; &amp; more" in text


def test_the_machine_and_the_versions_are_on_the_page(rendered: str) -> None:
    for text in ("HAProxy version 2.6", "3.11.2", "Linux 6.1.0", "8.0 GiB", "0.25"):
        assert text in rendered


def test_targets_that_are_met_and_missed_look_different() -> None:
    parameter, what = "no CRL", "full handshake"
    run = a_run(
        figure("handshakes", what, "gateway", 50.0, parameter=parameter),
        figure("handshakes", what, "haproxy", 100.0, parameter=parameter),
        figure("handshakes", what, "nginx", 51.0, parameter=parameter),
    )
    text = page.render(run)
    assert text.count('<tr class="met">') == 1
    assert text.count('<tr class="not-met">') == 1


def test_a_cell_has_value_spread_and_ratio_to_ours() -> None:
    run = a_run(
        figure("echo", "round trip", "haproxy", 18.0, 20.0, 22.0, parameter="16"),
        figure("echo", "round trip", "gateway", 10.0, parameter="16"),
        figure("echo", "round trip", "gateway", 11.0, parameter="1000"),
    )
    table = tables.of_quantity(run, "echo", "round trip")
    assert table.header == ["", "16", "1000"]
    assert table.rows == [["gateway", "10.0", "11.0"], ["haproxy", "20.0 ±10% (2.00x)", "-"]]


def test_conditions_stand_in_the_order_of_their_places() -> None:
    run = a_run(
        figure("handshakes", "handshake", "gateway", 1.0, parameter="10,000 entries", at=10_000),
        figure("handshakes", "handshake", "gateway", 1.0, parameter="no CRL", at=0),
        figure("handshakes", "handshake", "haproxy", 1.0, parameter="1 entry", at=1),
    )
    header = tables.of_quantity(run, "handshakes", "handshake").header
    assert header == ["", "no CRL", "1 entry", "10,000 entries"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (1234567.0, "1,234,567")],
)
def test_numbers_have_the_digits_that_count(value: float, text: str) -> None:
    assert tables.number(value) == text


def test_markdown_tables_have_as_many_cells_in_each_row_as_in_their_heading() -> None:
    text = markdown.render(a_full_run())
    assert text.count("### ") == len(SCENARIOS) + 3
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1
        assert re.fullmatch(r"\| ---( \| ---:)* \|", block.splitlines()[1])


def test_the_terminal_shows_every_server_and_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().results(a_full_run())
    shown = capsys.readouterr().out
    for text in (*SERVERS, *(scenario.title for scenario in SCENARIOS), "Targets"):
        assert text in shown


def test_a_chart_without_a_figure_is_refused() -> None:
    with pytest.raises(BenchError, match="needs a figure"):
        charts.draw([], curve=False, identity="none")


def test_figures_that_are_far_apart_are_drawn_on_a_logarithmic_axis() -> None:
    near = [figure("echo", "w", "gateway", 1.0), figure("echo", "w", "haproxy", 2.0)]
    far = [figure("echo", "w", "gateway", 1.0), figure("echo", "w", "haproxy", 2000.0)]
    assert "logarithmic" not in charts.draw(near, curve=False, identity="near")
    assert "logarithmic" in charts.draw(far, curve=False, identity="far")


def test_earlier_results_are_rendered_again(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    figures.save(a_full_run(), path)
    shown = CliRunner().invoke(main, ["--markdown", str(path)])
    assert shown.exit_code == 0
    assert shown.output == markdown.render(a_full_run())
    assert CliRunner().invoke(main, ["--page", str(path)]).output.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--only", "handshake"], "there is no scenario 'handshake': handshakes, resumed"),
        (["--peers", "gateway,apache"], "there is no server 'apache': gateway, haproxy"),
        (["--markdown", "nowhere.json"], "nowhere.json: cannot be read"),
    ],
)
def test_a_wrong_argument_is_one_line(arguments: list[str], problem: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert problem in result.stderr
    assert len(result.stderr.splitlines()) == 1
