"""A broker that speaks TLS is reached like any other, and only if it is the one that is meant."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio

from gateway.config.model import Address, UpstreamTls
from gateway.errors import UpstreamError
from gateway.proxy_protocol import encode_v2_local
from gateway.upstream import Upstream
from gateway.upstream.check import _fault
from gateway.upstream.connect import Sources
from gateway.upstream.tunnel import BrokerTls
from tests.authority import Authority
from tests.brokers import dead_broker
from tests.listeners import listener

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from trio.testing import MockClock

    from gateway.upstream import Connected

    Service = Callable[[trio.SSLStream[trio.SocketStream]], Awaitable[None]]

LOTS = bytes(range(256)) * 20_000
CA = Authority.root("Broker CA")


class Broker:
    """Speaks TLS on loopback, with a certificate for localhost."""

    def __init__(self, listening: socket.socket, directory: Path) -> None:
        cert, key = CA.issue("broker").write(directory, "broker")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        self.listening = listening
        self.address = Address("127.0.0.1", listening.getsockname()[1])

    async def serve(self, service: Service, preface: bytes = b"") -> None:
        """Serve one client."""
        accepted, _ = await trio.socket.from_stdlib_socket(self.listening).accept()
        plain = trio.SocketStream(accepted)
        heard = b""
        while len(heard) < len(preface):
            heard += await plain.receive_some(len(preface) - len(heard))
        assert heard == preface
        stream = trio.SSLStream(plain, self.context, server_side=True, https_compatible=True)
        try:
            await service(stream)
        finally:
            await trio.aclose_forcefully(stream)

    def upstream(self, ca: Authority = CA, **settings: Any) -> Upstream:
        return Upstream([self.address], tls=spoken_to(ca, **settings))


def spoken_to(ca: Authority = CA, **settings: Any) -> BrokerTls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca.pem.decode())
    return BrokerTls(context, UpstreamTls(**{"enabled": True, "server_name": "localhost", **settings}))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)  # noqa: FBT003 - the library's own signature
        yield Broker(listening, tmp_path)


async def echo(stream: trio.SSLStream[trio.SocketStream]) -> None:
    while data := await stream.receive_some(65536):
        await stream.send_all(data)


def relay_end(found: Connected) -> trio.SocketStream:
    """The relay's half of the pair, in its place."""
    return trio.SocketStream(trio.socket.from_stdlib_socket(found.socket))


async def run(found: Connected) -> None:
    assert found.tunnel is not None
    await found.tunnel.run()


async def test_what_goes_in_comes_back_through_tls_however_much_it_is(broker: Broker) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.serve, echo)
        found = await broker.upstream().connect()
        assert found.preface == b""
        nursery.start_soon(run, found)
        async with relay_end(found) as plain:
            nursery.start_soon(plain.send_all, LOTS)
            received = b""
            while len(received) < len(LOTS):
                received += await plain.receive_some()
        assert received == LOTS


async def test_the_header_goes_before_tls(broker: Broker) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.serve, echo, encode_v2_local())
        found = await broker.upstream().connect(preface=encode_v2_local())
        nursery.start_soon(run, found)
        async with relay_end(found) as plain:
            await plain.send_all(b"ping")
            assert await plain.receive_some() == b"ping"


async def test_when_the_client_ends_the_broker_is_told(broker: Broker) -> None:
    ends: list[bytes] = []

    async def listen(stream: trio.SSLStream[trio.SocketStream]) -> None:
        ends.extend([bytes(await stream.receive_some()), bytes(await stream.receive_some())])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.serve, listen)
        found = await broker.upstream().connect()
        nursery.start_soon(run, found)
        async with relay_end(found) as plain:
            await plain.send_all(b"DISCONNECT")
    assert ends == [b"DISCONNECT", b""]


@pytest.mark.parametrize("politely", [True, False])
async def test_when_the_broker_ends_the_client_has_all_it_said(broker: Broker, *, politely: bool) -> None:
    async def speak(stream: trio.SSLStream[trio.SocketStream]) -> None:
        await stream.send_all(b"last words")
        if politely:
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.serve, speak)
        found = await broker.upstream().connect()
        nursery.start_soon(run, found)
        async with relay_end(found) as plain:
            assert await plain.receive_some() == b"last words"
            assert await plain.receive_some() == b""


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"ca": Authority.root("Another CA")}, "TLS: unable to get local issuer certificate"),
        ({"server_name": "other"}, "TLS: Hostname mismatch, certificate is not valid for 'other'."),
    ],
)
async def test_a_broker_that_is_not_the_one_that_is_meant_is_not_used(
    broker: Broker, settings: dict[str, Any], error: str
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.serve, _fails)
        with pytest.raises(UpstreamError) as caught:
            await broker.upstream(**settings).connect()
        assert str(caught.value) == f"no broker could be reached: {broker.address}: {error}"


async def test_a_broker_that_speaks_no_tls_is_passed_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain, dead_broker() as dead:
        address = Address("127.0.0.1", plain.getsockname()[1])

        async def answer() -> None:
            accepted, _ = await trio.to_thread.run_sync(plain.accept)
            with accepted:
                accepted.sendall(b"220 hello, this is not TLS")
                await trio.to_thread.run_sync(accepted.recv, 4096)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            with pytest.raises(UpstreamError, match=rf"{address}: TLS: wrong version number; {dead}: "):
                await Upstream([address, dead], tls=spoken_to()).connect()


async def test_a_broker_that_is_silent_is_given_up_in_time(broker: Broker, autojump_clock: MockClock) -> None:
    with pytest.raises(UpstreamError, match="no answer within 5 s"):
        await broker.upstream().connect()
    assert trio.current_time() == pytest.approx(5)


async def test_a_worker_that_stops_leaves_nothing_behind(broker: Broker) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.serve, echo)
        found = await broker.upstream().connect()
        with trio.move_on_after(0):
            await run(found)
        async with relay_end(found) as plain:
            assert await plain.receive_some() == b""


async def test_one_that_nobody_takes_is_closed(broker: Broker) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.serve, echo)
        (await broker.upstream().connect()).close()


async def test_a_health_check_shakes_hands(broker: Broker) -> None:
    options = listener(proxy_protocol="v2")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.serve, echo, encode_v2_local())
        assert await _fault(options, broker.address, Sources(()), spoken_to()) is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.serve, _fails)
        error = await _fault(listener(), broker.address, Sources(()), spoken_to(server_name="other"))
        assert error == "TLS: Hostname mismatch, certificate is not valid for 'other'."


async def _fails(stream: trio.SSLStream[trio.SocketStream]) -> None:
    with pytest.raises(trio.BrokenResourceError):
        await stream.do_handshake()
