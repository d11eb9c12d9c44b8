"""What share of its part a broker gets."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.standing import Standing

TIMES = st.floats(0, 1000)


def test_a_broker_that_nothing_is_known_of_gets_all_of_it() -> None:
    assert (Standing().share(0.0), Standing(30.0).share(0.0)) == (1.0, 1.0)


def test_one_that_is_down_gets_nobody_whatever_time_it_is() -> None:
    standing = Standing()
    standing.checked(10.0, up=False)
    assert (standing.share(10.0), standing.share(1e9), standing.changes_at(10.0)) == (0.0, 0.0, math.inf)


def test_one_that_refused_gets_nobody_for_a_while_and_then_all_of_it() -> None:
    standing = Standing(30.0)
    standing.refused(until=15.0)
    assert (standing.share(14.9), standing.changes_at(10.0), standing.share(15.0)) == (0.0, 15.0, 1.0)


def test_one_that_took_a_client_is_forgiven_at_once() -> None:
    standing = Standing()
    standing.refused(until=15.0)
    standing.took()
    assert standing.share(10.0) == 1.0


def test_the_health_check_that_finds_it_back_forgives_it_too() -> None:
    standing = Standing()
    standing.checked(1.0, up=False)
    standing.refused(until=15.0)
    standing.checked(2.0, up=True)
    assert standing.share(2.0) == 1.0


@given(TIMES, st.floats(0.001, 500), TIMES, TIMES)
def test_a_slow_start_only_rises_and_ends(back: float, length: float, one: float, other: float) -> None:
    standing = Standing(length)
    standing.checked(0.0, up=False)
    standing.checked(back, up=True)
    earlier, later = sorted((one, other))
    assert 0.05 <= standing.share(back + earlier) <= standing.share(back + later) <= 1.0
    assert standing.share(back + length * 1.001 + 1e-6) == 1.0
    assert standing.changes_at(back + length * 1.001 + 1e-6) == math.inf


def test_during_a_slow_start_the_share_is_asked_for_again_and_again() -> None:
    standing = Standing(20.0)
    standing.checked(0.0, up=False)
    standing.checked(100.0, up=True)
    assert standing.changes_at(100.0) == pytest.approx(101.0)
    standing.checked(110.0, up=True)
    assert standing.share(110.0) == pytest.approx(0.5)
