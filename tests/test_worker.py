"""A worker's door: how many come in, how fast, and what happens when the kernel has none to give."""

from __future__ import annotations

import errno
import socket
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
from gateway.metrics import Counter, Counters, gauge_index
from gateway.worker import Post, Worker, _Limits, _peer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

ADDRESS = ("192.0.2.7", 40_000)


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
        sockets=(),
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
    began, admitted = trio.current_time(), []
    for _ in range(count):
        admitted.append(trio.current_time() - began)
        await limits.pause()
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


def test_all_workers_together_are_full_and_it_is_said_once(events: list[Any]) -> None:
    some = post(workers=2, max_connections=3, serving=True)
    limit = limits(some)
    gauges = [memoryview(page).cast("Q") for page in some.counters.pages]
    gauges[0][gauge_index(0)], gauges[1][gauge_index(0)] = 1, 1
    assert not limit.full()
    gauges[1][gauge_index(0)] = 2
    assert [limit.full() for _ in range(3)] == [True] * 3
    assert [event["event"] for event in events] == ["max_connections reached"]
    gauges[1][gauge_index(0)] = 1
    assert not limit.full()
    gauges[1][gauge_index(0)] = 2
    assert limit.full()
    assert len(events) == 2


class FakeSocket:
    """A listening socket that answers from a list: clients, and errors by their number."""

    def __init__(self, *answers: socket.socket | int) -> None:
        self.answers = list(answers)
        self.asked_at: list[float] = []

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        self.asked_at.append(trio.current_time())
        answer = self.answers.pop(0) if self.answers else errno.EAGAIN
        if isinstance(answer, int):
            raise OSError(answer, "on purpose")
        return answer, ADDRESS


class Doorman:
    """Runs a worker's accept loop on a fake socket until it has nothing more to give."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, inheritance: Post | None = None) -> None:
        self.post = inheritance or post()
        self.worker = Worker(self.post)
        self._drained = trio.Event()
        self._let_in: dict[int, tuple[socket.socket, str]] = {}
        monkeypatch.setattr(trio.lowlevel, "wait_readable", self._wait_readable)
        monkeypatch.setattr(self.worker, "_session", self._session)

    async def _wait_readable(self, listening: FakeSocket) -> None:
        if not listening.answers:
            self._drained.set()
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()

    async def _session(self, _door: object, client: socket.socket, peer: str, connection_id: int) -> None:
        self._let_in[connection_id] = client, peer
        await trio.lowlevel.checkpoint()

    @property
    def let_in(self) -> list[tuple[socket.socket, str]]:
        """Clients with their addresses, in the order of their numbers."""
        return [session for _id, session in sorted(self._let_in.items())]

    async def serve(self, listening: FakeSocket, limit: _Limits | None = None) -> None:
        door: Any = SimpleNamespace(name="external")
        fake: Any = listening
        limit = limit or limits(post(serving=True))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.worker._accept, door, fake, limit, nursery)
            await self._drained.wait()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()


@pytest.fixture
def clients() -> Iterator[list[socket.socket]]:
    made = [socket.socket() for _ in range(3)]
    yield made
    for client in made:
        client.close()


async def test_each_client_gets_a_session_with_its_address_and_a_number(
    monkeypatch: pytest.MonkeyPatch, clients: list[socket.socket], autojump_clock: MockClock
) -> None:
    doorman = Doorman(monkeypatch)
    await doorman.serve(FakeSocket(*clients))
    assert doorman.let_in == [(client, "192.0.2.7:40000") for client in clients]
    assert doorman.post.counters.total(Counter.ACCEPTED) == 3


@pytest.mark.parametrize("code", sorted(worker_module._OUT_OF_RESOURCES), ids=errno.errorcode.get)
async def test_when_the_kernel_has_no_more_to_give_the_worker_pauses_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
    clients: list[socket.socket],
    autojump_clock: MockClock,
    events: list[Any],
    code: int,
) -> None:
    doorman = Doorman(monkeypatch)
    listening = FakeSocket(clients[0], code, code, clients[1])
    await doorman.serve(listening)
    assert [client for client, _peer in doorman.let_in] == clients[:2]
    assert listening.asked_at[:4] == pytest.approx([0.0, 0.0, 0.1, 0.2])
    assert [(event["event"], event["log_level"], event["error"]) for event in events] == [
        ("cannot accept", "error", "on purpose")
    ] * 2


@pytest.mark.parametrize("code", sorted(worker_module._ONE_CONNECTION), ids=errno.errorcode.get)
async def test_a_client_that_left_while_it_waited_delays_nobody(
    monkeypatch: pytest.MonkeyPatch,
    clients: list[socket.socket],
    autojump_clock: MockClock,
    events: list[Any],
    code: int,
) -> None:
    doorman = Doorman(monkeypatch)
    listening = FakeSocket(code, clients[0], code, clients[1])
    await doorman.serve(listening)
    assert [client for client, _peer in doorman.let_in] == clients[:2]
    assert set(listening.asked_at) == {0.0}
    assert events == []


async def test_an_error_that_nobody_expects_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    doorman = Doorman(monkeypatch)
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="on purpose")):
        await doorman.serve(FakeSocket(errno.EBADF))


async def test_a_client_beyond_max_connections_is_closed_and_counted(
    monkeypatch: pytest.MonkeyPatch, clients: list[socket.socket], autojump_clock: MockClock
) -> None:
    full = post(max_connections=1, serving=True)
    memoryview(full.counters.pages[0]).cast("Q")[gauge_index(0)] = 1
    doorman = Doorman(monkeypatch)
    await doorman.serve(FakeSocket(clients[0]), limits(full))
    assert doorman.let_in == []
    assert clients[0].fileno() == -1
    assert doorman.post.counters.total(Counter.THROTTLED) == 1


async def test_while_too_many_handshakes_are_in_progress_clients_wait_in_the_kernel(
    monkeypatch: pytest.MonkeyPatch, clients: list[socket.socket], autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(worker_module, "_MAX_HANDSHAKES", 2)
    worker = Worker(post())
    most, served, released = 0, [], trio.Event()

    async def shake_hands(_door: object, client: socket.socket, _peer: str, _id: int) -> None:
        nonlocal most
        served.append(client)
        most = max(most, worker._handshaking)
        await released.wait()

    async def readable(_listening: object) -> None:
        await trio.lowlevel.checkpoint() if listening.answers else await trio.sleep_forever()

    monkeypatch.setattr(session, "serve", shake_hands)
    monkeypatch.setattr(trio.lowlevel, "wait_readable", readable)
    listening = FakeSocket(*clients)
    door: Any = SimpleNamespace(name="external")
    fake: Any = listening
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker._accept, door, fake, limits(post(serving=True)), nursery)
        await wait_all_tasks_blocked()
        assert (len(served), len(listening.answers)) == (2, 1)
        released.set()
        await wait_all_tasks_blocked()
        assert (len(served), len(listening.answers), worker._handshaking) == (3, 0, 0)
        nursery.cancel_scope.cancel()
    assert most == 2
    assert all(client.fileno() == -1 for client in clients)


@pytest.mark.parametrize(
    ("address", "text"),
    [(("192.0.2.1", 4), "192.0.2.1:4"), (("2001:db8::1", 5, 0, 0), "[2001:db8::1]:5")],
)
def test_a_peer_is_written_so_that_its_port_can_be_told(address: Any, text: str) -> None:
    assert _peer(address) == text
