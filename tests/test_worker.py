"""A worker: whom its relay does not serve to the end, what keeps clients out, and how it ends."""

from __future__ import annotations

import errno
import os
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from gateway import publish, session
from gateway import worker as worker_module
from gateway.config.model import Address, Certificate, Config, Listener
from gateway.log import get_logger
from gateway.metrics import Counters, gauge_index
from gateway.native import Conn, Due, Limits, Obstacle, Step
from gateway.publish import Cover, Question, Update
from gateway.tls import openssl
from gateway.worker import Post, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trio.testing import MockClock


def listener(*, max_conn_rate: float | None = None, max_connections: int = 100) -> Listener:
    return Listener(
        name="external",
        bind=(Address("", 8883),),
        upstreams=(Address("127.0.0.1", 1883),),
        certificates=(Certificate(cert=Path("server.pem"), key=Path("server.key")),),
        max_conn_rate=max_conn_rate,
        max_connections=max_connections,
    )


def post(workers: int = 1) -> Post:
    """A worker's inheritance; a listener would need certificates, so there is none."""
    return Post(
        index=0,
        workers=workers,
        config=Config(listeners=()),
        run_directory=Path("/nonexistent"),
        servers=(),
        sockets=(),
        counters=Counters(workers, 1),
        upstream_tls=(),
    )


@pytest.fixture(autouse=True)
def events() -> Iterator[list[Any]]:
    """What is logged meanwhile."""
    with capture_logs() as captured:
        yield captured


def test_workers_share_the_rate_and_each_knows_the_number_of_connections() -> None:
    limits = worker_module._limits(listener(max_conn_rate=40.0, max_connections=7), workers=4)
    assert limits == Limits(handshakes=4096, connections=7, interval=0.1)


def test_without_a_rate_there_is_no_interval() -> None:
    assert worker_module._limits(listener(), workers=4).interval == 0.0


