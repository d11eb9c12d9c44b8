"""A storm that strangers cause costs a few lines a second, and the count of the others is exact."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stderr
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import log
from gateway.config.model import Log
from gateway.log.floods import ACCESS, STRANGERS, Floods, LeftOut, by_stranger
from tests.test_layers import ROOT


def test_of_one_kind_only_so_many_a_second_are_admitted() -> None:
    floods = Floods(3)
    assert [floods.admits("client refused", "a", 0.1 * i) for i in range(5)] == [True] * 3 + [False] * 2
    assert floods.admits("client refused", "b", 0.5), "another listener's"
    assert floods.admits("handshake failed", "a", 0.5), "another event"
    assert floods.admits("client refused", "a", 1.0), "a second later"
    assert floods.left_out() == [LeftOut("client refused", "a", 2)]
    assert floods.left_out() == []


def test_a_limit_of_0_admits_all() -> None:
    floods = Floods(0)
    assert all(floods.admits("client refused", "a", 0.0) for _ in range(1000))
    assert floods.left_out() == []


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 3)), max_size=200).map(
        lambda calls: sorted(calls, key=lambda call: call[1])
    ),
    st.integers(0, 200),
)
def test_every_line_is_either_admitted_or_counted(
    limit: int, calls: list[tuple[str, float]], asked_after: int
) -> None:
    floods, told, admitted = Floods(limit), 0, 0
    for number, (listener, now) in enumerate(calls):
        admitted += floods.admits("client refused", listener, now)
        if number == asked_after:
            told += sum(each.lines for each in floods.left_out())
    told += sum(each.lines for each in floods.left_out())
    assert admitted + told == len(calls)
    assert admitted <= 2 * limit * 4, "two listeners, in no more than four seconds that begin"


@pytest.mark.parametrize("name", sorted(STRANGERS))
def test_an_error_is_never_one_of_many(name: str) -> None:
    assert by_stranger({"event": name}, "warning")
    assert not by_stranger({"event": name}, "error")


@pytest.mark.parametrize("name", ["client disconnected", "list in force", "revoked locally", "crashed"])
def test_what_operators_and_cas_cause_is_told_each_time(name: str) -> None:
    assert not by_stranger({"event": name}, "warning")


def test_the_access_log_is_whole_for_those_who_came_to_a_broker() -> None:
    assert not by_stranger({"event": ACCESS, "broker": "127.0.0.1:1883"}, "info")
    assert by_stranger({"event": ACCESS, "broker": ""}, "info")


def test_the_events_that_strangers_cause_are_documented_as_such() -> None:
    section = (ROOT / "docs/operations.md").read_text().partition("\n### Floods\n")[2].partition("\n### ")[0]
    assert set(re.findall(r"^- `([^`]+)`", section, re.MULTILINE)) == STRANGERS


def storm(limit: int, count: int) -> list[dict[str, Any]]:
    """What is written of so many refusals within less than a second, and then an end."""
    with redirect_stderr(io.StringIO()) as output:
        log.configure(Log(format="json", flood_limit=limit))
        logger = log.get_logger(process="worker-0", listener="external")
        for number in range(count):
            logger.warning("client refused", number=number)
            logger.error("broker unreachable", number=number)
        log.close()
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_a_storm_costs_a_few_lines_and_one_that_says_how_many_there_were() -> None:
    lines = storm(limit=5, count=100)
    refused = [line for line in lines if line["event"] == "client refused"]
    *_, told = (line for line in lines if line["event"] == "similar events left out")
    counted = sum(line["count"] for line in lines if line["event"] == "similar events left out")
    assert len(refused) >= 5
    assert len(refused) + counted == 100
    assert (told["of"], told["listener"], told["level"]) == ("client refused", "external", "warning")
    assert sum(line["event"] == "broker unreachable" for line in lines) == 100, "errors are whole"


def test_without_a_limit_nothing_is_left_out() -> None:
    assert len(storm(limit=0, count=100)) == 200
