"""A worker's door: how many come in, how fast, and what happens when the kernel has none to give."""

from __future__ import annotations

import errno
import math
import os
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from gateway import session
from gateway import worker as worker_module
from gateway.config.model import Address, Certificate, Config, Listener
from gateway.log import get_logger
from gateway.metrics import Counters, gauge_index
from gateway.native import Progress
from gateway.worker import Post, Worker, _Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock


def post(
    *, workers: int = 1, max_conn_rate: float | None = None, max_connections: int = 100, serving: bool = False
) -> Post:
    """A worker's inheritance; `serving` would need certificates, so there is no listener without it."""
    listener = Listener(
        name="external",
        bind=(Address("", 8883),),
        upstreams=(Address("127.0.0.1", 1883),),
        certificates=(Certificate(cert=Path("server.pem"), key=Path("server.key")),),
        max_conn_rate=max_conn_rate,
        max_connections=max_connections,
    )
    return Post(
        index=0,
        workers=workers,
        config=Config(listeners=(listener,) if serving else ()),
        run_directory=Path("/nonexistent"),
        servers=(),
        fingerprints=(),
        sockets=((),),
        counters=Counters(workers, 1),
    )


def limits(post: Post) -> _Limits:
    return _Limits(post, 0, get_logger())


@pytest.fixture(autouse=True)
def events() -> Iterator[list[Any]]:
    """What is logged meanwhile."""
    with capture_logs() as captured:
        yield captured


async def _admit(limits: _Limits, count: int) -> list[float]:
    """When each of `count` clients that wait at the door comes in, in seconds from now."""
    began, admitted = trio.current_time(), list[float]()
    while len(admitted) < count:
        quota = min(limits.quota(0), count - len(admitted))
        admitted += [trio.current_time() - began] * quota
        limits.came(quota)
        if not quota:
            await trio.sleep(limits.pause)
    return admitted


async def test_without_a_rate_nobody_waits(autojump_clock: MockClock) -> None:
    assert set(await _admit(limits(post(serving=True)), 1000)) == {0.0}


async def test_a_burst_of_a_second_is_let_through_and_then_the_rate_holds(autojump_clock: MockClock) -> None:
    rate = 10.0
    # As it is after some time of silence.
    await trio.sleep(100)
    admitted = await _admit(limits(post(max_conn_rate=rate, serving=True)), 40)
    assert admitted[:11] == [0.0] * 11
    assert admitted[11:] == pytest.approx([(number - 10) / rate for number in range(11, 40)])


async def test_silence_saves_up_no_more_than_one_second(autojump_clock: MockClock) -> None:
    some = limits(post(max_conn_rate=10.0, serving=True))
    await trio.sleep(100)
    await _admit(some, 30)
    await trio.sleep(1000)
    assert [when for when in await _admit(some, 30) if when == 0.0] == [0.0] * 11


async def test_workers_share_the_rate(autojump_clock: MockClock) -> None:
    await trio.sleep(100)
    admitted = await _admit(limits(post(workers=4, max_conn_rate=40.0, serving=True)), 31)
    assert admitted[-1] == pytest.approx((30 - 10) / 10.0)


async def test_all_workers_together_are_full_and_it_is_said_once(
    events: list[Any], autojump_clock: MockClock
) -> None:
    some = post(workers=2, max_connections=3, serving=True)
    limit = limits(some)
    gauges = [memoryview(page).cast("Q") for page in some.counters.pages]
    gauges[0][gauge_index(0)], gauges[1][gauge_index(0)] = 1, 1
    assert (limit.quota(0), limit.full) == (1, False)
    gauges[1][gauge_index(0)] = 2
    # They come in to be turned away.
    assert [(limit.quota(0) > 0, limit.full) for _ in range(3)] == [(True, True)] * 3
    assert [event["event"] for event in events] == ["max_connections reached"]
    gauges[1][gauge_index(0)] = 1
    assert (limit.quota(0), limit.full) == (1, False)
    gauges[1][gauge_index(0)] = 2
    assert limit.quota(0) > 0
    assert limit.full
    assert len(events) == 2


async def test_who_is_turned_away_does_not_count_against_the_rate(autojump_clock: MockClock) -> None:
    full = post(max_conn_rate=1.0, max_connections=1, serving=True)
    gauge = memoryview(full.counters.pages[0]).cast("Q")
    limit = limits(full)
    await trio.sleep(100)
    gauge[gauge_index(0)] = 1
    assert limit.quota(0) > 0
    limit.came(1000)
    gauge[gauge_index(0)] = 0
    assert (limit.quota(0), limit.full) == (1, False)


