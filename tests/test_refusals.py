"""A storm of refusals costs control a message a second, and the last ones get through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from gateway.publish import Refusal, Sighting
from gateway.refusals import MOST, PAUSE, Refusals
from tests.statuses import NOW

if TYPE_CHECKING:
    from trio.testing import MockClock


def values(number: int) -> dict[str, object]:
    return {
        "listener": "external",
        "peer": f"192.0.2.1:{number}",
        "reason": "no_list",
        "resumed": True,
        "depth": 1,
    }


async def test_one_is_told_at_once_with_what_the_log_has(autojump_clock: MockClock) -> None:
    refusals = Refusals(lambda: NOW)
    sender, receiver = trio.open_memory_channel[Sighting](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refusals.tell, sender)
        refusals.add("client refused", values(5))
        sighting = await receiver.receive()
        nursery.cancel_scope.cancel()
    told = Refusal(NOW, "client refused", "external", "192.0.2.1:5", "no_list", resumed=True)
    assert sighting == Sighting(refusals=(told,))


async def test_of_a_storm_the_last_are_told_once_a_second(autojump_clock: MockClock) -> None:
    refusals = Refusals()
    sender, receiver = trio.open_memory_channel[Sighting](10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refusals.tell, sender)
        refusals.add("client refused", values(0))
        await receiver.receive()
        for number in range(1000):
            refusals.add("client refused", values(number))
        before = trio.current_time()
        sighting = await receiver.receive()
        assert trio.current_time() - before == PAUSE
        nursery.cancel_scope.cancel()
    assert [each.peer for each in sighting.refusals] == [f"192.0.2.1:{n}" for n in range(1000 - MOST, 1000)]


async def test_without_control_they_are_forgotten_rather_than_kept(autojump_clock: MockClock) -> None:
    refusals = Refusals()
    sender, receiver = trio.open_memory_channel[Sighting](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refusals.tell, sender)
        for number in range(3):
            refusals.add("client refused", values(number))
            await trio.sleep(2 * PAUSE)
        assert [each.peer for each in (await receiver.receive()).refusals] == ["192.0.2.1:0"]
        refusals.add("client refused", values(7))
        assert [each.peer for each in (await receiver.receive()).refusals] == ["192.0.2.1:7"]
        nursery.cancel_scope.cancel()
