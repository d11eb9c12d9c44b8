from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench import run
from bench.errors import BenchError
from bench.figures import Note
from bench.loadgen import Plan
from bench.peers import Kind
from bench.scenarios import SCENARIOS
from bench.workbench import Settings, insist
from tests.bench.fabricated import load_result

if TYPE_CHECKING:
    from bench.loadgen import Result

MINUTE = 60.0
ALL_SERVERS = 7


def kind(name: str, missing: str = "", note: str = "") -> Kind:
    return Kind(name, missing, f"{name} 1.0", f"{name}.conf", (name,), note=note)


def test_a_missing_peer_is_a_line_that_says_how_to_install_it() -> None:
    present, notes = run.split([kind("gateway"), kind("nginx", missing="apt-get install nginx")])
    assert [one.name for one in present] == ["gateway"]
    assert notes == [Note("", "nginx", "left out: apt-get install nginx")]


def test_what_a_reader_should_know_of_a_peer_is_a_note() -> None:
    _, notes = run.split([kind("hitch", note="cannot check a CRL")])
    assert notes == [Note("", "hitch", "cannot check a CRL")]


def test_without_any_server_there_is_no_run() -> None:
    with pytest.raises(BenchError, match="apt-get install haproxy"):
        run.split([kind("haproxy", missing="apt-get install haproxy")])


def test_scenarios_run_in_their_own_order_whatever_the_order_of_the_names() -> None:
    names = [scenario.name for scenario in run.Wanted(only=("echo", "handshakes")).scenarios()]
    assert names == ["handshakes", "echo"]


def test_names_of_scenarios_and_of_what_they_measure_are_unique() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    for scenario in SCENARIOS:
        assert len({quantity.what for quantity in scenario.quantities}) == len(scenario.quantities)


def test_a_quick_run_is_expected_to_take_three_minutes_and_a_full_one_forty() -> None:
    quick = run.expected_seconds(SCENARIOS, Settings(quick=True, rounds=2), ALL_SERVERS)
    full = run.expected_seconds(SCENARIOS, Settings(quick=False, rounds=5), ALL_SERVERS)
    assert quick <= 3 * MINUTE
    assert 10 * MINUTE < full <= 40 * MINUTE


def test_rounds_of_what_takes_long_are_fewer_but_never_more_than_asked_for() -> None:
    assert Settings(quick=True, rounds=2).few() == 1
    assert Settings(quick=False, rounds=5).few() == 3
    assert Settings(quick=False, rounds=2).few() == 2


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (replace(load_result(), failed={"timeout": 3}), "clients failed: 3 x timeout"),
        (replace(load_result(), done=0), "no client was served"),
        (replace(load_result(), resumed=900), "only 900 of 1000 handshakes were resumed"),
    ],
)
def test_a_result_that_would_say_nothing_is_refused(result: Result, problem: str) -> None:
    with pytest.raises(BenchError, match=problem):
        insist(result, Plan("handshakes", resume=True))
