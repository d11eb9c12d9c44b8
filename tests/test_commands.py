"""Commands reach the gateway over a real socket, from its own user alone, and every answer is bounded."""

from __future__ import annotations

import os
import socket
import stat
import threading
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway import commands, publish
from gateway.commands import (
    Answer,
    Command,
    ListRevoked,
    Refresh,
    Revoke,
    Status,
    Unrevoke,
    ask,
)
from gateway.errors import GatewayError
from gateway.log import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from trio.testing import MockClock

COMMANDS: list[Command] = [
    Refresh(None),
    Refresh("http://ca/ca.crl"),
    Revoke(b"name", f"{1 << 158:x}", "keyCompromise", "lost"),
    Unrevoke(b"name", "05"),
    ListRevoked(),
    Status(),
]


class Desk:
    """Notes what it is asked, and answers."""

    def __init__(self) -> None:
        self.heard: list[tuple[Command, str]] = []
        self.answer = Answer(ok=True, lines=("done",), data=b"[]")
        self.fault: Exception | None = None
        self.wait = 0.0
        self.go_on: trio.Event | None = None

    async def handle(self, command: Command, by: str) -> Answer:
        self.heard.append((command, by))
        await trio.sleep(self.wait)
        if self.go_on is not None:
            await self.go_on.wait()
        if self.fault is not None:
            raise self.fault
        return self.answer


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture(autouse=True)
def events() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


@asynccontextmanager
async def served(state_dir: Path, desk: Desk, **options: Any) -> AsyncIterator[None]:
    (state_dir / "run").mkdir(parents=True)
    with publish.bind(state_dir / "run", commands.SOCKET_NAME) as bound:
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                await commands.serve(bound, desk, get_logger(process="control"), **options)

            nursery.start_soon(serve)
            yield
            nursery.cancel_scope.cancel()


async def asked(state_dir: Path, command: Command, timeout: float = 10.0) -> Answer:  # noqa: ASYNC109 - as ask
    return await trio.to_thread.run_sync(ask, state_dir, command, timeout)


async def test_every_command_arrives_with_who_sent_it_and_is_answered(tmp_path: Path, desk: Desk) -> None:
    # Longer than a socket's address may be.
    state_dir = tmp_path / ("x" * 100) / "state"
    async with served(state_dir, desk):
        for command in COMMANDS:
            assert await asked(state_dir, command) == desk.answer
    assert [command for command, _by in desk.heard] == COMMANDS
    assert {by for _command, by in desk.heard} == {commands._name(os.geteuid())}


async def test_a_large_answer_arrives_whole(tmp_path: Path, desk: Desk) -> None:
    desk.answer = Answer(ok=True, lines=("x" * 100,) * 20_000, data=b"y" * 1_000_000)
    async with served(tmp_path / "state", desk):
        assert await asked(tmp_path / "state", Status()) == desk.answer


async def test_a_fault_of_ours_is_a_failed_answer_in_its_own_words(tmp_path: Path, desk: Desk) -> None:
    desk.fault = GatewayError("there is no such source")
    async with served(tmp_path / "state", desk):
        assert await asked(tmp_path / "state", Status()) == Answer(
            ok=False, lines=("there is no such source",)
        )


async def test_only_the_gateways_own_user_and_root_are_answered(
    tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch, events: list[Any]
) -> None:
    monkeypatch.setattr(commands, "peer", lambda _stream: 4_000_000)
    async with served(tmp_path / "state", desk):
        with pytest.raises(GatewayError, match="hung up without an answer; its log says why"):
            await asked(tmp_path / "state", Status())
    assert desk.heard == []
    assert [(event["event"], event["by"]) for event in events] == [("command refused", "uid 4000000")]


