"""Certificates are told of before they end and when they have, once for each."""

from __future__ import annotations

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.validity import ValidityWatch, ending
from tests.authority import DAY, NOW, Authority

CA = Authority.root("CA", not_before=NOW, not_after=NOW + 90 * DAY)
END = CA.cert.not_valid_after_utc
SOON = END - dt.timedelta(days=15)
SECOND = dt.timedelta(seconds=1)


def test_the_last_sixth_of_its_life_is_soon() -> None:
    assert [ending(CA.cert, when) for when in (SOON, SOON + SECOND, END, END + SECOND)] == [
        None,
        "certificate about to expire",
        "certificate about to expire",
        "certificate has expired",
    ]


def test_of_a_long_life_the_last_30_days_are_soon() -> None:
    root = Authority.root("Root", not_before=NOW, not_after=NOW + 3650 * DAY).cert
    month_before = root.not_valid_after_utc - dt.timedelta(days=30)
    assert ending(root, month_before) is None
    assert ending(root, month_before + SECOND) == "certificate about to expire"


def test_what_was_told_by_who_read_the_file_is_not_told_again() -> None:
    watch = ValidityWatch([CA.cert], SOON + SECOND)
    assert watch.look(SOON + SECOND) == []
    assert watch.look(END + SECOND) == [(CA.cert, "certificate has expired")]


MOMENTS = st.lists(st.integers(0, 200 * DAY), min_size=1, max_size=9).map(sorted)


@given(st.integers(0, 200 * DAY), MOMENTS)
def test_each_is_told_once_and_none_is_forgotten(start: int, seconds: list[int]) -> None:
    times = [END - dt.timedelta(days=100) + dt.timedelta(seconds=start + each) for each in [0, *seconds]]
    watch = ValidityWatch([CA.cert, CA.cert], times[0])
    told = [event for when in times for _certificate, event in watch.look(when)]
    seen = dict.fromkeys(event for when in times if (event := ending(CA.cert, when)) is not None)
    assert told == [event for event in seen if event != ending(CA.cert, times[0])]
