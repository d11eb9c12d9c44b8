"""Who a load balancer says the client is counts, from trusted addresses alone; then its handshake goes on."""

from __future__ import annotations

import select
import socket
import ssl
from contextlib import closing, suppress
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest
import trio
from structlog.testing import capture_logs

from gateway import session
from gateway.introduction import trusts
from gateway.metrics import Counter
from gateway.native import AnswerStatus, Arrival, OnUnavailable, Step
from gateway.proxy_protocol import Endpoint, encode_v1, encode_v1_local, encode_v2, encode_v2_local
from tests.brokers import TIMEOUT, listening_broker
from tests.proxy_protocol.test_encode import ID, PLAIN
from tests.relay_parts import Client, hear_the_end
from tests.test_session import House

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trio.testing import MockClock

V13 = ssl.TLSVersion.TLSv1_3
CLIENT = Endpoint(bytes([203, 0, 113, 9]), 4711)
CLIENT6 = Endpoint(ip_address("2001:db8::9").packed, 4711)
HERE = Endpoint(bytes([198, 51, 100, 7]), 8883)
LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with listening_broker() as broker:
        house = House(tmp_path, OnUnavailable.REJECT, broker)
        house.publish()
        house.door.trusted = LOOPBACK
        yield house
        house.close()


@pytest.fixture(autouse=True)
def events() -> Iterator[list[Any]]:
    """What is logged meanwhile."""
    with capture_logs() as captured:
        yield captured


def come(house: House) -> tuple[Arrival, socket.socket]:
    """Connect to a door that is for load balancers; what the front says of it."""
    front = house.gate.front()
    front.only_accept()
    sock = socket.create_connection(house.gate.open(front))
    assert select.select([house.gate.relay], [], [], TIMEOUT)[0], "nothing was told"
    (arrival,) = house.gate.relay.arrivals()
    assert isinstance(arrival, Arrival)
    assert (arrival.outcome, arrival.clear) == (Step.NOT_BEGUN, False)
    return arrival, sock


async def enter(house: House, header: bytes) -> Client:
    """A client behind a load balancer that has said `header`, octet for octet: it is relayed, or refused."""
    arrival, sock = come(house)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.serve, house.door, arrival)
        for octet in header:
            sock.send(bytes([octet]))
            await trio.lowlevel.checkpoint()
        client = Client(sock, house.gate.tls(V13))
        await finish(client)
    return client


async def finish(client: Client) -> None:
    """Make the client's half of the handshake."""
    while not client.handshake():
        await trio.lowlevel.wait_readable(client.fileno())


@pytest.mark.parametrize(
    ("header", "peer"),
    [
        (encode_v1(CLIENT, HERE), "203.0.113.9:4711"),
        (encode_v1(CLIENT6, HERE), "[2001:db8::9]:4711"),
        (encode_v2(CLIENT, HERE, PLAIN, ID), "203.0.113.9:4711"),
        (encode_v2(CLIENT6, CLIENT6, PLAIN, ID), "[2001:db8::9]:4711"),
    ],
)
async def test_the_client_is_whom_the_header_says(house: House, header: bytes, peer: str) -> None:
    told: list[str] = []
    house.door.clear = lambda conn: told.append(conn.peer)
    with closing(await enter(house, header)) as client:
        assert house.relays(client)
    assert told == [peer]
    assert house.gate.counters.handshake_times()[-1] == house.counted(Counter.HANDSHAKES) == 1
    assert house.gate.ended(0).conn.peer == peer
    assert house.counted(Counter.HANDSHAKING) == 0


@pytest.mark.parametrize("header", [encode_v1_local(), encode_v2_local()])
async def test_where_it_names_nobody_the_client_is_who_connected(house: House, header: bytes) -> None:
    told: list[str] = []
    house.door.clear = lambda conn: told.append(conn.peer)
    with closing(await enter(house, header)) as client:
        assert house.relays(client)
        assert told == ["{}:{}".format(*client.sock.getsockname())]


