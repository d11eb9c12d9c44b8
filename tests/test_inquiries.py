"""One question for all who wait for the same, and none for whom nobody waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from gateway.inquiries import Inquiries

if TYPE_CHECKING:
    from gateway.publish import Question

LEAF, ISSUER = b"leaf", b"issuer"


class Control:
    """Where questions go; a wire that is `full` takes none."""

    def __init__(self) -> None:
        self.heard: list[Question] = []
        self.full = False
        self.inquiries = Inquiries(self._send)

    def _send(self, question: Question) -> bool:
        if not self.full:
            self.heard.append(question)
        return not self.full


@pytest.fixture
def control() -> Control:
    return Control()


async def test_all_who_wait_for_the_same_client_of_a_listener_share_a_question(control: Control) -> None:
    ask = control.inquiries.ask
    async with trio.open_nursery() as nursery:
        for chain in ([LEAF, ISSUER], [LEAF], [LEAF, ISSUER]):
            nursery.start_soon(ask, "a", chain)
        nursery.start_soon(ask, "b", [LEAF])
        nursery.start_soon(ask, "a", [b"other"])
        await wait_all_tasks_blocked()
        assert sorted((one.listener, one.chain[0]) for one in control.heard) == [
            ("a", LEAF),
            ("a", b"other"),
            ("b", LEAF),
        ]
        control.inquiries.settled([one.number for one in control.heard])


async def test_who_waits_goes_on_when_its_question_is_settled_and_no_other(control: Control) -> None:
    async with trio.open_nursery() as nursery:
        done = trio.Event()

        async def first() -> None:
            await control.inquiries.ask("a", [LEAF])
            done.set()

        nursery.start_soon(first)
        await wait_all_tasks_blocked()
        control.inquiries.settled([control.heard[0].number + 1])
        await wait_all_tasks_blocked()
        assert not done.is_set()
        control.inquiries.settled([control.heard[0].number])
        await done.wait()


async def test_what_nobody_waits_for_any_more_is_forgotten_and_asked_anew(control: Control) -> None:
    for _ in range(2):
        with trio.move_on_after(0.01):
            await control.inquiries.ask("a", [LEAF])
        assert control.inquiries.questions() == []
    assert len(control.heard) == 2
    control.inquiries.settled([one.number for one in control.heard])


async def test_who_gives_up_leaves_the_question_to_the_others(control: Control) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(control.inquiries.ask, "a", [LEAF])
        await wait_all_tasks_blocked()
        with trio.move_on_after(0.01):
            await control.inquiries.ask("a", [LEAF])
        assert control.inquiries.questions() == control.heard
        control.inquiries.settled([control.heard[0].number])
    assert control.inquiries.questions() == []


async def test_where_there_is_no_way_to_ask_nobody_waits(control: Control) -> None:
    control.full = True
    await control.inquiries.ask("a", [LEAF])
    assert control.inquiries.questions() == []
