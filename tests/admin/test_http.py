"""A client that errs or dawdles is cut off; every other one is answered, one request after the other."""

from __future__ import annotations

import socket
import struct
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.testing import memory_stream_pair

from gateway.admin import http
from gateway.admin.http import MAX_BODY, MOST_AT_ONCE, PATIENCE, Request, Response
from gateway.log import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio.testing import MockClock

GET = b"GET /a?b=1&c= HTTP/1.1\r\nHost: x\r\n\r\n"


async def echo(request: Request) -> Response:
    await trio.lowlevel.checkpoint()
    return Response(200, repr((request.method, request.path, dict(request.query), request.body)).encode())


async def talk(*said: bytes, application: http.Application = echo, leave: bool = True) -> bytes:
    """What a client hears that says this, until it is hung up on."""
    ours, theirs = memory_stream_pair()
    heard = b""

    async def listen() -> None:
        nonlocal heard
        async for chunk in theirs:
            heard += chunk

    async def serve() -> None:
        async with ours:
            await http.converse(ours, application, "peer", get_logger(), {})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        nursery.start_soon(listen)
        with suppress(trio.BrokenResourceError):
            for part in said:
                await theirs.send_all(part)
            if leave:
                await theirs.send_eof()
    return heard


def statuses(heard: bytes) -> list[int]:
    return [int(piece[:3]) for piece in heard.split(b"HTTP/1.1 ")[1:]]


async def test_a_request_is_answered_with_what_is_in_it() -> None:
    heard = await talk(GET)
    assert heard.endswith(b"\r\n\r\n('GET', '/a', {'b': '1', 'c': ''}, b'')")


async def test_a_body_arrives_whole_however_it_is_cut() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
    assert (await talk(head, b"ab", b"cd")).endswith(b"b'abcd')")


async def test_one_request_follows_the_other_on_a_connection() -> None:
    assert statuses(await talk(GET, GET, GET)) == [200, 200, 200]


async def test_every_answer_forbids_to_keep_guess_and_frame_it() -> None:
    heard = (await talk(GET)).lower()
    for header in (b"cache-control: no-store", b"x-content-type-options: nosniff", b"x-frame-options: deny"):
        assert header in heard
    assert b"content-security-policy: default-src 'none'" in heard