async def test_a_revoked_client_is_refused_by_the_name_of_who_it_is(house: House, events: list[Any]) -> None:
    house.publish(house.gate.files[0].serial)
    arrival, sock = come(house)
    sock.sendall(encode_v1(CLIENT, HERE))
    client = Client(sock, house.gate.tls(V13))
    with closing(client):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.serve, house.door, arrival)
            await finish(client)
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate.revoked"):
            hear_the_end(client)
    assert [(event["event"], event["peer"]) for event in events] == [("client refused", "203.0.113.9:4711")]


@pytest.mark.parametrize("ocsp", ["require", "prefer"])
async def test_a_responder_is_asked_about_it_like_about_any_other(tmp_path: Path, ocsp: str) -> None:
    with listening_broker() as broker:
        house = House(tmp_path, OnUnavailable.REJECT, broker, ocsp=ocsp)
        house.publish()
        house.door.trusted = LOOPBACK

        async def good() -> None:
            await trio.lowlevel.checkpoint()
            house.answer(AnswerStatus.GOOD)

        house.ask = good
        with closing(await enter(house, encode_v1(CLIENT, HERE))) as client:
            assert house.relays(client)
        assert house.asked == [(house.gate.files[0].der, house.gate.ca.der)]
        house.close()


async def refused(house: House, said: bytes) -> None:
    """Say this, end, and see the connection closed."""
    arrival, sock = come(house)
    with sock:
        sock.sendall(said)
        sock.shutdown(socket.SHUT_WR)
        await session.serve(house.door, arrival)
        sock.settimeout(TIMEOUT)
        with suppress(ConnectionResetError):
            assert sock.recv(1) == b""


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00", "no PROXY protocol header"),
        (b"PROXY TCP4 1.2.3.4", "the peer closed the connection"),
        (b"", "the peer closed the connection"),
    ],
)
async def test_who_sends_no_header_is_refused_and_the_log_says_so(
    house: House, events: list[Any], said: bytes, error: str
) -> None:
    await refused(house, said)
    assert [(event["log_level"], event["event"], event["error"]) for event in events] == [
        ("warning", "PROXY header refused", error)
    ]
    assert (house.counted(Counter.FAILED), house.counted(Counter.HANDSHAKING), house.connections) == (1, 0, 0)


async def test_who_is_not_trusted_is_refused_although_the_header_is_good(
    house: House, events: list[Any]
) -> None:
    house.door.trusted = (ip_network("10.0.0.0/8"),)
    await refused(house, encode_v1(CLIENT, HERE))
    assert events[0]["error"] == "its address is not in accept_proxy_protocol"
    assert events[0]["peer"].startswith("127.0.0.1:")


async def test_strangers_do_not_fill_the_log(
    house: House, events: list[Any], autojump_clock: MockClock
) -> None:
    for _ in range(3):
        await refused(house, b"")
    await trio.sleep(61)
    await refused(house, b"")
    assert [event["log_level"] for event in events] == ["warning", "debug", "debug", "warning"]


@pytest.mark.parametrize("said", [b"", b"PROXY ", encode_v2_local()])
async def test_whoever_takes_too_long_is_timed_out(
    house: House, events: list[Any], said: bytes, autojump_clock: MockClock
) -> None:
    arrival, sock = come(house)
    with sock:
        sock.sendall(said)
        await session.serve(house.door, arrival)
    assert trio.current_time() == house.door.handshake_timeout
    assert [event["event"] for event in events] == ["handshake timed out"]
    assert (house.counted(Counter.TIMED_OUT), house.counted(Counter.HANDSHAKING)) == (1, 0)


@pytest.mark.parametrize(
    ("network", "address", "inside"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("2001:db8::/32", "2001:db8:1::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("::/0", "10.1.2.3", False),
    ],
)
def test_an_address_is_trusted_where_its_network_is(network: str, address: str, *, inside: bool) -> None:
    assert trusts([ip_network(network)], Endpoint(ip_address(address).packed, 1)) is inside
    assert not trusts([], Endpoint(ip_address(address).packed, 1))
