"""A web server over loopback that answers whatever a script says, well-formed or not."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import ssl

Answer = Callable[[trio.abc.Stream], Awaitable[None]]
KIB = 1024


def raw(*pieces: bytes) -> Answer:
    """Send these bytes and close."""

    async def send(stream: trio.abc.Stream) -> None:
        for piece in pieces:
            await stream.send_all(piece)

    return send


def http(status: str = "200 OK", body: bytes = b"", *headers: str, length: bool = True) -> Answer:
    lines = [f"HTTP/1.1 {status}", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)


async def hang(stream: trio.abc.Stream) -> None:
    await trio.sleep_forever()


async def trickle(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    while True:
        await stream.send_all(b"x")
        await trio.sleep(0.01)


async def endless(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await stream.send_all(bytes(64 * KIB))


class Immense:
    """Sends a body of `size` zero bytes that never exists as a whole; counts what it got rid of."""

    def __init__(self, size: int, *headers: str) -> None:
        self.sent = 0
        self._size = size
        self._head = "\r\n".join(["HTTP/1.1 200 OK", *headers]).encode() + b"\r\n\r\n"

    async def __call__(self, stream: trio.abc.Stream) -> None:
        await stream.send_all(self._head)
        block = bytes(64 * KIB)
        for _ in range(self._size // len(block)):
            await stream.send_all(block)
            self.sent += len(block)


async def reset(stream: trio.abc.Stream) -> None:
    """In the middle of a body."""
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    slam(stream)


async def reset_at_once(stream: trio.abc.Stream) -> None:
    await stream.receive_some()
    slam(stream)


def slam(stream: trio.abc.Stream) -> None:
    """Have RST sent when the stream is closed: with time left to linger of zero."""
    assert isinstance(stream, trio.SocketStream)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


async def no_tls(stream: trio.abc.Stream) -> None:
    """As a web server answers a TLS hello on its port for plain HTTP."""
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


class Server:
    """Answers by path; remembers each request, whole.

    `tls`, and `bare`, which has a connection for itself before a byte is read, are
    looked at for each connection anew.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        self.port = port
        self.tls = tls
        self.bare: Answer | None = None
        self.base = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        self.answers: dict[str, Answer] = {}
        self.requests: list[bytes] = []

    async def handle(self, stream: trio.abc.Stream) -> None:
        try:
            async with stream:
                request = b""
                while b"\r\n\r\n" not in request:
                    chunk = await stream.receive_some()
                    if not chunk:
                        return
                    request += bytes(chunk)
                self.requests.append(request)
                await self.answers[request.split()[1].decode()](stream)
        except trio.BrokenResourceError:
            # The fetcher has gone, as it should for most of these answers.
            return


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = Server(listeners[0].socket.getsockname()[1], tls)

    async def handle(stream: trio.SocketStream) -> None:
        if server.bare is not None:
            async with stream:
                await server.bare(stream)
            return
        now = server.tls
        await server.handle(
            trio.SSLStream(stream, now, server_side=True, https_compatible=True) if now else stream
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield server
        nursery.cancel_scope.cancel()
