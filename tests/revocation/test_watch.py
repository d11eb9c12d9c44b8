"""Each list that is about to hurt is told of once, in time, and none that is fine."""

from __future__ import annotations

import pytest

from gateway.names import IssuerId
from gateway.revocation.coverage import Listed
from gateway.revocation.scope import Scope
from gateway.revocation.watch import Watch, shrank

BEGIN, HOUR, DAY = 1_000_000, 3600, 86400


def listed(next_update: int, signature: bytes = b"one") -> Listed:
    return Listed(
        issuer=IssuerId(b"name", b"key"),
        signer_name=1,
        scope=Scope(),
        base=None,
        number=1,
        this_update=BEGIN,
        next_update=next_update,
        signature=signature,
        tables={},
        none=None,
        entries=0,
    )


def events(watch: Watch, now: int, *lists: Listed) -> list[str]:
    return [ending.event for ending in watch.look(lists, now)]


def test_a_list_is_told_of_once_before_it_ends_and_once_after() -> None:
    watch, one = Watch(HOUR), listed(BEGIN + DAY)
    assert events(watch, BEGIN + DAY - HOUR, one) == []
    assert events(watch, BEGIN + DAY - HOUR + 1, one) == ["list about to expire"]
    assert events(watch, BEGIN + DAY, one) == []
    assert events(watch, BEGIN + DAY + 1, one) == ["list has expired"]
    assert events(watch, BEGIN + 2 * DAY, one) == []


def test_a_list_of_a_short_life_is_not_always_about_to_end() -> None:
    watch, one = Watch(HOUR), listed(BEGIN + 600)
    assert events(watch, BEGIN + 540, one) == []
    assert events(watch, BEGIN + 541, one) == ["list about to expire"]


def test_its_successor_is_told_of_anew_and_the_old_one_forgotten() -> None:
    watch, old, new = Watch(HOUR), listed(BEGIN + DAY), listed(BEGIN + DAY, b"two")
    late = BEGIN + DAY - 1
    assert events(watch, late, old) == ["list about to expire"]
    assert events(watch, late, new) == ["list about to expire"]
    assert events(watch, late, old, new) == ["list about to expire"]


def test_a_list_without_end_is_never_told_of() -> None:
    assert events(Watch(HOUR), 1 << 40, listed(0)) == []


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [(1000, 499, True), (1000, 500, False), (1000, 0, True), (9, 0, False), (10, 4, True), (0, 0, False)],
)
def test_a_list_that_loses_half_of_at_least_ten_entries_shrank(before: int, after: int, told: bool) -> None:
    assert shrank(before, after, 0.5) is told