class Doorman:
    """A worker with one door and without a front, which hears of what a relay would tell."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.worker = Worker(post())
        self.listener: Any = SimpleNamespace(name="external")
        door: Any = SimpleNamespace(listener=self.listener, log=get_logger(listener="external"))
        self.worker._doors = [door]
        self.served: list[tuple[object, object]] = []
        monkeypatch.setattr(session, "serve", self._serve)
        self._door = door

    async def _serve(self, door: object, arrival: object) -> None:
        self.served.append((door, arrival))

    async def hear(self, monkeypatch: pytest.MonkeyPatch, *told: object) -> None:
        """What the relay tells is looked at."""
        waits = iter([None])

        async def once(_fd: int) -> None:
            if next(waits, "over") == "over":
                await trio.sleep_forever()

        monkeypatch.setattr(trio.lowlevel, "wait_readable", once)
        monkeypatch.setattr(self.worker._relay, "arrivals", lambda: iter(told))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.worker._follow_relay, nursery)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()


async def test_control_is_told_how_many_updates_are_in_force(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    worker = Worker(post())

    async def connect(_directory: Path) -> Any:
        await trio.lowlevel.checkpoint()
        return ours

    monkeypatch.setattr(publish, "connect", connect)
    unusable = Cover(str(tmp_path / "missing"), None, ((b"name", b"key"),), 0, (), 0x1FE, 0, 1, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker._control.follow, worker._apply, worker._sightings.forget)
        async with aclosing(publish.receive(theirs, publish.FROM_WORKER)) as applied:
            await publish.send(theirs, Update(whole=True, ready=False))
            assert (await anext(applied)).applied == 1
            # Of which a table cannot be opened.
            await publish.send(theirs, Update(whole=False, ready=False, covers={"a": unusable}))
            await publish.send(theirs, Update(whole=False, ready=False, covers={"a": None}))
            assert (await anext(applied)).applied == 3
        nursery.cancel_scope.cancel()


async def test_questions_that_are_open_are_asked_of_each_new_control_process_until_one_settles_them(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    worker = Worker(post())
    pairs = [trio.testing.memory_stream_pair() for _ in range(2)]
    ours = iter(pairs)

    async def connect(_directory: Path) -> Any:
        await trio.lowlevel.checkpoint()
        return next(ours)[0]

    monkeypatch.setattr(publish, "connect", connect)
    async with trio.open_nursery() as nursery:
        follow = trio.CancelScope()

        async def follow_control() -> None:
            with follow:
                await worker._control.follow(worker._apply, worker._sightings.forget)

        nursery.start_soon(follow_control)
        nursery.start_soon(worker._control.inquiries.ask, "external", [b"leaf"])
        for last, (_, theirs) in enumerate(pairs):
            async with aclosing(publish.receive(theirs, publish.FROM_WORKER)) as told:
                question = await anext(told)
            assert isinstance(question, Question)
            assert (question.listener, question.chain) == ("external", (b"leaf",))
            if last:
                await publish.send(theirs, publish.Answered((question.number,)))
                await trio.testing.wait_all_tasks_blocked()
                assert worker._control.inquiries.questions() == []
                follow.cancel()
            else:
                await theirs.aclose()


async def test_those_whose_answers_grow_old_are_asked_about_and_then_more_are_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doorman = Doorman(monkeypatch)
    asked: list[bytes] = []
    looked: list[int] = []

    async def ask(chain: Sequence[bytes]) -> None:
        asked.extend(chain)
        await trio.lowlevel.checkpoint()

    doorman._door.ask = ask
    monkeypatch.setattr(doorman.worker._relay, "recheck", lambda: looked.append(len(asked)))
    monkeypatch.setattr(openssl, "released_certificate", lambda address: bytes([address]))
    due = [Due(doorman.listener, number) for number in range(3)]
    await doorman.hear(monkeypatch, *due)
    assert sorted(asked) == [b"\0", b"\1", b"\2"]
    assert looked == [3]


async def test_a_worker_that_asks_nobody_never_looks_by_itself(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    worker = Worker(post())
    await worker._look_again()
    assert trio.current_time() == 0


async def test_whoever_has_to_be_looked_at_gets_a_task_at_its_own_door(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doorman = Doorman(monkeypatch)
    conn = cast("Conn", SimpleNamespace(listener=doorman.listener))
    told = [SimpleNamespace(conn=conn, outcome=Step.FAILED, number=number) for number in range(3)]
    await doorman.hear(monkeypatch, *told)
    assert sorted(doorman.served, key=lambda each: each[1].number) == [  # type: ignore[attr-defined]  # ours
        (doorman._door, arrival) for arrival in told
    ]


async def test_a_full_listener_is_a_warning(monkeypatch: pytest.MonkeyPatch, events: list[Any]) -> None:
    doorman = Doorman(monkeypatch)
    await doorman.hear(monkeypatch, Obstacle(doorman.listener, 0))
    assert events == [
        {
            "log_level": "warning",
            "event": "max_connections reached",
            "listener": "external",
            "consequence": "new connections are closed",
        }
    ]


@pytest.mark.parametrize("code", sorted(worker_module._OUT_OF_RESOURCES), ids=errno.errorcode.get)
async def test_when_the_kernel_has_no_more_to_give_the_log_says_what(
    monkeypatch: pytest.MonkeyPatch, events: list[Any], code: int
) -> None:
    doorman = Doorman(monkeypatch)
    await doorman.hear(monkeypatch, Obstacle(doorman.listener, code))
    assert [(event["event"], event["log_level"], event["error"]) for event in events] == [
        ("cannot accept", "error", os.strerror(code))
    ]


async def test_an_error_that_nobody_expects_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    doorman = Doorman(monkeypatch)
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="Bad file descriptor")):
        await doorman.hear(monkeypatch, Obstacle(doorman.listener, errno.EBADF))


def test_each_listener_has_a_gauge_of_its_own() -> None:
    assert gauge_index(1) == gauge_index(0) + 1


def test_a_listener_that_is_held_back_opens_when_it_is_released_and_stays_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker(post())
    listeners = (listener(), msgspec.structs.replace(listener(), name="patient"))
    worker._post = replace(post(), config=Config(listeners=listeners), sockets=((), ()))
    worker._doors = [cast("session.Door", SimpleNamespace(front=each.name)) for each in listeners]
    opened: list[object] = []
    monkeypatch.setattr(worker._relay, "serve", lambda front, *_rest: opened.append(front))

    worker._apply(Update(whole=True, ready=False, held={"patient": True}))
    assert opened == []
    worker._apply(Update(whole=False, ready=True))
    assert opened == ["external"]
    worker._apply(Update(whole=False, ready=True, held={"patient": None}))
    assert opened == ["external", "patient"]
    # Another control process, which has looked at nothing yet.
    worker._apply(Update(whole=True, ready=False, held={"patient": True}))
    worker._apply(Update(whole=False, ready=True, held={"patient": None}))
    assert opened == ["external", "patient"]


def test_a_worker_that_stops_opens_no_door_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(post())
    worker._post = replace(post(), config=Config(listeners=(listener(),)), sockets=((),))
    monkeypatch.setattr(worker._relay, "serve", lambda *_all: pytest.fail("opened"))
    worker._stopping = True
    worker._apply(Update(whole=True, ready=True))
    assert not worker._open_doors
