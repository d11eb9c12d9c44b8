from __future__ import annotations

import pytest

from bench import targets
from bench.scenarios import BY_NAME
from bench.targets import TARGETS, Absolute, BestPeer, Own, Peer, Place, Target, Verdict, judge
from tests.bench.fabricated import a_run, figure

WHAT = "full handshake"
NONE, MILLION = "no CRL", "1,000,000 entries"


def verdict(target: Target, **values: float) -> Verdict:
    """Judge one target in a run with these servers' figures under one condition."""
    figures = [figure("handshakes", WHAT, server, value, parameter=NONE) for server, value in values.items()]
    return targets._judge(a_run(*figures), target)


def test_a_share_of_a_peer_is_met_up_to_its_limit() -> None:
    target = Target(Place("handshakes", WHAT, NONE), Peer("haproxy"), 0.5)
    assert verdict(target, gateway=50.0, haproxy=100.0).met is True
    assert verdict(target, gateway=51.0, haproxy=100.0).met is False
    assert verdict(target, gateway=51.0, haproxy=100.0).measured == pytest.approx(0.51)


def test_the_best_peer_is_the_lowest_of_the_others() -> None:
    target = Target(Place("handshakes", WHAT, NONE), BestPeer(), 0.95)
    assert verdict(target, gateway=9.0, haproxy=100.0, nginx=10.0).measured == pytest.approx(0.9)


def test_our_own_under_another_condition() -> None:
    target = Target(Place("handshakes", WHAT, MILLION), Own(NONE), 1.03)
    run = a_run(
        figure("handshakes", WHAT, "gateway", 100.0, parameter=NONE),
        figure("handshakes", WHAT, "gateway", 102.0, parameter=MILLION),
        figure("handshakes", WHAT, "haproxy", 1.0, parameter=NONE),
    )
    assert targets._judge(run, target).measured == pytest.approx(1.02)


def test_an_absolute_limit_needs_no_peer() -> None:
    target = Target(Place("handshakes", WHAT, NONE), Absolute("µs"), 600.0)
    assert verdict(target, gateway=600.0).met is True
    assert verdict(target, gateway=601.0).met is False


def test_without_a_parameter_the_last_place_on_the_axis_counts() -> None:
    target = Target(Place("resumed", "handshake"), Absolute("µs"), 1.0)
    run = a_run(
        figure("resumed", "handshake", "gateway", 7.0, at=5000.0, parameter="more"),
        figure("resumed", "handshake", "gateway", 1.0, at=100.0, parameter="few"),
    )
    assert targets._judge(run, target).measured == 7.0


@pytest.mark.parametrize(
    ("against", "values", "why"),
    [
        (Peer("haproxy"), {"haproxy": 1.0}, "no figure of ours"),
        (Peer("haproxy"), {"gateway": 1.0, "nginx": 1.0}, "no figure of haproxy"),
        (BestPeer(), {"gateway": 1.0}, "nothing to compare with"),
        (Own(MILLION), {"gateway": 1.0}, f"no figure of ours with {MILLION}"),
    ],
)
def test_what_is_missing_is_neither_met_nor_missed(
    against: targets.Against, values: dict[str, float], why: str
) -> None:
    found = verdict(Target(Place("handshakes", WHAT, NONE), against, 1.0), **values)
    assert found.met is None
    assert found.word == f"not measured: {why}"


def test_every_target_is_judged_even_of_an_empty_run() -> None:
    verdicts = judge(a_run())
    assert [found.target for found in verdicts] == list(TARGETS)
    assert {found.met for found in verdicts} == {None}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.claim)
def test_a_target_is_about_something_that_is_measured(target: Target) -> None:
    scenario = BY_NAME[target.place.scenario]
    assert target.place.what in {quantity.what for quantity in scenario.quantities}
    if isinstance(target.against, Absolute):
        assert target.against.unit in {quantity.unit for quantity in scenario.quantities}


def test_every_target_has_a_claim_of_its_own() -> None:
    assert len({target.claim for target in TARGETS}) == len(TARGETS)
