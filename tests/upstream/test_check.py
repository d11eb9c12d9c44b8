"""Whether a broker is up is decided by several checks in a row, and said once."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.config.model import Address, HealthCheck
from gateway.log import get_logger
from gateway.upstream import check
from gateway.upstream.check import Checks, Streak
from gateway.upstream.connect import Sources
from tests.brokers import dead_broker, listening_broker
from tests.listeners import listener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

    from gateway.upstream.client import Version

ONE, TWO = Address("192.0.2.1", 1883), Address("192.0.2.2", 1883)


@given(st.integers(1, 4), st.integers(1, 4), st.lists(st.booleans(), max_size=40))
def test_it_takes_so_many_in_a_row_to_change_it(rise: int, fall: int, answers: list[bool]) -> None:
    streak, heard, up = Streak(rise, fall), list[bool](), True
    for good in answers:
        heard.append(good)
        needed = fall if up else rise
        differs = len(heard) >= needed and all(answer != up for answer in heard[-needed:])
        assert streak.heard(good=good) is differs
        if differs:
            up, heard = not up, []
        assert streak.up is up


class World:
    """Two brokers that answer or not, as a test says, and what became known of them."""

    def __init__(self) -> None:
        self.dead: set[Address] = set()
        self.told: list[tuple[float, str, str, bool]] = []
        self.asked = 0
        checked = replace(listener("checked"), upstreams=(ONE, TWO), health_check=HealthCheck(enabled=True))
        self.checks = Checks(
            [checked, replace(listener("unchecked"), upstreams=(ONE,))],
            lambda name, address, up: self.told.append((trio.current_time(), name, address, up)),
            get_logger(process="control"),
        )

    async def watch(self, seconds: float) -> None:
        """Have the checks run for so long."""
        with trio.move_on_after(seconds):
            await self.checks.run()

    async def connect(self, address: Address, *_rest: object) -> socket.socket:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if address in self.dead:
            raise ConnectionRefusedError(111, "Connection refused")
        return socket.socket()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(check, "connect", made.connect)
    return made


@pytest.fixture(autouse=True)
def events() -> Iterator[list[Any]]:
    """What is logged meanwhile."""
    with capture_logs() as captured:
        yield captured


def said(events: list[Any]) -> list[tuple[str, str, object]]:
    return [(event["log_level"], event["event"], event.get("broker")) for event in events]


async def test_brokers_that_answer_are_up_and_nothing_is_said(
    world: World, events: list[Any], autojump_clock: MockClock
) -> None:
    await world.watch(51)
    assert (world.told, events, world.checks.without_broker()) == ([], [], [])
    assert world.asked == 2 * 11  # of the listener without checks none


async def test_a_broker_goes_down_after_three_checks_and_up_after_two_a_second_apart(
    world: World, events: list[Any], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.checks.run)
        await trio.sleep(1)
        world.dead.add(TWO)
        await trio.sleep(60)
        world.dead.clear()
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert world.told == [(7.0, "checked", str(TWO), False), (63.0, "checked", str(TWO), True)]
    assert said(events) == [("warning", "broker down", str(TWO)), ("info", "broker up", str(TWO))]
    assert events[0]["error"] == "Connection refused"
    assert world.checks.without_broker() == []


async def test_when_the_last_one_goes_down_it_is_said_and_known(
    world: World, events: list[Any], autojump_clock: MockClock
) -> None:
    world.dead |= {ONE, TWO}
    await world.watch(60)
    assert world.checks.without_broker() == ["checked"]
    assert [event["event"] for event in events] == ["broker down", "broker down", "no broker left"]
    assert events[2]["listener"] == "checked"
    world.dead.discard(ONE)
    await world.watch(60)
    assert world.checks.without_broker() == []


async def test_a_broker_that_does_not_answer_in_time_is_as_good_as_dead(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def silence(*_arguments: object) -> socket.socket:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(check, "connect", silence)
    assert await check._fault(listener(), ONE, Sources(()), None) == "no answer within 2 s"


@pytest.mark.parametrize(
    ("version", "sent"),
    [("off", b""), ("v1", b"PROXY UNKNOWN\r\n"), ("v2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x07\x03\0\x04")],
)
async def test_a_broker_that_waits_for_a_header_gets_one(version: Version, sent: bytes) -> None:
    with listening_broker() as one:
        assert await check._fault(listener(proxy_protocol=version), one.address, Sources(()), None) is None
        with one.accept() as accepted:
            heard = accepted.recv(100, socket.MSG_WAITALL)
    assert heard.startswith(sent)
    assert len(heard) == len(sent) + 4 * (version == "v2")


async def test_a_broker_that_refuses_says_so() -> None:
    with dead_broker() as dead:
        assert await check._fault(listener(), dead, Sources(()), None) == "Connection refused"