async def test_while_too_many_handshakes_are_in_progress_clients_wait_in_the_kernel(
    autojump_clock: MockClock,
) -> None:
    limit = limits(post(max_connections=1_000_000, serving=True))
    most = worker_module._MAX_HANDSHAKES
    assert (limit.quota(most - 1), limit.pause) == (1, math.inf)
    assert limit.quota(most) == 0
    # Another listener's may end meanwhile.
    assert 0 < limit.pause < 1


class FakeFront:
    """A front that answers from a list, and notes what it was asked for."""

    patience = 15.0

    def __init__(self, *answers: Progress) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[float, int, bool]] = []
        self.handshaking = 0
        self.listening: list[int] = []

    def __len__(self) -> int:
        return self.handshaking

    def fileno(self) -> int:
        return -1

    def listen(self, listening: int) -> None:
        self.listening.append(listening)

    def stop_listening(self) -> None:
        self.listening.clear()

    def step(self, quota: int, *, turn_away: bool = False) -> Progress:
        self.asked.append((trio.current_time(), quota, turn_away))
        answer = self.answers.pop(0) if self.answers else Progress([], 0, 0, busy=False)
        self.handshaking = max(0, self.handshaking - len(answer.arrivals))
        return answer


class Doorman:
    """A worker with one listener, whose front is a fake that is always ready while it has answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, front: FakeFront, inheritance: Post) -> None:
        self.front = front
        self.worker = Worker(replace(inheritance, config=Config(listeners=())))
        door: Any = SimpleNamespace(name="external", front=front)
        self.worker._doors = [door]
        self.worker._post = inheritance
        self.worker._waiting = [trio.CancelScope()]
        self.received: list[object] = []
        monkeypatch.setattr(trio.lowlevel, "wait_readable", self._wait_readable)
        monkeypatch.setattr(session, "receive", lambda _door, arrival, _tasks: self.received.append(arrival))

    async def _wait_readable(self, _fd: int) -> None:
        if not self.front.answers:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()

    async def serve(self, seconds: float) -> None:
        """As long as it takes, and then the order to stop."""
        self.worker._ready.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.worker._serve, 0, nursery)
            await trio.sleep(seconds)
            self.front.handshaking = 0
            self.worker._stop_listening()


def arrival(name: str) -> Any:
    return SimpleNamespace(name=name)


async def test_whoever_has_arrived_is_received_in_order(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    first, second, third = arrival("first"), arrival("second"), arrival("third")
    front = FakeFront(Progress([first, second], 2, 0, busy=True), Progress([third], 1, 0, busy=False))
    doorman = Doorman(monkeypatch, front, post(serving=True))
    await doorman.serve(1)
    assert doorman.received == [first, second, third]


@pytest.mark.parametrize("code", sorted(worker_module._OUT_OF_RESOURCES), ids=errno.errorcode.get)
async def test_when_the_kernel_has_no_more_to_give_the_worker_pauses_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, events: list[Any], code: int
) -> None:
    front = FakeFront(Progress([], 0, code, busy=False))
    await Doorman(monkeypatch, front, post(serving=True)).serve(1)
    asked = [(round(when, 3), quota > 0) for when, quota, _turn_away in front.asked]
    assert asked[0] == (0.0, True)
    assert (0.1, True) in asked
    assert not any(0 < when < 0.1 for when, _may in asked)
    assert [(event["event"], event["log_level"], event["error"]) for event in events] == [
        ("cannot accept", "error", os.strerror(code))
    ]


async def test_an_error_that_nobody_expects_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    front = FakeFront(Progress([], 0, errno.EBADF, busy=False))
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="Bad file descriptor")):
        await Doorman(monkeypatch, front, post(serving=True)).serve(1)


async def test_clients_beyond_max_connections_are_turned_away(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    full = post(max_connections=1, serving=True)
    memoryview(full.counters.pages[0]).cast("Q")[gauge_index(0)] = 1
    front = FakeFront()
    await Doorman(monkeypatch, front, full).serve(1)
    assert front.asked[0][1] > 0
    assert front.asked[0][2] is True


async def test_told_to_stop_it_takes_nobody_in_and_waits_for_the_last_handshake(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    front = FakeFront()
    front.handshaking = 1
    doorman = Doorman(monkeypatch, front, post(serving=True))
    doorman.worker._ready.set()
    with socket.socket() as listening:
        doorman.worker._post = replace(doorman.worker._post, sockets=[[listening]])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(doorman.worker._serve, 0, nursery)
            await wait_all_tasks_blocked()
            assert front.listening == [listening.fileno()]
            doorman.worker._stop_listening()
            assert (front.listening, listening.fileno()) == ([], -1)
            await wait_all_tasks_blocked()
            assert nursery.child_tasks
            last = arrival("last")
            front.answers.append(Progress([last], 0, 0, busy=False))
            for waiting in doorman.worker._waiting:
                waiting.cancel()
    assert doorman.received == [last]