async def test_an_answer_to_head_has_no_body() -> None:
    heard = await talk(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert heard.endswith(b"\r\n\r\n")
    assert b"content-length: 0" not in heard.lower()


@pytest.mark.parametrize(
    "said",
    [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"],
    ids=["TLS", "no Host", "two Hosts"],
)
async def test_what_is_no_request_is_told_so_and_hung_up_on(said: bytes) -> None:
    heard = await talk(said, b"\r\n" * 3, leave=False)
    assert statuses(heard) == [400]
    assert b"connection: close" in heard.lower()


async def test_a_header_without_end_is_cut_off() -> None:
    assert statuses(await talk(b"GET / HTTP/1.1\r\nA: ", b"a" * 40_000, leave=False)) == [431]


async def test_a_body_that_is_too_long_is_refused_before_all_of_it_is_there() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n"
    assert statuses(await talk(head, b"a" * (MAX_BODY + 1), leave=False)) == [413]


async def test_who_says_nothing_is_hung_up_on(autojump_clock: MockClock) -> None:
    assert await talk(b"GET / HTTP/1.1\r\n", leave=False) == b""
    assert trio.current_time() == pytest.approx(PATIENCE)


async def test_who_does_not_read_is_hung_up_on(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(http.converse, ours, echo, "peer", get_logger(), {})
        await theirs.send_all(GET)
        await trio.sleep(PATIENCE + 1)
        assert len(nursery.child_tasks) == 0


async def test_the_application_may_take_its_time(autojump_clock: MockClock) -> None:
    async def slow(request: Request) -> Response:
        await trio.sleep(100 * PATIENCE)
        return await echo(request)

    assert statuses(await talk(GET, application=slow, leave=False)) == [200]


async def test_a_defect_is_logged_and_answered_and_goes_no_further() -> None:
    async def broken(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        raise ValueError("secret")

    with capture_logs() as logs:
        heard = await talk(GET, application=broken)
    assert statuses(heard) == [500]
    assert b"secret" not in heard
    assert [each["event"] for each in logs] == ["admin request failed"]


@given(st.lists(st.binary(max_size=200) | st.sampled_from([GET, b"\r\n", b"Transfer-Encoding: chunked\r\n"])))
def test_whatever_is_said_there_is_an_answer_or_none_and_no_fault(said: list[bytes]) -> None:
    async def main() -> bytes:
        with trio.fail_after(5):
            return await talk(*said)

    assert set(statuses(trio.run(main))) <= {200, 400, 431, 501}


@asynccontextmanager
async def crowded(application: http.Application) -> AsyncIterator[Callable[[], Awaitable[trio.SocketStream]]]:
    """A way to connect to a server, with everybody's connection closed at the end."""
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)  # noqa: FBT003 - the library's own signature
        nursery.start_soon(http.serve, listening, application, get_logger())

        async def connect() -> trio.SocketStream:
            return await stack.enter_async_context(await trio.open_tcp_stream(*listening.getsockname()))

        yield connect
        nursery.cancel_scope.cancel()


async def test_of_those_who_are_too_many_the_one_that_is_silent_the_longest_makes_room() -> None:
    async with crowded(echo) as connect:
        held = [await connect() for _ in range(MOST_AT_ONCE)]
        for stream in held:
            await stream.send_all(GET)
            assert await stream.receive_some()
        for number in (0, 1):
            late = await connect()
            await late.send_all(GET)
            assert statuses(bytes(await late.receive_some())) == [200]
            assert await held[number].receive_some() == b""
        await held[2].send_all(GET)
        assert statuses(bytes(await held[2].receive_some())) == [200]


async def test_where_all_of_them_are_being_answered_one_more_is_hung_up_on() -> None:
    asked, answered = trio.open_memory_channel[None](MOST_AT_ONCE)
    release = trio.Event()

    async def think(request: Request) -> Response:
        await asked.send(None)
        await release.wait()
        return await echo(request)

    async with crowded(think) as connect:
        held = [await connect() for _ in range(MOST_AT_ONCE)]
        for stream in held:
            await stream.send_all(GET)
            await answered.receive()
        assert await (await connect()).receive_some() == b""
        release.set()
        assert statuses(bytes(await held[0].receive_some())) == [200]


async def test_a_client_that_resets_before_it_is_accepted_harms_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)  # noqa: FBT003 - the library's own signature
        scanner = socket.create_connection(listening.getsockname())
        scanner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        scanner.close()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(http.serve, listening, echo, get_logger())
            async with await trio.open_tcp_stream(*listening.getsockname()) as client:
                await client.send_all(GET)
                await client.send_eof()
                heard = b"".join([chunk async for chunk in client])
            nursery.cancel_scope.cancel()
    assert statuses(heard) == [200]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"Content-Length: 99999999\r\n\r\n" + b"x" * (MAX_BODY + 1), 413),
        (b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n", 400),
    ],
)
async def test_a_head_request_whose_body_is_refused_is_answered_without_one(body: bytes, status: int) -> None:
    heard = await talk(b"HEAD / HTTP/1.1\r\nHost: x\r\n" + body)
    assert statuses(heard) == [status]
    assert heard.endswith(b"\r\n\r\n")


async def test_nobody_is_given_a_tunnel() -> None:
    heard = await talk(b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert statuses(heard) == [405]


async def test_a_body_of_two_lengths_is_refused_and_nothing_behind_it_is_a_request() -> None:
    lengths = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"
    heard = await talk(b"POST /a HTTP/1.1\r\nHost: x\r\n" + lengths + b"\r\n0\r\n\r\n" + GET)
    assert statuses(heard) == [400]
