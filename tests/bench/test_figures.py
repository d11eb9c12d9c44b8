from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench import figures
from bench.errors import BenchError
from bench.figures import Note
from tests.bench.fabricated import a_full_run, a_run, figure

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_is_the_same_after_a_trip_through_json(tmp_path: Path) -> None:
    run = a_full_run()
    path = tmp_path / "deep" / "results.json"
    figures.save(run, path)
    assert figures.load(path) == run


def test_every_round_is_in_the_json(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    figures.save(a_run(figure("idle", "memory", "haproxy", 1.25, 7.5)), path)
    assert figures.load(path).figures[0].rounds == [1.25, 7.5]
    assert len(figures.load(path).figures[0].loads) == 2


@pytest.mark.parametrize("content", ["", "[]", '{"figures": []}', "no JSON"])
def test_a_file_that_is_no_run_is_refused_in_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(BenchError, match="not the results of a run") as caught:
        figures.load(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"missing\.json: cannot be read"):
        figures.load(tmp_path / "missing.json")


def test_the_value_is_the_median_and_the_spread_half_of_the_range() -> None:
    one = figure("echo", "round trip", "gateway", 9.0, 10.0, 12.0)
    assert one.value == 10.0
    assert one.spread == pytest.approx(0.15)


def test_one_round_has_no_spread_and_zero_neither() -> None:
    assert figure("echo", "round trip", "gateway", 9.0).spread == 0.0
    assert figure("echo", "round trip", "gateway", 0.0, 0.0).spread == 0.0


def test_the_ratio_to_ours_is_under_the_same_condition() -> None:
    theirs = figure("echo", "round trip", "haproxy", 30.0, parameter="16")
    run = a_run(
        figure("echo", "round trip", "gateway", 10.0, parameter="16"),
        figure("echo", "round trip", "gateway", 60.0, parameter="1000"),
        theirs,
    )
    assert run.to_ours(theirs) == 3.0
    assert run.to_ours(run.figures[0]) is None


def test_there_is_no_ratio_without_a_figure_of_ours() -> None:
    theirs = figure("echo", "round trip", "haproxy", 30.0)
    assert a_run(theirs).to_ours(theirs) is None


def test_a_figure_without_a_round_is_not_kept() -> None:
    run = a_run()
    run.measured([figure("echo", "round trip", "haproxy"), figure("echo", "round trip", "nginx", 1.0)])
    assert [one.server for one in run.figures] == ["nginx"]


def test_a_note_says_what_it_is_about() -> None:
    assert str(Note("echo", "haproxy", "failed")) == "echo, haproxy: failed"
    assert str(Note("", "nginx", "left out")) == "nginx: left out"
    assert str(Note("", "", "noisy")) == "noisy"