async def test_only_its_owner_may_open_the_socket(tmp_path: Path, desk: Desk) -> None:
    async with served(tmp_path / "state", desk):
        path = tmp_path / "state" / "run" / commands.SOCKET_NAME
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4) + payload


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x02xy",
        b"\0\0\0\0",
        b"\0\0\0\x01\xc0",
        b"\0\0\0\x08" + msgspec.msgpack.encode(("x", "yyyyy"))[:8],
        # A field that nobody knows, of arrays in arrays.
        framed(b"\x82\xa4type\xa6Status\xa1x" + b"\x91" * 60_000 + b"\xc0"),
    ],
)
async def test_nonsense_is_refused_and_the_next_is_answered(
    tmp_path: Path, desk: Desk, said: bytes, events: list[Any]
) -> None:
    state_dir = tmp_path / "state"
    async with served(state_dir, desk):
        stream = await connected(state_dir)
        async with stream:
            await stream.send_all(said)
            await stream.send_eof()
            assert await stream.receive_some() == b""
        assert await asked(state_dir, Status()) == desk.answer
    assert [event["event"] for event in events] == ["command refused"]


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A request with some octets changed, cut off or put in; or none at all."""
    said = bytearray(commands._frame(draw(st.sampled_from(COMMANDS))))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(said)))
        said[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(said)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(spoilt() | st.binary(max_size=40).map(framed) | st.binary(max_size=40))
async def test_whatever_is_said_the_next_is_answered(tmp_path_factory: Any, said: bytes) -> None:
    desk, state_dir = Desk(), tmp_path_factory.mktemp("state")
    async with served(state_dir, desk):
        async with await connected(state_dir) as stream:
            # What is known not to make sense is not heard to its end.
            with suppress(trio.BrokenResourceError):
                await stream.send_all(said)
                await stream.send_eof()
                await stream.receive_some()
        async with await connected(state_dir) as stream:
            await stream.send_all(commands._frame(Status()))
            answer = b""
            while chunk := await stream.receive_some():
                answer += chunk
    assert answer == commands._frame(desk.answer)
    assert desk.heard[-1][0] == Status()
    assert len(desk.heard) <= 2


async def test_who_speaks_in_crumbs_is_cut_off_in_time(
    tmp_path: Path, desk: Desk, autojump_clock: MockClock
) -> None:
    async def speak(stream: trio.SocketStream) -> None:
        for crumb in commands._frame(Revoke(b"name", "05", "keyCompromise", "lost")):
            await stream.send_all(bytes([crumb]))
            await trio.sleep(1)

    start = trio.current_time()
    async with served(tmp_path / "state", desk), await connected(tmp_path / "state") as stream:
        with pytest.raises(trio.BrokenResourceError):
            await speak(stream)
    assert trio.current_time() - start <= commands._TALK + 1.5
    assert desk.heard == []


async def test_who_says_nothing_is_not_waited_for(
    tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_TALK", 0.05)
    async with served(tmp_path / "state", desk):
        stream = await connected(tmp_path / "state")
        async with stream:
            with trio.fail_after(10):
                assert await stream.receive_some() == b""


async def test_who_does_not_wait_for_the_answer_harms_nobody(tmp_path: Path, desk: Desk) -> None:
    state_dir = tmp_path / "state"
    desk.wait = 0.1
    async with served(state_dir, desk):
        stream = await connected(state_dir)
        await stream.send_all(commands._frame(Status()))
        await stream.aclose()
        assert await asked(state_dir, Status()) == desk.answer
        assert len(desk.heard) == 2


async def test_who_does_not_take_the_answer_is_not_waited_for_and_told_of(
    tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch, events: list[Any]
) -> None:
    monkeypatch.setattr(commands, "_TALK", 0.05)
    desk.answer = Answer(ok=True, lines=(), data=b"x" * (8 << 20))
    async with served(tmp_path / "state", desk):
        async with await connected(tmp_path / "state") as stream:
            await stream.send_all(commands._frame(Status()))
            with trio.fail_after(10):
                while not events:  # noqa: ASYNC110 - the log is no trio.Event
                    await trio.sleep(0.01)
        desk.answer = Answer(ok=True, lines=("done",))
        assert await asked(tmp_path / "state", Status()) == desk.answer
    assert [(event["event"], event["command"]) for event in events] == [("answer not taken", "Status")]


async def test_an_answer_that_is_too_long_says_so(
    tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_MAX_ANSWER", 1 << 20)
    desk.answer = Answer(ok=True, lines=(), data=b"x" * (1 << 20))
    async with served(tmp_path / "state", desk):
        answer = await asked(tmp_path / "state", Status())
    assert answer == Answer(ok=False, lines=("the answer has 1 MiB: more than can be told",))


async def test_who_comes_when_too_many_wait_is_told_so_at_once(
    tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_MOST_WAITING", 1)
    desk.go_on = trio.Event()
    send, receive = trio.open_memory_channel[Answer](3)

    async def one() -> None:
        await send.send(await asked(tmp_path / "state", Status()))

    async with served(tmp_path / "state", desk, most=1), trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(one)
        assert await receive.receive() == Answer(ok=False, lines=("too many ask at once; nothing is done",))
        desk.go_on.set()
        assert [await receive.receive() for _ in range(2)] == [desk.answer, desk.answer]


def test_where_too_many_have_come_to_be_heard_it_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with publish.bind(tmp_path / "run", commands.SOCKET_NAME), ExitStack() as waiting:
        with publish.short(tmp_path / "run") as base, suppress(BlockingIOError):
            while True:
                one = waiting.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                one.setblocking(False)  # noqa: FBT003 - the library's own signature
                one.connect(f"{base}/{commands.SOCKET_NAME}")
        with pytest.raises(GatewayError, match=r"too many ask at once; nothing is done"):
            ask(tmp_path, Status(), 0.2)


def test_a_request_that_nobody_would_hear_is_not_sent(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match=r"expected a request of at most 65536 octets, got .*; nothing is"):
        ask(tmp_path, Revoke(b"name", "05", "unspecified", "x" * 70_000))


async def test_no_answer_in_time_is_one_line(tmp_path: Path, desk: Desk) -> None:
    desk.wait = 1.0
    async with served(tmp_path / "state", desk):
        with pytest.raises(GatewayError, match=r"no answer within 0\.1 s; what was asked for may still be"):
            await asked(tmp_path / "state", Status(), 0.1)


async def connected(state_dir: Path) -> trio.SocketStream:
    connection = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    with publish.short(state_dir / "run") as base:
        await connection.connect(f"{base}/{commands.SOCKET_NAME}")
    return trio.SocketStream(connection)


def _nothing(_state: Path) -> None:
    pass


def _directory(state: Path) -> None:
    (state / "run").mkdir(parents=True)


def _left_behind(state: Path) -> None:
    (state / "run").mkdir(parents=True)
    publish.bind(state / "run", commands.SOCKET_NAME).close()


@pytest.mark.parametrize("prepare", [_nothing, _directory, _left_behind])
def test_where_no_gateway_runs_is_said_in_one_line(tmp_path: Path, prepare: Callable[[Path], None]) -> None:
    prepare(tmp_path / "state")
    with pytest.raises(
        GatewayError, match="expected a running gateway, but nobody is there; nothing is done"
    ):
        ask(tmp_path / "state", Status())


def test_where_the_user_may_not_ask_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    _directory(tmp_path)
    with pytest.raises(GatewayError, match="only the gateway's own user and root may ask; nothing is done"):
        ask(tmp_path, Status())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary(max_size=40))
def test_an_answer_that_is_none_is_one_line(tmp_path: Path, said: bytes) -> None:
    (tmp_path / "run").mkdir(exist_ok=True)
    with publish.bind(tmp_path / "run", commands.SOCKET_NAME) as bound:
        bound.settimeout(10.0)

        def speak() -> None:
            connection, _ = bound.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(said)

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(GatewayError, match=r"\A[^\n]+\Z"):
            ask(tmp_path, Status(), 5.0)
        thread.join()
